from contextlib import AbstractContextManager, nullcontext

import torch

from abn_fast._errors import AbnFastError
from abn_fast.training.config import Precision


def choose_device(name: str | None = None) -> torch.device:
    """The device of that name, or the first GPU, or the CPU.

    Raises:
        AbnFastError: no such device is there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise AbnFastError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: a GPU's tensor cores or a CPU's matrix unit (AMX).

    A CPU with AVX-512 bfloat16 products alone trains slower in it (`pytest bench/test_training.py`).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return False


def chosen_precision(device: torch.device, precision: Precision) -> Precision:
    """The precision itself, or for "auto" what pays on the device.

    Raises:
        AbnFastError: the device has no such precision.
    """
    if precision == "auto":
        return "bf16" if computes_in_bfloat16(device) else "fp32"
    if precision in ("tf32", "fp16") and device.type != "cuda":
        raise AbnFastError(f"precision={precision!r} is for GPUs, not {device.type}: expected auto, fp32 or bf16")
    return precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """The context in which a model computes in that precision."""
    chosen = chosen_precision(device, precision)
    if chosen in ("bf16", "fp16"):
        dtype = torch.bfloat16 if chosen == "bf16" else torch.float16
        context: AbstractContextManager[None] = torch.autocast(device.type, dtype)
        return context
    return nullcontext()


def set_float32_products(precision: Precision) -> None:
    """Let float32 products round to TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
