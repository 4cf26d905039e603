"""The examples in /v1/openapi.json: a cup is found in a photo and removed."""

from __future__ import annotations

from typing import Any

PHOTO = "9f2c4b1de07a5c83b6f1d4a2e95c7083f4b6a1d2c3e8f70915a4b3c2d1e0f987"
MASK = "1c7e5d3a9b8f60247d6c5b4a39281706f5e4d3c2b1a0987654321fedcba09876"
SECOND_MASK = "5b0d9c8e7f6a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef012345"
OBJECT = "e3b7a1c5d9f20486ace13579bdf02468ace13579bdf02468ace13579bdf02468"
RESULT = "77d1e0a4c8b3f5926e1d0c9b8a7f6e5d4c3b2a1908f7e6d5c4b3a29180f7e6d5"
JOB = "0f8fad5b-d9cb-469f-a165-70867728950e"

IMAGE = {
    "sha256": PHOTO,
    "width": 600,
    "height": 400,
    "content_type": "image/jpeg",
    "bytes": 103579,
    "notes": ["gain map dropped"],
}
EXTRACTED = {"sha256": OBJECT, "width": 512, "height": 512, "content_type": "image/png", "bytes": 98304}
EDITED = {"sha256": RESULT, "width": 600, "height": 400, "content_type": "image/png", "bytes": 412345}

MASK_QUERY = {"image": PHOTO, "points": [[280, 90, 1]], "candidates": 2}
FOUND_MASK = {"sha256": MASK, "score": 0.93, "box": [196, 38, 402, 214], "area": 0.12}
MASK_PREVIEW = {
    "status": "found",
    "outline": [[[196.0, 60.0], [300.0, 38.0], [402.0, 70.0], [380.0, 214.0], [220.0, 210.0]]],
    "score": 0.93,
    "engine": "sam",
}
FOUND_MASKS = {
    **FOUND_MASK,
    "engine": "grabcut",
    "note": None,
    "candidates": [FOUND_MASK, {"sha256": SECOND_MASK, "score": 0.71, "box": [150, 30, 470, 290], "area": 0.31}],
}
LIGHT_ESTIMATE = {"gains": [0.81, 0.98, 1.74]}
EXTRACTION = {"image": PHOTO, "mask": MASK}

SUBMISSION = {"task": "removal", "image": PHOTO, "mask": MASK, "seed": 42, "class": "interactive"}
LINKS = {
    "self": f"/v1/jobs/{JOB}",
    "events": f"/v1/jobs/{JOB}/events",
    "result": f"/v1/jobs/{JOB}/result",
    "receipt": f"/v1/jobs/{JOB}/receipt",
}
SIGNED_URL_REQUEST = {"path": f"/v1/jobs/{JOB}/events", "lifetime_s": 60}
SIGNED_URL = {
    "url": f"/v1/jobs/{JOB}/events?key=0f1e2d3c4b5a&expires=1772357460&signature=uYk0w7Q4n5t2cVx9TjZ1"
    "hP6rGdLq8sWmBfEaNvRyKoI",
    "expires_at": "2026-03-01T09:31:00Z",
}
ACCEPTED = {"id": JOB, "status": "queued", "links": LINKS}
DONE_JOB: dict[str, Any] = {
    "id": JOB,
    "status": "done",
    "task": "removal",
    "class": "interactive",
    "created_at": "2026-03-01T09:30:00.120000Z",
    "updated_at": "2026-03-01T09:30:02.480000Z",
    "progress": 1.0,
    "step": None,
    "total_steps": None,
    "message": None,
    "ahead": None,
    "eta_ms": None,
    "attempt": 1,
    "engine": "classical",
    "error": None,
    "result": EDITED,
    "duration_ms": 2310,
    "links": LINKS,
}
CANCELLED_JOB = {
    **DONE_JOB,
    "status": "cancelled",
    "progress": 0.5,
    "step": 1,
    "total_steps": 2,
    "result": None,
    "duration_ms": None,
}
JOB_PAGE = {"jobs": [DONE_JOB], "next_cursor": "MTc3MjM1NzQwMC4xMjowZjhmYWQ1Yg"}
RECEIPT = {
    "id": JOB,
    "task": "removal",
    "inputs": {"image": PHOTO, "mask": MASK},
    "output": RESULT,
    "seed": 42,
    "steps": 15,
    "variant": 0,
    "strength": None,
    "temperature": None,
    "engine": "classical",
    "worker": "w4711-a1b2c3",
    "attempt": 1,
    "pixels_changed_outside_mask": 0,
    "changed_box": [236, 41, 92, 118],
    "recipe": None,
    "windows": [],
    "adapters": {},
    "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/composite",
    "timings_ms": {"fetch": 12, "edit": 2254, "store": 44},
    "notes": [],
    "created_at": "2026-03-01T09:30:00.120000Z",
    "finished_at": "2026-03-01T09:30:02.480000Z",
    "replay_of": None,
    "earlier": [],
}
EARLIER_EDIT = {
    "id": JOB,
    "task": "removal",
    "inputs": {"image": PHOTO, "mask": MASK},
    "output": RESULT,
    "seed": 42,
    "variant": 0,
    "strength": None,
    "temperature": None,
    "engine": "classical",
    "pixels_changed_outside_mask": 0,
    "changed_box": [236, 41, 92, 118],
    "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/composite",
    "finished_at": "2026-03-01T09:30:02.480000Z",
    "note": None,
}
EVENTS = (
    "id: 1041\nevent: queued\n"
    f'data: {{"job_id":"{JOB}","at":1772357400.13,"user":"local","task":"removal","job_class":"interactive",'
    '"log_seq":412,"replay_of":null,"total_steps":15,"debug":false,"ahead":0,"eta_ms":2300,'
    '"status":"queued","progress":0.0}\n\n'
    "id: 1043\nevent: progress\n"
    f'data: {{"job_id":"{JOB}","at":1772357401.02,"phase":"processing","step":1,"total_steps":3,"fraction":0.33,'
    '"message":"Filling 1 of 1","eta_ms":null,"status":"running","progress":0.33}\n\n'
    ": ping\n\n"
)

