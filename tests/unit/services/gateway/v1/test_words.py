"""The words of an edit reach engines that obey words, and are refused for all others."""

from __future__ import annotations

import pytest

from services.gateway.core.workers import Workers
from services.gateway.v1.image_edits.refusal import Refused
from services.gateway.v1.image_edits.words import choose_words
from shared.bus import Bus
from shared.messages import Task, TaskAbility, WorkerAbilities

pytestmark = pytest.mark.timeout(30)
WORDS = "make the rocket blue"


def workers_that_obey(*parameters: frozenset[str]) -> Workers:
    """Return the workers of a gateway, one for each set of parameters."""
    workers = Workers(Bus())
    for number, obeyed in enumerate(parameters):
        tasks = {Task.REMOVAL: TaskAbility(parameters=sorted(obeyed))}
        workers.note(WorkerAbilities(worker=f"w{number}", engine="e", tasks=tasks))
    return workers


async def test_words_reach_an_engine_that_obeys_them() -> None:
    """As they were sent; the names of the task are no words."""
    workers = workers_that_obey(frozenset({"prompt", "seed"}))

    assert await choose_words(workers, Task.REMOVAL, WORDS) == WORDS
    assert await choose_words(workers, Task.REMOVAL, " Remove  object! ") == ""


@pytest.mark.parametrize("others", [[frozenset({"seed"})], [frozenset({"prompt"}), frozenset({"seed"})]])
async def test_words_that_a_worker_would_ignore_are_refused(others: list[frozenset[str]]) -> None:
    """One such worker is enough: nobody knows which one takes the job."""
    with pytest.raises(Refused) as refused:
        await choose_words(workers_that_obey(*others), Task.REMOVAL, WORDS)

    assert (refused.value.code, refused.value.param, refused.value.status) == ("unsupported_prompt", "prompt", 400)


@pytest.mark.parametrize("character", ["x", "🐈"])
async def test_a_prompt_of_openais_length_is_too_long_for_an_engine(character: str) -> None:
    """Refused with a sentence: a job's message takes 10,000 characters."""
    workers = workers_that_obey(frozenset({"prompt"}))

    assert await choose_words(workers, Task.REMOVAL, character * 10_000) == character * 10_000
    with pytest.raises(Refused, match=r"32,000 characters; the engine takes at most 10,000\.") as refused:
        await choose_words(workers, Task.REMOVAL, character * 32_000)

    assert (refused.value.code, refused.value.status) == ("string_above_max_length", 400)
