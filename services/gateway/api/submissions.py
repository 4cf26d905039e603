"""Submits jobs for /api. All of a submission is checked before any of its images is stored."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, assert_never

from shared.errors import BadInput
from shared.messages import DEFAULT_GUIDANCE, JobSubmit, Task
from shared.tasks import needs, require_images

if TYPE_CHECKING:
    from services.gateway.api.schemas import GenerateSubmission
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.uploads import Upload, Uploads

_STEPS = 10
_GUIDANCE_WHITE_BALANCE = 3.3
_SEEDS = 2**31  # the range of the client's seed field


async def submit(jobs: Jobs, uploads: Uploads, owner: str, submission: GenerateSubmission) -> str:
    """Submit a job and return its id. Raises BadInput, Busy, BrokerUnavailable, and as Uploads."""
    jobs.check_queue_limit(owner)
    return await jobs.submit(owner, await _message_of(uploads, owner, submission))


async def _message_of(uploads: Uploads, owner: str, submission: GenerateSubmission) -> JobSubmit:
    task = submission.task_type or Task.REMOVAL
    image = await uploads.read(submission.input_image, "Input image")
    mask_text = next(iter(submission.conditional_images or ()), None) or submission.mask_image
    needed = needs(task)
    require_images(task, mask=mask_text, reference=submission.reference_image)
    mask = await _read_mask(uploads, mask_text or "") if needed.mask else None
    reference, reference_mask = await _read_reference(uploads, submission) if needed.reference else (None, None)
    read = {"image": image, "mask": mask, "reference": reference, "reference_mask": reference_mask}
    present = {field: upload for field, upload in read.items() if upload is not None}
    stored = await asyncio.gather(*(uploads.store(owner, upload) for upload in present.values()))
    return JobSubmit(
        task=task,
        **dict(zip(present, stored, strict=True)),
        prompt=submission.prompt,
        negative_prompt=submission.negative_prompt,
        seed=secrets.randbelow(_SEEDS) if submission.seed is None else submission.seed,
        steps=submission.num_inference_steps or _STEPS,
        guidance=_guidance(submission, task),
        mask_tool=submission.mask_tool_type,
        refine_fill=submission.enable_mae_refinement is not False,
        flow_match=bool(submission.enable_flowmatch_scheduler),
        debug=bool(submission.enable_debug),
    )


async def _read_mask(uploads: Uploads, text: str) -> Upload:
    mask = await uploads.read_mask(text, "Mask")
    if mask is None:
        raise BadInput("Please mark the region to edit: the mask is empty.")
    return mask


async def _read_reference(uploads: Uploads, submission: GenerateSubmission) -> tuple[Upload, Upload | None]:
    reference = await uploads.read(submission.reference_image or "", "Reference image")
    if not submission.reference_mask_R:
        return reference, None
    # The client's editor can send an empty mask: it means the whole image.
    return reference, await uploads.read_mask(submission.reference_mask_R, "Reference mask")


def _guidance(submission: GenerateSubmission, task: Task) -> float:
    return submission.true_cfg_scale or submission.guidance_scale or _default_guidance(task)


def _default_guidance(task: Task) -> float:
    match task:
        case Task.REMOVAL | Task.INSERTION:
            return DEFAULT_GUIDANCE
        case Task.WHITE_BALANCE:
            return _GUIDANCE_WHITE_BALANCE
    assert_never(task)
