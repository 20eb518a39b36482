from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.explain._evaluating import evaluating
from abn_fast.explain.methods.activations import Activations
from abn_fast.explain.methods.attention_map import attention_map, is_bounded, why_no_attention_map
from abn_fast.explain.methods.cam import cam, why_no_cam
from abn_fast.explain.methods.class_evidence import class_evidence, why_no_class_evidence
from abn_fast.explain.methods.grad_cam import grad_cam
from abn_fast.explain.methods.grad_cam_plus_plus import grad_cam_plus_plus
from abn_fast.modules import ImageNetwork


class Method(NamedTuple):
    """One way to explain a prediction."""

    title: str
    """What people call it."""
    maps: Callable[[Activations], Tensor]
    """Its non-negative maps, [M, h, w], of the activations' targets."""
    refusal: Callable[[ImageNetwork], str | None] = lambda network: None
    """Why it cannot serve a network in evaluation mode; None if it can."""
    is_bounded: Callable[[ImageNetwork], bool] = lambda network: False
    """Whether its maps are in [0, 1] as they are; if not, each is divided by its maximum."""


METHODS = {
    "abn": Method("ABN attention", attention_map, why_no_attention_map, is_bounded),
    "class-evidence": Method("class evidence", class_evidence, why_no_class_evidence),
    "cam": Method("CAM", cam, why_no_cam),
    "gradcam": Method("Grad-CAM", grad_cam),
    "gradcam++": Method("Grad-CAM++", grad_cam_plus_plus),
}
"""Every method by the name that `explain` takes."""


def methods_of(model: nn.Module) -> tuple[str, ...]:
    """The names of the methods that can serve a model.

    Raises:
        AbnFastError: the model is not of this library.
    """
    network = checked_network(model)
    with evaluating(network):
        return tuple(name for name, method in METHODS.items() if method.refusal(network) is None)


def checked_method(network: ImageNetwork, name: str) -> Method:
    """The method of this name, if it can serve a network in evaluation mode."""
    method = METHODS[checked_choice("method", name, METHODS)]
    if reason := method.refusal(network):
        raise AbnFastError(f"method {name!r}: {reason}; {', '.join(methods_of(network))} can serve this one")
    return method


def checked_network(model: nn.Module) -> ImageNetwork:
    """The model itself, if it is of this library."""
    if isinstance(model, ImageNetwork):
        return model
    raise AbnFastError(
        f"{type(model).__name__} is not a network of abn_fast: make one with create_model('timm:NAME'), "
        "create_model('torchvision:NAME') or from_backbone(model)"
    )
