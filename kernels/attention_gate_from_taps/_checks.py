from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels._checks import check_images, check_same_kind, check_vector


def check(features: Tensor, taps: Tensor, scale: Tensor, shift: Tensor) -> None:
    """Refuse taps that cannot gate features, and a scale and a shift that are not one number."""
    check_images("features", features)
    batch, _, height, width = features.shape
    if taps.ndim != 4 or taps.shape[::2] != (batch, height) or taps.shape[3] != width:
        raise AbnFastError(
            f"taps have shape {tuple(taps.shape)}; expected ({batch}, 9 P, {height}, {width}) "
            f"for features of shape {tuple(features.shape)}"
        )
    if taps.shape[1] == 0 or taps.shape[1] % 9 != 0:
        raise AbnFastError(f"taps have shape {tuple(taps.shape)}; expected [N, 9 P, H, W]: nine for each part")
    check_vector("scale", scale, 1, "map")
    check_vector("shift", shift, 1, "map")
    check_same_kind({"features": features, "taps": taps, "scale": scale, "shift": shift})
