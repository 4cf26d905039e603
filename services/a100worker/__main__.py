"""`python -m services.a100worker`."""

from services.a100worker.service import run
from services.a100worker.settings import Settings
from shared.lifecycle import main

if __name__ == "__main__":
    main("a100worker", Settings, run)
