import torch
from torch import Tensor

from abn_fast.explain.methods.activations import Activations


def gradient(activations: Activations) -> Tensor:
    """The gradient d logit_y / d A of each image for its class y, in float32; it passes pooling and classifier alone.

    Shapes: -> [M, C, h, w].
    """
    features, targets = activations.last_features.detach(), activations.targets[:, None]
    with torch.enable_grad():
        scores = activations.classify(features.requires_grad_()).gather(1, targets)
        [result] = torch.autograd.grad(scores.float().sum(), features)
    return result.float()
