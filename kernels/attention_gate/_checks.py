from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels._checks import check_same_kind


def check_maps(features: Tensor, name: str, maps: Tensor) -> None:
    """Refuse maps [N, T, H, W] that cannot gate features [N, C, H, W]."""
    if features.ndim != 4 or maps.ndim != 4:
        raise AbnFastError(
            f"features have shape {tuple(features.shape)} and {name} {tuple(maps.shape)}; "
            "expected [N, C, H, W] and [N, T, H, W]"
        )
    batch, _, height, width = features.shape
    if maps.shape[0] != batch or maps.shape[2] != height or maps.shape[3] != width:
        raise AbnFastError(
            f"{name} has shape {tuple(maps.shape)}; expected ({batch}, T, {height}, {width}) "
            f"for features of shape {tuple(features.shape)}"
        )
    if 0 in (features.shape[1], maps.shape[1], height, width):
        raise AbnFastError(
            f"features have shape {tuple(features.shape)} and {name} {tuple(maps.shape)}; "
            "expected at least 1 channel, map and pixel"
        )
    check_same_kind({"features": features, name: maps})


def check_vectors(features: Tensor, score: Tensor, scale: Tensor, shift: Tensor) -> None:
    """Refuse a scale and a shift that are not one number for each map."""
    if scale.ndim != 1 or shift.ndim != 1 or scale.shape[0] != score.shape[1] or shift.shape[0] != score.shape[1]:
        raise AbnFastError(
            f"scale has shape {tuple(scale.shape)} and shift {tuple(shift.shape)}; expected ({score.shape[1]},), "
            f"a number for each map of a score of shape {tuple(score.shape)}"
        )
    check_same_kind({"features": features, "scale": scale, "shift": shift})
