from contextlib import AbstractContextManager

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


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """The context in which a model computes in that precision."""
    bfloat16 = precision == "bf16" or (precision == "auto" and computes_in_bfloat16(device))
    context: AbstractContextManager[None] = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
    return context
