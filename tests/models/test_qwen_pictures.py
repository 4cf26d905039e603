"""The input of the model and the use of its output: grids, pictures, words, and a photo that does not move."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.a100worker.backend import edit
from services.a100worker.backends.qwen.painter import PaintRequest
from shared.messages import Task
from tests.models.edits import edit_of, piece
from tests.unit.services.a100worker.recorder import Recorder, box_mask, job, photo, removal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.a100worker.backends.qwen.engine import Qwen

SIZE = 128
TASKS = list(Task)


@pytest.fixture(params=["adapter", "stock"])
def engine(request: pytest.FixtureRequest) -> Qwen:
    """One with an adapter for each task, and one without any."""
    found: Qwen = request.getfixturevalue("qwen" if request.param == "adapter" else "stock_qwen")
    return found


@contextmanager
def inputs_of(module: Any) -> Iterator[list[dict[str, Any]]]:
    """Collect the named inputs of each call of a module."""
    seen: list[dict[str, Any]] = []
    hook = module.register_forward_pre_hook(lambda _, __, named: seen.append(dict(named)), with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


# --- one grid -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [(92, 109), (64, 64), (300, 451), (40, 500), (700, 90), (33, 1000)])
def test_the_painted_picture_lies_on_the_shown_ones(engine: Qwen, task: Task, size: tuple[int, int]) -> None:
    """Token by token: the model counts them from the centre, and another grid is a zoom."""
    height, width = size
    mask = box_mask(height, width, (width // 3, height // 3, width // 2 + 12, height // 2 + 12))

    with inputs_of(engine.painter.pipeline.transformer) as calls:
        edit(engine, job(task, np.resize(piece(), (height, width, 3)), mask, piece("coffee"), steps=2), Recorder())

    shapes = [shape for call in calls for shape in call["img_shapes"][0]]
    assert len(shapes) == len(calls) * (1 + len(engine.recipes[task].views))
    assert len(set(shapes)) == 1


# --- pictures and words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("typed", ["", "remove object", "with a blue ribbon"])
def test_the_model_reads_the_recipe_s_words_and_sees_its_pictures(engine: Qwen, task: Task, typed: str) -> None:
    """Each picture is announced by its number; words that the client filled in count as none."""
    recipe, pipeline = engine.recipes[task], engine.painter.pipeline

    with inputs_of(pipeline.text_encoder) as calls:
        edit(engine, edit_of(task, prompt=typed, negative_prompt="blur"), Recorder())

    texts = [pipeline.tokenizer.decode(call["input_ids"][0]) for call in calls]
    assert len(texts) == 2
    assert recipe.prompt(typed) in texts[0]
    assert ("blue ribbon" in texts[0]) is (typed == "with a blue ribbon")
    assert "blur" in texts[1]
    for text, call in zip(texts, calls, strict=True):
        assert len(call["image_grid_thw"]) == len(recipe.views)
        assert all(f"Picture {number}: " in text for number in range(1, 1 + len(recipe.views)))


@pytest.mark.parametrize("task", TASKS)
def test_the_shown_pictures_are_kept_for_debugging(engine: Qwen, task: Task) -> None:
    """Under labels of their own; all of the canvas's size."""
    finished = edit(engine, edit_of(task, debug=True), Recorder())

    shown = [picture for label, picture in finished.conditions if label.startswith("window_1_picture_")]
    assert len(shown) == len(engine.recipes[task].views)
    assert {picture.shape for picture in shown} == {(128, 160, 3)}


@pytest.mark.parametrize("tool", ["brush", "box", None])
def test_a_brushed_mask_is_filled_far_out_for_the_adapter_alone(qwen: Qwen, stock_qwen: Qwen, tool: str | None) -> None:
    """The adapter was trained so; stock weights see the photo wherever they may not paint."""
    mask = box_mask(128, 160, (70, 50, 90, 70))
    order = removal(piece("cat", 128, 160), mask, mask_tool=tool, steps=2, debug=True)

    holes = [dict(edit(each, order, Recorder()).conditions)["dilated_mask"] for each in (qwen, stock_qwen)]

    reaches = [70 - int(np.flatnonzero(hole.any(axis=(0, 2)))[0]) for hole in holes]
    assert [reach > 12 for reach in reaches] == [tool == "brush", False]


def test_without_an_adapter_none_is_on(stock_qwen: Qwen) -> None:
    """Also none of another task."""
    edit(stock_qwen, edit_of(Task.REMOVAL), Recorder())

    assert not any(hasattr(module, "lora_A") for module in stock_qwen.painter.pipeline.transformer.modules())


# --- the photo stands still ---------------------------------------------------------------------------------------


