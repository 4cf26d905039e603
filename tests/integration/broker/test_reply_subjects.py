"""Replies cannot be used as commands: a service that was taken over may name any subject for a reply.

The broker checks no permissions on a reply, and JetStream replies with stored messages or with an empty one; both can
be a complete command. Each test sends such commands through the requests that the service may make, and waits for the
replies. Then the operator sends the same, and it works, because the operator is in the account of the streams.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from deploy.accounts import STORE, account_imports, account_of
from deploy.permissions import DUTIES, OPERATOR, inbox_of, permissions
from shared import declaring, subjects, topology, webhook_subjects
from shared.messages import JobClass, JobSubmit, JobWork, Task
from shared.settings import StreamSettings
from shared.topology import JOB_EV, JOB_LOG, OWNED, bucket_stream, build_topology
from tests.keys import Keys, connect, matches, run_locked
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from shared.bus import Bus
    from tests.keys import Node

SETTINGS = StreamSettings(picture_bytes=1024**3)
DECLARED = build_topology(SETTINGS)
STREAMS = [str(stream.name) for stream in DECLARED.streams]
KEPT_APART = sorted(service for service in DUTIES if account_of(service) != STORE)
BY_WORD = {  # in each stream, a subject of its own
    **{name: f"$KV.{name.removeprefix('KV_')}.ann.j1" for name in STREAMS if name.startswith("KV_")},
    **{name: subjects.object_chunks(name.removeprefix("OBJ_"), "c1") for name in STREAMS if name.startswith("OBJ_")},
    topology.JOB_LOG: subjects.submission("interactive", "ann", "j1"),
    topology.JOB_Q: subjects.queue_entry(JobClass.INTERACTIVE, Task.WHITE_BALANCE, "ann", "j1"),
    topology.JOB_EV: subjects.event("j1", "queued"),
    topology.JOB_DLQ: subjects.dead_letter("bad_message", "j1"),
}
DISPATCHER = topology.DISPATCHERS[JobClass.INTERACTIVE]
SUBMIT = JobSubmit(task=Task.WHITE_BALANCE, image="0" * 64)
WORK = JobWork(job_id="j2", user="ann", job_class=JobClass.INTERACTIVE, log_seq=1, submit=SUBMIT)


@pytest.fixture
async def node(keys: Keys, tmp_path: Path) -> AsyncIterator[Node]:
    """Start a locked broker with all streams and a message in each of them."""
    async with run_locked(keys, tmp_path / "store") as node:
        async with connect(keys, node, "jobmanager") as manager:
            await declaring.declare_streams(manager, SETTINGS)
        async with connect(keys, node, OPERATOR) as operator:
            for subject in BY_WORD.values():
                await operator.publish(subject, b"{}")
        yield node


def own_stream(service: str) -> str:
    """Return a stream in which a service may store any body."""
    buckets = DUTIES[service].writes_images
    return bucket_stream(buckets[0]) if buckets else topology.WEBHOOK_Q


def own_subject(service: str, number: int) -> str:
    """Return a subject of that stream."""
    buckets = DUTIES[service].writes_images
    if buckets:
        return subjects.object_chunks(buckets[0], "x")
    return webhook_subjects.delivery("x", "x", "test", f"x{number}")


async def send_through_replies(bus: Bus, service: str, messages: list[tuple[str, bytes]]) -> None:
    """Make the broker reply to each subject with a body that the service has stored, and with an empty body.

    Returns after all replies: the last request has its reply here, and replies keep their order.
    """
    ask = subjects.api("DIRECT.GET", own_stream(service))
    bodies = {b"{}", *(body for _, body in messages)}
    stored = {body: await bus.publish(own_subject(service, n), body) for n, body in enumerate(bodies)}
    for subject, body in messages:
        for question in ({"seq": stored[body]}, {"seq": 10**6}, {"seq": stored[body], "batch": 1}):
            await bus.client.publish(ask, json.dumps(question).encode(), reply=subject)
        for stream, consumer in DUTIES[service].consumes:
            query = b'{"batch":1,"no_wait":true}'
            await bus.client.publish(subjects.api("CONSUMER.MSG.NEXT", stream, consumer), query, reply=subject)
    assert await bus.get(own_stream(service), max(stored.values())) is not None


async def purge_through_reply(operator: Bus) -> None:
    """Purge a stream through a reply, after all earlier requests."""
    seq = await operator.publish(subjects.end("marker"), b"{}")
    query = json.dumps({"seq": seq}).encode()
    await operator.client.publish(subjects.api("DIRECT.GET", JOB_EV), query, reply=subjects.api("STREAM.PURGE", OWNED))

    async def is_purged() -> bool:
        return await operator.subjects_in(OWNED, ">") == []

    await wait_until(is_purged, "an answer within the account of the streams has purged one of them")


def forbidden_messages(service: str, messages: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the commands that the service may not send itself."""
    allowed = permissions(service).publish
    return [message for message in messages if not any(matches(pattern, message[0]) for pattern in allowed)]


