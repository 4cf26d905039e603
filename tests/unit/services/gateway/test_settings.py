"""The gateway's settings refuse invalid values."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.gateway.settings import Settings


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "10.0.0.0/33", "127.0.0.1, proxy/24"])
def test_a_network_that_is_none_is_refused(wrong: str) -> None:
    """Uvicorn would take it for a host name and trust no proxy."""
    with pytest.raises(ValidationError):
        Settings(trusted_proxies=wrong)


@pytest.mark.parametrize("right", ["", "127.0.0.1", "10.0.0.0/8, ::1, 192.168.7.0/24", "localhost"])
def test_addresses_networks_and_names_are_taken(right: str) -> None:
    """As many as there are."""
    assert Settings(trusted_proxies=right).trusted_proxies == right
