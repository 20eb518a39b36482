import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from abn_fast.training.config import MixConfig

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def sharded_batches(order: list[int], batch_size: int, rank: int, world_size: int) -> list[tuple[int, list[int]]]:
    """The batches of an epoch, in order: how many images all processes see in it, and which of them this one does.

    A last batch with fewer images than processes is left out.
    """
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [(len(batch), batch[rank::world_size]) for batch in batches if len(batch) >= world_size]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make all random numbers of a step depend on (seed, step, process) alone, so that a resumed run draws the same."""
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)


def make_mix(config: MixConfig, num_classes: int) -> Mix | None:
    """MixUp, CutMix, or one of the two at random, of batches with class numbers; None mixes nothing."""
    if not (config.mixup or config.cutmix):
        return None
    from torchvision.transforms import v2  # takes 2 s to import

    kinds = []
    if config.mixup:
        kinds.append(v2.MixUp(alpha=config.mixup, num_classes=num_classes))
    if config.cutmix:
        kinds.append(v2.CutMix(alpha=config.cutmix, num_classes=num_classes))
    mix: Mix = kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds)
    return mix
