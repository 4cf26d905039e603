"""Metrics that all services have. No label is an id of an owner, a job or an image, so the series stay few."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.errors import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

disable_created_metrics()  # type: ignore[no-untyped-call]  # an unused second series for each counter

CONNECTED = Gauge("artmancer_broker_connected", "1 while the connection to the broker is established")
CERTIFICATE_ENDS = Gauge(
    "artmancer_broker_certificate_ends_timestamp_seconds",
    "The end of the validity of the broker's certificate, in Unix seconds, as of the last connection; 0 without TLS",
)
RECONNECTS = Counter("artmancer_broker_reconnects", "Reconnects to the broker")
RPC_SECONDS = Histogram(
    "artmancer_rpc_seconds",
    "Seconds from a request over the bus to its reply; the outcome is `ok` or the code of an error",
    ("subject", "outcome"),
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
REDELIVERIES = Counter(
    "artmancer_redeliveries", "Messages that were delivered again because they were not settled", ("consumer",)
)
DEAD_LETTERS = Counter("artmancer_dead_letters", "Dead letters, by the code of the error", ("reason",))
for _code in CODES:  # start at zero: Prometheus sees no increase in a series that starts with its first event
    DEAD_LETTERS.labels(_code)
UNKNOWN_FIELDS = Counter(
    "artmancer_unknown_fields",
    "Messages that were read with a field that this release does not know",
    ("message",),
)
CACHE_LOOKUPS = Counter("artmancer_cache_lookups", "Lookups in a cache of this process", ("cache", "outcome"))


def count_lookup(cache: str, *, hit: bool) -> None:
    """Count a lookup in a cache."""
    CACHE_LOOKUPS.labels(cache, "hit" if hit else "miss").inc()


class GpuMemory(Collector):
    """Collects the memory of the GPUs at each scrape if an engine uses them. Never loads torch itself."""

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the metric without samples."""
        return [self._family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield bytes by GPU and state."""
        family = self._family()
        cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
        if cuda is not None and cuda.is_initialized():  # before that, a query would take 500 MB of GPU memory
            for gpu in range(cuda.device_count()):
                free, total = cuda.mem_get_info(gpu)
                states = {"free": free, "total": total, "allocated": cuda.memory_allocated(gpu)}
                for state, size in (states | {"reserved": cuda.memory_reserved(gpu)}).items():
                    family.add_metric((str(gpu), state), size)
        yield family

    def _family(self) -> GaugeMetricFamily:
        sentence = "Memory of a GPU: free and total, allocated and reserved by this process"
        return GaugeMetricFamily("artmancer_gpu_memory_bytes", sentence, labels=("gpu", "state"))


REGISTRY.register(GpuMemory())
