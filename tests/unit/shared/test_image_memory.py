"""Requests for pictures run at once only as far as the memory of the process allows."""

from __future__ import annotations

import asyncio

import pytest

from shared.deep_pixels import KEPT
from shared.image_formats import MAX_PIXELS
from shared.image_memory import LARGEST_BYTES, ImageSlots
from shared.messages import ImageRef
from tests.waiting import wait_until

SIDE_PX = int(MAX_PIXELS**0.5)


class Sizes:
    """ImageSizes of which the names are sides in pixels; `?` is a picture without a stated size."""

    async def describe(self, sha256: str) -> ImageRef | None:
        """See ImageSizes."""
        if sha256 == "?":
            return None
        kind, _, side = sha256.rpartition(":")
        return ImageRef(
            bucket="inputs",
            sha256="0" * 64,
            content_type=f"image/{kind or 'jpeg'}",
            notes=[KEPT] if kind == "tiff" else None,
            width=int(side),
            height=int(side),
            size_bytes=1000,
        )


class Room:
    """Requests that stay inside their slot until they are let out."""

    def __init__(self, at_once: int = 4) -> None:
        self.slots = ImageSlots(Sizes(), at_once, LARGEST_BYTES)
        self.inside: list[str] = []
        self.large: list[str] = []
        self.most = 0
        self.leave = asyncio.Event()

    async def visit(self, *pictures: str | None) -> None:
        """Enter with these pictures, and leave when all may."""
        async with self.slots.enter(*pictures) as is_large:
            self.inside.append(str(pictures[0]))
            self.most = max(self.most, len(self.inside))
            self.large += [str(pictures[0])] * is_large
            await self.leave.wait()
            self.inside.remove(str(pictures[0]))


async def visit_all(room: Room, at_once: int, *visits: tuple[str | None, ...]) -> None:
    """Start the visits in order, and let them out when so many are inside."""
    async with asyncio.TaskGroup() as group:
        for number, pictures in enumerate(visits):
            group.create_task(room.visit(*pictures), name=f"visit.{number}")
        await wait_until(lambda: len(room.inside) >= at_once, "as many requests are inside as have memory")
        room.leave.set()


@pytest.mark.parametrize(
    ("visits", "at_once"),
    [
        ([(f"{SIDE_PX}",), (f"{SIDE_PX}",)], 1),
        ([("1000", "1000"), ("1000", None), ("1000",)], 3),
        ([("?",), ("10",)], 1),
        ([("5700",), ("5700",)], 2),
        ([("tiff:5700",), ("tiff:5700",)], 1),
        ([("10",), ("10",), ("10",), ("10",), ("10",), ("10",)], 4),
        ([("10", f"{SIDE_PX}"), ("10",)], 2),
        ([("10", "?"), ("2500",)], 1),
        ([(f"avif:{SIDE_PX}",), ("10",)], 1),
        ([("webp:4000",), ("webp:4000",), ("webp:4000",), ("webp:4000",)], 2),
    ],
    ids=[
        "largest",
        "small",
        "unknown",
        "8 bits",
        "16 bits",
        "number",
        "large mask",
        "unknown mask",
        "video codec",
        "half of it",
    ],
)
async def test_requests_wait_for_memory(visits: list[tuple[str | None, ...]], at_once: int) -> None:
    """A request that would pass the budget waits until others have left."""
    room = Room()

    await visit_all(room, at_once, *visits)

    assert room.most == at_once
    assert room.inside == []


async def test_a_request_for_most_of_the_memory_is_told_so() -> None:
    """Its service can then drop its pictures."""
    room = Room()

    await visit_all(room, 1, ("10",), ("7000",))

    assert room.large == ["7000"]


async def test_those_that_wait_have_entered_too() -> None:
    """Background work, which runs only without requests, must end for a waiting one."""
    room = Room(at_once=1)
    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(room.visit("10"), name=f"visit.{number}")
        await wait_until(lambda: room.slots.entered == 2 and room.inside, "one is inside and one waits")
        room.leave.set()

    assert room.slots.entered == 0
