"""Lists published adapters for Qwen-Image-Edit. Each is fetched only when it is named.

An entry needs a licence that was read in the model card, the base that the card names, and a recipe of the worker.
Removal adapters are published for 2509 and for 2511, but no card with a licence could be read when this list was
written, so none is listed. `python -m services.models add` stores an adapter that an operator has chosen.
"""

from __future__ import annotations

from services.models.manifest import Hub, Model, WeightFile
from shared.volumes import AdapterFacts

_LIGHTNING = "lightx2v/Qwen-Image-Edit-2511-Lightning"

ADAPTERS = (
    Model(
        name="lightning",
        purpose="edits in 8 or 4 steps (adapters for qwen)",
        licence="Apache-2.0",
        source=Hub(_LIGHTNING),
        files=(
            WeightFile(
                name="adapters/lightning-8.safetensors",
                member="Qwen-Image-Edit-2511-Lightning-8steps-V1.0-bf16.safetensors",
            ),
            WeightFile(
                name="adapters/lightning-4.safetensors",
                member="Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors",
                sha256="22226e8d05d354bb356627d428809f5afd7819399b077238a2b70a82883a904f",
                size_bytes=849_608_296,
            ),
        ),
        folder="qwen",
        adapter=AdapterFacts(base="Qwen-Image-Edit-2511", licence="Apache-2.0", source=_LIGHTNING),
        by_default=False,
        notice="""\
adapters/lightning-8.safetensors and adapters/lightning-4.safetensors are Qwen-Image-Edit-2511-Lightning, by the
LightX2V team. Licence: Apache License 2.0.
""",
    ),
)
