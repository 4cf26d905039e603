"""`python -m services.jobmanager`."""

from services.jobmanager.service import run
from services.jobmanager.settings import Settings
from shared.lifecycle import main

if __name__ == "__main__":
    main("jobmanager", Settings, run)
