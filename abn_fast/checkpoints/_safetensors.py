import struct
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from abn_fast._errors import AbnFastError

_KEY = "abn_fast"


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors do: the header's length in 8 bytes, then its opening brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < 2**32


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], header: str) -> None:
    """Write tensors (any strides, any device) and one header text.

    Raises:
        OSError: the file cannot be written.
    """
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        save_file(contiguous, path, metadata={_KEY: header})
    except SafetensorError as error:
        raise OSError(str(error)) from None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors and the header text, if there is one."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return {key: file.get_tensor(key) for key in file.keys()}, metadata.get(_KEY)  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise AbnFastError(f"the file is truncated or damaged ({error})") from None
