from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

_WITHOUT_TRAFFIC = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense"}
_WITHOUT_READS = {"fill_", "zero_", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}


class TorchTraffic(TorchDispatchMode):
    """Bytes that torch ops read and write, each operand once, by the name of the op.

    It looks into the ops of this project. Views and uninitialised memory move nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[str, int] = {}
        self.largest = 0
        """Elements of the largest tensor."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op.namespace == "abn_fast":
            with self:
                return OPDEFS[op._schema.name]._init_fn(*args, **kwargs)
        returned = op(*args, **kwargs)
        moved = _moved(op, args, kwargs, returned)
        if moved:
            name = op.name()
            self.bytes[name] = self.bytes.get(name, 0) + moved
            tensors = _tensors([*args, *kwargs.values(), returned])
            self.largest = max([self.largest, *(x.numel() for x in tensors)])
        return returned


def _moved(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any], returned: Any) -> int:
    name, parameters = op._opname, op._schema.arguments
    if name in _WITHOUT_TRAFFIC:
        return 0
    given = {**dict(zip((parameter.name for parameter in parameters), args, strict=False)), **kwargs}
    changed = {parameter.name for parameter in parameters if parameter.is_write}
    written = _tensors([value for key, value in given.items() if key in changed])
    if not written:
        storages = {x.untyped_storage()._cdata for x in _tensors(list(given.values()))}
        written = [x for x in _tensors(returned) if x.untyped_storage()._cdata not in storages]
        if not written:  # a view
            return 0
    overwritten = changed if name == "copy_" else set(given) if name in _WITHOUT_READS else set()
    read = _tensors([value for key, value in given.items() if key not in overwritten])
    return sum(_bytes_in_memory(x) for x in [*read, *written])


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [x for each in value for x in _tensors(each)] if isinstance(value, (list, tuple)) else []


def _bytes_in_memory(x: Tensor) -> int:
    """Of an expanded tensor, those that it has before."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride or not size else 1
    return count
