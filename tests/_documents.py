"""The code blocks of README.md and docs/*.md: collected, checked without running, and run as a reader would.

A block that a title marks as needing or taking something ("needs a GPU", "takes minutes") is checked and not run, nor
is a block without a language. A title may also be the name of the file to put the block into, or say that its command
runs beside what follows.
"""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from torch import nn

from abn_fast import create_model, save_checkpoint, to_published
from abn_fast.cli.main import commands
from abn_fast.data import Preprocessing
from tests.export._trained import CLASSES, picture

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))]
LIMIT = 600  # seconds
BESIDE = "in a terminal of its own"
MARKS = ("needs ", "takes ")
FILE = re.compile(r"[\w-]+\.(yaml|py|json)")
LANGUAGES = ("python", "bash", "yaml", "json", "text", "")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    title: str
    text: str
    line: int

    @property
    def runs(self) -> bool:
        return self.language in ("python", "bash") and not self.title.startswith(MARKS)


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a Markdown file; a fence that means nothing here is an error."""
    found = []
    for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)^```$", text, re.MULTILINE):
        fence, line = match[1], text.count("\n", 0, match.start()) + 1
        parts = re.fullmatch(r'(\w*)(?: title="([^"]+)")?', fence)
        assert parts, f"line {line}: fence {fence!r}"
        language, title = parts[1], parts[2] or ""
        assert language in LANGUAGES, f"line {line}: language {language!r}"
        known = not title or title.startswith(MARKS) or FILE.fullmatch(title) or (language, title) == ("bash", BESIDE)
        assert known, f"line {line}: title {title!r}"
        found.append(Block(language, title, match[2], line))
    return found


def command_lines(text: str) -> list[str]:
    """The command lines of this project in the blocks of a Markdown file, fenced or indented."""
    blocks = [block.text for block in blocks_of(text)] + re.findall(r"^    (?=\S)(.*)$", text, re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if re.search(r"^(abn-fast|make|pytest) |-m abn_fast ", line)]


def named_commands(text: str) -> list[str]:
    """The commands that stand in a Markdown file's sentences."""
    outside = re.sub(r"^```(?:.*\n)*?^```$", "", text, flags=re.MULTILINE)
    return re.findall(r"`(abn-fast [a-z-][^`]*)`", outside)


def check_command(line: str, *, whole: bool = True) -> None:
    """Parse a command line with the parser that it is for; `whole` means that nothing may be missing."""
    words = [re.split(r"^[|>&;]", word)[0] for word in shlex.split(line, comments=True)]
    words = words[: words.index("")] if "" in words else words
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets, f"{line}: no such target"
    elif words[0] == "pytest":
        missing = [word for word in words if "/" in word and not (ROOT / word).exists()]
        assert not missing, f"{line}: no such path"
    else:
        _check_abn_fast(words[words.index("abn_fast" if "abn_fast" in words else "abn-fast") + 1 :], line, whole)


def _check_abn_fast(words: list[str], line: str, whole: bool) -> None:
    command: click.Command = commands
    while isinstance(command, click.Group):
        while words and words[0] in ("--debug", "-h", "--help", "--version"):
            words = words[1:]
        if not words and not whole:
            return
        if not words and "--help" in line:
            return
        assert words, f"{line}: no command"
        assert words[0] in command.commands, f"{line}: no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    try:
        command.make_context(command.name, words)
    except click.exceptions.Exit:
        pass  # --help
    except click.UsageError as error:
        if whole or not isinstance(error, click.MissingParameter):
            raise AssertionError(f"{line}: {error}") from None


def check_block(block: Block) -> None:
    """Whether the block is well-formed, without running it."""
    if block.language == "python":
        ast.parse(block.text)
    elif block.language == "bash":
        checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
        assert checked.returncode == 0, (block, checked.stderr)


def furnish(folder: Path) -> None:
    """What the documents take for granted: pictures by class, a picture, and two checkpoints."""
    torch.manual_seed(0)
    for split, indices in (("train", range(18)), ("test", range(18, 27))):
        for index in indices:
            file = folder / "photos" / split / CLASSES[index % 3] / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(index)).save(file)
    Image.fromarray(picture(27)).resize((80, 60)).save(folder / "photo.jpg")
    save_checkpoint(
        create_model("abn_cifar_resnet8", num_classes=10),
        folder / "runs" / "demo" / "abn" / "last.safetensors",
        preprocessing=Preprocessing((48, 48), (0.5,) * 3, (0.25,) * 3),
        classes=[str(digit) for digit in range(10)],
    )
    published = to_published(create_model("abn_cifar_resnet8", num_classes=3))
    torch.save({"epoch": 300, "state_dict": published, "best_acc": 70.0}, folder / "model_best.pth.tar")


def published_model() -> nn.Module:
    """A module with the state dict of a network of the published code."""
    root = nn.Module()
    for key, value in to_published(create_model("abn_cifar_resnet8", num_classes=3), prefix="").items():
        *path, name = key.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(name, value.clone())
    return root


def environment(folder: Path) -> dict[str, str]:
    """In which `abn-fast`, `python` and `torchrun` are of this checkout."""
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in (("abn-fast", "-m abn_fast"), ("python", ""), ("torchrun", "-m torch.distributed.run")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "no_proxy": "*",
    }


def run(document: str, text: str, folder: Path) -> str:
    """Run the blocks of a document in order in a folder, the current one; returns what bash printed.

    The Python blocks of a document see each other's names.
    """
    variables, names = environment(folder), {"__name__": "__main__", "their_model": published_model()}
    printed, server = "", None
    try:
        for block in blocks_of(text):
            if FILE.fullmatch(block.title):
                (folder / block.title).write_text(block.text)
            elif block.title == BESIDE:
                server = _Server(block.text, folder, variables)
            elif block.runs and block.language == "python":
                exec(compile("\n" * block.line + block.text, document, "exec"), names)
            elif block.runs:
                shown = block.text if server is None else block.text.replace(":8000", f":{server.port}")
                printed += run_bash(shown, folder, variables, f"{document}:{block.line}")
    finally:
        if server is not None:
            server.stop()
    return printed


def run_bash(text: str, folder: Path, variables: dict[str, str], where: str) -> str:
    """Run a block in bash; returns what it printed."""
    command = ["bash", "-e", "-o", "pipefail", "-c", text]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, f"{where}\n{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class _Server:
    """`abn-fast serve` on a free port, in the place of 8000."""

    def __init__(self, text: str, folder: Path, variables: dict[str, Any]) -> None:
        words = [*shlex.split(text.replace("8000", "0")), "--device", "cpu"]
        log = folder / "server.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "abn_fast", *words[1:]], cwd=folder, env=variables, stdout=file, stderr=file
            )
        deadline = time.monotonic() + LIMIT
        while " on http://" not in log.read_text():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.port = log.read_text().strip().rpartition(":")[2]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0
