import copy
from typing import Literal

from torch import nn

from abn_fast._checks import checked_choice, checked_whole
from abn_fast._errors import AbnFastError
from abn_fast.kernels import Gate
from abn_fast.models._attach import attach_attention_branch
from abn_fast.models._attention_stage import reset_parameters
from abn_fast.models._libraries import build_library_model
from abn_fast.models._registry import ABN_PREFIX
from abn_fast.models._timm_config import timm_config
from abn_fast.modules import AttentionBranchNetwork, ImageNetwork, ModelConfig

AttentionStage = Literal["copy", "fresh"]
ATTENTION_STAGES: tuple[AttentionStage, ...] = ("copy", "fresh")


def from_backbone(
    model: nn.Module,
    num_classes: int | None = None,
    *,
    gate: Gate = "residual",
    attention_stage: AttentionStage = "copy",
) -> AttentionBranchNetwork:
    """Turn a timm or torchvision CNN classifier into an attention branch network; the model itself stays as it is.

    The model is cut behind the last feature whose resolution is above the final one. What follows, with the model's own
    head, makes the perception branch; a copy of its stage without strides makes the attention branch's. With a map of
    zeros, `network(images, attention=zeros)`, the residual gate gives the model's own logits.

    Args:
        model: a classifier on any device, of any dtype; its weights are kept.
        num_classes: K; another number than the model's starts a fresh classifier, None keeps the model's.
        gate: the mechanism that applies the map.
        attention_stage: "copy" starts the attention branch's stage from the weights of the last stage, "fresh" anew.

    Raises:
        AbnFastError: the model cannot be cut in two, or its last stage cannot keep the resolution.
    """
    if isinstance(model, ImageNetwork):
        raise AbnFastError(f"{type(model).__name__} is abn_fast's own; from_backbone takes a timm or torchvision model")
    if not isinstance(model, nn.Module):
        raise AbnFastError(f"from_backbone takes a model, not {model!r}; create_model('abn_timm:NAME') takes a name")
    if num_classes is not None:
        checked_whole("num_classes", num_classes)
    config = timm_config(model)
    fresh = None
    if checked_choice("attention_stage", attention_stage, ATTENTION_STAGES) == "fresh":
        fresh = reset_parameters(copy.deepcopy(model)) if config is None else build_library_model(config)
    network = attach_attention_branch(copy.deepcopy(model), num_classes, gate, fresh)
    if config is not None:
        arguments = config.arguments | {"num_classes": network.num_classes, "gate": gate}
        network.config = ModelConfig(ABN_PREFIX + config.name, arguments)
    return network
