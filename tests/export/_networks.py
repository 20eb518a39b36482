"""A small network of each kind, whose norms do something."""

from typing import Any

import torch
from torch import Tensor, nn

from abn_fast import create_model
from abn_fast.modules import ImageNetwork
from tests.models._variants import VARIANTS

BOTTLENECK: dict[str, Any] = {"block": "bottleneck", "layers": [1, 1, 1, 2], "width": 8}
SMALL: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    **{f"abn-{v}": (f"abn_{v.name}", v.arguments, v.sizes[0]) for v in VARIANTS},
    **{f"plain-{v}": (v.name, v.arguments, v.sizes[0]) for v in VARIANTS},
    "tasks-resnet": ("multi_task_abn_resnet", BOTTLENECK | {"task_chunk": 2}, (70, 76)),
    "tasks-resnet-product": ("multi_task_abn_resnet", BOTTLENECK | {"gate": "product"}, (70, 76)),
    "tasks-se_resnet": ("multi_task_abn_se_resnet", BOTTLENECK, (70, 76)),
    "tasks-resnext": ("multi_task_abn_resnext11_2x4d", {}, (20, 26)),
    "tasks-densenet": ("multi_task_abn_densenet_bc10_4", {}, (20, 26)),
    "tasks-cifar_resnet": ("multi_task_abn_cifar_resnet8", {"width": 4, "task_chunk": 1}, (20, 26)),
    "tasks-plain": ("multi_task_resnet", BOTTLENECK, (70, 76)),
    "abn-product": ("abn_cifar_resnet8", {"width": 4, "gate": "product"}, (20, 26)),
    "abn-grey": ("abn_cifar_resnet8", {"width": 4, "in_chans": 1}, (20, 26)),
}


def perturbed(model: Any) -> Any:
    """The model with statistics and parameters of norms as after training, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for values, low, high in ((module.weight, 0.5, 1.5), (module.running_var, 0.5, 1.5)):
                nn.init.uniform_(values, low, high)  # type: ignore[arg-type]  # neither is None in this library
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values, 0, 0.3)  # type: ignore[arg-type]  # likewise
    return model.eval()


def with_statistics_of(model: Any, images: Tensor) -> Any:
    """The model in evaluation mode, its statistics those of the images, so that no layer amplifies rounding."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of all batches
    model.train()
    with torch.no_grad():
        model(images)
    return model.eval()


def small(kind: str, classes: int = 3) -> tuple[ImageNetwork, Tensor]:
    """A network of a kind, and two images for it."""
    name, arguments, size = SMALL[kind]
    torch.manual_seed(0)
    model = perturbed(create_model(name, num_classes=classes, **arguments))
    return model, torch.randn(2, arguments.get("in_chans", 3), *size)


def outputs_of(model: Any, images: Tensor) -> dict[str, Tensor]:
    """What the model itself returns, by name."""
    with torch.no_grad():
        output = model(images)
    return {"logits": output} if isinstance(output, Tensor) else output._asdict()


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    assert ours.shape == expected.shape
    return ((ours.double() - expected.double()).abs().max() / expected.abs().max()).item()
