"""Check docs/settings.md against the settings classes."""

from __future__ import annotations

import pytest

from deploy.settings_table import PAGE, SERVICES, groups_of, page, rows_of, settings_of


def test_the_table_is_up_to_date() -> None:
    """A setting that is added, removed or changed appears in the document."""
    assert PAGE.read_text(encoding="utf-8") == page(), "Run `make settings` and commit docs/settings.md."


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_has_a_meaning(service: str) -> None:
    """The string below a field of a settings class is its description."""
    settings = settings_of(service)
    rows = [row for group in (settings, *groups_of(settings)) for row in rows_of(group)]
    bare = [row.variables[0] for row in rows if not row.meaning]

    assert not bare, f"Describe these settings in a string below the field: {', '.join(bare)}."
