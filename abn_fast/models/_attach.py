from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from abn_fast._errors import AbnFastError
from abn_fast.kernels import Gate
from abn_fast.models._attention_stage import make_attention_stage
from abn_fast.models._cut import cut
from abn_fast.models._initialization import kaiming_fan_out
from abn_fast.modules import AttentionBranch, AttentionBranchNetwork, AttentionHead, Classifier


def classifier(model: nn.Module, num_classes: int | None) -> Classifier:
    """The model as extractor and perception branch; it is used up."""
    with _refusals_that_name(model):
        parts = cut(model, num_classes)
        return Classifier(parts.extractor, parts.perception_branch, parts.num_classes)


def attach_attention_branch(
    model: nn.Module, num_classes: int | None, gate: Gate, fresh: nn.Module | None
) -> AttentionBranchNetwork:
    """The model with an attention branch; it is used up.

    Args:
        model: a timm or torchvision classifier.
        num_classes: another number than the model's starts a fresh classifier.
        gate: the mechanism that applies the map.
        fresh: a model like it, whose last stage the attention branch starts from; None for the model's own.
    """
    with _refusals_that_name(model):
        parts = cut(model, num_classes)
        source = parts if fresh is None else cut(fresh, num_classes)
        stage, channels = make_attention_stage(source.perception_branch.stage, parts.features)
    head = AttentionHead(channels, parts.num_classes, gate).apply(kaiming_fan_out)
    branch = AttentionBranch(stage, head).to(next(parts.perception_branch.stage.parameters()))
    return AttentionBranchNetwork(
        parts.extractor, branch, parts.perception_branch, parts.num_classes, kaiming_fan_out
    ).train(model.training)


@contextmanager
def _refusals_that_name(model: nn.Module) -> Iterator[None]:
    try:
        yield
    except AbnFastError as error:
        raise AbnFastError(f"{type(model).__name__} cannot become an attention branch network: {error}") from error
