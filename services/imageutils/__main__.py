"""`python -m services.imageutils`."""

from services.imageutils.service import run
from services.imageutils.settings import Settings
from shared.lifecycle import main

if __name__ == "__main__":
    main("imageutils", Settings, run)
