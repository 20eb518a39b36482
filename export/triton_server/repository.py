import os
import re
import shutil
from pathlib import Path

from abn_fast._errors import AbnFastError
from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx.tensors import OnnxContents, onnx_contents
from abn_fast.export.tensorrt.accept import read_engine
from abn_fast.export.tensorrt.sidecar import onnx_path
from abn_fast.export.triton_server.model_config import LABELS, SUFFIXES, model_config


def server_backend(path: Path) -> str:
    """The server's backend that reads such a file.

    Raises:
        AbnFastError: it has none.
    """
    for backend, suffix in SUFFIXES.items():
        if suffix == path.suffix:
            return backend
    raise AbnFastError(f"{path}: the Triton Inference Server reads {' and '.join(SUFFIXES.values())} files")


def write_model_repository(
    file: str | Path, folder: str | Path, *, name: str | None = None, instances: int = 1
) -> Path:
    """Put an exported file into a model repository of the NVIDIA Triton Inference Server.

    The folder gets NAME/config.pbtxt, NAME/1/model.onnx (or model.plan) and, with class names, NAME/labels.txt. NAME
    appears whole or not at all; a NAME that was there before is replaced.

    Args:
        file: an ONNX file, or a TensorRT engine (.plan) beside the ONNX file that it was built from.
        folder: of the repository.
        name: of the model; by default the registry's.
        instances: of the model on each GPU.

    Returns:
        The folder NAME.

    Raises:
        AbnFastError: the server reads no such file, it is damaged or not abn_fast's, or NAME is no model's folder.
    """
    path = Path(file)
    backend = server_backend(path)
    if instances < 1:
        raise AbnFastError(f"instances={instances}; expected at least 1")
    contents = _contents(path)
    name = _checked_name(name) if name else _name(contents.metadata, path)
    config = model_config(name, backend, contents.inputs, contents.outputs, contents.metadata, instances)
    model = Path(folder) / name
    if model.exists() and not (model / "config.pbtxt").is_file():
        raise AbnFastError(f"{model} is there already and is no model's folder: give another name or folder")
    temporary = model.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        (temporary / "1").mkdir(parents=True)
        shutil.copyfile(path, temporary / "1" / f"model{path.suffix}")
        (temporary / "config.pbtxt").write_text(config, encoding="utf-8")
        if contents.metadata.classes:
            labels = "".join(f"{' '.join(label.split())}\n" for label in contents.metadata.classes)
            (temporary / LABELS).write_text(labels, encoding="utf-8")
        _replace(temporary, model)
    except OSError as error:
        raise AbnFastError(f"{model} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return model


def _contents(path: Path) -> OnnxContents:
    if path.suffix == ".onnx":
        return onnx_contents(path)
    if not path.is_file():
        raise AbnFastError(f"{path}: no such file")
    if onnx_path(path).is_file():
        return onnx_contents(onnx_path(path))._replace(metadata=read_engine(path)[0].metadata)
    source = path.with_suffix(".onnx")  # where trtexec was told to write the engine
    if not source.is_file():
        raise AbnFastError(f"{path}: the ONNX file that it was built from is not beside it, as {source.name}")
    return onnx_contents(source)


def _name(metadata: Metadata, path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", metadata.model or path.stem)


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise AbnFastError(f"name={name!r}; expected letters, digits and _ . -")
    return name


def _replace(new: Path, place: Path) -> None:
    """Put a folder in the place of another, which comes back if that fails."""
    if not place.exists():
        new.rename(place)
        return
    old = place.with_name(f"{new.name}.old")
    place.rename(old)
    try:
        new.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old)
