"""Finds the parts of an evicted result, and requests its assembly. The gateway opens no picture itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from services.gateway.v1.results.chains import MOST_EDITS
from shared import rpc, subjects
from shared.errors import BadInput, ImageNotFound
from shared.messages import AssembleRequest, ImageReply, Patch

if TYPE_CHECKING:
    from services.gateway.access.ownership import Ownership
    from services.gateway.v1.results.chains import Chains
    from shared.bus import Bus
    from shared.image_store import DescribedStore
    from shared.messages import Done, ImageRef


class Assembly:
    """Assembles results of an owner from the owner's stored images. A deleted job gives no part."""

    def __init__(
        self, bus: Bus, images: DescribedStore, ownership: Ownership, chains: Chains, timeout_s: float
    ) -> None:
        self._bus = bus
        self._images = images
        self._ownership = ownership
        self._chains = chains
        self._timeout_s = timeout_s

    async def assemble(self, owner: str, sha256: str) -> ImageRef | None:
        """Return a result in the bucket `cache`; None if a part of it is gone, or if it was encoded otherwise.

        Raises Busy, Unavailable, BrokerUnavailable.
        """
        request = await self._find_parts(owner, sha256)
        if request is None:
            return None
        try:
            reply = await rpc.call(
                self._bus, subjects.IMG_ASSEMBLE, request, ImageReply, timeout_s=self._timeout_s
            )  # fmt: skip
        except (BadInput, ImageNotFound):
            return None
        return reply.png

    async def _find_parts(self, owner: str, sha256: str) -> AssembleRequest | None:
        """Go back from edit to edit, down to the first picture that is stored."""
        edits: list[Done] = []  # the newest first
        base, before, patches = None, math.inf, list[Patch]()
        while base is None:
            step = await self._chains.find(owner, sha256, before)
            if step is None or step.known is None or len(patches) == MOST_EDITS:
                return None
            record, done, submission = step.known
            if submission is None or done.patch is None or done.changed_box is None:
                return None
            x, y, *_ = done.changed_box
            edits.append(done)
            patches.append(Patch(image=done.patch, x=x, y=y))
            sha256, before = submission.image, record.created_at
            base = await self._find_stored(owner, sha256)
        return AssembleRequest(result=edits[0].result, base=base, patches=patches[::-1])

    async def _find_stored(self, owner: str, sha256: str) -> ImageRef | None:
        """Return an image or a result of the owner that is stored."""
        ownership = self._ownership
        if await ownership.owns_image(owner, sha256) or await ownership.owns_result(owner, sha256):
            return await self._images.describe(sha256)
        return None
