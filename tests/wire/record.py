"""Record the messages of the present code as a release: `python -m tests.wire.record tests/wire/<version>`.

Writes the JSON schema of all messages and one message of each type. Run it at the commit of a release; the files are
never changed afterwards, because stored and queued messages of that release must stay readable.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

if TYPE_CHECKING:
    from pydantic import BaseModel

SHA = "ab" * 32
TIMES = {"at": 1764000000.0, "submitted_at": 1764000000.0}
SUBMIT = {
    "task": "insertion", "image": SHA, "mask": SHA, "reference": SHA, "reference_mask": SHA, "prompt": "a red chair",
    "negative_prompt": "blurry", "mask_tool": "brush", "debug": True, "submitted_at": TIMES["submitted_at"],
    "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
}  # fmt: skip
WORK = {"job_id": "j1", "user": "u1", "job_class": "batch", "log_seq": 7, "replay_of": "j0", "again": True,
        "submit": SUBMIT}  # fmt: skip
ATTEMPT = {"number": 1, "worker": "w1", "started_at": 1764000000.0, "ended_at": 1764000009.0, "outcome": "vanished"}
FAILED = {"type": "failed", "job_id": "j1", "code": "busy", "message": "No.", "attempt": 1, "at": 1764000010.0}
OPTIONAL: dict[str, dict[str, Any]] = {
    "JobSubmit": SUBMIT,
    "JobWork": WORK,
    "Queued": {"replay_of": "j0", "ahead": 2, "eta_ms": 9000},
    "Progress": {"phase": "processing", "step": 3, "total_steps": 15, "message": "Painting.", "eta_ms": 4000},
    "Done": {"timings_ms": {"edit": 900}, "debug": "20261123_120000_00000001"},
    "Cancelled": {"step": 3, "total_steps": 15},
    "Attempt": ATTEMPT,
    "DeadLetter": {"log_seq": 7, "work": WORK, "raw": "{", "history": [ATTEMPT]},
    "DebugSession": {"submit": SUBMIT, "images": [{"label": "mask", "sha256": SHA, "width": 4, "height": 3}]},
    "JobRecord": {
        "state": "failed", "task": "insertion", "job_class": "batch", "debug": True, "log_seq": 7, "replay_of": "j0",
        "worker": "w1", "engine": "e", "attempt": 1, "phase": "processing", "step": 3, "total_steps": 15,
        "fraction": 0.2, "message": "Painting.", "ahead": 2, "eta_ms": 4000, "ended": FAILED,
    },
    "QueueReport": {"queued": {"u1": ["j1", "j2"]}},
    "MaskRequest": {
        "points": [[10.5, 20.0, 1]], "box": [1.0, 2.0, 30.0, 40.0], "mask": SHA, "grow_px": 5, "candidates": 3,
        "strokes": [{"points": [[1.0, 2.0], [3.0, 4.0]], "radius_px": 8.0, "positive": True}],
    },
    "MaskReply": {"note": "The coarse method was used."},
    "ReplayRequest": {"to_seq": 9, "job_class": "batch", "dry_run": True},
    "RedriveRequest": {"job_id": "j1", "job_class": "batch"},
    "ReplayedJob": {"new_job_id": "j1-r7", "problem": "An image has expired."},
    "HealthReply": {"detail": {"engine": "grabcut"}},
}  # fmt: skip


def record(folder: Path) -> None:
    """Write `schema.json` and `<Type>.json` for each message."""
    known = importlib.import_module("tests.unit.test_wire_schema")
    kinds: dict[str, type[BaseModel]] = known.MESSAGES
    folder.mkdir(parents=True)
    _, schema = models_json_schema([(kind, "validation") for kind in kinds.values()])
    _write(folder / "schema.json", schema)
    for name in kinds:
        _write(folder / f"{name}.json", build(name).model_dump(mode="json", exclude_none=True))


def build(name: str) -> BaseModel:
    """Return a message of one type, with its optional fields."""
    known = importlib.import_module("tests.unit.test_wire_schema")
    kind: type[BaseModel] = known.MESSAGES[name]
    times = {field: at for field, at in TIMES.items() if field in kind.model_fields}
    return kind.model_validate({**known.SMALLEST[name], **times, **OPTIONAL.get(name, {})})


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