def commands() -> Iterator[tuple[str, bytes]]:
    """Yield the commands that delete, empty, change or add a stream or a consumer."""
    for stream in DECLARED.streams:
        name, config = str(stream.name), stream.as_dict()
        yield from ((subjects.api(verb, name), b"{}") for verb in ("STREAM.DELETE", "STREAM.PURGE"))
        yield subjects.api("STREAM.MSG.DELETE", name), b'{"seq":1}'
        yield subjects.api("STREAM.UPDATE", name), json.dumps({**config, "description": "taken over"}).encode()
    yield subjects.api("STREAM.CREATE", "MORE"), b'{"name":"MORE","subjects":["more"]}'
    for name, consumer in DECLARED.consumers:
        for verb in ("CONSUMER.DELETE", "CONSUMER.RESET"):
            yield subjects.api(verb, name, str(consumer.durable_name)), b"{}"
    push = {"stream_name": JOB_LOG, "config": {"deliver_subject": "more", "ack_policy": "none"}}
    yield subjects.api("CONSUMER.CREATE", JOB_LOG), json.dumps(push).encode()


async def state(operator: Bus) -> dict[str, object]:
    """Return the state of all streams and consumers, without the number of messages in object buckets."""
    found: dict[str, object] = {}
    jetstream = operator.client.jetstream()
    for info in await jetstream.streams_info():
        name = str(info.config.name)
        found[name] = (info.config, [await operator.first(name, BY_WORD[name])] if name in BY_WORD else [])
        if not name.startswith("OBJ_"):
            found[f"{name} holds"] = (info.state.first_seq, info.state.last_seq, info.state.messages)
        for consumer in await jetstream.consumers_info(name):
            found[f"{name} {consumer.name}"] = (consumer.config, consumer.num_ack_pending, consumer.ack_floor)
    return found


@pytest.mark.parametrize("service", KEPT_APART)
async def test_no_reply_is_a_command(keys: Keys, node: Node, service: str) -> None:
    """No reply deletes, purges, changes, adds or acknowledges."""
    async with connect(keys, node, service) as bus, connect(keys, node, OPERATOR) as operator:
        taken = await (await operator.client.jetstream().pull_subscribe_bind(DISPATCHER, JOB_LOG)).fetch(
            timeout=TIMEOUT_S
        )
        messages = forbidden_messages(service, list(commands()))
        before = await state(operator)
        await send_through_replies(bus, service, [*messages, (taken[0].reply, b"+TERM")])
        await purge_through_reply(operator)
        after = await state(operator)

    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert len(messages) > 50
    changed -= {f"{own_stream(service)} holds"}  # the stored bodies
    assert changed == {OWNED, f"{OWNED} holds", f"{JOB_EV} holds"}  # by the operator


