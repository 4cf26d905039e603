"""All subjects on the bus. Only this module builds and parses them.

job.submit.<pool>.<class>.<user>.<job>          JOB_LOG   a submission
job.q.<pool>.<class>.<task>.<user>.<job>        JOB_Q     a job that waits for a worker
job.ev.<job>.<type>, job.ev.<job>.end           JOB_EV    the events of a job; its terminal event is on `.end`
job.dlq.<pool>.<reason>.<job>                   JOB_DLQ   a dead letter
live.ev.>, live.q.>                             core      live copies of JOB_EV; headers of new jobs in JOB_Q
svc.<service>.<verb>                            micro     request and reply
svc.worker.<worker>.<verb>                      micro     a command of an operator to one worker
ctl.<verb>.<id>                                 core      a command to every replica
live.workers, live.photos                       core      what each worker can do, repeated; an uploaded photo
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
SEG_OUTLINE = "svc.seg.outline"
IMG_ASSEMBLE = "svc.img.assemble"
IMG_EXTRACT = "svc.img.extract-object"
IMG_RENDITION = "svc.img.rendition"
IMG_SHADOW = "svc.img.shadow-preview"
IMG_WHITE_BALANCE = "svc.img.white-balance"
IMG_ESTIMATE_LIGHT = "svc.img.estimate-light"
JOB_QUEUE = "svc.job.queue"
JOB_REPLAY = "svc.job.replay"
JOB_REDRIVE = "svc.job.redrive"

ALL_QUEUED = "job.q.>"
ALL_EVENTS = "job.ev.>"
ALL_DEAD = "job.dlq.>"
ALL_RECORDS = "$KV.jobs.>"
ALL_SESSIONS = "$KV.sessions.>"
ALL_OWNED = "$KV.owned.>"
ALL_WAITING = "$KV.owned.*.waiting.*"
ALL_RESULT_MARKS = "$KV.owned.*.results.*.*"
LIVE_EVENTS = "live.ev.>"
LIVE_STARTS = "live.ev.*.started"
LIVE_QUEUE = "live.q.>"
LIVE_ENDS = f"live.ev.*.{TERMINAL}"
EVERY_END = f"job.ev.*.{TERMINAL}"
EVERY_QUEUED_EVENT = "job.ev.*.queued"
WORKERS = "live.workers"
PHOTOS = "live.photos"
ALL_DRAINS = "svc.worker.*.drain"
SEG_CANCEL = "ctl.seg-cancel.*"
STREAM_DELETED = "$JS.EVENT.ADVISORY.STREAM.DELETED.*"
CONSUMER_DELETED = "$JS.EVENT.ADVISORY.CONSUMER.DELETED.*.*"
MAX_DELIVERIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.JOB_Q.>"


def api(verb: str, *names: str) -> str:
    """Return a subject of JetStream's API: a verb such as `STREAM.INFO`, then stream, consumer or subject."""
    return ".".join(("$JS.API", verb, *names))


def acknowledgements(stream: str, consumer: str) -> str:
    """Return the subjects that settle or extend a delivery of one consumer."""
    return f"$JS.ACK.{stream}.{consumer}.>"


def discovery(service: str) -> list[str]:
    """Return the discovery subjects of a nats.micro service: all services, its name, its instances."""
    return [f"$SRV.{verb}{part}" for verb in ("PING", "INFO", "STATS") for part in ("", f".{service}", f".{service}.*")]


def inbox_prefix(user: str) -> str:
    """Return the inbox prefix of a service; the broker permits no other service to subscribe there."""
    return f"_INBOX_{user}"


def token(text: str) -> str:
    """Return the text if it is a valid token (1 to 64 letters, digits, - and _). Raises BadMessage."""
    if not re.fullmatch(TOKEN, text):
        raise BadMessage("An id must have 1 to 64 letters, digits, dashes or underscores.")
    return text


def submission(job_class: str, user: str, job_id: str) -> str:
    """Return the subject of a submission in JOB_LOG."""
    return f"job.submit.{POOL}.{token(job_class)}.{token(user)}.{token(job_id)}"


def submissions_in(job_class: str) -> str:
    """Match all submissions of one class. JOB_LOG has no other subjects, so the broker refuses a wrong class."""
    return f"job.submit.{POOL}.{token(job_class)}.*.*"


def replay_id(job_id: str, log_seq: int) -> str:
    """Return the id of a replayed job: the original id and the sequence of the replay."""
    suffix = f"-r{log_seq}"
    return job_id[: TOKEN_MAX - len(suffix)] + suffix


