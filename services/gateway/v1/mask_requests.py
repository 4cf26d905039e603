"""Converts the mask queries of /v1 to messages for the segmentation service."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from services.gateway.v1.mask_schemas import MaskPreview
from shared.messages import MaskRequest, OutlineRequest, Stroke

if TYPE_CHECKING:
    from services.gateway.v1.mask_schemas import MaskQuery, PreviewQuery


SUPERSEDED = MaskPreview(status="superseded", outline=[], score=0.0, engine=None)
"""The answer to a preview that a newer one replaced."""


def outline_request(query: PreviewQuery) -> OutlineRequest:
    """Return the message for a preview. Segmentation checks its point."""
    return OutlineRequest(request_id=uuid4().hex, image=query.image, engine=query.engine, point=query.point)


def mask_request(query: MaskQuery) -> MaskRequest:
    """Return the message for a query. Segmentation checks its coordinates."""
    return MaskRequest(
        request_id=uuid4().hex,
        image=query.image,
        engine=query.engine,
        points=query.points,
        previous=query.previous,
        box=query.box,
        strokes=[Stroke(**stroke.model_dump()) for stroke in query.strokes],
        mask=query.mask,
        auto=query.auto,
        grow_px=query.grow,
        feather_px=query.feather,
        candidates=query.candidates,
        measures=True if query.candidates > 1 else None,
    )
