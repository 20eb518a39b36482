from collections.abc import Callable

from torch import nn


def _is_transition(name: str, module: nn.Module) -> bool:
    return name.rpartition(".")[2].startswith("transition")


def _is_max_pool(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.MaxPool2d)


_OVERRIDES: dict[str, tuple[Callable[[str, nn.Module], bool], int]] = {
    "DenseNet": (_is_transition, -1),
    "VGG": (_is_max_pool, -2),
    "AlexNet": (_is_max_pool, -2),
}


def cut_override(model: nn.Module) -> str | None:
    """The module to cut behind for families that the rule does not suit, by the name of their class.

    DenseNet is cut behind its last transition, as in the paper; VGG and AlexNet behind their last pooling but one,
    because nothing with weights follows the last.
    """
    if type(model).__name__ not in _OVERRIDES:
        return None
    matches, index = _OVERRIDES[type(model).__name__]
    names = [name for name, module in model.named_modules() if matches(name, module)]
    return names[index] if len(names) >= -index else None
