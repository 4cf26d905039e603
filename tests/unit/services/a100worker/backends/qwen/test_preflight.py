"""The checks before the diffusion engine's libraries are imported; none of them is needed for a check."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from services.a100worker.backend import load
from services.a100worker.backends.qwen.checkpoint import Part
from services.a100worker.backends.qwen.preflight import look
from services.a100worker.settings import Settings
from shared import settings as settings_module
from shared.errors import ConfigError
from shared.volumes import AdapterFacts, digest
from tests.unit.services.a100worker.backends.qwen.volumes import (
    LAYERS,
    OUTER_LAYERS,
    WIDTH,
    files,
    lora,
    safetensors,
    transformer,
    write_volume,
)

ROOT = Path(__file__).parents[6]
HAS_TORCH = importlib.util.find_spec("torch") is not None
LAYER = "transformer.transformer_blocks.0.attn.to_q"


def test_a_whole_checkpoint_is_found_with_its_sizes(tmp_path: Path) -> None:
    """Shards count together; each task has its adapter."""
    write_volume(tmp_path, files())
    parameters = sum(math.prod(shape) for shard in transformer() for shape in shard.values())

    ready = look(Settings(model_dir=tmp_path))

    found = ready.checkpoint
    assert (found.blocks, found.text_encoder, found.vae) == (2, Part(50), Part(50))
    assert found.transformer == Part(parameters, in_blocks=2 * len(LAYERS) * WIDTH**2)
    assert found.layers["transformer_blocks.1.attn.to_q"] == (WIDTH, WIDTH)
    assert "txt_norm" not in found.layers
    assert [adapter.name for adapter in ready.adapters] == ["removal", "insertion", "white-balance"]
    assert set(ready.recipe_names.values()) == {"adapter"}


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({}, "Qwen-Image-Edit-2509"),
        ({"zero_cond_t": False}, "Qwen-Image-Edit-2509"),
        ({"zero_cond_t": True}, "Qwen-Image-Edit-2511"),
    ],
)
def test_the_version_follows_from_the_transformer_s_configuration(
    tmp_path: Path, config: dict[str, bool], base: str
) -> None:
    """Wherever the files came from."""
    write_volume(tmp_path, files(**config))

    assert look(Settings(model_dir=tmp_path)).checkpoint.base == base


@pytest.mark.parametrize("name", [name for name in files() if not name.startswith("adapters")])
def test_a_missing_file_is_named_with_the_command_that_fetches_it(tmp_path: Path, name: str) -> None:
    """Whichever it is, and without a word about where on this machine it is missing."""
    write_volume(tmp_path, files())
    (tmp_path / "qwen" / name).unlink()

    with pytest.raises(ConfigError) as refused:
        look(Settings(model_dir=tmp_path))

    fetch = "`python -m services.models pull qwen` fetches it."
    assert refused.value.message == f"The model file qwen/{name} is missing from MODEL_DIR; {fetch}"


def test_a_task_without_an_adapter_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The model does it as published; the log names the tasks."""
    contents = files()
    del contents["adapters/insertion.safetensors"]
    write_volume(tmp_path, contents)

    with caplog.at_level("INFO"):
        ready = look(Settings(model_dir=tmp_path))

    assert [adapter.name for adapter in ready.adapters] == ["removal", "white-balance"]
    assert ready.recipe_names == {"removal": "adapter", "insertion": "stock", "white-balance": "adapter"}
    (record,) = [record for record in caplog.records if record.msg == "qwen.volume"]
    assert vars(record)["recipes"] == ready.recipe_names


def test_a_volume_without_any_adapter_is_no_error(tmp_path: Path) -> None:
    """As `pull qwen` leaves it."""
    write_volume(tmp_path, {name: data for name, data in files().items() if not name.startswith("adapters/")})

    assert set(look(Settings(model_dir=tmp_path)).recipe_names.values()) == {"stock"}


