"""Tiny models for the GPU engines, made once in a session, in code; nothing is fetched."""

from __future__ import annotations

import gc
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from services.a100worker.settings import Settings
from shared.settings import NatsSettings
from tests.gateway import gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from services.a100worker.backends.qwen.engine import Qwen
    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import Client

# A CPU without instructions for bfloat16 takes five times as long with it: it has tests of its own.
BFLOAT16_ON_THE_CPU: dict[str, Any] = {"qwen_device": "cpu", "qwen_work_px": 128}
ON_THE_CPU: dict[str, Any] = {**BFLOAT16_ON_THE_CPU, "qwen_dtype": "float32"}


@pytest.fixture(scope="session")
def qwen_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a MODEL_DIR with a tiny checkpoint of 2509 and its three adapters. Copy it before you change it."""
    import cv2  # noqa: PLC0415 (only the engines' tests need it)
    import torch  # noqa: PLC0415 (ten seconds of imports)

    from tests.models import tiny_qwen  # noqa: PLC0415

    torch.set_num_threads(1)  # several wait for one another; on a busy machine that is most of the time
    cv2.setNumThreads(1)
    gc.freeze()  # each engine that closes collects garbage, and would look through all that the libraries made: 0.2 s
    models = tmp_path_factory.mktemp("models")
    tiny_qwen.build(models / "qwen")
    yield models
    gc.unfreeze()  # or libraries report leaks when the process ends


@pytest.fixture(scope="session")
def qwen_settings(qwen_models: Path) -> Settings:
    """Return a worker's settings for that checkpoint."""
    return Settings(model_dir=qwen_models, **ON_THE_CPU)


@pytest.fixture(scope="session")
def resident_qwen(qwen_settings: Settings) -> Iterator[Qwen]:
    """Load the engine once."""
    from services.a100worker.backends.qwen.engine import Qwen  # noqa: PLC0415

    with closing(Qwen(qwen_settings, lambda _: None)) as engine:
        yield engine


@pytest.fixture(scope="session")
def resident_bfloat16_qwen(qwen_models: Path) -> Iterator[Qwen]:
    """Load the engine in the type that it computes in on a GPU."""
    from services.a100worker.backends.qwen.engine import Qwen  # noqa: PLC0415

    with closing(Qwen(Settings(model_dir=qwen_models, **BFLOAT16_ON_THE_CPU), lambda _: None)) as engine:
        yield engine


@pytest.fixture(scope="session")
def resident_stock_qwen(qwen_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qwen]:
    """Load the engine once on a volume without adapters."""
    from services.a100worker.backends.qwen.engine import Qwen  # noqa: PLC0415
    from tests.models.seal import seal  # noqa: PLC0415

    models = shutil.copytree(qwen_models, tmp_path_factory.mktemp("stock") / "models")
    shutil.rmtree(models / "qwen/adapters")
    seal(models / "qwen")
    with closing(Qwen(Settings(model_dir=models, **ON_THE_CPU), lambda _: None)) as engine:
        yield engine


@pytest.fixture
def stock_qwen(resident_stock_qwen: Qwen) -> Iterator[Qwen]:
    """Lend the engine without adapters to one test."""
    yield resident_stock_qwen
    resident_stock_qwen.known_sizes.clear()
    resident_stock_qwen.filler.close()


@pytest.fixture
def bfloat16_qwen(resident_bfloat16_qwen: Qwen) -> Iterator[Qwen]:
    """Lend the engine in bfloat16 to one test."""
    yield resident_bfloat16_qwen
    resident_bfloat16_qwen.known_sizes.clear()
    resident_bfloat16_qwen.filler.close()


@pytest.fixture
def qwen(resident_qwen: Qwen) -> Iterator[Qwen]:
    """Lend the engine to one test; after each job it must be as new, and the tests check that."""
    yield resident_qwen
    resident_qwen.known_sizes.clear()
    resident_qwen.filler.close()  # its child process; the next fill starts another


@pytest.fixture
def before_blocks(qwen: Qwen) -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Register a function that is called before each run of a transformer's block, with the number of that run."""
    handles: list[Any] = []

    def register(act: Callable[[int], None]) -> None:
        runs = iter(range(1, 10_000))
        blocks = qwen.painter.pipeline.transformer.transformer_blocks
        handles.extend(block.register_forward_pre_hook(lambda *_: act(next(runs))) for block in blocks)

    yield register
    for handle in handles:
        handle.remove()


@pytest.fixture
async def client(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[Client]:
    """Return a client that waits for a result as long as a deployed gateway does."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings) as client:
        yield client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder and give them time: a busy machine loads a library slowly."""
    for item in items:
        if "/tests/models/" in item.path.as_posix():
            item.add_marker(pytest.mark.models)
            item.add_marker(pytest.mark.timeout(480))
