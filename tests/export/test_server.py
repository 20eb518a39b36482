"""The HTTP server, in this process; `test_server_process.py` starts the real one."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError, save_checkpoint
from abn_fast.explain import colorize, rescale, upsample
from abn_fast.export import BatchRange, InferenceSession, SizeRange, export_onnx
from abn_fast.export.server import ServerSettings
from tests.export._networks import small
from tests.export.conftest import CLASSES, PREPROCESSING, Exported

pytest.importorskip("fastapi", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from abn_fast.export.server.app import create_app  # noqa: E402  # after the skips

SOON = 60.0


def picture(seed: int = 0, size: tuple[int, int] = (40, 52)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def serving(
    session: InferenceSession, use: Callable[[Any], Awaitable[Any]], settings: ServerSettings | None = None
) -> Any:
    """Let `use` talk to a running server."""

    async def main() -> Any:
        app = create_app(session, settings)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=SOON) as client:
                client.app = app
                return await use(client)

    return asyncio.run(asyncio.wait_for(main(), SOON))


def post(session: InferenceSession, query: str = "", settings: ServerSettings | None = None, **body: Any) -> Any:
    return serving(session, lambda client: client.post(f"/predict?{query}", **body), settings)


@pytest.fixture(scope="module")
def session(exported: Exported) -> InferenceSession:
    return InferenceSession(exported.file, device="cpu")


@pytest.fixture(scope="module")
def tasks() -> InferenceSession:
    return InferenceSession(small("tasks-cifar_resnet")[0], preprocessing=PREPROCESSING, device="cpu")


def check_answer(answer: dict[str, Any], expected: Any, tolerance: float = 1e-5) -> None:
    """The classes, probabilities and map array are what the session says of the image itself."""
    probabilities = torch.from_numpy(expected.logits[0]).softmax(0).numpy()
    order = np.argsort(-probabilities, kind="stable")
    assert [entry["index"] for entry in answer["classes"]] == order.tolist()
    assert [entry["name"] for entry in answer["classes"]] == [CLASSES[index] for index in order]
    ours = [entry["probability"] for entry in answer["classes"]]
    np.testing.assert_allclose(ours, probabilities[order], atol=tolerance)
    np.testing.assert_allclose(answer["map"]["values"], expected.attention[0, 0], atol=tolerance)


@pytest.mark.parametrize("source", ["file", "checkpoint"])
def test_an_answer_is_what_the_session_says(exported: Exported, source: str) -> None:
    session = InferenceSession(getattr(exported, source), device="cpu")
    image = picture()
    forms: list[dict[str, Any]] = [
        {"content": png(image)},
        {"content": png(image), "headers": {"content-type": "image/png"}},
        {"files": {"image": ("name.png", png(image))}},
    ]
    for form in forms:
        response = post(session, **form)
        assert response.status_code == 200, response.text
        check_answer(response.json(), session(image))
        assert response.json()["map_box"] == [0, 0, 52, 40]


def test_the_most_probable_classes_come_first_and_no_more_than_asked_for(session: InferenceSession) -> None:
    answer = post(session, "top=2&map=none", content=png(picture())).json()
    assert set(answer) == {"classes"}
    assert len(answer["classes"]) == 2
    first, second = (entry["probability"] for entry in answer["classes"])
    assert first >= second


def test_a_map_is_drawn_at_the_size_that_the_network_saw(session: InferenceSession) -> None:
    answer = post(session, "map=png", content=png(picture())).json()["map"]
    attention = torch.from_numpy(session(picture()).attention)
    np.testing.assert_allclose(answer["range"], [attention.min(), attention.max()], atol=1e-5)
    with Image.open(io.BytesIO(base64.b64decode(answer["data"]))) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (26, 20))
        expected = colorize(rescale(upsample(attention, (20, 26))))[0].permute(1, 2, 0) * 255
        assert np.abs(np.asarray(drawn, np.float32) - expected.numpy()).mean() < 1


def test_a_model_of_several_tasks_answers_each(tasks: InferenceSession) -> None:
    image = picture(1)
    expected = tasks(image)
    probabilities = torch.from_numpy(expected.logits[0]).softmax(-1)[:, 1]
    answer = post(tasks, content=png(image)).json()["tasks"]
    assert [(task["index"], task["name"]) for task in answer] == [(0, "0"), (1, "1"), (2, "2")]
    for index, task in enumerate(answer):
        assert task["probability"] == pytest.approx(probabilities[index].item(), abs=1e-5)
        assert task["answer"] == (task["probability"] > 0.5)
        np.testing.assert_allclose(task["map"]["values"], expected.attention[0, index], atol=1e-5)


def test_bad_images_are_refused_and_harm_no_other_of_their_batch(session: InferenceSession) -> None:
    images = [picture(seed, (20 + 3 * seed, 90 - 4 * seed)) for seed in range(12)]
    bad = [b"no image", png(images[0])[:200], b"", png(picture(size=(101, 100)))]
    settings = ServerSettings(max_wait=50, max_pixels=10_000)

    async def use(client: Any) -> Any:
        bodies = [png(image) for image in images] + bad
        mixed = [bodies[(7 * index) % len(bodies)] for index in range(len(bodies))]
        answers = await asyncio.gather(*(client.post("/predict", content=body) for body in mixed))
        return dict(zip(mixed, answers, strict=True)), await client.get("/metrics")

    answers, metrics = serving(session, use, settings)
    for image in images:
        check_answer(answers[png(image)].json(), session(image))
    assert [answers[body].status_code for body in bad] == [400, 400, 400, 413]
    for body in bad:
        assert list(answers[body].json()) == ["error"]
    assert 'abn_fast_errors_total{status="400"} 3.0' in metrics.text
    assert 'abn_fast_requests_total{path="/predict",status="200"} 12.0' in metrics.text
    assert "abn_fast_batch_size_sum 12.0" in metrics.text
    count = float(metrics.text.partition("abn_fast_batch_size_count ")[2].partition("\n")[0])
    assert count < 12  # they did share batches
    assert 'provider="CPUExecutionProvider",runtime="onnxruntime"' in metrics.text
    assert 'abn_fast_request_seconds_count{path="/predict"} 16.0' in metrics.text
    assert "abn_fast_queue_images 0.0" in metrics.text


async def _in_parts(data: bytes) -> Any:
    for start in range(0, len(data), 100):
        yield data[start : start + 100]


@pytest.mark.parametrize(
    "body",
    [
        {"content": b"x" * 1001},
        {"content": b"x" * 50_000},
        {"files": {"image": ("name.png", b"x" * 1001)}},
        {"content": lambda: _in_parts(b"x" * 1001)},
    ],
)
def test_a_body_of_too_many_bytes_is_refused(session: InferenceSession, body: dict[str, Any]) -> None:
    body = {key: value() if callable(value) else value for key, value in body.items()}
    response = post(session, settings=ServerSettings(max_bytes=1000), **body)
    assert response.status_code == 413
    assert response.json() == {"error": "the body has more than 1000 bytes"}


@pytest.mark.parametrize(
    ("query", "body", "status", "message"),
    [
        ("", {"files": {"file": ("name.png", b"x")}}, 400, "the form has no field 'image'"),
        ("", {"data": {"image": "x"}, "files": {"a": b""}}, 400, "the 1 bytes are no image"),
        (
            "",
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "the form cannot be read: Missing boundary",
        ),
        ("map=gif", {"content": b""}, 422, "map='gif': input should be 'png', 'array' or 'none'"),
        ("top=0", {"content": b""}, 422, "top='0': input should be greater than or equal to 1"),
        ("top=a", {"content": b""}, 422, "top='a': input should be a valid integer"),
    ],
)
def test_bad_requests_are_refused_in_one_sentence(
    session: InferenceSession, query: str, body: dict[str, Any], status: int, message: str
) -> None:
    response = post(session, query, **body)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert "\n" not in response.json()["error"]


def test_other_paths_and_methods_are_refused_alike(session: InferenceSession) -> None:
    assert serving(session, lambda client: client.get("/")).json() == {"error": "GET /: Not Found"}
    assert serving(session, lambda client: client.get("/predict")).status_code == 405


class Blocked:
    """A session's network that waits for `go`, and after that may fail."""

    def __init__(self, session: InferenceSession, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.began, self.error = threading.Event(), threading.Event(), ""
        self.images = 0
        run = session._runner.run

        def wait(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            self.images += len(images)
            self.began.set()
            assert self.go.wait(SOON)
            if self.error:
                raise RuntimeError(self.error)
            return run(images)

        monkeypatch.setattr(session._runner, "run", wait)


def test_a_full_server_says_when_to_come_back(session: InferenceSession, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Blocked(session, monkeypatch)

    async def use(client: Any) -> Any:
        admitted = [asyncio.create_task(client.post("/predict", content=png(picture(seed)))) for seed in range(3)]
        await asyncio.to_thread(network.began.wait, SOON)
        while "abn_fast_requests_in_flight 3.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        refused = await client.post("/predict", content=png(picture()))
        network.go.set()
        answers = [await task for task in admitted]
        return refused, answers, await client.post("/predict", content=png(picture()))

    refused, answers, later = serving(session, use, ServerSettings(max_queue=3))
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"error": "3 requests are under way: try again later"}
    assert [answer.status_code for answer in [*answers, later]] == [200] * 4


def test_a_client_that_went_away_frees_its_place_and_costs_no_forward_pass(
    session: InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Blocked(session, monkeypatch)
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}

    async def use(client: Any) -> Any:
        first = asyncio.create_task(client.post("/predict", content=png(picture())))
        await asyncio.to_thread(network.began.wait, SOON)
        whole = {"type": "http.request", "body": png(picture(1))}
        half = {"type": "http.request", "body": b"half", "more_body": True}
        for message in (whole, half):
            await client.app(dict(scope), _then_gone(message), _ignore)
        while "abn_fast_requests_in_flight 1.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        network.go.set()
        return await first, await client.post("/predict", content=png(picture(2)))

    first, later = serving(session, use, ServerSettings(max_batch=1))
    check_answer(first.json(), session(picture()))
    check_answer(later.json(), session(picture(2)))
    assert network.images == 4  # two answers and the two calls just above


def _then_gone(message: dict[str, Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
    waiting = iter([message])

    async def receive() -> dict[str, Any]:
        return next(waiting, {"type": "http.disconnect"})

    return receive


async def _ignore(message: Any) -> None:
    pass


def test_a_client_that_sends_too_slowly_is_refused(session: InferenceSession) -> None:
    async def slow() -> Any:
        yield b"a"
        await asyncio.sleep(SOON)

    response = post(session, settings=ServerSettings(upload_seconds=1), content=slow())
    assert response.status_code == 408


def test_health_makes_a_forward_pass(session: InferenceSession, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Blocked(session, monkeypatch)
    network.go.set()
    healthy = serving(session, lambda client: client.get("/health"))
    assert network.images == 1
    assert healthy.status_code == 200
    expected = {"status": "ok", "runtime": "onnxruntime", "provider": "CPUExecutionProvider", "num_classes": 3}
    assert expected.items() <= healthy.json().items()
    network.error = "the card is gone"
    ill = serving(session, lambda client: client.get("/health"))
    assert ill.status_code == 503
    assert "the card is gone" in ill.json()["error"]


def test_a_network_that_fails_or_returns_nan_is_an_error_of_the_server(
    session: InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Blocked(session, monkeypatch)
    network.go.set()
    network.error = "out of memory"
    failed = post(session, content=png(picture()))
    assert failed.status_code == 500
    assert "out of memory" in failed.json()["error"]
    monkeypatch.setattr(
        session._runner,
        "run",
        lambda images: (torch.full((len(images), 3), torch.nan), torch.zeros(len(images), 1, 2, 2)),
    )
    assert post(session, content=png(picture())).json() == {
        "error": "the network's output for this image is NaN or infinite"
    }


def test_a_file_of_a_fixed_batch_is_served_single_images(tmp_path: Path) -> None:
    model, _ = small("plain-cifar_resnet8")
    path = tmp_path / "fixed.onnx"
    export_onnx(model, path, size=SizeRange.fixed((20, 26)), batch=BatchRange(4, 4, 4), preprocessing=PREPROCESSING)
    session = InferenceSession(path, device="cpu")
    expected = torch.from_numpy(session([picture()] * 4).logits[0]).softmax(0)
    answer = post(session, "top=9", content=png(picture())).json()
    assert {entry["index"]: entry["probability"] for entry in answer["classes"]} == pytest.approx(
        dict(enumerate(expected.tolist())), abs=1e-5
    )
    assert "map" not in answer
    refused = post(session, "map=png", content=png(picture()))
    assert (refused.status_code, refused.json()) == (400, {"error": "map='png': the file has no map; ask for map=none"})


def test_what_cannot_be_served_is_refused_at_the_start(exported: Exported, tmp_path: Path) -> None:
    save_checkpoint(exported.model, tmp_path / "bare.safetensors")
    with pytest.raises(AbnFastError, match="does not say how pictures are preprocessed"):
        create_app(InferenceSession(tmp_path / "bare.safetensors"))
    with pytest.raises(AbnFastError, match="the file has attention; a server needs logits or probabilities"):
        create_app(InferenceSession(exported.file, outputs=["attention"]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_batch", 0), ("max_wait", -1), ("max_wait", float("nan")), ("max_queue", 0), ("max_bytes", 0)],
)
def test_bad_settings_are_told_in_one_line(name: str, value: float) -> None:
    with pytest.raises(AbnFastError, match=f"{name}={value!r}; expected a finite number of at least"):
        ServerSettings(**{name: value})  # type: ignore[arg-type]  # wrong on purpose


def test_the_openapi_page_shows_how_to_send_an_image(session: InferenceSession) -> None:
    body = serving(session, lambda client: client.get("/openapi.json")).json()["paths"]["/predict"]["post"]
    assert set(body["requestBody"]["content"]) == {"application/octet-stream", "multipart/form-data"}
    assert json.dumps(body["parameters"]).count('"name"') == 2
