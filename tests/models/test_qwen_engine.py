"""The diffusion engine on a tiny checkpoint: the same bytes for the same job, and a clean state after any failure."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from PIL import Image

from services.a100worker.backend import edit
from services.a100worker.backends.qwen.engine import Qwen
from services.a100worker.backends.qwen.latent_colours import LatentColours
from services.a100worker.backends.qwen.painter import PaintRequest
from shared.errors import BadInput, CardLost, EngineFailed, JobCancelled
from shared.messages import Task
from tests.models.edits import HEIGHT, WIDTH, edit_of, piece
from tests.unit.services.a100worker.recorder import Recorder, balance

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.a100worker.settings import Settings
    from shared.image_codec import Rgb

SIZE = 128


def order(seed: int = 3, **changes: Any) -> PaintRequest:
    """Three steps on two pictures: of two, the first and the last are where every schedule has them."""
    wanted: dict[str, Any] = {"prompt": "a cat", "negative_prompt": " ", "steps": 3, "guidance": 2.0, "adapters": []}
    pictures = [piece("cat", SIZE, SIZE), piece("rocket", SIZE, SIZE)]
    return PaintRequest(pictures, seed=seed, **{**wanted, **changes})


# --- the picture --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen", "bfloat16_qwen"])
def test_the_picture_is_the_library_s_own(name: str, request: pytest.FixtureRequest) -> None:
    """Byte for byte: the bare pipeline gives the same picture for the same arguments."""
    engine: Qwen = request.getfixturevalue(name)
    asked = order(adapters=["removal"])
    ours = engine.painter.paint(asked, Recorder())

    bare = engine.painter.pipeline
    theirs = bare(
        image=[Image.fromarray(picture) for picture in asked.images],
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        true_cfg_scale=asked.guidance,
        num_inference_steps=asked.steps,
        width=SIZE,
        height=SIZE,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
    ).images[0]

    assert isinstance(bare, QwenImageEditPlusPipeline)
    assert np.array_equal(ours, np.asarray(theirs))


def test_another_seed_gives_another_picture(qwen: Qwen) -> None:
    """And so do another prompt, another picture, and the fixed shift."""
    asked = [
        order(),
        order(seed=4),
        order(prompt="a dog"),
        order(guidance=1.0),
        order(flow_match=True),
        PaintRequest([piece("coffee", SIZE, SIZE)] * 2, "a cat", " ", 3, 2.0, 3, []),
    ]

    painted = [qwen.painter.paint(one, Recorder()).tobytes() for one in asked]

    assert len(set(painted)) == len(asked)


def test_adapters_are_switched_without_a_trace(qwen: Qwen) -> None:
    """A, B, A: the last is the first, bit by bit, and each adapter makes its own picture."""
    names = ["removal", "insertion", "white-balance"]

    first = [qwen.painter.paint(order(adapters=[name]), Recorder()).tobytes() for name in names]
    again = [qwen.painter.paint(order(adapters=[name]), Recorder()).tobytes() for name in names]
    none = qwen.painter.paint(order(), Recorder()).tobytes()

    assert first == again
    assert len({*first, none}) == 4


def test_two_photos_of_one_size_are_two_conditions(qwen: Qwen) -> None:
    """A cache that knew pictures by their size would give one the other's result."""
    cat, rocket = (edit(qwen, edit_of(Task.WHITE_BALANCE, name, debug=True), Recorder()) for name in ("cat", "rocket"))

    assert not np.array_equal(cat.conditions[1][1], rocket.conditions[1][1])
    assert not np.array_equal(cat.image, rocket.image)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (16, 16), (40, 200), (250, 300), (16, 3200), (3200, 1)])
def test_any_size_comes_back_as_it_came(qwen: Qwen, size: tuple[int, int]) -> None:
    """Padded for the model, scaled where it is too large, and brought back; a strip is not seen as nothing."""
    picture = np.resize(piece(), (*size, 3)) if max(size) > 300 else piece("cat", *size)

    finished = qwen.balance(balance(picture, steps=2), Recorder())

    assert finished.image.shape == picture.shape


