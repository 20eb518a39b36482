import numpy as np
import pytest

from abn_fast.data._random import _mix, random_bits, uniform


def test_mixes_as_the_published_splitmix64() -> None:
    # the first outputs of the generator's reference implementation for the seed 1234567
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    increments = np.arange(4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert _mix(np.uint64(1234567) + increments).tolist() == expected


def test_an_element_depends_on_its_place_alone() -> None:
    whole = random_bits("test", 3, rows=np.arange(50), columns=6)
    part = random_bits("test", 3, rows=[49, 7], columns=4)
    assert np.array_equal(part, whole[[49, 7], :4])


@pytest.mark.parametrize("key", [("other", 3), ("test", 4), ("test", -3), ("test", 3, 0), (3, "test")])
def test_every_part_of_the_key_counts(key: tuple[int | str, ...]) -> None:
    rows = np.arange(10)
    assert not np.isin(random_bits(*key, rows=rows, columns=3), random_bits("test", 3, rows=rows, columns=3)).any()


def test_numbers_are_uniform_and_independent() -> None:
    numbers = np.concatenate([uniform("test", seed, rows=np.arange(500), columns=8) for seed in range(25)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=64, range=(0, 1))[0]
    expected = numbers.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi-squared, 63 degrees: p = 2e-5
    shifted = np.concatenate([numbers, np.roll(numbers, -1, axis=0)], axis=1)  # and the next row
    correlation = np.corrcoef(shifted.T) - np.eye(16)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(numbers))
