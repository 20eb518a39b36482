import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Size, Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.models._tracing import first_line

IMAGE_SIZES = ((224, 224), (288, 320))
"""Two that differ in height and width, so that a map's axes show by following them."""

Module = TypeVar("Module", bound=nn.Module)


def meta_copy(module: Module) -> Module:
    """A copy without storage, which computes shapes only."""
    copies: dict[int, object] = {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    for parameter in module.parameters():
        copies[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    return copy.deepcopy(module, copies)


def meta_tensor(shape: tuple[int, ...], module: nn.Module) -> Tensor:
    """An input of this shape without storage, in the module's dtype."""
    return torch.empty(shape, dtype=module_dtype(module), device="meta")


def module_dtype(module: nn.Module) -> torch.dtype:
    """The dtype of the module's weights."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype())


def image_channels(model: nn.Module) -> int:
    """Channels of the images that a classifier takes."""
    convolutions = (module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    return int(getattr(model, "in_chans", None) or next(convolutions, 3))


def output_shapes(model: nn.Module, in_chans: int) -> list[dict[str, Size]]:
    """For each of IMAGE_SIZES, the shape of what each module returns, in the order in which the modules finish.

    Modules that return anything but one tensor are left out.

    Raises:
        AbnFastError: the model does not take images of such a size.
    """
    model = meta_copy(model).eval()
    shapes: dict[str, Size] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(_recorder(name, shapes))
    runs = []
    for height, width in IMAGE_SIZES:
        shapes.clear()
        try:
            with torch.no_grad():
                model(meta_tensor((2, in_chans, height, width), model))
        except Exception as error:  # whatever the model's own code raises
            raise AbnFastError(f"it does not take images of {height}x{width} pixels: {first_line(error)}") from error
        runs.append(dict(shapes))
    return runs


def _recorder(name: str, shapes: dict[str, Size]) -> Callable[[nn.Module, object, object], None]:
    def record(module: nn.Module, inputs: object, output: object) -> None:
        shapes.pop(name, None)
        if isinstance(output, Tensor):
            shapes[name] = output.shape

    return record
