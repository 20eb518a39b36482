import re
from pathlib import Path

import click
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runnable = [block for block in BLOCKS if "their_model" not in block]
    assert len(runnable) == 3
    names: dict[str, object] = {}
    for block in runnable:
        exec(block, names)
    assert (tmp_path / "runs" / "model.safetensors").exists()


def test_every_command_of_the_readme_exists() -> None:
    from abn_fast.cli.main import commands

    shown = set(re.findall(r"^abn-fast ([\w-]+)", README, re.MULTILINE))
    assert shown
    assert shown <= set(commands.commands)


def test_every_option_of_the_readme_exists() -> None:
    from abn_fast.cli.main import commands

    for words in re.findall(r"^abn-fast (.*)$", README, re.MULTILINE):
        command: click.Command = commands
        words = words.partition("#")[0].split()
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word for word in words if word.startswith("--")}
        assert used <= known, (command.name, used - known)
