"""The bytes of the head, by TRITON_INTERPRET=1 pytest and the name of this file."""

from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast.kernels import _dispatch
from abn_fast.modules import AttentionHead
from abn_fast.proofs import head
from abn_fast.proofs.cases import CIFAR, Size

assert _dispatch.INTERPRETED, "run with TRITON_INTERPRET=1"

SMALL = Size(4, channels=8, stage_channels=16, classes=12, height=8, width=8)
STAGE_OUTPUT = 4 * 4 * 16 * 64
"""Bytes."""


class WithHiddenCopy(AttentionHead):
    """Copies the stage output, and keeps the copy."""

    def forward(self, stage_output: Tensor, features: Tensor, attention: Tensor | None = None) -> Any:
        return super().forward(stage_output.clone(), features, attention)


def test_the_head_moves_half_of_what_inductor_counts_for_the_published_one_and_keeps_its_inputs_and_z() -> None:
    own = head.own_bytes(CIFAR)
    assert own["bytes"] <= 0.50 * 220.5e6
    kept = 4 * 32 * 256 * (256 + 128 + 100)
    assert kept <= own["saved_bytes"] <= 1.01 * kept
    names = {name for name, _ in own["steps"]}
    assert {"forward attention_gate.forward_kernel", "backward class_evidence.backward_kernel"} <= names
    assert any(name.startswith("forward aten::conv") for name in names)


def test_a_copy_and_what_it_keeps_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = head.own_bytes(SMALL)
    monkeypatch.setattr(head, "AttentionHead", WithHiddenCopy)
    after = head.own_bytes(SMALL)
    assert after["bytes"] == before["bytes"] + 2 * STAGE_OUTPUT
    after_steps = dict(after["steps"])
    assert after_steps["forward aten::clone"] == 2 * STAGE_OUTPUT


def test_what_an_op_keeps_beside_its_inputs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = head.own_bytes(SMALL)["saved_bytes"]

    class Keeper(AttentionHead):
        def forward(self, stage_output: Tensor, features: Tensor, attention: Tensor | None = None) -> Any:
            return super().forward(stage_output, torch.sigmoid(features), attention)

    monkeypatch.setattr(head, "AttentionHead", Keeper)
    # sigmoid and gate keep the sigmoid's result, in the place of the features
    assert head.own_bytes(SMALL)["saved_bytes"] == before
    monkeypatch.setattr(Keeper, "forward", lambda self, f, g: AttentionHead.forward(self, f, torch.sigmoid(g) * g))
    assert head.own_bytes(SMALL)["saved_bytes"] == before + 2 * 4 * 4 * 8 * 64
