"""Services for tests of whole jobs: in the test's own event loop, or as processes that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from services.a100worker import service as a100worker
from services.a100worker.settings import Settings as WorkerSettings
from services.jobmanager import service as jobmanager
from services.jobmanager.settings import Settings as ManagerSettings
from shared import jobs, rpc, subjects
from shared.errors import Unavailable, WrongLastSequence
from shared.messages import Cancelled, Done, Failed, HealthReply, HealthRequest, JobSubmit, Progress, Started, Task
from shared.settings import NatsSettings, StreamSettings
from shared.topology import JOB_EV
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from typing import Self

    from shared.bus import Bus, StoredMessage
    from shared.messages import JobEvent

ROOT = Path(__file__).parents[1]


class Desk:
    """Submits jobs and waits for their events and outcomes."""

    def __init__(self, bus: Bus, nats_url: str, streams: StreamSettings, photo: str) -> None:
        """`photo` is the hash of a stored upload."""
        self.bus = bus
        self.photo = photo
        self._nats = NatsSettings(url=nats_url)
        self._streams = streams

    async def submit(
        self, job_id: str, prompt: str = "", *, user: str = "u1", job_class: str = "interactive", **fields: object
    ) -> int:
        """Log a job and return its sequence; the default is a white balance of the photo."""
        job = JobSubmit.model_validate({"task": Task.WHITE_BALANCE, "image": self.photo, "prompt": prompt, **fields})
        return await self._publish(subjects.submission(job_class, user, job_id), job)

    async def submit_raw(self, job_id: str, body: bytes) -> int:
        """Log a body as it is and return its sequence."""
        return await self._publish(subjects.submission("interactive", "ops", job_id), body)

    async def _publish(self, subject: str, message: JobSubmit | bytes) -> int:
        """Once, also where the broker's answer comes too late and it is sent again."""
        return await self.bus.publish(subject, message, msg_id=uuid4().hex)

    async def cancel(self, job_id: str) -> bool:
        """End the job as the gateway does; return whether it had not ended before."""
        event = Cancelled(job_id=job_id)
        try:
            await self.bus.publish_first(JOB_EV, subjects.end(job_id), event, msg_id=f"{job_id}.cancel")
        except WrongLastSequence:
            return False
        return True

    async def stored_events(self, job_id: str) -> list[StoredMessage]:
        """Return the messages of a job in JOB_EV."""
        return await self.bus.history(JOB_EV, subjects.events_of(job_id))

    async def events(self, job_id: str) -> list[JobEvent]:
        """Return the events of a job so far; all of them must be valid."""
        found = [jobs.parse_event(stored) for stored in await self.stored_events(job_id)]
        assert None not in found
        return [event for event in found if event is not None]

    async def story(self, job_id: str) -> list[str]:
        """Return the types of its events, each run of the same type once."""
        types = [event.type for event in await self.events(job_id)]
        return [kind for number, kind in enumerate(types) if number == 0 or kind != types[number - 1]]

    async def attempts(self, job_id: str) -> list[int]:
        """Return the attempts that have begun."""
        return [event.attempt for event in await self.events(job_id) if isinstance(event, Started)]

    async def step(self, job_id: str) -> int:
        """How far it is."""
        return max((event.step or 0 for event in await self.events(job_id) if isinstance(event, Progress)), default=0)

    async def started(self, job_id: str) -> None:
        """Wait until a worker has done at least one step of it."""

        async def begun() -> bool:
            return await self.step(job_id) > 0

        await wait_until(begun, f"{job_id} is running")

    async def started_again(self, job_id: str) -> None:
        """Wait until a worker reached a step of the job and has not returned it since."""

        async def at_work() -> bool:
            events = await self.events(job_id)
            return bool(events) and isinstance(events[-1], Progress)

        await wait_until(at_work, f"{job_id} is running")

    async def outcome(self, job_id: str) -> Done | Failed | Cancelled:
        """Wait for the end of a job; exactly one end is stored, ever."""

        async def has_ended() -> bool:
            return await self.bus.last(JOB_EV, subjects.end(job_id)) is not None

        await wait_until(has_ended, f"{job_id} has ended")
        (end,) = await self.bus.history(JOB_EV, subjects.end(job_id))
        event = jobs.parse_event(end)
        assert isinstance(event, Done | Failed | Cancelled)
        return event

    async def done(self, job_id: str) -> Done:
        """Wait for a job's result."""
        end = await self.outcome(job_id)
        assert isinstance(end, Done), end
        return end

    async def failed(self, job_id: str) -> Failed:
        """Wait for a job's failure."""
        end = await self.outcome(job_id)
        assert isinstance(end, Failed), end
        return end

    @asynccontextmanager
    async def manager(self, *, lookahead: int = 8, compare_s: float = 5.0, **more: Any) -> AsyncIterator[None]:
        """Provide a job manager; `more` are further settings."""
        stop = asyncio.Event()
        chosen = {"lookahead": lookahead, "compare_s": compare_s, **more}
        settings = ManagerSettings(nats=self._nats, streams=self._streams, **chosen)
        async with self._running(jobmanager.run(settings, stop), jobmanager.NAME, settings.instance, stop):
            yield

    @asynccontextmanager
    async def worker(
        self, backend: str = "scripted", *, name: str = "w1", drain_s: float = 3.0, **more: Any
    ) -> AsyncIterator[asyncio.Event]:
        """Run a worker; the event that it yields stops it like a signal. `more` are settings of its engine."""
        stop = asyncio.Event()
        settings = WorkerSettings(
            nats=self._nats,
            streams=self._streams,
            backend=backend,
            name=name,
            drain_s=drain_s,
            idle_poll_s=0.05,
            retry_delay_s=0.05,
            **more,
        )
        async with self._running(a100worker.run(settings, stop), a100worker.NAME, settings.instance, stop):
            yield stop

    @asynccontextmanager
    async def _running(
        self, service: Awaitable[None], name: str, instance: str, stop: asyncio.Event
    ) -> AsyncIterator[None]:
        async def run() -> None:
            await service

        async with asyncio.TaskGroup() as group:
            group.create_task(run(), name=name)
            await wait_until(lambda: self._healthy(name, instance), f"{instance} is healthy")
            try:
                yield
            finally:
                stop.set()

    async def _healthy(self, name: str, instance: str) -> bool:
        """Return whether this instance is healthy; another one may reply in its place."""
        try:
            reply = await rpc.call(self.bus, subjects.health(name), HealthRequest(), HealthReply, timeout_s=1)
        except Unavailable:
            return False
        return (reply.status, reply.instance) == ("healthy", instance)

    def worker_process(self, backend: str = "scripted", **variables: str) -> WorkerProcess:
        """Return a worker as a context manager."""
        own = {
            "NATS_URL": self._nats.url,
            "A100WORKER_BACKEND": backend,
            "A100WORKER_IDLE_POLL_S": "0.05",
            "STREAMS_LEASE_S": str(self._streams.lease_s),
            "STREAMS_MAX_DELIVER": str(self._streams.max_deliver),
            "STREAMS_PICTURE_BYTES": str(self._streams.picture_bytes),
        }
        return WorkerProcess({**os.environ, **own, **variables})


@asynccontextmanager
async def service_process(
    service: str, descriptors: int | None = None, /, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m services.<service>` while the block runs. It may have few `descriptors`; its log is piped."""
    limit = "" if descriptors is None else f"ulimit -n {descriptors} && "
    started = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f'{limit}exec "$0" -m services.{service}', sys.executable),
        cwd=ROOT,
        env=os.environ | variables,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


class WorkerProcess:
    """`python -m services.a100worker`; at the end of the block it is gone."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.a100worker", cwd=ROOT, env=self._environment
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await self.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def pause(self) -> None:
        """Let it hang, as a machine that swaps does."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Return its exit code."""
        return await self._process.wait()


def script(steps: int, interval_ms: float = 0) -> str:
    """Return the prompt that makes the scripted engine take so many steps, so far apart."""
    return json.dumps({"steps": steps, "interval_ms": interval_ms})
