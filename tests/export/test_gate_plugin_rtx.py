"""The gate's plugin in engines of TensorRT-RTX: built on this CPU, registered to run, and launched by a stand-in."""

import ctypes
import enum
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch

from abn_fast import AbnFastError, save_checkpoint
from abn_fast.export import BatchRange, SizeRange, export_tensorrt, verify
from abn_fast.export.describe import describe
from abn_fast.export.formats import ExportRequest, export_checkpoint
from abn_fast.export.runtimes import RunnerOptions
from abn_fast.export.tensorrt import Sidecar, build_engine
from abn_fast.export.tensorrt.evidence import engine_checks
from abn_fast.export.tensorrt.flavour import CLASSIC, RTX, Flavour
from abn_fast.export.tensorrt.plugin import PLUGIN_ID, apart
from abn_fast.export.tensorrt.plugin import register as register_module
from abn_fast.export.tensorrt.plugin.driver import Driver
from abn_fast.export.tensorrt.plugin.kernel import CompiledGate, compile_gate
from abn_fast.export.tensorrt.plugin.layout import GateSpec
from abn_fast.export.tensorrt.plugin.ptx import entry
from abn_fast.export.tensorrt.plugin.rtx import gate_creator
from abn_fast.export.tensorrt.runner import EngineRunner
from tests.export import _engine
from tests.export._engine import Engine, HostCuda, runtime_module
from tests.export._networks import small
from tests.export._trained import trained

rtx = pytest.importorskip("tensorrt_rtx", reason="building engines needs tensorrt-rtx")
pytest.importorskip("triton", reason="the kernel is compiled by Triton")

SIZES = SizeRange((12, 12), (20, 26), (40, 40))


