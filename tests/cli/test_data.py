import pytest
import torch

from abn_fast.cli._data import open_data


@pytest.mark.parametrize("given", [False, True])
def test_digits_of_another_image_size_are_larger_scenes_in_both_splits(given: bool) -> None:
    train = open_data("digits-in-the-wild", "data", False, 64, "train", size=8)
    seen = train.preprocessing if given else None
    test = open_data("digits-in-the-wild", "data", False, 64, "test", preprocessing=seen, size=8)
    for dataset in (train, test):
        assert dataset.preprocessing.image_size == (64, 64)
        assert dataset[0][0].shape == (3, 64, 64)
        assert dataset.boxes is not None
        sides = dataset.boxes[:, 2] - dataset.boxes[:, 0]
        assert torch.equal(sides, sides.round())
        assert 14 <= sides.min() <= sides.max() <= 22
