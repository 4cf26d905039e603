"""Make a certificate for signed results on a developer's machine: `python -m deploy.signing_certificate OUT`.

    OUT/signing.crt    the chain                     (IMAGEUTILS_SIGNING_CERTIFICATE_FILE)
    OUT/signing.key    secret of the signer          (IMAGEUTILS_SIGNING_KEY_FILE)

Readers show its signatures as valid, with an unknown signer. For the public, buy a certificate of an authority on the
C2PA trust list. A second run makes a new pair.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.certificates import begin_certificate, limit_usage
from deploy.credentials import write_file

CERTIFICATE, KEY = "signing.crt", "signing.key"
_LIFE = timedelta(days=365)


def make_pair(*, valid_until: datetime | None = None) -> tuple[bytes, bytes]:
    """Return a chain of a signer and its authority, and the signer's key (P-256), as PEM.

    The extensions are those of the C2PA specification 2.2, 14.5. The authority's key is not kept.
    """
    start = datetime.now(UTC) if valid_until is None else valid_until - _LIFE
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = _name("ArtMancer development authority"), _name("ArtMancer development signer")
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        begin_certificate(issuer, issuer, authority_key.public_key(), start, _LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(limit_usage(signs_certificates=True), critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    signer = (
        begin_certificate(subject, issuer, key.public_key(), start, _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(limit_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (signer, authority))
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ArtMancer development"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def main() -> None:
    """Write the two files; the key is readable by its owner only."""
    parser = argparse.ArgumentParser(prog="python -m deploy.signing_certificate", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    chain, key = make_pair()
    write_file(out / CERTIFICATE, chain, 0o644)
    write_file(out / KEY, key, 0o600)


if __name__ == "__main__":
    main()
