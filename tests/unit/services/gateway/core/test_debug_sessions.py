"""Debug sessions: file names, metadata and the debug panel."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from services.gateway.api.debug_info import debug_info
from services.gateway.core.debug_sessions import files_of, metadata_of
from services.gateway.core.pieces import Pictures
from shared.messages import DebugImage, DebugSession, JobSubmit, Task
from tests.fakes import FakeImageStore
from tests.gateway import b64, mask_png, png

REMOVAL = ("original", "mask", "mae", "dilated_mask")
INSERTION = ("ref_img", "mask", "masked_bg", "positioned_mask")
GUIDED = ("original", "mask_A", "masked_R", "reference_image", "positioned_mask_R", "positioned_mask")
TASKS = {REMOVAL: Task.REMOVAL, INSERTION: Task.INSERTION, GUIDED: Task.INSERTION, ("input",): Task.WHITE_BALANCE}


async def store_session(images: FakeImageStore, labels: tuple[str, ...], **fields: object) -> DebugSession:
    """Store a session of an edit with one image for each label."""
    photo, mask = await images.put("inputs", png("navy")), await images.put("inputs", mask_png())
    facts = {"task": TASKS[labels], "image": photo.sha256, "mask": mask.sha256, "prompt": "away with it", **fields}
    pictures = []
    for number, label in enumerate(labels):
        ref = await images.put("debug", png("red", size=(10 + number, 10)))
        pictures.append(DebugImage(label=label, sha256=ref.sha256, width=ref.width, height=ref.height))
    return DebugSession(
        name="20260301_093000_01234567",
        job_id="j1",
        user="u1",
        created_at=1772357400.0,
        engine="classical",
        duration_ms=1500,
        submit=JobSubmit.model_validate(facts),
        result=await images.put("results", png("green")),
        images=pictures,
    )


async def panel(images: FakeImageStore, session: DebugSession) -> dict[str, Any]:
    """Return the fields of the panel as a client gets them."""
    pictures = Pictures(images)
    answer = await pictures.answer(_Answer(info=await debug_info(images, session, pictures)))
    return dict(json.loads(bytes(answer.body))["info"])


class _Answer(BaseModel):
    info: dict[str, Any]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (REMOVAL, ["01_input_image", "02_mask_image", "04_dilated_mask", "05_mae_output", "07_generated_output"]),
        (INSERTION, ["02_mask_image", "03_masked_bg", "04_reference_image", "06_positioned_mask",
                     "07_generated_output"]),
        (GUIDED, ["01_input_image", "02_main_mask_A", "03_reference_image", "05_positioned_mask_R",
                  "06_positioned_mask", "07_masked_R", "09_generated_output"]),
        (("input",), ["01_input_image", "07_generated_output"]),
    ],
)  # fmt: skip
async def test_files_have_the_names_of_the_contract(labels: tuple[str, ...], names: list[str]) -> None:
    """In order; a file is missing if the engine has no such image."""
    session = await store_session(FakeImageStore(), labels)

    assert [file.name for file in files_of(session)] == [f"{name}.png" for name in names]


async def test_the_metadata_describes_the_edit_and_each_file() -> None:
    """With the fields of the contract."""
    metadata = metadata_of(await store_session(FakeImageStore(), REMOVAL, steps=20, seed=3))

    assert metadata["session_id"] == "20260301_093000_01234567"
    assert (metadata["timestamp"], metadata["created_at"]) == ("20260301_093000", "2026-03-01T09:30:00+00:00")
    assert metadata["images"]["02_mask_image"] == {
        "filename": "02_mask_image.png", "step": "02", "description": "mask", "size": [11, 10], "mode": "RGB"
    }  # fmt: skip
    assert (metadata["parameters"]["num_inference_steps"], metadata["parameters"]["generation_time"]) == (20, 1.5)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (REMOVAL, ["original", "mask", "mae"]),
        (INSERTION, ["ref_img", "mask", "masked_bg"]),
        (GUIDED, ["original", "mask_A", "masked_R", "reference_image", "positioned_mask_R"]),
        (("input",), ["input"]),
    ],
)
async def test_the_panel_gets_its_labels_in_its_order(labels: tuple[str, ...], shown: list[str]) -> None:
    """One image for each label, in base64 without a prefix."""
    images = FakeImageStore()

    info = await panel(images, await store_session(images, labels))

    assert info["conditional_labels"] == shown
    assert len(info["conditional_images"]) == len(shown)
    assert all(text.startswith("iVBORw0KGgo") for text in info["conditional_images"])


async def test_the_panels_order_does_not_depend_on_the_engine() -> None:
    """An engine stores its images in the order of its model."""
    images = FakeImageStore()
    session = await store_session(images, REMOVAL)
    turned = session.model_copy(update={"images": session.images[::-1]})

    assert (await panel(images, turned))["conditional_labels"] == ["original", "mask", "mae"]


async def test_the_panel_gets_the_inputs() -> None:
    """Byte for byte."""
    images = FakeImageStore()

    info = await panel(images, await store_session(images, REMOVAL))

    assert (info["original_image"], info["mask_A"]) == (b64(png("navy")), b64(mask_png()))
    assert (info["input_image_size"], info["output_image_size"]) == ("64x48", "64x48")
    assert "reference_image" not in info


@pytest.mark.parametrize(("tool", "there"), [("brush", True), ("box", False), (None, False)])
async def test_the_dilated_mask_is_shown_where_a_brush_painted(tool: str | None, there: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    """A box is not dilated."""
    images = FakeImageStore()

    info = await panel(images, await store_session(images, REMOVAL, mask_tool=tool))

    assert ("mask_mae_dilated" in info) is there


async def test_expired_images_are_left_out() -> None:
    """The others are shown."""
    images = FakeImageStore()
    session = await store_session(images, REMOVAL)
    lost = session.images[1].model_copy(update={"sha256": "0" * 64})
    session = session.model_copy(update={"images": [session.images[0], lost, *session.images[2:]]})

    assert (await panel(images, session))["conditional_labels"] == ["original", "mae"]
