"""The declaration: it is applied to the broker each time, and each failure has a sentence."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import (
    AckPolicy,
    DeliverPolicy,
    DiscardPolicy,
    PersistMode,
    ReplayPolicy,
    RetentionPolicy,
    StorageType,
    StoreCompression,
)

from shared import declaring, deliveries, subjects, topology
from shared.bus import open_bus
from shared.declaring import declare_streams, differences
from shared.errors import BrokerUnavailable, ConfigError
from shared.messages import Cancelled, JobClass, Task
from shared.settings import NatsSettings, StreamSettings
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, JOBS, build_topology, worker_consumer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus

SETTINGS = StreamSettings(lease_s=2.0, picture_bytes=1024**3)


async def drift(bus: Bus, settings: StreamSettings) -> dict[str, dict[str, tuple[object, object]]]:
    """Where the broker differs from the declaration."""
    jetstream = bus.client.jetstream()
    declared = build_topology(settings)
    found = {str(wanted.name): differences(wanted, (await jetstream.stream_info(str(wanted.name))).config)
             for wanted in declared.streams}  # fmt: skip
    for stream, wanted in declared.consumers:
        name = str(wanted.durable_name)
        live = (await jetstream.consumer_info(stream, name)).config
        found[name] = {field: (value, getattr(live, field)) for field, value in vars(wanted).items()
                       if value is not None and field != "name" and getattr(live, field) != value}  # fmt: skip
    return {name: fields for name, fields in found.items() if fields}


async def test_the_broker_looks_as_declared(bare_bus: Bus) -> None:
    """Every field of every stream and consumer."""
    await declare_streams(bare_bus, SETTINGS)

    assert await drift(bare_bus, SETTINGS) == {}


def test_everything_is_bounded_and_expires() -> None:
    """Each stream and bucket, in bytes and (but for endpoints) in time; and every reader is declared."""
    declared = build_topology(SETTINGS)

    # Endpoints of webhooks end with the key that made them.
    assert [stream.name for stream in declared.streams if not (stream.max_age or 0) > 0] == [topology.WEBHOOKS]
    assert [stream.name for stream in declared.streams if not (stream.max_bytes or 0) > 0] == []
    assert all(consumer.durable_name for _, consumer in declared.consumers)


def test_no_stream_is_compressed() -> None:
    """Or nats-server 2.15 cannot open the copy of a server that was killed."""
    streams = build_topology(StreamSettings()).streams

    assert {stream.compression for stream in streams} <= {None, StoreCompression.NONE}


async def test_declaring_twice_changes_nothing(bare_bus: Bus) -> None:
    """The job manager does it at every start, and after each reconnect."""
    await declare_streams(bare_bus, SETTINGS)
    created = (await bare_bus.client.jetstream().stream_info(JOB_LOG)).created
    await declare_streams(bare_bus, SETTINGS)

    assert await drift(bare_bus, SETTINGS) == {}
    assert (await bare_bus.client.jetstream().stream_info(JOB_LOG)).created == created


async def test_all_services_may_declare_at_once(bare_bus: Bus, nats_url: str) -> None:
    """They start together and none of them is first."""

    async def start() -> None:
        async with open_bus(NatsSettings(url=nats_url), "service") as bus:
            await declare_streams(bus, SETTINGS)

    await asyncio.gather(*(start() for _ in range(5)))

    assert await drift(bare_bus, SETTINGS) == {}


@pytest.mark.parametrize(
    "changed",
    [
        SETTINGS.model_copy(update={"lease_s": 7.0}),
        SETTINGS.model_copy(update={"max_deliver": 5}),
        SETTINGS.model_copy(update={"queue_limit": 3}),
        SETTINGS.model_copy(update={"picture_bytes": 2 * 1024**3}),
    ],
    ids=["lease", "deliveries", "queue", "pictures"],
)
async def test_a_changed_setting_changes_the_broker(bus: Bus, changed: StreamSettings) -> None:
    """Without loss of stored messages."""
    seq = await bus.publish(subjects.end("j1"), Cancelled(job_id="j1"))

    await declare_streams(bus, changed)

    assert await drift(bus, changed) == {}
    assert await bus.get(JOB_EV, seq) is not None


async def test_a_drift_is_mended(bus: Bus, stream_settings: StreamSettings) -> None:
    """Changes by hand are reverted at the next start."""
    jetstream = bus.client.jetstream()
    config = (await jetstream.stream_info(JOB_Q)).config
    await jetstream.update_stream(config.evolve(max_msgs_per_subject=9, discard_new_per_subject=False))
    await jetstream.delete_consumer(JOB_EV, topology.PROJECTOR)

    await declare_streams(bus, stream_settings)

    assert await drift(bus, stream_settings) == {}


@pytest.mark.parametrize(
    "wrong",
    [{"storage": StorageType.MEMORY, "max_bytes": 1024**2}, {"retention": RetentionPolicy.WORK_QUEUE}],
    ids=["storage", "retention"],
)
async def test_what_cannot_be_changed_is_an_error_with_its_cure(bare_bus: Bus, wrong: dict[str, Any]) -> None:
    """A stream in memory would lose jobs; only the operator may delete it."""
    log = next(stream for stream in build_topology(SETTINGS).streams if stream.name == JOB_LOG)
    await bare_bus.client.jetstream().add_stream(log.evolve(**wrong))

    with pytest.raises(ConfigError, match=r"JOB_LOG exists .*; delete it with `nats stream rm JOB_LOG`\.$"):
        await declare_streams(bare_bus, SETTINGS)


async def test_too_little_room_is_an_error_with_its_cure(bare_bus: Bus) -> None:
    """The sentence names the variable."""
    settings = SETTINGS.model_copy(update={"picture_bytes": 10**16})

    with pytest.raises(ConfigError, match=r"too little storage for OBJ_inputs; lower STREAMS_PICTURE_BYTES"):
        await declare_streams(bare_bus, settings)


async def test_a_single_broker_keeps_no_copies(bare_bus: Bus) -> None:
    """The error names the setting if three copies are declared on a single server."""
    with pytest.raises(ConfigError, match=r"^The broker is not a cluster and cannot keep 3 copies; set STREAMS"):
        await declare_streams(bare_bus, SETTINGS.model_copy(update={"replicas": 3}))


async def test_what_is_as_declared_is_not_weak(bus: Bus, stream_settings: StreamSettings) -> None:
    """Nor is a stream that is safer than declared, as one of a newer release may be."""
    jetstream = bus.client.jetstream()
    for stream, change in ((JOB_LOG, {"max_age": 0, "max_bytes": 2 * 1024**3}), (JOBS, {"discard": DiscardPolicy.NEW})):
        await jetstream.update_stream((await jetstream.stream_info(stream)).config.evolve(**change))

    assert await declaring.find_weaknesses(bus, stream_settings) == []


@pytest.mark.parametrize(
    ("stream", "change", "what", "edit"),
    [
        (JOB_LOG, {"max_age": 3600.0}, "max_age 3600.0 instead of 604800.0", "--max-age=604800s"),
        (JOB_LOG, {"max_msgs": 9}, "max_msgs 9 instead of -1", "--max-msgs=-1"),
        (JOB_Q, {"discard_new_per_subject": False}, "discard_new_per_subject False instead of True",
         "--discard-per-subject"),
        (JOB_EV, {"max_msgs_per_subject": 9, "max_bytes": 9999},
         "max_bytes 9999 instead of 536870912 and max_msgs_per_subject 9 instead of 500",
         "--max-bytes=536870912 --max-msgs-per-subject=500"),
        ("OBJ_inputs", {"discard": DiscardPolicy.OLD}, "discard old instead of new", "--discard=new"),
    ],
)  # fmt: skip
async def test_a_weakness_comes_with_the_line_that_mends_it(
    bus: Bus, stream_settings: StreamSettings, stream: str, change: dict[str, Any], what: str, edit: str
) -> None:
    """For each field that may be changed by hand."""
    jetstream = bus.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(stream)).config.evolve(**change))

    assert await declaring.find_weaknesses(bus, stream_settings) == [
        f"{stream} has {what}; correct it with `nats stream edit {stream} {edit} -f`."
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"storage": StorageType.MEMORY, "max_bytes": 1024**2},
            "max_bytes 1048576 instead of 536870912 and storage memory instead of file",
        ),
        ({"persist_mode": PersistMode.ASYNC}, "persist_mode async instead of default"),
    ],
)
async def test_a_weakness_for_good_is_told_too(
    bus: Bus, stream_settings: StreamSettings, wrong: dict[str, Any], words: str
) -> None:
    """If a stream was created by hand with a storage that cannot be changed."""
    jetstream = bus.client.jetstream()
    log = (await jetstream.stream_info(JOB_LOG)).config
    await jetstream.delete_stream(JOB_LOG)
    await jetstream.add_stream(log.evolve(**wrong))

    assert await declaring.find_weaknesses(bus, stream_settings) == [
        f"JOB_LOG has {words}; delete it with `nats stream rm JOB_LOG -f`, the job manager creates it again."
    ]


async def test_a_missing_stream_is_a_weakness(bus: Bus, stream_settings: StreamSettings) -> None:
    """And so are fewer copies than declared, of every stream."""
    await bus.client.jetstream().delete_stream(JOB_EV)
    three = stream_settings.model_copy(update={"replicas": 3})

    told = await declaring.find_weaknesses(bus, three)

    assert "JOB_EV is missing; start the job manager, which creates it." in told
    assert "JOB_Q has num_replicas 1 instead of 3; correct it with `nats stream edit JOB_Q --replicas=3 -f`." in told
    assert len(told) == len(build_topology(three).streams)


async def test_a_consumer_that_lost_its_folder_is_replaced(bus: Bus, tmp_path: Path) -> None:
    """The broker does this itself, now and then, when a consumer is created during its deletion."""
    await bus.publish(subjects.queue_entry(JobClass.INTERACTIVE, Task.REMOVAL, "u1", "j1"), b"{}")
    consumer = worker_consumer(JobClass.INTERACTIVE, Task.REMOVAL)
    (folder,) = (tmp_path / "nats").rglob(f"obs/{consumer}")
    shutil.rmtree(folder)

    await declare_streams(bus, SETTINGS)

    assert folder.is_dir()
    assert await drift(bus, SETTINGS) == {}
    assert await deliveries.pull(bus, JOB_Q, consumer, wait_s=1.0) is not None


DRIFTS = [
    (JOB_LOG, topology.DISPATCHERS[JobClass.BATCH], {"ack_policy": AckPolicy.NONE, "max_ack_pending": None,
                                                     "ack_wait": None}),
    (JOB_LOG, topology.DISPATCHERS[JobClass.BATCH], {"ack_policy": AckPolicy.ALL}),
    (JOB_LOG, topology.DISPATCHERS[JobClass.BATCH], {"deliver_policy": DeliverPolicy.NEW}),
    (JOB_EV, topology.PROJECTOR, {"deliver_policy": DeliverPolicy.LAST}),
    (topology.ADVISORY, topology.REAPER, {"deliver_subject": "elsewhere"}),
    (JOB_Q, worker_consumer(JobClass.BATCH, Task.REMOVAL), {"replay_policy": ReplayPolicy.ORIGINAL}),
]  # fmt: skip


async def replace_consumer(bus: Bus, stream: str, name: str, change: dict[str, Any]) -> None:
    jetstream = bus.client.jetstream()
    wanted = next(each for _, each in build_topology(SETTINGS).consumers if each.durable_name == name)
    await jetstream.delete_consumer(stream, name)
    await jetstream.add_consumer(stream, config=wanted.evolve(**change))


@pytest.mark.parametrize(("stream", "name", "change"), DRIFTS, ids=str)
async def test_a_consumer_that_cannot_be_changed_is_replaced(
    bus: Bus, stream: str, name: str, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The stream keeps its messages, so it is safe; the log has the broker's reason."""
    await replace_consumer(bus, stream, name, change)

    await declare_streams(bus, SETTINGS)

    (line,) = [record for record in caplog.records if record.msg == "streams.consumer-replaced"]
    assert await drift(bus, SETTINGS) == {}
    assert (vars(line)["stream"], vars(line)["consumer"]) == (stream, name)
    assert "can not " in vars(line)["reason"]


