import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError

_RESAMPLING = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
}


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to what the network sees, in timm's evaluation semantics; kept in checkpoints.

    The picture is resized, keeping its aspect, until it just covers floor(image_size / crop_pct); the centre
    of image_size is cut out, scaled to [0, 1] and normalised by (x - mean) / std.

    Args:
        image_size: (height, width) in pixels.
        mean: of every channel, in units of [0, 1]. Its length is the number of channels: 3 for RGB, 1 for grey.
        std: of every channel, in units of [0, 1].
        crop_pct: the share of the resized picture, along its shorter side, that the centre crop keeps.
        interpolation: nearest, box, bilinear, hamming, bicubic or lanczos.

    Raises:
        AbnFastError: a value is out of its range.
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        sizes = _numbers("image_size", self.image_size)
        if len(sizes) != 2 or any(size != int(size) or size < 1 for size in sizes):
            raise AbnFastError(f"image_size {self.image_size!r}: expected (height, width) in whole pixels")
        mean, std = _numbers("mean", self.mean), _numbers("std", self.std)
        if len(mean) != len(std):
            raise AbnFastError(f"mean has {len(mean)} channels and std {len(std)}: expected as many")
        if min(std) <= 0:
            raise AbnFastError(f"std {std}: expected numbers above 0")
        (crop_pct,) = _numbers("crop_pct", [self.crop_pct])
        if not 0 < crop_pct <= 1:
            raise AbnFastError(f"crop_pct {crop_pct}: expected a share above 0 and at most 1")
        if not isinstance(self.interpolation, str) or self.interpolation not in _RESAMPLING:
            raise AbnFastError(f"interpolation {self.interpolation!r}: expected one of {', '.join(_RESAMPLING)}")
        object.__setattr__(self, "image_size", (int(sizes[0]), int(sizes[1])))
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        object.__setattr__(self, "crop_pct", crop_pct)

    def __call__(self, image: Image.Image) -> Tensor:
        """Resize, crop and normalise a picture into float32 [C, H, W].

        Raises:
            AbnFastError: the picture's mode does not convert to this number of channels.
        """
        return self.to_tensor(self.resize(image))

    def resize(self, image: Image.Image) -> Image.Image:
        """The resized and cropped picture, before normalisation."""
        image = self.convert(image)
        resized_size, (left, top) = self._geometry(*image.size)
        height, width = self.image_size
        return image.resize(resized_size, self.resampling).crop((left, top, left + width, top + height))

    def to_tensor(self, image: Image.Image) -> Tensor:
        """Normalise a picture at the size it has, into float32 [C, H, W]."""
        pixels = torch.from_numpy(np.array(self.convert(image)))
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]  # [H, W, C]
        return self.normalize(pixels.permute(2, 0, 1).contiguous().float().div_(255))

    def convert(self, image: Image.Image) -> Image.Image:
        """The picture in this number of channels, 8 bits each; 16-bit pictures keep their upper byte.

        Raises:
            AbnFastError: it has no such form.
        """
        if self.channels not in (1, 3):
            raise AbnFastError(f"a picture has 1 or 3 channels, but this preprocessing {self.channels}")
        if image.mode == "F":
            raise AbnFastError("a floating-point picture has no agreed range: save it with 8 or 16 bits")
        if image.mode.startswith("I"):  # Pillow would clip 16 bits at 255
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        mode = "L" if self.channels == 1 else "RGB"
        try:
            return image if image.mode == mode else image.convert(mode)
        except ValueError:
            raise AbnFastError(f"a picture in mode {image.mode} has no form in {mode}: save it as RGB") from None

    def normalize(self, images: Tensor) -> Tensor:
        """(images - mean) / std, for [..., C, H, W] in [0, 1]."""
        return (images - self._channels(self.mean, images)).div_(self._channels(self.std, images))

    def denormalize(self, images: Tensor) -> Tensor:
        """The inverse of `normalize`, clamped to [0, 1] for display, for [..., C, H, W]."""
        images = images * self._channels(self.std, images) + self._channels(self.mean, images)
        return images.clamp_(0, 1)

    def crop_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The rectangle (left, top, right, bottom) of a width x height picture that the network sees.

        In the picture's own pixels; fractions arise because the crop is cut after resizing.
        """
        (resized_width, resized_height), (left, top) = self._geometry(width, height)
        across, down = width / resized_width, height / resized_height
        crop_height, crop_width = self.image_size
        return (left * across, top * down, (left + crop_width) * across, (top + crop_height) * down)

    @property
    def channels(self) -> int:
        """Number of channels the network sees."""
        return len(self.mean)

    @property
    def resampling(self) -> Image.Resampling:
        """Pillow's constant for the interpolation."""
        return _RESAMPLING[self.interpolation]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`.

        Raises:
            AbnFastError: a key is unknown or missing, or a value is out of its range.
        """
        if not isinstance(values, Mapping):
            raise AbnFastError(f"preprocessing is {values!r}: expected a table of values")
        known = [field.name for field in fields(cls)]
        if unknown := [key for key in values if key not in known]:
            raise AbnFastError(f"preprocessing has unknown keys {unknown}: expected {', '.join(known)}")
        if missing := [key for key in known[:3] if key not in values]:
            raise AbnFastError(f"preprocessing lacks {', '.join(missing)}")
        return cls(**values)

    def _geometry(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """((width, height) after resizing, (left, top) of the crop in the resized picture)."""
        covered_height, covered_width = (math.floor(size / self.crop_pct) for size in self.image_size)
        if covered_height == covered_width:  # timm rounds a square target down and others to the nearest
            shorter = min(width, height)
            resized_width = int(covered_width * width / shorter)
            resized_height = int(covered_height * height / shorter)
        else:
            ratio = min(width / covered_width, height / covered_height)
            resized_width, resized_height = round(width / ratio), round(height / ratio)
        left = round((resized_width - self.image_size[1]) / 2)
        top = round((resized_height - self.image_size[0]) / 2)
        return (resized_width, resized_height), (left, top)

    def _channels(self, values: tuple[float, ...], images: Tensor) -> Tensor:
        if images.ndim < 3 or images.shape[-3] != self.channels:
            raise AbnFastError(f"images of shape {list(images.shape)}: expected [..., {self.channels}, H, W]")
        if not images.is_floating_point():
            raise AbnFastError(f"images are {images.dtype}: expected floating point, in [0, 1]")
        return torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    numeric = isinstance(values, list | tuple) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
    if not numeric or not values:
        raise AbnFastError(f"{name} {values!r}: expected finite numbers")
    return tuple(float(value) for value in values)


CIFAR = Preprocessing((32, 32), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.875)
