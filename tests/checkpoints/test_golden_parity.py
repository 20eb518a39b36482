"""Agreement with what the published code returns, to the tolerances that tests/golden/README.md states."""

import pytest
import torch

from abn_fast import abn_loss
from abn_fast.checkpoints.published import from_published, to_published
from tests import _golden


@pytest.mark.parametrize("name", _golden.NAMES)
def test_evaluation_outputs_are_the_published_ones(name: str) -> None:
    model = from_published(_golden.weights(_golden.case(name)["state_dict"]))
    with torch.no_grad():
        output = model(_golden.images(name))
    for key, expected in _golden.outputs(name).items():
        error = (getattr(output, key) - expected).abs().max()
        assert error <= 1e-5 * expected.abs().max(), key


@pytest.mark.parametrize("name", _golden.NAMES)
def test_a_training_step_is_the_published_one(name: str) -> None:
    case = _golden.case(name)
    model = from_published(_golden.weights(case["state_dict"])).double()
    images, targets = _golden.images(name).double(), _golden.targets(name)
    with torch.no_grad():
        model(images)
    loss = abn_loss(model.train()(images), targets)
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-9)

    published = to_published(model, prefix="")
    ours = dict(zip(published, model.state_dict(), strict=True))
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    for key, norm in case["gradient_norms"].items():
        gradient = gradients[ours[key]]
        assert gradient is not None
        if norm < 1e-9:
            assert gradient.norm().item() < 1e-9, key
        else:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-6), key
    assert {ours[key] for key in case["gradient_norms"]} == set(gradients)
    for key, total in case["running_after"].items():
        assert published[key].abs().sum().item() == pytest.approx(total, rel=1e-9), key


@pytest.mark.parametrize("name", _golden.NAMES)
def test_the_published_keys_and_shapes_come_back(name: str) -> None:
    shapes = _golden.case(name)["state_dict"]
    model = from_published({f"module.{key}": value for key, value in _golden.weights(shapes).items()})
    assert {key: list(value.shape) for key, value in to_published(model).items()} == {
        f"module.{key}": shape for key, shape in shapes.items()
    }
