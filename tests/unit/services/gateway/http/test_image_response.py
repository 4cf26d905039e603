"""Images as HTTP responses: whole, in part, or 304."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from services.gateway.http.image_response import image_response, parse_range
from shared.errors import ImageNotFound
from shared.messages import ImageRef
from tests.fakes import FakeImageStore
from tests.gateway import png

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from shared.object_buckets import Bucket

SIZES = st.integers(1, 10_000)


@given(first=st.integers(0, 20_000), last=st.integers(0, 20_000), size=SIZES)
def test_a_range_with_both_ends_is_cut_at_the_end_of_the_picture(first: int, last: int, size: int) -> None:
    """RFC 9110, 14.1.2; a range that ends before its start is ignored."""
    span = parse_range(f"bytes={first}-{last}", size)

    if last < first:
        assert span is None
    else:
        assert span is not None
        assert list(range(*span)) == list(range(size))[first : last + 1]


@given(first=st.integers(0, 20_000), size=SIZES)
def test_a_range_without_an_end_goes_to_the_end(first: int, size: int) -> None:
    """A resumed download sends it."""
    span = parse_range(f"bytes={first}-", size)

    assert span is not None
    assert list(range(*span)) == list(range(size))[first:]


@given(count=st.integers(0, 20_000), size=SIZES)
def test_a_range_without_a_beginning_is_the_end(count: int, size: int) -> None:
    """At most all bytes."""
    span = parse_range(f"bytes=-{count}", size)

    assert span is not None
    assert list(range(*span)) == list(range(size))[max(0, size - count) :]


@pytest.mark.parametrize("header", ["", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,4-5", "bytes=0-" + "9" * 30])
def test_what_cannot_be_read_is_no_range(header: str) -> None:
    """The response then has the whole image."""
    assert parse_range(header, 10) is None


@given(header=st.text(max_size=30))
def test_any_text_can_be_read(header: str) -> None:
    """No text raises, and no range leaves the image."""
    span = parse_range("bytes=" + header, 10)

    assert span is None or (span[0] >= 0 and span[1] <= 10)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 200),
        ({"range": "bytes=0-3"}, 206),
        ({"range": "bytes=0-3", "if-range": '"{sha256}"'}, 206),
        ({"range": "bytes=0-3", "if-range": '"another"'}, 200),
        ({"range": "bytes=0-1,4-5"}, 200),
        ({"if-none-match": '"{sha256}"'}, 304),
        ({"if-none-match": '"another", W/"{sha256}"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"another"'}, 200),
        ({"if-none-match": '"{sha256}"', "range": "bytes=0-3"}, 304),
    ],
)
async def test_the_headers_decide_what_is_sent(asked: dict[str, str], status: int) -> None:
    """The whole image, a part of it, or 304."""
    images, data = FakeImageStore(), png()
    ref = await images.put("results", data)
    headers = {name: value.replace("{sha256}", ref.sha256) for name, value in asked.items()}

    answer = await image_response(images, ref, headers)

    assert answer.status_code == status
    assert answer.body == {200: data, 206: data[:4], 304: b""}[status]
    assert answer.headers["etag"] == f'"{ref.sha256}"'


async def test_a_range_behind_the_end_is_refused() -> None:
    """With the size, so that the client can ask again."""
    images, data = FakeImageStore(), png()
    ref = await images.put("results", data)

    with pytest.raises(HTTPException) as refusal:
        await image_response(images, ref, {"range": f"bytes={len(data)}-"})

    assert refusal.value.status_code == 416
    assert refusal.value.headers == {"Content-Range": f"bytes */{len(data)}"}


class CountingStore(FakeImageStore):
    """Counts the pieces that are read."""

    pieces = 0

    async def stream(self, bucket: Bucket, sha256: str) -> AsyncGenerator[bytes, None]:
        """See StreamedStore."""
        async for piece in super().stream(bucket, sha256):
            self.pieces += 1
            yield piece


LARGE = b"".join(number.to_bytes(4) for number in range(700_000))


async def store_large(images: FakeImageStore) -> ImageRef:
    ref = ImageRef(
        bucket="results", sha256=hashlib.sha256(LARGE).hexdigest(), content_type="image/png", width=1, height=1,
        size_bytes=len(LARGE),
    )  # fmt: skip
    return await images.put("results", LARGE, ref)


@pytest.mark.parametrize(
    ("header", "expected", "status"),
    [("", LARGE, 200), ("bytes=500000-1700000", LARGE[500_000:1_700_001], 206), ("bytes=-5", LARGE[-5:], 206),
     ("bytes=0-0", LARGE[:1], 206)],
)  # fmt: skip
async def test_a_large_image_is_sent_in_pieces(header: str, expected: bytes, status: int) -> None:
    """A slow reader costs a piece of memory, and the answer is the same."""
    images = FakeImageStore()
    ref = await store_large(images)

    response = await image_response(images, ref, {"range": header} if header else {})
    assert isinstance(response, StreamingResponse)
    pieces = [bytes(piece) async for piece in response.body_iterator]  # type: ignore[arg-type]

    assert b"".join(pieces) == expected
    assert max(len(piece) for piece in pieces) <= 512 * 1024
    assert (response.status_code, response.headers["content-length"]) == (status, str(len(expected)))


@pytest.mark.parametrize("header", ["", "bytes=500000-1700000"])
async def test_head_reads_one_piece(header: str) -> None:
    """It has the headers of GET, and does not read an image that nobody gets."""
    images = CountingStore()
    ref = await store_large(images)
    asked = {"range": header} if header else {}

    head = await image_response(images, ref, asked, has_body=False)
    read = images.pieces
    answer = await image_response(images, ref, asked)

    assert (head.status_code, head.body, read) == (answer.status_code, b"", 1)
    assert head.headers == answer.headers


async def test_a_large_image_that_is_gone_is_found_missing_before_the_response() -> None:
    """So the client gets 404, not an interrupted download."""
    ref = ImageRef(
        bucket="results", sha256="0" * 64, content_type="image/png", width=1, height=1, size_bytes=9_000_000
    )  # fmt: skip

    with pytest.raises(ImageNotFound):
        await image_response(FakeImageStore(), ref, {})
