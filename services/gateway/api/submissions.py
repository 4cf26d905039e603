"""From what a client asks for to the job that is submitted; all of it is checked before any of it is stored."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from shared.errors import BadInput
from shared.messages import DEFAULT_GUIDANCE, JobSubmit, Task
from shared.tasks import needs, require_pictures

if TYPE_CHECKING:
    from services.gateway.api.schemas import GenerateSubmission
    from services.gateway.core.uploads import Upload, Uploads

_STEPS = 10
_GUIDANCE_WHITE_BALANCE = 3.3
_SEEDS = 2**31  # as many as the client's own field offers


async def prepare(uploads: Uploads, user: str, request: GenerateSubmission) -> JobSubmit:
    """Check the request, store its pictures, and return the job. Raises BadInput and as Uploads does."""
    task = request.task_type or Task.REMOVAL
    image = await uploads.read(request.input_image, "Input image")
    mask_text = next(iter(request.conditional_images or ()), None) or request.mask_image
    needed = needs(task)
    require_pictures(task, mask=mask_text, reference=request.reference_image)
    mask = await _mask(uploads, mask_text or "") if needed.mask else None
    reference, reference_mask = await _reference(uploads, request) if needed.reference else (None, None)
    return JobSubmit(
        task=task,
        image=await uploads.store(user, image),
        mask=mask and await uploads.store(user, mask),
        reference=reference and await uploads.store(user, reference),
        reference_mask=reference_mask and await uploads.store(user, reference_mask),
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=secrets.randbelow(_SEEDS) if request.seed is None else request.seed,
        steps=request.num_inference_steps or _STEPS,
        guidance=_guidance(request, task),
        mask_tool=request.mask_tool_type,
        refine_fill=request.enable_mae_refinement is not False,
        flow_match=bool(request.enable_flowmatch_scheduler),
        debug=bool(request.enable_debug),
    )


async def _mask(uploads: Uploads, text: str) -> Upload:
    mask = await uploads.read_mask(text, "Mask")
    if mask is None:
        raise BadInput("Please mark the region to edit: the mask is empty.")
    return mask


async def _reference(uploads: Uploads, request: GenerateSubmission) -> tuple[Upload, Upload | None]:
    reference = await uploads.read(request.reference_image or "", "Reference image")
    if not request.reference_mask_R:
        return reference, None
    # The client's editor can send a mask that marks nothing; that means the whole picture.
    return reference, await uploads.read_mask(request.reference_mask_R, "Reference mask")


def _guidance(request: GenerateSubmission, task: Task) -> float:
    default = _GUIDANCE_WHITE_BALANCE if task is Task.WHITE_BALANCE else DEFAULT_GUIDANCE
    return request.true_cfg_scale or request.guidance_scale or default
