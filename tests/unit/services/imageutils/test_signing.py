"""Delivered pictures are signed: c2pa's own reader verifies them and finds a changed byte; the pixels do not change."""

from __future__ import annotations

import io
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import c2pa
import numpy as np
import pytest
from PIL import Image

from deploy.signing_certificate import make_pair
from services.imageutils.signing import RECEIPT_LABEL, SIGNABLE, ManifestSigner, Origin
from shared.errors import ConfigError
from shared.source_types import SourceType

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
OUTPUT, RECEIPT = "a" * 64, "b" * 64
FORMATS = {
    "image/png": ("PNG", {}),
    "image/jpeg": ("JPEG", {"quality": 92}),
    "image/webp": ("WEBP", {"quality": 90}),
    "image/avif": ("AVIF", {"speed": 10}),
    "image/tiff": ("TIFF", {}),
}
PLAIN = Origin(output=OUTPUT, receipt=RECEIPT, source_type=SourceType.COMPOSITE)


def save(content_type: str, **more: object) -> bytes:
    """Return a picture of noise."""
    file_format, options = FORMATS[content_type]
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, file_format, **options, **more)
    return file.getvalue()


def pixels_of(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGBA").tobytes()


def read(content_type: str, data: bytes) -> tuple[str, set[str], dict[str, Any]]:
    """Return the state, the codes of all problems, and the active manifest."""
    with c2pa.Context() as context, c2pa.Reader(content_type, io.BytesIO(data), context=context) as reader:
        found = json.loads(reader.json())
    codes = {problem["code"] for problem in found.get("validation_status", [])}
    return found["validation_state"], codes, found["manifests"][found["active_manifest"]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a development certificate and its key."""
    folder = tmp_path_factory.mktemp("signing")
    return write(folder, *make_pair())


def write(folder: Path, chain: bytes, key: bytes) -> tuple[Path, Path]:
    paths = folder / "signing.crt", folder / "signing.key"
    for path, content in zip(paths, (chain, key), strict=True):
        path.write_bytes(content)
    return paths


@pytest.fixture(scope="module")
def signer(files: tuple[Path, Path]) -> ManifestSigner:
    """Return a signer with them."""
    opened = ManifestSigner.open(*files)
    assert opened is not None
    return opened


def sign(signer: ManifestSigner, data: bytes, content_type: str, origin: Origin = PLAIN) -> bytes:
    signed = signer.sign(data, content_type, origin)
    assert signed is not None
    return signed


@pytest.mark.parametrize("content_type", sorted(SIGNABLE))
def test_a_signed_picture_is_verified(signer: ManifestSigner, content_type: str) -> None:
    """In 6 kB, with its pixels; a development certificate gives a valid signature of an unknown signer."""
    plain = save(content_type)
    signed = sign(signer, plain, content_type)
    state, codes, manifest = read(content_type, signed)
    facts = {each["label"]: each["data"] for each in manifest["assertions"]}
    opened, edited = facts["c2pa.actions.v2"]["actions"]

    assert (state, codes) == ("Valid", {"signingCredential.untrusted"})
    assert facts[RECEIPT_LABEL] == {"output_sha256": OUTPUT, "receipt_sha256": RECEIPT}
    assert opened["action"] == "c2pa.opened"
    assert (edited["action"], edited["digitalSourceType"]) == ("c2pa.edited", SourceType.COMPOSITE)
    assert "thumbnail" not in manifest
    assert pixels_of(signed) == pixels_of(plain)
    assert len(signed) - len(plain) <= 6_000


@pytest.mark.parametrize("content_type", sorted(SIGNABLE))
@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_a_changed_byte_is_found(signer: ManifestSigner, content_type: str, place: float) -> None:
    """Wherever it is in the pixels."""
    plain = save(content_type)
    signed = sign(signer, plain, content_type)
    tail = plain[-len(plain) // 3 :] if content_type == "image/png" else plain[len(plain) // 2 : -16]
    start = signed.rfind(tail[:64])
    at = start + int(place * (len(tail) - 64))
    flipped = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    state, codes, _ = read(content_type, flipped)

    assert start > 0
    assert state == "Invalid"
    assert {"assertion.dataHash.mismatch", "assertion.bmffHash.mismatch"} & codes


def taken_by_a_camera(files: tuple[Path, Path]) -> bytes:
    """Return a photo with a manifest of another program: with a thumbnail and a place."""
    info = c2pa.C2paSignerInfo(b"es256", files[0].read_bytes(), files[1].read_bytes(), None)
    described = {
        "claim_generator_info": [{"name": "Camera", "version": "1"}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [{
                "action": "c2pa.created",
                "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
            }]}},
            {"label": "stds.exif", "data": {
                "@context": {"exif": "http://ns.adobe.com/exif/1.0/"}, "exif:GPSLatitude": "48,8.1N",
            }},
        ],
    }  # fmt: skip
    settings = {"builder": {"thumbnail": {"enabled": True}}}
    with (
        c2pa.Context.from_dict(settings, signer=c2pa.Signer.from_info(info)) as context,
        c2pa.Builder(json.dumps(described), context) as builder,
    ):
        out = io.BytesIO()
        builder.sign("image/jpeg", io.BytesIO(save("image/jpeg")), out)
    return out.getvalue()


@pytest.mark.parametrize("place", [True, False])
def test_a_manifest_of_the_upload_is_kept_as_the_parents(
    signer: ManifestSigner, files: tuple[Path, Path], *, place: bool
) -> None:
    """Without its thumbnail, which shows the picture before the edit; at a signed address without the place."""
    upload = taken_by_a_camera(files)
    origin = Origin(output=OUTPUT, upload=upload, upload_type="image/jpeg", place=place)
    signed = sign(signer, save("image/png"), "image/png", origin)
    state, codes, manifest = read("image/png", signed)
    (parent,) = manifest["ingredients"]

    assert (state, codes) == ("Valid", {"signingCredential.untrusted"})
    assert (parent["relationship"], "active_manifest" in parent) == ("parentOf", True)
    assert "thumbnail" not in parent
    assert b"Camera" in signed
    assert b"\xff\xd8\xff" not in signed
    assert (b"GPSLatitude" in signed) == place
    assert len(upload) > len(save("image/jpeg")) + 5_000  # of which most is the thumbnail


@pytest.mark.parametrize("upload", [b"c2pa", save("image/jpeg") + b"jumdc2pa" * 99], ids=["no picture", "no manifest"])
def test_a_broken_manifest_of_the_upload_is_left_out(signer: ManifestSigner, upload: bytes) -> None:
    """It does not cost the signature."""
    signed = sign(signer, save("image/png"), "image/png", Origin(output=OUTPUT, upload=upload))

    assert read("image/png", signed)[0] == "Valid"


def test_no_address_in_an_upload_is_opened(signer: ManifestSigner) -> None:
    """A photo may name one for its manifest, which could be inside the operator's network."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        packet = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" '
            f'dcterms:provenance="http://127.0.0.1:{server.server_port}/c2pa"/></rdf:RDF></x:xmpmeta>'
        )
        upload = save("image/jpeg", xmp=packet.encode())
        signed = sign(signer, save("image/png"), "image/png", Origin(output=OUTPUT, upload=upload))
        server.shutdown()
        thread.join()

    assert asked == []
    assert read("image/png", signed)[0] == "Valid"


def test_a_white_balance_states_no_source_type(signer: ManifestSigner) -> None:
    """It adjusted colours."""
    signed = sign(signer, save("image/png"), "image/png", Origin(output=OUTPUT))
    _, _, manifest = read("image/png", signed)
    (actions,) = [each["data"]["actions"] for each in manifest["assertions"] if each["label"] == "c2pa.actions.v2"]

    assert [each["action"] for each in actions] == ["c2pa.opened", "c2pa.color_adjustments"]
    assert "digitalSourceType" not in actions[1]


def test_a_format_without_manifests_is_not_signed(signer: ManifestSigner) -> None:
    """The caller delivers it as it is."""
    assert signer.sign(b"BM", "image/bmp", PLAIN) is None


def test_the_digest_names_the_certificate(signer: ManifestSigner, tmp_path: Path) -> None:
    """A file that another certificate signed is not taken for one of this."""
    other = ManifestSigner.open(*write(tmp_path, *make_pair()))

    assert other is not None
    assert other.digest != signer.digest


def test_without_files_nothing_is_signed() -> None:
    """The default."""
    assert ManifestSigner.open(None, None) is None


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("expired", "expired"),
        ("garbage", "no certificate chain in PEM"),
        ("no key", "no key in PEM"),
        ("another key", "does not belong"),
        ("gone", "cannot read"),
    ],
)
def test_files_that_cannot_sign_are_refused_at_the_start(tmp_path: Path, case: str, words: str) -> None:
    """The process exits with 78. No text has a part of the key."""
    chain, key = make_pair(valid_until=datetime.now(UTC) - timedelta(days=1)) if case == "expired" else make_pair()
    if case == "garbage":
        chain = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    elif case == "no key":
        key = b"secret"
    elif case == "another key":
        key = make_pair()[1]
    files = write(tmp_path, chain, key)
    if case == "gone":
        files[1].unlink()

    with pytest.raises(ConfigError, match=words) as refused:
        ManifestSigner.open(*files)
    assert "secret" not in str(refused.value)


def test_one_file_is_not_enough(files: tuple[Path, Path]) -> None:
    """The settings belong together."""
    with pytest.raises(ConfigError, match="both"):
        ManifestSigner.open(files[0], None)


def test_a_certificate_that_expires_stops_the_signing(tmp_path: Path) -> None:
    """Files are delivered without a signature then, and health says so."""
    soon = ManifestSigner.open(*write(tmp_path, *make_pair(valid_until=datetime.now(UTC) + timedelta(days=1))))
    assert soon is not None
    late = (datetime.now(UTC) + timedelta(days=2)).timestamp()

    assert soon.problem_at(late) == "The signing certificate has expired."
    assert soon.problem == ""
