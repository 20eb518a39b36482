from types import TracebackType
from typing import Any

import numpy as np
from triton.runtime import interpreter

SECTOR = 32


class Traffic:
    """Bytes that the loads and stores of interpreted kernels ask for, and the 32-byte sectors that each touches.

    Counts inside `with Traffic() as traffic:`.
    """

    def __init__(self) -> None:
        self.bytes = self.sector_bytes = 0

    def __enter__(self) -> "Traffic":
        builder = interpreter.InterpreterBuilder
        self._load, self._store = builder.create_masked_load, builder.create_masked_store

        def load(this: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
            self._count(pointers, mask)
            return self._load(this, pointers, mask, *rest)

        def store(this: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            self._count(pointers, mask)
            return self._store(this, pointers, value, mask, *rest)

        builder.create_masked_load, builder.create_masked_store = load, store
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        builder = interpreter.InterpreterBuilder
        builder.create_masked_load, builder.create_masked_store = self._load, self._store

    @property
    def sector_use(self) -> float:
        """Bytes requested over the bytes of the sectors touched."""
        return self.bytes / self.sector_bytes

    def _count(self, pointers: Any, mask: Any) -> None:
        addresses = pointers.data[mask.data.astype(bool)]
        self.bytes += addresses.size * pointers.get_element_ty().primitive_bitwidth // 8
        self.sector_bytes += SECTOR * len(np.unique(addresses // SECTOR))
