"""Fakes: an image store without a broker, which passes the real one's tests, and engines that misbehave."""

from __future__ import annotations

import hashlib
import os
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backend import Edit, Engine
from shared.errors import BadImage, CardLost, EngineFailed, ImageNotFound, JobCancelled
from shared.image_codec import probe
from shared.image_store import CHUNK_BYTES
from shared.messages import ImageRef

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from services.a100worker.backend import (
        EditInputs,
        InsertionInputs,
        PhaseReporter,
        RemovalInputs,
        StepReporter,
        WhiteBalanceInputs,
    )
    from services.a100worker.settings import Settings
    from shared.image_store import Bucket


class FakeImageStore:
    """ImageStore and NamedStore in memory, without a broker. Not for tests of expiry or of a full store."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Bucket, str], tuple[ImageRef, bytes]] = {}
        self._named: dict[tuple[Bucket, str], bytes] = {}

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """See ImageStore."""
        sha256 = hashlib.sha256(data).hexdigest()
        if (bucket, sha256) in self._kept and not force:
            return self._kept[bucket, sha256][0]
        if ref is None:
            info = probe(data)
            ref = ImageRef(
                bucket=bucket,
                sha256=sha256,
                content_type=info.content_type,
                width=info.width,
                height=info.height,
                size_bytes=len(data),
            )
        elif (ref.bucket, ref.sha256) != (bucket, sha256):
            raise BadImage("The reference does not belong to the image.")
        self._kept[bucket, sha256] = ref, data
        return ref

    async def stream(self, bucket: Bucket, sha256: str) -> AsyncGenerator[bytes, None]:
        """See StreamedStore."""
        data = await self.get(bucket, sha256)
        for at in range(0, len(data), CHUNK_BYTES):
            yield data[at : at + CHUNK_BYTES]

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """See ImageStore."""
        kept = self._find(bucket, sha256)
        if kept is None:
            raise ImageNotFound
        return kept[1]

    def _find(self, bucket: Bucket, sha256: str) -> tuple[ImageRef, bytes] | None:
        kept = self._kept.get((bucket, sha256))
        return self._kept.get(("results", sha256)) if kept is None and bucket == "inputs" else kept

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """See ImageStore."""
        kept = self._find(bucket, sha256)
        return None if kept is None else kept[0]

    async def describe(self, sha256: str, bucket: Bucket = "inputs") -> ImageRef | None:
        """See DescribedStore."""
        return await self.head(bucket, sha256)

    async def remove(self, bucket: Bucket, sha256: str, is_needed: Callable[[], Awaitable[bool]]) -> bool:
        """See ImageRemover."""
        if (bucket, sha256) not in self._kept or await is_needed():
            return False
        del self._kept[bucket, sha256]
        return True

    async def put_named(self, bucket: Bucket, name: str, data: bytes) -> None:
        """See NamedStore."""
        self._named[bucket, name] = data

    async def get_named(self, bucket: Bucket, name: str) -> bytes | None:
        """See NamedStore."""
        return self._named.get((bucket, name))


class _Weightless(Engine):
    """An engine without weights that does the same for every task."""

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        del settings, loading

    @abstractmethod
    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Run a job of any task."""

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """See Engine."""
        return self.edit(job, step)

    def insert(self, job: InsertionInputs, step: StepReporter) -> Edit:
        """See Engine."""
        return self.edit(job, step)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """See Engine."""
        return self.edit(job, step)

    def close(self) -> None:
        """See Engine."""


class FailingEngine(_Weightless):
    """An engine that fails every job with an error text that clients must not see."""

    name = "failing"

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Raise a RuntimeError, as a bug would."""
        del job, step
        raise RuntimeError("CUDA error in /secret/weights.bin")


class CardLosingEngine(_Weightless):
    """An engine with a card that fails in every job."""

    name = "card-losing"

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Raise CardLost."""
        del job
        step(1, 2)
        raise CardLost


class MoodyEngine(_Weightless):
    """An engine that fails at the first try of each seed and succeeds at the second."""

    name = "moody"

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        super().__init__(settings, loading)
        self._tried: set[int] = set()

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Raise EngineFailed at the first try."""
        step(1, 1)
        if job.seed not in self._tried:
            self._tried.add(job.seed)
            raise EngineFailed
        return Edit(job.image.copy(), None)


class HastyEngine(_Weightless):
    """An engine that ignores the prompt and is done at once."""

    name = "hasty"

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Return the image unchanged."""
        step(1, 1)
        return Edit(job.image.copy(), None)


class ShowingEngine(_Weightless):
    """An engine that shows the picture at every step: first red, then green, then blue."""

    name = "showing"

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Take three steps, as fast as it can."""
        for done in range(3):
            colour = np.eye(3, dtype=np.uint8)[done] * np.uint8(255)
            step(done + 1, 3, None, np.broadcast_to(colour, job.image.shape).copy())
        return Edit(job.image.copy(), None)


class DeadlyEngine(_Weightless):
    """An engine that ends its process, as a broken driver does. Only for a worker process."""

    name = "deadly"

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Exit without cleaning up."""
        del job, step
        os._exit(9)


class DeafEngine(_Weightless):
    """An engine in a step that no cancel reaches and that does not end. Only for a worker process."""

    name = "deaf"

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Take one step and stay in the next one."""
        step(1, 2)
        threading.Event().wait()
        return Edit(job.image, None)


class SulkingEngine(_Weightless):
    """An engine that raises JobCancelled without a cancel."""

    name = "sulking"

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Raise JobCancelled."""
        del job, step
        raise JobCancelled


class GatedEngine(_Weightless):
    """An engine that reads its weights from a pipe: it is loaded once a byte is written into `gate`."""

    name = "gated"

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        super().__init__(settings, loading)
        loading("waiting")
        with (settings.model_dir / "gate").open("rb", buffering=0) as gate:
            gate.read(1)

    def edit(self, job: EditInputs, step: StepReporter) -> Edit:
        """Return the image unchanged."""
        del step
        return Edit(job.image.copy(), None)
