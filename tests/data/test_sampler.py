import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from abn_fast._errors import AbnFastError
from abn_fast.data import EpochSampler


def test_every_sample_comes_once() -> None:
    assert sorted(EpochSampler(1000, seed=1)) == list(range(1000))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    order = list(EpochSampler(100, seed=1, epoch=2))
    assert list(EpochSampler(100, seed=1, epoch=2)) == order
    assert list(EpochSampler(100, seed=1, epoch=3)) != order
    assert list(EpochSampler(100, seed=2, epoch=2)) != order


def test_a_resumed_epoch_is_the_rest_of_it() -> None:
    order = list(EpochSampler(100, seed=1, epoch=2))
    rest = EpochSampler(100, seed=1, epoch=2, start=64)
    assert list(rest) == order[64:]
    assert len(rest) == 36
    assert list(EpochSampler(100, seed=1, start=100)) == []


def test_set_epoch_goes_on_from_the_first_sample() -> None:
    sampler = EpochSampler(100, seed=1, epoch=0, start=50)
    sampler.set_epoch(1)
    assert list(sampler) == list(EpochSampler(100, seed=1, epoch=1))


def test_places_are_equally_likely() -> None:
    places = np.array([list(EpochSampler(8, seed=5, epoch=epoch)) for epoch in range(2000)])
    counts = np.stack([np.bincount(column, minlength=8) for column in places.T])
    assert np.abs(counts - 250).max() < 5 * np.sqrt(250 * 7 / 8)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(EpochSampler(100, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_serves_a_data_loader() -> None:
    sampler = EpochSampler(10, seed=1, start=3)
    loader = DataLoader(TensorDataset(torch.arange(10)), batch_size=4, sampler=sampler)
    batches = [batch.tolist() for (batch,) in loader]
    assert len(loader) == 2
    assert [index for batch in batches for index in batch] == list(sampler)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length 0"),
        ({"length": 5, "epoch": -1}, "epoch -1"),
        ({"length": 5, "start": 6}, "start 6.*0 to 5"),
        ({"length": 5, "start": -1}, "start -1"),
    ],
)
def test_bad_values_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(AbnFastError, match=message):
        EpochSampler(seed=0, **arguments)
