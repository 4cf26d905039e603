"""The account of each service on the broker, and the imports between accounts that its duties need.

A client chooses the reply subject of its requests, and the broker checks no permissions on a reply. In the account of
the streams a reply could therefore be a command to them, for example to delete a stream. So each service has an account
of its own: replies to its requests arrive there, where only subjects exist that it may use anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.permissions import DUTIES, REPLIES, permissions
from shared import subjects

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = "APP"
"""The account of the streams, the operators, and the service that declares the streams."""
_DISCOVERY = "$SRV.>"
_ACCOUNT_INFO = subjects.api("INFO")


@dataclass(frozen=True, slots=True, order=True)
class AccountImport:
    """A subject that one account exports and another one imports."""

    exporter: str
    importer: str
    subject: str
    is_request: bool
    """True: the importer sends requests and the exporter replies. False: the exporter publishes."""

    @property
    def has_many_replies(self) -> bool:
        """Return whether a request may have several replies; the broker must then keep its reply subject longer."""
        verb = self.subject.removeprefix("$JS.API.")
        is_batch = verb.startswith("DIRECT.GET.") and not verb.endswith(".>")  # a request by subject reads one message
        is_for_all = self.subject == _DISCOVERY or self.subject in map(subjects.health, DUTIES)
        return self.is_request and (is_batch or verb.startswith("CONSUMER.MSG.NEXT.") or is_for_all)


def account_of(service: str) -> str:
    """Return the account of a service."""
    return STORE if DUTIES[service].declares else service.upper()


def account_imports() -> list[AccountImport]:
    """Return all imports between accounts, sorted."""
    parts = (_requests, _subscriptions, _operator_requests)
    found = {each for service in DUTIES for part in parts for each in part(service)}
    return sorted(each for each in found if each.exporter != each.importer)


def _requests(service: str) -> Iterator[AccountImport]:
    """Import each subject that the service publishes to as a request, except replies and published events."""
    events = {subject for duties in DUTIES.values() for subject in duties.subscribes}
    # Without this import the broker adds one of JetStream's whole API. Each request would then have two replies, one of
    # them an error, because the account has no streams.
    yield AccountImport(STORE, account_of(service), _ACCOUNT_INFO, is_request=True)
    for subject in permissions(service).publish:
        if subject != REPLIES and subject not in events:
            server = next((account_of(name) for name, duties in DUTIES.items() if subject in duties.serves), STORE)
            yield AccountImport(server, account_of(service), subject, is_request=True)


def _subscriptions(service: str) -> Iterator[AccountImport]:
    """Import each subscribed subject from the service that publishes it, or from the store: copies of stored events."""
    for subject in DUTIES[service].subscribes:
        publisher = next((account_of(name) for name, duties in DUTIES.items() if subject in duties.publishes), STORE)
        yield AccountImport(publisher, account_of(service), subject, is_request=False)


def _operator_requests(service: str) -> Iterator[AccountImport]:
    """Let operators send health and discovery requests to the service, and take a worker out."""
    for subject in DUTIES[service].serves:
        if subject == subjects.ALL_DRAINS:
            yield AccountImport(account_of(service), STORE, subject, is_request=True)
        if subject == subjects.health(service):
            yield AccountImport(account_of(service), STORE, subject, is_request=True)
            yield AccountImport(account_of(service), STORE, _DISCOVERY, is_request=True)
