"""The segmentation service as other services use it: requests over a real broker, with pictures by reference."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from services.segmentation.service import NAME, run
from services.segmentation.settings import Settings
from shared import rpc, subjects
from shared.errors import BadInput, Busy, ConfigError, ImageNotFound, JobCancelled, NothingFound, Unavailable
from shared.image_codec import decode_mask, encode_png
from shared.messages import HealthReply, HealthRequest, MaskReply, MaskRequest, SaliencyReply, SaliencyRequest, Stroke
from shared.settings import NatsSettings
from tests.unit.services.segmentation.photos import ball
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.segmentation.backend import CachedFeatures, Candidate, Checkpoint, Prompt
    from shared.bus import Bus
    from shared.image_codec import Grey, Rgb
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings

ROOT = Path(__file__).parents[3]
MODELS = ROOT / ".models"
COFFEE = (ROOT / "services/gateway/static/samples/coffee.jpg").read_bytes()
UNKNOWN = "0" * 64
ON_THE_CUP: tuple[float, float, int] = (280, 90, 1)
CUP = (165.0, 10.0, 415.0, 205.0)
SPOON = (315.0, 205.0, 410.0, 330.0)


class Endless:
    """Takes the place of an engine that is slow: it works until it is cancelled."""

    name = "fastsam"
    note = None
    begun: list[str] = []  # noqa: RUF012 (the service makes the engine, so a test reaches it only by its class)

    def __init__(self, settings: Settings) -> None:
        """Need nothing."""

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """Ask the checkpoint for ever."""
        Endless.begun.append(f"{cached} {prompt} {image.shape}")
        pause = threading.Event()
        while not pause.wait(0.005):
            checkpoint()
        return []


@pytest.fixture
def settings(nats_url: str, stream_settings: StreamSettings) -> Settings:
    """GrabCut without weights, and an engine that never ends; two at work and one in waiting."""
    Endless.begun.clear()
    return Settings(
        nats=NatsSettings(url=nats_url),
        streams=stream_settings,
        drain_s=0.3,
        model_dir=ROOT / "no-such-folder",
        backends=f"grabcut,{__name__}:Endless",
        concurrency=2,
        waiting=1,
    )


@asynccontextmanager
async def running(bus: Bus, settings: Settings) -> AsyncIterator[None]:
    """Run the service; it must stop on request."""
    stop = asyncio.Event()

    async def healthy() -> bool:
        try:
            reply = await rpc.call(bus, subjects.health(NAME), HealthRequest(), HealthReply, timeout_s=2)
        except Unavailable:
            return False
        return reply.status == "healthy"

    async with asyncio.TaskGroup() as group:
        group.create_task(run(settings, stop), name=NAME)
        await wait_until(healthy, "the segmentation service is healthy")
        yield
        stop.set()


@pytest.fixture
async def service(bus: Bus, settings: Settings) -> AsyncIterator[None]:
    """Provide the service, running."""
    async with running(bus, settings):
        yield


@pytest.fixture
async def coffee(images: NatsImageStore) -> str:
    """Return the id of a stored photo."""
    return (await images.put("inputs", COFFEE)).sha256


async def ask(bus: Bus, image: str, request_id: str = "r1", **fields: Any) -> MaskReply:
    """Ask for masks."""
    request = MaskRequest(request_id=request_id, image=image, **fields)
    return await rpc.call(bus, subjects.SEG_MASK, request, MaskReply, timeout_s=TIMEOUT_S)


async def mask_of(images: NatsImageStore, reply: MaskReply) -> Grey:
    """Fetch the best mask."""
    assert reply.masks[0].png.bucket == "cache"
    return decode_mask(await images.get("cache", reply.masks[0].png.sha256))


@pytest.mark.usefixtures("service")
async def test_a_box_gives_a_mask_of_the_pictures_size(bus: Bus, images: NatsImageStore, coffee: str) -> None:
    """Inside is 255, outside is 0, and it is stored where every service finds it."""
    reply = await ask(bus, coffee, box=CUP)

    mask = await mask_of(images, reply)
    assert mask.shape == (400, 600)
    assert mask[90, 280] == 255
    assert not mask[:, 420:].any()
    assert (reply.engine, len(reply.masks)) == ("grabcut", 1)


@pytest.mark.usefixtures("service")
async def test_the_coarse_method_is_named(bus: Bus, coffee: str) -> None:
    """Without weights the answer has a note."""
    assert "coarse" in ((await ask(bus, coffee, box=CUP)).note or "")


@pytest.mark.usefixtures("service")
async def test_a_click_corrects_the_previous_mask(bus: Bus, images: NatsImageStore) -> None:
    """With it, with it but out of reach, and without it, the answer has the same bytes."""
    clicks: list[Any] = [(60, 45, 1), (20, 20, 1)]
    photo = (await images.put("inputs", encode_png(ball(120, 90)[0]))).sha256
    first = (await ask(bus, photo, points=clicks[:1])).masks[0].png
    alone = await ask(bus, photo, points=clicks)

    unreadable = await ask(bus, photo, points=clicks, previous=first.sha256)
    await images.put("inputs", await images.get("cache", first.sha256))
    read = await ask(bus, photo, points=clicks, previous=first.sha256)

    assert first.sha256 != alone.masks[0].png.sha256
    assert unreadable.masks == read.masks == alone.masks


@pytest.mark.usefixtures("service")
async def test_a_shaped_mask_is_found_again_before_it_is_corrected(bus: Bus, images: NatsImageStore) -> None:
    """Else it would be grown twice."""
    clicks: list[Any] = [(60, 45, 1), (20, 20, 1)]
    photo = (await images.put("inputs", encode_png(ball(120, 90)[0]))).sha256
    grown = (await ask(bus, photo, points=clicks[:1], grow_px=5)).masks[0].png
    await images.put("inputs", await images.get("cache", grown.sha256))

    corrected = await ask(bus, photo, points=clicks, previous=grown.sha256, grow_px=5)

    assert corrected.masks == (await ask(bus, photo, points=clicks, grow_px=5)).masks


@pytest.mark.usefixtures("service")
async def test_the_mask_of_a_box_can_be_corrected(bus: Bus, images: NatsImageStore, coffee: str) -> None:
    """A negative point alone removes a part; without the mask there is nothing to remove it from."""
    first = (await ask(bus, coffee, box=CUP)).masks[0].png
    with pytest.raises(ImageNotFound):
        await ask(bus, coffee, points=[(280, 90, 0)], previous=first.sha256)
    await images.put("inputs", await images.get("cache", first.sha256))

    mask = await mask_of(images, await ask(bus, coffee, points=[(280, 190, 0)], previous=first.sha256))

    before = decode_mask(await images.get("cache", first.sha256))
    assert (before[190, 280] > 127, mask[190, 280] > 127) == (True, False)
    assert (mask <= before).all()
    assert mask.any()


@pytest.mark.usefixtures("service")
async def test_an_engine_that_is_not_loaded_is_replaced(bus: Bus, coffee: str) -> None:
    """The mask comes from the default engine, and the reply has a note."""
    reply = await ask(bus, coffee, box=CUP, engine="birefnet")

    assert reply.engine == "grabcut"
    assert "birefnet is not loaded" in (reply.note or "")


@pytest.mark.usefixtures("service")
async def test_a_guidance_mask_is_fetched_and_followed(bus: Bus, images: NatsImageStore, coffee: str) -> None:
    """It may have any size."""
    painted = np.zeros((40, 60), np.uint8)
    painted[2:20, 19:38] = 255
    guidance = await images.put("inputs", encode_png(painted))

    mask = await mask_of(images, await ask(bus, coffee, mask=guidance.sha256))

    assert mask[90, 280] == 255


@pytest.mark.usefixtures("service")
async def test_a_mask_can_be_grown_and_feathered(bus: Bus, images: NatsImageStore, coffee: str) -> None:
    """After it has been found."""
    plain = await mask_of(images, await ask(bus, coffee, box=CUP))
    grown = await mask_of(images, await ask(bus, coffee, box=CUP, grow_px=8))
    soft = await mask_of(images, await ask(bus, coffee, box=CUP, feather_px=4))

    assert (grown[plain > 127] == 255).all()
    assert np.count_nonzero(grown > 127) > np.count_nonzero(plain > 127)
    assert np.count_nonzero((soft > 0) & (soft < 255)) > 2 * np.count_nonzero((plain > 0) & (plain < 255))


@pytest.mark.usefixtures("service")
async def test_a_mask_shrunk_to_nothing_is_no_mask(bus: Bus, coffee: str) -> None:
    """The error has the words that the deployed client looks for."""
    with pytest.raises(NothingFound, match=r"^No masks found"):
        await ask(bus, coffee, box=SPOON, grow_px=-200)


@pytest.mark.usefixtures("service")
async def test_a_plain_picture_holds_no_mask(bus: Bus, images: NatsImageStore) -> None:
    """The error has the same words."""
    plain = await images.put("inputs", encode_png(np.full((90, 120, 3), 200, np.uint8)))

    with pytest.raises(NothingFound, match=r"^No masks found"):
        await ask(bus, plain.sha256, auto=True)


@pytest.mark.usefixtures("service")
async def test_an_unknown_picture_is_reported_by_its_id(bus: Bus) -> None:
    """The deployed client then sends the picture again."""
    with pytest.raises(ImageNotFound, match=f"^Image ID not found or expired: {UNKNOWN}$"):
        await ask(bus, UNKNOWN, box=CUP)


@pytest.mark.usefixtures("service")
async def test_an_unknown_guidance_mask_is_reported_by_its_id(bus: Bus, coffee: str) -> None:
    """It is a picture like any other."""
    with pytest.raises(ImageNotFound, match=UNKNOWN):
        await ask(bus, coffee, mask=UNKNOWN)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "fields",
    [{}, {"points": [(600, 10, 1)]}, {"points": [(5, 5, 0)]}, {"strokes": [Stroke(points=[(-9, -9)])]}],
    ids=["nothing", "outside", "only negative", "stroke outside"],
)
async def test_a_senseless_request_is_refused(bus: Bus, coffee: str, fields: dict[str, Any]) -> None:
    """With a sentence, before any work."""
    with pytest.raises(BadInput) as refusal:
        await ask(bus, coffee, **fields)

    assert refusal.value.code == "bad_input"
    assert refusal.value.message.endswith(".")


@pytest.mark.usefixtures("service")
async def test_requests_at_once_get_their_own_answers(bus: Bus, coffee: str) -> None:
    """Two engine runs share the process; the images' hashes show that nothing was mixed up."""
    alone = [await ask(bus, coffee, box=box) for box in (CUP, SPOON)]

    together = await asyncio.gather(
        ask(bus, coffee, "r1", box=CUP), ask(bus, coffee, "r2", box=SPOON), ask(bus, coffee, "r3", box=CUP)
    )

    assert [reply.masks[0].png.sha256 for reply in together] == [
        alone[which].masks[0].png.sha256 for which in (0, 1, 0)
    ]


