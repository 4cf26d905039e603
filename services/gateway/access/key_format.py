"""The form of an API key: `am_<id>_<secret>`.

A secret has 256 random bits, so no dictionary attack is possible, and one SHA-256 is as safe as a slow hash, which
would cost each request 50 ms. The id is for the look-up and for logs; it is not secret.
"""

from __future__ import annotations

import hashlib
import re
import secrets

NO_HASH = "0" * 64
"""Stands for the hash of an unknown id, so that its comparison takes as long as any other."""
_KEY = re.compile(r"am_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


def generate() -> tuple[str, str, str]:
    """Return a new key, its id and its secret."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return f"am_{key_id}_{secret}", key_id, secret


def parse(text: str) -> tuple[str, str] | None:
    """Return id and secret of a key, None if the text is not a key."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def parse_key_id(text: str) -> str:
    """Return the id of a key, "" if the text is not a key."""
    found = parse(text)
    return found[0] if found else ""


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a secret, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()
