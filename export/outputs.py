"""Names of what a deployed network returns, and the tuple that carries it."""

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast.modules import AttentionBranchNetwork, ImageNetwork, MultiTaskABN

LOGITS, ATTENTION = "logits", "attention"
ATTENTION_LOGITS, CLASS_EVIDENCE = "attention_logits", "class_evidence"
PROBABILITIES, ATTENTION_UPSAMPLED = "probabilities", "attention_upsampled"

DERIVED = {PROBABILITIES: LOGITS, ATTENTION_UPSAMPLED: ATTENTION}
"""Outputs computed from another one: softmax of the logits, and the map at the image's size."""


def network_outputs(model: ImageNetwork) -> tuple[str, ...]:
    """The outputs that a kind of network has."""
    if isinstance(model, AttentionBranchNetwork):
        return LOGITS, ATTENTION, ATTENTION_LOGITS, CLASS_EVIDENCE
    if isinstance(model, MultiTaskABN):
        return LOGITS, ATTENTION, ATTENTION_LOGITS
    return (LOGITS,)


def default_outputs(model: ImageNetwork) -> tuple[str, ...]:
    """Logits and, where there is one, the attention map."""
    return tuple(name for name in (LOGITS, ATTENTION) if name in network_outputs(model))


def checked_outputs(model: ImageNetwork, outputs: Sequence[str] | None, derived: bool = False) -> tuple[str, ...]:
    """The names themselves, or the default ones for None.

    Raises:
        AbnFastError: none, one twice, or one that this kind of network does not have.
    """
    if outputs is None:
        return default_outputs(model)
    known = network_outputs(model)
    if derived:
        known += tuple(name for name, source in DERIVED.items() if source in known)
    if isinstance(outputs, str) or not outputs or len(set(outputs)) < len(outputs):
        raise AbnFastError(f"outputs={outputs!r}; expected different names of {', '.join(known)}")
    for name in outputs:
        if name not in known:
            raise AbnFastError(f"{type(model).__name__} has no output {name!r}; it has {', '.join(known)}")
    return tuple(outputs)


@cache
def output_type(names: tuple[str, ...]) -> Any:
    """A named tuple of exactly these outputs, in this order."""
    return namedtuple("InferenceOutput", names)
