"""The stored messages of each job at the end of a run, and the invariants that they break."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from shared import jobs, subjects, topology
from shared.errors import BadMessage
from shared.messages import Cancelled, Done, Failed, JobRecord, Preview, Progress, Started

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from shared.messages import JobEvent
    from shared.settings import StreamSettings

_EVERY_SUBMIT = "job.submit.>"


@dataclass(slots=True)
class Story:
    """All stored messages of one job."""

    job_id: str
    submits: list[StoredMessage] = field(default_factory=list)
    events: list[tuple[StoredMessage, JobEvent | None]] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    record: JobRecord | None = None
    done_at: float | None = None
    """When the broker stored that it is done: workers have other clocks. Seconds since the epoch."""

    @property
    def ends(self) -> list[Done | Failed | Cancelled]:
        """Return its terminal events; there must be one."""
        return [event for _, event in self.events if isinstance(event, Done | Failed | Cancelled)]

    @property
    def end(self) -> str:
        """Return the type of its end."""
        if not self.ends:
            return "open"
        last = self.ends[0]
        return f"failed:{last.code}" if isinstance(last, Failed) else last.type

    @property
    def redeliveries(self) -> int:
        """Return how many times another worker took it."""
        return max(0, max((event.attempt for _, event in self.events if isinstance(event, Started)), default=0) - 1)

    def fold_events(self) -> JobRecord | None:
        """Return the expected view: the fold of all events except the steps, see `_without_steps`."""
        record = None
        for stored, event in self.events:
            if event is not None and not isinstance(event, Progress | Preview):
                if record is None and event.type != "queued":
                    logged = [stored for stored in self.submits if stored.subject.endswith(f".{self.job_id}")]
                    record = jobs.initial_record(logged[0]) if logged else None
                record = jobs.fold(record, event, stored.seq)
        return record

    def describe(self) -> str:
        """Return the whole history as text."""
        lines = [f"{self.job_id}: {self.end}"]
        lines += [f"  submit {stored.seq} {stored.subject} {stored.data[:200]!r}" for stored in self.submits]
        lines += [f"  event  {stored.seq} {stored.subject} {stored.data[:400]!r}" for stored, _ in self.events]
        lines += [f"  letter {letter}" for letter in self.letters]
        lines += [f"  view   {self.record.model_dump_json(exclude_none=True) if self.record else 'nothing'}"]
        return "\n".join(lines)


async def read(bus: Bus) -> dict[str, Story]:
    """Read the whole log, all events, all dead letters and the view. Raises BrokerUnavailable."""
    stories: dict[str, Story] = {}

    def story(job_id: str) -> Story:
        return stories.setdefault(job_id, Story(job_id))

    known: set[str] = set()
    for stored in await bus.history(topology.JOB_LOG, _EVERY_SUBMIT):
        job_id = job_of_submit(stored.subject, stored.seq, known)
        known.add(stored.subject.rpartition(".")[2])
        story(job_id).submits.append(stored)
    for stored in await bus.history(topology.JOB_EV, subjects.ALL_EVENTS):
        story(subjects.job_of_event(stored.subject)).events.append((stored, jobs.parse_event(stored)))
    for stored in await bus.history(topology.JOB_DLQ, subjects.ALL_DEAD):
        story(stored.subject.rpartition(".")[2]).letters.append(stored.subject)
    for stored in await bus.history(topology.JOBS, subjects.ALL_RECORDS):
        if stored.data:
            record = JobRecord.model_validate_json(stored.data)
            story(record.job_id).record = record
    await _read_times(bus, [each for each in stories.values() if each.end == "done"])
    return stories


async def _read_times(bus: Bus, done: list[Story]) -> None:
    for story in done:
        reply = await bus.request(subjects.api("DIRECT.GET", topology.JOB_EV, subjects.end(story.job_id)), b"")
        story.done_at = datetime.fromisoformat((reply.headers or {})["Nats-Time-Stamp"]).timestamp()


def job_of_submit(subject: str, seq: int, known: set[str]) -> str:
    """Return the job id of a logged submission; `known` are the ids that were logged before it."""
    try:
        given = subjects.parse_submission(subject).job_id
    except BadMessage:
        return subjects.unnamed_id(seq)
    return subjects.replay_id(given, seq) if given in known else given


def broken(stories: dict[str, Story]) -> dict[str, list[Story]]:
    """Return the stories that break an invariant, by its name."""
    found: defaultdict[str, list[Story]] = defaultdict(list)
    for story in stories.values():
        if not story.submits:
            found["events of a job that nobody submitted"].append(story)
        if not story.ends:
            found["stuck"].append(story)
        last = [stored for stored, _ in story.events if subjects.kind_of_event(stored.subject) == subjects.TERMINAL]
        ends = [stored for stored in last if jobs.is_end(stored)]  # not the garbage of tests/chaos/faults/violence.py
        if len(ends) > 1 or len(story.ends) > 1:
            found["doubled"].append(story)
        if story.end.startswith("failed") and len(story.letters) != 1:
            found["failed without one dead letter"].append(story)
        if _without_steps(story.record) != _without_steps(story.fold_events()):
            found["the view differs from the events"].append(story)
    return dict(found)


def _without_steps(record: JobRecord | None) -> JobRecord | None:
    """Drop the facts that depend on the reader.

    A submission without `submitted_at` gets its creation time from its reader. The view has the last step of a job
    unless the job manager restarted between that step and the end.
    """
    read_later = {"created_at": 0.0, "phase": None, "step": None, "total_steps": None, "fraction": 0.0, "message": None}
    return None if record is None else record.model_copy(update=read_later)


async def unquiet(bus: Bus, settings: StreamSettings) -> list[str]:
    """Describe the unsettled messages; return nothing once all is settled. Raises BrokerUnavailable."""
    declared = topology.build_topology(settings)
    jetstream = bus.client.jetstream(timeout=5)
    waiting = [f"{subject} is queued" for subject in await bus.subjects_in(topology.JOB_Q, subjects.ALL_QUEUED)]
    for stream in {name for name, _ in declared.consumers}:
        wanted = {consumer.durable_name for name, consumer in declared.consumers if name == stream}
        for info in await jetstream.consumers_info(stream):
            if info.name not in wanted:
                waiting.append(f"{stream} has a consumer {info.name} that nobody declared")
            if info.num_pending or info.num_ack_pending:
                waiting.append(f"{stream}/{info.name}: {info.num_pending} to deliver, {info.num_ack_pending} unsettled")
    return waiting


async def find_unended(bus: Bus) -> list[str]:
    """Describe the jobs without an end. Raises BrokerUnavailable.

    Where the queue was lost under a running job, no message shows that it has to run again.
    """
    stored = await bus.history(topology.JOBS, subjects.ALL_RECORDS)
    records = [JobRecord.model_validate_json(each.data) for each in stored if each.data]
    return [f"{record.job_id} has not ended" for record in records if record.ended is None]
