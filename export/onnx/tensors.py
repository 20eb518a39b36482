from pathlib import Path
from typing import NamedTuple

import numpy as np

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.export.metadata import KEY, Metadata


class TensorInfo(NamedTuple):
    """A tensor that goes into a file's network or comes out of it."""

    name: str
    dtype: str
    """NumPy's name of it."""
    shape: tuple[int | str, ...]
    """Sizes; a name where it is free."""

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join(map(str, self.shape))}]"


class OnnxContents(NamedTuple):
    """What an ONNX file states, read without running it."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: Metadata


def onnx_contents(path: Path) -> OnnxContents:
    """The tensors and metadata of an ONNX file.

    Raises:
        AbnFastError: no such file, truncated, or not abn_fast's.
    """
    onnx = require("onnx", extra="export", purpose=f"reading {path.name}")
    if not path.is_file():
        raise AbnFastError(f"{path}: no such file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf's DecodeError has moved between versions
        raise AbnFastError(f"{path}: truncated, damaged or no ONNX file") from None
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        metadata = Metadata.from_json(properties.get(KEY))
    except AbnFastError as error:
        raise AbnFastError(f"{path}: {error}") from None

    def info(value: "onnx.ValueInfoProto") -> TensorInfo:  # type: ignore[name-defined]  # imported above
        tensor = value.type.tensor_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
        shape = (dim.dim_value or dim.dim_param or "?" for dim in tensor.shape.dim)
        return TensorInfo(value.name, dtype, tuple(shape))

    try:
        contents = OnnxContents(tuple(map(info, model.graph.input)), tuple(map(info, model.graph.output)), metadata)
    except (KeyError, TypeError) as error:  # an element type that there is not
        raise AbnFastError(f"{path}: damaged: an input or output has no known type ({error!r})") from None
    if not contents.inputs:
        raise AbnFastError(f"{path}: damaged: its network has no input")
    return contents