async def test_a_consumer_with_a_running_job_is_not_replaced(bus: Bus) -> None:
    """Its job would run twice at once. The sentence names stream, consumer and command; the laptop has its own."""
    name = worker_consumer(JobClass.BATCH, Task.REMOVAL)
    await replace_consumer(bus, JOB_Q, name, {"replay_policy": ReplayPolicy.ORIGINAL})
    await bus.publish(subjects.queue_entry(JobClass.BATCH, Task.REMOVAL, "u1", "j1"), b"{}")
    delivery = await deliveries.pull(bus, JOB_Q, name, wait_s=1.0)
    assert delivery is not None

    for settings, cure in (
        (SETTINGS, f"delete it with `nats consumer rm JOB_Q {name} -f`"),
        (SETTINGS.model_copy(update={"repair": "python -m services --repair"}),
         "correct it with `python -m services --repair`, which deletes it"),
    ):  # fmt: skip
        with pytest.raises(
            ConfigError, match=rf"^The consumer {name} of the stream JOB_Q is not as .*; stop the"
        ) as told:
            await declare_streams(bus, settings)
        assert told.value.message.endswith(f"stop the workers, then {cure}.")
    await delivery.ack()
    await declare_streams(bus, SETTINGS)

    assert await drift(bus, SETTINGS) == {}


