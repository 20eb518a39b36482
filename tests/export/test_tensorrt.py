"""Engines of TensorRT-RTX, built on this CPU: what is in them, what stands beside them, and what never becomes one."""

import copy
import hashlib
import json
import shutil
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from abn_fast import AbnFastError, save_checkpoint
from abn_fast.export import BatchRange, InferenceSession, ProofFailedError, SizeRange, verify
from abn_fast.export.onnx.prepare import OnnxProgram
from abn_fast.export.proof import Check
from abn_fast.export.runtimes import RunnerOptions
from abn_fast.export.tensorrt import FLAVOURS, BuiltEngine, Sidecar, build_engine, export_tensorrt
from abn_fast.export.tensorrt import build as build_module
from abn_fast.export.tensorrt import export as export_module
from abn_fast.export.tensorrt import prove as prove_module
from abn_fast.export.tensorrt.evidence import build_record, engine_checks
from abn_fast.export.tensorrt.flavour import CLASSIC, RTX, Flavour
from abn_fast.export.tensorrt.header import EngineHeader
from abn_fast.export.tensorrt.log import LogLine, errors, totals
from abn_fast.export.tensorrt.products import products_as_convolutions
from abn_fast.export.tensorrt.runner import EngineRunner
from abn_fast.modules import ImageNetwork
from tests.export._engine import Engine, HostCuda, runtime_module
from tests.export._networks import outputs_of, relative_error, small
from tests.export.conftest import CLASSES, PREPROCESSING, Exported

rtx = pytest.importorskip("tensorrt_rtx", reason="building engines needs tensorrt-rtx")

FIXED: dict[str, Any] = {"size": SizeRange.fixed((20, 26)), "batch": BatchRange(1, 2, 3)}


class Made(NamedTuple):
    """A network, its checkpoint and its engine."""

    model: ImageNetwork
    checkpoint: Path
    engine: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("engine")
    model, _ = small("abn-cifar_resnet8")
    checkpoint, engine = folder / "model.safetensors", folder / "model.engine"
    save_checkpoint(model, checkpoint, preprocessing=PREPROCESSING, classes=CLASSES)
    described: dict[str, Any] = {"preprocessing": PREPROCESSING, "classes": CLASSES}
    export_tensorrt(model, engine, targets=["sm_89", "86"], **FIXED, **described)
    return Made(model, checkpoint, engine)


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    """The engine with all that stands beside it, to be changed."""
    for path in made.engine.parent.glob("model.engine*"):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "model.engine"


