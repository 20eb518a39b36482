"""One session over all runtimes."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError
from abn_fast.export import BatchRange, InferenceSession, SizeRange, export_onnx
from tests.export._networks import outputs_of, relative_error, small
from tests.export.conftest import CLASSES, PREPROCESSING, Exported


@pytest.fixture(params=["onnxruntime", "torch"])
def session(request: pytest.FixtureRequest, exported: Exported) -> InferenceSession:
    return InferenceSession(exported.file if request.param == "onnxruntime" else exported.checkpoint, device="cpu")


@pytest.fixture
def picture() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)


def test_pictures_are_preprocessed(
    session: InferenceSession, exported: Exported, picture: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    image = Image.fromarray(picture)
    image.save(tmp_path / "picture.png")
    expected = outputs_of(exported.model, PREPROCESSING(image)[None])
    forms: list[Any] = [picture, image, tmp_path / "picture.png", str(tmp_path / "picture.png"), [image], picture[None]]
    for given in forms:
        result = session(given)
        assert result._fields == ("logits", "attention")
        assert isinstance(result.logits, np.ndarray)
        for name in result._fields:
            assert relative_error(torch.from_numpy(getattr(result, name)), expected[name]) < 1e-5
    assert session([picture, image]).logits.shape == (2, 3)


def test_preprocessed_floats_pass_as_they_are(session: InferenceSession, exported: Exported) -> None:
    images = torch.randn(3, 3, 30, 34)
    expected = outputs_of(exported.model, images)
    tensors, arrays = session(images), session(images.numpy())
    assert relative_error(tensors.attention, expected["attention"]) < 1e-5
    np.testing.assert_array_equal(arrays.attention, tensors.attention.numpy())
    assert session(images[0].double()).logits.shape == (1, 3)
    assert session(images.to(memory_format=torch.channels_last)).logits.shape == (3, 3)


def test_a_session_says_what_runs(exported: Exported) -> None:
    file, checkpoint = InferenceSession(exported.file), InferenceSession(exported.checkpoint)
    assert (file.runtime, file.provider) == ("onnxruntime", "CPUExecutionProvider")
    assert (checkpoint.runtime, checkpoint.provider) == ("torch", "cpu, float32")
    assert file.classes == checkpoint.classes == tuple(CLASSES)
    assert "CPUExecutionProvider" in repr(file)
    half = InferenceSession(
        exported.model, dtype=torch.bfloat16, outputs=["probabilities"], preprocessing=PREPROCESSING
    )
    assert half.provider == "cpu, bfloat16"
    assert half(np.zeros((9, 9, 3), np.uint8)).probabilities.sum() == pytest.approx(1, abs=1e-3)


def test_threads_do_not_disturb_each_other(session: InferenceSession) -> None:
    batches = [torch.randn(1 + index % 3, 3, 20, 26) for index in range(24)]
    alone = [session(batch).logits for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: session(batch).logits, batches))
    for ours, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_part_of_the_outputs_in_another_order(exported: Exported) -> None:
    images = torch.randn(1, 3, 20, 26)
    assert InferenceSession(exported.file, outputs=["attention"])(images)._fields == ("attention",)
    for source in (exported.file, exported.checkpoint):
        result = InferenceSession(source, outputs=["attention", "logits"])(images)
        assert [len(value.shape) for value in result] == [4, 2]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images given"),
        ("nowhere.png", "image 'nowhere.png' does not exist"),
        (3, "an image is int; expected a path"),
        (np.zeros((4, 4, 2), np.uint8), r"an image is uint8 \[4, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"an image is uint8 \[0, 4, 3\]"),
        (np.zeros((3, 4, 4), np.int64), r"images are int64 \[3, 4, 4\]"),
        (np.zeros((1, 4, 4, 4), np.float32), r"expected float \[N, 3, H, W\]"),
        (np.zeros((0, 3, 4, 4), np.float32), r"images are float32 \[0, 3, 4, 4\]"),
        (np.array(["a"]), "images are an array of"),
        ([np.zeros((3, 4, 4), np.float32)], "an image is float32"),
    ],
)
def test_what_is_no_image_is_told_in_one_line(session: InferenceSession, images: Any, message: str) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        session(images)
    assert "\n" not in str(error.value)


def test_a_file_of_one_shape_refuses_others(tmp_path: Path) -> None:
    model, _ = small("plain-cifar_resnet8")
    path = tmp_path / "fixed.onnx"
    export_onnx(model, path, size=SizeRange.fixed((20, 26)), batch=BatchRange(2, 2, 2))
    session = InferenceSession(path)
    assert session(np.zeros((2, 3, 20, 26), np.float32)).logits.shape == (2, 3)
    with pytest.raises(AbnFastError, match="1 images; the file takes 2 at a time"):
        session(np.zeros((1, 3, 20, 26), np.float32))
    with pytest.raises(AbnFastError, match="images of 20x20 pixels; the file takes 20x26"):
        session(np.zeros((2, 3, 20, 20), np.float32))
    with pytest.raises(AbnFastError, match="does not say how pictures are preprocessed"):
        session(np.zeros((20, 26, 3), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "tflite"}, "runtime='tflite'; expected one of 'auto', 'onnxruntime'"),
        ({"runtime": "torch"}, "torch reads .safetensors"),
        ({"outputs": ["class_evidence"]}, "model.onnx has logits, attention"),
        ({"outputs": "logits"}, "expected a list of names"),
        ({"device": "tpu"}, "device='tpu'; onnxruntime takes cpu"),
        ({"dtype": torch.float16}, "is fp32: dtype=torch.float16 is chosen when it is exported"),
    ],
)
def test_bad_arguments_are_told_in_one_line(exported: Exported, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AbnFastError, match=message):
        InferenceSession(exported.file, **arguments)


def test_a_device_that_does_not_load_is_refused(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    create = onnxruntime.InferenceSession

    def falls_back(path: str, options: Any, providers: Any) -> Any:
        return create(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    with pytest.raises(AbnFastError, match="cannot use 'cuda' here and would run on CPUExecutionProvider"):
        InferenceSession(exported.file, device="cuda")
    with pytest.raises(AbnFastError, match="device='cuda'"):
        InferenceSession(exported.checkpoint, device="cuda")


def test_files_that_are_missing_truncated_or_not_ours_are_refused(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(AbnFastError, match=r"model.onnx: no such file"):
        InferenceSession(path)
    content = exported.file.read_bytes()
    for size in (0, 10, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(AbnFastError, match=r"truncated, damaged or no ONNX file|no file of abn_fast's") as error:
            InferenceSession(path)
        assert "\n" not in str(error.value)
    foreign = onnx.load(exported.file)
    del foreign.metadata_props[:]
    onnx.save(foreign, path)
    with pytest.raises(AbnFastError, match="no file of abn_fast's"):
        InferenceSession(path)
    with pytest.raises(AbnFastError, match="ReLU is no network"):
        InferenceSession(torch.nn.ReLU())  # type: ignore[arg-type]


def test_a_missing_package_names_its_extra(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        AbnFastError, match=r"running model.onnx needs 'onnxruntime'.* pip install 'abn-fast\[export\]'"
    ):
        InferenceSession(exported.file)
