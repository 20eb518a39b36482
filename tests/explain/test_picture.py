from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms
from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.explain import Explanation, explain_image, explain_images
from abn_fast.models import create_model
from abn_fast.modules import ABNOutput

PREPROCESSING = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), crop_pct=0.8)
CLASSES = ["cat", "dog", "hen"]


class FixedMap(nn.Module):
    """Gives the same logits and the same map for every image."""

    def __init__(self, attention: Tensor, logits: tuple[float, ...] = (0.0, 2.0, 1.0)) -> None:
        super().__init__()
        self.attention, self.logits = attention, torch.tensor([logits])
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> ABNOutput:
        self.norm(images)
        return ABNOutput(self.logits, self.logits, self.attention[None, None])


class BrightnessMap(nn.Module):
    """Its map is the brightness of 4x4 patches; its logits say which channel is brightest."""

    def forward(self, images: Tensor) -> ABNOutput:
        logits = images.mean((2, 3))
        return ABNOutput(logits, logits, F.avg_pool2d(images.mean(1, keepdim=True), 4).exp())


class Plain(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture
def model() -> FixedMap:
    return FixedMap(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("width", "height"), [(90, 60), (50, 80), (200, 200), (20, 24)])
def test_the_pictures_are_those_computed_by_hand(model: FixedMap, tmp_path: Path, width: int, height: int) -> None:
    source = noise(width, height)
    explanation = explain_image(
        model, save(source, tmp_path / "a.png"), PREPROCESSING, CLASSES, tmp_path / "out", alpha=0.3
    )
    side = round(0.8 * min(width, height))  # timm: shorter side to 40, the centre 32 of it
    left, top = (width - side) / 2, (height - side) / 2
    assert PREPROCESSING.crop_box(width, height) == pytest.approx(
        (left, top, left + side, top + side), abs=0.02 * max(width, height)
    )
    box = tuple(round(edge) for edge in PREPROCESSING.crop_box(width, height))
    size = (box[2] - box[0], box[3] - box[1])
    laid = np.asarray(Image.fromarray(model.attention.numpy()).resize(size, Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps["jet"]((laid - laid.min()) / np.ptp(laid))[..., :3] * 255

    expected_attention = np.full((height, width, 3), 128.0)
    expected_attention[box[1] : box[3], box[0] : box[2]] = colours
    expected_overlay = np.asarray(source).astype(float)
    seen = expected_overlay[box[1] : box[3], box[0] : box[2]]
    seen[:] = 0.7 * seen + 0.3 * colours

    image, attention, overlay = (pixels(file) for file in explanation.files)
    assert np.array_equal(image, np.asarray(source))
    assert np.median(np.abs(attention - expected_attention)) <= 0.5
    assert abs(np.mean(attention - expected_attention)) < 0.1
    assert np.mean(np.abs(attention - expected_attention) > 5) < 0.002  # table entries on a boundary
    caption_rows = max(13, round(1.6 * 0.045 * min(width, height))) + 1
    assert np.mean(np.abs(overlay - expected_overlay)[:-caption_rows] > 3) < 0.002
    untinted = np.ones((height, width), bool)
    untinted[box[1] : box[3], box[0] : box[2]] = False
    untinted[-caption_rows:] = False
    assert np.array_equal(overlay[untinted], np.asarray(source)[untinted])


@pytest.mark.parametrize(("width", "height"), [(150, 100), (100, 150), (37, 48)])
@pytest.mark.parametrize(("x", "y"), [(0.3, 0.4), (0.6, 0.35), (0.55, 0.6)])
def test_the_map_lies_where_the_model_saw_the_object(
    tmp_path: Path, width: int, height: int, x: float, y: float
) -> None:
    scene = np.zeros((height, width, 3), np.uint8)
    left, top, extent = int(x * width), int(y * height), 12
    scene[top : top + extent, left : left + extent] = 255
    files = explain_image(
        BrightnessMap(),
        save(Image.fromarray(scene), tmp_path / "spot.png"),
        PREPROCESSING,
        CLASSES,
        tmp_path / "out",
        colormap="gray",
    ).files
    attention = pixels(files[1])[..., 0].astype(float)
    attention[(pixels(files[1]) == 128).all(-1)] = 0
    weights = np.maximum(attention - 64, 0)
    rows, columns = np.mgrid[:height, :width]
    patch = 4 * min(width, height) / 40
    assert abs((weights * columns).sum() / weights.sum() - (left + extent / 2 - 0.5)) < patch / 2
    assert abs((weights * rows).sum() / weights.sum() - (top + extent / 2 - 0.5)) < patch / 2


def test_the_result_names_label_confidence_and_files(model: FixedMap, tmp_path: Path) -> None:
    path = save(noise(64, 48), tmp_path / "my photo.jpg")
    explanation = explain_image(model, str(path), PREPROCESSING, CLASSES, tmp_path / "a" / "b")
    assert explanation[:2] == (path, "dog")
    assert explanation.confidence == pytest.approx(np.exp(2) / (1 + np.exp(1) + np.exp(2)))
    assert explanation.files == tuple(
        tmp_path / "a" / "b" / f"my photo-{kind}.png" for kind in ("image", "attention", "overlay")
    )
    assert sorted((tmp_path / "a" / "b").iterdir()) == sorted(explanation.files)


def test_label_and_confidence_are_written_on_the_overlay_and_into_the_file(model: FixedMap, tmp_path: Path) -> None:
    path = save(Image.new("RGB", (160, 120), (40, 90, 200)), tmp_path / "a.png")
    captions = []
    for classes in (CLASSES, ["cat", "wolf", "hen"], ["cat", "dog\nin  a «köln» " + "very " * 90, "hen"]):
        file = explain_image(model, path, PREPROCESSING, classes, tmp_path / "out", alpha=0.0).files[2]
        with Image.open(file) as overlay:
            overlay.load()
        assert overlay.text == {"Label": classes[1], "Confidence": "0.665241"}  # type: ignore[attr-defined] # PNG
        changed = (np.asarray(overlay) != (40, 90, 200)).any(-1)
        assert changed[-13:].any()
        assert not changed[:-13].any()
        captions.append(np.asarray(overlay)[-13:])
    assert not np.array_equal(captions[0], captions[1])


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (16, 16)])
def test_an_image_too_small_for_a_caption_is_left_without(
    model: FixedMap, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = save(noise(*size), tmp_path / "a.png")
    files = explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out", alpha=0.0).files
    assert np.array_equal(pixels(files[2]), pixels(path))


def as_mode(mode: str, image: Image.Image) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.quantize(256) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("1", "png"),
        ("L", "png"),
        ("LA", "png"),
        ("I;16", "png"),
        ("P", "png"),
        ("P", "gif"),
        ("RGBA", "png"),
        ("CMYK", "jpg"),
        ("RGB", "webp"),
        ("RGB", "tiff"),
    ],
)
def test_images_of_every_mode_are_explained_in_their_own_colours(
    model: FixedMap, tmp_path: Path, mode: str, suffix: str
) -> None:
    scene = Image.new("RGB", (60, 40), "orange")
    scene.paste("teal", (0, 0, 30, 40))
    image = as_mode(mode, scene)
    path = save(image, tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    written = Image.open(explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out").files[0])
    assert written.mode == "RGB"
    expected = scene.convert("L") if mode == "I;16" else image
    difference = np.asarray(written).astype(int) - np.asarray(expected.convert("RGB"))
    assert np.abs(difference).max() <= (12 if suffix == "jpg" else 1)


@pytest.mark.parametrize(
    ("mode", "suffix", "kept"), [("RGB", "jpg", True), ("RGB", "png", True), ("CMYK", "jpg", False)]
)
def test_of_the_metadata_only_an_rgb_profile_is_kept(
    model: FixedMap, tmp_path: Path, mode: str, suffix: str, kept: bool
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "camera"
    options = {"icc_profile": profile, "exif": exif, "transparency": (255, 0, 0), "comment": "mine"}
    path = save(noise(40, 40).convert(mode), tmp_path / f"a.{suffix}", **options)
    files = explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out").files
    for file in (files[0], files[2]):
        with Image.open(file) as written:
            info = written.info
        assert info.get("icc_profile") == (profile if kept else None)
        assert not info.keys() & {"exif", "transparency", "comment"}


def test_a_photograph_turned_by_exif_comes_out_upright(tmp_path: Path) -> None:
    upright = np.zeros((80, 50, 3), np.uint8)
    upright[10:25, 12:38] = (250, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    path = save(Image.fromarray(np.rot90(upright).copy()), tmp_path / "a.png", exif=exif)
    explanation = explain_image(
        BrightnessMap(), path, Preprocessing((40, 24), (0.5,) * 3, (0.25,) * 3), CLASSES, tmp_path / "out"
    )
    assert [pixels(file).shape[:2] for file in explanation.files] == [(80, 50)] * 3
    assert np.array_equal(pixels(explanation.files[0]), upright)
    attention = pixels(explanation.files[1])
    assert attention[17, 25, 0] > 100 > attention[60, 25, 0]  # red above, blue below


def test_a_model_of_grey_images_gets_grey_images(tmp_path: Path) -> None:
    path = save(noise(40, 40), tmp_path / "a.png")
    explanation = explain_image(
        BrightnessMap(), path, Preprocessing((32, 32), (0.5,), (0.25,)), ["only"], tmp_path / "out"
    )
    assert explanation.label == "only"
    assert np.array_equal(pixels(explanation.files[0]), np.asarray(Image.open(path).convert("L").convert("RGB")))


@pytest.mark.parametrize("scale", [1e-4, 300.0])
def test_maps_of_every_range_give_the_same_picture(model: FixedMap, tmp_path: Path, scale: float) -> None:
    path = save(noise(60, 40), tmp_path / "a.png")
    usual = explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "usual")
    model.attention = model.attention * scale
    scaled = explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "scaled")
    difference = np.abs(pixels(usual.files[1]) - pixels(scaled.files[1]))
    assert (difference > 5).mean() < 0.002


def test_a_constant_map_is_drawn_in_the_lowest_colour(tmp_path: Path) -> None:
    path = save(noise(40, 40), tmp_path / "a.png")
    whole = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)
    files = explain_image(FixedMap(torch.full((8, 8), 0.5)), path, whole, CLASSES, tmp_path / "out").files
    lowest = np.asarray(matplotlib.colormaps["jet"](0)[:3]) * 255
    assert np.abs(pixels(files[1]) - lowest).max() <= 1


def test_the_model_evaluates_and_is_left_as_it_was(model: FixedMap, tmp_path: Path) -> None:
    model.train()
    frozen = nn.BatchNorm2d(3).eval()
    model.add_module("frozen", frozen)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    explain_image(model, save(noise(40, 40), tmp_path / "a.png"), PREPROCESSING, CLASSES, tmp_path / "out")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert (model.training, model.norm.training, frozen.training) == (True, True, False)


def test_images_reach_the_model_in_its_own_dtype(model: FixedMap, tmp_path: Path) -> None:
    path = save(noise(40, 40), tmp_path / "a.png")
    explanation = explain_image(model.double(), path, PREPROCESSING, CLASSES, tmp_path / "out")
    assert explanation.label == "dog"


def stems(explanations: Iterator[Explanation]) -> list[str]:
    return [explanation.files[0].name.removesuffix("-image.png") for explanation in explanations]


def test_images_of_one_stem_get_files_of_their_own(model: FixedMap, tmp_path: Path) -> None:
    names = ["a/1.png", "b/1.png", "b/1.jpg", "b/2.png", "c/deep/1.png", "d/a-1.png", "d/A-1.png"]
    paths = [save(noise(40, 40, seed), tmp_path / name) for seed, name in enumerate(names)]
    explanations = list(explain_images(model, paths, PREPROCESSING, CLASSES, tmp_path / "out"))
    assert stems(iter(explanations)) == ["a-1", "b-1", "b-1-2", "2", "deep-1", "d-a-1", "d-A-1-2"]
    for path, explanation in zip(paths, explanations, strict=True):
        assert np.array_equal(pixels(explanation.files[0]), pixels(path))


def test_a_name_made_of_folder_and_stem_does_not_take_a_files_own(model: FixedMap, tmp_path: Path) -> None:
    paths = [save(noise(40, 40), tmp_path / name) for name in ("a/1.png", "b/1.png", "c/a-1.png")]
    explanations = explain_images(model, paths, PREPROCESSING, CLASSES, tmp_path / "out")
    assert stems(explanations) == ["a-1", "b-1", "a-1-2"]


def test_no_picture_replaces_an_image(model: FixedMap, tmp_path: Path) -> None:
    paths = [save(noise(40, 40), tmp_path / name) for name in ("cat.jpg", "cat-overlay.png")]
    content = paths[1].read_bytes()
    with pytest.raises(AbnFastError, match=r"would overwrite the image .*cat-overlay\.png; choose another"):
        list(explain_images(model, paths, PREPROCESSING, CLASSES, tmp_path))
    assert paths[1].read_bytes() == content
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_unreadable_images_are_named_after_the_others_are_written(model: FixedMap, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.jpg"
    whole = save(noise(60, 60), tmp_path / "whole.jpg").read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    missing = tmp_path / "missing.png"
    floating = save(Image.fromarray(np.zeros((9, 9), np.float32)), tmp_path / "floating.tiff")
    last = save(noise(40, 40), tmp_path / "last.png")

    explanations = explain_images(
        model, [truncated, text, missing, floating, last], PREPROCESSING, CLASSES, tmp_path / "out"
    )
    assert next(explanations).path == last
    with pytest.raises(AbnFastError) as error:
        next(explanations)
    message = str(error.value)
    assert "\n" not in message
    assert all(str(path) in message for path in (truncated, text, missing, floating))
    assert str(last) not in message
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_corrupt_image_alone_writes_nothing(model: FixedMap, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(AbnFastError, match=r"a\.png"):
        explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("model", "classes", "message"),
    [
        (Plain(), CLASSES, "Plain is a plain classifier without attention map; use an abn_ model"),
        (FixedMap(torch.rand(8, 8)), CLASSES[:2], "2 class names for a model of 3 classes"),
        (FixedMap(torch.rand(8, 8), (torch.nan, 0, 0)), CLASSES, r"a\.png is NaN or infinite"),
        (FixedMap(torch.full((8, 8), torch.inf)), CLASSES, r"a\.png is NaN or infinite"),
    ],
)
def test_a_model_that_explains_nothing_is_refused_in_one_line(
    tmp_path: Path, model: nn.Module, classes: list[str], message: str
) -> None:
    path = save(noise(40, 40), tmp_path / "a.png")
    with pytest.raises(AbnFastError, match=message) as error:
        explain_image(model, path, PREPROCESSING, classes, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"colormap": "nope"}, {"mode": "nope"}, {"alpha": 2.0}])
