"""ZIP archives of images and their metadata."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from starlette.responses import Response


def zip_response(name: str, images: dict[str, bytes], metadata: dict[str, Any]) -> Response:
    """Return a download `{name}.zip` with the images by file name and metadata.json."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # not compressed: PNG is compressed already
        for image_name, data in images.items():
            archive.writestr(image_name, data)
        archive.writestr("metadata.json", json.dumps(metadata, indent=2))
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return Response(file.getvalue(), media_type="application/zip", headers=headers)
