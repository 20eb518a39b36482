"""What the page asks the server for, in this process; `test_page.py` opens the page itself."""

import asyncio
import base64
import io
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError, create_model, save_checkpoint
from abn_fast.data import EditedMap, read_edited_map
from abn_fast.explain import explain, overlay, upsample
from abn_fast.explain._pixels import to_tensor
from abn_fast.explain.edit import predict_edited
from abn_fast.export.proof.reference import Reference
from tests.demo.conftest import Files
from tests.export._networks import small
from tests.export._trained import CLASSES, SEEN, picture, trained

for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(module, reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from abn_fast.demo.app import PAGE, create_demo  # noqa: E402  # after the skips
from abn_fast.demo.explainer import Explainer, open_explainer  # noqa: E402  # likewise
from abn_fast.export.server.settings import ServerSettings  # noqa: E402  # likewise

SOON = 60.0


def using(
    explainer: Explainer,
    use: Callable[[Any], Awaitable[Any]],
    settings: ServerSettings | None = None,
    images: Path | None = None,
) -> Any:
    """Let `use` talk to the page's server."""

    async def main() -> Any:
        app = create_demo(explainer, settings or ServerSettings(), images)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://page", timeout=SOON) as client:
            return await use(client)

    return asyncio.run(asyncio.wait_for(main(), SOON))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))


PICTURE = Image.fromarray(picture(4)).resize((70, 48))  # of another aspect than what the network sees


@pytest.fixture
def explainer(files: Files) -> Explainer:
    return open_explainer(files.checkpoint, device="cpu")


def test_a_picture_is_explained_by_every_method(explainer: Explainer) -> None:
    answer = using(explainer, lambda client: client.post("/api/explain", content=png(PICTURE))).json()
    image = SEEN(PICTURE)
    own = predict_edited(trained(), image, None)
    np.testing.assert_allclose(answer["map"], own.attention[0], atol=1e-4)
    assert [entry["name"] for entry in answer["predictions"]] == [
        CLASSES[i] for i in own.before.argsort(descending=True)
    ]
    for entry in answer["predictions"]:
        assert entry["probability"] == pytest.approx(float(own.before[entry["index"]]), abs=1e-5)
    tile = opened(answer["tile"])
    assert (tile.width / tile.height, tile.width >= 336) == (28 / 24, True)
    small_tile = np.asarray(tile.resize((28, 24), Image.Resampling.BOX), np.float32) / 255
    assert np.abs(small_tile - SEEN.denormalize(image).permute(1, 2, 0).numpy()).mean() < 0.05  # what the network sees
    assert [entry["name"] for entry in answer["evidence"]] == [entry["name"] for entry in answer["predictions"]]

    heat = torch.nn.functional.interpolate(explain(trained(), image[None], method="gradcam")[None], tile.size[::-1])[0]
    expected = overlay(to_tensor(tile)[None], heat)[0]
    assert float((to_tensor(opened(answer["gradCam"])) - expected).abs().mean()) < 0.05


def test_a_painted_map_changes_the_prediction(explainer: Explainer) -> None:
    painted = torch.rand(predict_edited(trained(), SEEN(PICTURE), None).attention.shape[1:]).round(decimals=3)

    async def use(client: Any) -> Any:
        key = (await client.post("/api/explain", files={"image": ("a.png", png(PICTURE))})).json()["image"]
        return await client.post("/api/predict", params={"image": key}, content=json.dumps(painted.tolist()))

    answer = using(explainer, use).json()
    expected = predict_edited(trained(), SEEN(PICTURE), EditedMap(painted, torch.ones_like(painted))).after
    for entry in answer["predictions"]:
        assert entry["probability"] == pytest.approx(float(expected[entry["index"]]), abs=1e-5)