def unnamed_id(log_seq: int) -> str:
    """Return the id of a job that was submitted with an invalid id."""
    return replay_id("unnamed", log_seq)


def submissions_of(job_id: str) -> str:
    """Match the submissions of one job in any class and of any owner."""
    return f"job.submit.*.*.*.{token(job_id)}"


def submissions_by(user: str, job_id: str) -> str:
    """Match the submissions of one job by one owner."""
    return f"job.submit.*.*.{token(user)}.{token(job_id)}"


def queue_entry(job_class: str, task: str, user: str, job_id: str) -> str:
    """Return the subject of a waiting job; JOB_Q keeps at most one message on each subject."""
    return f"job.q.{POOL}.{token(job_class)}.{token(task)}.{token(user)}.{token(job_id)}"


def queue_entries_in(job_class: str, task: str) -> str:
    """Match the jobs of one class and task. JOB_Q has no other subjects, so workers find every job in it."""
    return f"job.q.{POOL}.{token(job_class)}.{token(task)}.*.*"


def queue_entries_in_class(job_class: str) -> str:
    """Match the waiting jobs of one class."""
    return f"job.q.{POOL}.{token(job_class)}.>"


def queue_entries_of(job_id: str) -> str:
    """Match one job in any class, task and owner."""
    return f"job.q.*.*.*.*.{token(job_id)}"


def event(job_id: str, kind: str) -> str:
    """Return the subject of one kind of event of a job."""
    return f"job.ev.{token(job_id)}.{token(kind)}"


def events_of_kind(kind: str) -> str:
    """Match one kind of event of all jobs; `end` is the terminal kind."""
    return f"job.ev.*.{token(kind)}"


def end(job_id: str) -> str:
    """Return the subject of all terminal events of a job. The broker accepts the first and refuses the rest."""
    return event(job_id, TERMINAL)


def events_of(job_id: str) -> str:
    """Match all stored events of a job."""
    return f"job.ev.{token(job_id)}.>"


def live_end(job_id: str) -> str:
    """Return the subject of the live copy of a job's terminal event."""
    return f"live.ev.{token(job_id)}.{TERMINAL}"


def dead_letter(reason: str, job_id: str) -> str:
    """Return the subject of a dead letter."""
    return f"job.dlq.{POOL}.{token(reason)}.{token(job_id)}"


def seg_cancel(request_id: str) -> str:
    """Return the subject that makes every segmentation replica drop a request."""
    return f"ctl.seg-cancel.{token(request_id)}"


def request_of_cancel(subject: str) -> str:
    """Return the request id in a subject of `seg_cancel`."""
    return subject.split(".")[2]


def dead_letters_of(job_id: str) -> str:
    """Match the dead letters of one job with any reason."""
    return f"job.dlq.{POOL}.*.{token(job_id)}"


def health(service: str) -> str:
    """Return the subject of the health endpoint of a service."""
    return f"svc.health.{token(service)}"


def drain(worker: str) -> str:
    """Return the subject on which an operator takes one worker out after its job."""
    return f"svc.worker.{token(worker)}.drain"


def object_entry(bucket: str, encoded_name: str) -> str:
    """Return the subject of the entry of a stored object (NATS ADR-20)."""
    return f"$O.{bucket}.M.{encoded_name}"


def object_chunks(bucket: str, nuid: str) -> str:
    """Return the subject of the chunks of a stored object (NATS ADR-20)."""
    return f"$O.{bucket}.C.{nuid}"


def job_record(user: str, job_id: str) -> str:
    """Return the key of a job's record in the bucket `jobs`."""
    return f"$KV.jobs.{token(user)}.{token(job_id)}"


def owner_of_entry(subject: str) -> str:
    """Return the owner in a key of the buckets `jobs`, `sessions` and `owned`, or in a pattern; `*` for all."""
    return subject.split(".")[2]


def job_record_anywhere(job_id: str) -> str:
    """Match the record of a job of any owner."""
    return f"$KV.jobs.*.{token(job_id)}"


def image_ownership(owner: str, sha256: str) -> str:
    """Return the key in the bucket `owned` that makes an owner one of an image's owners."""
    return f"$KV.owned.{token(owner)}.{token(sha256)}"


def image_owners(sha256: str) -> str:
    """Match the keys of all owners of an image."""
    return f"$KV.owned.*.{token(sha256)}"


