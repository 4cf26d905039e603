"""The delays of retries, and the end of calls to a failing endpoint."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from services.jobmanager.webhooks.calls import Outcome
from services.jobmanager.webhooks.retry_rules import RetryRules
from shared.webhook_messages import WebhookState

RULES = RetryRules([10.0, 100.0], 3600.0)
NOW = 1_800_000_000.0


def outcome(status: int, retry_after_s: float = 0.0) -> Outcome:
    """Return the outcome of a call with an answer."""
    error = None if status < HTTPStatus.BAD_REQUEST else f"It answered {status}."
    return Outcome(12, status, error, retry_after_s)


@pytest.mark.parametrize(("attempts", "delay_s"), [(0, 10.0), (1, 100.0)])
def test_a_failed_call_is_repeated_after_its_delay(attempts: int, delay_s: float) -> None:
    """Jitter of a fifth spreads the calls."""
    chosen = RULES.delay_s(outcome(HTTPStatus.BAD_GATEWAY), attempts)

    assert chosen == pytest.approx(delay_s, rel=0.2)


@pytest.mark.parametrize(
    ("status", "attempts"), [(HTTPStatus.OK, 0), (HTTPStatus.GONE, 0), (HTTPStatus.BAD_GATEWAY, 2)]
)
def test_no_call_follows(status: int, attempts: int) -> None:
    """After a success, after 410, and after the last delay."""
    assert RULES.delay_s(outcome(status), attempts) is None


def test_a_longer_retry_after_counts() -> None:
    """The endpoint may ask for more time, not for less."""
    assert RULES.delay_s(outcome(HTTPStatus.TOO_MANY_REQUESTS, 500.0), 0) == 500.0
    assert RULES.delay_s(outcome(HTTPStatus.TOO_MANY_REQUESTS, 1.0), 0) == pytest.approx(10.0, rel=0.2)


@pytest.mark.parametrize(("failing_s", "is_disabled"), [(3599.0, False), (3601.0, True)])
def test_an_endpoint_that_fails_too_long_is_disabled(failing_s: float, is_disabled: bool) -> None:  # noqa: FBT001
    """The time counts from its first failure."""
    after = RULES.state_after(outcome(HTTPStatus.BAD_GATEWAY), WebhookState(failing_since=NOW - failing_s), NOW)

    assert after.failing_since == NOW - failing_s
    assert (after.disabled_at == NOW) is is_disabled


def test_a_success_clears_the_state() -> None:
    """A later failure then starts to count from zero."""
    assert RULES.state_after(outcome(HTTPStatus.OK), WebhookState(failing_since=NOW - 9), NOW) == WebhookState()


def test_gone_disables_at_once() -> None:
    """410 is the endpoint's own wish."""
    after = RULES.state_after(outcome(HTTPStatus.GONE), WebhookState(), NOW)

    assert after.disabled_at == NOW
    assert after.note == "Disabled: the endpoint answered 410 Gone."
