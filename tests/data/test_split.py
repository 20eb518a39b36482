from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abn_fast._errors import AbnFastError
from abn_fast.data import DigitsInTheWild, create_dataset, split_indices

MIXED = torch.randperm(1000, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)[MIXED]
EXPECTED = [159, 296, 452, 458, 607, 773, 908, 917]  # of 8 samples with seed 3


def test_every_class_gives_its_share() -> None:
    training, validation = split_indices(LABELS, 0.1)
    assert LABELS[validation].bincount().tolist() == [50, 30, 20]
    assert LABELS[training].bincount().tolist() == [450, 270, 180]
    assert sorted(training.tolist() + validation.tolist()) == list(range(1000))
    assert torch.equal(training, training.sort().values)
    assert torch.equal(validation, validation.sort().values)


def test_rounding_goes_to_the_largest_remainders() -> None:
    # 7 of 1000: exact shares 3.5, 2.1 and 1.4
    assert LABELS[split_indices(LABELS, 7)[1]].bincount().tolist() == [4, 2, 1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.data())
def test_the_number_is_exact_and_no_class_leaves_the_training_set(labels: list[int], data: st.DataObject) -> None:
    target = torch.tensor(labels)
    classes = target.unique()
    wanted = data.draw(st.integers(1, len(labels) - 1))
    if wanted > len(labels) - len(classes):
        with pytest.raises(AbnFastError, match="leaves none to train on"):
            split_indices(target, wanted)
        return
    training, validation = split_indices(target, wanted)
    assert len(validation) == wanted
    assert len(training) == len(labels) - wanted
    assert torch.equal(target[training].unique(), classes)
    for number in classes.tolist():
        size = labels.count(number)
        held_out = int((target[validation] == number).sum())
        assert held_out >= int(wanted * size / len(labels))


def test_it_is_the_same_everywhere_and_forever() -> None:
    assert split_indices(LABELS, 8, seed=3)[1].tolist() == EXPECTED
    torch.manual_seed(5)
    assert split_indices(LABELS, 8, seed=3)[1].tolist() == EXPECTED
    assert split_indices(LABELS, 8, seed=4)[1].tolist() != EXPECTED


def test_the_draw_is_uniform_in_a_class() -> None:
    drawn = np.zeros(1000)
    for seed in range(300):
        drawn[split_indices(LABELS, 0.2, seed)[1].numpy()] += 1
    assert drawn.sum() == 300 * 200
    assert np.abs(drawn - 60).max() < 5 * np.sqrt(300 * 0.2 * 0.8)


def test_a_larger_validation_set_holds_the_smaller_one() -> None:
    small, large = (set(split_indices(LABELS, share)[1].tolist()) for share in (0.1, 0.3))
    assert small < large


def test_attributes_are_split_without_strata() -> None:
    attributes = torch.ones(50, 40)
    training, validation = split_indices(attributes, 0.2)
    assert (len(training), len(validation)) == (40, 10)


@pytest.mark.parametrize("validation", [0.0, 1.0, -0.1, float("nan"), 0, 1000, 0.0001, True, "0.1", None])
def test_a_share_out_of_range_is_told(validation: float) -> None:
    with pytest.raises(AbnFastError, match=f"validation={validation!r}"):
        split_indices(LABELS, validation)


def test_a_selection_is_a_data_set_of_these_samples() -> None:
    whole = DigitsInTheWild("train", 12, augment=False)
    part = whole.select([7, 2])
    assert isinstance(part, DigitsInTheWild)
    assert len(part) == 2
    for place, index in enumerate((7, 2)):
        assert torch.equal(part[place][0], whole[index][0])
        assert part[place][1] == whole[index][1]
    assert part.boxes is not None
    assert whole.boxes is not None
    assert torch.equal(part.boxes, whole.boxes[[7, 2]])
    assert torch.equal(part.crops, whole.crops[[7, 2]])
    assert torch.equal(part.digits, whole.digits[[7, 2]])
    assert len(whole) == len(whole.labels) == 12


def test_a_selection_has_its_own_epoch() -> None:
    whole = DigitsInTheWild("train", 12, augment=True)
    part = whole.select(range(12))
    before = whole[3][0]
    part.set_epoch(4)
    assert torch.equal(whole[3][0], before)
    whole.set_epoch(4)
    assert torch.equal(whole[3][0], part[3][0])


def test_training_and_validation_make_the_training_set() -> None:
    arguments: dict[str, Any] = {"size": 100, "validation": 0.25, "split_seed": 2}
    whole = create_dataset("digits-in-the-wild", "train", size=100)
    training, validation = (
        create_dataset("digits-in-the-wild", split, **arguments) for split in ("train", "validation")
    )
    expected = split_indices(whole.labels, 0.25, seed=2)
    for part, indices in zip((training, validation), expected, strict=True):
        assert len(part) == len(indices)
        assert torch.equal(part[1][0], whole[int(indices[1])][0])
    assert len(create_dataset("digits-in-the-wild", "test", **{**arguments, "size": 30})) == 30
