from torch import Tensor

from abn_fast.explain.methods.activations import Activations, AttentionActivations, TaskActivations
from abn_fast.modules import AttentionBranchNetwork, ImageNetwork, LogMapAttentionHead, MultiTaskABN


def attention_map(activations: Activations) -> Tensor:
    """The attention map M of the network, which needs no backward and is the same for every class.

    Fukui et al., Attention Branch Network, CVPR 2019, section 3.1; for tasks section 3.4.

    Shapes: -> [M, h, w].
    """
    if isinstance(activations, TaskActivations):
        return activations.score.sigmoid().flatten(0, 1)
    assert isinstance(activations, AttentionActivations)
    return activations.attended.attention[:, 0]


def why_no_attention_map(network: ImageNetwork) -> str | None:
    """Why this network has no attention map; None if it has one."""
    if isinstance(network, AttentionBranchNetwork | MultiTaskABN):
        return None
    return f"{type(network).__name__} is a plain classifier without attention map; use an abn_ model"


def is_bounded(network: ImageNetwork) -> bool:
    """Whether the map is a sigmoid; the published SE-ResNet's, a sum of logarithms, has no upper bound."""
    return not (
        isinstance(network, AttentionBranchNetwork) and isinstance(network.attention_branch.head, LogMapAttentionHead)
    )