def still_request(free: np.ndarray[Any, Any], steps: int = 4) -> PaintRequest:
    """Return a request that shows the photo and may paint where `free` is not 0."""
    shown = piece("cat", SIZE, SIZE)
    return PaintRequest([shown], "a cat", " ", steps, 1.0, 3, [], photo=shown, paintable=free)


@pytest.mark.parametrize("name", ["qwen", "bfloat16_qwen"])
def test_outside_the_mask_the_latents_are_the_photo_s_at_each_step_s_noise(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Exactly; inside they are the model's. The mask reaches a cell of 8 px farther than it was drawn."""
    painter, recorder = request.getfixturevalue(name).painter, Recorder()
    pipeline = painter.pipeline
    free = box_mask(SIZE, SIZE, (64, 64, 80, 80))

    with inputs_of(pipeline.transformer) as calls:
        painter.paint(still_request(free), recorder)

    tokens = (SIZE // 16) ** 2
    noise = calls[0]["hidden_states"][:, :tokens]
    sigmas = pipeline.scheduler.sigmas
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[3:6, 3:6] = False  # tokens of 16 px that the grown mask touches
    for call, sigma in list(zip(calls, sigmas, strict=False))[1:]:
        latents, still = call["hidden_states"][0, :tokens], call["hidden_states"][0, tokens:]
        wanted = (1 - sigma) * still + sigma * noise[0]
        assert torch.equal(latents[outside.flatten()], wanted[outside.flatten()].to(latents.dtype))
        assert not torch.equal(latents[4 * 8 + 4], wanted[4 * 8 + 4].to(latents.dtype))


def test_a_mask_over_nothing_gives_the_photo_as_the_vae_has_it(qwen: Qwen) -> None:
    """So the final latents outside are the photo's, without a trace of noise."""
    pipeline = qwen.painter.pipeline

    painted = qwen.painter.paint(still_request(np.zeros((SIZE, SIZE), np.uint8)), Recorder())

    with torch.no_grad():
        pixels = pipeline.image_processor.preprocess(Image.fromarray(piece("cat", SIZE, SIZE)), SIZE, SIZE).unsqueeze(2)
        latents = pipeline.vae.encode(pixels.to(pipeline.vae.dtype)).latent_dist.mode()
        decoded = pipeline.vae.decode(latents, return_dict=False)[0][:, :, 0]
    vae_s = pipeline.image_processor.postprocess(decoded, output_type="np")[0] * 255
    assert np.abs(painted - vae_s).mean() < 1


def test_the_still_part_has_the_same_bytes_for_any_seed_and_prompt(qwen: Qwen) -> None:
    """Far from the mask the picture is decoded from the photo's latents; a preview shows it from the first step on."""
    free = box_mask(SIZE, SIZE, (96, 96, 128, 128))
    first, second = Recorder(), Recorder()

    request = still_request(free)
    other = PaintRequest(
        [piece("rocket", SIZE, SIZE)], "a dog", " ", 4, 1.0, 9, [], photo=request.photo, paintable=free
    )
    qwen.painter.paint(request, first)
    qwen.painter.paint(other, second)

    assert np.array_equal(first.previews[0][:10, :10], second.previews[-1][:10, :10])
    assert not np.array_equal(first.previews[-1][13:, 13:], second.previews[-1][13:, 13:])


# --- windows ------------------------------------------------------------------------------------------------------


def test_two_far_objects_are_painted_in_two_windows(qwen: Qwen) -> None:
    """Their steps count together, and between them not a byte changes."""
    image = np.tile(photo("coffee"), (2, 4, 1))
    mask = box_mask(800, 2400, (100, 100, 160, 160), (2200, 600, 2260, 660))
    recorder = Recorder()

    finished = qwen.remove(removal(image, mask, steps=2, seed=4), recorder)

    assert [step for step in recorder.steps if step[0]] == [(done, 4) for done in range(1, 5)]
    assert finished.region is not None
    assert np.array_equal(finished.image[finished.region == 0], image[finished.region == 0])
    assert not finished.region[:, 700:1700].any()
    assert not np.array_equal(finished.image[110:150, 110:150], image[110:150, 110:150])
    assert not np.array_equal(finished.image[610:650, 2210:2250], image[610:650, 2210:2250])
    assert {preview.shape for preview in recorder.previews} == {(85, 256, 3)}


def test_a_mask_over_nearly_all_of_the_photo_is_answered_with_a_warning(qwen: Qwen) -> None:
    """And with a picture."""
    recorder = Recorder()
    image = piece()

    qwen.remove(removal(image, box_mask(*image.shape[:2], (0, 0, image.shape[1], 90)), steps=2), recorder)

    assert any(message and "nearly the whole photo" in message for message in recorder.messages)
