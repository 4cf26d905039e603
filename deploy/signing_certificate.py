"""Make a certificate for signed results on a developer's machine: `python -m deploy.signing_certificate OUT`.

    OUT/signing.crt    the chain                     (IMAGEUTILS_SIGNING_CERTIFICATE_FILE)
    OUT/signing.key    secret of the signer          (IMAGEUTILS_SIGNING_KEY_FILE)

Nobody trusts it: readers show a valid signature of an unknown signer. For the public, buy a certificate of an authority
on the C2PA trust list. A second run makes a new pair.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE, KEY = "signing.crt", "signing.key"
_LIFE = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)


def make_pair(*, valid_until: datetime | None = None) -> tuple[bytes, bytes]:
    """Return a chain of a signer and its authority, and the signer's key (P-256), as PEM.

    The extensions are those of the C2PA specification 2.2, 14.5. The authority's key is forgotten.
    """
    end = valid_until or datetime.now(UTC) + _LIFE
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = _name("ArtMancer development authority"), _name("ArtMancer development signer")
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _certificate(issuer, issuer, authority_key, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    signer = (
        _certificate(subject, issuer, key, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
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


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - _LIFE - _CLOCK_SKEW)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def main() -> None:
    """Write the two files; the key is readable by its owner only."""
    parser = argparse.ArgumentParser(prog="python -m deploy.signing_certificate", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    chain, key = make_pair()
    for name, content, mode in ((CERTIFICATE, chain, 0o644), (KEY, key, 0o600)):
        (out / name).unlink(missing_ok=True)
        with os.fdopen(os.open(out / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)


if __name__ == "__main__":
    main()