async def test_the_brokers_own_words_are_in_the_error(bus: Bus) -> None:
    """For a refusal that this release does not foresee."""
    await bus.client.jetstream().delete_stream(topology.JOB_DLQ)
    await bus.client.jetstream().add_stream(name="other", subjects=["job.dlq.*"], max_bytes=1024)

    with pytest.raises(BrokerUnavailable, match=r"^The broker refuses the stream JOB_DLQ: subjects overlap"):
        await declare_streams(bus, SETTINGS)


async def test_force_deletes_what_cannot_be_changed(bus: Bus) -> None:
    """For `python -m services --repair`: a stream with another storage loses its messages."""
    jetstream = bus.client.jetstream()
    log = (await jetstream.stream_info(JOB_LOG)).config
    await jetstream.delete_stream(JOB_LOG)
    await jetstream.add_stream(log.evolve(storage=StorageType.MEMORY, max_bytes=1024**2))

    await declare_streams(bus, SETTINGS, force=True)

    assert await drift(bus, SETTINGS) == {}


async def test_without_a_broker_nothing_is_declared(nats_server: NatsServer, bare_bus: Bus) -> None:
    """The caller gets the error and tries again."""
    await nats_server.kill()
    await wait_until(lambda: not bare_bus.is_connected, "the client has noticed")

    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(declare_streams(bare_bus, SETTINGS), 30)


