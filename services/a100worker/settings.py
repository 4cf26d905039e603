"""What a worker must be told."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from shared.messages import Token
from shared.settings import ServiceSettings


def _new_name() -> str:
    return f"w{os.getpid()}-{secrets.token_hex(3)}"


class Settings(ServiceSettings):
    """Settings of an A100 worker (A100WORKER_...)."""

    model_config = SettingsConfigDict(env_prefix="A100WORKER_", frozen=True, populate_by_name=True)

    backend: str = "classical"  # a registered name, or module:Class
    name: Token = Field(default_factory=_new_name)
    model_dir: Path = Field(default=Path(".models"), validation_alias="MODEL_DIR")
    idle_poll_s: float = Field(default=0.5, gt=0)  # a job that comes back from a dead worker announces itself to nobody
    affinity_s: float = Field(default=20.0, ge=0)  # so long others may wait for those whose adapter is loaded
    inputs_in_memory_bytes: int = Field(default=64 * 1024**2, ge=0)  # of the last jobs, and of the next one
    retry_delay_s: float = Field(default=1.0, ge=0)
    silence_s: float = Field(default=900.0, gt=0)  # an engine that says nothing for longer hangs: the worker ends

    @property
    def instance(self) -> str:
        """Several workers may run on one host."""
        return self.name

    @property
    def hand_back_s(self) -> float:
        """What of `drain_s` is left for handing back a job that has not ended in the rest."""
        return 0.3 * self.drain_s

    # The engine "qwen"; docs/models.md says what each costs and gives.
    qwen_device: str = Field(default="cuda", pattern=r"^(cpu|cuda(:\d+)?)$")
    qwen_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    qwen_plan: Literal["auto", "resident", "cast", "offload"] = "auto"  # how the weights fit the card
    qwen_work_px: int = Field(default=1024, ge=64, le=2048)  # side of the square whose area a picture is edited at
    qwen_condition_px: int = Field(default=1024, ge=64, le=1024)  # the same of the pictures that the model looks at
    qwen_attention: str = Field(default="auto", pattern=r"^[a-z0-9_]+$")  # auto, or one of diffusers' names
    qwen_compile: bool = False
    qwen_lightning: Literal["auto", "off", "4", "8"] = "auto"  # steps, whatever the job asks for; auto: if it is there
    qwen_cache: Literal["off", "first-block", "taylor"] = "off"  # for jobs of many steps only
    qwen_cache_threshold: float = Field(default=0.08, gt=0, le=1)  # of first-block: more is faster and less like it
    qwen_flow_shift: float = Field(default=3.0, gt=0, le=10)  # of jobs with `flow_match`
    qwen_bare: bool = False  # obsolete: a task without an adapter always uses the stock recipe

    @field_validator("qwen_dtype", mode="before")
    @classmethod
    def _no_float16(cls, value: object) -> object:
        if value == "float16":
            raise ValueError("float16 ends at 65,504, and this model's activations reach 20 million: use bfloat16")
        return value

    @field_validator("qwen_cache")
    @classmethod
    def _no_cache_beside_compiled_blocks(cls, value: str, others: ValidationInfo) -> str:
        if value != "off" and others.data.get("qwen_compile"):
            raise ValueError("a step cache decides inside the blocks, which A100WORKER_QWEN_COMPILE leaves no room for")
        return value
