from pathlib import Path

import torch

from abn_fast.data import Preprocessing
from abn_fast.export import BatchRange, SizeRange
from abn_fast.export.describe import describe
from abn_fast.export.onnx.program import DTYPES, write_program
from abn_fast.export.served import served_network
from abn_fast.modules import ImageNetwork


def write_onnx(model: ImageNetwork, file: Path, preprocessing: Preprocessing, precision: str = "fp32") -> None:
    """The network as `export_onnx` writes it, for any batch of images of one size, without its proof."""
    dtype: torch.dtype = DTYPES[precision]
    served = served_network(model, dtype=dtype)
    size = SizeRange.fixed(preprocessing.image_size)
    metadata = describe(
        model, outputs=served.outputs, precision=precision, batch=BatchRange(), size=size, preprocessing=preprocessing
    )
    write_program(served, metadata, file)
