"""The diffusion engine on a card without enough memory: fallbacks, and an encoder that leaves the card."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from services.a100worker.backend import edit
from services.a100worker.backends.qwen import assembly
from services.a100worker.backends.qwen.memory.oom_fallback import Fallback
from services.a100worker.backends.qwen.painter import Painter, PaintRequest
from services.a100worker.backends.qwen.preflight import look
from shared.errors import EngineFailed
from shared.messages import Task
from tests.models.edits import edit_of, piece
from tests.unit.services.a100worker.recorder import Recorder, balance

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.a100worker.backends.qwen.engine import Qwen
    from services.a100worker.settings import Settings


def shortages(messages: list[str | None]) -> list[str]:
    """Return the messages about the card's memory."""
    return [message for message in messages if message and "GPU" in message]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_card_too_small_takes_one_fallback_after_the_other(
    qwen: Qwen, before_blocks: Callable[[Callable[[int], None]], None], failures: int
) -> None:
    """The user sees each, and gets an image of the right size that leaves the rest alone."""
    recorder, undisturbed = Recorder(), edit(qwen, edit_of(Task.REMOVAL), Recorder()).image

    def run_out(run: int) -> None:
        if run <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    before_blocks(run_out)
    finished = edit(qwen, edit_of(Task.REMOVAL), recorder)

    assert shortages(recorder.messages) == [fallback.sentence for fallback in Fallback if 0 < fallback <= failures]
    assert finished.region is not None
    assert np.array_equal(finished.image[finished.region == 0], piece()[finished.region == 0])
    qwen.known_sizes.clear()
    assert np.array_equal(edit(qwen, edit_of(Task.REMOVAL), Recorder()).image, undisturbed)


@pytest.mark.parametrize("failures", [1, 3])
def test_the_next_job_of_the_size_starts_with_the_fallback_that_worked(
    qwen: Qwen, before_blocks: Callable[[Callable[[int], None]], None], failures: int
) -> None:
    """It fails no more on the way; another size and another task start without one."""

    def run_out(run: int) -> None:
        if run <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    before_blocks(run_out)
    first = edit(qwen, edit_of(Task.REMOVAL), Recorder()).image
    again, smaller, other = Recorder(), Recorder(), Recorder()

    second = edit(qwen, edit_of(Task.REMOVAL), again).image
    edit(qwen, balance(piece("cat", 70, 100), steps=2), smaller)
    edit(qwen, edit_of(Task.WHITE_BALANCE), other)

    assert shortages(again.messages) == [Fallback(failures).sentence]
    assert np.array_equal(first, second)
    assert shortages(smaller.messages) == shortages(other.messages) == []


def test_the_text_encoder_can_leave_the_card_while_painting(qwen: Qwen, qwen_settings: Settings) -> None:
    """Where the rest does not fit: it comes back for each prompt, and the image is the same."""
    moves = []

    class Witness(torch.nn.Module):  # type: ignore[misc]  # torch is not there where types are checked
        """Moves with the module it is part of."""

        def _apply(self, *arguments: Any, **options: Any) -> Witness:
            moves.append(len(recorder.steps))
            super()._apply(*arguments, **options)
            return self

    ready, recorder = look(qwen_settings), Recorder()
    pipeline, _ = assembly.load(ready.settings, ready.checkpoint, ready.adapters, lambda _: None)
    pipeline.text_encoder.add_module("witness", Witness())
    painter = Painter(pipeline, ready.settings, offload_encoder=True)

    request = PaintRequest([piece("cat", 128, 128)], "a cat", " ", 3, 2.0, 3, [])
    images = [painter.paint(request, recorder) for _ in range(2)]

    expected = qwen.painter.paint(request, Recorder())
    assert all(np.array_equal(image, expected) for image in images)
    assert moves == [1, 4, 5]  # out after the prompt was read; in the second job in before it, and out after it


@pytest.mark.parametrize(
    "shortage",
    [
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
    ids=["driver", "cublas", "cudnn"],
)
def test_memory_that_others_lack_is_memory_too(
    qwen: Qwen, before_blocks: Callable[[Callable[[int], None]], None], shortage: RuntimeError
) -> None:
    """CUDA and its libraries take some beside PyTorch's; the card is not lost by that."""
    recorder = Recorder()

    def run_out(run: int) -> None:
        if run == 1:
            raise shortage

    before_blocks(run_out)
    edit(qwen, edit_of(Task.REMOVAL), recorder)

    assert Fallback.TILES.sentence in recorder.messages


def test_below_the_last_rung_the_job_fails_and_the_next_one_does_not(
    qwen: Qwen, before_blocks: Callable[[Callable[[int], None]], None]
) -> None:
    """The error text has the reason."""
    undisturbed = edit(qwen, edit_of(Task.REMOVAL), Recorder()).image

    def run_out(run: int) -> None:
        if run <= len(Fallback):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    before_blocks(run_out)
    with pytest.raises(EngineFailed, match="GPU's memory is too small"):
        edit(qwen, edit_of(Task.REMOVAL), Recorder())

    assert np.array_equal(edit(qwen, edit_of(Task.REMOVAL), Recorder()).image, undisturbed)


def test_the_text_encoder_does_not_come_back_into_a_full_card(
    qwen: Qwen, before_blocks: Callable[[Callable[[int], None]], None]
) -> None:
    """While an exception is on its way it holds all that filled the card: a move could end half-way, for good."""
    moved = []

    class Witness(torch.nn.Module):  # type: ignore[misc]  # torch is not there where types are checked
        """Moves with the module it is part of."""

        def _apply(self, *arguments: Any, **options: Any) -> Witness:
            moved.append(sys.exception())
            super()._apply(*arguments, **options)
            return self

    def run_out(run: int) -> None:
        if run <= len(Fallback):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    reader = qwen.painter.pipeline.text_encoder
    reader.add_module("witness", Witness())
    try:
        before_blocks(run_out)
        with pytest.raises(EngineFailed):
            edit(qwen, edit_of(Task.REMOVAL), Recorder())
        assert moved == [None]
        edit(qwen, edit_of(Task.REMOVAL), Recorder())
        assert moved == [None, None]
    finally:
        del reader.witness
