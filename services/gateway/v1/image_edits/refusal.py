"""The refusal of a request, with the field at fault, in the form of OpenAI's API."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.gateway.error_responses import EDITS_PATH, error_response
from services.gateway.http.exception_handlers import STATUS
from shared.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response

_NO_RETRY = {"x-should-retry": "false"}  # OpenAI's clients send a request twice again after 408, 409, 429 and 5xx
_SERVER_ERROR = 500


class Refused(Exception):
    """A refused request. `param` names the field at fault, `code` is a word for programs."""

    def __init__(self, code: str, sentence: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.param = param
        self.status = status

    def response(self) -> Response:
        """Return the answer. A failed edit needs no retries by the client: the job has had three attempts."""
        headers = _NO_RETRY if self.status >= _SERVER_ERROR else None
        return error_response(EDITS_PATH, self.status, self.sentence, self.code, headers, self.param)


@contextmanager
def refusing(param: str) -> Iterator[None]:
    """Turn the BadInput of the block into a refusal that names the field."""
    try:
        yield
    except BadInput as error:
        raise Refused(error.code, error.message, param, STATUS.get(error.code, 400)) from None
