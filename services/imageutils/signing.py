"""Signs delivered pictures with a C2PA manifest, which states how a picture was made (C2PA specification 2.2).

The signature covers the whole file, so readers detect a changed byte. c2pa-python is imported only where an operator
gives a certificate. Nothing here opens a network connection: a manifest in an upload may name an address.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from shared import VERSION
from shared.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from shared.source_types import SourceType

SIGNABLE: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/avif", "image/tiff"})
"""The content types that can carry a manifest."""
RECEIPT_LABEL: Final = "org.artmancer.receipt"
_PARENT: Final = "upload"
_LONGEST_MANIFEST_BYTES: Final = 4 * 1024**2  # of an upload's manifest: a longer one is left out
# Assertions with pictures from before the edit, and assertions that may contain the camera's place.
_PICTURES: Final = ("c2pa.thumbnail", "c2pa.embedded-data", "c2pa.databoxes")
_PLACES: Final = ("stds.", "c2pa.metadata", "cawg.metadata", "exif", "com.")
_OFFLINE: Final = {"remote_manifest_fetch": False, "ocsp_fetch": False}
# A PNG of one pixel, for the first signature.
_PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How a picture was made. `output` is the SHA-256 of the stored PNG, `receipt` that of the job's receipt."""

    output: str
    receipt: str | None = None
    source_type: SourceType | None = None
    upload: bytes | None = None
    upload_type: str = "image/jpeg"
    place: bool = True  # whether assertions on the place are kept in the upload's manifest


@dataclass(frozen=True, slots=True)
class _Identity:
    """A certificate chain and its key, as PEM, and its expiry in seconds since the epoch."""

    chain: bytes
    key: bytes
    algorithm: str
    expires_at: float


class ManifestSigner:
    """Signs pictures with the operator's certificate. Thread-safe."""

    def __init__(self, identity: _Identity) -> None:
        """Use `open` instead, which checks the files."""
        self._identity = identity
        self.digest = hashlib.sha256(identity.chain).hexdigest()

    @classmethod
    def open(cls, certificate_file: Path | None, key_file: Path | None) -> Self | None:
        """Read the files, and sign once to test them; return None without them. Raises ConfigError."""
        if certificate_file is None and key_file is None:
            return None
        if certificate_file is None or key_file is None:
            raise ConfigError("Set both IMAGEUTILS_SIGNING_CERTIFICATE_FILE and IMAGEUTILS_SIGNING_KEY_FILE, or none.")
        try:
            import c2pa  # noqa: PLC0415
        except (ImportError, OSError, RuntimeError) as error:  # its native library may not fit the machine
            raise ConfigError("Signing needs the package c2pa-python, which is not installed.") from error
        signer = cls(_read_identity(certificate_file, key_file))
        if signer.problem:
            raise ConfigError(f"IMAGEUTILS_SIGNING_CERTIFICATE_FILE: {signer.problem}")
        try:
            signer._embed(_PIXEL, "image/png", Origin(output="0" * 64), check=True)
        except c2pa.C2paError as error:
            raise ConfigError(
                "IMAGEUTILS_SIGNING_CERTIFICATE_FILE: the certificate cannot sign C2PA manifests. It needs a chain "
                "without the root, the key usage digitalSignature, and an extended key usage such as emailProtection."
            ) from error
        return signer

    @property
    def expiry(self) -> str:
        """Return the date on which the certificate expires, for operators."""
        return datetime.fromtimestamp(self._identity.expires_at, UTC).date().isoformat()

    @property
    def problem(self) -> str:
        """Return the reason why signing is impossible now; empty if it is possible."""
        return self.problem_at(time.time())

    def problem_at(self, now: float) -> str:
        """Return the `problem` at a time in seconds since the epoch."""
        return "" if now < self._identity.expires_at else "The signing certificate has expired."

    def sign(self, data: bytes, content_type: str, origin: Origin) -> bytes | None:
        """Return the file with a manifest, and with the same pixels and metadata; None if it cannot be signed.

        A manifest of the upload is kept as that of the parent, without its pictures. One that is broken or long is
        left out.
        """
        import c2pa  # noqa: PLC0415

        if content_type not in SIGNABLE or self.problem:
            return None
        if origin.upload is not None and b"c2pa" in origin.upload:
            try:
                signed = self._embed(data, content_type, origin, has_manifest=True)
            except c2pa.C2paError:
                signed = b""
            if 0 < len(signed) <= len(data) + _LONGEST_MANIFEST_BYTES:
                return signed
        return self._embed(data, content_type, origin)

    def _embed(
        self, data: bytes, content_type: str, origin: Origin, *, has_manifest: bool = False, check: bool = False
    ) -> bytes:
        """Return the signed file. Raises C2paError."""
        import c2pa  # noqa: PLC0415

        identity = self._identity
        info = c2pa.C2paSignerInfo(identity.algorithm.encode(), identity.chain, identity.key, None)
        settings = {
            "builder": {"thumbnail": {"enabled": False}},
            "verify": {"verify_after_sign": check, **_OFFLINE},
        }
        redactions = _list_redactions(origin) if has_manifest else []
        with (
            c2pa.Context.from_dict(settings, signer=c2pa.Signer.from_info(info)) as context,
            c2pa.Builder(json.dumps(_describe(origin, redactions, has_manifest=has_manifest)), context) as builder,
        ):
            if has_manifest:
                parent = {"title": _PARENT, "relationship": "parentOf", "label": _PARENT}
                builder.add_ingredient(json.dumps(parent), origin.upload_type, io.BytesIO(origin.upload or b""))
            signed = io.BytesIO()
            builder.sign(content_type, io.BytesIO(data), signed)
            return signed.getvalue()


