"""`python -m services.segmentation`."""

from services.segmentation.service import run
from services.segmentation.settings import Settings
from shared.lifecycle import main

if __name__ == "__main__":
    main("segmentation", Settings, run)
