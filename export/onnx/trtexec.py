import shlex
from collections.abc import Sequence
from pathlib import Path

from abn_fast.export.onnx.tensors import TensorInfo
from abn_fast.export.ranges import BatchRange, SizeRange


def trtexec_command(
    path: Path, images: TensorInfo, batch: BatchRange, size: SizeRange, more: Sequence[TensorInfo] = ()
) -> str:
    """The shell command that makes an ONNX file a TensorRT engine for the GPU of the machine where it runs.

    Args:
        path: of the file.
        images: its input, [N, C, H, W].
        batch: that it takes.
        size: likewise.
        more: its other inputs, of which the batch alone may vary.
    """
    words = [f"--onnx={path}", f"--saveEngine={path.with_suffix('.plan')}"]
    if any(isinstance(side, str) for side in images.shape):  # static shapes may not be given again
        for option, count, (height, width) in (
            ("min", batch.low, size.low),
            ("opt", batch.best, size.best),
            ("max", batch.high, size.high),
        ):
            shapes = [f"{images.name}:{count}x{images.shape[1]}x{height}x{width}"]
            shapes += [f"{each.name}:{'x'.join(map(str, (count, *each.shape[1:])))}" for each in more]
            words.append(f"--{option}Shapes={','.join(shapes)}")
    return " ".join(["trtexec", *map(shlex.quote, words)])
