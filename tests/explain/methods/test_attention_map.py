import pytest
import torch
import torch.nn.functional as F

from abn_fast.explain import explain
from tests.explain.methods._networks import network


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "abn-densenet_bc10_4", "abn-product"])
def test_a_sigmoid_map_is_left_as_it_is(kind: str) -> None:
    model, images = network(kind)
    with torch.no_grad():
        attention = model(images).attention
    expected = F.interpolate(attention, (30, 34), mode="bilinear")[:, 0].float()
    assert expected.amax() < 0.9999  # so that a division by the maximum would show
    torch.testing.assert_close(explain(model, images), expected)


def test_the_unbounded_map_of_se_resnet_is_divided_by_its_maximum() -> None:
    model, images = network("abn-se_resnet-basic")
    with torch.no_grad():
        attention = model(images).attention
    assert attention.amax() > 1.1
    large = F.interpolate(attention, (30, 34), mode="bilinear")[:, 0]
    torch.testing.assert_close(explain(model, images), (large / large.amax((1, 2), keepdim=True)).float())


def test_a_multi_task_network_has_its_map_for_each_task() -> None:
    model, images = network("tasks-resnet")
    with torch.no_grad():
        attention = model(images).attention
    torch.testing.assert_close(
        explain(model, images), F.interpolate(attention, (30, 34), mode="bilinear").float(), atol=1e-6, rtol=1e-6
    )


def test_the_map_is_had_without_the_perception_branch() -> None:
    model, images = network("abn-cifar_resnet8")

    def fail(*arguments: object) -> None:
        raise AssertionError("the perception branch ran")

    model.perception_branch.stage.register_forward_pre_hook(fail)
    explain(model, images, method="abn")
    explain(model, images, torch.zeros(4, dtype=torch.int64), method="class-evidence")