@pytest.fixture
def traced(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares an export the tracing: its ONNX file is the one of `made`."""
    source = made.engine.with_name("model.engine.onnx")

    def write(program: OnnxProgram, path: Path) -> list[str]:
        shutil.copy(source, path)
        return []

    monkeypatch.setattr(OnnxProgram, "write", write)


@pytest.fixture(scope="session")
def built(exported: Exported) -> BuiltEngine:
    """Of any batch and size, in float32."""
    return build_engine(exported.file, targets=["sm_86"])


def sidecar_of(built: BuiltEngine) -> Sidecar:
    return Sidecar("tensorrt-rtx", built.version, built.targets, "", "", built.metadata, build_record(built))


def test_all_that_an_engine_needs_stands_beside_it(made: Made) -> None:
    names = {path.name for path in made.engine.parent.iterdir()}
    beside = {"model.engine", "model.engine.json", "model.engine.onnx", "model.engine.log", "model.engine.proof.json"}
    assert names == {"model.safetensors"} | beside
    sidecar = json.loads((made.engine.parent / "model.engine.json").read_text())
    assert (sidecar["flavour"], sidecar["version"]) == ("tensorrt-rtx", rtx.__version__)
    assert sidecar["targets"] == ["sm_86", "sm_89"]
    assert sidecar["metadata"]["precision"] == "fp16"
    assert (sidecar["metadata"]["batch"], sidecar["metadata"]["size"]) == ("1:2:3", "20x26")
    assert sidecar["metadata"]["classes"] == CLASSES
    assert sidecar["metadata"]["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
    log = (made.engine.parent / "model.engine.log").read_text()
    assert f"Total Weights Memory: {sidecar['build']['weights_bytes']} bytes" in log
    assert str(Path(torch.__file__).parent) not in log


def test_the_proof_says_that_the_engine_was_not_run(made: Made) -> None:
    proof = json.loads((made.engine.parent / "model.engine.proof.json").read_text())
    assert proof["passed"] is True
    assert proof["summary"]["engine_run"] == "no"
    assert proof["summary"]["bytes"] == made.engine.stat().st_size
    assert "built for sm_86, sm_89 and not run: there is no GPU here" in proof["notes"][0]
    assert "the engine was not run" in proof["provider"]
    checks = {check["name"]: check for check in proof["checks"]}
    assert list(checks) == ["parser", "layers", "inputs and outputs", "weights", "header"]
    assert all(check["passed"] for check in checks.values())
    assert "14 convolutions of 14, 1 matrix products of 1" in checks["layers"]["found"]
    assert "images Float [-1, 3, 20, 26], logits Float [-1, 3]" in checks["inputs and outputs"]["found"]
    assert {row["batch"] for row in proof["comparisons"]} == {1, 2, 3}


def test_an_engine_may_be_for_several_cards(exported: Exported) -> None:
    for targets in (("sm_120",), ("sm_86", "sm_121"), None):
        engine = build_engine(exported.file, targets=targets)
        header = EngineHeader.read(engine.engine[:64])
        assert header.targets == engine.targets == (targets or ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121"))
        assert header.version == rtx.__version__
        assert header.size == len(engine.engine)


def test_float32_is_no_tf32(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    make, configs = rtx.Builder, []

    class Watched:
        def __init__(self, logger: Any) -> None:
            self.builder = make(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.builder, name)

        def create_builder_config(self) -> Any:
            configs.append(self.builder.create_builder_config())
            return configs[-1]

    monkeypatch.setattr(rtx, "Builder", Watched)
    build_engine(exported.file, targets=["sm_86"])
    assert [config.get_flag(rtx.BuilderFlag.TF32) for config in configs] == [False]


def test_turing_takes_fully_connected_layers_as_convolutions(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match="sm_75 has no float32 matrix product: take --precision fp16"):
        build_engine(exported.file, targets=["sm_75"])
    model = onnx.load(exported.file)
    assert products_as_convolutions(model) == 1
    assert products_as_convolutions(model) == 0
    onnx.save(model, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 30, 22)
    logits = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
    assert relative_error(logits, outputs_of(exported.model, images)["logits"]) < 1e-5
    turing = build_engine(tmp_path / "model.onnx", targets=["sm_75"])
    assert "MATRIX_MULTIPLY" not in turing.layers
    assert EngineHeader.read(turing.engine[:64]).targets == ("sm_75",)


def test_int8_for_turing_takes_them_too(exported: Exported, tmp_path: Path) -> None:
    quantized = quantize(exported.file, tmp_path / "model.onnx", symmetric=True)
    ampere = build_engine(quantized, targets=["sm_86"])
    assert ampere.layers["QUANTIZE"] > 10
    model = onnx.load(quantized)
    assert products_as_convolutions(model) == 1
    onnx.save(model, quantized)
    turing = build_engine(quantized, targets=["sm_75", "sm_86"])
    assert turing.layers["CONVOLUTION"] == ampere.layers["CONVOLUTION"] + 1


def quantize(source: Path, path: Path, symmetric: bool) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            self.batches = iter([{"images": generator.standard_normal((2, 3, 20, 26), dtype=np.float32)}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False} if symmetric else {}
    quantize_static(
        str(source),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm"] if symmetric else None,
        extra_options=options,
    )
    return path


def test_int8_for_cpus_is_told_apart(exported: Exported, tmp_path: Path) -> None:
    quantized = quantize(exported.file, tmp_path / "model.onnx", symmetric=False)
    with pytest.raises(AbnFastError, match="is quantised for CPUs, and an engine takes symmetric int8 alone"):
        build_engine(quantized)


def test_files_that_are_no_onnx_of_ours_are_refused(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.file.read_bytes()[:3000])
    with pytest.raises(AbnFastError, match="truncated, damaged or no ONNX file"):
        build_engine(path)
    model = onnx.load(exported.file)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(AbnFastError, match="no file of abn_fast's"):
        build_engine(path)
    model = onnx.load(exported.file)
    model.graph.node[2].op_type, model.graph.node[2].domain = "Unknown", "nowhere"
    model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(model, path)
    with pytest.raises(AbnFastError, match=r"model.onnx is refused by the parser: .*--gate standard"):
        build_engine(path)


def test_the_gate_as_a_function_becomes_an_engine(tmp_path: Path) -> None:
    model, _ = small("abn-product")
    proof = export_tensorrt(model, tmp_path / "model.engine", gate="function", targets=["sm_86"], **FIXED)
    assert proof.passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": ["sm_90"]}, "target 'sm_90'; TensorRT-RTX builds for sm_75, .*others take --format tensorrt"),
        ({"targets": ["ada"]}, "target 'sm_ada'; TensorRT-RTX builds for"),
        ({"targets": ["sm_75"], "precision": "bf16"}, "sm_75 has no bf16: take --precision fp16, or leave sm_75 out"),
        ({"flavour": "trt"}, "flavour='trt'; expected one of 'tensorrt', 'tensorrt-rtx'"),
        ({"path": "model.plan"}, "TensorRT-RTX engines are called NAME.engine"),
        ({"flavour": "tensorrt", "path": "model.plan", "targets": ["sm_86"]}, "TensorRT builds for the card it runs"),
        ({"precision": "half"}, "precision='half'; expected one of"),
        ({"outputs": ["map"]}, "no output 'map'"),
        ({"size": SizeRange.fixed((1, 1)), "kind": "abn-densenet_bc10_4"}, "does not take images of 1x1 pixels"),
    ],
)
def test_bad_arguments_are_told_in_one_line_and_write_nothing(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = FIXED | arguments
    model, _ = small(given.pop("kind", "abn-cifar_resnet8"))
    with pytest.raises(AbnFastError, match=message) as error:
        export_tensorrt(model, tmp_path / given.pop("path", "model.engine"), **given)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_without_the_package_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Exported
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(AbnFastError, match=r"needs 'tensorrt_rtx', .*pip install 'abn-fast\[tensorrt-rtx\]'"):
        export_tensorrt(exported.model, tmp_path / "model.engine", **FIXED)
    assert not list(tmp_path.iterdir())


def test_an_engine_of_another_network_is_told_apart(built: BuiltEngine, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(built.engine)
    sidecar = sidecar_of(built)
    checks = engine_checks(path, exported.file, sidecar, RTX)
    assert all(check.passed for check in checks)

    def wrong(change: Callable[[Any], None], sidecar: Sidecar = sidecar) -> list[str]:
        model = onnx.load(exported.file)
        change(model.graph)
        onnx.save(model, tmp_path / "other.onnx")
        return [each.name for each in engine_checks(path, tmp_path / "other.onnx", sidecar, RTX) if not each.passed]

    conv = next(node for node in onnx.load(exported.file).graph.node if node.op_type == "Conv")
    assert wrong(lambda graph: graph.node.append(conv)) == ["layers"]
    assert wrong(lambda graph: setattr(graph.output[0], "name", "scores")) == ["inputs and outputs"]
    more = onnx.numpy_helper.from_array(np.zeros(9000, np.float32), "more")
    assert wrong(lambda graph: graph.initializer.append(more)) == ["weights"]
    assert wrong(lambda graph: None, replace(sidecar, targets=("sm_89",))) == ["header"]
    path.write_bytes(built.engine[:-1])
    assert wrong(lambda graph: None) == ["header"]


@pytest.mark.usefixtures("traced")
def test_an_engine_that_fails_is_kept_as_rejected_and_what_stood_there_stays(
    copied: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in copied.parent.iterdir()}
    monkeypatch.setattr(prove_module, "engine_checks", lambda *given: (Check("layers", "one too few", False),))
    with pytest.raises(ProofFailedError, match=r"model.engine is not the network it came from: layers: one too few"):
        export_tensorrt(made.model, copied, targets=["sm_86"], **FIXED)
    after = {path.name: path.read_bytes() for path in copied.parent.iterdir()}
    assert after.keys() - before.keys() == {"model.engine.rejected", "model.engine.rejected.proof.json"}
    assert before.items() <= after.items()
    assert json.loads(after["model.engine.rejected.proof.json"])["passed"] is False


def test_a_build_that_fails_leaves_nothing(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "products_as_convolutions", lambda model: 0)
    with pytest.raises(AbnFastError, match="becomes no TensorRT-RTX engine: sm_75 has no float32 matrix product"):
        export_tensorrt(made.model, tmp_path / "model.engine", precision="fp32", targets=["sm_75"], **FIXED)
    assert not list(tmp_path.iterdir())


def change_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def change_sidecar(engine: Path, **values: Any) -> None:
    path = engine.with_name("model.engine.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


TAMPERED: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), r"is truncated or damaged: \d+ bytes of \d+"),
    (lambda path: path.write_bytes(path.read_bytes()[:30]), "cut within its first 64 bytes"),
    (lambda path: path.write_bytes(b"x" * 1000), "no engine of TensorRT-RTX"),
    (lambda path: change_byte(path, 5000), "is not the engine that its sidecar describes"),
    (lambda path: change_byte(path, 24), "but its sidecar says"),
    (lambda path: change_byte(path, 32), "for sm_75, sm_86, sm_89, but its sidecar says .* for sm_86, sm_89"),
    (lambda path: path.with_name("model.engine.json").unlink(), "model.engine.json, .* does not stand beside it"),
    (lambda path: path.with_name("model.engine.json").write_text("{"), "model.engine.json is damaged"),
    (lambda path: change_sidecar(path, format=7), "has format 7 instead of 1"),
    (lambda path: change_sidecar(path, flavour="tensorrt"), "says that tensorrt built it, which writes no .engine"),
    (lambda path: change_sidecar(path, metadata=3), "damaged"),
    (lambda path: change_sidecar(path, targets=["sm_75"]), "but its sidecar says"),
]


@pytest.mark.parametrize(("tamper", "message"), TAMPERED)
def test_a_tampered_engine_is_never_loaded(
    copied: Path, tamper: Callable[[Path], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtx, "Runtime", None)
    tamper(copied)
    with pytest.raises(AbnFastError, match=message) as error:
        InferenceSession(copied)
    assert "\n" not in str(error.value)


def test_a_sound_engine_without_a_card_is_refused_in_one_line(copied: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    with pytest.raises(AbnFastError, match="an engine runs on a GPU, and torch finds none here"):
        InferenceSession(copied)
    with pytest.raises(AbnFastError, match="device='cpu': an engine runs on a GPU alone"):
        InferenceSession(copied, device="cpu")
    change = struct.pack("<4B", 1, 0, 0, 0)
    content = copied.read_bytes()
    copied.write_bytes(content[:24] + change + content[28:])
    sidecar = Sidecar.read(copied)
    changed = replace(sidecar, version="1.0.0.0", engine_sha256=hashlib.sha256(copied.read_bytes()).hexdigest())
    changed.write(copied)
    with pytest.raises(AbnFastError, match=rf"built by TensorRT-RTX 1.0.0.0, and {rtx.__version__} is installed"):
        InferenceSession(copied)


def test_an_engine_is_verified_against_its_checkpoint(copied: Path, made: Made, tmp_path: Path) -> None:
    proof = verify(copied, made.checkpoint)
    assert proof.passed
    assert "not run" in proof.notes[0]
    assert [check.name for check in proof.checks] == ["parser", "layers", "inputs and outputs", "weights", "header"]
    other = copy.deepcopy(made.model)
    weights: Any = other.perception_branch.classifier
    torch.nn.init.normal_(weights.weight)
    save_checkpoint(other, tmp_path / "other.safetensors", preprocessing=PREPROCESSING, classes=CLASSES)
    assert not verify(copied, tmp_path / "other.safetensors").passed
    with pytest.raises(AbnFastError, match="runtime='torch'; expected one of 'auto', 'tensorrt-rtx'"):
        verify(copied, made.checkpoint, runtime="torch")
    copied.with_name("model.engine.onnx").write_bytes(b"")
    with pytest.raises(AbnFastError, match=r"is not the file that model.engine was built from"):
        verify(copied, made.checkpoint)
    copied.with_name("model.engine.onnx").unlink()
    with pytest.raises(AbnFastError, match=r"model.engine.onnx, which it was built from, does not stand beside it"):
        verify(copied, made.checkpoint)


def test_on_a_card_the_engine_itself_is_compared(copied: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_module, "local_targets", lambda: ["sm_86"])
    computing = made.model

    def opened(path: Path, sidecar: Sidecar, flavour: Flavour, options: RunnerOptions) -> EngineRunner:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "tensorrt_rtx", runtime_module(rtx.__version__, Engine(computing)))
            return EngineRunner(path, sidecar, flavour, options, HostCuda())

    monkeypatch.setattr(prove_module, "EngineRunner", opened)
    proof = verify(copied, made.checkpoint)
    assert proof.passed
    assert (proof.runtime, proof.summary["engine_run"]) == ("tensorrt-rtx", "yes")
    assert proof.provider == f"Stand-in, sm_86, TensorRT-RTX {rtx.__version__}"
    assert not any("not run" in note for note in proof.notes)
    computing = copy.deepcopy(made.model)
    weights: Any = computing.perception_branch.classifier
    torch.nn.init.normal_(weights.weight)
    assert any("logits differ" in failure for failure in verify(copied, made.checkpoint).failures)
    monkeypatch.setattr(prove_module, "local_targets", lambda: ["sm_75"])
    assert "the card here is sm_75" in verify(copied, made.checkpoint).notes[0]


@pytest.mark.usefixtures("traced")
def test_classic_tensorrt_builds_for_the_card_at_hand(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    monkeypatch.setattr(build_module, "card_target", lambda: "sm_90")
    proof = export_tensorrt(made.model, tmp_path / "model.plan", flavour="tensorrt", **FIXED)
    assert proof.passed
    assert "header" not in {check.name for check in proof.checks}
    assert Sidecar.read(tmp_path / "model.plan").targets == ("sm_90",)
    with pytest.raises(AbnFastError, match="an engine runs on a GPU"):
        InferenceSession(tmp_path / "model.plan", device="cuda")


def test_classic_tensorrt_without_a_card_says_so(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_builder(logger: Any) -> None:
        logger.log(rtx.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    monkeypatch.setattr(rtx, "Builder", no_builder)
    with pytest.raises(AbnFastError, match="TensorRT cannot start here: it needs a GPU and its driver"):
        build_engine(exported.file, CLASSIC)


def test_the_log_tells_totals_and_errors() -> None:
    lines = [
        LogLine(0, "INFO", "Total Weights Memory: 7 bytes"),
        LogLine(0, "VERBOSE", "Engine Layer Information:\nLayer(A): x, images (Float[2,3]) -> mid (Half[-1])"),
        LogLine(0, "INTERNAL_ERROR", "wrong"),
        LogLine(0, "ERROR", "[catchCudaError] no driver"),
    ]
    assert totals(lines) == (7, None, {"images": ("Float", (2, 3)), "mid": ("Half", (-1,))})
    assert errors(lines) == ["wrong"]
    assert totals([]) == (None, None, {})


def test_flavours_have_a_name_each() -> None:
    assert list(FLAVOURS) == ["tensorrt", "tensorrt-rtx"]
    assert len({flavour.suffix for flavour in FLAVOURS.values()}) == 2
