import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.explain.methods.activations import Activations, AttentionActivations
from abn_fast.modules import AttentionBranchNetwork, ImageNetwork, MultiTaskABN


def class_evidence(activations: Activations) -> Tensor:
    """The attention branch's evidence for a class y: relu(e_y) of the maps e = evidence_conv(a).

        attention logit_y = GAP(e_y),   e_y = sum_k w_yk a_k

    It is CAM in the attention branch, at the resolution of the attention map (Fukui et al., CVPR 2019, section 3.1);
    the published code computes e and keeps the means alone. The maps a themselves belong to no class: evidence_conv
    mixes all of them into each class's logit.

    Shapes: -> [N, h, w].
    """
    return class_evidence_of(activations, activations.targets[:, None])[:, 0]


def class_evidence_of(activations: Activations, classes: Tensor) -> Tensor:
    """The class evidence of k classes of each image. Shapes: classes [N, k] -> [N, k, h, w]."""
    assert isinstance(activations, AttentionActivations)
    evidence = activations.evidence
    weight = activations.network.attention_branch.head.evidence_conv.weight.flatten(1).to(evidence.dtype)
    return F.relu(torch.einsum("nkj,njhw->nkhw", weight[classes], evidence))


def why_no_class_evidence(network: ImageNetwork) -> str | None:
    """Why this network, in evaluation mode, has no class evidence; None if it has."""
    if isinstance(network, MultiTaskABN):
        return "a multi-task network's attention branch has one map a task and none a class; take 'abn'"
    if not isinstance(network, AttentionBranchNetwork):
        return f"{type(network).__name__} is a plain classifier without attention branch; use an abn_ model"
    if not network.attention_branch.head._norms_are_constant():
        return "the norms of its attention head keep no running statistics"
    return None
