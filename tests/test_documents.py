"""README.md and docs/*.md: what they show exists and runs."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests._documents import (
    BESIDE,
    DOCUMENTS,
    ROOT,
    blocks_of,
    check_block,
    check_command,
    command_lines,
    furnish,
    named_commands,
    run,
)

TEXTS = {document: (ROOT / document).read_text() for document in DOCUMENTS}
RUNNABLE = {document: [block for block in blocks_of(text) if block.runs] for document, text in TEXTS.items()}
NEEDS = {
    "README.md": ("timm",),
    "docs/deployment.md": ("onnxruntime", "fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"),
    "docs/getting-started.md": ("onnxruntime", "onnxscript"),
    "docs/published-code.md": ("onnxruntime", "onnxscript"),
    "docs/explain.md": ("sklearn",),
    "docs/training.md": ("sklearn",),
}
SAYS = {
    "docs/deployment.md": (
        "passed",
        '{"classes":[{"index"',
        '"status":"ok"',
        "abn_fast_batch_size_bucket",
        " 0 errors",
        "\ntrtexec --onnx=model.onnx",
        "max_batch_size: 64",
    ),
    "docs/getting-started.md": (
        "0 problems in 27 images",
        "9 images: loss",
        "runs/explained/photo-overlay.png",
        "passed",
    ),
}


def _starts_processes(document: str) -> bool:
    return any(block.language == "bash" for block in RUNNABLE[document])


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(document, marks=pytest.mark.slow if _starts_processes(document) else ())
        for document, blocks in RUNNABLE.items()
        if blocks
    ],
)
def test_every_block_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDS.get(document, ()):
        pytest.importorskip(module, reason=f"{document} shows what needs {module}")
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    printed = run(document, TEXTS[document], tmp_path)
    for piece in SAYS.get(document, ()):
        assert piece in printed, piece


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_well_formed(document: str) -> None:
    for block in blocks_of(TEXTS[document]):
        check_block(block)
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        assert block.language or document == "README.md", f"{document}:{block.line} names no language"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_option_exists(document: str) -> None:
    for line in command_lines(TEXTS[document]):
        check_command(line)
    for line in named_commands(TEXTS[document]):
        if not re.search(r"COMMAND|\.\.\.| \| ", line):
            check_command(line, whole=False)


def test_the_readme_and_the_site_show_commands_and_python() -> None:
    assert len(command_lines(TEXTS["README.md"])) > 20
    assert len(RUNNABLE["README.md"]) == 4
    assert sum(len(blocks) for blocks in RUNNABLE.values()) >= 30


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("abn-fast explode CHECKPOINT", "no command 'explode'"),
        ("abn-fast explain CHECKPOINT", "Missing parameter: images"),
        ("abn-fast export CHECKPOINT --presicion fp16", "No such option"),
        ("abn-fast train --epochs few  # some", "'few' is not a valid integer"),
        ("abn-fast kernels chekc", "no command 'chekc'"),
        ("torchrun --nproc-per-node=8 -m abn_fast train --recpie x", "No such option"),
        ("abn-fast describe model.onnx --size 3 | sed -n p", "No such option"),
        ("make tset", "no such target"),
        ("pytest tests/nothing.py", "no such path"),
    ],
)
def test_a_wrong_command_is_found(line: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_command(line)


def test_a_right_command_is_none() -> None:
    check_command("abn-fast describe model.onnx | sed -n 's/^ *TensorRT *//p'")
    check_command('abn-fast models "abn_*resnet*"  # all of them')
    check_command("abn-fast --help")
    check_command("abn-fast export", whole=False)


def test_blocks_that_cannot_run_here_are_checked_only(tmp_path: Path) -> None:
    text = '```bash title="needs a GPU"\nexit 7\n```\n\n```python title="takes hours"\n1 / 0\n```\n\n```\nexit 8\n```\n'
    assert not any(block.runs for block in blocks_of(text))
    assert run("text", text, tmp_path) == ""
    for language, broken in (("python", "def f(:"), ("bash", "if true; then")):
        [block] = blocks_of(f'```{language} title="needs a GPU"\n{broken}\n```\n')
        with pytest.raises((AssertionError, SyntaxError)):
            check_block(block)


@pytest.mark.parametrize(
    "fence", ['```python title="sometimes"', "```sh background", "```pyhton", f'```python title="{BESIDE}"']
)
def test_a_fence_that_would_hide_a_block_is_refused(fence: str) -> None:
    with pytest.raises(AssertionError, match="line 1"):
        blocks_of(f"{fence}\n1 / 0\n```\n")


def test_a_block_that_fails_fails_the_document(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run("text", "```python\n1 / 0\n```\n", tmp_path)


def test_a_command_that_fails_fails_the_document(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="text:3"):
        run("text", "\n\n```bash\ntrue\nfalse | cat\ntrue\n```\n", tmp_path)


def test_files_come_before_the_commands_that_use_them(tmp_path: Path) -> None:
    text = '```yaml title="mine.yaml"\nabout: this\n```\n\n```bash\ncat mine.yaml\n```\n'
    assert run("text", text, tmp_path) == "about: this\n"