@pytest.mark.parametrize("service", KEPT_APART)
async def test_no_answer_is_stored(keys: Keys, node: Node, service: str) -> None:
    """No reply becomes a job in the log or the queue, an event, a record or an image."""
    submit, work = (message.model_dump_json(exclude_none=True).encode() for message in (SUBMIT, WORK))
    messages = [(subjects.submission("interactive", "ann", "j2"), submit)]
    messages += [(subjects.queue_entry(JobClass.INTERACTIVE, task, "ann", "j2"), work) for task in Task]
    messages += [(subject, b"{}") for subject in BY_WORD.values()]
    messages += [(subjects.object_entry(name.removeprefix("OBJ_"), "e"), b"{}") for name in STREAMS if "OBJ_" in name]
    messages = [message for message in messages if not message[0].startswith(own_subject(service, 0)[:-1])]
    async with connect(keys, node, service) as bus, connect(keys, node, OPERATOR) as operator:
        before = {stream: await stored_in(operator, stream) for stream in STREAMS}
        await send_through_replies(bus, service, messages)
        await purge_through_reply(operator)
        after = {stream: await stored_in(operator, stream) for stream in STREAMS}

    added = {stream: sorted(set(after[stream]) - set(before[stream])) for stream in STREAMS}
    own = own_stream(service)
    assert {stream: new for stream, new in added.items() if new} == {
        own: [(seq, own_subject(service, n)) for n, (seq, _) in enumerate(added[own])],
        JOB_EV: [(2, subjects.end("marker"))],
    }


async def stored_in(operator: Bus, stream: str) -> list[tuple[int, str]]:
    return [(message.seq, message.subject) for message in await operator.history(stream, ">")]


@pytest.mark.parametrize("service", KEPT_APART)
async def test_no_answer_reaches_another_service(keys: Keys, node: Node, service: str) -> None:
    """No reply becomes another service's request, reply or job event."""
    reached = []
    async with connect(keys, node, service) as bus:
        for name in sorted({*DUTIES, OPERATOR} - {service}):
            heard = (inbox_of(name),) if name == OPERATOR else permissions(name).subscribe
            async with connect(keys, node, name) as other:
                listening = [await other.client.subscribe(subject) for subject in heard]
                await other.client.flush()
                await send_through_replies(
                    bus, service, forbidden_messages(service, [(_one_of(subject), b"{}") for subject in heard])
                )
                await other.client.flush()
                reached += [(name, item.subject) for item in listening if item.pending_msgs]

    assert reached == []


def _one_of(pattern: str) -> str:
    return pattern.replace("*", "x").replace(">", "x")


async def test_the_broker_passes_on_what_it_is_told_to(node: Node) -> None:
    """The broker's report lists these imports and its own imports from the system account."""
    told = {passage.importer: set[tuple[str, str]]() for passage in account_imports()}
    for passage in account_imports():
        told[passage.importer].add((passage.exporter, passage.subject))
    async with httpx.AsyncClient(base_url=node.monitor_url) as monitor:
        for account, wanted in told.items():
            detail = (await monitor.get("/accountz", params={"acc": account})).json()["account_detail"]
            taken = {(item["account"], item["subject"]) for item in detail["imports"] if not item["invalid"]}

            assert {item for item in taken if item[0] != "SYS"} == wanted
            assert (("SYS", "$JS.API.>") in taken) == detail["jetstream_enabled"] == (account == STORE)


@pytest.mark.parametrize("account", sorted({passage.importer for passage in account_imports()}))
def test_nothing_passes_twice(account: str) -> None:
    """A message on two imports would be stored twice."""
    taken = [
        passage.subject for passage in account_imports() if passage.importer == account and passage.exporter == STORE
    ]
    pairs = [(one, other) for one in taken for other in taken if one != other and matches(one, other)]

    assert pairs == []


async def test_a_question_is_answered_once(keys: Keys, node: Node) -> None:
    """The broker sends no second reply with an error for an account without streams."""
    async with connect(keys, node, "gateway") as gateway:
        inbox = gateway.client.new_inbox()
        answers = await gateway.client.subscribe(inbox)
        await gateway.client.publish(subjects.api("STREAM.NAMES"), b"", reply=inbox)
        first = json.loads((await answers.next_msg(TIMEOUT_S)).data)
        await gateway.request(subjects.api("STREAM.LIST"))

        assert sorted(first["streams"]) == sorted(STREAMS)
        assert answers.pending_msgs == 0
