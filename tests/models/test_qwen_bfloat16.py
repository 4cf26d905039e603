"""The diffusion engine in bfloat16, the type that it computes in on a GPU; the other tests of it use float32."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from services.a100worker.backend import edit
from services.a100worker.backends.qwen.engine import Qwen
from services.a100worker.settings import Settings
from shared.messages import Task
from tests.models.conftest import BFLOAT16_ON_THE_CPU
from tests.models.edits import edit_of, piece
from tests.unit.services.a100worker.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from shared.image_codec import Rgb


def paint(engine: Qwen) -> Rgb:
    """Return the image of one edit."""
    return edit(engine, edit_of(Task.WHITE_BALANCE), Recorder()).image


def test_every_part_and_adapter_has_the_type(bfloat16_qwen: Qwen) -> None:
    """Single precision would take twice the memory and time on a GPU."""
    pipeline = bfloat16_qwen.painter.pipeline
    parts = {"transformer": pipeline.transformer, "text encoder": pipeline.text_encoder, "vae": pipeline.vae}

    wide = {name for name, part in parts.items() if {weight.dtype for weight in part.parameters()} != {torch.bfloat16}}

    assert wide == set()
    assert any("lora_A" in name for name, _ in pipeline.transformer.named_parameters())


@pytest.mark.parametrize("task", list(Task))
def test_every_task_is_edited_twice_with_the_same_bytes(bfloat16_qwen: Qwen, task: Task) -> None:
    """Outside the region they are those of the photo, and each step shows another preview."""
    first, second = Recorder(), Recorder()

    finished = edit(bfloat16_qwen, edit_of(task), first)
    again = edit(bfloat16_qwen, edit_of(task), second)

    assert np.array_equal(finished.image, again.image)
    assert not np.array_equal(finished.image, piece())
    assert len({preview.tobytes() for preview in first.previews}) == 3
    if finished.region is not None:
        assert np.array_equal(finished.image[finished.region == 0], piece()[finished.region == 0])


def test_weights_in_eight_bits_paint_nearly_the_same(qwen_models: Path, bfloat16_qwen: Qwen) -> None:
    """They are multiplied in bfloat16. Adapters work on them."""
    settings = Settings(model_dir=qwen_models, **BFLOAT16_ON_THE_CPU, qwen_plan="cast")
    with closing(Qwen(settings, lambda _: None)) as engine:
        picture, again = paint(engine), paint(engine)

    assert np.array_equal(picture, again)
    assert np.abs(picture.astype(int) - paint(bfloat16_qwen)).mean() <= 12
