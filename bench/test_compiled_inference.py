"""Prediction and map under Inductor: our compiled session, the published network compiled and by hand; on the CPU.

Each test compiles, which takes most of its time.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast import AttentionBranchNetwork, create_model
from abn_fast.benchmark_report import Case
from abn_fast.export import InferenceSession
from bench._compare import compare
from bench.peers.published_inference import published, published_by_hand, published_compiled

CASES = [Case("abn_resnet18", batch=n, size=224, classes=1000, layout="channels_last") for n in (1, 8)]
ROUNDS = 7


def network(case: Case) -> tuple[AttentionBranchNetwork, Tensor]:
    torch.manual_seed(0)
    model = create_model(case.model, num_classes=case.classes).eval()
    assert isinstance(model, AttentionBranchNetwork)
    return model, torch.randn(case.batch, 3, case.size, case.size)


def within(share: float) -> Callable[[Any, Any], None]:
    """The difference's norm is at most this share of the peer's, for logits and map."""

    def same(own: Any, theirs: Any) -> None:
        _, *expected = theirs
        for value, other in zip((own.logits, own.attention), expected, strict=True):
            assert (value.float() - other.float()).norm() <= share * other.float().norm()

    return same


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32(case: Case, benchmark: Any) -> None:
    model, images = network(case)
    session, eager, compiled = InferenceSession(model, mode="compiled"), published(model), published_compiled(model)
    peers = {"published": lambda: eager(images), "published, torch.compile": lambda: compiled(images)}
    compare(benchmark, case, ("compiled session", lambda: session(images)), peers, within(1e-4), ROUNDS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bfloat16(case: Case, benchmark: Any) -> None:
    model, images = network(case)
    session, by_hand = InferenceSession(model, mode="compiled", dtype=torch.bfloat16), published_by_hand(model)
    peers = {"published, torch.compile, channels_last, bf16": lambda: by_hand(images)}
    ours = ("compiled session, bf16", lambda: session(images))
    compare(benchmark, replace(case, dtype="bf16"), ours, peers, within(0.05), ROUNDS)
