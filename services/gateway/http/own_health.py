"""The gateway's own health, without imports, because probes request it before anything else is loaded."""

from __future__ import annotations


def own_health(*, ready: bool) -> dict[str, object]:
    """Return the body of GET /api/health. `ready` means that the broker accepts jobs; the model runs elsewhere."""
    return {
        "status": "healthy" if ready else "degraded",
        "service": "gateway",
        "model_loaded": ready,
        "device": "remote",
        "device_info": {"broker": "ready" if ready else "not ready"},
    }
