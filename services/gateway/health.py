"""What the gateway says of itself; cheap, because it is asked before anything else has been loaded."""

from __future__ import annotations


def own_health(*, connected: bool) -> dict[str, object]:
    """Answer to GET /api/health; the model is somewhere behind the broker, so `connected` is all we know of it."""
    return {
        "status": "healthy" if connected else "degraded",
        "service": "gateway",
        "model_loaded": connected,
        "device": "remote",
        "device_info": {"broker": "connected" if connected else "not connected"},
    }
