"""What Prometheus reads at ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Telemetry:
    """Counters of one server.

    Attributes:
        requests: by route and status.
        seconds: by route, from the first byte of a request to the last of its answer.
        batch_sizes: lists that were found together.
        reloads: by result, ``ok`` or ``failed``.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "legos_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.errors = Counter(
            "legos_errors", "Requests that failed with an internal error", registry=registry
        )
        self.seconds = Histogram(
            "legos_request_seconds",
            "Latency of requests in seconds",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_sizes = Histogram(
            "legos_batch_size", "Requests per batch", buckets=_SIZES, registry=registry
        )
        self.reloads = Counter("legos_reloads", "Reloads by outcome", ["result"], registry=registry)

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show a number that is read whenever somebody asks."""
        Gauge(f"legos_{name}", about, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