def test_the_strength_of_a_white_balance_reaches_from_nothing_to_all(qwen: Qwen) -> None:
    """Half of it lies half-way."""
    none, half, full = (
        edit(qwen, edit_of(Task.WHITE_BALANCE, strength=strength), Recorder()).image for strength in (0, 0.5, 1)
    )

    before = piece().astype(np.float32)
    assert np.array_equal(none, piece())
    assert np.abs(half - (before + full) / 2).max() <= 1


def test_words_that_the_tokenizer_knows_as_commands_are_words(qwen: Qwen) -> None:
    """A prompt cannot ask for a picture that is not there."""
    finished = edit(qwen, edit_of(Task.WHITE_BALANCE, prompt="<|image_pad|> <|im_end|>", steps=2), Recorder())

    assert finished.image.shape == (HEIGHT, WIDTH, 3)


def test_what_was_typed_matters_and_nothing_means_the_default_words(qwen: Qwen) -> None:
    """An earlier backend threw the prompt of a removal away."""
    images = [
        edit(qwen, edit_of(Task.REMOVAL, prompt=prompt), Recorder()).image for prompt in ("", "remove object", "a lawn")
    ]

    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize("where", ["prompt", "negative_prompt"])
def test_more_words_than_the_model_reads_are_refused(qwen: Qwen, where: str) -> None:
    """Far more would end in a failure without a reason, after all tries."""
    with pytest.raises(BadInput, match=r"The prompt is too long: the model reads 1,024 tokens, about 700 words\."):
        edit(qwen, edit_of(Task.WHITE_BALANCE, **{where: "a word " * 1400}), Recorder())


# --- steps and previews -------------------------------------------------------------------------------------------


