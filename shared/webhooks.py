"""The rules that gateway and sender of webhooks share: allowed addresses, ids, and signed result addresses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from shared.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = "IPv4Network | IPv6Network"
URL_LENGTH = 2048
_URL = re.compile(r"[!-~]+")  # printable ASCII without spaces: a host of another alphabet is sent in punycode
_NAME_LENGTH, _LABEL = 253, re.compile("[a-z0-9_-]{1,63}")
_NUMBER = re.compile("[0-9]+|0x[0-9a-f]*")  # a host with such an end is read as an IPv4 address
_DEFAULT_PORTS = {"https": 443, "http": 80}
_FIRST_FREE_PORT = 1024
_ISATAP = {0x0000_5EFE, 0x0200_5EFE}  # the third quarter of an IPv6 address of which the last one is an IPv4 address
# Addresses that Python counts as global, and that lead back into a network or to the metadata of a cloud.
_NEVER = tuple(
    map(
        ip_network,
        (
            "168.63.129.16/32",  # Azure's own services
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "192.88.99.0/24",  # relays of 6to4
            "64:ff9b::/96",  # NAT64: the last four bytes are an IPv4 address
            "64:ff9b:1::/48",  # NAT64 within a site
            "2002::/16",  # 6to4: the next four bytes are an IPv4 address
            "::ffff:0:0/96",  # an IPv4 address
            "::/96",  # an IPv4 address, the older form
            "fec0::/10",  # site-local
            "3fff::/20",  # documentation (RFC 9637), which Python 3.11 does not list
        ),
    )
)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list with commas. Raises ValueError."""
    return tuple(ip_network(entry.strip()) for entry in text.split(",") if entry.strip())


def is_allowed(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Return whether an endpoint may have this address: a public one, or one of the networks that the operator allows.

    Not public are loopback, link-local, private, shared (CGNAT), multicast and reserved addresses, those of cloud
    metadata, and IPv6 addresses that stand for an IPv4 address.
    """
    if any(address in network for network in allowed if network.version == address.version):
        return True
    if isinstance(address, IPv6Address) and (
        address.scope_id is not None or int(address) >> 32 & 0xFFFF_FFFF in _ISATAP
    ):
        return False
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def check_url(url: str, *, allow_http: bool, allowed: Sequence[Network] = ()) -> None:
    """Raise BadInput with a sentence unless webhooks may be sent to this URL, as far as it can be seen without DNS."""
    if len(url) > URL_LENGTH or not _URL.fullmatch(url):
        raise BadInput(f"The field url must have at most {URL_LENGTH} printable ASCII characters and no spaces.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadInput("The field url is not a URL.") from None
    if parts.scheme not in ({"https", "http"} if allow_http else {"https"}):
        raise BadInput("The field url must begin with https://.")
    if not host or "@" in parts.netloc or "#" in url or "\\" in url:
        raise BadInput("The field url must have a host, and neither a user, a password nor a fragment.")
    if port is not None and port < _FIRST_FREE_PORT and port != _DEFAULT_PORTS[parts.scheme]:
        raise BadInput("The field url must have the port of its scheme, or one from 1024 on.")
    _check_host(host, allowed)


def _check_host(host: str, allowed: Sequence[Network]) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        if len(host) <= _NAME_LENGTH and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1]):
            return
        raise BadInput("The field url must have the name of a host, or an IP address in its usual form.") from None
    if not is_allowed(address, allowed):
        raise BadInput("The field url must not lead to an address that is not public.")


def webhook_id(endpoint_id: str, kind: str, name: str) -> str:
    """Return the header `webhook-id` of a delivery. It is the same in all attempts, also when it is sent again."""
    return "msg_" + hashlib.blake2s(f"{endpoint_id}.{kind}.{name}".encode(), digest_size=15).hexdigest()


def derive_address_key(secret: bytes, owner: str, key_id: str, endpoint_id: str) -> str:
    """Return the key with which the sender signs result addresses of one endpoint. It cannot sign for other owners."""
    text = f"artmancer-webhook-1\n{owner}\n{key_id}\n{endpoint_id}"
    return hmac.digest(secret, text.encode(), hashlib.sha256).hex()


def sign_address(address_key: str, path: str, expires: str) -> str:
    """Return the signature of a GET on one path until a time, in seconds since the epoch."""
    digest = hmac.digest(address_key.encode(), f"GET\n{path}\n{expires}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
