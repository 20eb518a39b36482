"""The attention head, forward and backward, against the head as published, eager and compiled; float32 on the CPU."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abn_fast.benchmark_report import Case
from abn_fast.modules import AttentionHead
from bench._compare import record
from bench.peers.published_head import PublishedHead

CHANNELS = {1000: (2048, 1024), 100: (256, 128)}
"""Of the head's input and of the features it gates, by classes."""
CASES = [
    Case("attention head", batch=8, size=14, classes=1000, mode="training"),
    Case("attention head", batch=128, size=16, classes=100, mode="training"),
]
PATHS = ["AttentionHead, eager", "AttentionHead, compiled"]
LEAST = {"published head, eager": 1.4, "published head, torch.compile": 1.1}
"""How many times as fast as each peer a path must be."""

Step = Callable[[], list[Tensor]]


@pytest.mark.parametrize("peer", LEAST)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_head_training_step(case: Case, path: str, peer: str, benchmark: Any) -> None:
    ours, theirs = steps(case)[path], steps(case)[peer]
    for own, published in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(own, published, rtol=1e-3, atol=1e-3 * published.abs().max().item())
    assert record(benchmark, case, path, peer, ours, theirs) >= LEAST[peer]


@cache
def steps(case: Case) -> dict[str, Step]:
    """A forward and a backward of every path and peer on the same parameters: outputs, and gradients of all inputs."""
    batch, size, num_classes = case.batch, case.size, case.classes
    in_channels, channels = CHANNELS[num_classes]
    torch.manual_seed(0)
    peer = PublishedHead(in_channels, num_classes)
    stage_output = torch.randn(batch, in_channels, size, size, requires_grad=True)
    features = torch.randn(batch, channels, size, size, requires_grad=True)
    d_logits, d_gated = torch.randn(batch, num_classes), torch.randn(batch, channels, size, size)

    def step(head: nn.Module, compiled: bool) -> Step:
        head.load_state_dict(peer.state_dict())
        call = torch.compile(head, fullgraph=True) if compiled else head
        parameters = dict(head.named_parameters())
        del parameters["bn1.bias"]  # its gradient is 0; the published head computes rounding noise

        def run() -> list[Tensor]:
            attention_logits, gated, _ = call(stage_output, features)
            inputs = [stage_output, features, *(parameters[name] for name in sorted(parameters))]
            return [
                attention_logits,
                gated,
                *torch.autograd.grad([attention_logits, gated], inputs, [d_logits, d_gated]),
            ]

        return run

    return {
        "AttentionHead, eager": step(AttentionHead(in_channels, num_classes), compiled=False),
        "AttentionHead, compiled": step(AttentionHead(in_channels, num_classes), compiled=True),
        "published head, eager": step(peer, compiled=False),
        "published head, torch.compile": step(PublishedHead(in_channels, num_classes), compiled=True),
    }
