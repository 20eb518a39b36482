from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels._checks import check_images, check_same_kind


def check_batch(x: Tensor) -> None:
    """Refuse what has no variance: wrong ranks, integers, fewer than 2 values a channel."""
    check_images("x", x)
    check_same_kind({"x": x})
    if x.numel() < 2 * x.shape[1]:
        raise AbnFastError(
            f"x has shape {tuple(x.shape)}; expected at least 2 values a channel: more images or pixels, "
            "or evaluation with running statistics"
        )