def test_a_removal_s_recipe_can_be_set(tmp_path: Path) -> None:
    """An unknown one is refused, with those that there are."""
    write_volume(tmp_path, files())

    tinted = look(Settings(model_dir=tmp_path, qwen_removal_recipe="stock-tint"))

    assert tinted.recipe_names["removal"] == "stock-tint"
    with pytest.raises(ConfigError, match="There is no recipe 'inpaint' for removal; known are stock, stock-tint, "):
        look(Settings(model_dir=tmp_path, qwen_removal_recipe="inpaint"))


@pytest.mark.parametrize("steps", ["4", "8"])
def test_lightning_needs_the_adapter_of_its_steps(tmp_path: Path, steps: Literal["4", "8"]) -> None:
    """One file for four, another for eight."""
    contents = files() | {f"adapters/lightning-{steps}.safetensors": safetensors(lora())}
    write_volume(tmp_path, contents)

    ready = look(Settings(model_dir=tmp_path, qwen_lightning=steps))
    other: Literal["4", "8"] = "8" if steps == "4" else "4"
    with pytest.raises(ConfigError, match=f"lightning-{other}.*`python -m services.models pull lightning` fetches it"):
        look(Settings(model_dir=tmp_path, qwen_lightning=other))

    assert ready.adapters[-1].path.name == f"lightning-{steps}.safetensors"


@pytest.mark.parametrize(
    ("on_the_volume", "setting", "steps"),
    [("48", "auto", "8"), ("4", "auto", "4"), ("", "auto", "off"), ("48", "off", "off"), ("48", "4", "4")],
)
def test_the_better_lightning_adapter_is_the_default(
    tmp_path: Path, on_the_volume: str, setting: Literal["auto", "off", "4"], steps: str
) -> None:
    """Where none lies, a job has the steps that it names."""
    adapters = {f"adapters/lightning-{number}.safetensors": safetensors(lora()) for number in on_the_volume}
    write_volume(tmp_path, files() | adapters)

    ready = look(Settings(model_dir=tmp_path, qwen_lightning=setting))

    assert ready.settings.qwen_lightning == steps
    assert ("lightning" in {adapter.name for adapter in ready.adapters}) is (steps != "off")


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({}, "it is empty"),
        (lora("transformer.transformer_blocks.2.attn.to_q"), "the model has no layer for"),
        (lora("text_encoder.layers.0.q_proj"), "the model has no layer for"),
        (lora("transformer.transformer_blocks.0.attn.to_x"), "the model has no layer for"),
        (lora("lora_te_layers_0_q_proj"), "the model has no layer for"),
        ({f"{LAYER}.weight": (8, 8)}, "is not a LoRA matrix"),
        ({f"{LAYER}.lokr_w1": (8, 8)}, "is not a LoRA matrix"),
        (lora() | {f"{LAYER}.dora_scale": (8, 1)}, "is not a LoRA matrix"),
        (lora() | lora(LAYER.removeprefix("transformer.")), "are for the same layer"),
        (lora(rank=513), "not matrices of a rank up to 512"),
        ({f"{LAYER}.lora_A.weight": (8,), f"{LAYER}.lora_B.weight": (8, 8)}, "not matrices of a rank up to 512"),
        ({f"{LAYER}.lora_A.weight": (4, 8)}, "it lacks a matrix of"),
        ({f"{LAYER}.lora_A.weight": (4, 8), f"{LAYER}.lora_B.weight": (8, 5)}, r"ranks .* differ \(4 and 5\)"),
        (
            {f"{LAYER}.lora_A.weight": (4, 16), f"{LAYER}.lora_B.weight": (8, 4)},
            "transformer_blocks.0.attn.to_q is 8 x 8 in the model, and 8 x 16 in the adapter",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, tensors: dict[str, tuple[int, ...]], why: str) -> None:
    """The header alone shows that it does not fit."""
    write_volume(tmp_path, files() | {"adapters/removal.safetensors": safetensors(tensors)})

    with pytest.raises(ConfigError, match=rf"qwen/adapters/removal\.safetensors cannot be used: .*{why}"):
        look(Settings(model_dir=tmp_path))


