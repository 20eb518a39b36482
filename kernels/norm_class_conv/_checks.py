from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels._checks import check_images, check_same_kind, check_vector
from abn_fast.kernels.reference import Statistics


def check_layer(stage_output: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> None:
    """Refuse a stage output [N, C', H, W] that a norm and a class_conv do not fit."""
    check_images("stage_output", stage_output)
    channels = stage_output.shape[1]
    if weight.ndim != 4 or weight.shape[1] != channels or weight.shape[0] == 0 or weight.shape[2:] != (1, 1):
        raise AbnFastError(
            f"weight has shape {tuple(weight.shape)}; expected (K, {channels}, 1, 1) "
            f"for a stage_output of shape {tuple(stage_output.shape)}"
        )
    for name, vector in (("norm_weight", norm_weight), ("norm_bias", norm_bias)):
        check_vector(name, vector, channels, "channel of stage_output")
    check_same_kind(
        {"stage_output": stage_output, "weight": weight, "norm_weight": norm_weight, "norm_bias": norm_bias}
    )


def check_statistics(stage_output: Tensor, statistics: Statistics) -> None:
    """Refuse statistics that are not a number for each channel."""
    mean, var = statistics
    for name, vector in (("mean", mean), ("var", var)):
        check_vector(name, vector, stage_output.shape[1], "channel of stage_output")
    check_same_kind({"stage_output": stage_output, "mean": mean, "var": var})
