from typing import Any

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.kernels import Gate
from abn_fast.models._attach import attach_attention_branch, classifier
from abn_fast.models._from_backbone import ATTENTION_STAGES, AttentionStage
from abn_fast.models._libraries import build_library_model
from abn_fast.models._registry import ABN_PREFIX
from abn_fast.modules import AttentionBranchNetwork, Classifier, ModelConfig


def create_from_library(
    name: str,
    *,
    gate: Gate | None = None,
    pretrained: bool = False,
    attention_stage: AttentionStage | None = None,
    **arguments: Any,
) -> AttentionBranchNetwork | Classifier:
    """Build "timm:NAME" or "torchvision:NAME", with an attention branch if "abn_" stands in front.

    Args:
        name: as above.
        gate: as in `from_backbone`.
        pretrained: whether to download the library's weights; loading a checkpoint of the network never does.
        attention_stage: as in `from_backbone`.
        arguments: `num_classes`, `in_chans` and the library's own, for example `drop_rate`.

    Raises:
        AbnFastError: unknown model or argument, or a model that cannot become an attention branch network.
    """
    config = ModelConfig(name.removeprefix(ABN_PREFIX), arguments)
    model = build_library_model(config, pretrained)
    num_classes = arguments.get("num_classes")
    network: AttentionBranchNetwork | Classifier
    if config.name == name:
        for option, value in {"gate": gate, "attention_stage": attention_stage}.items():
            if value is not None:
                raise AbnFastError(
                    f"{name} is a plain classifier without {option}={value!r}; {ABN_PREFIX}{name} has it"
                )
        network = classifier(model, num_classes)
    else:
        gate = gate or "residual"
        stage = checked_choice("attention_stage", attention_stage or "copy", ATTENTION_STAGES)
        fresh = build_library_model(config) if stage == "fresh" else None
        network = attach_attention_branch(model, num_classes, gate, fresh)
        arguments = arguments | {"gate": gate}
    network.config = ModelConfig(name, arguments | {"num_classes": network.num_classes})
    return network