@pytest.mark.parametrize("fill", [b"\0", b"\0\x80"], ids=["nought", "minus nought"])
def test_an_adapter_of_zeros_is_refused(tmp_path: Path, fill: bytes) -> None:
    """Some were published by accident; it would change nothing."""
    data = safetensors(lora(), fill=fill)[: len(safetensors(lora()))]
    write_volume(tmp_path, files() | {"adapters/removal.safetensors": data})

    with pytest.raises(ConfigError, match="cannot be used: all of its numbers are zero, so it would change nothing"):
        look(Settings(model_dir=tmp_path))


def test_an_adapter_with_zeros_in_one_matrix_of_each_pair_is_refused(tmp_path: Path) -> None:
    """As before the first step of a training; one layer that changes something is enough."""
    layers = lora() | lora("transformer.transformer_blocks.1.attn.to_q")
    whole, half = safetensors(layers), 2 * 4 * WIDTH
    for zeroed, refused in (((1, 3), True), ((1, 2), True), ((1,), False)):
        data = bytearray(whole)
        for matrix in zeroed:
            start = len(whole) - (4 - matrix) * half
            data[start : start + half] = bytes(half)
        write_volume(tmp_path, files() | {"adapters/removal.safetensors": bytes(data)})
        if refused:
            with pytest.raises(ConfigError, match="all of its numbers are zero"):
                look(Settings(model_dir=tmp_path))
        else:
            assert len(look(Settings(model_dir=tmp_path)).adapters) == 3


FACTS = {"removal": AdapterFacts(base="Qwen-Image-Edit-2509", recipe="tint", words="Remove Object")}


@pytest.mark.parametrize(
    ("metadata", "facts", "other"),
    [
        ({}, FACTS, "Qwen-Image-Edit-2509"),
        ({"base_model": "Qwen/Qwen-Image-Edit-2511"}, FACTS, "Qwen-Image-Edit-2509"),
        ({"base_model_name_or_path": "Qwen/Qwen-Image-Edit-2509"}, {}, "Qwen-Image-Edit-2509"),
        ({"ss_base_model_version": "qwen_image_edit_plus_2509"}, {}, "Qwen-Image-Edit-2509"),
        ({"ss_base_model_version": "flux1"}, {}, "flux1"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, {}, "stable-diffusion-xl-v1-base/lora"),
        ({"base_model": "Qwen/Qwen-Image-2.1"}, {}, "Qwen/Qwen-Image-2.1"),
    ],
)
def test_an_adapter_for_another_base_is_refused(
    tmp_path: Path, metadata: dict[str, str], facts: dict[str, AdapterFacts], other: str
) -> None:
    """The base is in the manifest's entry, or else in the file's own metadata."""
    adapter = {"adapters/removal.safetensors": safetensors(lora(), metadata)}
    write_volume(tmp_path, files(zero_cond_t=True) | adapter, **facts)

    with pytest.raises(ConfigError, match=f"it was trained on {other}, and the model is Qwen-Image-Edit-2511"):
        look(Settings(model_dir=tmp_path))


@pytest.mark.parametrize(
    ("metadata", "warnings"),
    [
        ({}, ["qwen.adapter-base-unknown"]),
        ({"ss_base_model_version": "qwen_image_edit"}, ["qwen.adapter-base-unknown"]),
        ({"base_model": "Qwen/Qwen-Image-Edit-2511"}, []),
    ],
)
def test_an_adapter_without_a_base_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, metadata: dict[str, str], warnings: list[str]
) -> None:
    """Several versions share the names that trainers write."""
    only = {name: data for name, data in files(zero_cond_t=True).items() if not name.startswith("adapters/")}
    write_volume(tmp_path, only | {"adapters/removal.safetensors": safetensors(lora(), metadata)})

    assert len(look(Settings(model_dir=tmp_path)).adapters) == 1

    assert [record.msg for record in caplog.records if record.levelname == "WARNING"] == warnings


