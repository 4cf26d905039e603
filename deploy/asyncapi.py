"""Write docs/asyncapi.yaml, the bus as an AsyncAPI 3.0 document, from the code: `python -m deploy.asyncapi`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic.json_schema import models_json_schema

from shared import VERSION, messages, subjects, topology
from shared.messages import (
    AssembleRequest,
    Cancelled,
    DeadLetter,
    DebugSession,
    Done,
    DrainReply,
    DrainRequest,
    ExtractRequest,
    Failed,
    HealthReply,
    HealthRequest,
    ImageRef,
    ImageReply,
    JobRecord,
    JobSubmit,
    JobWork,
    LightReply,
    LightRequest,
    MaskReply,
    MaskRequest,
    Message,
    OutlineReply,
    OutlineRequest,
    Preview,
    Progress,
    Queued,
    QueueQuery,
    QueueReport,
    RedriveRequest,
    RenditionReply,
    RenditionRequest,
    ReplayReply,
    ReplayRequest,
    Returned,
    SaliencyReply,
    SaliencyRequest,
    ShadowRequest,
    Started,
    WhiteBalanceRequest,
    WorkerAbilities,
)
from shared.settings import StreamSettings
from shared.webhook_messages import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookState

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "asyncapi.yaml"
_REF = "#/components/schemas/{model}"
_ERROR_HEADERS = {
    "type": "object",
    "description": "Only in a reply that is an error: its code and its sentence. The body is empty then.",
    "properties": {"Nats-Service-Error-Code": {"type": "string"}, "Nats-Service-Error": {"type": "string"}},
}
_REQUEST_HEADERS = {
    "type": "object",
    "properties": {
        "Time-Left-Ms": {"type": "string", "description": "The time until the caller stops waiting, in milliseconds."},
        "traceparent": {"type": "string", "description": "The W3C trace context."},
    },
}
_PARAMETERS = {
    "class": ("The priority of the job.", [job_class.value for job_class in messages.JobClass]),
    "task": ("The kind of the edit.", [task.value for task in messages.Task]),
    "owner": ("The owner of the job or the image: 1 to 64 letters, digits, - and _.", None),
    "job": ("The job's id: 1 to 64 letters, digits, - and _.", None),
    "reason": ("The reason why the job could not run.", None),
    "session": ("The name of the debug session.", None),
    "worker": ("The name of a worker: that of its container or pod.", None),
    "sha256": ("The SHA-256 of the image, in hexadecimal.", None),
    "endpoint": ("The id of an endpoint of webhooks.", None),
    "kind": ("What is sent: the end of a job, or a test.", ["end", "test"]),
    "name": ("The job's id, or that of the test.", None),
    "request": ("The `request_id` of a MaskRequest.", None),
    "service": ("The name of the service.", None),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of subject: its publishers and its messages."""

    name: str
    address: str
    meaning: str
    messages: tuple[type[Message], ...] = ()
    reply: type[Message] | None = None
    """The reply's type, for a subject of the request and reply pattern."""


def channels() -> list[Channel]:
    """Return all kinds of subjects that our services publish to or serve."""
    job, owner, job_class, task = "{job}", "{owner}", "{class}", "{task}"
    submission = f"job.submit.{subjects.POOL}.{job_class}.{owner}.{job}"
    waiting = f"job.q.{subjects.POOL}.{job_class}.{task}.{owner}.{job}"
    events = (Queued, Started, Returned, Progress, Preview)
    return [
        Channel("submission", submission, "The gateway, or an operator, submits a job.", (JobSubmit,)),
        Channel("waitingJob", waiting, "The job manager queues a job; a worker pulls it.", (JobWork,)),
        *(_event_channels(f"job.ev.{job}", "", events)),
        *(_event_channels(f"live.ev.{job}", "live", events)),
        Channel("liveWaitingJob", waiting.replace("job.q", "live.q", 1), "The headers of a job that was queued."),
        Channel(
            "deadLetter",
            f"job.dlq.{subjects.POOL}.{{reason}}.{job}",
            "A job could not run; the letter has everything to understand it and to run it again.",
            (DeadLetter,),
        ),
        Channel("jobRecord", f"$KV.jobs.{owner}.{job}", "The job manager keeps the state of each job.", (JobRecord,)),
        Channel(
            "debugSession", f"$KV.sessions.{owner}.{{session}}", "A worker stores a debug session.", (DebugSession,)
        ),
        *_owned_channels(owner, job),
        *_webhook_channels(owner),
        Channel(
            "maskCancel", "ctl.seg-cancel.{request}", "The caller of a mask request cancels it. The body is empty."
        ),
        Channel("storedPhoto", subjects.PHOTOS, "The gateway has stored an uploaded photo.", (ImageRef,)),
        Channel("workers", subjects.WORKERS, "Each worker repeats what it can do.", (WorkerAbilities,)),
        Channel(
            "drainWorker",
            "svc.worker.{worker}.drain",
            "An operator takes one worker out after its job.",
            (DrainRequest,),
            DrainReply,
        ),
        *_service_channels(),
    ]