def test_an_unknown_option_writes_nothing(model: FixedMap, tmp_path: Path, options: dict[str, Any]) -> None:
    path = save(noise(40, 40), tmp_path / "a.png")
    with pytest.raises(AbnFastError):
        explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_refused(model: FixedMap, tmp_path: Path) -> None:
    path = save(noise(40, 40), tmp_path / "a.png")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(AbnFastError, match=r"cannot write .*a-image\.png"):
        explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_picture_appears_whole_or_not_at_all(
    model: FixedMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(noise(40, 40), tmp_path / "a.png")
    old = explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out").files
    contents = [file.read_bytes() for file in old]

    def full_disk(self: Image.Image, file: Path, **options: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(AbnFastError, match="No space left on device"):
        explain_image(model, path, PREPROCESSING, CLASSES, tmp_path / "out", colormap="viridis")
    assert [file.read_bytes() for file in old] == contents
    assert sorted((tmp_path / "out").iterdir()) == sorted(old)


@pytest.mark.parametrize("name", ["abn_cifar_resnet20", "abn_se_resnet18"])
def test_networks_of_this_library_are_explained(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_classes=3).eval()
    path = save(noise(48, 36), tmp_path / "a.png")
    explanation = explain_image(network, path, PREPROCESSING, CLASSES, tmp_path / "out")
    with torch.no_grad():
        logits = network(PREPROCESSING(Image.open(path))[None]).logits[0]
    assert explanation.label == CLASSES[int(logits.argmax())]
    assert explanation.confidence == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)


def test_a_baseline_of_this_library_is_refused(tmp_path: Path) -> None:
    path = save(noise(48, 36), tmp_path / "a.png")
    with pytest.raises(AbnFastError, match="plain classifier without attention map"):
        explain_image(create_model("cifar_resnet20", num_classes=3), path, PREPROCESSING, CLASSES, tmp_path / "out")
