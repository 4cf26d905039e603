"""What the gateway says of itself; cheap, because it is asked before anything else has been loaded."""

from __future__ import annotations


def own_health(*, ready: bool) -> dict[str, object]:
    """Answer to GET /api/health; `ready` is whether the broker would take a job: the model is somewhere behind it."""
    return {
        "status": "healthy" if ready else "degraded",
        "service": "gateway",
        "model_loaded": ready,
        "device": "remote",
        "device_info": {"broker": "ready" if ready else "not ready"},
    }
