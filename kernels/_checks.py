from collections.abc import Mapping

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_images(name: str, x: Tensor) -> None:
    """Refuse what is not [N, C, H, W] with at least one channel and pixel."""
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise AbnFastError(
            f"{name} has shape {tuple(x.shape)}; expected [N, C, H, W] with at least 1 channel and pixel"
        )


def check_vector(name: str, vector: Tensor, size: int, of: str) -> None:
    """Refuse what is not one number for each of `size` things, named by `of`: "channel of x"."""
    if vector.ndim != 1 or vector.shape[0] != size:
        raise AbnFastError(f"{name} has shape {tuple(vector.shape)}; expected ({size},), a number for each {of}")


def check_same_kind(tensors: Mapping[str, Tensor]) -> None:
    """Refuse integers, and tensors on another device than the first."""
    first_name, first = next(iter(tensors.items()))
    for name, x in tensors.items():
        if x.dtype not in _DTYPES:
            raise AbnFastError(
                f"{name} of shape {tuple(x.shape)} is {x.dtype}; expected float16, bfloat16, float32 or float64: "
                f"{name}.float()"
            )
        if x.device != first.device:
            raise AbnFastError(
                f"{name} of shape {tuple(x.shape)} is on {x.device}, {first_name} of shape {tuple(first.shape)} "
                f"on {first.device}; expected one device: {name}.to({str(first.device)!r})"
            )


def second_derivative_error(op: str) -> AbnFastError:
    """What the backward of a backward raises."""
    return AbnFastError(
        f"{op} has no second derivative: differentiate once, or compute with abn_fast.kernels.reference"
    )
