"""The gate's plugin for classic TensorRT: NVIDIA's own Python layer takes it, and what it then knows.

`test_gate_plugin_classic.py` runs it, where TensorRT-RTX's parser finds its library.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from abn_fast.export.tensorrt.plugin import PLUGIN_ID, classic
from abn_fast.export.tensorrt.plugin.kernel import compile_gate
from abn_fast.export.tensorrt.plugin.layout import divide
from abn_fast.export.tensorrt.plugin.ptx import entry
from abn_fast.export.tensorrt.plugin.tensors import gate_spec
from tests.export._plugin_layer import classic_tensorrt, with_expressions

pytest.importorskip("triton", reason="the kernel is compiled by Triton")


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(classic, "card_target", lambda: "sm_90")
    with classic_tensorrt() as package:
        classic.register_gate(package.plugin)
        yield package


class Numbers(dict[int, Any]):
    """`ISymExprs`."""

    nbSymExprs = 0  # noqa: N815 - its name there


def evaluated(package: Any, dims: tuple[int, ...], best: tuple[int, ...], shape: tuple[int, ...]) -> list[Any]:
    """What the layer knows of a gate of features of those dims, for every format, at a batch of that shape."""
    lib, classes = package.plugin._lib, package.plugin._plugin_class
    definition = lib.QDP_REGISTRY[PLUGIN_ID]
    maps, found = 3, []

    def tensor(sides: tuple[int, ...], opt: tuple[int, ...]) -> Any:
        described = package.DynamicPluginTensorDesc()
        own = package.PluginTensorDesc()
        own.dims, own.type, own.format = sides, package.float16, package.TensorFormat.LINEAR
        described.desc, described.min, described.opt, described.max = own, opt, opt, opt
        return described

    def evaluate(inputs: Any, builder: Any) -> None:
        plugin = classes._TemplateAOTPlugin("attention_gate", "abn_fast", 2)
        plugin.init(
            definition.register_func,
            {"gate": "residual"},
            definition.aot_impl_attr_names,
            definition.aot_impl_func,
            definition.autotune_attr_names,
            definition.autotune_func,
        )
        assert plugin.get_output_data_types([package.float16] * 2, [4, 4]) == [package.float16] * 2
        shapes = plugin.get_output_shapes(inputs, [], builder)
        sides = [[side.get_constant_value() for side in each] for each in shapes]
        batch, _, height, width = shape
        assert sides == [[batch * maps, *shape[1:]], [batch, maps, height, width]]
        tensors = [tensor(dims, best)]
        tensors += [tensor((side[0], count, *side[2:]), (opt[0], count, *opt[2:])) for side, opt, count in
                    ((dims, best, maps), (dims, best, dims[1]), (dims, best, maps))]  # fmt: skip
        combinations = plugin.get_supported_format_combinations(tensors, 2)
        for start in range(0, len(combinations), 4):
            for own, chosen in zip(tensors, combinations[start : start + 4], strict=True):
                described = own.desc
                described.format, described.type = chosen.format, chosen.type
                own.desc = described
            plugin.set_tactic(0)
            launch, numbers = SimpleNamespace(), Numbers()
            plugin.get_launch_params(None, tensors, 2, launch, numbers, builder)
            name, ptx = plugin.get_kernel([x.desc for x in tensors[:2]], [x.desc for x in tensors[2:]])
            values = {key: value.expr.get_constant_value() for key, value in vars(launch).items()}
            assert numbers.nbSymExprs == len(numbers)
            passed = [numbers[place].expr.get_constant_value() for place in range(len(numbers))]
            formats = [chosen.format.name for chosen in combinations[start : start + 4]]
            found.append((formats, name, ptx.decode(), values, passed))

    with_expressions([shape, (shape[0], maps, *shape[2:])], evaluate)
    return found


@pytest.mark.parametrize("varies", [False, True])
def test_tensorrt_knows_kernel_grid_and_numbers_of_each_format(tensorrt: Any, varies: bool) -> None:
    shape, best = (5, 256, 14, 6), (4, 256, 7, 6)
    dims = (-1, 256, -1, -1) if varies else (-1, 256, *shape[2:])
    found = evaluated(tensorrt, dims, best if varies else (4, *shape[1:]), shape)
    assert [formats for formats, *_ in found] == [["LINEAR"] * 4, ["HWC8", "LINEAR"] * 2]
    assert any(splits != chunks for *_, (splits, chunks, _) in found)
    for formats, name, ptx, launch, numbers in found:
        given = best if varies else (4, *shape[1:])
        spec = gate_spec(dims, given, 3, ("HALF", "HALF"), formats[0], "residual")
        assert spec.fixed != varies
        kernel, division = compile_gate(spec, "sm_89"), divide(spec, "sm_89")
        assert (name, ptx) == (kernel.name, kernel.ptx)
        assert len(entry(ptx)[1]) == 4 + len(numbers)
        assert numbers == [division.splits, division.chunks, 84]
        assert launch.pop("grid_x") == division.programs(5, 84)
        assert launch.pop("block_x") == kernel.threads
        assert launch.pop("shared_mem") == kernel.shared
        assert set(launch.values()) == {1}


def test_channels_that_would_be_padded_stay_contiguous(tensorrt: Any) -> None:
    found = evaluated(tensorrt, (-1, 12, 5, 5), (4, 12, 5, 5), (2, 12, 5, 5))
    assert [formats for formats, *_ in found] == [["LINEAR"] * 4]


def test_nvidias_layer_checks_what_is_registered(tensorrt: Any) -> None:
    definition = tensorrt.plugin._lib.QDP_REGISTRY[PLUGIN_ID]
    assert definition.input_tensor_names == ["features", "score"]
    assert definition.input_attrs == {"gate": str}
    assert definition.num_outputs == 2
