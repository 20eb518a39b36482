"""The addresses that a program of a launch asks for, when no machine has that much memory."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from triton.runtime import interpreter

_START, _ROOM = 2**60, 2**50


def largest_elements(
    kernel: Any, programs: Sequence[int], arguments: dict[str, torch.dtype | Any], **constants: Any
) -> dict[str, int]:
    """The largest element of each tensor that those programs ask for; nothing is read or written, reads are 0.

    An argument that is a dtype stands for a tensor. An address outside of every tensor fails.
    """
    tensors = {name: torch.zeros(1, dtype=dtype) for name, dtype in arguments.items() if isinstance(dtype, torch.dtype)}
    largest: dict[str, int] = {}

    def see(pointers: Any, mask: Any) -> None:
        addresses = pointers.data[mask.data.astype(bool)] - _START
        for index in np.unique(addresses // _ROOM):
            name, inside = list(tensors)[index], addresses[addresses // _ROOM == index] - index * _ROOM
            assert inside.max() < _ROOM // 2, name
            largest[name] = max(largest.get(name, 0), int(inside.max()) // tensors[name].element_size())

    def load(this: Any, pointers: Any, mask: Any, other: Any, *rest: Any) -> Any:
        see(pointers, mask)
        dtype = pointers.get_element_ty()
        return interpreter.TensorHandle(np.zeros(pointers.data.shape, interpreter._get_np_dtype(dtype)), dtype)

    def store(this: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> None:
        see(pointers, mask)

    given = [tensors.get(name, value) for name, value in arguments.items()]
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    for program in programs:
        assert program < 2**31
        with (
            patch.object(builder, "create_masked_load", load),
            patch.object(builder, "create_masked_store", store),
            patch.object(builder, "create_get_program_id", partial(_program_id, program)),
            patch.object(executor, "_init_args_hst", lambda this, arguments, constants: (arguments, constants)),
            patch.object(executor, "_restore_args_dev", lambda *_: None),
        ):
            for place, tensor in enumerate(tensors.values()):
                _move(tensor, _START + place * _ROOM)
            kernel[(1,)](*given, **constants)
    return largest


def _program_id(program: int, *_: Any) -> Any:
    import triton.language as tl

    return interpreter.TensorHandle(np.array([program], np.int32), tl.int32)


def _move(tensor: Tensor, address: int) -> None:
    tensor.data_ptr = partial(int, address)  # type: ignore[method-assign]
