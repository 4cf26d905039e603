"""What is looked at before the diffusion engine's libraries are imported; none of them is needed for it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from services.a100worker.backend import load
from services.a100worker.backends.qwen import opening
from services.a100worker.settings import Settings
from shared import settings as settings_module
from shared.errors import ConfigError
from tests.unit.services.a100worker.backends.qwen.volumes import files, lora, pulled, safetensors

ROOT = Path(__file__).parents[6]
HAS_TORCH = importlib.util.find_spec("torch") is not None
LAYER = "transformer.transformer_blocks.0.attn.to_q"


def test_a_whole_checkpoint_is_found_with_its_sizes(tmp_path: Path) -> None:
    """Shards count together; each task has its adapter."""
    pulled(tmp_path, files())
    one = len(safetensors({"w": (10, 5)}))

    found, adapters = opening.look(Settings(model_dir=tmp_path))

    assert (found.blocks, found.transformer, found.text_encoder, found.vae) == (2, 2 * one, one, one)
    assert [adapter.name for adapter in adapters] == ["removal", "insertion", "white-balance"]


@pytest.mark.parametrize("name", [name for name in files() if not name.startswith("adapters")])
def test_a_missing_file_is_named_with_the_command_that_fetches_it(tmp_path: Path, name: str) -> None:
    """Whichever it is, and without a word about where on this machine it is missing."""
    pulled(tmp_path, files())
    (tmp_path / "qwen" / name).unlink()

    with pytest.raises(ConfigError) as refused:
        opening.look(Settings(model_dir=tmp_path))

    fetch = "`python -m services.models pull qwen` fetches it."
    assert refused.value.message == f"The model file qwen/{name} is missing from MODEL_DIR; {fetch}"


def test_an_adapter_that_nobody_has_brought_is_another_matter(tmp_path: Path) -> None:
    """No command can fetch it; the engine can do without where it is told to."""
    contents = files()
    del contents["adapters/insertion.safetensors"]
    pulled(tmp_path, contents)

    with pytest.raises(
        ConfigError, match=r"qwen/adapters/insertion\.safetensors is missing .* A100WORKER_QWEN_BARE=true"
    ):
        opening.look(Settings(model_dir=tmp_path))
    _, adapters = opening.look(Settings(model_dir=tmp_path, qwen_bare=True))

    assert [adapter.name for adapter in adapters] == ["removal", "white-balance"]


@pytest.mark.parametrize("steps", ["4", "8"])
def test_lightning_wants_the_adapter_of_its_steps(tmp_path: Path, steps: str) -> None:
    """One file for four, another for eight."""
    contents = files() | {f"adapters/lightning-{steps}.safetensors": safetensors(lora())}
    pulled(tmp_path, contents)

    _, adapters = opening.look(Settings(model_dir=tmp_path, qwen_lightning=steps))
    other = "8" if steps == "4" else "4"
    with pytest.raises(ConfigError, match=f"lightning-{other}"):
        opening.look(Settings(model_dir=tmp_path, qwen_lightning=other))

    assert adapters[-1].path.name == f"lightning-{steps}.safetensors"


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({}, "it is empty"),
        (lora("transformer.transformer_blocks.2.attn.to_q"), "the model has no layer for"),
        (lora("text_encoder.layers.0.q_proj"), "the model has no layer for"),
        (lora("transformer.transformer_blocks.0.attn.to_x"), "the model has no layer for"),
        ({f"{LAYER}.weight": (8, 8)}, "the model has no layer for"),
        (lora(rank=300), "is no matrix of a rank up to 256"),
        ({f"{LAYER}.lora_A.weight": (8,)}, "is no matrix of a rank up to 256"),
        ({f"{LAYER}.lora_A.weight": (4, 8)}, "do not fit together"),
        ({f"{LAYER}.lora_A.weight": (4, 8), f"{LAYER}.lora_B.weight": (8, 5)}, "do not fit together"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, tensors: dict[str, tuple[int, ...]], why: str) -> None:
    """By its header alone."""
    pulled(tmp_path, files() | {"adapters/removal.safetensors": safetensors(tensors)})

    with pytest.raises(ConfigError, match=rf"qwen/adapters/removal\.safetensors cannot be used: .*{why}"):
        opening.look(Settings(model_dir=tmp_path))


@pytest.mark.parametrize("prefix", ["transformer.", "diffusion_model.", ""])
@pytest.mark.parametrize(
    "layer", ["attn.to_out.0", "img_mlp.net.0.proj", "txt_mlp.net.2", "attn.add_q_proj", "img_mod.1"]
)
def test_layers_are_known_by_any_trainer_s_prefix(tmp_path: Path, prefix: str, layer: str) -> None:
    """All that adapters are published for."""
    name = f"{prefix}transformer_blocks.1.{layer}"
    pulled(tmp_path, files() | {"adapters/removal.safetensors": safetensors(lora(name))})

    _, adapters = opening.look(Settings(model_dir=tmp_path))

    assert len(adapters) == 3


def test_float16_is_refused_with_the_reason() -> None:
    """It runs, and loses what makes the picture."""
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
    with pytest.raises(ValidationError, match="a step cache decides inside the blocks"):
        Settings(qwen_compile=True, qwen_cache=cache)

    assert Settings(qwen_cache=cache).qwen_cache == cache
    assert Settings(qwen_compile=True).qwen_compile


@pytest.mark.skipif(HAS_TORCH, reason="Here it is installed.")
def test_without_its_libraries_the_engine_says_which_is_missing(tmp_path: Path) -> None:
    """After the files were found in order."""
    pulled(tmp_path, files())

    with pytest.raises(ConfigError, match=r"The engine 'qwen' needs the package \w+, which is not installed\."):
        load("qwen", Settings(model_dir=tmp_path), lambda _: None)
