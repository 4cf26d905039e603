"""Sections 1.8 to 1.13 of the contract: smart masks and image utilities."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from shared import rpc, subjects
from shared.errors import NothingFound
from shared.messages import (
    ExtractRequest,
    ImageReply,
    Mask,
    MaskReply,
    MaskRequest,
    ShadowRequest,
    WhiteBalanceRequest,
)
from tests.gateway import b64, mask_png, png
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus, StoredMessage
    from shared.image_store import NatsImageStore
    from shared.messages import Message
    from tests.gateway import Client

PHOTO, MASK, ANSWER = png("teal", (120, 90)), mask_png((120, 90)), png("white", (120, 90), "L")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
async def requests(bus: Bus, images: NatsImageStore) -> AsyncIterator[list[Any]]:
    """Services that always return the same image; yields the requests. A box of 1 px finds nothing."""
    questions: list[Any] = []

    async def find(request: MaskRequest) -> MaskReply:
        questions.append(request)
        if request.grow_px == -1:
            raise NothingFound("No masks found where you pointed.")
        return MaskReply(masks=[Mask(png=await images.put("cache", ANSWER), score=0.9)], engine="by-hand")

    async def make(request: Message) -> ImageReply:
        questions.append(request)
        return ImageReply(png=await images.put("cache", ANSWER))

    endpoints: list[rpc.Endpoint[Any]] = [
        rpc.Endpoint(subjects.SEG_MASK, MaskRequest, find),
        rpc.Endpoint(subjects.IMG_EXTRACT, ExtractRequest, make),
        rpc.Endpoint(subjects.IMG_SHADOW, ShadowRequest, make),
        rpc.Endpoint(subjects.IMG_WHITE_BALANCE, WhiteBalanceRequest, make),
    ]
    async with rpc.serve(bus, "by-hand", endpoints):
        yield questions


# --- smart masks --------------------------------------------------------------------------------------------------


async def test_the_answer_to_a_smart_mask(client: Client, requests: list[MaskRequest]) -> None:
    """The live body of the main canvas: a data URL, no image id, a box."""
    body = {
        "image": "data:image/png;base64," + b64(PHOTO), "image_id": None, "bbox": [10.5, 20, 60, 70],
        "border_adjustment": 3, "use_blur": False, "model_type": "segmentation",
    }  # fmt: skip
    answer = await client.post("/api/smart-mask", json=body)
    (request,) = requests

    assert answer.status_code == 200
    assert answer.json() == {
        "success": True, "mask_base64": b64(ANSWER), "image_id": sha256(PHOTO), "request_id": request.request_id,
        "model_used": "by-hand", "error": None,
    }  # fmt: skip
    assert (request.image, request.box, request.engine) == (sha256(PHOTO), (10.5, 20, 60, 70), "default")
    assert (request.grow_px, request.feather_px, request.auto) == (3, 0, False)


async def test_the_reference_editor_asks_for_the_main_subject(client: Client, requests: list[MaskRequest]) -> None:
    """The request has no prompt but auto_detect."""
    body = {"image": b64(PHOTO), "border_adjustment": 0, "model_type": "birefnet", "auto_detect": True}
    answer = await client.post("/api/smart-mask", json=body)

    assert answer.json()["success"] is True
    assert (requests[0].auto, requests[0].engine, requests[0].box) == (True, "birefnet", None)


async def test_points_are_positive_and_blur_is_soft(client: Client, requests: list[MaskRequest]) -> None:
    """A mask beside them is not read."""
    body = {"image": b64(PHOTO), "points": [[5, 6], [7.5, 8]], "mask": "broken", "use_blur": True}
    await client.post("/api/smart-mask", json=body)

    assert (requests[0].points, requests[0].mask) == ([(5, 6, 1), (7.5, 8, 1)], None)
    assert requests[0].feather_px == 4.5


async def test_a_mask_guides(client: Client, requests: list[MaskRequest]) -> None:
    """The image is stored and its hash sent to the service."""
    await client.post("/api/smart-mask", json={"image": b64(PHOTO), "mask": b64(MASK)})

    assert requests[0].mask == sha256(MASK)


async def test_a_known_picture_need_not_be_sent_again(client: Client, requests: list[MaskRequest]) -> None:
    """The first response has the id; an image in the request takes precedence over an id."""
    first = await client.post("/api/smart-mask", json={"image": b64(PHOTO), "auto_detect": True})
    image_id = first.json()["image_id"]
    second = await client.post("/api/smart-mask", json={"image_id": image_id, "auto_detect": True})
    third = await client.post("/api/smart-mask", json={"image": b64(MASK), "image_id": image_id, "auto_detect": True})

    assert (second.status_code, second.json()["image_id"]) == (200, image_id)
    assert third.json()["image_id"] == sha256(MASK)
    assert [request.image for request in requests] == [image_id, image_id, sha256(MASK)]


@pytest.mark.parametrize("image_id", ["0" * 64, "7c9e6679-7425-40de-944b-e07fc1f90ae7"])
async def test_an_unknown_image_id_is_404_in_these_words(client: Client, image_id: str) -> None:
    """The client compares this text and sends the image again."""
    answer = await client.post("/api/smart-mask", json={"image_id": image_id, "auto_detect": True})

    assert (answer.status_code, answer.json()["detail"]) == (404, f"Image ID not found or expired: {image_id}")


async def test_nothing_found_says_no_masks_found(client: Client, requests: list[MaskRequest]) -> None:
    """For this text the client shows a warning and keeps the user's stroke."""
    body = {"image": b64(PHOTO), "auto_detect": True, "border_adjustment": -1}
    answer = await client.post("/api/smart-mask", json=body)

    assert len(requests) == 1
    assert answer.status_code == 422
    assert "No masks found" in answer.json()["detail"]


