"""The attention head, forward and backward, against the head as published; float32 on the CPU."""

from typing import Any

import pytest
import torch
from torch import nn

from abn_fast.modules import AttentionHead
from bench._compare import record
from bench.peers.published_head import PublishedHead

CASES = {
    "C' 2048, K 1000, 14x14, batch 8": (8, 2048, 1024, 1000, 14),
    "C' 256, K 100, 16x16, batch 128": (128, 256, 128, 100, 16),
}


@pytest.mark.parametrize("case", CASES)
def test_head_training_step(case: str, benchmark: Any) -> None:
    batch, in_channels, channels, num_classes, size = CASES[case]
    ours, peer = AttentionHead(in_channels, num_classes), PublishedHead(in_channels, num_classes)
    ours.load_state_dict(peer.state_dict())
    stage_output = torch.randn(batch, in_channels, size, size, requires_grad=True)
    features = torch.randn(batch, channels, size, size, requires_grad=True)

    def step(head: nn.Module) -> list[torch.Tensor]:
        attention_logits, gated, _ = head(stage_output, features)
        gradients = torch.autograd.grad(
            attention_logits.square().sum() + gated.square().sum(), [stage_output, features, *head.parameters()]
        )
        return [attention_logits, gated, *gradients[:2]]

    for own, published in zip(step(ours), step(peer), strict=True):
        torch.testing.assert_close(own, published, rtol=1e-3, atol=1e-3 * published.abs().max().item())
    record(benchmark, case, "AttentionHead, eager", "published head, eager", lambda: step(ours), lambda: step(peer))
