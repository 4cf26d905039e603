"""Converts the results of an edit to the format that the client requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.gateway.v1.image_edits.batch import Outcome, failure_of
from services.gateway.v1.results.renditions import Wanted
from shared.errors import ArtMancerError
from shared.messages import Done

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.v1.image_edits.schemas import EditFields
    from services.gateway.v1.results.renditions import Renditions


@dataclass(frozen=True, slots=True)
class Rendering:
    """The format of one request. A PNG is sent as the worker stored it."""

    jobs: Jobs
    renditions: Renditions
    owner: str
    fields: EditFields
    keeps_gps: bool

    async def render(self, outcome: Outcome) -> Outcome:
        """Return the outcome with its picture in the requested format, or a failure if the conversion fails."""
        if outcome.result is None or self.fields.output_format == "png":
            return outcome
        wanted = Wanted(self.fields.output_format, max(1, self.fields.output_compression), self.keeps_gps)
        try:
            if outcome.job_id is None:
                made = await self.renditions.of_image(outcome.result, wanted)
            else:
                record = await self.jobs.find(self.owner, outcome.job_id)
                if not isinstance(record.ended, Done):
                    return outcome
                made = await self.renditions.of_result(self.owner, record, record.ended, wanted)
        except ArtMancerError as error:
            return failure_of(outcome.job_id, error)
        return replace(outcome, result=made.image)

    def query(self) -> str:
        """Return the query by which an address of a picture opens it in this format."""
        if self.fields.output_format == "png":
            return ""
        return f"?format={self.fields.output_format}&quality={max(1, self.fields.output_compression)}"
