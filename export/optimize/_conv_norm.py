import copy
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from abn_fast.models._meta import IMAGE_SIZES, image_channels, meta_copy, meta_tensor


class ConvNorm(NamedTuple):
    """Names of a convolution and of the batch norm that alone reads its output."""

    convolution: str
    norm: str


def conv_norm_pairs(model: nn.Module) -> list[ConvNorm]:
    """The convolutions of a network for images directly followed by a batch norm, from a run without storage.

    What is followed are tensors, not the names or order of modules, so that any code between them shows.
    """
    probe = meta_copy(model).eval()
    recorder = _Recorder(probe)
    with recorder:
        probe(meta_tensor((2, image_channels(probe), *IMAGE_SIZES[0]), probe))
    return recorder.pairs()


def fold_norm(convolution: nn.Conv2d, norm: _BatchNorm) -> nn.Conv2d:
    """The convolution with the norm after it in its weights and bias, computed in float64."""
    folded = copy.deepcopy(convolution)
    weight, bias = convolution.weight, convolution.bias
    assert norm.running_mean is not None
    assert norm.running_var is not None
    exact_bias, scale, shift = (None if x is None else x.double() for x in (bias, norm.weight, norm.bias))
    mean, var = norm.running_mean.double(), norm.running_var.double()
    new_weight, new_bias = fuse_conv_bn_weights(weight.double(), exact_bias, mean, var, norm.eps, scale, shift)
    folded.weight = nn.Parameter(new_weight.to(weight.dtype), requires_grad=False)
    folded.bias = nn.Parameter(new_bias.to(weight.dtype), requires_grad=False)
    return folded


class _Recorder(TorchFunctionMode):
    """Which batch norm reads which convolution's output, by the identity of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        modules = list(model.named_modules())
        self.convolutions = {id(m.weight): name for name, m in modules if isinstance(m, nn.Conv2d)}
        self.norms = {id(m.running_mean): name for name, m in modules if remainder(m) is not None}
        self.calls: Counter[str] = Counter()
        self.readers: dict[int, list[str]] = {}
        self.made: list[tuple[str, Tensor]] = []  # holds each output, so that its identity stays its own

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        norm = self.norms.get(_identity(args, 1), "") if function is F.batch_norm else ""
        if norm:
            self.calls[norm] += 1
        if _tensors(result):  # others only ask for a shape
            for tensor in _tensors([args, list(kwargs.values())]):
                if id(tensor) in self.readers:
                    self.readers[id(tensor)].append(norm)
        if function is F.conv2d and (name := self.convolutions.get(_identity(args, 1))):
            self.calls[name] += 1
            self.made.append((name, result))
            self.readers[id(result)] = []
        return result

    def pairs(self) -> list[ConvNorm]:
        readers: dict[str, list[str]] = {}
        for name, output in self.made:
            readers.setdefault(name, []).extend(self.readers[id(output)])
        return [
            ConvNorm(name, norms[0])
            for name, norms in readers.items()
            if len(set(norms)) == 1 and norms[0] and len(norms) == self.calls[name] == self.calls[norms[0]]
        ]


def remainder(norm: nn.Module) -> nn.Module | None:
    """What a batch norm does after it has normalised with running statistics; None if it is not one or does not."""
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return None
    if type(norm).__name__ in ("BatchNormAct2d", "SyncBatchNormAct"):  # of timm
        return nn.Sequential(*(cast(nn.Module, getattr(norm, part)) for part in ("drop", "act")))
    return nn.Identity() if type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm) else None


def _identity(args: tuple[Any, ...], index: int) -> int:
    return id(args[index]) if len(args) > index else 0


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [x for each in value for x in _tensors(each)] if isinstance(value, list | tuple) else []
