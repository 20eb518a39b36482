import shlex
from pathlib import Path

from abn_fast.export.onnx.tensors import TensorInfo
from abn_fast.export.ranges import BatchRange, SizeRange


def trtexec_command(path: Path, images: TensorInfo, batch: BatchRange, size: SizeRange) -> str:
    """The shell command that makes an ONNX file a TensorRT engine for the GPU of the machine where it runs.

    Args:
        path: of the file.
        images: its input, [N, C, H, W].
        batch: that it takes.
        size: likewise.
    """
    words = [f"--onnx={path}", f"--saveEngine={path.with_suffix('.plan')}"]
    if any(isinstance(side, str) for side in images.shape):  # static shapes may not be given again
        for option, count, (height, width) in (
            ("min", batch.low, size.low),
            ("opt", batch.best, size.best),
            ("max", batch.high, size.high),
        ):
            words.append(f"--{option}Shapes={images.name}:{count}x{images.shape[1]}x{height}x{width}")
    return " ".join(["trtexec", *map(shlex.quote, words)])
