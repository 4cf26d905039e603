"""The Python SDK of ArtMancer, and the command line `artmancer` above it. Both use only /v1.

From an installed project: `from artmancer import Client`; in the source tree: `from services.cli import Client`.
"""

from .async_client import AsyncClient
from .client import Client
from .errors import ApiError, ArtMancerError, JobEnded, Unreachable, WrongArguments
from .models import Event, FoundMasks, Job, Receipt

__all__ = [
    "ApiError",
    "ArtMancerError",
    "AsyncClient",
    "Client",
    "Event",
    "FoundMasks",
    "Job",
    "JobEnded",
    "Receipt",
    "Unreachable",
    "WrongArguments",
]
