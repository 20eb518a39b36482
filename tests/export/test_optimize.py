"""Networks rewritten for inference compute what the networks compute."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from abn_fast import AbnFastError, create_model, from_backbone, list_models
from abn_fast.export import optimize_for_inference, rewrite_costs
from abn_fast.export.optimize._conv_norm import conv_norm_pairs
from abn_fast.export.outputs import network_outputs
from abn_fast.kernels._dispatch import force
from abn_fast.modules import AttentionBranchNetwork, ImageNetwork
from tests.export._networks import SMALL, outputs_of, perturbed, relative_error, small, with_statistics_of
from tests.modules._plain_head import PlainHead


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def shared_outputs(model: ImageNetwork) -> list[str]:
    """Those that the network itself returns too."""
    return [name for name in network_outputs(model) if name != "class_evidence"]


def assert_equal_outputs(model: ImageNetwork, images: torch.Tensor) -> None:
    """In float64 exactly; in float32 to 1e-5 or to twice the model's own rounding in channels_last, if that is more."""
    names = shared_outputs(model)
    double = copy.deepcopy(model).double()
    exact = outputs_of(double, images.double())
    last = torch.channels_last
    rounded = outputs_of(copy.deepcopy(model).to(memory_format=last), images.to(memory_format=last))
    with torch.no_grad():
        in_double = optimize_for_inference(double, outputs=names)(images.double())
        in_single = optimize_for_inference(model, outputs=names)(images)
    assert in_double._fields == in_single._fields == tuple(names)
    for name in names:
        assert relative_error(getattr(in_double, name), exact[name]) <= 1e-11, name
        own_error = relative_error(rounded[name], exact[name])
        assert relative_error(getattr(in_single, name), exact[name]) <= max(1e-5, 2 * own_error), name


@pytest.mark.parametrize("kind", SMALL)
def test_outputs_are_the_network_s(kind: str) -> None:
    assert_equal_outputs(*small(kind))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_outputs_of_a_full_size_model_are_the_network_s(name: str) -> None:
    torch.manual_seed(0)
    side = 224 if "vgg" in name else 64
    images = torch.randn(2, 3, side, side)
    assert_equal_outputs(with_statistics_of(create_model(name), torch.randn(4, 3, side, side)), images)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext2", "repvgg_a0"])
def test_outputs_of_a_timm_model_are_the_network_s(name: str) -> None:
    timm = pytest.importorskip("timm")
    model = perturbed(from_backbone(timm.create_model(name, num_classes=4)))
    exact = outputs_of(copy.deepcopy(model).double(), (images := torch.randn(2, 3, 96, 96)).double())
    with torch.no_grad():
        ours = optimize_for_inference(model.double())(images.double())
    for output in ours._fields:
        assert relative_error(getattr(ours, output), exact[output]) <= 1e-10, output


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "abn-se_resnet-basic", "abn-resnext11_2x4d"])
def test_class_evidence_is_the_paper_s_chain_of_layers(kind: str) -> None:
    model, images = small(kind)
    assert isinstance(model, AttentionBranchNetwork)
    head = PlainHead(model.attention_branch.head)
    layers = dict(head.named_children())
    with torch.no_grad():
        stage_output = model.attention_branch.stage(model.extractor(images))
        normed = layers["bn1"](stage_output) if "bn1" in layers else stage_output
        expected = head.bn2(head.class_conv(normed)).relu()
        (ours,) = optimize_for_inference(model, outputs=["class_evidence"])(images)
    assert relative_error(ours, expected) <= 1e-5


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "abn-se_resnet-basic", "tasks-resnet"])
def test_a_gpu_s_ops_give_the_same(kind: str) -> None:
    model, images = small(kind)
    optimized = optimize_for_inference(model, outputs=shared_outputs(model))
    with torch.no_grad():
        plain = optimized(images)
        with force(True):
            fused = optimized(images)
    for ours, expected in zip(fused, plain, strict=True):
        assert relative_error(ours, expected) <= 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_16_bit_products_stay_near(dtype: torch.dtype, tolerance: float) -> None:
    model, images = small("abn-cifar_resnet8")
    with torch.no_grad():
        ours = optimize_for_inference(model, dtype)(images)
    expected = outputs_of(model, images)
    for name in ours._fields:
        assert getattr(ours, name).dtype == torch.float32
        assert 0 < relative_error(getattr(ours, name), expected[name]) <= tolerance


def test_outputs_come_in_the_order_asked() -> None:
    model, images = small("abn-cifar_resnet8")
    with torch.no_grad():
        result = optimize_for_inference(model, outputs=("class_evidence", "attention", "logits"))(images)
        plain = optimize_for_inference(small("plain-cifar_resnet8")[0])(images)
    assert result._fields == ("class_evidence", "attention", "logits")
    assert [len(value.shape) for value in result] == [4, 4, 2]
    assert plain._fields == ("logits",)