SAMPLE = {
    "name": "coffee",
    "url": "/static/samples/coffee.jpg",
    "width": 600,
    "height": 400,
    "credit": "Pikolo Espresso Bar, by Rachel Michetti (CC0)",
}
SERVICE_HEALTH = {"status": "healthy", "instance": "w4711-a1b2c3", "engine": "classical"}
HEALTH = {
    "status": "degraded",
    "services": {
        "generation": SERVICE_HEALTH,
        "segmentation": {"status": "unhealthy", "error": "The service segmentation is not running."},
        "image_utils": {"status": "healthy", "instance": "laptop"},
        "job_manager": {"status": "healthy", "instance": "laptop"},
    },
    "streams": [],
    "formats": ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "ICO", "AVIF", "HEIF"],
}
_FORMATS = ["image/png", "image/jpeg", "image/webp", "image/avif"]
CAPABILITIES = {
    "tasks": {
        "removal": {
            "engines": ["classical"],
            "parameters": ["seed", "variant"],
            "typical_s": 1.2,
            "formats": _FORMATS,
        },
        "insertion": {"engines": ["classical"], "parameters": [], "typical_s": None, "formats": _FORMATS},
        "white-balance": {
            "engines": ["classical"],
            "parameters": ["strength", "temperature"],
            "typical_s": 0.4,
            "formats": _FORMATS,
        },
    },
    "upload_formats": ["PNG", "JPEG", "WEBP"],
}
PROBLEMS = {
    400: ("Bad Request", "bad_input", "Missing boundary in multipart."),
    401: (
        "Unauthorized",
        "unauthorized",
        "This needs an API key; send it in the header Authorization, after the word Bearer.",
    ),
    403: ("Forbidden", "forbidden", "This API key lacks the scope write."),
    404: ("Not Found", "not_found", "This job is unknown or has expired."),
    408: ("Request Timeout", "request_timeout", "The request's body came too slowly."),
    409: ("Conflict", "conflict", "The job is still running."),
    410: ("Gone", "job_failed", "The engine could not finish this job."),
    413: ("Content Too Large", "too_large", "The request is larger than 64 MiB."),
    415: (
        "Unsupported Media Type",
        "unsupported_media_type",
        "Send the image with the content type image/* or application/octet-stream, or as the file of a form.",
    ),
    416: ("Range Not Satisfiable", "range_not_satisfiable", "The image has only 412345 bytes."),
    422: (
        "Unprocessable Content",
        "image_not_found",
        "The field mask names an image that is not there; upload it first.",
    ),
    429: ("Too Many Requests", "busy", "The queue is full, please try again in a moment."),
    503: ("Service Unavailable", "unavailable", "The service segmentation is not running."),
}
