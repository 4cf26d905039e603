"""The account of a run: the counts of all outcomes, and each broken promise with the whole history of its job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.verdict import ledger

if TYPE_CHECKING:
    from tests.chaos.load.customers import Promise
    from tests.chaos.verdict.ledger import Story

_SHOWN = 5  # histories of each kind of fault


@dataclass(slots=True)
class Account:
    """The promises (over HTTP or by a PubAck), the faults, and the stored messages at the end.

    A crash is a service that ended by itself, as it may if it starts without a broker.
    """

    promises: list[Promise]
    acts: list[tuple[float, str]]
    stories: dict[str, Story] = field(default_factory=dict)
    restless: list[str] = field(default_factory=list)
    refused: int = 0
    bad_answers: list[str] = field(default_factory=list)
    """Answers to bombs that blame the server."""
    crashes: Counter[str] = field(default_factory=Counter)

    def table(self) -> list[str]:
        """Return the counts as text."""
        ends = Counter(story.end for story in self.stories.values())
        broken = ledger.broken(self.stories)
        failed = {end.partition(":")[2]: number for end, number in sorted(ends.items()) if end.startswith("failed")}
        reasons = ", ".join(f"{code} {number}" for code, number in failed.items())
        watched = [promise for promise in self.promises if promise.streams]
        recovery, act = self.longest_recovery()
        rows = {
            "acts of violence": len(self.acts),
            "accepted": f"{len(self.promises)} ({len(self.stories)} in the log, {self.refused} refused)",
            "done": ends["done"],
            "failed": f"{sum(failed.values())} ({reasons})",
            "cancelled": ends["cancelled"],
            "lost": len(self._find_lost()),
            "doubled": len(broken.get("doubled", [])),
            "stuck": len(broken.get("stuck", [])),
            "redeliveries": sum(story.redeliveries for story in self.stories.values()),
            "streams": f"{len(watched)} watched, {sum(promise.streams - 1 for promise in watched)} times resumed",
            "crashes": ", ".join(f"{name} {number}" for name, number in sorted(self.crashes.items())) or "none",
            "longest recovery": f"{recovery:.1f} s ({act})",
        }
        return [f"{name:<18} {value}" for name, value in rows.items()]

    def longest_recovery(self) -> tuple[float, str]:
        """Return the longest time from a fault to the end of a plain job that was accepted after it."""
        plain = [
            (promise.at, self.stories.get(promise.job_id)) for promise in self.promises if promise.order.kind == "plain"
        ]
        finished = [(at, story.done_at) for at, story in plain if story is not None and story.done_at is not None]
        times = [
            (min(done for accepted, done in finished if accepted >= at) - at, act)
            for at, act in self.acts
            if any(accepted >= at for accepted, _ in finished)
        ]
        return max(times, default=(0.0, "no act"))

    def problems(self) -> list[str]:
        """Return each broken promise."""
        found = [f"NOT QUIET: {line}" for line in self.restless]
        found += [f"BAD ANSWER: {line}" for line in self.bad_answers]
        found += [f"LOST: {promise.job_id} ({promise.order.kind}) is not in the log" for promise in self._find_lost()]
        for name, stories in ledger.broken(self.stories).items():
            found.append(f"{name.upper()}: {len(stories)}: {' '.join(story.job_id for story in stories)}")
            found += [story.describe() for story in stories[:_SHOWN]]
        for promise in self.promises:
            story = self.stories.get(promise.job_id)
            if story is not None and (trouble := _broken_word(promise, story)):
                found += [f"{trouble.upper()}: {promise}", story.describe()]
        return found

    def _find_lost(self) -> list[Promise]:
        return [promise for promise in self.promises if promise.job_id not in self.stories]


def _broken_word(promise: Promise, story: Story) -> str:
    """Return a wrong response to the customer, if there was one."""
    if story.end not in promise.order.ends:
        return f"a {promise.order.kind} job must not end so"
    if promise.was_cancelled and story.end != "cancelled":
        return "its cancel was confirmed"
    if promise.streams and promise.streamed_end != story.end.partition(":")[0]:
        return "the stream had another end"
    return ""