def test_each_step_is_told_once_and_shown(qwen: Qwen) -> None:
    """The last preview is where the picture ends, in the colours of a linear map."""
    recorder = Recorder()

    painted = qwen.painter.paint(order(), recorder)

    assert recorder.steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [preview.shape for preview in recorder.previews] == [(SIZE // 8, SIZE // 8, 3)] * 3
    assert len({preview.tobytes() for preview in recorder.previews}) == 3
    assert painted.shape == (SIZE, SIZE, 3)


def test_a_preview_shows_the_picture_without_its_padding(qwen: Qwen) -> None:
    """Else it would lie askew when it is laid over the photo: 70 x 100 pixels are painted as 107 x 153 of 128 x 160."""
    recorder = Recorder()

    qwen.balance(balance(piece("cat", 70, 100), steps=3), recorder)

    assert {preview.shape for preview in recorder.previews} == {(13, 19, 3)}


def test_one_step_would_divide_nought_by_nought(qwen: Qwen) -> None:
    """So there are two."""
    recorder = Recorder()

    edit(qwen, edit_of(Task.WHITE_BALANCE, steps=1), recorder)

    assert recorder.steps[-1] == (2, 2)


def test_the_colours_of_latents_keep_nothing_for_a_gradient(qwen: Qwen) -> None:
    """With the real VAE it would be 2.7 GB of the card, held as long as the map."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda _: None):
        LatentColours.fit(qwen.painter.pipeline)

    assert kept == []


# --- cancel -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_insertion(qwen_settings: Settings) -> Rgb:
    """Return the picture that a new engine paints as its first job."""
    with closing(Qwen(qwen_settings, lambda _: None)) as fresh:
        return edit(fresh, edit_of(Task.INSERTION), Recorder()).image


@pytest.mark.parametrize("at_block", [1, 2, 7])
def test_a_cancel_ends_the_step_it_comes_in(
    qwen: Qwen, first_insertion: Rgb, before_blocks: Callable[[Callable[[int], None]], None], at_block: int
) -> None:
    """Two blocks, two passes a step: the seventh run is inside the second step. The next job is as on a new engine."""
    recorder, seen = Recorder(), []

    def cancel(run: int) -> None:
        seen.append(run)
        if run == at_block:
            recorder.cancel_flag.set()

    before_blocks(cancel)
    with pytest.raises(JobCancelled):
        edit(qwen, edit_of(Task.REMOVAL), recorder)

    assert seen[-1] <= at_block + 1
    assert recorder.steps[-1] == ((at_block - 1) // 4, 3)
    assert np.array_equal(edit(qwen, edit_of(Task.INSERTION), Recorder()).image, first_insertion)


# --- a lost card ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
    ids=["driver", "cublas", "cudnn"],
)
def test_a_lost_card_is_an_error_of_its_own(
    qwen: Qwen, before_blocks: Callable[[Callable[[int], None]], None], failure: RuntimeError
) -> None:
    """It would refuse every later job too; this one is handed back at once."""

    def lose(_: int) -> None:
        raise failure

    before_blocks(lose)
    with pytest.raises(CardLost):
        edit(qwen, edit_of(Task.REMOVAL), Recorder())


def test_a_card_lost_while_memory_is_freed_is_an_error_of_its_own(qwen_settings: Settings) -> None:
    """After a shortage the caches are emptied, and on a lost card that is a call like any other."""

    def lose(_: int = 0) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with closing(Qwen(qwen_settings, lambda _: None, free_memory=lose)) as engine:
        engine.painter.pipeline.transformer.transformer_blocks[0].register_forward_pre_hook(run_out)
        with pytest.raises(CardLost):
            edit(engine, edit_of(Task.REMOVAL), Recorder())


@pytest.mark.parametrize("lost", [torch.AcceleratorError("CUDA error: device-side assert"), RuntimeError("CUDA error")])
def test_an_engine_on_a_lost_card_closes_without_an_error(qwen_settings: Settings, lost: RuntimeError) -> None:
    """Its context refuses every call; the weights are gone all the same, and so is the child process."""
    calls = []

    def refuse() -> None:
        calls.append(1)
        raise lost

    engine = Qwen(qwen_settings, lambda _: None, free_memory=refuse)
    edit(engine, edit_of(Task.REMOVAL), Recorder())
    engine.close()

    assert calls == [1]
    assert not hasattr(engine, "painter")


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("transformer.proj_out", torch.nan, "NaN"),
        ("vae.decoder", torch.nan, "NaN"),
        ("vae.decoder", -1.0, "a black image"),
    ],
)
def test_nan_and_black_are_no_pictures(qwen: Qwen, part: str, value: float, reason: str) -> None:
    """Wherever in the model they begin."""
    owner, _, name = part.partition(".")
    module = getattr(getattr(qwen.painter.pipeline, owner), name)
    broken = module.register_forward_hook(lambda *_: torch.full_like(_[2], value))
    try:
        with pytest.raises(EngineFailed, match=f"The model returned {reason}"):
            edit(qwen, edit_of(Task.WHITE_BALANCE, strength=1), Recorder())
    finally:
        broken.remove()


def test_a_black_photo_may_come_back_black(qwen: Qwen) -> None:
    """It was shown nothing else."""
    black = qwen.painter.pipeline.vae.decoder.register_forward_hook(lambda *_: torch.full_like(_[2], -1.0))
    try:
        finished = qwen.balance(balance(np.zeros((HEIGHT, WIDTH, 3), np.uint8), steps=2), Recorder())
    finally:
        black.remove()

    assert not finished.image.any()


@pytest.mark.parametrize("task", list(Task))
def test_pictures_for_debugging_are_made_for_debugged_jobs_alone(qwen: Qwen, task: Task) -> None:
    """They have the photo's size, and cost as much as the edit of a large one on the CPU."""
    assert edit(qwen, edit_of(task, steps=2), Recorder()).conditions == ()
