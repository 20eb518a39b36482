from typing import Any

from abn_fast._checks import checked_whole
from abn_fast._errors import AbnFastError
from abn_fast.kernels import Gate
from abn_fast.models._backbone import (
    Backbone,
    attention_branch_network,
    multi_task_network,
    multi_task_plain_network,
    plain_network,
)
from abn_fast.models._from_library import create_from_library
from abn_fast.models._registry import (
    ABN_PREFIX,
    MULTI_TASK_PREFIX,
    checked_arguments,
    find_family,
)
from abn_fast.modules import AttentionBranchNetwork, Classifier, ModelConfig, MultiTaskABN

Network = AttentionBranchNetwork | Classifier | MultiTaskABN


def create_model(name: str, *, gate: Gate | None = None, task_chunk: int | None = None, **arguments: Any) -> Network:
    """Build a model by name: "abn_resnet50" is an attention branch network, "resnet50" its plain baseline.

    With "multi_task_" in front, "multi_task_abn_resnet101" or "multi_task_resnet101", `num_classes` counts tasks of two
    answers each.

    Args:
        name: one of `list_models()`, another depth or width of a listed family, or "timm:NAME" or "torchvision:NAME"
            with or without "abn_" in front.
        gate: "residual" g * (1 + M), the default, or "product" g * M.
        task_chunk: of a multi-task network, see `MultiTaskABN`.
        arguments: `num_classes`, `in_chans` and the family's own, for example `drop_rate` of the Wide ResNet; for a
            library's model also `pretrained` (False: nothing is downloaded) and `attention_stage` as `from_backbone`'s.

    Raises:
        AbnFastError: unknown name or argument, or a value that the family does not take.
    """
    for whole in ("num_classes", "in_chans"):
        checked_whole(whole, arguments.get(whole, 1))
    multi_task, single_name = name.startswith(MULTI_TASK_PREFIX), name.removeprefix(MULTI_TASK_PREFIX)
    plain_name = single_name.removeprefix(ABN_PREFIX)
    plain = plain_name == single_name
    if task_chunk is not None and (plain or not multi_task):
        raise AbnFastError(
            f"{name} takes no task_chunk={task_chunk!r}; {MULTI_TASK_PREFIX}{ABN_PREFIX}{plain_name} does"
        )
    if ":" in plain_name:
        if multi_task:
            raise AbnFastError(
                f"{name}: a multi-task network needs one of this library's own families: abn-fast models"
            )
        return create_from_library(name, gate=gate, **arguments)
    if plain and gate is not None:
        raise AbnFastError(f"{name} is a plain classifier and has no gate={gate!r}; {ABN_PREFIX}{plain_name} has")
    backbone = _build_backbone(name, plain_name, arguments)
    chosen: dict[str, Any] = {"num_classes": backbone.num_classes}
    network: Network
    if plain:
        network = multi_task_plain_network(backbone) if multi_task else plain_network(backbone)
    else:
        chosen["gate"] = "residual" if gate is None else gate
        if multi_task:
            network = multi_task_network(backbone, chosen["gate"], task_chunk)
            chosen["task_chunk"] = task_chunk
        else:
            network = attention_branch_network(backbone, chosen["gate"])
    network.config = ModelConfig(name, arguments | chosen)
    return network


def _build_backbone(name: str, plain_name: str, arguments: dict[str, Any]) -> Backbone:
    family, numbers = find_family(plain_name)
    repeated = sorted(set(numbers) & set(arguments))
    if repeated:
        raise AbnFastError(f"{name} states {', '.join(map(repr, repeated))} already: leave it out of the arguments")
    return family.build(**checked_arguments(family, name, numbers | arguments))