def test_parts_that_no_output_needs_are_left_out() -> None:
    model, _ = small("abn-cifar_resnet8")

    def parameters(*outputs: str) -> set[str]:
        return {
            name.split(".")[1] + name.endswith("classifier.weight") * " classifier"
            for name, _ in optimize_for_inference(model, outputs=outputs).named_parameters()
        }

    whole = {"extractor", "attention_stage", "attention_head"}
    assert parameters("attention") == whole
    assert parameters("attention_logits") == whole | {"attention_head classifier"}
    assert parameters("logits") == whole | {"perception_branch", "perception_branch classifier"}
    shapes = {tuple(p.shape) for p in optimize_for_inference(model, outputs=["attention_logits"]).parameters()}
    assert (1, 3, 3, 3) not in shapes


def test_the_model_stays_as_it_was() -> None:
    model, _ = small("abn-cifar_resnet8")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimized = optimize_for_inference(model)
    assert model.training
    assert not optimized.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_weights_are_channels_last() -> None:
    optimized = optimize_for_inference(small("abn-resnet-bottleneck")[0])
    kernels = [m.weight for m in optimized.modules() if isinstance(m, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)


@pytest.mark.parametrize(
    ("name", "norms_before", "norms_left"),
    [("abn_resnet50", 66, 0), ("abn_wide_resnet28_10", 36, 16), ("abn_densenet_bc100_12", 134, 67)],
)
def test_only_norms_before_a_convolution_stay(name: str, norms_before: int, norms_left: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert norms(model) == norms_before
    assert norms(optimize_for_inference(model)) == norms_left


class _Odd(nn.Module):
    """Convolutions of which only the last may take its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.shared, self.before, self.good = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(6))
        self.untracked = nn.BatchNorm2d(3, track_running_stats=False)
        self.batch_statistics = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.read_twice(x)
        x = self.norms[0](y) + y
        x = self.norms[1](self.shared(x)) + self.norms[2](self.shared(x))
        x = self.before(self.norms[3](x))
        x = self.norms[4](x.relu())
        output: torch.Tensor = self.norms[5](self.good(self.untracked(self.batch_statistics(x))))
        return output


def test_a_norm_folds_only_into_a_convolution_that_it_alone_reads() -> None:
    assert conv_norm_pairs(_Odd()) == [("good", "norms.5")]


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", pytest.param("tasks-resnet", marks=pytest.mark.slow)])
def test_it_compiles_as_one_graph(kind: str) -> None:
    model, images = small(kind)
    optimized = optimize_for_inference(model)
    with torch.no_grad():
        compiled = torch.compile(optimized, fullgraph=True, backend="eager")(images)
        for ours, expected in zip(compiled, optimized(images), strict=True):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": ["logits", "heatmap"]}, "no output 'heatmap'; it has logits, attention, attention_logits"),
        ({"outputs": []}, "expected different names"),
        ({"outputs": "logits"}, "expected different names"),
        ({"outputs": ["logits", "logits"]}, "expected different names"),
        ({"outputs": ["probabilities"]}, "no output 'probabilities'"),
        ({"dtype": torch.int8}, "dtype=torch.int8; expected one of torch.float32"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments: dict[str, Any], message: str) -> None:
    model, _ = small("abn-cifar_resnet8")
    with pytest.raises(AbnFastError, match=message) as error:
        optimize_for_inference(model, **arguments)
    assert "\n" not in str(error.value)


def test_what_is_no_network_or_keeps_no_statistics_is_refused() -> None:
    with pytest.raises(AbnFastError, match="ReLU is no network of abn_fast"):
        optimize_for_inference(nn.ReLU())  # type: ignore[arg-type]
    model: Any = small("abn-cifar_resnet8")[0]
    model.attention_branch.head.bn2 = nn.BatchNorm2d(3, track_running_stats=False)
    with pytest.raises(AbnFastError, match="bn2 keeps no running statistics"):
        optimize_for_inference(model)
    with pytest.raises(AbnFastError, match="MultiTaskABN has no output 'class_evidence'"):
        optimize_for_inference(small("tasks-resnet")[0], outputs=["class_evidence"])


def test_each_rewrite_does_less_or_as_much() -> None:
    rows = {row.rewrite: row for row in rewrite_costs(small("abn-resnet-bottleneck", 50)[0], (97, 131), batch=4)}
    names = list(rows)
    assert names[0] == "as published"
    assert names[-1] == "float16"
    flops, moved = [row.flops for row in rows.values()], [row.bytes for row in rows.values()]
    assert flops == sorted(flops, reverse=True)
    assert moved[2:] == sorted(moved[2:], reverse=True)
    pixels = 7 * 9
    # evidence_conv on every pixel, against on the mean
    assert flops[0] - flops[1] == 2 * 4 * 50 * 50 * (pixels - 1)


def test_costs_count_the_convolutions_of_all_tasks_once() -> None:
    published, shared = rewrite_costs(small("tasks-resnet")[0], (70, 76))[:2]
    features = 5 * 5
    # conv1 (128 -> 64) on each pixel and the strided shortcut (128 -> 256), for two of three tasks
    assert published.flops - shared.flops == 2 * 2 * (128 * 64 * features + 128 * 256 * 3 * 3)
