import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from abn_fast.explain.metrics.rank_correlation import rank_correlation

_BRANCHES = {"extractor": 0, "attention_branch": 1, "perception_branch": 2}  # from below; they are registered otherwise


class RandomizedLayer(NamedTuple):
    """What is left of the maps once the layers down to this one are random."""

    layer: str
    """Its name; it and all layers above it have been initialised again."""
    similarity: Tensor
    """`rank_correlation` with the maps of the trained network, [N] in [-1, 1]."""


def cascading_randomization(
    model: nn.Module, explain: Callable[[nn.Module, Tensor], Tensor], images: Tensor, *, depth: int = 2, seed: int = 0
) -> list[RandomizedLayer]:
    """Sanity check: how alike the maps stay as layer after layer is initialised again, from the top down.

    A map that explains what was learnt must lose its likeness. The model itself is left as it is. Perception branch,
    attention branch and extractor follow each other, within them the layers in the reverse order of their registration,
    several together if they share the first `depth` parts of their name ("perception_branch.stage"). An ABN's own
    map depends on no layer of the perception branch: there the check cannot change it, and the rows after those tell.

    Args:
        model: in evaluation mode.
        explain: (model, images) -> maps [N, H, W].
        images: [N, C, H, W].
        depth: parts of a layer's name by which layers are put together.
        seed: of the new parameters.

    Returns:
        A row a layer, the top first.

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018 (cascading randomisation).
    """
    trained = explain(model, images)
    randomized = copy.deepcopy(model)
    rows = []
    devices = sorted({parameter.device.index or 0 for parameter in model.parameters() if parameter.is_cuda})
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for name, layers in _layers_from_the_top(randomized, depth):
            for layer in layers:
                _reset(layer)
            rows.append(RandomizedLayer(name, rank_correlation(trained, explain(randomized, images))))
    return rows


def _layers_from_the_top(model: nn.Module, depth: int) -> Iterator[tuple[str, list[nn.Module]]]:
    groups: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            groups.setdefault(".".join(name.split(".")[:depth]), []).append(module)
    names = sorted(groups, key=lambda name: _BRANCHES.get(name.split(".")[0], 0))  # stable
    return ((name, groups[name]) for name in reversed(names))


def _reset(layer: nn.Module) -> None:
    """Initialise a layer as torch does, or, if it does not say how, with normal numbers of the spread it has."""
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    with torch.no_grad():
        for parameter in layer.parameters(recurse=False):
            parameter.normal_(0, float(parameter.std()) if parameter.numel() > 1 else 1.0)
