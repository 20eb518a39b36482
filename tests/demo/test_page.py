"""`abn-fast demo` as a process of its own, and its page in a real Chromium."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast.data import EditedMap
from abn_fast.explain.edit import map_size, predict_edited
from tests.demo._chromium import Tab, chromium, open_tab
from tests.demo.conftest import Files
from tests.export._trained import CLASSES, SEEN, picture, trained

for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(module, reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="websockets is not installed: pip install 'abn-fast[dev]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium: apt-get install chromium, or set CHROMIUM"),
]
START = 180.0
COMPUTED = "document.getElementById('message').textContent === '' && !document.getElementById('result').hidden"


@contextmanager
def page(file: Path, *options: object) -> Iterator[str]:
    """The URL of a running `abn-fast demo`."""
    command = [
        sys.executable,
        "-m",
        "abn_fast",
        "demo",
        str(file),
        "--port",
        "0",
        "--device",
        "cpu",
        *map(str, options),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[2],
    )
    try:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
        line = lines.get(timeout=START).strip()
        assert " on http://127.0.0.1:" in line, line
        yield line.rpartition(" on ")[2]
    finally:
        process.terminate()
        process.wait(START)


def predictions(tab: Tab, column: str) -> dict[str, float]:
    rows = tab.run(
        f"[...document.querySelectorAll('#predictions tr')].map((r) => [r.dataset.name, r.dataset.{column}])"
    )
    return {name: float(value) for name, value in rows if value != ""}


def pixels(tab: Tab) -> Any:
    """The canvas's mean colour."""
    script = "{const c = document.getElementById('map'); const d = c.getContext('2d')"
    script += ".getImageData(0, 0, c.width, c.height).data; let s = 0; for (const v of d) s += v; s / d.length}"
    return tab.run(script)


def doubtful(folder: Path) -> Path:
    """A picture of two classes at once, whose prediction depends most on the map."""

    def change(pixels: Any) -> float:
        image = SEEN(Image.fromarray(pixels))
        result = predict_edited(trained(), image, darkness())
        return float((result.after - result.before).abs().max())

    mixed = [((picture(i).astype(np.uint16) + picture(i + 1)) // 2).astype(np.uint8) for i in range(30)]
    path = folder / "doubtful.png"
    Image.fromarray(max(mixed, key=change)).save(path)
    return path


def darkness() -> EditedMap:
    size = map_size(trained(), SEEN)
    return EditedMap(torch.zeros(size), torch.ones(size))


def test_a_picture_goes_in_and_a_changed_prediction_comes_out_after_painting(files: Files, tmp_path: Path) -> None:
    first = doubtful(tmp_path)
    seen = SEEN(Image.open(first))
    with page(files.checkpoint, "--images", files.images) as url, open_tab(tmp_path / "browser") as tab:
        tab.open(url)
        tab.until("[...document.querySelectorAll('#samples img')].every((i) => i.complete && i.naturalWidth)")
        assert tab.run("document.querySelectorAll('#samples img').length") == 6
        tab.choose_file("#file", first)
        tab.until(COMPUTED)
        before = predictions(tab, "before")
        own = predict_edited(trained(), seen, None)
        assert before == pytest.approx(dict(zip(CLASSES, own.before.tolist(), strict=True)), abs=1e-3)
        assert predictions(tab, "after") == {}
        assert tab.run("document.querySelectorAll('figure.evidence img').length") == 3
        assert tab.run("document.querySelectorAll('figure.gradcam img').length") == 1

        untouched = pixels(tab)
        tab.run("document.getElementById('erase').checked = true; document.getElementById('size').value = 6")
        tab.drag("#map", [(x, y) for y in (0.02, 0.3, 0.6, 0.98) for x in (0.02, 0.5, 0.98)])
        tab.until("document.querySelector('#predictions tr').dataset.after !== ''")
        tab.until(COMPUTED)
        after = predictions(tab, "after")
        assert pixels(tab) != untouched
        dark = predict_edited(trained(), seen, darkness()).after.tolist()
        assert after == pytest.approx(dict(zip(CLASSES, dark, strict=True)), abs=1e-3)
        assert max(abs(after[name] - before[name]) for name in CLASSES) > 0.03

        tab.run("document.getElementById('reset').click()")
        assert predictions(tab, "after") == {}
        assert pixels(tab) == untouched

        tab.run("document.querySelectorAll('#samples button')[1].click()")
        tab.until(f"{COMPUTED} && document.getElementById('file').value === '' && painted && after === null")
        second = predict_edited(trained(), SEEN(Image.open(sorted(files.images.iterdir())[1])), None)
        expected = dict(zip(CLASSES, second.before.tolist(), strict=True))
        assert predictions(tab, "before") == pytest.approx(expected, abs=1e-3)
        assert tab.failures == []


def test_broken_and_large_pictures_are_told_on_the_page(files: Files, tmp_path: Path) -> None:
    broken, large = tmp_path / "broken.png", tmp_path / "large.png"
    broken.write_bytes(b"no picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(large)
    with page(files.checkpoint, "--max-bytes", "20000") as url, open_tab(tmp_path / "browser") as tab:
        tab.open(url)
        for path, message in ((broken, "the 10 bytes are no image"), (large, "at most 20000 are taken")):
            tab.choose_file("#file", path)
            tab.until(f"document.getElementById('message').textContent.includes({message!r})")
            assert tab.run("document.getElementById('result').hidden")
            assert "Traceback" not in tab.run("document.body.innerText")


def test_an_exported_file_is_shown_without_painting(exported: Path, files: Files, tmp_path: Path) -> None:
    with page(exported, "--images", files.images) as url, open_tab(tmp_path / "browser") as tab:
        tab.open(url)
        tab.run("document.querySelector('#samples button').click()")
        tab.until(COMPUTED)
        own = predict_edited(trained(), SEEN(Image.open(sorted(files.images.iterdir())[0])), None)
        expected = dict(zip(CLASSES, own.before.tolist(), strict=True))
        assert predictions(tab, "before") == pytest.approx(expected, abs=1e-3)
        assert tab.run("document.querySelectorAll('figure.evidence img').length") == 3
        untouched = pixels(tab)
        tab.drag("#map", [(0.1, 0.1), (0.9, 0.9)])
        assert pixels(tab) == untouched
        text = tab.run("document.body.innerText")
        assert "Painting is off: model.onnx takes no map" in text
        assert "No Grad-CAM: an exported file has no gradients" in text
        assert tab.run("getComputedStyle(document.getElementById('tools')).display") == "none"
        assert tab.failures == []
