import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, TypeVar

from abn_fast._checks import checked_fraction, checked_whole
from abn_fast._errors import AbnFastError
from abn_fast.models._backbone import Backbone

ABN_PREFIX = "abn_"
MULTI_TASK_PREFIX = "multi_task_"


@dataclass(frozen=True)
class Family:
    """Backbones that differ by the numbers in their name."""

    template: str
    """Name with its numbers as fields: "wide_resnet{depth}_{width}"."""
    build: Callable[..., Backbone]
    names: tuple[str, ...]
    image_size: int
    """Side of the images that the paper trains it on, pixels; the networks take others too."""

    @property
    def base_name(self) -> str:
        """The name without numbers, for networks that its arguments describe: "resnet" with `layers=`."""
        name: str = self.build.__name__
        return name

    def defaults(self) -> dict[str, Any]:
        """The values of the arguments that may be left out."""
        return {name: parameter.default for name, parameter in inspect.signature(self.build).parameters.items()}

    def match(self, name: str) -> dict[str, int] | None:
        """The numbers in `name`, if it is a name of this family."""
        if name == self.base_name:
            return {}
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[0-9]+)", re.escape(self.template))
        match = re.fullmatch(pattern, name)
        return None if match is None else {key: int(value) for key, value in match.groupdict().items()}


Build = TypeVar("Build", bound=Callable[..., Backbone])
_FAMILIES: dict[str, Family] = {}


def register_model(template: str, *, variants: Iterable[dict[str, int]], image_size: int) -> Callable[[Build], Build]:
    """Register a function `build(*, num_classes, in_chans, **numbers and options) -> Backbone` under a name template.

    Raises:
        ValueError: the name is taken.
    """

    def register(build: Build) -> Build:
        family = Family(template, build, tuple(template.format(**variant) for variant in variants), image_size)
        names = [*family.names, family.base_name]
        taken = {name for known in _FAMILIES.values() for name in [*known.names, known.base_name]}
        if template in _FAMILIES or taken & set(names) or len(set(names)) < len(names):
            raise ValueError(f"a model named {template!r} is registered already")
        _FAMILIES[template] = family
        return build

    return register


def families() -> list[Family]:
    """All registered families, in order of registration."""
    return list(_FAMILIES.values())


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` takes and that match a shell-style pattern, for example "abn_*resnet*".

    Families take further numbers than those listed: any CIFAR ResNet depth 6n + 2, any Wide ResNet width, and so on.
    """
    plain = [name for family in _FAMILIES.values() for name in family.names]
    names = [*(ABN_PREFIX + name for name in plain), *plain]
    return [name for name in names if fnmatch(name, pattern)]


def find_family(name: str) -> tuple[Family, dict[str, int]]:
    """The family of a plain backbone's name and the numbers in it.

    Raises:
        AbnFastError: no family has such a name; the message shows the nearest ones.
    """
    for family in _FAMILIES.values():
        numbers = family.match(name)
        if numbers is not None:
            return family, numbers
    known = [known for family in _FAMILIES.values() for known in family.names]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
    raise AbnFastError(
        f"unknown model {name!r}; did you mean {', '.join(near)} (with or without {ABN_PREFIX!r} in front)? "
        "`abn-fast models` lists all, and timm:NAME or torchvision:NAME takes any of theirs"
    )


def checked_arguments(family: Family, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments themselves, if the family's builder takes them."""
    accepted = inspect.signature(family.build).parameters
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        raise AbnFastError(f"{name} takes no argument {', '.join(map(repr, unknown))}; it takes {', '.join(accepted)}")
    required = [key for key, parameter in accepted.items() if parameter.default is parameter.empty]
    missing = [key for key in required if key not in arguments]
    if missing:
        raise AbnFastError(f"{name} needs {', '.join(missing)}: state it in the name, as in {family.names[0]}")
    for key, value in arguments.items():
        if accepted[key].annotation is int:
            checked_whole(key, value)
        elif accepted[key].annotation is float:
            checked_fraction(key, value)
    return arguments