async def test_the_broker_itself_refuses_an_unknown_class(bus: Bus) -> None:
    """A submission that no dispatcher would read is not stored."""
    with pytest.raises(BrokerUnavailable):
        await bus.publish(subjects.submission("urgent", "u1", "j1"), b"{}", deadline_s=0.5)


@pytest.mark.parametrize("job_class", JobClass)
@pytest.mark.parametrize("task", Task)
async def test_each_kind_of_job_has_its_own_queue(bus: Bus, job_class: JobClass, task: Task) -> None:
    """A worker that asks for one kind gets no other, and every kind can be asked for."""
    await bus.publish(subjects.queue_entry(job_class, task, "u1", "j1"), b"{}")
    others = [worker_consumer(a, b) for a in JobClass for b in Task if (a, b) != (job_class, task)]

    assert [await deliveries.pull(bus, JOB_Q, other) for other in others] == [None] * 5
    assert await deliveries.pull(bus, JOB_Q, worker_consumer(job_class, task), wait_s=1.0) is not None


async def test_the_view_can_be_read_by_any_client(bus: Bus) -> None:
    """The bucket `jobs` is an ordinary key-value bucket."""
    await bus.publish(subjects.job_record("u1", "j1"), b"the record")
    bucket = await bus.client.jetstream().key_value("jobs")

    entry = await bucket.get("u1.j1")

    assert entry.value == b"the record"


async def test_a_cache_makes_room_and_a_store_does_not() -> None:
    """Cached data can be computed again; an upload that a job names cannot."""
    policies = {stream.name: stream.discard for stream in build_topology(SETTINGS).streams}

    assert policies["OBJ_cache"] is DiscardPolicy.OLD
    assert policies["OBJ_inputs"] is policies["OBJ_results"] is DiscardPolicy.NEW