@pytest.mark.usefixtures("service")
async def test_a_running_request_can_be_cancelled(bus: Bus, coffee: str) -> None:
    """It answers at its next checkpoint."""
    request = asyncio.create_task(ask(bus, coffee, "r1", engine="fastsam", points=[ON_THE_CUP]))
    await wait_until(lambda: Endless.begun, "the engine has begun")

    await bus.emit(subjects.seg_cancel("r1"))

    with pytest.raises(JobCancelled):
        await request


@pytest.mark.usefixtures("service")
async def test_a_cancel_may_come_before_its_request(bus: Bus, coffee: str) -> None:
    """They travel on different subjects."""
    await bus.emit(subjects.seg_cancel("r1"))

    with pytest.raises(JobCancelled):
        await ask(bus, coffee, "r1", engine="fastsam", points=[ON_THE_CUP])


@pytest.mark.usefixtures("service")
async def test_beyond_those_at_work_and_in_waiting_all_is_busy(bus: Bus, coffee: str) -> None:
    """Two run, one waits, the fourth is refused at once; a cancel frees a place."""
    names = ["r1", "r2", "r3"]
    requests = [asyncio.create_task(ask(bus, coffee, name, engine="fastsam", points=[ON_THE_CUP])) for name in names]
    await wait_until(lambda: len(Endless.begun) == 2, "two requests are at work")

    with pytest.raises(Busy):
        await ask(bus, coffee, "r4", engine="fastsam", points=[ON_THE_CUP])

    for name in names:
        await bus.emit(subjects.seg_cancel(name))
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [JobCancelled] * 3
    assert (await ask(bus, coffee, "r5", box=CUP)).masks


