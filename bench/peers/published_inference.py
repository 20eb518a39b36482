from collections.abc import Callable

import torch
from torch import Tensor

from abn_fast.modules import AttentionBranchNetwork
from bench.peers.published_network import PublishedNetwork

Forward = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def published(network: AttentionBranchNetwork) -> Forward:
    """As it was: eager, float32, NCHW."""
    return torch.inference_mode()(PublishedNetwork(network).eval())


def published_compiled(network: AttentionBranchNetwork) -> Forward:
    """As it was, under torch.compile."""
    return _compiled(PublishedNetwork(network).eval())


def published_by_hand(network: AttentionBranchNetwork) -> Forward:
    """As somebody tunes it by hand: compiled, channels_last, bfloat16."""
    model = PublishedNetwork(network).eval().to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]  # both are taken
    compiled = _compiled(model)
    return lambda images: compiled(images.to(torch.bfloat16, memory_format=torch.channels_last))


def _compiled(model: PublishedNetwork) -> Forward:
    model.compile(dynamic=False)
    return torch.inference_mode()(model)
