"""Every subject on the bus, built and taken apart here and nowhere else.

job.submit.<pool>.<class>.<user>.<job>          JOB_LOG   a job somebody asked for
job.q.<pool>.<class>.<task>.<user>.<job>        JOB_Q     a job that a worker may take
job.ev.<job>.<type>, job.ev.<job>.end           JOB_EV    what happened to it; every terminal event is on `.end`
job.dlq.<pool>.<reason>.<job>                   JOB_DLQ   a job that could not be run, whole
live.ev.>, live.q.>                             core      copies of JOB_EV, and wake-ups for JOB_Q, as they are stored
svc.<service>.<verb>                            micro     request and reply
ctl.<verb>.<id>                                 core      a word to every replica
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import BadMessage

POOL = "a100"
TERMINAL = "end"
TOKEN_MAX = 64
TOKEN = f"[A-Za-z0-9_-]{{1,{TOKEN_MAX}}}"

SEG_MASK = "svc.seg.mask"
SEG_SALIENCY = "svc.seg.saliency"
IMG_EXTRACT = "svc.img.extract-object"
IMG_SHADOW = "svc.img.shadow-preview"
IMG_WHITE_BALANCE = "svc.img.white-balance"
JOB_QUEUE = "svc.job.queue"
JOB_REPLAY = "svc.job.replay"
JOB_REDRIVE = "svc.job.redrive"

ALL_QUEUED = "job.q.>"
ALL_EVENTS = "job.ev.>"
ALL_DEAD = "job.dlq.>"
ALL_RECORDS = "$KV.jobs.>"
ALL_SESSIONS = "$KV.sessions.>"
ALL_OWNED = "$KV.owned.>"
LIVE_EVENTS = "live.ev.>"
LIVE_STARTS = "live.ev.*.started"
LIVE_QUEUE = "live.q.>"
LIVE_ENDS = f"live.ev.*.{TERMINAL}"
EVERY_END = f"job.ev.*.{TERMINAL}"
EVERY_QUEUED_EVENT = "job.ev.*.queued"
SEG_CANCEL = "ctl.seg-cancel.*"
STREAM_DELETED = "$JS.EVENT.ADVISORY.STREAM.DELETED.*"
CONSUMER_DELETED = "$JS.EVENT.ADVISORY.CONSUMER.DELETED.*.*"
MAX_DELIVERIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.JOB_Q.>"


def api(verb: str, *names: str) -> str:
    """One of JetStream's own questions, such as `STREAM.INFO`, about a stream, a consumer, a subject."""
    return ".".join(("$JS.API", verb, *names))


def acknowledgements(stream: str, consumer: str) -> str:
    """Every word by which a delivery of one consumer is settled or extended."""
    return f"$JS.ACK.{stream}.{consumer}.>"


def discovery(service: str) -> list[str]:
    """Where a service of nats.micro tells who it is, as one of all, by its name and by the id of its instance."""
    return [f"$SRV.{verb}{whom}" for verb in ("PING", "INFO", "STATS") for whom in ("", f".{service}", f".{service}.*")]


def inbox_prefix(user: str) -> str:
    """Under what a service receives its replies; the broker lets no other service listen there."""
    return f"_INBOX_{user}"


def token(text: str) -> str:
    """Return the text if it can stand in a subject (letters, digits, - and _, at most 64). Raises BadMessage."""
    if not re.fullmatch(TOKEN, text):
        raise BadMessage("An id may hold 1 to 64 letters, digits, dashes and underscores.")
    return text


def submission(job_class: str, user: str, job_id: str) -> str:
    """Where a new job is logged."""
    return f"job.submit.{POOL}.{token(job_class)}.{token(user)}.{token(job_id)}"


def submissions_in(job_class: str) -> str:
    """Every submit of one class; JOB_LOG holds nothing else, so the broker itself refuses a wrong class."""
    return f"job.submit.{POOL}.{token(job_class)}.*.*"


def replay_id(job_id: str, log_seq: int) -> str:
    """The id of a job that was logged under a known id: the original's, with the sequence of the replay."""
    suffix = f"-r{log_seq}"
    return job_id[: TOKEN_MAX - len(suffix)] + suffix


def unnamed_id(log_seq: int) -> str:
    """The id of a job that was logged under an id that cannot be one."""
    return replay_id("unnamed", log_seq)


def submissions_of(job_id: str) -> str:
    """Every logged submit of one job, whatever its class and user."""
    return f"job.submit.*.*.*.{token(job_id)}"


def submissions_by(user: str, job_id: str) -> str:
    """Every logged submit of one job by one user."""
    return f"job.submit.*.*.{token(user)}.{token(job_id)}"


def queue_entry(job_class: str, task: str, user: str, job_id: str) -> str:
    """Where a job waits for a worker; JOB_Q holds at most one message on each of these."""
    return f"job.q.{POOL}.{token(job_class)}.{token(task)}.{token(user)}.{token(job_id)}"


