import re

from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.models._registry import ABN_PREFIX, MULTI_TASK_PREFIX
from abn_fast.modules import ImageNetwork

_TIMM_NAMES = {
    r"resnet(\d+)": r"resnet\1",
    r"se_resnet(\d+)": r"legacy_seresnet\1",
    r"vgg(\d+)(_bn)?(_cam)?": r"vgg\1\2",
}


def load_pretrained(model: ImageNetwork, source: nn.Module | None = None) -> list[str]:
    """Fill extractor, perception branch and attention branch's stage with a pretrained classifier's weights.

    The attention branch's stage starts as a copy of the last stage. A classifier of another size keeps its own start.
    timm's SE-ResNets have a block's stride in its first 1x1 convolution and another padding before the first pooling:
    for them the weights are where fine-tuning starts, and predict nothing before it.

    Args:
        model: a ResNet, SE-ResNet or VGG of this library.
        source: the same network of timm or torchvision; by default timm's, whose weights are downloaded.

    Returns:
        the names of the model's tensors that keep their start: classifier and attention head.

    Raises:
        AbnFastError: timm has no such network, or the source is another network; nothing is changed.
    """
    source = _from_timm(model) if source is None else source
    state, given = model.state_dict(), list(source.state_dict().items())
    ours = [name for name in state if not name.startswith("attention_branch.")]
    filled: dict[str, Tensor] = {}
    for index, name in enumerate(ours):
        value = given[index][1] if index < len(given) else None
        if value is not None and _fits(value, state[name]):
            filled[name] = value.reshape(state[name].shape)
        elif not name.startswith("perception_branch.classifier."):
            found = f"{given[index][0]} {tuple(given[index][1].shape)}" if index < len(given) else "nothing"
            raise AbnFastError(
                f"{type(source).__name__} is not the network of this model: "
                f"{name} {tuple(state[name].shape)} meets {found}"
            )
    stage, copy = "perception_branch.stage.", "attention_branch.stage."
    for name, value in list(filled.items()):
        if name.startswith(stage) and copy + name.removeprefix(stage) in state:
            filled[copy + name.removeprefix(stage)] = value
    model.load_state_dict(filled, strict=False)
    return [name for name in state if name not in filled]


def _fits(given: Tensor, own: Tensor) -> bool:
    """Whether the shapes are one; timm's VGG has its linear layers as convolutions over the whole map."""
    return given.shape == own.shape or (given.ndim == 4 and given.flatten(1).shape == own.shape)


def _from_timm(model: ImageNetwork) -> nn.Module:
    name = "" if model.config is None else model.config.name.removeprefix(MULTI_TASK_PREFIX).removeprefix(ABN_PREFIX)
    for pattern, timm_name in _TIMM_NAMES.items():
        if match := re.fullmatch(pattern, name):
            timm = require("timm", extra="timm", purpose="pretrained weights")
            try:
                source: nn.Module = timm.create_model(match.expand(timm_name), pretrained=True)
            except (OSError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise AbnFastError(f"timm's weights of {match.expand(timm_name)} cannot be had: {reason}") from None
            return source
    raise AbnFastError(
        f"there are no pretrained weights for {name or type(model).__name__}: take a resnet, se_resnet or vgg, or "
        'create_model("abn_timm:NAME", pretrained=True)'
    )
