from pathlib import Path

from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx.tensors import onnx_contents
from abn_fast.export.onnx.trtexec import trtexec_command
from abn_fast.export.ranges import size_text
from abn_fast.export.runtimes import open_runner
from abn_fast.export.tensorrt.accept import read_engine
from abn_fast.export.tensorrt.sidecar import sidecar_path


def file_metadata(path: Path) -> Metadata:
    """What a file says about itself; neither an ONNX file nor an engine is run for it.

    Raises:
        AbnFastError: no such file, damaged, or not abn_fast's.
    """
    if path.suffix == ".onnx":
        return onnx_contents(path).metadata
    if sidecar_path(path).is_file():
        return read_engine(path)[0].metadata
    return open_runner(path).metadata


def description(path: Path) -> str:
    """The same for people; of an ONNX file also its tensors and the command that makes it a TensorRT engine.

    Raises:
        AbnFastError: no such file, damaged, or not abn_fast's.
    """
    contents = onnx_contents(path) if path.suffix == ".onnx" else None
    metadata = contents.metadata if contents else file_metadata(path)
    rows = {"model": metadata.model or "made from a module", "precision": metadata.precision}
    if contents:
        rows["input"] = "; ".join(map(str, contents.inputs))
        rows["outputs"] = "; ".join(map(str, contents.outputs))
    else:
        rows["outputs"] = ", ".join(metadata.outputs)
    rows |= {"batch": str(metadata.batch), "size": str(metadata.size)}
    rows["classes"] = str(metadata.num_classes) + (f": {', '.join(metadata.classes)}" if metadata.classes else "")
    if (pictures := metadata.preprocessing) is not None:
        share = "" if pictures.crop_pct == 1 else f" / {pictures.crop_pct:g}"
        rows["pictures"] = (
            f"{'RGB' if pictures.channels == 3 else 'grey'}, resized ({pictures.interpolation}) until they cover "
            f"{size_text(pictures.image_size)}{share}, centre {size_text(pictures.image_size)} cut out"
        )
        rows["values"] = f"(pixel / 255 - mean) / std, mean {list(pictures.mean)}, std {list(pictures.std)}"
    rows["written by"] = ", ".join(f"{name} {version}" for name, version in metadata.versions.items()) or "-"
    if contents:
        rows["TensorRT"] = trtexec_command(path, contents.inputs[0], metadata.batch, metadata.size, contents.inputs[1:])
    return "\n".join([str(path), *(f"  {name:<11}{value}" for name, value in rows.items())])
