from collections.abc import Sequence

from abn_fast._errors import AbnFastError
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.export.onnx.tensors import TensorInfo
from abn_fast.export.outputs import LOGITS, PROBABILITIES
from abn_fast.export.triton_server.text_format import Enum, Value, text_format

TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "int8": "TYPE_INT8",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}
LABELS = "labels.txt"
QUEUE_MICROSECONDS = 2000


def model_config(
    name: str,
    backend: str,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    metadata: Metadata,
    instances: int = 1,
) -> str:
    """A `config.pbtxt`: the server batches requests if the file's batch is free.

    Args:
        name: of the model.
        backend: "onnxruntime", which runs on GPUs if there are any, or "tensorrt".
        inputs: of the file, with the batch's dimension.
        outputs: likewise.
        metadata: of the file; preprocessing goes into the parameters, and all of it as JSON.
        instances: of the model on each GPU.

    Raises:
        AbnFastError: the server has no such dtype, or may send fewer images than the file takes.
    """
    batches = isinstance(inputs[0].shape[0], str)
    if batches and metadata.batch.low > 1:
        raise AbnFastError(f"batch {metadata.batch}: the server sends single images too: export with 1:8:64")
    batch = metadata.batch
    config: dict[str, Value] = {
        "name": name,
        "backend": backend,
        "max_batch_size": batch.high if batches else 0,
        "default_model_filename": f"model{SUFFIXES[backend]}",
        "input": [_tensor(tensor, batches) for tensor in inputs],
        "output": [_output(tensor, batches, metadata) for tensor in outputs],
        "instance_group": [{"count": instances, "kind": Enum("KIND_GPU" if backend == "tensorrt" else "KIND_AUTO")}],
    }
    if batches:
        config["dynamic_batching"] = {
            "preferred_batch_size": sorted({batch.best, batch.high}),
            "max_queue_delay_microseconds": QUEUE_MICROSECONDS,
        }
    config["parameters"] = [
        {"key": key, "value": {"string_value": value}} for key, value in _parameters(metadata).items()
    ]
    return text_format(config) + "\n"


SUFFIXES = {"onnxruntime": ".onnx", "tensorrt": ".plan"}
"""Of the files that the server's backends read."""


def _tensor(tensor: TensorInfo, batches: bool) -> dict[str, Value]:
    if tensor.dtype not in TYPES:
        raise AbnFastError(f"{tensor}: the server has no such dtype; it has {', '.join(TYPES)}")
    shape = tensor.shape[1:] if batches else tensor.shape
    return {
        "name": tensor.name,
        "data_type": Enum(TYPES[tensor.dtype]),
        "dims": [-1 if isinstance(side, str) else side for side in shape],
    }


def _output(tensor: TensorInfo, batches: bool, metadata: Metadata) -> dict[str, Value]:
    config = _tensor(tensor, batches)
    if metadata.classes and tensor.name in (LOGITS, PROBABILITIES) and len(tensor.shape) == 2:
        config["label_filename"] = LABELS
    return config


def _parameters(metadata: Metadata) -> dict[str, str]:
    parameters = {KEY: metadata.to_json()}
    if (pictures := metadata.preprocessing) is not None:
        height, width = pictures.image_size
        parameters |= {
            "preprocessing": "resize, keeping the aspect, until the picture covers image_size / crop_pct; cut out the "
            "centre; (pixel / 255 - mean) / std; channels first",
            "channels": "RGB" if pictures.channels == 3 else "grey",
            "image_size": f"{height}x{width}",
            "crop_pct": repr(pictures.crop_pct),
            "interpolation": pictures.interpolation,
            "mean": ",".join(map(repr, pictures.mean)),
            "std": ",".join(map(repr, pictures.std)),
        }
    return parameters
