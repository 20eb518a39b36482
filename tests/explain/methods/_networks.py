"""Small networks, and the features that they pool, found by hooks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast.modules import Classifier, ImageNetwork, NormReluPool, PerceptionBranch
from tests.export._networks import small, with_statistics_of

CLASSES = 3


def network(kind: str) -> tuple[Any, Tensor]:
    """A network of tests/export/_networks.py in float64, with four images of 30 x 34 that its norms have seen."""
    model, _ = small(kind, CLASSES)
    size = (66, 70) if "vgg" in kind else (30, 34)
    images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(1)).double()
    return with_statistics_of(model.double(), images), images


def fully_connected() -> Any:
    """A classifier that is not GAP and a linear layer, as VGG's."""
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(6, 5, 3, stride=2), nn.ReLU())
    classifier = nn.Sequential(nn.Linear(5 * 4, 12), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(12, CLASSES))
    branch = PerceptionBranch(stage, nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), classifier)
    extractor = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
    return Classifier(extractor, branch, CLASSES).double().eval()


def pooled_by(model: ImageNetwork, images: Tensor) -> Tensor:
    """What the network averages over: its stage's output, past norm and ReLU where those follow."""
    seen: list[Tensor] = []
    branch = model.perception_branch
    hook = branch.pool.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        model(images)
    hook.remove()
    return F.relu(branch.pool.bn(seen[0])) if isinstance(branch.pool, NormReluPool) else seen[0]


def logits_of(model: ImageNetwork, images: Tensor) -> Tensor:
    """The network's prediction."""
    with torch.no_grad():
        output = model(images)
    return output if isinstance(output, Tensor) else output.logits


def shown(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """relu(maps) [N, h, w] at a size, over the maximum of each if that is above 0."""
    large = F.interpolate(maps.relu()[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return large / large.amax((1, 2), keepdim=True).clamp(min=1e-30)
