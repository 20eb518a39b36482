from typing import Any

from abn_fast.export.onnx.gate import DOMAIN, NAME
from abn_fast.export.tensorrt.cuda import card_target
from abn_fast.export.tensorrt.plugin.kernel import compile_gate, ptx_target
from abn_fast.export.tensorrt.plugin.tensors import LINEAR, feature_formats, gate_spec, text

PLUGIN_ID = f"{DOMAIN}::{NAME}"


def register_gate(plugin: Any) -> None:
    """Have classic TensorRT build abn_fast::attention_gate nodes from our kernel, whose PTX the engine then holds.

    Such an engine runs anywhere, in C++ and trtexec too: nothing of Python is in it.

    Args:
        plugin: the module tensorrt.plugin.
    """

    def describe(features: Any, score: Any, gate: str) -> Any:
        gated = features.like()
        gated.shape_expr[0] = features.shape_expr[0] * score.shape_expr[1]
        return gated, score.like()

    def autotune(features: Any, score: Any, gate: str, outputs: Any) -> Any:
        types = ", ".join([features.dtype.name, score.dtype.name] * 2)
        return [
            plugin.AutoTuneCombination(types, f"{each}, {LINEAR}, {each}, {LINEAR}")
            for each in feature_formats(features.dtype.name, features.shape[1])
        ]

    def compiled(features: Any, score: Any, gate: str, outputs: Any, tactic: int) -> Any:
        spec = gate_spec(
            tuple(features.shape),
            features.shape.opt,
            score.shape[1],
            (features.dtype.name, score.dtype.name),
            features.format.name,
            text(gate.encode()),
        )
        kernel = compile_gate(spec, ptx_target((card_target(),)))
        batch, _, height, width = features.shape_expr
        division, pixels = kernel.division, height * width
        launch = plugin.KernelLaunchParams()
        launch.grid_x = batch * plugin.cdiv(division.pixels_of_tiles(pixels), division.block_b) * division.splits
        launch.block_x = kernel.threads
        launch.shared_mem = kernel.shared
        numbers = plugin.SymExprs.from_tuple((division.splits, division.chunks, plugin.SymInt32(pixels)))
        return kernel.name, kernel.ptx, launch, numbers

    tensor, tensors = plugin.TensorDesc, tuple[plugin.TensorDesc, plugin.TensorDesc]
    inputs = {"features": tensor, "score": tensor, "gate": str}
    describe.__annotations__ = inputs | {"return": tensors}
    autotune.__annotations__ = inputs | {"outputs": tensors, "return": list[plugin.AutoTuneCombination]}
    returned = tuple[str, str, plugin.KernelLaunchParams, plugin.SymExprs]
    compiled.__annotations__ = inputs | {"outputs": tensors, "tactic": int, "return": returned}
    plugin.register(PLUGIN_ID)(describe)
    plugin.autotune(PLUGIN_ID)(autotune)
    plugin.aot_impl(PLUGIN_ID)(compiled)
