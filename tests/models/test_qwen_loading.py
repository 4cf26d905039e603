"""The start of the diffusion engine: plans, layouts and adapters that work, and files that are refused."""

from __future__ import annotations

import shutil
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from services.a100worker.backend import edit, load
from services.a100worker.backends.qwen.engine import Qwen
from services.a100worker.settings import Settings
from shared.errors import EXIT_CONFIG, ConfigError
from shared.messages import Task
from tests.models.conftest import ON_THE_CPU
from tests.models.edits import edit_of
from tests.models.older_files import flatten_text_encoder, unpack_tokenizer
from tests.models.seal import seal
from tests.models.tiny_qwen import build, write_adapter
from tests.unit.services.a100worker.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.image_codec import Rgb
    from tests.running import Desk


@pytest.fixture
def own_models(qwen_models: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    return shutil.copytree(qwen_models, tmp_path / "models")


def open_engine(models: Path, **settings: Any) -> closing[Qwen]:
    """Load an engine; the block that enters it closes it."""
    return closing(Qwen(Settings(model_dir=models, **ON_THE_CPU, **settings), lambda _: None))


def balance(engine: Qwen, steps: int = 3) -> Rgb:
    """One edit's picture."""
    return edit(engine, edit_of(Task.WHITE_BALANCE, steps=steps), Recorder()).image


# --- starts -------------------------------------------------------------------------------------------------------


def test_the_phases_are_told_in_order(qwen_settings: Settings) -> None:
    """An operator sees the phase that a slow start is in."""
    phases: list[str] = []

    load("qwen", qwen_settings, phases.append).close()

    parts = ["transformer", "text encoder", "vae", "adapters"]
    assert phases == ["importing", *(f"loading the {part}" for part in parts), "warming up"]


def test_the_layout_of_2511_runs(tmp_path: Path) -> None:
    """It differs by a flag of its transformer, which changes the picture."""
    build(tmp_path / "qwen", zero_cond_t=True)
    with open_engine(tmp_path) as newer:
        flag, picture = newer.painter.pipeline.transformer.config.zero_cond_t, balance(newer)

    assert flag is True
    assert picture.any()


def test_a_processor_in_the_files_of_older_libraries_is_read(own_models: Path, qwen: Qwen) -> None:
    """As the published checkpoints have it."""
    folder, processor = own_models / "qwen/processor", qwen.painter.pipeline.processor
    shutil.rmtree(folder)
    for part in (processor.tokenizer, processor.image_processor, processor.video_processor):
        part.save_pretrained(folder)
    assert not (folder / "processor_config.json").exists()
    seal(own_models / "qwen")

    with open_engine(own_models) as engine:
        assert np.array_equal(balance(engine), balance(qwen))


def test_text_encoder_and_tokenizer_in_the_files_of_older_libraries_are_read(own_models: Path, qwen: Qwen) -> None:
    """As the published checkpoints have them; the prompt means the same to the last bit."""
    flatten_text_encoder(own_models / "qwen/text_encoder")
    unpack_tokenizer(own_models / "qwen/tokenizer")
    seal(own_models / "qwen")

    with open_engine(own_models) as engine:
        assert np.array_equal(balance(engine), balance(qwen))


def test_weights_in_the_machine_s_memory_paint_the_same(qwen_models: Path, qwen: Qwen) -> None:
    """They lose nothing on their way to the card. Adapters work on them."""
    with open_engine(qwen_models, qwen_plan="offload") as engine:
        picture, again = balance(engine), balance(engine)

    assert np.array_equal(picture, again)
    assert np.array_equal(picture, balance(qwen))


@pytest.mark.parametrize("plan", ["cast", "offload"])
def test_blocks_whose_weights_come_and_go_are_not_compiled(qwen_models: Path, plan: str) -> None:
    """The libraries' hooks do not fit into a graph; the refusal comes before anything is loaded."""
    phases: list[str] = []
    settings = Settings(model_dir=qwen_models, **ON_THE_CPU, qwen_plan=plan, qwen_compile=True)

    with pytest.raises(ConfigError, match=f"^A100WORKER_QWEN_COMPILE needs the memory plan resident, not {plan}: "):
        load("qwen", settings, phases.append)

    assert phases == ["importing"]


@pytest.mark.parametrize("cache", ["first-block", "taylor"])
def test_a_step_cache_serves_many_steps_and_leaves_few_alone(qwen_models: Path, qwen: Qwen, cache: str) -> None:
    """It saves passes through the blocks where there are steps enough to be like one another."""
    passes = []
    with open_engine(qwen_models, qwen_cache=cache, qwen_cache_threshold=1.0) as engine:
        engine.painter.pipeline.transformer.transformer_blocks[1].attn.to_q.register_forward_pre_hook(
            lambda *_: passes.append(1)
        )
        few = balance(engine)
        for_few = len(passes)
        many = balance(engine, steps=12)

    assert for_few == 3 * 2
    assert len(passes) - for_few < 12 * 2
    assert np.array_equal(few, balance(qwen))
    assert many.any()


def test_the_lightning_adapter_decides_the_steps(own_models: Path) -> None:
    """Together with the task's own adapter, and without guidance."""
    write_adapter(own_models / "qwen/adapters/lightning-4.safetensors", 4, seed=9)
    seal(own_models / "qwen")
    recorder, passes = Recorder(), []
    with open_engine(own_models, qwen_lightning="4") as engine:
        engine.painter.pipeline.transformer.register_forward_pre_hook(lambda *_: passes.append(1))
        edit(engine, edit_of(Task.WHITE_BALANCE, steps=30, guidance=4.0), recorder)
        active = engine.painter.pipeline.get_active_adapters()

    assert recorder.steps[-1] == (4, 4)
    assert len(passes) == 4
    assert active == ["white_balance", "lightning"]


def test_without_adapters_the_model_edits_as_it_is(own_models: Path, qwen: Qwen) -> None:
    """With the stock recipe, and without a setting."""
    shutil.rmtree(own_models / "qwen/adapters")
    seal(own_models / "qwen")
    with open_engine(own_models) as engine:
        assert not np.array_equal(balance(engine), balance(qwen))


@pytest.mark.parametrize("names", ["bare", "diffusion_model", "kohya"])
def test_adapters_of_other_trainers_are_read(own_models: Path, qwen: Qwen, names: str) -> None:
    """Their layers carry other names; the same numbers give the same picture."""
    path = own_models / "qwen/adapters/white-balance.safetensors"
    tensors = {key.removeprefix("transformer."): tensor for key, tensor in load_file(path).items()}
    if names == "diffusion_model":
        tensors = {f"diffusion_model.{key}": tensor for key, tensor in tensors.items()}
    if names == "kohya":
        renamed = {key.replace("lora_A", "lora_down").replace("lora_B", "lora_up"): tensors[key] for key in tensors}
        alphas = {key.replace("lora_A.weight", "alpha"): torch.tensor(4.0) for key in tensors if "lora_A" in key}
        tensors = renamed | alphas
    save_file(tensors, path)
    seal(own_models / "qwen")

    with open_engine(own_models) as engine:
        assert np.array_equal(balance(engine), balance(qwen))


# --- refusals -----------------------------------------------------------------------------------------------------


def drop(name: str) -> Callable[[Path], None]:
    """Take a file away."""
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    """End a file early."""

    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return harm


def write(name: str, data: bytes) -> Callable[[Path], None]:
    """Put other bytes in its place."""

    def harm(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return harm


def change(name: str, act: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Change the tensors of a file, but not its size unless their own change."""

    def harm(folder: Path) -> None:
        tensors = load_file(folder / name)
        act(tensors)
        save_file(tensors, folder / name, {"format": "pt"})

    return harm


WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
ADAPTER = "adapters/removal.safetensors"
LAYER = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"
REFUSED = {
    "cut short": (cut(WEIGHTS), f"The model file qwen/{WEIGHTS} cannot be used: it is cut short"),
    "a pickle": (write(WEIGHTS, b"\x80\x02}q\x00." * 20), "it is not a safetensors file"),
    "a huge header": (write(WEIGHTS, struct.pack("<Q", 2**60) + b"{}"), "it is not a safetensors file"),
    "no JSON": (write("vae/config.json", b"{"), "The model file qwen/vae/config.json cannot be used: it is not JSON"),
    "another model": (write("model_index.json", b'{"_class_name": "FluxPipeline"}'), "QwenImageEditPlusPipeline"),
    "no numbers": (
        change(WEIGHTS, lambda tensors: tensors["proj_out.weight"].fill_(torch.nan)),
        "first image failed: The model returned NaN",
    ),
    "other shapes": (
        change(WEIGHTS, lambda tensors: tensors.update({"proj_out.weight": torch.zeros(3, 3)})),
        "The model part qwen/transformer cannot be loaded",
    ),
    "an adapter for another model": (
        change(ADAPTER, lambda tensors: tensors.update({LAYER.replace(".0.", ".7."): torch.zeros(4, 32)})),
        f"The model file qwen/{ADAPTER} cannot be used: the model has no layer",
    ),
    "half an adapter": (change(ADAPTER, lambda tensors: tensors.pop(LAYER)), "it lacks a matrix of"),
    "an adapter of other widths": (
        change(ADAPTER, lambda tensors: tensors.update({LAYER: torch.zeros(4, 16)})),
        f"The model file qwen/{ADAPTER} cannot be used: transformer_blocks.0.attn.to_q is 32 x 32 in the model",
    ),
    "an adapter that is a pickle": (write(ADAPTER, b"\x80\x02}q\x00." * 20), "it is not a safetensors file"),
}
CHANGED = {
    "no weights": (drop(WEIGHTS), f"The model file qwen/{WEIGHTS} is missing"),
    "no index": (drop("model_index.json"), "The model file qwen/model_index.json is missing"),
    "no scheduler": (drop("scheduler/scheduler_config.json"), "qwen/scheduler/scheduler_config.json is missing"),
    "no manifest": (drop("manifest.json"), "The model file qwen/manifest.json is missing"),
    "cut short": (cut(WEIGHTS), f"The model file qwen/{WEIGHTS} is not the one that was pulled"),
    "tampered": (
        change(ADAPTER, lambda tensors: tensors[LAYER].mul_(2)),
        f"The model file qwen/{ADAPTER} is not the one that was pulled",
    ),
}


@pytest.mark.parametrize("harm", REFUSED)
def test_what_cannot_be_used_is_refused(own_models: Path, harm: str) -> None:
    """Though it was pulled like that; in one sentence, without a path of this machine."""
    act, sentence = REFUSED[harm]
    act(own_models / "qwen")
    seal(own_models / "qwen")

    with pytest.raises(ConfigError) as refused, open_engine(own_models):
        pass

    assert sentence in refused.value.message
    assert str(own_models) not in refused.value.message


@pytest.mark.parametrize("harm", CHANGED)
def test_what_is_missing_or_has_changed_is_named_with_the_remedy(own_models: Path, harm: str) -> None:
    """Before anything is loaded."""
    act, sentence = CHANGED[harm]
    act(own_models / "qwen")

    with pytest.raises(ConfigError) as refused, open_engine(own_models):
        pass

    assert sentence in refused.value.message
    remedy = "add removal FILE` stores it again." if ADAPTER in sentence else "pull qwen` fetches it."
    assert refused.value.message.endswith(f"`python -m services.models {remedy}")


async def test_a_worker_without_its_model_ends_with_one_sentence(desk: Desk, tmp_path: Path) -> None:
    """And with the code after which a supervisor does not try again."""
    async with desk.worker_process("qwen", MODEL_DIR=str(tmp_path), A100WORKER_QWEN_DEVICE="cpu") as worker:
        assert await worker.wait() == EXIT_CONFIG


def test_a_machine_without_a_card_says_so(qwen_models: Path) -> None:
    """Rather than to edit a hundred times slower than anybody expects."""
    if torch.cuda.is_available():
        pytest.skip("This machine has one.")

    with pytest.raises(ConfigError, match="No CUDA GPU was found"):
        Qwen(Settings(model_dir=qwen_models), lambda _: None)


def test_an_attention_that_cannot_be_had_is_refused(qwen_models: Path) -> None:
    """Where it was asked for by name; `auto` falls back."""
    with pytest.raises(ConfigError, match="first image"), open_engine(qwen_models, qwen_attention="flash"):
        pass
