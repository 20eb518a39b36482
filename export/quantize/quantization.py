from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.export.quantize.kept_float import KEPT_FLOAT

Kind = Literal["cpu", "tensorrt"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Quantization:
    """How a network becomes int8 or fp8.

    Raises:
        AbnFastError: an unknown kind or part.
    """

    calibration: Path
    """Folder of images from which the ranges of activations are taken."""
    kind: Kind = "cpu"
    """cpu: unsigned activations, signed weights (what VNNI multiplies); tensorrt: both signed and symmetric."""
    keep_float: tuple[str, ...] = ()
    """Parts that stay float32: first, last, map."""

    def __post_init__(self) -> None:
        checked_choice("quantize_for", self.kind, KINDS)
        for part in self.keep_float:
            checked_choice("keep_float", part, KEPT_FLOAT)


def check_kind(precision: str, kind: Kind) -> None:
    """Refuse fp8 for CPUs.

    Raises:
        AbnFastError: that.
    """
    if precision == "fp8" and kind == "cpu":
        raise AbnFastError(
            "precision='fp8' is of GPUs from sm_89 on: take int8 for CPUs, --format tensorrt or tensorrt-rtx for an "
            "engine, or --quantize-for tensorrt for the ONNX file of one"
        )


def make_quantization(
    calibration: Path | None, kind: str | None, keep_float: tuple[str, ...], format_name: str
) -> Quantization | None:
    """What was asked for, by default of the kind that a file format runs on; None if nothing was.

    Raises:
        AbnFastError: an unknown kind or part, or no folder to calibrate on.
    """
    if calibration is None:
        given = {"quantize_for": kind, "keep_float": ",".join(keep_float)}
        for name, value in given.items():
            if value:
                raise AbnFastError(f"{name}={value!r} is of int8: give a folder to calibrate on (--calibration FOLDER)")
        return None
    default: Kind = "tensorrt" if format_name.startswith("tensorrt") else "cpu"
    return Quantization(calibration, default if kind is None else cast(Kind, kind), keep_float)
