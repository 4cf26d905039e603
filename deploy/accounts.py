"""Which account of the broker each service is in, and what passes between accounts: what their duties need, no more.

Who asks may name any subject for the answer, and the broker checks nobody's permissions for an answer. In the account
of the streams an answer can be an order to them, such as to be deleted. So each service has an account of its own: what
it asks of another account is answered into its own, where nothing listens that it could not have spoken to itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.permissions import DUTIES, REPLIES, permissions
from shared import subjects

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = "APP"
"""The account of the streams, of operators, and of the service that declares the streams."""
_DISCOVERY = "$SRV.>"
_ACCOUNT_INFO = subjects.api("INFO")


@dataclass(frozen=True, slots=True, order=True)
class Passage:
    """A subject that one account offers and another one takes up."""

    giver: str
    taker: str
    subject: str
    is_question: bool
    """Whether the taker asks and the giver answers; otherwise the giver tells and the taker hears."""

    @property
    def has_many_answers(self) -> bool:
        """Whether one question may be answered more than once, for which the broker has to remember it for longer."""
        verb = self.subject.removeprefix("$JS.API.")
        is_batch = verb.startswith("DIRECT.GET.") and not verb.endswith(".>")  # by subject it reads one message
        return self.is_question and (is_batch or verb.startswith("CONSUMER.MSG.NEXT.") or self.subject == _DISCOVERY)


def account_of(service: str) -> str:
    """Return the account that a service is in."""
    return STORE if DUTIES[service].declares else service.upper()


def passages() -> list[Passage]:
    """Return all that passes between accounts."""
    found = {passage for service in DUTIES for passage in (*_asked(service), *_heard(service), *_looked_at(service))}
    return sorted(passage for passage in found if passage.giver != passage.taker)


def _asked(service: str) -> Iterator[Passage]:
    """What it may publish asks another service or the store, but for its answers and for what others hear."""
    heard = {subject for duties in DUTIES.values() for subject in duties.hears}
    # Unless an account takes this up from elsewhere, the broker adds an import of all of JetStream's questions, and
    # each is answered twice: also with an error, because the account has no streams.
    yield Passage(STORE, account_of(service), _ACCOUNT_INFO, is_question=True)
    for subject in permissions(service).publish:
        if subject != REPLIES and subject not in heard:
            asked = next((account_of(name) for name, duties in DUTIES.items() if subject in duties.answers), STORE)
            yield Passage(asked, account_of(service), subject, is_question=True)


def _heard(service: str) -> Iterator[Passage]:
    """What it hears, another service says or the store: copies of what is stored there."""
    for subject in DUTIES[service].hears:
        told = next((account_of(name) for name, duties in DUTIES.items() if subject in duties.says), STORE)
        yield Passage(told, account_of(service), subject, is_question=False)


def _looked_at(service: str) -> Iterator[Passage]:
    """What operators ask of it: who and how it is."""
    for subject in DUTIES[service].answers:
        if subject == subjects.health(service):
            yield Passage(account_of(service), STORE, subject, is_question=True)
            yield Passage(account_of(service), STORE, _DISCOVERY, is_question=True)
