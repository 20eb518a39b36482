from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels._checks import check_images, check_same_kind, check_vector
from abn_fast.kernels.reference import compute_dtype


def check(stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None = None) -> None:
    """Refuse what is not a 1x1 convolution of the stage output and a 3x3 one of its classes."""
    check_images("stage_output", stage_output)
    channels = stage_output.shape[1]
    if weight.ndim != 4 or weight.shape[1:] != (channels, 1, 1) or weight.shape[0] == 0:
        raise AbnFastError(
            f"weight has shape {tuple(weight.shape)}; expected (K, {channels}, 1, 1) "
            f"for a stage output of shape {tuple(stage_output.shape)}"
        )
    classes = weight.shape[0]
    check_vector("bias", bias, classes, "class")
    tensors = {"stage_output": stage_output, "weight": weight, "bias": bias}
    if map_weight is not None:
        if map_weight.shape != (1, classes, 3, 3):
            raise AbnFastError(f"map_weight has shape {tuple(map_weight.shape)}; expected (1, {classes}, 3, 3)")
        tensors["map_weight"] = map_weight
    check_same_kind(tensors)
    if not weight.dtype == bias.dtype == stage_output.dtype and compute_dtype(stage_output) == stage_output.dtype:
        raise AbnFastError(
            f"weight of shape {tuple(weight.shape)} is {weight.dtype} and bias {bias.dtype}, stage_output of shape "
            f"{tuple(stage_output.shape)} is {stage_output.dtype}; expected one dtype"
        )
