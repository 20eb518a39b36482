from typing import Any

from abn_fast._checks import checked_whole
from abn_fast._errors import AbnFastError
from abn_fast.kernels import Gate
from abn_fast.models._backbone import attention_branch_network, plain_network
from abn_fast.models._from_library import create_from_library
from abn_fast.models._registry import ABN_PREFIX, checked_arguments, find_family
from abn_fast.modules import AttentionBranchNetwork, Classifier, ModelConfig


def create_model(name: str, *, gate: Gate | None = None, **arguments: Any) -> AttentionBranchNetwork | Classifier:
    """Build a model by name: "abn_resnet50" is an attention branch network, "resnet50" its plain baseline.

    Args:
        name: one of `list_models()`, another depth or width of a listed family, or "timm:NAME" or "torchvision:NAME"
            with or without "abn_" in front.
        gate: "residual" g * (1 + M), the default, or "product" g * M.
        arguments: `num_classes`, `in_chans` and the family's own, for example `drop_rate` of the Wide ResNet; for a
            library's model also `pretrained` (False: nothing is downloaded) and `attention_stage` as `from_backbone`'s.

    Raises:
        AbnFastError: unknown name or argument, or a value that the family does not take.
    """
    for whole in ("num_classes", "in_chans"):
        checked_whole(whole, arguments.get(whole, 1))
    plain_name = name.removeprefix(ABN_PREFIX)
    if ":" in plain_name:
        return create_from_library(name, gate=gate, **arguments)
    family, numbers = find_family(plain_name)
    repeated = sorted(set(numbers) & set(arguments))
    if repeated:
        raise AbnFastError(f"{name} states {', '.join(map(repr, repeated))} already: leave it out of the arguments")
    backbone = family.build(**checked_arguments(family, name, numbers | arguments))
    network: AttentionBranchNetwork | Classifier
    if plain_name == name:
        if gate is not None:
            raise AbnFastError(f"{name} is a plain classifier and has no gate={gate!r}; {ABN_PREFIX}{name} has")
        network = plain_network(backbone)
    else:
        gate = "residual" if gate is None else gate
        network = attention_branch_network(backbone, gate)
        arguments = arguments | {"gate": gate}
    network.config = ModelConfig(name, arguments | {"num_classes": backbone.num_classes})
    return network
