from torch import Tensor

from abn_fast._errors import AbnFastError

ROUNDING = 1e-3
"""How far outside [0, 1] a value may lie before it is no longer rounding."""


def check_maps(maps: Tensor) -> None:
    """Refuse all but finite floating-point maps [N, H, W] with pixels in them."""
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        hint = "; take maps[:, 0], or upsample(maps, size)" if maps.ndim == 4 and maps.shape[1] == 1 else ""
        raise AbnFastError(f"maps have shape {list(maps.shape)}, expected [N, H, W]{hint}")
    if not maps.is_floating_point():
        raise AbnFastError(f"maps have dtype {maps.dtype}, expected floating point; use maps.float()")
    if not maps.isfinite().all():
        raise AbnFastError("maps hold NaN or infinite values, expected finite ones; look at the model's output")


def check_maps_of(images: Tensor, maps: Tensor) -> None:
    """Refuse maps that `check_maps` refuses, or that are not one for each of the images, at their size."""
    check_maps(maps)
    n, _, height, width = images.shape
    if maps.shape != (n, height, width):
        raise AbnFastError(
            f"maps have shape {list(maps.shape)}, expected {[n, height, width]} for these images; "
            f"use upsample(maps, ({height}, {width}))"
        )


def check_unit_range(values: Tensor, name: str, fix: str) -> None:
    """Refuse values outside [0, 1], NaN among them."""
    if values.numel() == 0:
        return
    low, high = (bound.item() for bound in values.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise AbnFastError(f"{name} have values in [{low:.4g}, {high:.4g}], expected [0, 1]; {fix}")


def check_images(images: Tensor) -> None:
    """Refuse all but RGB images [N, 3, H, W] in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise AbnFastError(f"images have shape {list(images.shape)}, expected RGB [N, 3, H, W]")
    if not images.is_floating_point():
        raise AbnFastError(f"images have dtype {images.dtype}, expected floating point in [0, 1]")
    check_unit_range(images, "images", "undo their normalisation: preprocessing.denormalize(images)")