class Status(enum.IntEnum):
    """`CUresult`."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_PTX = 218


class Card:
    """`cuda.bindings.driver`, which remembers what it was asked for."""

    def __init__(self) -> None:
        self.loaded: list[bytes] = []
        self.launches: list[tuple[Any, ...]] = []
        self.status = Status.CUDA_SUCCESS

    def cuCtxGetCurrent(self) -> tuple[Any, ...]:  # noqa: N802 - their names there
        return Status.CUDA_SUCCESS, 7

    def cuModuleLoadData(self, image: bytes) -> tuple[Any, ...]:  # noqa: N802
        self.loaded.append(image)
        return self.status, len(self.loaded)

    def cuModuleGetFunction(self, module: int, name: bytes) -> tuple[Any, ...]:  # noqa: N802
        return Status.CUDA_SUCCESS, (module, name)

    def cuLaunchKernel(self, *arguments: Any) -> tuple[Any, ...]:  # noqa: N802
        self.launches.append(arguments)
        return (Status.CUDA_SUCCESS,)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", card)
    return card


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    model, _ = small("abn-cifar_resnet8")
    save_checkpoint(model, folder / "model.safetensors")
    export_tensorrt(
        model, folder / "model.engine", size=SIZES, batch=BatchRange(1, 2, 3), targets=["sm_75", "sm_86"], plugin=True
    )
    return folder / "model.engine"


def test_the_engine_holds_the_kernel_and_its_sidecar_asks_for_the_plugin(engine: Path) -> None:
    content = engine.read_bytes()
    held, _ = json.JSONDecoder().raw_decode(content[content.index(b'{"LINEAR"') :].decode("latin1"))
    assert list(held) == ["LINEAR", "HWC8"]
    for text in held.values():
        kernel = CompiledGate.from_json(text)
        assert entry(kernel.ptx)[0] == kernel.name == "gate_kernel"
        assert ".target sm_75" in kernel.ptx
    assert str(Path(apart.__file__).parents[3]).encode() not in content
    sidecar = Sidecar.read(engine)
    assert sidecar.plugin == PLUGIN_ID == "abn_fast::attention_gate"
    assert sidecar.build["layers"]["PLUGIN_V3"] == 1
    proof = json.loads(engine.with_name("model.engine.proof.json").read_text())
    assert proof["passed"]
    assert "1 plugins of 1" in {check["name"]: check["found"] for check in proof["checks"]}["layers"]
    assert "the kernel of abn_fast::attention_gate, which the engine has, was compiled and not run" in proof["notes"][1]
    assert verify(engine, engine.with_name("model.safetensors")).passed


def test_an_engine_whose_gate_is_no_plugin_is_told_apart(engine: Path) -> None:
    sidecar = Sidecar.read(engine)
    layers = sidecar.build["layers"] | {"PLUGIN_V3": 0}
    onnx_file = engine.with_name("model.engine.onnx")
    checks = engine_checks(engine, onnx_file, replace(sidecar, build=sidecar.build | {"layers": layers}), RTX)
    assert [check.name for check in checks if not check.passed] == ["layers"]


def test_what_fails_in_the_other_process_is_told_in_one_line(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_file = tmp_path / "model.onnx"
    shutil.copy(engine.with_name("model.engine.onnx"), onnx_file)
    model = onnx.load(onnx_file)
    model.graph.node[2].op_type, model.graph.node[2].domain = "Unknown", "nowhere"
    model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(model, onnx_file)
    with pytest.raises(AbnFastError, match=r"model.onnx is refused by the parser: .*--gate standard"):
        build_engine(onnx_file, targets=["sm_86"], plugin=True)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(AbnFastError, match="building with the gate's plugin ended with exit code 1: it does not say"):
        build_engine(onnx_file, targets=["sm_86"], plugin=True)


def test_what_cannot_have_a_plugin_is_told_in_one_line(tmp_path: Path) -> None:
    model, _ = small("plain-cifar_resnet8")
    with pytest.raises(AbnFastError, match="it has no gate: take gate='standard'"):
        export_tensorrt(model, tmp_path / "model.engine", size=SIZES, plugin=True)
    with pytest.raises(AbnFastError, match="plugin with precision='int8': the gate's kernel is"):
        export_tensorrt(trained(), tmp_path / "model.engine", size=SIZES, precision="int8", plugin=True)
    request = ExportRequest(SIZES, BatchRange(), plugin=True)
    checkpoint: Any = SimpleNamespace()
    with pytest.raises(AbnFastError, match="plugin: it is of engines; a file of format onnx has --gate function"):
        export_checkpoint(checkpoint, tmp_path / "model.onnx", "onnx", request)
    assert not list(tmp_path.iterdir())


def tensor(shape: Sequence[int], layout: str = "LINEAR", kind: Any = rtx.float16) -> Any:
    described = rtx.PluginTensorDesc()
    described.dims, described.type, described.format = tuple(shape), kind, getattr(rtx.TensorFormat, layout)
    return described


def varying(described: Any, best: tuple[int, ...]) -> Any:
    whole = rtx.DynamicPluginTensorDesc()
    whole.desc, whole.min, whole.opt, whole.max = described, best, best, best
    return whole


def made(creator: Any, fields: Any, phase: str) -> Any:
    return creator.create_plugin("gate", fields, getattr(rtx.TensorRTPhase, phase))


@pytest.mark.parametrize("given", [b"residual\0", b"residual"])
def test_the_zero_byte_that_ends_tensorrts_text_is_none_of_the_gates_name(given: bytes) -> None:
    given_fields = rtx.PluginFieldCollection([rtx.PluginField("gate", given, rtx.PluginFieldType.CHAR)])
    assert made(gate_creator(rtx), given_fields, "BUILD").gate == "residual"


@pytest.fixture
def fields() -> Iterator[Any]:
    """What an engine holds of a plugin that was built for features [-1, 16, -1, -1] and 3 maps in both formats."""
    kind = rtx.PluginFieldType.CHAR
    given = rtx.PluginFieldCollection([rtx.PluginField("gate", b"product\0", kind)])
    plugin = made(gate_creator(rtx, "sm_75"), given, "BUILD")
    for layout in ("LINEAR", "HWC8"):
        inputs = [
            varying(tensor((-1, 16, -1, -1), layout), (4, 16, 7, 7)),
            varying(tensor((-1, 3, -1, -1)), (4, 3, 7, 7)),
        ]
        plugin.configure_plugin(inputs, inputs)
    yield plugin.get_fields_to_serialize()
    del plugin  # it holds what is in them


SPEC = GateSpec(16, 3, torch.float16, torch.float16, False, False, 4, 49, False)


@pytest.mark.parametrize("layout", ["LINEAR", "HWC8"])
def test_the_kernel_is_launched_with_what_it_was_compiled_for(fields: Any, card: Card, layout: str) -> None:
    plugin = made(gate_creator(rtx, driver=Driver()), fields, "RUNTIME").attach_to_context(None)
    kernel = compile_gate(replace(SPEC, channels_last=layout != "LINEAR"), "sm_75")
    inputs, outputs = [tensor((5, 16, 9, 8), layout), tensor((5, 3, 9, 8))], [tensor((15, 16, 9, 8), layout)]
    plugin.on_shape_change(inputs, outputs)
    assert card.loaded == [kernel.ptx.encode() + b"\0"]
    for _ in range(2):
        plugin.enqueue(inputs, outputs, [16, 32], [48, 64], 0, 99)
    assert len(card.loaded) == 1
    assert card.launches[0] == card.launches[1]
    function, *grid, threads, one, also_one, shared, stream, arguments, extra = card.launches[0]
    division = kernel.division
    assert function == (1, kernel.name.encode())
    assert grid == [division.programs(5, 72), 1, 1]
    assert (threads, one, also_one, shared, stream, extra) == (kernel.threads, 1, 1, kernel.shared, 99, 0)
    values, kinds = arguments
    assert values == (16, 32, division.splits, division.chunks, 72, 48, 64)
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    assert kinds == (pointer, pointer, number, number, number, pointer, pointer)


def test_nvidias_bindings_take_the_arguments_so(fields: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    plugin = made(gate_creator(rtx, driver=Driver()), fields, "RUNTIME")
    monkeypatch.setattr(Driver, "load", lambda self, gate: bindings.CUfunction(0))
    described = [tensor((5, 16, 9, 8)), tensor((5, 3, 9, 8))]
    with pytest.raises(Exception) as error:  # noqa: PT011 - theirs where there is no driver, ours where there is
        plugin.enqueue(described, described, [16, 32], [48, 64], 0, 0)
    assert not isinstance(error.value, TypeError), error.value
    with pytest.raises(TypeError):
        bindings.cuLaunchKernel(bindings.CUfunction(0), 1, 1, 1, 32, 1, 1, 0, 0, ((1,), ("no type",)), 0)


def test_what_cannot_be_launched_is_told_in_one_line(fields: Any, card: Card) -> None:
    described = [tensor((5, 16, 9, 8)), tensor((5, 3, 9, 8))]
    plugin = made(gate_creator(rtx, driver=Driver()), fields, "RUNTIME")
    with pytest.raises(AbnFastError, match="takes tensors at multiples of 16 bytes"):
        plugin.enqueue(described, described, [16, 33], [48, 64], 0, 0)
    plugin.enqueue([tensor((0, 16, 9, 8)), tensor((0, 3, 9, 8))], described, [16, 32], [48, 64], 0, 0)
    assert not card.launches
    card.status = Status.CUDA_ERROR_INVALID_PTX
    with pytest.raises(AbnFastError, match="does not run: cuModuleLoadData answers CUDA_ERROR_INVALID_PTX"):
        plugin.enqueue(described, described, [16, 32], [48, 64], 0, 0)
    builds = made(gate_creator(rtx, "sm_75"), fields, "BUILD")
    with pytest.raises(AbnFastError, match="registered for building alone"):
        builds.enqueue(described, described, [16, 32], [48, 64], 0, 0)


@pytest.mark.parametrize(
    ("layouts", "kinds", "channels", "expected"),
    [
        ("LLLL", "HHHH", 16, [True] * 4),
        ("8L8L", "HHHH", 16, [True] * 4),
        ("8L8L", "HHHH", 12, [False, True, False, True]),
        ("8LLL", "HHHH", 16, [True, True, False, True]),
        ("L8L8", "HHHH", 16, [True, False, True, False]),
        ("LLLL", "HFHF", 16, [True] * 4),
        ("LLLL", "HHFH", 16, [True, True, False, True]),
        ("CLCL", "FFFF", 5, [True] * 4),
        ("LLLL", "IIII", 16, [False] * 4),
    ],
)
def test_formats_and_types_that_the_kernel_reads(layouts: str, kinds: str, channels: int, expected: list[bool]) -> None:
    field = rtx.PluginFieldCollection([rtx.PluginField("gate", b"residual", rtx.PluginFieldType.CHAR)])
    plugin = made(gate_creator(rtx, "sm_75"), field, "BUILD")
    names, types = {"L": "LINEAR", "8": "HWC8", "C": "HWC"}, {"H": rtx.float16, "F": rtx.float32, "I": rtx.int8}
    tensors = [
        varying(tensor((2, channels if place % 2 == 0 else 1, 7, 7), names[layout], types[kind]), (2, 1, 7, 7))
        for place, (layout, kind) in enumerate(zip(layouts, kinds, strict=True))
    ]
    assert [plugin.supports_format_combination(place, tensors, 2) for place in range(4)] == expected


class Registry:
    """`IPluginRegistry`."""

    def __init__(self, takes: bool = True) -> None:
        self.takes = takes
        self.creators: list[Any] = []

    def register_creator(self, creator: Any, plugin_namespace: str) -> bool:
        assert plugin_namespace == "abn_fast"
        self.creators.append(creator)
        return self.takes

    def deregister_creator(self, creator: Any) -> bool:
        self.creators.remove(creator)
        return True


def opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry, flavour: Flavour = RTX, plugin: str = PLUGIN_ID
) -> list[int]:
    """How many creators were registered whenever an engine was deserialised."""
    model, _ = small("abn-cifar_resnet8")
    metadata = describe(model, outputs=_engine.NAMES, precision="fp16", batch=BatchRange(), size=SIZES)
    sidecar = Sidecar(flavour.name, "1.2.3", ("sm_86",), "", "", metadata, plugin=plugin)
    registered: list[int] = []
    module = runtime_module("1.2.3", Engine(model))

    class Runtime(module.Runtime):  # type: ignore[name-defined]  # made at run time
        def get_plugin_registry(self) -> Registry:
            return registry

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            registered.append(len(registry.creators))
            return super().deserialize_cuda_engine(serialized_engine)

    both = {**vars(rtx), **vars(module), "Runtime": Runtime}
    monkeypatch.setitem(sys.modules, flavour.module, SimpleNamespace(**both))
    path = tmp_path / f"model{flavour.suffix}"
    path.write_bytes(b"engine")
    EngineRunner(path, sidecar, flavour, RunnerOptions(), HostCuda())
    return registered


@pytest.mark.usefixtures("card")
def test_the_runner_registers_the_plugin_while_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    assert opened(tmp_path, monkeypatch, registry) == [1]
    assert not registry.creators
    assert opened(tmp_path, monkeypatch, registry, CLASSIC) == [0]
    assert {"register_creator", "deregister_creator"} <= set(dir(rtx.IPluginRegistry))
    assert hasattr(rtx.Runtime, "get_plugin_registry")


def test_a_runner_that_cannot_register_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register_module, "Driver", Card)
    with pytest.raises(AbnFastError, match="does not register the gate's plugin: another one has its name"):
        opened(tmp_path, monkeypatch, Registry(takes=False))
    with pytest.raises(AbnFastError, match="needs the plugin other::gate, and there is abn_fast::attention_gate alone"):
        opened(tmp_path, monkeypatch, Registry(), plugin="other::gate")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(AbnFastError, match=r"needs 'cuda.bindings.driver', .*abn-fast\[tensorrt-rtx\]"):
        opened(tmp_path, monkeypatch, Registry())


def test_an_older_sidecar_asks_for_no_plugin(engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    values = json.loads(engine.with_name("model.engine.json").read_text())
    del values["plugin"]
    path.with_name("model.engine.json").write_text(json.dumps(values))
    assert Sidecar.read(path).plugin is None