def _describe(origin: Origin, redactions: list[str], *, has_manifest: bool) -> dict[str, Any]:
    """Return the manifest's definition: the opened file, the edit, and the hashes of receipt and result."""
    edit = {"action": "c2pa.color_adjustments"}
    if origin.source_type is not None:
        edit = {"action": "c2pa.edited", "digitalSourceType": str(origin.source_type)}
    actions: list[dict[str, Any]] = [{"action": "c2pa.opened", "parameters": {"ingredientIds": [_PARENT]}}, edit]
    actions += [
        {"action": "c2pa.redacted", "reason": "c2pa.PII.present", "parameters": {"redacted": each}}
        for each in redactions
    ]
    facts = {"output_sha256": origin.output} | ({"receipt_sha256": origin.receipt} if origin.receipt else {})
    described: dict[str, Any] = {
        "claim_generator_info": [{"name": "ArtMancer", "version": VERSION}],
        "redactions": redactions,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": RECEIPT_LABEL, "data": facts},
        ],
    }
    if not has_manifest:
        parent = {"title": _PARENT, "format": origin.upload_type, "relationship": "parentOf", "label": _PARENT}
        described["ingredients"] = [parent]
    return described


def _list_redactions(origin: Origin) -> list[str]:
    """Return the addresses of the assertions in the upload's manifests that must not be delivered. Raises C2paError."""
    import c2pa  # noqa: PLC0415

    dropped = _PICTURES if origin.place else (*_PICTURES, *_PLACES)
    with (
        c2pa.Context.from_dict({"verify": {"verify_after_reading": False, **_OFFLINE}}) as context,
        c2pa.Reader(origin.upload_type, io.BytesIO(origin.upload or b""), context=context) as reader,
    ):
        manifests = json.loads(reader.detailed_json())["manifests"]
    return [
        f"self#jumbf=/c2pa/{label}/c2pa.assertions/{name}"
        for label, manifest in manifests.items()
        for name in manifest["assertion_store"]
        if name.startswith(dropped)
    ]


def _read_identity(certificate_file: Path, key_file: Path) -> _Identity:
    """Read and check the files. Raises ConfigError."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    chain = _read("IMAGEUTILS_SIGNING_CERTIFICATE_FILE", certificate_file)
    key = _read("IMAGEUTILS_SIGNING_KEY_FILE", key_file)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise ConfigError(
            "IMAGEUTILS_SIGNING_CERTIFICATE_FILE: the file has no certificate chain in PEM. Use another file."
        ) from error
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            "IMAGEUTILS_SIGNING_KEY_FILE: the file has no key in PEM without a password. Use another file."
        ) from error
    if private.public_key() != leaf.public_key():
        raise ConfigError("IMAGEUTILS_SIGNING_KEY_FILE: the key does not belong to the first certificate of the chain.")
    return _Identity(chain, key, _algorithm_of(private), leaf.not_valid_after_utc.timestamp())


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {file}: {error.strerror}.") from None


def _algorithm_of(key: object) -> str:
    """Return the name of a key's signature algorithm (C2PA specification, 13.2.1). Raises ConfigError."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415

    if isinstance(key, ec.EllipticCurvePrivateKey):
        found = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}.get(key.curve.name)
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        found = "ed25519"
    else:
        found = "ps256" if isinstance(key, rsa.RSAPrivateKey) else None
    if found is None:
        raise ConfigError("IMAGEUTILS_SIGNING_KEY_FILE: use a key of P-256, P-384, P-521, Ed25519 or RSA.")
    return found
