import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.explain.methods._gradient import gradient
from abn_fast.explain.methods.activations import Activations


def grad_cam_plus_plus(activations: Activations) -> Tensor:
    """Grad-CAM++ at the last features A: relu(sum_c w_c A_c), for the score exp(logit_y).

    With g = d logit_y / d A_c, over the pixels where g > 0:

        w_c = sum_ij alpha_ij g_ij,   alpha_ij = g_ij^2 / (2 g_ij^2 + g_ij^3 sum(A_c)) = 1 / (2 + g_ij sum(A_c))

    Chattopadhay et al., Grad-CAM++, WACV 2018, equations 10 and 19. The second form needs no
    small number in the denominator, which would outweigh the g^2 of a network that averages many pixels. The paper's A
    is the output of a ReLU: a negative sum counts as 0.

    Shapes: -> [M, h, w].
    """
    features = activations.last_features.float()
    positive = F.relu(gradient(activations))
    total = F.relu(features.sum((2, 3), keepdim=True))
    weights = (positive / (2 + positive * total)).sum((2, 3))
    return F.relu(torch.einsum("mc,mchw->mhw", weights, features))
