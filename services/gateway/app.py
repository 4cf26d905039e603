"""The composition root of the HTTP side: parts, routes and error handlers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.formparsers import MultiPartParser

from services.gateway.access.key_limits import StreamLimits
from services.gateway.access.ownership import SingleOwner, StoredOwnership
from services.gateway.api.routes import debug, generation, images, masks, system, visualization
from services.gateway.background import run_background_tasks
from services.gateway.core.admission import Admission
from services.gateway.core.durability import Durability
from services.gateway.core.feed import Feed
from services.gateway.core.fullness import Fullness
from services.gateway.core.jobs import Jobs
from services.gateway.core.stores import Stores
from services.gateway.core.submission_budget import Rate, SubmissionBudget
from services.gateway.core.system_health import SystemHealth
from services.gateway.core.uploads import Uploads
from services.gateway.core.workers import Workers
from services.gateway.decoding.decoders import Decoders
from services.gateway.deps import Deps
from services.gateway.http import exception_handlers, static_files
from services.gateway.limits.newest import NewestOnly
from services.gateway.v1.results.assembly import Assembly
from services.gateway.v1.results.chains import Chains
from services.gateway.v1.results.renditions import Renditions
from services.gateway.v1.routes import docs
from services.gateway.v1.routes import jobs as v1_jobs
from services.gateway.webhooks.endpoints import Endpoints
from services.gateway.webhooks.key_watch import KeyWatch
from shared import VERSION
from shared.bus import open_bus
from shared.image_formats import report_missing_decoders
from shared.image_store import CachedImageStore, NatsImageStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.access.authentication import Authenticator
    from services.gateway.access.ownership import Ownership
    from services.gateway.settings import Settings
    from shared.bus import Bus
    from shared.messages import JobEvent

NAME = "gateway"


def create_app(deps: Deps) -> FastAPI:
    """Assemble the routes. Authorization, CORS and the body limit wrap the app in http/middleware.py."""
    app = FastAPI(
        title="ArtMancer",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it would see the images
    )
    app.state.deps = deps
    # The budget of the bodies counts a form, too. A disk in memory would cost as much, and its folder is small.
    MultiPartParser.spool_max_size = deps.settings.max_body_bytes
    exception_handlers.install(app)
    # A request is compared with one route after the other, so the frequent ones come first. Not `include_router`: it
    # compares twice, and with whole routers, which takes 0.2 ms.
    of_v1 = sorted(docs.ROUTERS, key=lambda router: router is not v1_jobs.router)
    others = (masks, images, system, debug, visualization, docs)
    routers = (generation.router, *of_v1, *(routes.router for routes in others))
    app.router.routes.extend(route for router in routers for route in router.routes)
    app.state.routes = list(app.router.routes)
    static_files.install(app)
    return app


def create_deps(settings: Settings, bus: Bus, authenticator: Authenticator | None, decoders: Decoders) -> Deps:
    """Create the parts."""
    stored = NatsImageStore(bus, decoders.probe)
    store = CachedImageStore(stored, "results", settings.results_in_memory_bytes)
    ownership: Ownership = SingleOwner(bus) if authenticator is None else StoredOwnership(bus)
    share = 1.0 if authenticator is None else settings.store_share
    stores = Stores(bus, NatsImageStore(bus, decoders.probe, verifies=False), ownership, share)
    durability = Durability(bus, settings.streams)
    fullness = Fullness(bus)
    admission = Admission(total=settings.queue_limit_total, per_user=settings.queue_limit_per_user)
    workers = Workers(bus)
    feed = Feed(bus, partial(_note, admission, stores))
    webhooks = Endpoints(bus, settings.webhooks, None if authenticator is None else authenticator.signer)
    budget = None if authenticator is None else _budget(settings)
    jobs = Jobs(bus, ownership, stores, admission, feed, settings.result_wait_s, budget)
    chains = Chains(bus, ownership, jobs)
    assembly = Assembly(bus, store, ownership, chains, settings.rendition_timeout_s)
    uploads = Uploads(store, ownership, stores, decoders, assembly)
    return Deps(
        settings=settings,
        bus=bus,
        images=store,
        ownership=ownership,
        decoders=decoders,
        uploads=uploads,
        stores=stores,
        chains=chains,
        renditions=Renditions(bus, jobs, uploads, chains, settings.rendition_timeout_s),
        feed=feed,
        admission=admission,
        jobs=jobs,
        durability=durability,
        fullness=fullness,
        system=SystemHealth(bus, durability, fullness, workers, settings.health_timeout_s),
        workers=workers,
        newest_previews=NewestOnly(),
        stream_limits=StreamLimits(total=settings.streams_at_once, per_key=settings.key_streams_at_once),
        webhooks=webhooks,
        webhook_key_watch=KeyWatch(bus, webhooks, authenticator),
        authenticator=authenticator,
        declared=asyncio.Event(),
    )


def _budget(settings: Settings) -> SubmissionBudget:
    jobs = Rate(settings.submit_rate_per_s, settings.submit_burst)
    return SubmissionBudget(jobs, Rate(settings.submit_bytes_per_s, settings.submit_bytes_burst))


def _note(admission: Admission, stores: Stores, event: JobEvent) -> None:
    admission.note(event)
    stores.note(event)


@asynccontextmanager
async def open_app(settings: Settings, authenticator: Authenticator | None) -> AsyncIterator[FastAPI]:
    """Yield the app at once; it connects to the broker as soon as one responds. Raises ConfigError."""
    report_missing_decoders()
    async with open_bus(settings.nats, NAME, wait=False) as bus, Decoders(settings.reads_at_once) as decoders:
        deps = create_deps(settings, bus, authenticator, decoders)
        async with run_background_tasks(deps):
            yield create_app(deps)
