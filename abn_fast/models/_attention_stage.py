import copy
from collections.abc import Iterable

import torch
from torch import Size, Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.models._meta import meta_copy, meta_tensor
from abn_fast.models._tracing import first_line
from abn_fast.models._unstride import take_out_stride


def make_attention_stage(last_stage: nn.Module, features: Iterable[Size]) -> tuple[nn.Module, int]:
    """A trainable copy of the last stage that keeps the resolution of features of these shapes, and its channels.

    Raises:
        AbnFastError: the stage lowers the resolution by other means than strided layers.
    """
    stage = take_out_stride(copy.deepcopy(last_stage)).requires_grad_()
    probe = meta_copy(stage).eval()
    for shape in features:
        given = meta_tensor(shape, probe)
        output = _run(probe, given)
        if output.shape[-2:] != shape[-2:]:
            raise AbnFastError(
                f"its last stage turns {tuple(shape[-2:])} maps into {tuple(output.shape[-2:])} even with stride 1"
            )
        if given._version:
            _work_out_of_place(stage)
    return stage, int(output.shape[1])


def _run(stage: nn.Module, features: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            output = stage(features)
    except Exception as error:  # whatever the model's own code raises
        raise AbnFastError(f"its last stage does not run with stride 1: {first_line(error)}") from error
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise AbnFastError("its last stage does not return one map [N, C, H, W]")
    return output


def _work_out_of_place(stage: nn.Module) -> None:
    """The features are gated after the stage has read them."""
    for module in stage.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]  # a plain attribute of activations


def reset_parameters(model: nn.Module) -> nn.Module:
    """Initialise a model afresh: each layer by its `reset_parameters`, then all by the model's `init_weights`."""
    resets = [getattr(module, "reset_parameters", None) for module in model.modules()]
    for reset in [*resets, getattr(model, "init_weights", None)]:
        if reset is not None:
            reset()
    return model
