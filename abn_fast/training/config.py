from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from abn_fast._checks import checked_choice, checked_fraction, checked_whole
from abn_fast._errors import AbnFastError

OptimizerName = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "step", "constant"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; a run keeps it in run.json.

    Attributes:
        epochs: passes over the training set.
        batch_size: images a step; the last, smaller batch of an epoch is trained on too.
        optimizer: "sgd", as in the paper, or "adamw".
        learning_rate: highest learning rate.
        momentum: of SGD.
        nesterov: whether SGD's momentum is Nesterov's.
        weight_decay: of every parameter, as in the paper.
        schedule: "cosine" to 0, "step" by `gamma` at `milestones`, or "constant".
        milestones: epochs at which "step" multiplies the learning rate by `gamma`.
        gamma: that factor.
        warmup_epochs: over which the learning rate rises linearly from 0.
        attention_weight: weight of the attention branch's cross-entropy.
        perception_weight: weight of the perception branch's cross-entropy.
        label_smoothing: of both.
        precision: "auto" is bf16 autocast where the device computes in it, else "fp32".
        seed: of weights, order, augmentation and dropout.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    attention_weight: float = 1.0
    perception_weight: float = 1.0
    label_smoothing: float = 0.0
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        checked_whole("epochs", self.epochs)
        checked_whole("batch_size", self.batch_size)
        checked_choice("optimizer", self.optimizer, ("sgd", "adamw"))
        checked_choice("schedule", self.schedule, ("cosine", "step", "constant"))
        checked_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        for name in ("learning_rate", "gamma"):
            if not getattr(self, name) > 0:
                raise AbnFastError(f"{name}={getattr(self, name)!r}; expected a number above 0")
        for name in ("momentum", "weight_decay", "warmup_epochs", "attention_weight", "perception_weight"):
            if not getattr(self, name) >= 0:
                raise AbnFastError(f"{name}={getattr(self, name)!r}; expected a number of at least 0")
        checked_fraction("label_smoothing", self.label_smoothing)
        if self.nesterov and not self.momentum:
            raise AbnFastError("nesterov=True needs a momentum above 0")
        if self.schedule == "step" and not self.milestones:
            raise AbnFastError("schedule='step' needs milestones, for example (150, 225)")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """The inverse of `to_dict`.

        Raises:
            AbnFastError: a key is unknown or a value is out of its range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise AbnFastError(f"unknown training settings {unknown}; expected {', '.join(known)}")
        return cls(**{**values, "milestones": tuple(values.get("milestones", ()))})
