"""`python -m services.gateway`."""

from services.gateway.service import run
from services.gateway.settings import Settings
from shared.lifecycle import main

if __name__ == "__main__":
    main("gateway", Settings, run)
