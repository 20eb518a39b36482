import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from abn_fast._checks import checked_choice, checked_fraction, checked_whole
from abn_fast._errors import AbnFastError

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Compile = Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer of every parameter, as in the paper.

    Attributes:
        name: "sgd", as in the paper, or "adamw".
        lr: highest learning rate.
        momentum: of SGD.
        nesterov: whether SGD's momentum is Nesterov's.
        weight_decay: of every parameter.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        checked_choice("optimizer.name", self.name, ("sgd", "adamw"))
        _at_least("optimizer.lr", self.lr, above=True)
        _at_least("optimizer.momentum", self.momentum)
        _at_least("optimizer.weight_decay", self.weight_decay)
        if self.nesterov and not self.momentum:
            raise AbnFastError("optimizer.nesterov=True needs a momentum above 0")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the epochs.

    Attributes:
        name: "cosine" to 0, "step" by `gamma` at `milestones`, or "constant".
        milestones: epochs at which "step" multiplies the learning rate by `gamma`.
        gamma: that factor.
        warmup_epochs: over which the learning rate rises linearly from 0.
    """

    name: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        checked_choice("schedule.name", self.name, ("cosine", "step", "constant"))
        _at_least("schedule.gamma", self.gamma, above=True)
        _at_least("schedule.warmup_epochs", self.warmup_epochs)
        if self.name == "step" and not self.milestones:
            raise AbnFastError("schedule.name='step' needs schedule.milestones, for example [150, 225]")


@dataclass(frozen=True)
class LossConfig:
    """What a step's loss is made of.

    Attributes:
        attention_weight: of the attention branch's cross-entropy.
        perception_weight: of the perception branch's.
        label_smoothing: of both.
        map_weight: of `map_distance`, for images with an edited map (`abn_fast.data.EditedMaps`).
        map_area_weight: of `map_area`, which makes attention a cost.
    """

    attention_weight: float = 1.0
    perception_weight: float = 1.0
    label_smoothing: float = 0.0
    map_weight: float = 1.0
    map_area_weight: float = 0.0

    def __post_init__(self) -> None:
        _at_least("loss.attention_weight", self.attention_weight)
        _at_least("loss.perception_weight", self.perception_weight)
        checked_fraction("loss.label_smoothing", self.label_smoothing)
        _at_least("loss.map_weight", self.map_weight)
        _at_least("loss.map_area_weight", self.map_area_weight)


@dataclass(frozen=True)
class MixConfig:
    """Mixing of the images of a batch; 0 is off, and with both on a batch gets one or the other.

    Attributes:
        mixup: alpha of MixUp (Zhang et al., ICLR 2018).
        cutmix: alpha of CutMix (Yun et al., ICCV 2019).
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        _at_least("mix.mixup", self.mixup)
        _at_least("mix.cutmix", self.cutmix)


@dataclass(frozen=True)
class RandAugmentConfig:
    """RandAugment (Cubuk et al., NeurIPS 2020) after the data set's own augmentation.

    Attributes:
        operations: that a picture gets; 0 is off.
        magnitude: their strength, 0 to 30.
    """

    operations: int = 0
    magnitude: int = 9

    def __post_init__(self) -> None:
        _at_least("rand_augment.operations", self.operations)
        if not 0 <= self.magnitude <= 30:
            raise AbnFastError(f"rand_augment.magnitude={self.magnitude!r}; expected 0 to 30")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; a run keeps it in run.json.

    Attributes:
        epochs: passes over the training set.
        batch_size: images a step over all processes; the last, smaller batch of an epoch is trained on too.
        optimizer: of all parameters.
        schedule: of the learning rate.
        loss: its weights.
        mix: of the images of a batch.
        rand_augment: of every picture.
        accumulation_steps: parts in which a batch passes through the network, for less memory.
        clip_norm: largest norm of all gradients together; None does not clip.
        ema_decay: of an exponential moving average of the weights, which is then what is evaluated; None keeps none.
        freeze_batch_norm: whether batch norm keeps its running statistics, as in fine-tuning.
        synchronise_batch_norm: whether statistics are those of all processes' images; on GPUs.
        precision: "auto" is bf16 where the device computes in it, else "fp32"; "tf32" and "fp16" are for GPUs.
        compile: torch.compile's mode; "auto" is "default" on a GPU and "off" on a CPU. "reduce-overhead" and, alone and
            without accumulation, "max-autotune" record CUDA graphs.
        checkpoint_steps: steps after which the run is saved within an epoch too; 0 saves after epochs only.
        keep_every: epochs after which the model is kept in a file of its own, epoch-7.safetensors; 0 keeps none.
        seed: of weights, order, augmentation, mixing and dropout.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    rand_augment: RandAugmentConfig = field(default_factory=RandAugmentConfig)
    accumulation_steps: int = 1
    clip_norm: float | None = None
    ema_decay: float | None = None
    freeze_batch_norm: bool = False
    synchronise_batch_norm: bool = False
    precision: Precision = "auto"
    compile: Compile = "auto"
    checkpoint_steps: int = 0
    keep_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation_steps"):
            checked_whole(name, getattr(self, name))
        if self.clip_norm is not None:
            _at_least("clip_norm", self.clip_norm, above=True)
        if self.ema_decay is not None:
            checked_fraction("ema_decay", self.ema_decay)
        for name in ("checkpoint_steps", "keep_every"):
            if value := getattr(self, name):
                checked_whole(name, value)
        checked_choice("precision", self.precision, typing.get_args(Precision))
        checked_choice("compile", self.compile, typing.get_args(Compile))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        values["schedule"]["milestones"] = list(self.schedule.milestones)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """The inverse of `to_dict`; what is left out has its default.

        Raises:
            AbnFastError: a key is unknown, or a value is of the wrong type or out of its range.
        """
        config: TrainingConfig = _build(cls, values, "")
        return config


def _build(cls: Any, values: Any, where: str) -> Any:
    """A dataclass from nested tables, strict about keys and types."""
    if not isinstance(values, Mapping):
        raise AbnFastError(f"{where.rstrip('.')}={values!r}; expected a table of {_names(cls)}")
    if unknown := sorted(map(str, set(values) - {field.name for field in fields(cls)})):
        raise AbnFastError(f"unknown setting {where}{unknown[0]}; expected one of {_names(cls)}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(hints[name], value, where + name) for name, value in values.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, name + ".")
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or not all(_is(int, each) for each in value):
            raise AbnFastError(f"{name}={value!r}; expected a list of whole numbers")
        return tuple(value)
    kinds = typing.get_args(hint) if origin is types.UnionType else (hint,)
    if not any(_is(kind, value) for kind in kinds):
        kind = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kinds[0]]
        raise AbnFastError(f"{name}={value!r}; expected {kind}{' or nothing' if type(None) in kinds else ''}")
    return value


def _is(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _names(cls: Any) -> str:
    return ", ".join(field.name for field in fields(cls))


def _at_least(name: str, value: float, above: bool = False) -> None:
    if not (value > 0 if above else value >= 0) or value > sys.float_info.max:
        raise AbnFastError(f"{name}={value!r}; expected a finite number {'above' if above else 'of at least'} 0")
