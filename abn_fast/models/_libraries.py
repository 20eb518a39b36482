import difflib
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.models._tracing import first_line
from abn_fast.modules import ModelConfig


def build_library_model(config: ModelConfig, pretrained: bool = False) -> nn.Module:
    """The classifier named "timm:NAME" or "torchvision:NAME", whose pretrained weights may bring another class count.

    Raises:
        AbnFastError: the library is missing, has no such model, refuses an argument, or cannot get the weights.
    """
    library, _, architecture = config.name.partition(":")
    build = _BUILDERS[checked_choice("library", library, _BUILDERS)]
    try:
        return build(architecture, pretrained, dict(config.arguments))
    except AbnFastError:
        raise
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise AbnFastError(f"{config.name} cannot be built: {first_line(error)}") from error


def _build_timm(architecture: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    timm = require("timm", extra="timm", purpose=f"timm:{architecture}")
    if not timm.is_model(architecture):
        raise _unknown("timm", architecture, timm.list_models())
    model: nn.Module = timm.create_model(architecture, pretrained=pretrained, **arguments)
    return model


def _build_torchvision(architecture: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    from torchvision import models  # takes seconds to import

    names = models.list_models(module=models)
    if architecture not in names:
        raise _unknown("torchvision", architecture, names)
    if arguments.pop("in_chans", 3) != 3:
        raise AbnFastError(f"torchvision:{architecture} takes 3 channels only; timm's models take in_chans=")
    if pretrained:
        arguments.pop("num_classes", None)  # the weights bring theirs
    model: nn.Module = models.get_model(architecture, weights="DEFAULT" if pretrained else None, **arguments)
    return model


_BUILDERS: dict[str, Callable[[str, bool, dict[str, Any]], nn.Module]] = {
    "timm": _build_timm,
    "torchvision": _build_torchvision,
}


def _unknown(library: str, architecture: str, names: Iterable[str]) -> AbnFastError:
    near = difflib.get_close_matches(architecture, names, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "its list_models() shows all"
    return AbnFastError(f"{library} has no model {architecture!r}; {hint}")