BAD_PROMPTS: dict[str, dict[str, Any]] = {
    "three corners": {"bbox": [1, 2, 3]},
    "one coordinate": {"points": [[1]]},
    "not numbers": {"bbox": ["a", 1, 2, 3]},
    "too many points": {"points": [[1, 1]] * 65},
    "far too wide a border": {"auto_detect": True, "border_adjustment": 1000},
    "no such model": {"auto_detect": True, "model_type": "magic"},
    "nothing pointed at": {},
    "no picture": {"image": None, "auto_detect": True},
}


async def test_a_prompt_that_cannot_be_is_refused(client: Client, requests: list[MaskRequest]) -> None:
    """Before a service is called."""
    answers = {
        name: await client.post("/api/smart-mask", json={"image": b64(PHOTO), **wrong})
        for name, wrong in BAD_PROMPTS.items()
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(BAD_PROMPTS, 422)
    assert requests == []


async def test_a_cancel_reaches_every_replica_and_is_always_fine(client: Client, bus: Bus) -> None:
    """Also for unknown and for malformed ids."""
    heard: list[str] = []

    def hear(message: StoredMessage) -> None:
        heard.append(message.subject)

    async with bus.subscribe(subjects.SEG_CANCEL, hear):
        await bus.client.flush()  # the gateway publishes on another connection
        known = await client.post("/api/smart-mask/cancel/abc123")
        strange = await client.post("/api/smart-mask/cancel/a.b%20c")
        await wait_until(lambda: heard, "the cancel is heard")

    assert (known.status_code, known.json()["success"], known.json()["request_id"]) == (200, True, "abc123")
    assert strange.status_code == 200
    assert heard == [subjects.seg_cancel("abc123")]


async def test_detect_reports_failures_with_200(client: Client, requests: list[MaskRequest]) -> None:
    """As the older format requires."""
    found = await client.post("/api/smart-mask/detect", json={"image": b64(PHOTO)})
    failed = await client.post("/api/smart-mask/detect", json={"image": b64(PHOTO), "border_adjustment": -1})

    assert requests[0].auto
    assert (found.status_code, found.json()) == (200, {"success": True, "mask": b64(ANSWER), "error": None})
    assert failed.status_code == 200
    assert failed.json() == {"success": False, "mask": None, "error": "No masks found where you pointed."}


# --- pictures -----------------------------------------------------------------------------------------------------


async def test_extract_object(client: Client, requests: list[ExtractRequest]) -> None:
    """Images are sent by reference; the response is base64 without a prefix."""
    answer = await client.post("/api/image-utils/extract-object", json={"image": b64(PHOTO), "mask": b64(MASK)})

    assert answer.json() == {"success": True, "extracted_image": b64(ANSWER), "error": None}
    assert (requests[0].image, requests[0].mask) == (sha256(PHOTO), sha256(MASK))


async def test_a_shadow_preview_has_its_defaults(client: Client, requests: list[ShadowRequest]) -> None:
    """Offset 3, 5, opacity 0.4, blur 21."""
    answer = await client.post("/api/image-utils/add-shadow-preview", json={"extracted_image": b64(PHOTO)})

    assert answer.json() == {"success": True, "preview_image": b64(ANSWER), "error": None}
    assert (requests[0].offset_x_px, requests[0].offset_y_px, requests[0].opacity, requests[0].blur_px) == (
        3,
        5,
        0.4,
        21,
    )
    assert requests[0].mask is None


async def test_a_shadow_preview_reports_failures_with_200(client: Client) -> None:
    """Here the service is down."""
    answer = await client.post("/api/image-utils/add-shadow-preview", json={"extracted_image": b64(PHOTO)})

    assert answer.status_code == 200
    assert answer.json()["success"] is False
    assert "image_utils" in answer.json()["error"]


async def test_white_balance_by_form(client: Client, requests: list[WhiteBalanceRequest]) -> None:
    """The request is multipart with decimal text; the response has both images."""
    answer = await client.post(
        "/api/image-utils/white-balance",
        files={"file": ("photo.png", PHOTO, "image/png")},
        data={"method": "manual", "temperature": "12.5", "tint": "-30"},
    )

    assert answer.status_code == 200
    assert answer.json() == {
        "success": True, "original_image": b64(PHOTO), "corrected_image": b64(ANSWER), "method_used": "manual",
        "parameters": {"temperature": 12.5, "tint": -30.0},
    }  # fmt: skip
    assert (requests[0].method, requests[0].temperature, requests[0].tint) == ("manual", 12.5, -30)


@pytest.mark.parametrize("method", ["auto", "ai"])
async def test_automatic_white_balance_turns_no_knobs(
    client: Client, requests: list[WhiteBalanceRequest], method: str
) -> None:
    """The response names the method used."""
    answer = await client.post(
        "/api/image-utils/white-balance",
        files={"file": ("photo.png", PHOTO, "image/png")},
        data={"method": method, "temperature": "50"},
    )

    assert (answer.json()["method_used"], answer.json()["parameters"]) == ("auto", None)
    assert (requests[0].method, requests[0].temperature) == ("auto", 0)


BAD_FORMS: dict[str, tuple[bytes, dict[str, str]]] = {
    "no such method": (PHOTO, {"method": "magic"}),
    "too warm": (PHOTO, {"method": "manual", "temperature": "101"}),
    "not a number": (PHOTO, {"method": "manual", "tint": "green"}),
    "not finite": (PHOTO, {"method": "manual", "tint": "nan"}),
    "not a picture": (b"text", {"method": "auto"}),
    "empty": (b"", {"method": "auto"}),
}


async def test_a_wrong_form_is_refused_in_json(client: Client) -> None:
    """The client parses each error as JSON."""
    answers = {
        name: await client.post("/api/image-utils/white-balance", files={"file": ("x.png", file)}, data=fields)
        for name, (file, fields) in BAD_FORMS.items()
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(BAD_FORMS, 422)
    assert all(isinstance(answer.json()["detail"], str) for answer in answers.values())


async def test_a_service_that_is_down_is_named_at_once(client: Client) -> None:
    """The response is 503 with Retry-After."""
    mask = await client.post("/api/smart-mask", json={"image": b64(PHOTO), "auto_detect": True})
    extract = await client.post("/api/image-utils/extract-object", json={"image": b64(PHOTO), "mask": b64(MASK)})

    assert (mask.status_code, extract.status_code) == (503, 503)
    assert mask.json() == {"detail": "The service segmentation is not running."}
    assert extract.json() == {"detail": "The service image_utils is not running."}
    assert int(mask.headers["retry-after"]) > 0
