"""A tiny checkpoint in the files that the published ones have, which older libraries wrote; the numbers stay.

The names are those of Qwen/Qwen-Image-Edit-2509: a flat configuration of the text encoder, a tokenizer in two lists.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_TOKEN = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
_PAD = "<|endoftext|>"


def flatten_text_encoder(folder: Path) -> None:
    """Put the parts of the language model beside those of the vision model, as Transformers 4 did."""
    file = folder / "config.json"
    config = _read(file)
    text: dict[str, Any] = config.pop("text_config")
    rope = text.pop("rope_parameters")
    for new in ("model_type", "layer_types", "dtype"):
        text.pop(new, None)
    config["vision_config"].pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    scaling = {"mrope_section": rope["mrope_section"], "rope_type": "default", "type": "default"}
    file.write_text(json.dumps({**text, **config, "rope_theta": rope["rope_theta"], "rope_scaling": scaling}))


def unpack_tokenizer(folder: Path) -> None:
    """Write its vocabulary and its merges as two files, and the special tokens into its configuration."""
    whole = _read(folder / "tokenizer.json")
    (folder / "tokenizer.json").unlink()
    learned, added = whole["model"], whole["added_tokens"]
    (folder / "vocab.json").write_text(json.dumps(learned["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in learned["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps({token["content"]: token["id"] for token in added}))
    special = [token["content"] for token in added if token["content"] != _PAD]
    ends = {"eos_token": "<|im_end|>", "pad_token": _PAD}
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": special, **ends}))
    decoder = {token["id"]: {key: token[key] for key in _TOKEN} for token in added}
    config = {
        "added_tokens_decoder": decoder, "additional_special_tokens": special, "extra_special_tokens": {}, **ends,
        "add_prefix_space": False, "bos_token": None, "errors": "replace", "model_max_length": 131_072,
        "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
