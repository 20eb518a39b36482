import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast.explain.methods.activations import Activations, head_logits
from abn_fast.modules import ImageNetwork, TaskClassifier
from abn_fast.modules._classes import _TaskLinear


def cam(activations: Activations) -> Tensor:
    """The class activation map relu(sum_c w_yc A_c) of the last features A and the classifier's weights w.

    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, equation 2; the ReLU leaves what
    speaks for the class. GAP of the sum is the logit without its bias.

    Shapes: -> [M, h, w].
    """
    weight = class_weights(activations.network)
    assert weight is not None
    targets = activations.targets
    if activations.tasks is None:
        weight = weight[targets]  # [M, C]
    else:
        task = torch.arange(activations.tasks, device=targets.device).repeat(len(activations.images))
        weight = weight[task, targets]
    return F.relu(torch.einsum("mc,mchw->mhw", weight, activations.last_features))


def why_no_cam(network: ImageNetwork) -> str | None:
    """Why CAM cannot serve this network, which is in evaluation mode; None if it can."""
    if class_weights(network) is not None:
        return None
    return "CAM needs a classifier that is global average pooling and one linear layer, and this network's is not"


def class_weights(network: ImageNetwork) -> Tensor | None:
    """The weights of a classifier that is GAP and one linear layer, [K, C] or [T, 2, C]; None of any other.

    Whether it is tells a trial on random features: the network's logits are those of the linear layer, or they are not.
    """
    layer = _last_linear(network.get_classifier())
    if layer is None:
        return None
    weight, bias = layer.weight, layer.bias
    features = torch.rand(2, weight.shape[-1], 3, 2, generator=torch.Generator().manual_seed(0)).to(weight)
    try:
        with torch.no_grad():
            logits = head_logits(network, features)
            expected = F.linear(features.mean((2, 3)), weight.flatten(0, -2), None if bias is None else bias.flatten())
    except Exception:  # whatever the model's own code raises on features of another shape than its own
        return None
    tolerance = torch.finfo(weight.dtype).eps ** 0.5
    same = logits.shape[0] == 2 and torch.allclose(logits.flatten(1), expected, rtol=tolerance, atol=tolerance)
    return weight if same else None


def _last_linear(classifier: object) -> nn.Linear | _TaskLinear | None:
    if isinstance(classifier, TaskClassifier):
        return classifier.tasks
    modules = classifier.modules() if isinstance(classifier, nn.Module) else []
    linears = [module for module in modules if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None
