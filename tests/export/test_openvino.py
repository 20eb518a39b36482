"""OpenVINO's files and OpenVINO as a runtime of ONNX files."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from abn_fast import AbnFastError, save_checkpoint
from abn_fast.checkpoints import Checkpoint, read_checkpoint
from abn_fast.export import BatchRange, InferenceSession, ProofFailedError, SizeRange, verify
from abn_fast.export.formats import ExportRequest, export_checkpoint
from abn_fast.export.proof.proof import TOLERANCES
from abn_fast.export.quantize import Quantization
from tests.export._networks import outputs_of, relative_error
from tests.export._trained import CLASSES, SEEN, picture, save_pictures, trained
from tests.export.conftest import Exported

pytest.importorskip("openvino", reason="openvino is not installed")

REQUEST = ExportRequest(SizeRange.around(SEEN.image_size), BatchRange(1, 4, 8))


class Written(NamedTuple):
    """A checkpoint, and the OpenVINO file made from it."""

    checkpoint: Path
    file: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("openvino")
    checkpoint = folder / "model.safetensors"
    save_checkpoint(trained(), checkpoint, preprocessing=SEEN, classes=CLASSES)
    (folder / "written").mkdir()
    export_checkpoint(read_checkpoint(checkpoint), folder / "written" / "model.xml", "openvino", REQUEST)
    return Written(checkpoint, folder / "written" / "model.xml")


def checkpoint_of(written: Written) -> Checkpoint:
    return read_checkpoint(written.checkpoint)


def copied(written: Written, folder: Path) -> Path:
    for path in written.file.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / written.file.name


def test_a_file_is_two_and_its_proof(written: Written) -> None:
    names = {path.name for path in written.file.parent.iterdir()}
    assert names == {"model.xml", "model.bin", "model.xml.proof.json"}
    proof = json.loads((written.file.parent / "model.xml.proof.json").read_text())
    assert proof["passed"] is True
    assert (proof["runtime"], proof["provider"]) == ("openvino", "CPU, f32")
    sizes = [path.stat().st_size for path in (written.file, written.file.with_suffix(".bin"))]
    assert proof["summary"]["bytes"] == sum(sizes)


def test_it_computes_what_the_network_does_at_any_batch_and_size(written: Written) -> None:
    session = InferenceSession(written.file)
    assert (session.runtime, session.provider) == ("openvino", "CPU, f32")
    assert session.classes == tuple(CLASSES)
    for shape in ((1, 3, 24, 28), (5, 3, 40, 36)):
        images = torch.randn(shape)
        expected, ours = outputs_of(trained(), images), session(images)
        assert ours._fields == ("logits", "attention")
        for name in ours._fields:
            assert relative_error(getattr(ours, name), expected[name]) < 1e-4
    assert session(picture(1)).logits.argmax() == 1
    swapped = InferenceSession(written.file, outputs=["attention", "logits"])(images)
    torch.testing.assert_close(swapped.logits, ours.logits)


def test_threads_do_not_disturb_each_other(written: Written) -> None:
    session = InferenceSession(written.file, threads=1)
    batches = [torch.randn(1 + index % 3, 3, 24, 28) for index in range(24)]
    alone = [session(batch).logits for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda batch: session(batch).logits, batches))
    for ours, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, expected)


def test_results_stay_when_the_next_images_come(written: Written) -> None:
    session = InferenceSession(written.file)
    first = session(torch.ones(1, 3, 24, 28)).logits
    kept = first.clone()
    session(-torch.ones(1, 3, 24, 28))
    torch.testing.assert_close(first, kept)


def test_onnx_files_run_too(exported: Exported) -> None:
    images = torch.randn(3, 3, 30, 34)
    session = InferenceSession(exported.file, runtime="openvino")
    assert session.provider == "CPU, f32"
    expected = outputs_of(exported.model, images)
    assert relative_error(session(images).attention, expected["attention"]) < 1e-4
    assert InferenceSession(exported.file).runtime == "onnxruntime"
    proof = verify(exported.file, exported.checkpoint, runtime="openvino")
    assert proof.passed
    assert proof.runtime == "openvino"


def test_a_dtype_says_what_it_computes_in(written: Written) -> None:
    session = InferenceSession(written.file, dtype=torch.bfloat16)
    assert session.provider == "CPU, bf16"
    images = torch.randn(4, 3, 24, 28)
    expected = outputs_of(trained(), images)["logits"]
    assert 1e-5 < relative_error(session(images).logits, expected) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_16_bit_files_compute_in_16_bits(written: Written, precision: str, tmp_path: Path) -> None:
    path = tmp_path / "half.xml"
    request = ExportRequest(REQUEST.size, REQUEST.batch, precision)
    proof = export_checkpoint(checkpoint_of(written), path, "openvino", request)
    assert proof.provider == ("CPU, f16" if precision == "fp16" else "CPU, bf16")
    assert InferenceSession(path).metadata.precision == precision
    if precision == "fp16":
        assert path.with_suffix(".bin").stat().st_size < 0.6 * written.file.with_suffix(".bin").stat().st_size


def test_int8_files_hold_8_bit_weights(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "small.xml"
    folder = save_pictures(tmp_path / "pictures", range(200, 232))
    request = ExportRequest(REQUEST.size, REQUEST.batch, "int8", quantization=Quantization(folder))
    export_checkpoint(checkpoint_of(written), path, "openvino", request)
    assert path.with_suffix(".bin").stat().st_size < 0.4 * written.file.with_suffix(".bin").stat().st_size
    session = InferenceSession(path)
    assert [int(session(picture(index)).logits.argmax()) for index in range(400, 430)] == [
        i % 3 for i in range(400, 430)
    ]
    with pytest.raises(AbnFastError, match=r"is int8: dtype=torch.float16 is chosen when it is exported"):
        InferenceSession(path, dtype=torch.float16)


def test_a_failed_file_is_kept_as_rejected_and_what_stood_there_stays(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(written, tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(TOLERANCES, "fp32", 0.0)
        with pytest.raises(ProofFailedError, match=r"model.xml is not the network it came from"):
            export_checkpoint(checkpoint_of(written), path, "openvino", REQUEST)
    before = {"model.xml", "model.bin", "model.xml.proof.json"}
    rejected = {"model.xml.rejected", "model.bin.rejected", "model.xml.rejected.proof.json"}
    assert {each.name for each in tmp_path.iterdir()} == before | rejected
    InferenceSession(path)
    export_checkpoint(checkpoint_of(written), path, "openvino", REQUEST)
    assert {each.name for each in tmp_path.iterdir()} == before


def test_nothing_is_left_of_an_export_that_breaks_off(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("abn_fast.export.openvino.export.prove", broken)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(checkpoint_of(written), tmp_path / "model.xml", "openvino", REQUEST)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_told_in_one_line(written: Written, tmp_path: Path) -> None:
    path = copied(written, tmp_path)
    weights = path.with_suffix(".bin")
    text, content = path.read_text(), weights.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    cases: list[tuple[str, bytes | None, str]] = [
        (text, None, "its weights model.bin are not beside it"),
        (text, bytes(changed), "model.bin is not the file that it was written with"),
        (text, content + b"0", "model.bin is not the file that it was written with"),
        (text, content[: len(content) // 2], "truncated, damaged or no OpenVINO file"),
        (text, b"", "truncated, damaged or no OpenVINO file"),
        (text[: len(text) // 2], content, "truncated, damaged or no OpenVINO file"),
        ("", content, "truncated, damaged or no OpenVINO file"),
        (text.replace("<abn_fast ", "<other "), content, "no file of abn_fast's"),
    ]
    for given, binary, message in cases:
        path.write_text(given)
        weights.unlink(missing_ok=True)
        if binary is not None:
            weights.write_bytes(binary)
        with pytest.raises(AbnFastError, match=message) as error:
            InferenceSession(path)
        assert "\n" not in str(error.value)
        assert "model.xml" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda"}, "device='cuda'; expected one of 'cpu'"),
        ({"dtype": torch.float64}, "dtype=torch.float64; expected one of torch.float32"),
        ({"outputs": ["class_evidence"]}, "model.xml has logits, attention"),
        ({"runtime": "onnxruntime"}, "onnxruntime reads .onnx"),
    ],
)
def test_bad_arguments_are_told_in_one_line(written: Written, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AbnFastError, match=message):
        InferenceSession(written.file, **arguments)


def test_images_that_do_not_run_are_told_in_one_line(written: Written) -> None:
    with pytest.raises(AbnFastError, match="expected float") as error:
        InferenceSession(written.file)(np.zeros((1, 4, 24, 28), np.float32))
    assert "\n" not in str(error.value)


def test_fp8_is_refused_and_a_missing_package_names_its_extra(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoint_of(written)
    with pytest.raises(AbnFastError, match="precision='fp8' is of GPUs from sm_89 on: take int8 for CPUs"):
        export_checkpoint(checkpoint, tmp_path / "m.xml", "openvino", ExportRequest(REQUEST.size, REQUEST.batch, "fp8"))
    monkeypatch.setitem(sys.modules, "openvino", None)
    for use in (
        lambda: InferenceSession(written.file),
        lambda: export_checkpoint(checkpoint, tmp_path / "m.xml", "openvino", REQUEST),
    ):
        with pytest.raises(AbnFastError, match=r"pip install 'abn-fast\[openvino\]'"):
            use()
    assert not list(tmp_path.iterdir())
