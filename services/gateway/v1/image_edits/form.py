"""Reads the multipart form of an edit, and refuses unknown fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from services.gateway.v1.image_edits.refusal import Refused
from services.gateway.v1.image_edits.schemas import EditFields
from shared.errors import describe_invalid, first_invalid

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request

_MOST_FILES, _MOST_FIELDS = 20, 100
_LONGEST_VALUE_BYTES = 256 * 1024  # 32,000 characters, of four bytes or percent-encoded, and more
_NAME_LENGTH = 100
_IMAGES = ("image", "image[]")  # OpenAI's clients name several images `image[]`
_MASK = "mask"
_KNOWN_ELSEWHERE = frozenset({"markup", "complexity", "frame_count", "frame_duration_ms", "svg", "moderation", "style"})
_CODES = {
    "greater_than_equal": "integer_below_min_value",
    "less_than_equal": "integer_above_max_value",
    "string_too_long": "string_above_max_length",
    "literal_error": "invalid_value",
    "string_pattern_mismatch": "invalid_value",
}
_ONE_MODEL = "This server has no such model: leave out the field model, or send artmancer."
_ONLY_FORMS = (
    "Send the edit as multipart/form-data with the pictures as files, as OpenAI's clients do; "
    "a body in JSON with references to pictures is not supported."
)
_BROKEN = "The form is broken: {}"


@dataclass(slots=True)
class EditForm:
    """An edit as it was sent: files as bytes, the other fields checked one by one."""

    fields: EditFields
    images: list[bytes] = field(default_factory=list)
    mask: bytes | None = None


class _WholeFormParser(MultiPartParser):
    """Notes the closing boundary: a form that was cut off would lack its last fields."""

    has_ended = False

    def on_end(self) -> None:
        self.has_ended = True


async def read_form(request: Request) -> EditForm:
    """Return the edit of a request. Raises Refused, and HTTPException for a body that is too large or too slow."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused("unsupported_media_type", _ONLY_FORMS, status=415)
    parser = _WholeFormParser(
        request.headers,
        request.stream(),
        max_files=_MOST_FILES,
        max_fields=_MOST_FIELDS,
        max_part_size=_LONGEST_VALUE_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused("invalid_multipart", _BROKEN.format(error.message)) from None
    try:
        if not parser.has_ended:
            raise Refused("invalid_multipart", _BROKEN.format("its closing boundary is missing."))
        return await _sort(form)
    finally:
        await form.close()


async def _sort(form: FormData) -> EditForm:
    texts: dict[str, str] = {}
    files: dict[str, list[UploadFile]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.setdefault(_name_of_file(name), []).append(value)
        else:
            _add_text(texts, name, value)
    masks = files.pop(_MASK, [])
    if len(masks) > 1:
        raise Refused("duplicate_parameter", "The field mask was sent twice.", _MASK)
    edit = EditForm(_check(texts))
    for image in files.get("image", []):
        edit.images.append(await _take(image))
    if masks:
        edit.mask = await _take(masks[0])
    return edit


def _name_of_file(name: str) -> str:
    if name in _IMAGES:
        return "image"
    if name != _MASK:
        if name in EditFields.model_fields:
            raise Refused("invalid_type", f"The field {name} must be text, not a file.", name)
        raise _unknown(name)
    return name


def _add_text(texts: dict[str, str], name: str, value: str) -> None:
    if name in _IMAGES or name == _MASK:
        raise Refused("invalid_type", f"The field {name} must be a file with a name.", name)
    if name not in EditFields.model_fields:
        raise _unknown(name)
    if name in texts:
        raise Refused("duplicate_parameter", f"The field {name} was sent twice.", name)
    texts[name] = value


def _unknown(name: str) -> Refused:
    shown = name[:_NAME_LENGTH]
    if name.partition("[")[0] in _KNOWN_ELSEWHERE:
        return Refused("unsupported_parameter", f"This server cannot obey the field {shown}; leave it out.", shown)
    return Refused("unknown_parameter", f"Unknown parameter: '{shown}'.", shown)


def _check(texts: dict[str, str]) -> EditFields:
    """Check the fields. OpenAI's clients send None as an empty text, so that means the default."""
    try:
        fields = EditFields.model_validate({name: text for name, text in texts.items() if text})
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)
        name, _ = first_invalid(errors)
        if name == "model":
            raise Refused("model_not_found", _ONE_MODEL, name, 404) from None
        code = _CODES.get(errors[0]["type"], "invalid_type")
        raise Refused(code, describe_invalid(errors, "form"), name) from None
    _check_together(fields)
    return fields


def _check_together(fields: EditFields) -> None:
    if fields.partial_images and not fields.stream:
        raise Refused("invalid_value", "The field partial_images needs stream=true.", "partial_images")
    if fields.stream and fields.response_format == "url":
        raise Refused("invalid_value", "A stream sends its images as b64_json.", "response_format")
    if fields.output_format == "png" and fields.output_compression < 100:  # noqa: PLR2004 (percent)
        raise Refused("invalid_value", "A PNG has no loss: output_compression must be 100.", "output_compression")


async def _take(file: UploadFile) -> bytes:
    """Return the bytes of a file and drop the file: a large one is in memory once."""
    data = await file.read()
    await file.close()
    return data