def queue_entries_in(job_class: str, task: str) -> str:
    """The jobs of one class and task; JOB_Q holds nothing else, so nothing can lie there that no worker looks for."""
    return f"job.q.{POOL}.{token(job_class)}.{token(task)}.*.*"


def queue_entries_in_class(job_class: str) -> str:
    """The jobs of one class."""
    return f"job.q.{POOL}.{token(job_class)}.>"


def queue_entries_of(job_id: str) -> str:
    """One job, wherever it waits."""
    return f"job.q.*.*.*.*.{token(job_id)}"


def event(job_id: str, kind: str) -> str:
    """Where one kind of a job's events is stored."""
    return f"job.ev.{token(job_id)}.{token(kind)}"


def events_of_kind(kind: str) -> str:
    """One kind of event of every job; `end` for the terminal ones."""
    return f"job.ev.*.{token(kind)}"


def end(job_id: str) -> str:
    """The one subject of every terminal event of a job: the broker accepts the first and refuses the rest."""
    return event(job_id, TERMINAL)


def events_of(job_id: str) -> str:
    """Every stored event of a job."""
    return f"job.ev.{token(job_id)}.>"


def live_end(job_id: str) -> str:
    """The terminal event of a job, as it is stored."""
    return f"live.ev.{token(job_id)}.{TERMINAL}"


def dead_letter(reason: str, job_id: str) -> str:
    """Where a job that could not be run is kept."""
    return f"job.dlq.{POOL}.{token(reason)}.{token(job_id)}"


def seg_cancel(request_id: str) -> str:
    """Tell every segmentation replica to drop a request."""
    return f"ctl.seg-cancel.{token(request_id)}"


def request_of_cancel(subject: str) -> str:
    """Return the request id in the subject of a cancel."""
    return subject.split(".")[2]


def dead_letters_of(job_id: str) -> str:
    """The dead letters of one job, whatever the reason."""
    return f"job.dlq.{POOL}.*.{token(job_id)}"


def health(service: str) -> str:
    """Where a service answers how it is."""
    return f"svc.health.{token(service)}"


def object_entry(bucket: str, encoded_name: str) -> str:
    """Where the entry of a stored object is (NATS ADR-20)."""
    return f"$O.{bucket}.M.{encoded_name}"


def object_chunks(bucket: str, nuid: str) -> str:
    """Where the chunks of a stored object are (NATS ADR-20)."""
    return f"$O.{bucket}.C.{nuid}"


def job_record(user: str, job_id: str) -> str:
    """Where the record of a job is kept in the bucket `jobs`."""
    return f"$KV.jobs.{token(user)}.{token(job_id)}"


def job_record_anywhere(job_id: str) -> str:
    """The record of a job whose user is not known."""
    return f"$KV.jobs.*.{token(job_id)}"


def image_ownership(owner: str, sha256: str) -> str:
    """Where the bucket `owned` says that a picture is somebody's."""
    return f"$KV.owned.{token(owner)}.{token(sha256)}"


def debug_session(user: str, name: str) -> str:
    """Where a debug session is kept in the bucket `sessions`."""
    return f"$KV.sessions.{token(user)}.{token(name)}"


def debug_sessions_of(user: str) -> str:
    """The debug sessions of one user."""
    return f"$KV.sessions.{token(user)}.>"


def job_records_of(user: str) -> str:
    """The records of all jobs of one user."""
    return f"$KV.jobs.{token(user)}.>"


@dataclass(frozen=True, slots=True)
class SubmissionAddress:
    """What the subject of a submit says."""

    pool: str
    job_class: str
    user: str
    job_id: str


def parse_submission(subject: str) -> SubmissionAddress:
    """Take a submit's subject apart. Raises BadMessage."""
    parts = subject.split(".")
    if len(parts) != 6 or parts[:2] != ["job", "submit"]:  # noqa: PLR2004
        raise BadMessage("A job is submitted on job.submit.<pool>.<class>.<user>.<job>.")
    return SubmissionAddress(*(token(part) for part in parts[2:]))


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """What the subject of a queued job says."""

    pool: str
    job_class: str
    task: str
    user: str
    job_id: str


def parse_queue_entry(subject: str) -> QueueAddress:
    """Take a queued job's subject apart, `job.q...` or its live copy."""
    return QueueAddress(*subject.split(".")[2:])


def kind(subject: str) -> str:
    """Return what a subject is about, without anybody's id: its first two tokens."""
    return ".".join(subject.split(".", 2)[:2])


def kind_of_event(subject: str) -> str:
    """Return the last token of an event's subject, stored or live: its kind, or `end`."""
    return subject.rpartition(".")[2]


def job_of_event(subject: str) -> str:
    """Return the job id in the subject of an event, stored or live."""
    return subject.split(".")[2]
