"""A headless Chromium, driven over its DevTools protocol."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START, PATIENCE = 120.0, 60.0
"""Seconds in which the browser starts, and in which the page does something."""


def chromium() -> str | None:
    """The browser's path; the variable CHROMIUM comes first."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)


class Tab:
    """A page of the browser."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.failures: list[str] = []
        """What the page complained about: exceptions, errors in the console, files that did not load."""
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._listen(message)

    def _listen(self, event: dict[str, Any]) -> None:
        parameters = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.failures.append(str(parameters["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.failures.append(parameters["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
                self.failures.append(f"asked for {url}")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait for a JavaScript expression to become true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < deadline, f"{condition} did not happen: {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && document.body.dataset.ready === 'yes'")

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an <input>."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def drag(self, selector: str, points: list[tuple[float, float]]) -> None:
        """Draw with the mouse over an element; points are shares of its width and height."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        left, top, width, height = (self.run(f"{box}.{name}") for name in ("left", "top", "width", "height"))
        places = [(left + x * width, top + y * height) for x, y in points]
        self._mouse("mousePressed", places[0])
        for place in places[1:]:
            self._mouse("mouseMoved", place)
        self._mouse("mouseReleased", places[-1])

    def _mouse(self, kind: str, place: tuple[float, float]) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1)


@contextmanager
def open_tab(folder: Path) -> Iterator[Tab]:
    """A tab of a new browser that keeps its files in a folder."""
    from websockets.sync.client import connect

    path = chromium()
    assert path is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--no-proxy-server", "--window-size=1200,1000"]
    command = [path, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    with (folder.with_suffix(".log")).open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port, _ = _wait(lambda: _lines(folder / "DevToolsActivePort"), process)
        [target] = _wait(lambda: _pages(port), process)
        with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None, open_timeout=START) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _lines(file: Path) -> list[str]:
    lines = file.read_text().splitlines() if file.exists() else []
    return lines if len(lines) == 2 else []


def _pages(port: str) -> list[dict[str, Any]]:
    import httpx

    targets = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False, timeout=START).json()
    return [target for target in targets if target["type"] == "page"][:1]


def _wait(found: Callable[[], list[Any]], process: "subprocess.Popen[bytes]") -> list[Any]:
    deadline = time.monotonic() + START
    while not (result := found()):
        assert process.poll() is None, "the browser ended"
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.05)
    return result
