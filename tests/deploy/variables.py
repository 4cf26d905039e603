"""Which environment variables a service reads: what a deployment sets beside them is misspelt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices
from pydantic_settings import BaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


def variables_of(settings: type[BaseSettings]) -> Iterator[str]:
    """Provide the environment variables that a settings class and the groups in it read."""
    prefix = settings.model_config.get("env_prefix") or ""
    for name, field in settings.model_fields.items():
        alias: Any = field.validation_alias
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from variables_of(field.annotation)
        elif isinstance(alias, AliasChoices):
            yield from (str(choice) for choice in alias.choices)
        else:
            yield str(alias) if isinstance(alias, str) else f"{prefix}{name}".upper()
