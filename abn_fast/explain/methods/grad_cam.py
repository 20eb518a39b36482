import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.explain.methods._gradient import gradient
from abn_fast.explain.methods.activations import Activations


def grad_cam(activations: Activations) -> Tensor:
    """Grad-CAM at the last features A: relu(sum_c GAP(d logit_y / d A_c) A_c).

    Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2. The layer is what the network pools: the last stage's
    output, of an attention branch network the perception branch's, after the norm and ReLU that follow it if any. The
    gradient stays in pooling and classifier, so that nothing is added to the forward pass; where those are GAP and one
    linear layer this is CAM / (h w).

    Shapes: -> [M, h, w].
    """
    weights = gradient(activations).mean((2, 3))
    return F.relu(torch.einsum("mc,mchw->mhw", weights, activations.last_features.float()))
