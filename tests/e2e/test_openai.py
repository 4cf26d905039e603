"""The official `openai` package, unmodified, edits photos on the running system."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from services.cli import Client
from tests.gateway import SAMPLES
from tests.openai_forms import alpha_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PHOTO, REFERENCE = SAMPLES / "rocket.jpg", SAMPLES / "cat.jpg"
SIZE, BOX = (640, 427), (300, 150, 360, 260)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def client(stack_url: str) -> Iterator[openai.OpenAI]:
    """Provide a client of the package. The running system needs no key, and the package sends one."""
    with openai.OpenAI(base_url=f"{stack_url}/v1", api_key="am_any") as client:
        yield client


def pixels(b64_json: str | None) -> NDArray[np.uint8]:
    """Return a picture of an answer as an array."""
    assert b64_json
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64_json))).convert("RGB"))


def original() -> NDArray[np.uint8]:
    return np.asarray(Image.open(PHOTO).convert("RGB"))


def changes(b64_json: str | None, box: tuple[int, int, int, int] = BOX) -> tuple[int, int]:
    """Return the numbers of changed pixels where the mask is transparent, and elsewhere."""
    changed = (pixels(b64_json) != original()).any(axis=-1)
    inside = np.asarray(Image.open(io.BytesIO(alpha_mask(SIZE, box))))[..., 3] == 0
    return int((changed & inside).sum()), int((changed & ~inside).sum())


def test_an_object_is_removed(client: openai.OpenAI, stack_url: str) -> None:
    """Two tries as one batch; outside the mask not one pixel changes, and the receipts say so."""
    answer = client.images.edit(image=PHOTO, mask=alpha_mask(SIZE, BOX), prompt="Remove object.", n=2, size="640x427")

    assert (answer.size, answer.output_format, len(answer.data or [])) == ("640x427", "png", 2)
    assert answer.usage is not None
    with Client(stack_url) as own:
        for image in answer.data or []:
            inside, outside = changes(image.b64_json)
            assert inside > 1000
            assert outside == 0
            assert own.receipt(str(image.job_id)).pixels_changed_outside_mask == 0  # type: ignore[attr-defined]


def test_a_stream_has_previews_and_the_result(client: openai.OpenAI) -> None:
    """As the package's own events."""
    with client.images.edit(
        image=PHOTO, mask=alpha_mask(SIZE, BOX), prompt="erase", stream=True, partial_images=3
    ) as stream:
        events = list(stream)

    assert all(isinstance(event, openai.types.ImageEditPartialImageEvent) for event in events[:-1])
    assert [event.partial_image_index for event in events[:-1] if event.type == "image_edit.partial_image"] == list(
        range(len(events) - 1)
    )
    assert isinstance(events[-1], openai.types.ImageEditCompletedEvent)
    assert events[-1].usage.total_tokens == 0
    assert changes(events[-1].b64_json)[1] == 0


def test_a_mask_that_protects_everything_changes_no_channel(client: openai.OpenAI) -> None:
    """The best-known hosted API changed 4.4 of 6.3 million."""
    answer = client.images.edit(image=PHOTO, mask=alpha_mask(SIZE, None), prompt="remove")

    assert answer.data
    assert int((pixels(answer.data[0].b64_json) != original()).sum()) == 0


def test_the_second_image_is_inserted(client: openai.OpenAI, stack_url: str) -> None:
    """Where the mask is transparent; its shadow ends there."""
    box = (60, 60, 260, 260)
    answer = client.images.edit(image=[PHOTO, REFERENCE], mask=alpha_mask(SIZE, box), prompt="")

    assert answer.data
    inside, outside = changes(answer.data[0].b64_json, box)
    assert inside > 1000
    assert outside == 0
    with Client(stack_url) as own:
        assert own.receipt(str(answer.data[0].job_id)).pixels_changed_outside_mask == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("mask", [alpha_mask(SIZE, BOX), alpha_mask(SIZE, None)], ids=["edited", "unchanged"])
def test_the_result_can_have_another_format(client: openai.OpenAI, mask: bytes) -> None:
    """As base64, in a stream, and by its address; a lower quality is a smaller file."""
    wanted: dict[str, Any] = {"image": PHOTO, "mask": mask, "prompt": "remove"}
    fine = client.images.edit(**wanted, output_format="jpeg").data
    coarse = client.images.edit(**wanted, output_format="jpeg", output_compression=30).data
    linked = client.images.edit(**wanted, output_format="webp", output_compression=60, response_format="url").data
    with client.images.edit(**wanted, output_format="webp", stream=True) as stream:
        (event,) = stream

    assert fine
    assert coarse
    assert linked
    large, small, streamed = [base64.b64decode(each.b64_json or "") for each in (fine[0], coarse[0], event)]
    assert large.startswith(b"\xff\xd8")
    assert len(small) < len(large) / 2
    assert (event.output_format, streamed[8:12]) == ("webp", b"WEBP")
    assert httpx.get(str(linked[0].url)).content[8:12] == b"WEBP"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"prompt": "make the rocket blue"}, "unsupported_prompt"),
        ({"prompt": "x" * 32_000}, "unsupported_prompt"),
        ({"image": [PHOTO, REFERENCE], "prompt": "put the cat on the rocket"}, "unsupported_prompt"),
        ({"n": 0}, "integer_below_min_value"),
        ({"quality": "high"}, "invalid_value"),
        ({"extra_body": {f"unknown{number}": "x" for number in range(17)}}, "unknown_parameter"),
    ],
)
def test_a_refusal_is_the_exception_of_the_package(client: openai.OpenAI, changed: dict[str, Any], code: str) -> None:
    """With code, field and sentence."""
    wanted = {"image": PHOTO, "mask": alpha_mask(SIZE, BOX), "prompt": "remove", **changed}

    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(**wanted)

    assert refused.value.code == code
    assert refused.value.param
    assert refused.value.type == "invalid_request_error"
