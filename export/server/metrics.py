from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from abn_fast._version import __version__
from abn_fast.export.session import InferenceSession

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What `/metrics` tells Prometheus; a registry of its own for each server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, session: InferenceSession) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("abn_fast_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.errors = Counter("abn_fast_errors", "Requests answered 400 or more.", ["status"], registry=registry)
        self.latency = Histogram(
            "abn_fast_request_seconds", "From a request to its answer.", ["path"], buckets=SECONDS, registry=registry
        )
        self.batch_size = Histogram("abn_fast_batch_size", "Images of a batch.", buckets=IMAGES, registry=registry)
        self.requests_now = Gauge("abn_fast_requests_in_flight", "Predictions under way.", registry=registry)
        self._waiting = Gauge("abn_fast_queue_images", "Images that wait for a batch.", registry=registry)
        Info("abn_fast_server", "What is served.", registry=registry).info(
            {
                "version": __version__,
                "runtime": session.runtime,
                "provider": session.provider,
                "model": session.metadata.model or "",
                "precision": session.metadata.precision,
            }
        )

    def watch_queue(self, waiting: Callable[[], float]) -> None:
        """Ask this for the number of waiting images."""
        self._waiting.set_function(waiting)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(path, str(status)).inc()
        self.latency.labels(path).observe(seconds)
        if status >= 400:
            self.errors.labels(str(status)).inc()

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        return generate_latest(self._registry)
