"""Converts the mask requests of /api to messages for the segmentation service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.errors import BadInput, ImageNotFound
from shared.messages import MaskRequest
from shared.subjects import TOKEN

if TYPE_CHECKING:
    from services.gateway.access.ownership import Ownership
    from services.gateway.api.schemas import SmartMaskRequest
    from services.gateway.core.uploads import Uploads
    from shared.messages import ImageRef


async def mask_request(uploads: Uploads, ownership: Ownership, owner: str, query: SmartMaskRequest) -> MaskRequest:
    """Check the request, store its images and return the message. Raises BadInput, ImageNotFound, and as Uploads.

    A mask is not stored if points or a box take precedence. Segmentation checks everything else.
    """
    has_points_or_box = bool(query.points or query.bbox)
    if not (has_points_or_box or query.mask or query.auto_detect):
        raise BadInput("The request has no prompt: send points, a box, a mask or auto_detect.")
    image = await uploads.read(query.image, "Image") if query.image else None
    mask = await uploads.read(query.mask, "Mask") if query.mask and not has_points_or_box else None
    ref = image.ref if image else await _find_image(uploads, owner, query.image_id)
    if image is not None:
        await uploads.store(owner, image)
    return MaskRequest(
        request_id=ownership.new_request_id(owner),
        image=ref.sha256,
        engine="default" if query.model_type == "segmentation" else query.model_type,
        points=[(x, y, 1) for x, y in query.points or ()],
        box=query.bbox,
        mask=mask and await uploads.store(owner, mask),
        auto=query.auto_detect,
        grow_px=query.border_adjustment,
        feather_px=_feather_px(ref) if query.use_blur else 0.0,
    )


async def _find_image(uploads: Uploads, owner: str, image_id: str | None) -> ImageRef:
    if not image_id:
        raise BadInput("The request has no image; send it as base64.")
    ref = await uploads.find(owner, image_id)
    if ref is None:
        # The client compares this text and sends the image again.
        shown = image_id if re.fullmatch(TOKEN, image_id) else "?"
        raise ImageNotFound(f"Image ID not found or expired: {shown}")
    return ref


def _feather_px(ref: ImageRef) -> float:
    """Return 1.5 times the original service's blur radius, min(width, height) / 200 and at least 3 px."""
    return max(4.0, 1.5 * max(3.0, min(ref.width, ref.height) / 200))
