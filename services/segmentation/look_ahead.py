"""Decode a photo and compute its saliency as soon as it is stored, so that the first click does not wait for both.

The look uses only idle time: one thread of a lower priority, on an idle machine, in a service without requests.
Decision 0038 has the figures.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from services.segmentation import saliency
from services.segmentation.geometry import whole_image
from shared.errors import ArtMancerError, JobCancelled
from shared.messages import ImageRef
from shared.reading import read

if TYPE_CHECKING:
    from pathlib import Path

    from services.segmentation.caches.feature_cache import FeatureCache
    from services.segmentation.caches.image_cache import ImageCache
    from shared.bus import StoredMessage
    from shared.derived import Derived
    from shared.image_codec import Rgb
    from shared.image_memory import ImageSlots

log = logging.getLogger(__name__)
_NICENESS = 5  # a third of another thread's time; with 19, a request on a busy machine waits up to 7 s for its end


class LookAhead:
    """Looks at the newest stored photo. Not for masks, and not for engines that begin with another network."""

    def __init__(
        self, slots: ImageSlots, photos: ImageCache, features: FeatureCache, derived: Derived, model_dir: Path
    ) -> None:
        self._slots = slots
        self._photos = photos
        self._features = features
        self._derived = derived
        self._model_dir = model_dir
        self._newest = ""
        self._stored = asyncio.Event()
        self._stopped = False

    def note(self, message: StoredMessage) -> None:
        """Look at the photo of this message next. It replaces a waiting one: users click on the newest photo.

        Raises BadMessage.
        """
        self._newest = read(ImageRef, message.data).sha256
        self._stored.set()

    async def run(self, load_limit: float) -> None:
        """Look at photos until cancelled, while the machine's load is below this many times its cores."""
        thread = ThreadPoolExecutor(1, "look-ahead", _yield_to_others)
        try:
            while True:
                await self._stored.wait()
                self._stored.clear()
                if self._slots.entered or os.getloadavg()[0] >= load_limit * (os.cpu_count() or 1):
                    log.info("look-ahead.busy", extra={"image": self._newest})
                    continue
                await self._look(self._newest, thread)
        finally:
            self._stopped = True
            thread.shutdown(wait=False, cancel_futures=True)  # a running look ends by itself

    async def _look(self, sha256: str, thread: ThreadPoolExecutor) -> None:
        try:
            async with self._slots.enter(sha256) as is_large:
                if is_large:  # would drop cached photos for a photo that may get no click
                    return
                image = await self._photos.photo(sha256)  # in a normal thread: a decode cannot be stopped
                await asyncio.get_running_loop().run_in_executor(thread, self._predict, sha256, image)
            await self._derived.drop_if_gone(("inputs", sha256))
        except JobCancelled:
            log.info("look-ahead.dropped", extra={"image": sha256})
        except ArtMancerError as error:  # for example a deleted photo or a missing broker: the first click reports it
            log.info("look-ahead.failed", extra={"image": sha256, "reason": error.message})
        except Exception:  # a library may fail on a client's bytes, and the service must go on
            log.exception("look-ahead.crashed", extra={"image": sha256})

    def _predict(self, sha256: str, image: Rgb) -> None:
        network = saliency.load(self._model_dir, 1)  # further threads would have the service's priority
        if network is not None:
            network.predict(image, self._features.for_image(sha256), whole_image(image), self._checkpoint)

    def _checkpoint(self) -> None:
        """Raise JobCancelled if a request has arrived, because it would wait for this slow thread."""
        if self._stopped or self._slots.entered > 1:
            raise JobCancelled


def _yield_to_others() -> None:
    if sys.platform == "linux":  # on other systems, threads have no priority of their own
        os.nice(_NICENESS)
