"""The life of a service process: settings, logging, signals, and a stop that lets running work finish."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from shared import settings as settings_module
from shared import telemetry, tracing
from shared.errors import EXIT_CONFIG, EXIT_HUNG, ConfigError, EngineHung
from shared.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

S = TypeVar("S", bound=ServiceSettings)
_TIDY_UP_S = 1.0
_CLOSE_BUS_S = 2.0  # the end of `open_bus` may take this long if the broker hangs
log = logging.getLogger(__name__)


def main(name: str, settings_type: type[S], run: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    """Run one service until SIGINT or SIGTERM, then exit.

    The exit code is 0 after a stop, 78 for a wrong setting, 70 if a task or an engine hangs, and 1 after a crash. A
    thread that still computes after a stop is abandoned: no caller waits for it, and Python cannot end it.

    `run` gets the settings and an event that is set when the service should stop; it returns when it has drained.
    """
    try:
        settings = settings_module.load(settings_type)
        telemetry.configure(settings.log.level, form=settings.log.format, service=name, instance=settings.instance)
        if settings.log.format == "json":
            telemetry.log_native_output()
        for variable, instead in settings_module.find_obsolete(settings).items():
            log.warning("settings.obsolete", extra={"setting": variable, "instead": instead})
        tracing.configure(settings.trace, name, settings.instance)
        gc.freeze()  # objects from imports live as long as the process
        asyncio.run(_until_stopped(name, run, settings))
        _leave_threads(_TIDY_UP_S)
    except ConfigError as error:
        print(f"{name}: {error.message}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CONFIG)
    except Exception:
        log.exception("service.crashed", extra={"service": name})
        sys.exit(1)


async def race(*works: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> list[asyncio.Task[Any]]:
    """Run the coroutines until the first one ends or the time is over, cancel the others, return all as ended tasks.

    Raises the exception of the first task, in the order given, that failed.
    """
    tasks = [asyncio.create_task(work, name="lifecycle.race") for work in works]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    failures = [failure for task in tasks if not task.cancelled() and (failure := task.exception()) is not None]
    if failures:
        raise failures[0]
    return tasks


async def run_unless_stopped(stop: asyncio.Event, start: Coroutine[Any, Any, None]) -> None:
    """Run `start`; cancel it if the stop event is set first.

    Use it for the part of a start that has nothing to drain yet. Raises CancelledError at a stop, and any exception of
    `start`.
    """
    starting, _ = await race(start, stop.wait())
    await starting


async def _until_stopped(name: str, run: Callable[[S, asyncio.Event], Awaitable[None]], settings: S) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    log.info("service.starting", extra={"service": name})
    work = asyncio.create_task(_as_coroutine(run(settings, stop)), name=f"{name}.run")
    stopping = asyncio.create_task(stop.wait(), name=f"{name}.stopping")
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        # The service limits its own drain; this limit is for a drain that hangs.
        await asyncio.wait({work}, timeout=settings.drain_s + _CLOSE_BUS_S)
    for task in (work, stopping):
        task.cancel()
    await asyncio.wait({work}, timeout=_TIDY_UP_S)
    failure = _failure(work) if work.done() else EngineHung()
    if isinstance(failure, EngineHung) and not (stop.is_set() and work.done()):
        log.critical("service.hung", extra={"service": name})
        _leave(EXIT_HUNG)  # the interpreter would wait forever for a thread that hangs
    if failure is None or isinstance(failure, EngineHung):
        log.info("service.stopped", extra={"service": name})
        if not await _threads_end(loop):
            _leave(0)
    with contextlib.suppress(asyncio.CancelledError, EngineHung):
        await work


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


async def _threads_end(loop: asyncio.AbstractEventLoop) -> bool:
    ending = asyncio.create_task(loop.shutdown_default_executor(), name="lifecycle.threads")
    await asyncio.wait({ending}, timeout=_TIDY_UP_S)
    return ending.done()


def _leave_threads(within_s: float) -> None:
    """End the process now if other threads still run after this time. The interpreter would wait for each of them."""
    deadline = time.monotonic() + within_s
    others = [each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()]
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        _leave(0)


def _leave(code: int) -> NoReturn:
    """End the process without its threads. Exit handlers still run, so logs and spans are written."""
    atexit._run_exitfuncs()  # noqa: SLF001 (the interpreter calls it only after all threads have ended)
    os._exit(code)


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work
