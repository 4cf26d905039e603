"""How a job that cannot be run ends: a dead letter that holds all of it, then its terminal event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from shared import subjects
from shared.errors import WrongLastSequence
from shared.messages import DeadLetter, Failed
from shared.topology import JOB_EV

if TYPE_CHECKING:
    from shared.bus import Bus

log = logging.getLogger(__name__)


async def bury(bus: Bus, letter: DeadLetter) -> None:
    """Keep the dead letter, then end the job. Both steps may be repeated."""
    await bus.publish(subjects.dead(letter.reason, letter.job_id), letter, msg_id=f"{letter.job_id}.dead")
    failed = Failed(job_id=letter.job_id, code=letter.reason, message=letter.message, attempt=letter.attempts)
    try:
        await bus.publish_first(JOB_EV, subjects.end(letter.job_id), failed, msg_id=f"{letter.job_id}.dead.end")
    except WrongLastSequence:
        log.info("job.ended-already", extra={"job_id": letter.job_id})
