"""The submissions of a run: good jobs, bad ones and harmful ones, each kind with its possible ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.faults import engine

if TYPE_CHECKING:
    from random import Random

MISSING = "0" * 64
BAD_IDS = ["x" * 65, "🐈", "a=b", "job:1"]  # valid in a subject
TRICKY = '{{Count}} {{ID}} "quoted" \\ back\nnew line\r\n\ttab 🐈‍⬛ \u202e right to left \u0000 nul </script> ${HOME}'

# Killed workers may use up the three attempts of a job, and the store of results may be full.
VIOLENCE = {"cancelled", "failed:max_deliver", "failed:busy"}
_ENDS: dict[str, set[str]] = {
    "plain": {"done", *VIOLENCE},
    "long": {"done", *VIOLENCE},
    "tricky": {"done", *VIOLENCE},
    "dawdle": {"done", *VIOLENCE},
    "ask": {"done", "failed:unavailable", "failed:image_not_found", *VIOLENCE},
    "die": VIOLENCE,
    "throw": {"failed:engine_failed", *VIOLENCE},
    "freeze": {"done", *VIOLENCE},
    "no-mask": {"failed:bad_input", *VIOLENCE},
    "no-picture": {"failed:image_not_found", "cancelled"},
    "bad": {"failed:bad_message", "cancelled"},
    "bad-id": {"failed:bad_message"},
}
_GOOD = {"plain": 60, "long": 2, "tricky": 6, "ask": 5, "dawdle": 1}
_POISON = {"throw": 2, "die": 1, "freeze": 1}
_BAD = {"no-mask": 2, "no-picture": 2, "bad": 6, "bad-id": 1}
_PROMPTS = {
    "tricky": TRICKY,
    "dawdle": engine.DAWDLE,
    "ask": engine.ASK,
    "die": engine.DIE,
    "throw": engine.THROW,
    "freeze": engine.FREEZE,
}


@dataclass(frozen=True, slots=True)
class Order:
    """One submission; `body` is the content of a hand-written message."""

    kind: str
    prompt: str
    body: bytes
    over_http: bool
    job_class: str
    user: str
    watched: bool
    cancel_after_s: float | None
    bad_id: str | None = None

    @property
    def ends(self) -> set[str]:
        """Its possible ends."""
        return _ENDS[self.kind]


class Orders:
    """An endless, random sequence of submissions."""

    def __init__(self, dice: Random, image: str, mask: str) -> None:
        """`image` and `mask` are stored images."""
        self._dice = dice
        self._image = image
        self._mask = mask

    def __next__(self) -> Order:
        """Return the next submission."""
        dice, weights = self._dice, _GOOD | _POISON | _BAD
        (kind,) = dice.choices(list(weights), list(weights.values()))
        prompt = self._prompt(kind)
        over_http = kind not in _BAD and dice.random() < 0.5
        return Order(
            kind=kind,
            prompt=prompt,
            body=dice.choice(bad_bodies(self._image)) if kind == "bad" else self._body(kind, prompt),
            over_http=over_http,
            job_class="interactive" if over_http else dice.choice(["interactive", "interactive", "batch"]),
            user="local" if over_http else dice.choice(["local", "u1", "u2"]),
            watched=dice.random() < 0.3,
            cancel_after_s=dice.uniform(0, 1.5) if dice.random() < 0.1 else None,
            bad_id=dice.choice(BAD_IDS) if kind == "bad-id" else None,
        )

    def _prompt(self, kind: str) -> str:
        if kind == "plain":
            return json.dumps({"steps": self._dice.randint(0, 4), "interval_ms": self._dice.choice([0, 0, 10, 40])})
        if kind == "long":
            return json.dumps({"steps": 12, "interval_ms": engine.PAST_THE_LEASE_S * 1000 / 12})
        return _PROMPTS.get(kind, "")

    def _body(self, kind: str, prompt: str) -> bytes:
        body: dict[str, Any] = {"task": "removal", "image": self._image, "mask": self._mask, "prompt": prompt}
        if kind == "no-mask":
            del body["mask"]
        if kind == "ask":  # a removal asks for saliency, a white balance for the balanced picture
            body["task"] = self._dice.choice(["removal", "white-balance"])
        if kind == "no-picture":
            body["image"] = MISSING
        return json.dumps(body).encode()


def bad_bodies(image: str) -> list[bytes]:
    """Return invalid bodies, each with another fault."""
    good: dict[str, Any] = {"task": "white-balance", "image": image}
    wrong: list[dict[str, Any]] = [
        {"v": "1"},
        {"task": 7},
        {"image": 7},
        {"image": "../../etc/passwd"},
        {"steps": "many"},
        {"steps": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"strength": float("nan")},
        {"submitted_at": float("nan")},
        {"submitted_at": float("inf")},
        {"submitted_at": 1e300},
        {"prompt": None},
        {"prompt": ["a"]},
        {"prompt": "{{x}}\n🐈" * 5_000},
        {"mask": {}},
    ]
    return [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 50_000,
        json.dumps(good)[:-1].encode(),
        *(json.dumps(good | change).encode() for change in wrong),
    ]
