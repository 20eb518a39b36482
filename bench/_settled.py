"""Untrained networks in which rounding grows no more than in trained ones, and the photographs that settle them."""

from functools import cache

import torch
from torch import Tensor, nn

from abn_fast.data import IMAGENET
from abn_fast.export.proof import ProofImages


@cache
def photographs() -> Tensor:
    """24 crops of real photographs, normalised, [24, 3, 224, 224]: 16 to calibrate on, 8 to compare on."""
    return ProofImages(IMAGENET).photographs(24, (224, 224))


@torch.no_grad()
def settle_norms(model: nn.Module) -> None:
    """Let the norms see the first 16 photographs, the residual of each bottleneck small beside its shortcut."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            if name.endswith(".bn3") and "head" not in name:
                nn.init.constant_(module.weight, 0.2)
    model.train()(photographs()[:16])
    model.eval()
