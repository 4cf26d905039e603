"""From what the client's mask tools send to the question for the segmentation service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.errors import BadInput, ImageNotFound
from shared.messages import MaskRequest
from shared.subjects import TOKEN

if TYPE_CHECKING:
    from services.gateway.api.schemas import SmartMaskRequest
    from services.gateway.deps import Deps
    from shared.messages import ImageRef


async def mask_request(deps: Deps, user: str, ask: SmartMaskRequest) -> MaskRequest:
    """Check the request, then store its pictures. Raises BadInput, ImageNotFound, and as Uploads does.

    Segmentation knows which prompt wins and what is outside of the picture; this only spares it what cannot matter.
    """
    pointed = bool(ask.points or ask.bbox)
    if not (pointed or ask.mask or ask.auto_detect):
        raise BadInput("Please point at something: there are no points, no box, no mask and no auto_detect.")
    upload = await deps.uploads.read(ask.image, "Image") if ask.image else None
    guide = await deps.uploads.read(ask.mask, "Mask") if ask.mask and not pointed else None
    ref = upload.ref if upload else await _known(deps, user, ask.image_id)
    if upload is not None:
        await deps.uploads.store(user, upload)
    return MaskRequest(
        request_id=deps.ownership.new_request_id(user),
        image=ref.sha256,
        engine="default" if ask.model_type == "segmentation" else ask.model_type,
        points=[(x, y, 1) for x, y in ask.points or ()],
        box=ask.bbox,
        mask=guide and await deps.uploads.store(user, guide),
        auto=ask.auto_detect,
        grow_px=ask.border_adjustment,
        feather_px=_feather_px(ref) if ask.use_blur else 0.0,
    )


async def _known(deps: Deps, user: str, image_id: str | None) -> ImageRef:
    if not image_id:
        raise BadInput("Image: there is none in the request.")
    ref = await deps.uploads.known(user, image_id)
    if ref is None:
        # The client recognises these words, and sends the picture again.
        shown = image_id if re.fullmatch(TOKEN, image_id) else "?"
        raise ImageNotFound(f"Image ID not found or expired: {shown}")
    return ref


def _feather_px(ref: ImageRef) -> float:
    """Half as wide again as the softness that masks used to have, min(width, height) / 200 and at least 3 px."""
    return max(4.0, 1.5 * max(3.0, min(ref.width, ref.height) / 200))
