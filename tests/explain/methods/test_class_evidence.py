from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain import explain, top_class_evidence
from tests.explain.methods._networks import CLASSES, network, shown


def published_evidence(model: Any, images: Tensor) -> Tensor:
    """What the published code averages into the attention logits, layer by layer, [N, K, h, w]."""
    branch = model.attention_branch
    with torch.no_grad():
        stage_output = branch.stage(model.extractor(images))
        normed = stage_output if branch.head.bn1 is None else branch.head.bn1(stage_output)
        evidence: Tensor = branch.head.evidence_conv(F.relu(branch.head.bn2(branch.head.class_conv(normed))))
        torch.testing.assert_close(evidence.mean((2, 3)), model(images).attention_logits)
    return evidence


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "abn-resnext11_2x4d", "abn-se_resnet-basic"])
def test_it_is_the_evidence_of_the_target_class(kind: str) -> None:
    model, images = network(kind)
    evidence = published_evidence(model, images)
    assert (evidence.amax((2, 3)) > 0).double().mean() > 0.5
    for target in range(CLASSES):
        maps = explain(model, images, torch.full((4,), target), method="class-evidence")
        torch.testing.assert_close(maps, shown(evidence[:, target], (30, 34)).float())


def test_the_top_classes_come_by_confidence_on_one_scale() -> None:
    model, images = network("abn-cifar_resnet8")
    classes, confidences, maps = top_class_evidence(model, images, 2, size=(11, 13))
    with torch.no_grad():
        probabilities = model(images).logits.softmax(1)
    ordered = probabilities.sort(1, descending=True)
    assert torch.equal(classes, ordered.indices[:, :2])
    torch.testing.assert_close(confidences.double(), ordered.values[:, :2], rtol=1e-5, atol=1e-6)
    assert (maps.amax((1, 2, 3)) == 1).all()
    evidence = published_evidence(model, images)
    chosen = torch.stack([evidence[image, classes[image]] for image in range(4)])
    large = F.interpolate(chosen.relu(), (11, 13), mode="bilinear", antialias=True)
    torch.testing.assert_close(maps, (large / large.amax((1, 2, 3), keepdim=True)).float())


@pytest.mark.parametrize("count", [0, CLASSES + 1])
def test_more_classes_than_there_are_are_refused(count: int) -> None:
    model, images = network("abn-cifar_resnet8")
    with pytest.raises(AbnFastError, match=f"count={count}: expected 1 to {CLASSES}"):
        top_class_evidence(model, images, count)
