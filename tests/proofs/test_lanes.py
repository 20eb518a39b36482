import pytest
import torch

pytest.importorskip("triton")

from abn_fast.proofs.cases import CIFAR, cases
from abn_fast.proofs.lanes import feature_lanes
from abn_fast.proofs.recorded import recorded


def test_lanes_of_all_programs_are_the_features_and_the_idle_lanes() -> None:
    aligned = CIFAR._replace(batch=1)
    padded = aligned._replace(height=3, width=5)
    lanes = feature_lanes([("attention_gate", list(size), "float32", False, "sm_90") for size in (aligned, padded)])
    for size, counted in zip((aligned, padded), lanes, strict=True):
        case = next(cases("attention_gate")).at(size)
        made = list(recorded(case, torch.float32, torch.contiguous_format, "sm_90"))
        moved = [launch.programs * each for launch, each in zip(made, counted, strict=True)]
        features = 4 * 128 * size.pixels
        if size is aligned:
            assert moved == [2 * features, 3 * features, 0]
        else:
            assert moved[0] > 2 * features
            assert moved[1] > 3 * features
