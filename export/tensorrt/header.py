import struct
from typing import NamedTuple

from abn_fast._errors import AbnFastError

LENGTH = 64
MAGIC = b"vtrt"
BITS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
"""Compute capabilities from the lowest bit on."""


class EngineHeader(NamedTuple):
    """The first 64 bytes of a TensorRT-RTX engine."""

    size: int
    """Of the whole file, bytes."""
    version: str
    """Of TensorRT-RTX, which has to be the same to run the engine."""
    targets: tuple[str, ...]

    @classmethod
    def read(cls, start: bytes) -> "EngineHeader":
        """Take a header apart.

        Raises:
            AbnFastError: it is none.
        """
        if len(start) < LENGTH or not start.startswith(MAGIC):
            raise AbnFastError("no engine of TensorRT-RTX, or cut within its first 64 bytes")
        (size,) = struct.unpack_from("<Q", start, 16)
        (bits,) = struct.unpack_from("<I", start, 32)
        version = ".".join(str(part) for part in start[24:28])
        return cls(size, version, tuple(target for place, target in enumerate(BITS) if bits >> place & 1))
