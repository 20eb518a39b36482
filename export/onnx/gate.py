from typing import Any

import torch
from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.export.optimize.branches import AttentionBranches, MultiTaskBranches
from abn_fast.export.optimize.gate import SigmoidGate
from abn_fast.export.optimize.head import InferenceHead
from abn_fast.export.served import ServedNetwork
from abn_fast.kernels import Gate

DOMAIN, NAME, VERSION = "abn_fast", "attention_gate", 1


class GateFunction(nn.Module):
    """`SigmoidGate` as one ONNX node, abn_fast::attention_gate, which a runtime's plugin may take."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, features: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """As `SigmoidGate`."""
        batch, channels, height, width = features.shape
        gated, attention = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{NAME}",
            (features, score),
            {"gate": self.gate, "plugin_version": str(VERSION), "plugin_namespace": DOMAIN},
            dtypes=(features.dtype, score.dtype),
            shapes=((batch * score.shape[1], channels, height, width), tuple(score.shape)),
            version=VERSION,
        )
        return gated, attention


def put_gate_function(network: ServedNetwork) -> None:
    """Have a network's gate become one node.

    Raises:
        AbnFastError: it has no gate of that kind.
    """
    for module in network.modules():
        is_sigmoid = isinstance(module, MultiTaskBranches) or (
            isinstance(module, InferenceHead) and module.map_conv is not None
        )
        if is_sigmoid and isinstance(module.gate, SigmoidGate):
            module.gate = GateFunction(module.gate.gate)
            return
    kind = "its map is no sigmoid" if isinstance(network.network.branches, AttentionBranches) else "it has no gate"
    raise AbnFastError(f"gate='function' is of a network whose map is a sigmoid, but {kind}: take gate='standard'")


def gate_function(gate: Gate, opset: int) -> Any:
    """What abn_fast::attention_gate computes, in standard operators, for runtimes without a plugin.

    features [N, C, H, W], score [N, T, H, W] -> gated [N * T, C, H, W], attention [N, T, H, W].
    """
    from onnx import TensorProto, helper

    def constant(name: str, values: list[int]) -> Any:
        tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return helper.make_node("Constant", [], [name], value=tensor)

    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    residual = [
        helper.make_node("Constant", [], ["one_float"], value=one),
        helper.make_node("CastLike", ["one_float", "attention"], ["one"]),
        helper.make_node("Add", ["attention", "one"], ["gates"]),
    ]
    nodes = [
        helper.make_node("Sigmoid", ["score"], ["attention"]),
        *(residual if gate == "residual" else [helper.make_node("Identity", ["attention"], ["gates"])]),
        constant("task_axis", [1]),
        constant("channel_axis", [2]),
        helper.make_node("Unsqueeze", ["features", "task_axis"], ["features_of_tasks"]),
        helper.make_node("Unsqueeze", ["gates", "channel_axis"], ["gates_of_channels"]),
        helper.make_node("Mul", ["features_of_tasks", "gates_of_channels"], ["gated_by_task"]),
        helper.make_node("Shape", ["features"], ["inner"], start=1),
        constant("any", [-1]),
        helper.make_node("Concat", ["any", "inner"], ["shape"], axis=0),
        helper.make_node("Reshape", ["gated_by_task", "shape"], ["gated"]),
    ]
    return helper.make_function(
        DOMAIN,
        NAME,
        ["features", "score"],
        ["gated", "attention"],
        nodes,
        [helper.make_opsetid("", opset)],
        ["gate", "plugin_version", "plugin_namespace"],
    )
