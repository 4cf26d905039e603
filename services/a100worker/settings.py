"""The settings of a worker."""

from __future__ import annotations

import os
import re
import secrets
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from shared.messages import Token
from shared.settings import ServiceSettings
from shared.subjects import TOKEN_MAX

_FIRST_PROCESS = 1


def choose_name(pid: int, host: str) -> str:
    """Return the host's name in a container or pod, where it is unique; elsewhere a random name."""
    if pid == _FIRST_PROCESS:
        return re.sub(r"[^A-Za-z0-9_-]", "-", host)[:TOKEN_MAX] or "worker"
    return f"w{pid}-{secrets.token_hex(3)}"


class Settings(ServiceSettings):
    """Settings of an A100 worker (A100WORKER_...)."""

    model_config = SettingsConfigDict(env_prefix="A100WORKER_", frozen=True, populate_by_name=True)

    backend: str = "classical"
    """The engine: classical, qwen, scripted, or `module:Class` for an engine of your own."""
    name: Token = Field(default_factory=lambda: choose_name(os.getpid(), socket.gethostname()))
    """The worker's unique name in events and receipts; by default that of its container or pod, elsewhere random."""
    model_dir: Path = Field(default=Path(".models"), validation_alias="MODEL_DIR")
    """The folder with the model files."""
    removal_filler: Literal["auto", "patchmatch", "lama"] = "auto"
    """The filler of `classical`: auto takes LaMa, if it was pulled, for large holes and those that lines cross."""
    idle_poll_s: float = Field(default=0.5, gt=0)
    """Seconds between two polls of the queues that hold jobs, for redelivered ones; each tenth time they are listed."""
    affinity_s: float = Field(default=20.0, ge=0)
    """Seconds that jobs of other tasks may wait for jobs of the task whose adapter is active."""
    inputs_in_memory_bytes: int = Field(default=64 * 1024**2, ge=0)
    """Bytes of memory for the input images of the last jobs and of the next one."""
    photos_in_memory_bytes: int = Field(default=96 * 1024**2, ge=0)
    """Bytes of memory for the last decoded photos; 96 MiB hold one of 32 megapixels. 0 keeps none."""
    retry_delay_s: float = Field(default=1.0, ge=0)
    """Seconds until a failed job is tried again."""
    silence_s: float = Field(default=900.0, gt=0)
    """Seconds without a step after which the engine counts as hung and the worker exits with code 70."""

    @property
    def instance(self) -> str:
        """The worker's own name, because several workers may run on one host."""
        return self.name

    @property
    def hand_back_s(self) -> float:
        """The last part of `drain_s`, for handing back a job that has not ended."""
        return 0.3 * self.drain_s

    # The engine "qwen"; docs/models.md has the cost and benefit of each setting.
    qwen_device: str = Field(default="cuda", pattern=r"^(cpu|cuda(:\d+)?)$")
    """The device of the qwen engine: cuda, cuda:1 for the second GPU, or cpu for tests."""
    qwen_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """The number format that the model computes in."""
    qwen_plan: Literal["auto", "resident", "cast", "offload"] = "auto"
    """The memory plan for the weights; auto takes the first of the others that fits the GPU."""
    qwen_work_px: int = Field(default=1024, ge=64, le=2048)
    """The side of a square with the largest area that an image is edited at."""
    qwen_attention: str = Field(default="auto", pattern=r"^[a-z0-9_]+$")
    """The attention backend: auto, or one of diffusers' names."""
    qwen_compile: bool = False
    """Compile the transformer's blocks at the start; needs the plan resident."""
    qwen_lightning: Literal["auto", "off", "4", "8"] = "auto"
    """The number of steps with the Lightning adapter, for every job; auto uses an adapter that lies in MODEL_DIR."""
    qwen_cache: Literal["off", "first-block", "taylor"] = "off"
    """The step cache for jobs of 12 steps or more."""
    qwen_cache_threshold: float = Field(default=0.08, gt=0, le=1)
    """The threshold of the first-block cache: a higher one is faster and changes the result more."""
    qwen_flow_shift: float = Field(default=3.0, gt=0, le=10)
    """The fixed schedule shift of jobs with `flow_match`."""
    qwen_removal_recipe: str = Field(default="auto", pattern=r"^[a-z-]+$")
    """The recipe of removals: stock, stock-tint, or another name in docs/models.md; auto is that of the adapter."""
    qwen_bare: str = Field(default="", deprecated="a task without an adapter always uses the stock recipe")
    """Obsolete and without effect: a task without an adapter always uses the stock recipe."""
    qwen_condition_px: str = Field(default="", deprecated="the model is shown its images at the size that it paints")
    """Obsolete and without effect: the model is shown its images at the size that it paints, `WORK_PX`."""

    @field_validator("qwen_dtype", mode="before")
    @classmethod
    def _no_float16(cls, value: object) -> object:
        if value == "float16":
            raise ValueError("use bfloat16: float16 ends at 65,504, and the activations of this model reach 20 million")
        return value

    @field_validator("qwen_cache")
    @classmethod
    def _no_cache_beside_compiled_blocks(cls, value: str, others: ValidationInfo) -> str:
        if value != "off" and others.data.get("qwen_compile"):
            raise ValueError("a step cache does not work with compiled blocks: set A100WORKER_QWEN_COMPILE to false")
        return value