def test_the_facts_of_an_adapter_reach_the_engine(tmp_path: Path) -> None:
    """Its recipe, its words and its digest, for the job and its receipt."""
    write_volume(tmp_path, files(), **FACTS)

    removal = look(Settings(model_dir=tmp_path)).adapters[0]

    assert (removal.facts.recipe, removal.facts.words) == ("tint", "Remove Object")
    assert removal.sha256 == digest(removal.path)


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        '{"transformer.lora_alpha": "much"}',
        '{"transformer.use_dora": true}',
        '{"transformer.alpha_pattern": {"(": 2}}',
    ],
)
def test_metadata_that_cannot_be_followed_is_refused(tmp_path: Path, value: str) -> None:
    """A strength that is ignored would give a weak edit and no reason."""
    adapter = {"adapters/removal.safetensors": safetensors(lora(), {"lora_adapter_metadata": value})}
    write_volume(tmp_path, files() | adapter)

    with pytest.raises(ConfigError, match="cannot be used: it"):
        look(Settings(model_dir=tmp_path))


FORMS = (
    "transformer.{}.lora_{}.weight", "diffusion_model.{}.lora_{}.weight", "{}.lora_{}.weight",
    "base_model.model.{}.lora_{}.weight", "base_model.model.transformer.{}.lora_{}.default.weight",
    "pipe.dit.{}.lora_{}.default.weight",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer", [*(f"transformer_blocks.1.{layer}" for layer in LAYERS), *OUTER_LAYERS])
def test_layers_are_known_by_any_trainer_s_names(tmp_path: Path, form: str, layer: str) -> None:
    """Inside the blocks and outside."""
    shapes = {form.format(layer, "A"): (4, WIDTH), form.format(layer, "B"): (WIDTH, 4)}
    write_volume(tmp_path, files() | {"adapters/removal.safetensors": safetensors(shapes)})

    assert len(look(Settings(model_dir=tmp_path)).adapters) == 3


@pytest.mark.parametrize("layer", [*(f"transformer_blocks.1.{layer}" for layer in LAYERS), *OUTER_LAYERS])
def test_layers_are_known_by_kohya_s_names(tmp_path: Path, layer: str) -> None:
    """With underscores only, and an alpha for each."""
    stem = f"lora_unet_{layer.replace('.', '_')}"
    shapes = {f"{stem}.lora_down.weight": (4, WIDTH), f"{stem}.lora_up.weight": (WIDTH, 4), f"{stem}.alpha": ()}
    write_volume(tmp_path, files() | {"adapters/removal.safetensors": safetensors(shapes)})

    assert len(look(Settings(model_dir=tmp_path)).adapters) == 3


def test_float16_is_refused_with_the_reason() -> None:
    """It runs, and its pictures are black."""
    variables = {"A100WORKER_QWEN_DTYPE": "float16", "PATH": ""}
    code = "from shared.settings import load; from services.a100worker.settings import Settings; load(Settings)"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )

    assert "The setting A100WORKER_QWEN_DTYPE is not valid" in ended.stderr
    assert "float16 ends at 65,504" in ended.stderr
    assert settings_module.load(Settings).qwen_dtype == "bfloat16"


@pytest.mark.parametrize("cache", ["first-block", "taylor"])
def test_a_step_cache_beside_compiled_blocks_is_refused_with_the_reason(
    cache: Literal["first-block", "taylor"],
) -> None:
    """It would fail each job that has steps enough for it; either alone is fine."""
    with pytest.raises(ValidationError, match="a step cache does not work with compiled blocks"):
        Settings(qwen_compile=True, qwen_cache=cache)

    assert Settings(qwen_cache=cache).qwen_cache == cache
    assert Settings(qwen_compile=True).qwen_compile


@pytest.mark.skipif(HAS_TORCH, reason="Here it is installed.")
def test_without_its_libraries_the_engine_says_which_is_missing(tmp_path: Path) -> None:
    """After the files were found in order."""
    write_volume(tmp_path, files())

    with pytest.raises(ConfigError, match=r"The engine 'qwen' needs the package \w+, which is not installed\."):
        load("qwen", Settings(model_dir=tmp_path), lambda _: None)
