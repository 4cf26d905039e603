"""Runs one request for an edit, from its form to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.access.authentication import WRONG_KEY
from services.gateway.access.forwarded import origin_of, public_path
from services.gateway.access.principal import KeyScope
from services.gateway.http.client import release_body
from services.gateway.http.disconnect import cancel_on_disconnect
from services.gateway.http.sse import EventStream
from services.gateway.v1.image_edits.answers import answer_images, answer_urls
from services.gateway.v1.image_edits.batch import Batch, Outcome, submit_batch
from services.gateway.v1.image_edits.form import read_form
from services.gateway.v1.image_edits.preparation import prepare
from services.gateway.v1.image_edits.refusal import Refused
from services.gateway.v1.image_edits.rendering import Rendering
from services.gateway.v1.image_edits.stream import EditStream

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from services.gateway.access.principal import Principal
    from services.gateway.deps import Deps
    from services.gateway.v1.image_edits.preparation import PreparedEdit
    from services.gateway.v1.image_edits.schemas import EditFields
    from shared.messages import ImageRef

_NO_SCOPE = "An edit returns pictures: this API key needs the scopes write and read."
_TOO_LONG = "The edit takes longer than {:g} s. Send it with the header Idempotency-Key, and send it again to wait on."


async def run_edit(request: Request, deps: Deps, principal: Principal, key: str | None) -> Response:
    """Edit the photo of the request and return the answer, a stream if it was asked for.

    If the client disconnects, its jobs are cancelled, except those with an Idempotency-Key: it can request these again.
    Raises Refused, Busy, Unavailable, BrokerUnavailable.
    """
    if not principal.may(KeyScope.READ):
        raise Refused("insufficient_permissions", _NO_SCOPE, status=403)
    fields, edit = await _read(request, deps, principal)
    await release_body()  # the wait for the jobs needs none of it
    if edit.submission is None:
        batch, ready = Batch(principal.owner, (), outlives_client=True), [Outcome(result=edit.unchanged)] * fields.n
    else:
        batch = await submit_batch(deps.jobs, deps.uploads, principal.owner, key, edit.submission, fields.n)
        ready = []
    keeps_gps = deps.settings.gps == "keep"
    rendering = Rendering(deps.jobs, deps.renditions, principal.owner, fields, keeps_gps)
    if fields.stream:
        heartbeat_s = deps.settings.heartbeat_s
        stream = EditStream(deps.jobs, deps.images, batch, rendering, edit.size, heartbeat_s, ready)
        return EventStream(deps.reader(principal), b"", lambda: stream)
    outcomes = ready or await _wait(request, deps, batch)
    if not deps.reader(principal).may_read():
        raise Refused("invalid_api_key", WRONG_KEY, status=401)
    return await _answer(request, deps, principal, rendering, edit.size, outcomes)


async def _read(request: Request, deps: Deps, principal: Principal) -> tuple[EditFields, PreparedEdit]:
    form = await read_form(request)
    if form.fields.stream:
        deps.stream_limits.check(principal.key_id)
    deps.jobs.check_queue_limit(principal.owner)
    prepared = await prepare(deps.uploads, deps.workers, principal.owner, form)
    return form.fields, prepared


async def _wait(request: Request, deps: Deps, batch: Batch) -> list[Outcome]:
    limit_s = deps.settings.result_wait_s
    try:
        return await cancel_on_disconnect(request, batch.wait(deps.jobs, limit_s))
    except TimeoutError:
        await batch.cancel(deps.jobs)
        raise Refused("timeout", _TOO_LONG.format(limit_s), status=504) from None
    except BaseException:  # the client has gone, or the gateway stops
        await batch.cancel(deps.jobs)
        raise


async def _answer(
    request: Request, deps: Deps, principal: Principal, rendering: Rendering, size: str, outcomes: list[Outcome]
) -> Response:
    fields = rendering.fields
    if fields.response_format == "b64_json":
        rendered = [await rendering.render(outcome) for outcome in outcomes]
        return answer_images(deps.images, fields, size, rendered)
    sign = deps.url_signer(principal)

    def url_of(job_id: str | None, result: ImageRef) -> str:
        path = f"/v1/jobs/{job_id}/result" if job_id else f"/v1/images/{result.sha256}"
        return origin_of(request) + public_path(sign(path + rendering.query()))

    return answer_urls(url_of, fields, size, outcomes)