def bucket_of_mark(subject: str) -> str:
    """Return the bucket of the image that a key in the bucket `owned` belongs to."""
    parts = subject.split(".")
    return "inputs" if len(parts) == len(("$KV", "owned", "owner", "sha256")) else parts[3]


def job_of_result_mark(subject: str) -> str:
    """Return the id of the job in the key of a result."""
    return subject.split(".")[4]


def marks_of(owner: str | None) -> tuple[str, ...]:
    """Match the marks of one owner, or of all, in the bucket `owned`: of uploads, and of results."""
    return tuple(f"$KV.owned.{'*' if owner is None else token(owner)}.{rest}" for rest in ("*", "results.*.*"))


def result_mark(owner: str, job_id: str, sha256: str) -> str:
    """Return the key in the bucket `owned` that keeps the result of a job."""
    return f"$KV.owned.{token(owner)}.results.{token(job_id)}.{token(sha256)}"


def result_marks_of_job(owner: str, job_id: str) -> str:
    """Match the keys of the results of one job; it has several if a late attempt stored another result."""
    return f"$KV.owned.{token(owner)}.results.{token(job_id)}.*"


def result_marks_of(sha256: str) -> str:
    """Match the keys of all jobs with this result."""
    return f"$KV.owned.*.results.*.{token(sha256)}"


def result_marks_by(owner: str, sha256: str) -> str:
    """Match the keys of all jobs of one owner with this result."""
    return f"$KV.owned.{token(owner)}.results.*.{token(sha256)}"


def waiting_job(owner: str | None, job_id: str) -> str:
    """Return the key in `owned` that keeps an unsettled job's inputs, and room for its result; None: of any owner."""
    return f"$KV.owned.{'*' if owner is None else token(owner)}.waiting.{token(job_id)}"


def purged_job(owner: str, job_id: str) -> str:
    """Return the key in the bucket `owned` of a job that its owner has deleted."""
    return f"$KV.owned.{token(owner)}.purged.{token(job_id)}"


def purged_jobs_of(owner: str) -> str:
    """Match the deleted jobs of one owner."""
    return f"$KV.owned.{token(owner)}.purged.*"


def debug_session(user: str, name: str) -> str:
    """Return the key of a debug session in the bucket `sessions`."""
    return f"$KV.sessions.{token(user)}.{token(name)}"


def debug_sessions_named(name: str) -> str:
    """Return the pattern of the debug sessions with this name, of any user."""
    return f"$KV.sessions.*.{token(name)}"


def debug_sessions_of(user: str) -> str:
    """Match the debug sessions of one owner."""
    return f"$KV.sessions.{token(user)}.>"


def job_records_of(user: str) -> str:
    """Match the records of all jobs of one owner."""
    return f"$KV.jobs.{token(user)}.>"


@dataclass(frozen=True, slots=True)
class SubmissionAddress:
    """The parts of a submission's subject."""

    pool: str
    job_class: str
    user: str
    job_id: str


def parse_submission(subject: str) -> SubmissionAddress:
    """Parse the subject of a submission. Raises BadMessage."""
    parts = subject.split(".")
    if len(parts) != 6 or parts[:2] != ["job", "submit"]:  # noqa: PLR2004
        raise BadMessage("The subject of a submission must be job.submit.<pool>.<class>.<user>.<job>.")
    return SubmissionAddress(*(token(part) for part in parts[2:]))


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """The parts of a waiting job's subject."""

    pool: str
    job_class: str
    task: str
    user: str
    job_id: str


def parse_queue_entry(subject: str) -> QueueAddress:
    """Parse the subject of a waiting job, `job.q...` or its live copy. Raises BadMessage."""
    parts = subject.split(".")
    if len(parts) != 7:  # noqa: PLR2004
        raise BadMessage("The subject of a waiting job must be job.q.<pool>.<class>.<task>.<user>.<job>.")
    return QueueAddress(*(token(part) for part in parts[2:]))


def kind(subject: str) -> str:
    """Return the first two tokens of a subject, which contain no ids."""
    return ".".join(subject.split(".", 2)[:2])


def kind_of_event(subject: str) -> str:
    """Return the kind in the subject of an event, stored or live; `end` for a terminal one."""
    return subject.rpartition(".")[2]


def job_of_event(subject: str) -> str:
    """Return the job id in the subject of an event, stored or live. Raises BadMessage."""
    return token(subject.split(".")[2])
