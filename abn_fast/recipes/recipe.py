import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from abn_fast._errors import AbnFastError, one_line
from abn_fast.data import dataset_info, list_datasets
from abn_fast.training.config import TrainingConfig
from abn_fast.training.run import RunFolder

FOLDER = Path(__file__).parent
_KEYS = ("about", "model", "data", "training", "departs")
_MODEL_KEYS = ("name", "arguments", "pretrained")
_DATA_KEYS = ("data", "root", "download", "image_size", "validation", "split_seed", "edited_maps", "preprocessing")
_MOST_VALUES, _MOST_LEVELS, _MOST_BITS = 100_000, 20, 64
_NOT_DATA = ("classes", "report")
"""Arguments of data sets that the training itself gives."""


@dataclass(frozen=True)
class Recipe:
    """What to train, on what and how.

    Attributes:
        model: {"name": ..., "arguments": {...}} as `create_model` takes them, and whether it starts "pretrained".
        data: {"data": a data set's name, and options of its own such as "root" or "image_size"}.
        training: how to train.
        about: where it comes from, in a line.
        departs: what in it is not the paper's.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    about: str = ""
    departs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what a recipe's file holds."""
        values = {"about": self.about, "model": self.model, "data": self.data, "departs": list(self.departs)}
        return copy.deepcopy(values) | {"training": self.training.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`.

        Raises:
            AbnFastError: a key is unknown or missing, or a value is of the wrong type or out of its range.
        """
        _check_extent(values)
        if unknown := sorted(map(str, set(values) - set(_KEYS))):
            raise AbnFastError(f"unknown key {unknown[0]!r}; expected {', '.join(_KEYS)}")
        model, data = values.get("model"), values.get("data")
        if not isinstance(model, Mapping) or not isinstance(model.get("name"), str) or set(model) - set(_MODEL_KEYS):
            raise AbnFastError(f"model={model!r}; expected a table of {', '.join(_MODEL_KEYS)}")
        if not isinstance(data, Mapping) or not isinstance(data.get("data"), str):
            raise AbnFastError(f"data={data!r}; expected a table with data, a data set's name")
        _check_data_keys(data)
        return cls(
            {
                "name": model["name"],
                "arguments": dict(_of_type("model.arguments", model.get("arguments") or {}, Mapping, "a table")),
                "pretrained": _of_type("model.pretrained", model.get("pretrained", False), bool, "true or false"),
            },
            dict(data),
            TrainingConfig.from_dict(values.get("training") or {}),
            _of_type("about", values.get("about", ""), str, "a text"),
            tuple(_of_type("departs", values.get("departs") or [], list, "a list")),
        )

    def changed(self, assignments: Sequence[str]) -> "Recipe":
        """The recipe with settings changed: "optimizer.lr=0.05", "model.name=abn_resnet18", "data.root=/data".

        A key of the training settings needs no "training." in front; values are YAML. What is changed departs from the
        recipe and is named so.

        Raises:
            AbnFastError: no such key, or a value that it does not take.
        """
        values = self.to_dict()
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals or not key:
                raise AbnFastError(f"--set {assignment!r:.300}; expected KEY=VALUE, for example optimizer.lr=0.05")
            path = key.split(".")
            if path[0] not in ("model", "data", "training"):
                path = ["training", *path]
            table = values
            for part in path[:-1]:
                table = table.get(part, {}) if isinstance(table, dict) else {}
            known = path[0] == "data" or path[:2] == ["model", "arguments"]
            if not isinstance(table, dict) or (path[-1] not in table and not known):
                raise AbnFastError(f"--set {assignment!r:.300}: there is no setting {one_line(key, 100)}")
            try:
                table[path[-1]] = _parse(text)
            except AbnFastError as error:
                raise AbnFastError(f"--set {assignment!r:.300}: {text!r:.300} is not a value: {error}") from None
        values["departs"] = [*self.departs, *assignments]
        try:
            return Recipe.from_dict(values)
        except AbnFastError as error:
            raise AbnFastError(one_line(error)) from None


def _check_extent(values: Any) -> None:
    """Refuse what YAML's aliases unfold without end, and nesting and numbers that no recipe has."""
    waiting, seen = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _MOST_LEVELS:
            raise AbnFastError(f"more than {_MOST_VALUES} values, aliases unfolded, or {_MOST_LEVELS} levels of them")
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise AbnFastError(f"a whole number of {value.bit_length()} bits; expected at most {_MOST_BITS}")
        if isinstance(value, Mapping):
            waiting += [(each, depth + 1) for each in (*value, *value.values())]
        elif isinstance(value, list | tuple | set):
            waiting += [(each, depth + 1) for each in value]


def _check_data_keys(data: Mapping[str, Any]) -> None:
    info = dataset_info(data["data"] if data["data"] in list_datasets() else "image-folder")
    known = (*_DATA_KEYS, *(name for name in info.arguments if name not in _NOT_DATA))
    if unknown := sorted(map(str, set(data) - set(known))):
        raise AbnFastError(f"unknown key data.{unknown[0]}; expected one of {', '.join(known)}")


def _of_type(name: str, value: Any, kind: type, expected: str) -> Any:
    if not isinstance(value, kind):
        raise AbnFastError(f"{name}={value!r}; expected {expected}")
    return value


def list_recipes() -> list[str]:
    """The names that `read_recipe` takes beside paths."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_recipe(name: str) -> Recipe:
    """The recipe of that name, or in the YAML file at that path.

    Raises:
        AbnFastError: there is none, or it is damaged; the message names the file.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, list_recipes(), n=3, cutoff=0.3) or list_recipes()[:3]
        raise AbnFastError(
            f"no recipe {name!r}; did you mean {', '.join(near)}? `abn-fast recipes` lists all, and a path that "
            "ends in .yaml is read as a file"
        )
    try:
        values = _parse(path.read_text(encoding="utf-8"))
    except (AbnFastError, UnicodeDecodeError) as error:
        raise AbnFastError(f"{path} is not YAML: {one_line(error)}") from None
    return _from_file(path, values)


def read_run(folder: RunFolder) -> Recipe:
    """The recipe of a training run.

    Raises:
        AbnFastError: there is no run, or its run.json is damaged.
    """
    return _from_file(folder.settings, folder.read_settings())


def _from_file(path: Path, values: Any) -> Recipe:
    if not isinstance(values, Mapping):
        raise AbnFastError(f"{path}: expected a table of {', '.join(_KEYS)}")
    try:
        return Recipe.from_dict(values)
    except AbnFastError as error:
        raise AbnFastError(f"{path}: {one_line(error)}") from None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: 1e-4 is one, which PyYAML's YAML 1.1 takes for a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+$"), list("-+0123456789.")
)


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: plain values only
    except Exception as error:  # dates, numbers and deep nesting raise Python's own
        raise AbnFastError(one_line(error)) from None
