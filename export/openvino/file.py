from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.checksum import sha256
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.models._tracing import first_line

WEIGHTS = ".bin"
_METADATA = ["framework", KEY]  # where OpenVINO puts the metadata of an ONNX file
_CHECKSUM = ["framework", "abn_fast_weights_sha256"]


def save_model(source: Path, metadata: Metadata, path: Path) -> None:
    """Write an ONNX file as NAME.xml and, beside it, NAME.bin."""
    openvino = require("openvino", extra="openvino", purpose="OpenVINO export")
    compress = metadata.precision == "fp16"
    model = openvino.Core().read_model(str(source))
    model.set_rt_info(metadata.to_json(), _METADATA)
    openvino.save_model(model, str(path), compress_to_fp16=compress)
    # the checksum of the weights is known only now, and they are the same whenever they are written
    model.set_rt_info(sha256(path.with_suffix(WEIGHTS)), _CHECKSUM)
    openvino.save_model(model, str(path), compress_to_fp16=compress)


def read_model(path: Path) -> tuple[Any, Metadata]:
    """An OpenVINO or ONNX file of abn_fast's, and what it says about itself.

    Raises:
        AbnFastError: damaged, not abn_fast's, or its weights are not those that it was written with.
    """
    openvino = require("openvino", extra="openvino", purpose=f"running {path.name}")
    weights = path.with_suffix(WEIGHTS)
    if path.suffix == ".xml" and not weights.is_file():
        raise AbnFastError(f"{path}: its weights {weights.name} are not beside it")
    try:
        model = openvino.Core().read_model(str(path))
    except RuntimeError as error:
        raise AbnFastError(f"{path}: truncated, damaged or no OpenVINO file: {_reason(error)}") from None
    try:
        metadata = Metadata.from_json(_text(model, _METADATA))
    except AbnFastError as error:
        raise AbnFastError(f"{path}: {error}") from None
    if path.suffix == ".xml" and _text(model, _CHECKSUM) != sha256(weights):
        raise AbnFastError(f"{path}: {weights.name} is not the file that it was written with: export it again")
    return model, metadata


def file_summary(path: Path) -> dict[str, Any]:
    """Bytes of both files, and the checksum of the .xml, which holds that of the weights."""
    size = path.stat().st_size + path.with_suffix(WEIGHTS).stat().st_size
    return {"bytes": size, "sha256": sha256(path)}


def _text(model: Any, place: list[str]) -> str | None:
    return str(model.get_rt_info(place).astype(str)) if model.has_rt_info(place) else None


def _reason(error: RuntimeError) -> str:
    """OpenVINO's messages begin with the lines of its own source that they passed."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return kept[0] if kept else first_line(error)
