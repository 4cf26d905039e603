"""The delays of retries, and when a failing endpoint is disabled. It does no I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from shared.webhook_messages import WebhookState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.jobmanager.webhooks.calls import Outcome

_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The delays before each retry, and the time after which a failing endpoint is disabled."""

    delays_s: Sequence[float]
    disable_after_s: float

    def delay_s(self, outcome: Outcome, attempts: int) -> float | None:
        """Return the seconds until the next attempt after `attempts` earlier ones; None for no more."""
        if outcome.is_success or outcome.status == HTTPStatus.GONE or attempts >= len(self.delays_s):
            return None
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 (spreads calls)
        return max(self.delays_s[attempts] * jitter, outcome.retry_after_s)

    def state_after(self, outcome: Outcome, state: WebhookState, now: float) -> WebhookState:
        """Return the endpoint's state after a call; `now` is in seconds since the epoch."""
        if outcome.is_success:
            return WebhookState()
        since = state.failing_since or now
        if outcome.status == HTTPStatus.GONE:
            note = "Disabled: the endpoint answered 410 Gone."
            return WebhookState(failing_since=since, disabled_at=now, note=note)
        if now - since > self.disable_after_s:
            days = self.disable_after_s / 86_400
            note = f"Disabled: no call has succeeded for {days:g} days. {outcome.error}"
            return WebhookState(failing_since=since, disabled_at=now, note=note)
        return WebhookState(failing_since=since)
