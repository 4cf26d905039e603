"""Chooses the prompt for the engine, and refuses words that the engine would ignore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.v1.image_edits.refusal import Refused
from shared.errors import Unavailable
from shared.messages import Task

if TYPE_CHECKING:
    from services.gateway.core.workers import Workers

_LONGEST_PROMPT = 10_000  # of JobSubmit
_WORDS = {
    Task.REMOVAL: ("remove", "remove object", "erase"),
    Task.INSERTION: ("insert", "insert object", "add", "add object"),
}


async def choose_words(workers: Workers, task: Task, prompt: str) -> str:
    """Return the prompt for the engine, "" for the words that only name the task.

    Raises Refused for other words if a present worker ignores them, Unavailable without a worker.
    """
    if " ".join(prompt.casefold().strip(" .!\t\r\n").split()) in {"", *_WORDS[task]}:
        return ""
    present = await workers.present()
    if not present:
        raise Unavailable("No worker is running, please try again in a moment.")
    if not all(task in worker.tasks and "prompt" in worker.tasks[task].parameters for worker in present):
        allowed = ", ".join(_WORDS[task])
        raise Refused(
            "unsupported_prompt",
            "The engine of this server obeys no words. "
            f"For this {task.value} the prompt must be empty or one of: {allowed}.",
            "prompt",
        )
    if len(prompt) > _LONGEST_PROMPT:
        sentence = f"The prompt has {len(prompt):,} characters; the engine takes at most {_LONGEST_PROMPT:,}."
        raise Refused("string_above_max_length", sentence, "prompt")
    return prompt
