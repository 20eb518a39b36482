"""Multi-task attention branch networks against the loop over tasks that the paper describes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from abn_fast import AbnFastError, create_model
from abn_fast.modules import Classifier, MultiTaskABN, MultiTaskOutput, multi_task_loss
from abn_fast.modules.multi_task import IMAGES_TOGETHER
from bench.peers.published_multi_task import task_by_task

BOTTLENECK: dict[str, Any] = {"block": "bottleneck", "layers": [1, 1, 1, 2], "width": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": BOTTLENECK,
    "se_resnet": BOTTLENECK,
    "cifar_resnet8": {"width": 4},
    "wide_resnet10_1": {},
    "densenet_bc10_4": {},
    "resnext11_2x4d": {},
    "vgg11_bn_cam": {},
}


def make(name: str = "resnet", tasks: int = 3, **arguments: Any) -> MultiTaskABN:
    torch.manual_seed(0)
    model = create_model(f"multi_task_abn_{name}", num_classes=tasks, **FAMILIES[name], **arguments)
    assert isinstance(model, MultiTaskABN)
    return model.double()


def image_batch(name: str, batch: int = 2) -> Tensor:
    side = 70 if name in ("resnet", "se_resnet", "vgg11_bn_cam") else 20
    return torch.randn(batch, 3, side, side + 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(model: MultiTaskABN, output: MultiTaskOutput) -> list[Tensor]:
    loss = output.attention_logits.square().sum() + output.logits.square().sum() + output.attention.square().sum()
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("task_chunk", [None, 1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_together_are_tasks_one_by_one(name: str, task_chunk: int | None) -> None:
    model = make(name, task_chunk=task_chunk).eval()
    images = image_batch(name)
    ours, theirs = model(images), task_by_task(model, images)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for a, b in zip(gradients(model, ours), gradients(model, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_the_gate_of_products() -> None:
    model, images = make(gate="product").eval(), image_batch("resnet")
    torch.testing.assert_close(model(images), task_by_task(model, images), rtol=1e-9, atol=1e-9)


def test_chunks_of_one_train_as_the_loop_does() -> None:
    model, peer = make(task_chunk=1).train(), make().train()
    images = image_batch("resnet")
    torch.testing.assert_close(model(images), task_by_task(peer, images), rtol=1e-9, atol=1e-9)
    for (name, ours), (_, theirs) in zip(model.named_buffers(), peer.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, msg=name)


def test_a_chunk_is_normalised_as_one_batch() -> None:
    model = make().train()
    norm = model.perception_branch.stage[0].bn1  # type: ignore[index]
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(image_batch("resnet"))
    (x,) = seen
    assert len(x) == 2 * model.num_classes
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 2, 3)))


class _Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count, self.convolutions = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        self.convolutions += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def calls(model: MultiTaskABN) -> _Calls:
    counted = _Calls()
    with torch.no_grad(), counted:
        model(image_batch("resnet", 1))
    return counted


def test_operator_calls_grow_with_the_chunks_and_not_with_the_tasks() -> None:
    few, many, loop = (calls(make(tasks=n, task_chunk=c).eval()) for n, c in ((2, None), (12, None), (12, 1)))
    assert many.count == few.count
    assert many.convolutions == few.convolutions
    assert loop.count > 5 * many.count
    stage, shared = 2 * 3 + 1, 2
    assert loop.convolutions - many.convolutions == 11 * (stage - shared)


def test_a_cpu_evaluates_as_many_tasks_together_as_its_caches_hold() -> None:
    images = image_batch("resnet", 4)
    model = make(tasks=12).eval()
    by_choice, together, in_eights = _Calls(), _Calls(), _Calls()
    for counted, chunk in ((by_choice, None), (together, 12), (in_eights, IMAGES_TOGETHER // 4)):
        model.task_chunk = chunk
        with torch.no_grad(), counted:
            model(images)
    assert by_choice.count == in_eights.count > together.count
    assert model.train().forward(images).logits.shape == (4, 12, 2)


def test_given_maps_replace_the_own() -> None:
    model, images = make(task_chunk=2).eval(), image_batch("resnet")
    own = model(images)
    torch.testing.assert_close(model(images, own.attention).logits, own.logits)
    other = torch.rand(1, *own.attention.shape[1:], dtype=torch.float64)
    assert not torch.allclose(model(images, other).logits, own.logits)
    torch.testing.assert_close(model(images, other).attention, other.expand(2, -1, -1, -1))
    with pytest.raises(AbnFastError, match=r"expected \(2 or 1, 3, 5, 5\)"):
        model(images, other[:, :2])


def test_the_baseline_has_two_answers_a_task_and_no_map() -> None:
    model = create_model("multi_task_resnet", num_classes=5, **BOTTLENECK).eval()
    images = image_batch("resnet").float()
    assert isinstance(model, Classifier)
    logits = model(images)
    assert logits.shape == (2, 5, 2)
    classifier: Any = model.get_classifier()
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    for t in range(5):
        torch.testing.assert_close(logits[:, t], F.linear(pooled, classifier.tasks.weight[t], classifier.tasks.bias[t]))


@pytest.mark.parametrize("name", ["multi_task_abn_resnet", "multi_task_resnet"])
def test_the_number_of_tasks_can_be_reset(name: str) -> None:
    model = create_model(name, num_classes=5, **BOTTLENECK).eval()
    model.reset_classifier(7)
    images = image_batch("resnet").float()
    output = model(images)
    logits = output.logits if isinstance(output, MultiTaskOutput) else output
    assert logits.shape == (2, 7, 2)
    assert model.config is not None
    rebuilt = create_model(model.config.name, **model.config.arguments)
    rebuilt.load_state_dict(model.state_dict())


def test_fresh_maps_differ_from_place_to_place() -> None:
    model = make(tasks=40).eval()
    attention = model(image_batch("resnet")).attention
    assert 0.05 < attention.mean() < 0.95
    assert ((attention > 0.01) & (attention < 0.99)).double().mean() > 0.9


def test_the_loss_is_both_branches_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    attention_logits = torch.randn(4, 3, generator=generator)
    logits = torch.randn(4, 3, 2, generator=generator)
    target = torch.randint(2, (4, 3), generator=generator)
    p, q = attention_logits.sigmoid(), logits.softmax(2)
    attention = -torch.where(target == 1, p, 1 - p).log().mean()
    perception = -q.gather(2, target[..., None]).log().mean()
    output = MultiTaskOutput(attention_logits, logits, torch.zeros(4, 3, 1, 1))
    torch.testing.assert_close(multi_task_loss(output, target), attention + perception)
    torch.testing.assert_close(
        multi_task_loss(output, target.float(), attention_weight=3.0), 3 * attention + perception
    )
    torch.testing.assert_close(multi_task_loss(logits, target), perception)
    with pytest.raises(AbnFastError, match=r"target has shape \(4,\)"):
        multi_task_loss(output, target[:, 0])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(AbnFastError, match="task_chunk=0"):
        make(task_chunk=0)
    with pytest.raises(AbnFastError, match="multi_task_abn_resnet50 does"):
        create_model("abn_resnet50", task_chunk=2)
    with pytest.raises(AbnFastError, match="own families"):
        create_model("multi_task_abn_timm:resnet18")
