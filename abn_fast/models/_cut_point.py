from collections.abc import Iterator

from torch import Size, nn

from abn_fast._errors import AbnFastError
from abn_fast.models._cut_overrides import cut_override

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def ancestors(name: str) -> set[str]:
    """Names of the modules that contain the module `name`: "a.b.c" -> {"a", "a.b"}."""
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def feature_maps(runs: list[dict[str, Size]]) -> dict[str, tuple[int, int]]:
    """Sizes in the first run of the feature maps: tensors [N, C, h, w] of which h and w grow with the image."""
    first, second = runs
    return {
        name: (shape[2], shape[3])
        for name, shape in first.items()
        if len(shape) == len(other := second.get(name, Size())) == 4
        and shape[1] == other[1]
        and shape[2] < other[2]
        and shape[3] < other[3]
    }


def cut_points(model: nn.Module, maps: dict[str, tuple[int, int]]) -> Iterator[str]:
    """Names of the modules to cut behind, the best one first.

    Raises:
        AbnFastError: the model's features leave no place.
    """
    name = _last_above_the_final_resolution(model, maps)
    behind = _next_layer(model, list(maps), name)
    if behind is not None and _normalises_each_pixel(model.get_submodule(behind)):
        yield behind  # a gate in front of it would be divided out again: norm(s * g) = norm(g)
    yield name


def _last_above_the_final_resolution(model: nn.Module, maps: dict[str, tuple[int, int]]) -> str:
    if not maps:
        raise AbnFastError("no module of it returns feature maps [N, C, H, W] that follow the image's size")
    name = cut_override(model)
    if name is None:
        name = _from_feature_info(model) if hasattr(model, "forward_head") else _from_sizes(model, maps)
    if name not in maps:
        raise AbnFastError(f"its feature {name!r} is not one map [N, C, H, W] that follows the image's size")
    return name


def _from_feature_info(model: nn.Module) -> str:
    """The last of timm's features whose reduction is below the final one."""
    information = getattr(model, "feature_info", None)
    if not information:
        raise AbnFastError("it has no feature_info, which tells where its stages end")
    features = list(getattr(information, "info", information))
    above = [feature["module"] for feature in features if feature["reduction"] < features[-1]["reduction"]]
    if not above:
        raise AbnFastError("all its features have one resolution, so no last stage lowers it")
    return str(above[-1])


def _from_sizes(model: nn.Module, maps: dict[str, tuple[int, int]]) -> str:
    """The last module, of those in plain containers, whose map is larger than the final one."""
    final = list(maps.values())[-1]
    above = [
        name
        for name, size in maps.items()
        if size[0] > final[0] and all(isinstance(model.get_submodule(a), CONTAINERS) for a in ancestors(name))
    ]
    if not above:
        raise AbnFastError("all its feature maps have one resolution, so no last stage lowers it")
    return above[-1]


def _next_layer(model: nn.Module, names: list[str], name: str) -> str | None:
    later = names[names.index(name) + 1 :]
    return next((other for other in later if not any(model.get_submodule(other).children())), None)


def _normalises_each_pixel(module: nn.Module) -> bool:
    names = ("LayerNorm", "RmsNorm", "RMSNorm", "SimpleNorm")
    return any(base.__name__.startswith(names) for base in type(module).mro())
