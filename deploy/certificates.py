"""A private certificate authority, and the certificate that authenticates the broker to clients and other servers."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTHORITY_LIFE, SERVER_LIFE = timedelta(days=3650), timedelta(days=730)
RENEW_BEFORE = timedelta(days=180)
_CLOCK_SKEW = timedelta(hours=1)  # possible clock difference to a client that checks a new certificate


def new_key() -> bytes:
    """Return a new private key (P-256) as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(key_pem: bytes) -> bytes:
    """Return the certificate of an authority with this key, as PEM. It may sign servers, but no other authority."""
    key = _load_key(key_pem)
    name = _common_name("ArtMancer broker authority")
    certificate = (
        begin_certificate(name, name, key.public_key(), datetime.now(UTC), AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(limit_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return certificate.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def server(key_pem: bytes, hosts: Sequence[str], authority_pem: bytes, authority_key_pem: bytes) -> bytes:
    """Return a certificate for a server with these names and addresses, as PEM. Servers of a cluster share it."""
    key, issuer = _load_key(key_pem), x509.load_pem_x509_certificate(authority_pem)
    authority_key = _load_key(authority_key_pem)
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        begin_certificate(_common_name(hosts[0]), issuer.subject, key.public_key(), datetime.now(UTC), SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(limit_usage(signs_certificates=False), critical=True)
        .add_extension(uses, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    return certificate.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def serves(certificate_pem: bytes, key_pem: bytes, hosts: Sequence[str], authority_pem: bytes) -> bool:
    """Return whether the certificate fits the key, the authority and exactly these hosts, and need not be renewed."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem))
    except Exception:  # noqa: BLE001 (ValueError, TypeError or InvalidSignature: another authority signed it)
        return False
    return (
        certificate.public_key() == _load_key(key_pem).public_key()
        and set(names) == {_general_name(host) for host in hosts}
        and certificate.not_valid_after_utc - RENEW_BEFORE > datetime.now(UTC)
    )


def begin_certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    """Return a certificate that still needs its extensions and a signature."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCK_SKEW)
        .not_valid_after(start + life)
    )


def limit_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the key usage of an authority, or of a key that only makes signatures."""
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


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("The key is not a P-256 key.")
    return key
