import click
import pytest
import torch
from click.testing import CliRunner

from abn_fast.cli._data import open_data, validation_option


@pytest.mark.parametrize("given", [False, True])
def test_digits_of_another_image_size_are_larger_scenes_in_both_splits(given: bool) -> None:
    train = open_data("digits-in-the-wild", image_size=64, split="train", size=8)
    seen = train.preprocessing if given else None
    test = open_data("digits-in-the-wild", image_size=64, split="test", preprocessing=seen, size=8)
    for dataset in (train, test):
        assert dataset.preprocessing.image_size == (64, 64)
        assert dataset[0][0].shape == (3, 64, 64)
        assert dataset.boxes is not None
        sides = dataset.boxes[:, 2] - dataset.boxes[:, 0]
        assert torch.equal(sides, sides.round())
        assert 14 <= sides.min() <= sides.max() <= 22


@pytest.mark.parametrize(
    ("text", "value"), [("0.1", 0.1), ("5000", 5000), ("1", 1), ("1.0", 1.0), ("official", "official"), (None, None)]
)
def test_the_validation_set_is_a_share_or_a_number(text: str | None, value: object) -> None:
    seen: list[object] = []
    command = click.command()(validation_option(lambda validation: seen.append(validation)))
    assert CliRunner().invoke(command, [] if text is None else ["--validation", text]).exit_code == 0
    assert seen == [value]
    assert type(seen[0]) is type(value)


def test_another_validation_set_is_refused() -> None:
    result = CliRunner().invoke(click.command()(validation_option(lambda validation: None)), ["--validation", "some"])
    assert result.exit_code == 2
    assert "'some'; expected a share such as 0.1" in result.output


def test_the_validation_set_is_left_out_of_the_training_set() -> None:
    options = {"data": "digits-in-the-wild", "root": "data", "download": False, "image_size": None, "validation": 0.25}
    sizes = {split: len(open_data(**options, split=split, size=40)) for split in ("train", "validation", "test")}  # type: ignore[arg-type]  # of any kind
    assert sizes == {"train": 30, "validation": 10, "test": 40}