def test_a_painted_map_is_saved_for_fine_tuning(explainer: Explainer, tmp_path: Path) -> None:
    size = predict_edited(trained(), SEEN(PICTURE), None).attention.shape[1:]
    painted = torch.zeros(size)
    painted[:, : size[1] // 2] = 1

    async def use(client: Any) -> Any:
        key = (await client.post("/api/explain", content=png(PICTURE))).json()["image"]
        return await client.post("/api/map", params={"image": key}, content=json.dumps(painted.tolist()))

    (tmp_path / "map.png").write_bytes(using(explainer, use).content)
    edited = read_edited_map(tmp_path / "map.png")
    assert edited.size == (48, 70)
    left, _, right, _ = SEEN.crop_box(70, 48)
    middle = round((left + right) / 2)
    assert bool((edited.values[:, round(left) : middle - 1] == 1).all())
    assert bool((edited.values[:, middle + 1 :] == 0).all())
    assert bool((edited.known[:, : round(left)] == 0).all())  # which the network does not see


def test_samples_are_listed_shown_and_explained(explainer: Explainer, files: Files) -> None:
    async def use(client: Any) -> Any:
        about = (await client.get("/api/network")).json()
        return about, await client.get("/api/samples/5"), (await client.post("/api/explain?sample=5")).json()

    about, thumbnail, answer = using(explainer, use, images=files.images)
    assert about["samples"] == [f"{index:04}.png" for index in range(6)]
    assert (about["noPainting"], about["notes"], about["tasks"]) == (None, [], [])
    assert max(Image.open(io.BytesIO(thumbnail.content)).size) <= 96
    own = predict_edited(trained(), SEEN(Image.fromarray(picture(5))), None)
    np.testing.assert_allclose(answer["map"], own.attention[0], atol=1e-4)


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"url": "/api/explain", "content": b"no picture"}, 400, "the 10 bytes are no image"),
        ({"url": "/api/explain", "content": png(PICTURE)[:200]}, 400, "cannot be read"),
        ({"url": "/api/explain", "content": b""}, 400, "holds no image"),
        ({"url": "/api/explain", "content": bytes(30_000)}, 413, "more than 20000 bytes"),
        ({"url": "/api/explain", "content": png(Image.new("RGB", (200, 200)))}, 413, "200x200 pixels; at most 10000"),
        ({"url": "/api/explain?sample=0"}, 404, "there is no sample 0"),
        ({"url": "/api/explain?task=1", "content": png(PICTURE)}, 400, "task=1: there is no such task"),
        ({"url": "/api/predict?image=gone", "content": b"[[0.5]]"}, 410, "no longer kept"),
        ({"url": "/api/predict?image=KEY", "content": b"[[0.5]]"}, 400, "the edited map is 1x1"),
        ({"url": "/api/predict?image=KEY", "content": b"[[1.5]]"}, 400, "outside [0, 1]"),
        ({"url": "/api/predict?image=KEY", "content": b"[[NaN]]"}, 400, "outside [0, 1]"),
        ({"url": "/api/predict?image=KEY", "content": b"[[0.5], [0.5, 0.5]]"}, 400, "not rows of numbers"),
        ({"url": "/api/predict?image=KEY", "content": b"paint"}, 400, "not rows of numbers"),
        ({"url": "/api/predict?image=KEY", "content": b"[" * 9000}, 400, "not rows of numbers"),
        ({"url": "/api/map?image=KEY", "content": b"[[0.5]]"}, 200, ""),
        ({"url": "/nowhere"}, 404, "POST /nowhere: Not Found"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence(
    request_: dict[str, Any], status: int, message: str, explainer: Explainer
) -> None:
    async def use(client: Any) -> Any:
        key = (await client.post("/api/explain", content=png(PICTURE))).json()["image"]
        return await client.post(**(request_ | {"url": request_["url"].replace("KEY", key)}))

    answer = using(explainer, use, ServerSettings(max_bytes=20_000, max_pixels=10_000))
    assert answer.status_code == status, answer.text
    if status != 200:
        assert message in answer.json()["error"]
        assert "Traceback" not in answer.text


def test_the_last_pictures_are_kept_and_no_more(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abn_fast.demo.gallery.KEPT", 2)

    async def use(client: Any) -> list[int]:
        keys = [(await client.post("/api/explain", content=png(PICTURE))).json()["image"] for _ in range(3)]
        return [(await client.post("/api/explain", params={"image": key})).status_code for key in keys]

    assert using(explainer, use) == [410, 200, 200]


def test_tasks_are_painted_one_by_one(tmp_path: Path) -> None:
    model = small("tasks-cifar_resnet")[0]
    save_checkpoint(model, tmp_path / "tasks.safetensors", preprocessing=SEEN, classes=["hat", "tie", "young"])
    explainer = open_explainer(tmp_path / "tasks.safetensors", device="cpu")

    async def use(client: Any) -> Any:
        about = (await client.get("/api/network")).json()
        shown = (await client.post("/api/explain?task=2", content=png(PICTURE))).json()
        dark = json.dumps(np.zeros_like(shown["map"]).tolist())
        after = await client.post("/api/predict", params={"image": shown["image"], "task": 2}, content=dark)
        return about, shown, after.json()

    about, shown, after = using(explainer, use)
    own = predict_edited(model, SEEN(PICTURE), None)
    assert about["tasks"] == ["hat", "tie", "young"]
    np.testing.assert_allclose(shown["map"], own.attention[2], atol=1e-4)
    values = [[entry["probability"] for entry in each["predictions"]] for each in (shown, after)]
    np.testing.assert_allclose(values[0], own.before[:, 1], atol=1e-5)
    np.testing.assert_allclose(values[1][:2], values[0][:2], atol=1e-6)
    assert abs(values[1][2] - values[0][2]) > 1e-4


@pytest.mark.parametrize(
    ("model", "painting"),
    [
        (lambda: create_model("cifar_resnet8", num_classes=3), "plain classifier without attention map"),
        (
            lambda: create_model("abn_se_resnet", num_classes=3, block="basic", layers=[1, 1, 1, 1], width=16),
            "has no upper bound",
        ),
    ],
)
def test_networks_whose_map_cannot_be_painted_say_why(model: Any, painting: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(model(), path, preprocessing=SEEN, classes=CLASSES)

    async def use(client: Any) -> Any:
        about = (await client.get("/api/network")).json()
        shown = (await client.post("/api/explain", content=png(PICTURE))).json()
        refused = await client.post("/api/predict", params={"image": shown["image"]}, content=b"[[0.5]]")
        return about, shown, refused

    about, shown, refused = using(open_explainer(path, device="cpu"), use)
    assert painting in about["noPainting"]
    assert shown["gradCam"] is not None
    assert len(shown["predictions"]) == 3
    assert refused.status_code == 400


def test_an_exported_file_shows_what_its_outputs_are(exported: Path) -> None:
    explainer = open_explainer(exported, device="cpu")

    async def use(client: Any) -> Any:
        about = (await client.get("/api/network")).json()
        shown = (await client.post("/api/explain", content=png(PICTURE))).json()
        refused = await client.post("/api/predict", params={"image": shown["image"]}, content=b"[[0.5]]")
        return about, shown, refused.json()

    about, shown, refused = using(explainer, use)
    own = predict_edited(trained(), SEEN(PICTURE), None)
    np.testing.assert_allclose(shown["map"], own.attention[0], atol=1e-3)
    assert shown["gradCam"] is None
    assert about["notes"][0] == "No Grad-CAM: an exported file has no gradients; a checkpoint has."
    assert "The class evidence of an exported file is its maps a" in about["notes"][1]
    assert about["noPainting"] == refused["error"]
    chosen = own.before.argsort(descending=True)
    maps = Reference(trained(), ["class_evidence"])(SEEN(PICTURE)[None])["class_evidence"][0, chosen]
    tile = to_tensor(opened(shown["tile"]))
    maps = upsample(maps, (tile.shape[1], tile.shape[2]))
    expected = overlay(tile.expand(len(maps), -1, -1, -1), maps / maps.max())
    for index, entry in enumerate(shown["evidence"]):
        assert entry["name"] == CLASSES[chosen[index]]
        assert float((to_tensor(opened(entry["picture"])) - expected[index]).abs().mean()) < 0.01


def test_an_exported_file_that_takes_a_map_is_painted_on(editable: Path) -> None:
    explainer = open_explainer(editable, device="cpu")
    painted = torch.rand(predict_edited(trained(), SEEN(PICTURE), None).attention.shape[1:]).round(decimals=3)

    async def use(client: Any) -> Any:
        about = (await client.get("/api/network")).json()
        key = (await client.post("/api/explain", content=png(PICTURE))).json()["image"]
        answers = [
            await client.post("/api/predict", params={"image": key}, content=json.dumps(values))
            for values in (painted.tolist(), [[0.5]])
        ]
        return about, *answers

    about, answer, refused = using(explainer, use)
    assert about["noPainting"] is None
    expected = predict_edited(trained(), SEEN(PICTURE), EditedMap(painted, torch.ones_like(painted))).after
    for entry in answer.json()["predictions"]:
        assert entry["probability"] == pytest.approx(float(expected[entry["index"]]), abs=1e-4)
    assert refused.status_code == 400
    assert "the edited map is 1x1" in refused.json()["error"]


def test_what_no_page_can_show_is_refused(files: Files, tmp_path: Path) -> None:
    save_checkpoint(trained(), tmp_path / "bare.safetensors")
    with pytest.raises(AbnFastError, match="does not say how pictures are preprocessed"):
        open_explainer(tmp_path / "bare.safetensors")
    with pytest.raises(AbnFastError, match="no such file"):
        open_explainer(tmp_path / "missing.onnx")
    with pytest.raises(AbnFastError, match="the folder holds no image file"):
        create_demo(open_explainer(files.checkpoint, device="cpu"), ServerSettings(), tmp_path)


def test_the_page_asks_for_nothing_elsewhere(explainer: Explainer) -> None:
    page = using(explainer, lambda client: client.get("/"))
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert re.findall(r"https?://[^\s\"']+", PAGE.read_text()) == []
