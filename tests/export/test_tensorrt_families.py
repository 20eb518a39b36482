"""Engines of whole families and of the networks people deploy, built on this CPU for all cards."""

import time
from pathlib import Path

import pytest

from abn_fast import create_model
from abn_fast.export import BatchRange, SizeRange
from abn_fast.export.onnx.prepare import prepare_program
from abn_fast.export.quantize import Quantization
from abn_fast.export.tensorrt import Sidecar, build_engine, export_tensorrt
from abn_fast.export.tensorrt.evidence import build_record, engine_checks
from abn_fast.export.tensorrt.export import _write_onnx
from abn_fast.export.tensorrt.flavour import RTX
from abn_fast.export.tensorrt.header import EngineHeader
from tests.export._networks import SMALL, small
from tests.export._trained import SEEN, save_pictures, trained

pytest.importorskip("tensorrt_rtx", reason="building engines needs tensorrt-rtx")

CARDS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in SMALL if not kind.startswith("plain")])
def test_every_family_becomes_an_engine(kind: str, tmp_path: Path) -> None:
    model, images = small(kind)
    size = SizeRange.around((images.shape[2], images.shape[3]))
    proof = export_tensorrt(model, tmp_path / "model.engine", size=size, batch=BatchRange(1, 2, 3), targets=CARDS)
    assert proof.passed
    assert EngineHeader.read((tmp_path / "model.engine").read_bytes()[:64]).targets == CARDS


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_resnet50_abn_is_built_for_each_card_in_under_a_minute(precision: str, tmp_path: Path) -> None:
    model = create_model("abn_resnet50", num_classes=1000).eval()
    onnx, engine = tmp_path / "model.onnx", tmp_path / "model.engine"
    quantization = Quantization(save_pictures(tmp_path / "seen", range(4)), "tensorrt") if precision == "int8" else None
    program = prepare_program(model, size=SizeRange.around((224, 224)), precision=precision, quantization=quantization)
    _write_onnx(program, onnx, CARDS)
    start = time.process_time()  # of all threads: the machine may be busy with other work
    for targets in (*((card,) for card in CARDS), CARDS):
        built = build_engine(onnx, targets=targets)
        engine.write_bytes(built.engine)
        sidecar = Sidecar("tensorrt-rtx", built.version, targets, "", "", built.metadata, build_record(built))
        assert all(check.passed for check in engine_checks(engine, onnx, sidecar, RTX))
        assert EngineHeader.read(built.engine[:64]).targets == targets
        assert ("QUANTIZE" in built.layers) == (precision == "int8")
    assert time.process_time() - start < 60


@pytest.mark.slow
def test_an_int8_engine_is_built_for_each_card(tmp_path: Path) -> None:
    quantization = Quantization(save_pictures(tmp_path / "seen", range(64)), "tensorrt", ("last",))
    proof = export_tensorrt(
        trained(),
        tmp_path / "model.engine",
        size=SizeRange.fixed(SEEN.image_size),
        batch=BatchRange(1, 2, 8),
        precision="int8",
        targets=CARDS,
        preprocessing=SEEN,
        images=save_pictures(tmp_path / "unseen", range(100, 108)),
        quantization=quantization,
    )
    assert proof.passed
    assert any("fully connected layers became 1x1 convolutions" in note for note in proof.notes)
    assert EngineHeader.read((tmp_path / "model.engine").read_bytes()[:64]).targets == CARDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["abn-resnet-bottleneck", "tasks-resnet", "tasks-densenet"])
def test_families_become_engines_with_the_gates_plugin(kind: str, tmp_path: Path) -> None:
    model, images = small(kind)
    size = SizeRange.fixed((images.shape[2], images.shape[3]))
    proof = export_tensorrt(
        model, tmp_path / "model.engine", size=size, batch=BatchRange(1, 2, 3), targets=CARDS, plugin=True
    )
    assert proof.passed
    assert Sidecar.read(tmp_path / "model.engine").build["layers"]["PLUGIN_V3"] >= 1