def _owned_channels(owner: str, job: str) -> list[Channel]:
    """Return the entries of the bucket `owned`."""
    return [
        Channel(
            "ownership", f"$KV.owned.{owner}.{{sha256}}", "The gateway marks an owner of an image. The body is free."
        ),
        Channel(
            "resultMark",
            f"$KV.owned.{owner}.results.{job}.{{sha256}}",
            "A worker marks the result of a job as its owner's. The body is free.",
        ),
        Channel(
            "reservation",
            f"$KV.owned.{owner}.waiting.{job}",
            "The gateway keeps the inputs of an unsettled job, and room for its result. The body is free.",
        ),
        Channel("deletedJob", f"$KV.owned.{owner}.purged.{job}", "The gateway notes a deleted job. The body is free."),
    ]


def _webhook_channels(owner: str) -> list[Channel]:
    delivery, endpoint = "webhook.q.{owner}.{endpoint}.{kind}.{name}", "{endpoint}"
    return [
        Channel(
            "webhookEndpoint",
            f"$KV.webhooks.{owner}.endpoint.{endpoint}",
            "The gateway stores an endpoint of webhooks, with its secrets.",
            (WebhookEndpoint,),
        ),
        Channel(
            "webhookState",
            f"$KV.webhooks.{owner}.state.{endpoint}",
            "The sender of webhooks stores whether the calls to an endpoint fail.",
            (WebhookState,),
        ),
        Channel(
            "webhookDelivery",
            delivery,
            "A webhook that is to be sent: the sender stores it for the end of a job, the gateway or an operator for a "
            "test or to send it again.",
            (WebhookDelivery,),
        ),
        Channel("liveWebhookDelivery", f"live.{delivery}", "The live copy of a delivery.", (WebhookDelivery,)),
        Channel(
            "webhookAttempt",
            f"webhook.log.{owner}.{endpoint}",
            "The sender logs each attempt at an endpoint.",
            (WebhookAttempt,),
        ),
    ]


def _service_channels() -> list[Channel]:
    return [
        Channel("mask", subjects.SEG_MASK, "Find the mask of an object.", (MaskRequest,), MaskReply),
        Channel("outline", subjects.SEG_OUTLINE, "Outline the object at a point.", (OutlineRequest,), OutlineReply),
        Channel("saliency", subjects.SEG_SALIENCY, "Find the salient object.", (SaliencyRequest,), SaliencyReply),
        Channel("assemble", subjects.IMG_ASSEMBLE, "Assemble a result.", (AssembleRequest,), ImageReply),
        Channel("extractObject", subjects.IMG_EXTRACT, "Cut an object out.", (ExtractRequest,), ImageReply),
        Channel(
            "rendition", subjects.IMG_RENDITION, "Encode a picture in a format.", (RenditionRequest,), RenditionReply
        ),
        Channel("shadowPreview", subjects.IMG_SHADOW, "Render an object with a shadow.", (ShadowRequest,), ImageReply),
        Channel(
            "whiteBalance", subjects.IMG_WHITE_BALANCE, "Correct the white balance.", (WhiteBalanceRequest,), ImageReply
        ),
        Channel("light", subjects.IMG_ESTIMATE_LIGHT, "Estimate a photo's light.", (LightRequest,), LightReply),
        Channel("waitingJobs", subjects.JOB_QUEUE, "List the waiting jobs.", (QueueQuery,), QueueReport),
        Channel("replay", subjects.JOB_REPLAY, "Run logged jobs again.", (ReplayRequest,), ReplayReply),
        Channel("redrive", subjects.JOB_REDRIVE, "Run dead letters again.", (RedriveRequest,), ReplayReply),
        Channel(
            "health",
            "svc.health.{service}",
            "Read the health; each instance replies.",
            (HealthRequest,),
            HealthReply,
        ),
    ]


def _event_channels(prefix: str, copies: str, events: tuple[type[Message], ...]) -> Iterator[Channel]:
    ending = "; a live copy, not stored." if copies else "."
    for event in events:
        kind = str(event.model_fields["type"].default)
        name = f"{copies}{kind.capitalize()}" if copies else kind
        yield Channel(name, f"{prefix}.{kind}", f"The event `{kind}` of a job{ending}", (event,))
    end = "The terminal event of a job; the broker accepts only the first" + ending
    yield Channel(f"{copies}End" if copies else "end", f"{prefix}.{subjects.TERMINAL}", end, (Done, Failed, Cancelled))


def document() -> dict[str, Any]:
    """Return the AsyncAPI document as plain data."""
    found = channels()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ArtMancer on the bus",
            "version": VERSION,
            "license": {"name": "MIT"},
            "description": "The subjects, messages and streams of ArtMancer's services on NATS. "
            "Unknown fields are kept and reported; a message that breaks its schema becomes a dead letter.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "nats-server with JetStream"}
        },
        "channels": {channel.name: _channel(channel) for channel in found} | _replies(found),
        "operations": {name: operation for channel in found for name, operation in _operation(channel)},
        "components": {"messages": _messages(found), "schemas": _schemas(found)},
    }