async def test_a_stop_does_not_wait_for_what_never_ends(bus: Bus, settings: Settings, coffee: str) -> None:
    """After the drain time the request is dropped and its thread ends at the next checkpoint."""
    async with running(bus, settings):
        request = asyncio.create_task(
            rpc.call(
                bus, subjects.SEG_MASK,
                MaskRequest(request_id="r1", image=coffee, engine="fastsam", points=[(280, 90, 1)]),
                MaskReply, timeout_s=3,
            )
        )  # fmt: skip
        await wait_until(lambda: Endless.begun, "the engine has begun")

    with pytest.raises(Unavailable):
        await request


@pytest.mark.usefixtures("service")
async def test_without_weights_there_is_no_map(bus: Bus, coffee: str) -> None:
    """The asker then does without."""
    reply = await rpc.call(
        bus, subjects.SEG_SALIENCY, SaliencyRequest(image=coffee), SaliencyReply, timeout_s=TIMEOUT_S
    )

    assert reply.png is None


@pytest.mark.skipif(not (MODELS / "u2netp").is_dir(), reason="the weights of u2netp are not installed")
async def test_the_map_of_what_stands_out(bus: Bus, images: NatsImageStore, settings: Settings, coffee: str) -> None:
    """With weights: of the picture's size, bright on the cup and dark on the table."""
    async with running(bus, settings.model_copy(update={"model_dir": MODELS})):
        reply = await rpc.call(
            bus, subjects.SEG_SALIENCY, SaliencyRequest(image=coffee), SaliencyReply, timeout_s=TIMEOUT_S
        )

    assert reply.png is not None
    seen = decode_mask(await images.get("cache", reply.png.sha256))
    assert seen.shape == (400, 600)
    assert seen[90, 280] > 200
    assert seen[380, 560] < 20


@pytest.mark.usefixtures("service")
async def test_health_says_what_is_loaded(bus: Bus) -> None:
    """It names the origin of masks."""
    reply = await rpc.call(bus, subjects.health(NAME), HealthRequest(), HealthReply, timeout_s=2)

    assert (reply.service, reply.status) == ("segmentation", "healthy")
    assert reply.detail["engines"] == "grabcut, fastsam"
    assert "coarse" in reply.detail["note.grabcut"]


async def test_a_wrong_engine_ends_the_service(settings: Settings) -> None:
    """Before it has connected to anything."""
    with pytest.raises(ConfigError, match="sam9"):
        await run(settings.model_copy(update={"backends": "sam9"}), asyncio.Event())
