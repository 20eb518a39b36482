import numpy as np
import pytest
import torch
import torch.nn.functional as F

from abn_fast import AbnFastError, create_model
from abn_fast.training import evaluate
from tests.training._data import stripes


def test_accuracies_and_loss_are_those_of_a_plain_loop() -> None:
    model, data = create_model("abn_cifar_resnet8", num_classes=3).eval(), stripes(50, augment=False)
    images, labels = data.batch(range(50))
    with torch.no_grad():
        output = model(images)
    metrics = evaluate(model, data, batch_size=16, precision="fp32")
    assert metrics["top1"] == pytest.approx(100 * np.mean((output.logits.argmax(1) == labels).numpy()))
    assert metrics["attention_top1"] == pytest.approx(
        100 * np.mean((output.attention_logits.argmax(1) == labels).numpy())
    )
    expected = F.cross_entropy(output.logits, labels) + F.cross_entropy(output.attention_logits, labels)
    assert metrics["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_map_is_scored_against_the_boxes() -> None:
    data = stripes(40, augment=False)
    assert data.boxes is not None
    model = create_model("abn_cifar_resnet8", num_classes=3).eval()
    metrics = evaluate(model, data, precision="fp32")
    with torch.no_grad():
        maps = model(data.batch(range(40))[0]).attention
    maps = F.interpolate(maps, (16, 16), mode="bilinear")[:, 0].numpy()
    hits = [2 <= peak // 16 < 10 and 2 <= peak % 16 < 10 for peak in maps.reshape(40, -1).argmax(1)]
    energy = maps[:, 2:10, 2:10].sum((1, 2)) / maps.sum((1, 2))
    assert metrics["pointing_game"] == pytest.approx(100 * np.mean(hits))
    assert metrics["energy"] == pytest.approx(100 * energy.mean(), rel=1e-5)


def test_a_plain_network_has_no_map_to_score() -> None:
    metrics = evaluate(create_model("cifar_resnet8", num_classes=3), stripes(20, augment=False))
    assert set(metrics) == {"loss", "top1"}


def test_training_mode_is_put_back() -> None:
    model = create_model("cifar_resnet8", num_classes=3).train()
    evaluate(model, stripes(20, augment=False))
    assert model.training


def test_other_classes_are_refused() -> None:
    with pytest.raises(AbnFastError, match="the data set has 3 classes and the model 10"):
        evaluate(create_model("cifar_resnet8"), stripes(20))