def page() -> str:
    """Return docs/asyncapi.yaml."""
    head = "# Made by `make asyncapi` from shared/messages.py, subjects.py and topology.py. Do not edit it by hand.\n"
    plain = json.loads(json.dumps(document()))  # copies shared objects, which YAML would write as aliases
    return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


def _channel(channel: Channel) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", channel.address)
    stream = _stream_of(channel.address)
    facts: dict[str, Any] = {
        "address": channel.address,
        "description": channel.meaning,
        "messages": {_key(message): {"$ref": f"#/components/messages/{_key(message)}"} for message in channel.messages},
    }
    if names:
        facts["parameters"] = {name: _parameter(name) for name in names}
    if stream:
        facts["x-jetstream"] = stream
    return facts


def _replies(found: list[Channel]) -> dict[str, Any]:
    """Return a channel without an address for each type of reply: its address is the request's reply subject."""
    kinds = {channel.reply.__name__: channel.reply for channel in found if channel.reply}
    return {
        _key(kind): {
            "address": None,
            "description": "The reply subject of the request.",
            "messages": {_key(kind): {"$ref": f"#/components/messages/{_key(kind)}"}},
        }
        for kind in kinds.values()
    }


def _operation(channel: Channel) -> Iterator[tuple[str, dict[str, Any]]]:
    name, reference = channel.name[0].upper() + channel.name[1:], {"$ref": f"#/channels/{channel.name}"}
    if channel.reply is None:
        yield f"publish{name}", {"action": "send", "channel": reference}
    else:
        answers = {"$ref": f"#/channels/{_key(channel.reply)}"}
        reply = {"address": {"location": "$message.header#/reply"}, "channel": answers}
        yield f"serve{name}", {"action": "receive", "channel": reference, "reply": reply}


def _parameter(name: str) -> dict[str, Any]:
    meaning, values = _PARAMETERS[name]
    return {"description": meaning} | ({"enum": values} if values else {})


def _stream_of(address: str) -> dict[str, Any] | None:
    """Return the stream that stores the subject, with its limits; None for a subject that is not stored."""
    subject = re.sub(r"{\w+}", "x", address)
    for stream in topology.build_topology(StreamSettings()).streams:
        for pattern in stream.subjects or ():
            if re.fullmatch(_regex(pattern), address) or re.fullmatch(_regex(pattern), subject):
                limits = {"retention": stream.retention, "discard": stream.discard}
                facts = {name: getattr(value, "value", value) for name, value in limits.items()}
                return {"stream": stream.name, "max_age_s": stream.max_age, "max_bytes": stream.max_bytes, **facts}
    return None


def _regex(pattern: str) -> str:
    """Return a regular expression for a pattern of NATS: `*` is one token, a parameter may stand for any token."""
    tokens = (r"[^.]+" if part == "*" else r".+" if part == ">" else rf"(?:{re.escape(part)}|{{\w+}})"
              for part in pattern.split("."))  # fmt: skip
    return r"\.".join(tokens)


def _messages(found: list[Channel]) -> dict[str, Any]:
    headers = {kind: _REQUEST_HEADERS for channel in found if channel.reply for kind in channel.messages}
    headers |= {channel.reply: _ERROR_HEADERS for channel in found if channel.reply}
    return {
        _key(kind): {
            "name": kind.__name__,
            "summary": _summary(kind),
            **({"headers": headers[kind]} if kind in headers else {}),
            "payload": {"$ref": _REF.format(model=kind.__name__)},
        }
        for kind in _kinds(found)
    }


def _schemas(found: list[Channel]) -> dict[str, Any]:
    _, schema = models_json_schema([(kind, "validation") for kind in _kinds(found)], ref_template=_REF)
    return {name: _name_discriminators(schema["$defs"][name]) for name in sorted(schema["$defs"])}


def _name_discriminators(node: Any) -> Any:
    """Replace each discriminator in OpenAPI's form by the field's name, as in AsyncAPI."""
    if isinstance(node, list):
        return [_name_discriminators(value) for value in node]
    if not isinstance(node, dict):
        return node
    named = {key: _name_discriminators(value) for key, value in node.items()}
    if isinstance(named.get("discriminator"), dict) and "propertyName" in named["discriminator"]:
        named["discriminator"] = named["discriminator"]["propertyName"]
    return named


def _kinds(found: list[Channel]) -> list[type[Message]]:
    """Return the types of messages on the channels, each once, in their order."""
    all_kinds = [kind for channel in found for kind in (*channel.messages, channel.reply) if kind is not None]
    return list(dict.fromkeys(all_kinds))


def _summary(kind: type[Message]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _key(kind: type[Message]) -> str:
    return kind.__name__[0].lower() + kind.__name__[1:]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
