import torch
from torch import Tensor, nn

from abn_fast.modules import ABNOutput
from abn_fast.proofs import graphs

FORWARD = {"attention_gate", "batch_norm_class_conv", "class_evidence"}
BACKWARD = {"attention_gate_backward", "norm_class_conv_backward", "class_evidence_backward"}
KERNELS = {
    "attention_gate.forward_kernel",
    "attention_gate.backward_kernel",
    "attention_gate.map_gradient_kernel",
    "class_evidence.apply_kernel",
    "class_evidence.backward_kernel",
    "norm_class_conv.fold_kernel",
}


class Plain(nn.Module):
    """Has no attention branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 1)

    def forward(self, images: Tensor) -> ABNOutput:
        logits = self.conv(images).mean((2, 3))
        return ABNOutput(logits, logits, images[:, :1])


class Broken(Plain):
    """Leaves the graph between its network and its outputs."""

    def forward(self, images: Tensor) -> ABNOutput:
        output = super().forward(images)
        torch._dynamo.graph_break()
        return ABNOutput(*(2 * each for each in output))


def check(row: graphs.Row) -> None:
    assert row["ok"], row
    assert row["breaks"] == 0
    assert set(row["forward_ops"]) >= FORWARD
    assert set(row["backward_ops"]) >= BACKWARD
    assert row["forward_ops_on_cuda"] == row["forward_ops"]
    assert set(row["kernels"]) >= KERNELS


def test_a_training_step_is_one_graph_with_the_ops_in_both_directions() -> None:
    check(*graphs.rows(["abn_cifar_resnet20"]))


def test_a_break_is_counted() -> None:
    assert graphs.breaks_of(Broken, 8) >= 1
    assert graphs.breaks_of(Plain, 8) == 0


def test_a_model_without_the_ops_is_not_ok() -> None:
    row = graphs.row_of("plain", Plain, 8)
    assert row["forward_ops"] == row["backward_ops"] == row["kernels"] == row["exported_ops"] == []
    assert not row["ok"]
