"""Reads from a LoRA file's metadata the model that it was trained on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Written by kohya and musubi, by the modelspec standard, by PEFT and by ai-toolkit.
_KEYS = (
    "base_model", "base_model_name_or_path", "modelspec.base_model", "ss_base_model_version", "ss_sd_model_name",
    "modelspec.architecture",
)  # fmt: skip
_EDIT = re.compile(r"qwen-image-edit(?:-plus)?-(?P<version>2509|2511)")
_OTHER_FAMILIES = ("flux", "sdxl", "stable-diffusion", "sd3", "sd-", "wan", "hunyuan", "z-image", "kontext", "chroma")


def base_of(metadata: Mapping[str, str]) -> str | None:
    """Return the name of the base, e.g. `Qwen-Image-Edit-2511`; None if the metadata names none clearly.

    Trainers write `qwen_image` or `qwen_image_edit` for several versions, so these names are ignored.
    """
    for key in _KEYS:
        text = metadata.get(key, "").strip()
        plain = text.lower().replace("_", "-").replace(" ", "-").removesuffix("/lora")
        if found := _EDIT.search(plain):
            return f"Qwen-Image-Edit-{found['version']}"
        name = plain.rpartition("/")[2]
        if re.match(r"qwen-image-\d", name) or any(name.startswith(family) for family in _OTHER_FAMILIES):
            return text
    return None
