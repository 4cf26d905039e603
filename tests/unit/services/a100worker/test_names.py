"""The name of a worker without a configured name."""

from __future__ import annotations

import os

from services.a100worker.settings import Settings, choose_name


def test_workers_on_one_machine_have_different_names() -> None:
    """Of process and chance, because they share the machine's name."""
    names = {Settings().name for _ in range(3)}

    assert len(names) == 3
    assert all(name.startswith(f"w{os.getpid()}-") for name in names)


def test_the_first_process_of_a_container_has_its_name() -> None:
    """Characters that a subject cannot hold become dashes, and a name is at most 64 characters long."""
    assert choose_name(1, "3f9a52b1c0de") == "3f9a52b1c0de"
    assert choose_name(1, "a100worker-7d9f.b_2") == "a100worker-7d9f-b_2"
    assert choose_name(1, "x" * 70) == "x" * 64
    assert choose_name(1, "") == "worker"
