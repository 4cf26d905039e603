"""ZIP archives of images."""

from __future__ import annotations

import io
import json
import zipfile

from services.gateway.api.archives import zip_response
from tests.gateway import png


def test_an_archive_has_the_images_and_the_metadata() -> None:
    """The images are stored byte for byte."""
    response = zip_response("session", {"a.png": png()}, {"seed": 3})
    archive = zipfile.ZipFile(io.BytesIO(bytes(response.body)))

    assert response.headers["content-disposition"] == 'attachment; filename="session.zip"'
    assert archive.namelist() == ["a.png", "metadata.json"]
    assert archive.read("a.png") == png()
    assert json.loads(archive.read("metadata.json")) == {"seed": 3}
