import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from abn_fast._errors import AbnFastError
from abn_fast.cli._data import open_data
from abn_fast.cli.check_data import check_data
from tests.data._files import truncate, write_compcars, write_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for number in range(8):
            write_picture(tmp_path / split / "ab"[number % 2] / f"{number}.png")
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(check_data, [str(argument) for argument in arguments])


def test_a_sound_folder_exits_with_0(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "train: 8 readable images, 2 classes of 4 images" in result.stdout
    assert "  a: 4" in result.stdout
    assert result.stdout.splitlines()[-1] == "0 problems in 16 images"


def test_problems_are_a_line_each_up_to_a_number_and_exit_with_1(folder: Path) -> None:
    for number in range(5):
        truncate(folder / "train" / "ab"[number % 2] / f"{number}.png")
    result = run(folder, "--show", 2, "--workers", 2)
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("unreadable: ")]
    assert len(lines) == 3
    assert lines[-1] == "unreadable: and 3 more"
    assert "5 problems in 11 images" in result.stdout


def test_json_holds_everything_and_nothing_else(folder: Path) -> None:
    truncate(folder / "test" / "a" / "0.png")
    result = run(folder, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["images"] == {"train": 8, "test": 7}
    assert report["counts"]["test"] == {"a": 4, "b": 4}
    assert [problem["kind"] for problem in report["problems"]] == ["unreadable"]


def test_a_named_data_set_is_checked_as_such(tmp_path: Path) -> None:
    assert run(write_compcars(tmp_path), "--data", "compcars-models").exit_code == 0
    result = run(tmp_path / "image", "--data", "compcars-models")
    assert result.exit_code == 1
    assert "layout: compcars" in result.stdout
    unknown = run(tmp_path, "--data", "mnist")
    assert isinstance(unknown.exception, AbnFastError)


def test_a_named_data_set_is_opened_from_its_root(tmp_path: Path) -> None:
    write_compcars(tmp_path)
    dataset = open_data("compcars-models", str(tmp_path), image_size=64, split="test")
    assert dataset[0][0].shape == (3, 64, 64)


def test_a_word_that_is_no_folder_is_told_with_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AbnFastError, match=r"'cifar' is no folder.*cifar10, cifar100"):
        open_data("cifar", split="train")
