import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from abn_fast._errors import AbnFastError

Check = Callable[[int, Any], str | None]
"""Of the index of an image and its answer: what is wrong with it, or None."""


@dataclass
class LoadReport:
    """What a server did under load."""

    clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds of each request that was answered well."""
    errors: Counter[str] = field(default_factory=Counter)
    """By what went wrong."""

    @property
    def images_per_second(self) -> float:
        """Images answered well."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Of the latencies, seconds; NaN if there are none."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else float("nan")

    def text(self) -> str:
        """A few lines for people."""
        p50, p99, most = (f"{1000 * self.percentile(percent):.1f}" for percent in (50, 99, 100))
        lines = [
            f"{self.clients} clients, {self.seconds:.1f} s: {len(self.latencies)} images, "
            f"{self.images_per_second:.1f} images/s, {self.errors.total()} errors",
            f"latency: p50 {p50} ms, p99 {p99} ms, longest {most} ms",
        ]
        return "\n".join(lines + [f"{count} x {reason}" for reason, count in self.errors.most_common()])


def load_test(
    url: str,
    images: Sequence[bytes],
    *,
    clients: int = 64,
    seconds: float = 60.0,
    query: str = "",
    check: Check = lambda index, answer: None,
    timeout: float = 60.0,
) -> LoadReport:
    """Let clients send images to a server, one after the other each, over connections that stay open.

    Args:
        url: of the server.
        images: files' bytes, sent in turn.
        clients: at the same time.
        seconds: after which nobody sends another.
        query: for /predict, such as "map=png&top=3".
        check: looks at each answer.
        timeout: seconds without an answer, after which a request is an error.

    Raises:
        AbnFastError: no server answers at that URL.
    """
    return asyncio.run(_load(url, images, clients, seconds, query, check, timeout))


async def _load(
    url: str, images: Sequence[bytes], clients: int, seconds: float, query: str, check: Check, timeout: float
) -> LoadReport:
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=timeout, trust_env=False) as http:
        try:
            (await http.get("/health")).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AbnFastError(f"{url}: no server of abn-fast serve: {error}") from None
        report, began = LoadReport(clients), time.perf_counter()

        async def client(first: int) -> None:
            index = first
            while time.perf_counter() - began < seconds:
                await _send(http, query, index % len(images), images, check, report)
                index += clients

        await asyncio.gather(*(client(first) for first in range(clients)))
        report.seconds = time.perf_counter() - began
    return report


async def _send(
    http: httpx.AsyncClient, query: str, index: int, images: Sequence[bytes], check: Check, report: LoadReport
) -> None:
    sent = time.perf_counter()
    try:
        response = await http.post(f"/predict?{query}", content=images[index])
    except httpx.HTTPError as error:
        report.errors[f"{type(error).__name__}: {error}"] += 1
        return
    took = time.perf_counter() - sent
    if response.status_code != 200:
        report.errors[f"{response.status_code}: {response.text}"] += 1
        await asyncio.sleep(float(response.headers.get("retry-after", 0)))
    elif wrong := check(index, response.json()):
        report.errors[f"wrong answer: {wrong}"] += 1
    else:
        report.latencies.append(took)
