"""Write docs/settings.md, the table of every setting, from the settings classes: `python -m deploy.settings_table`."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AliasChoices
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from shared.settings import ServiceSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
SERVICES = ("gateway", "segmentation", "imageutils", "jobmanager", "a100worker")
_SIGNS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}
_HEAD = """# Settings

<!-- Made by `make settings` from the settings classes. Do not edit it by hand. -->

Every setting is an environment variable, and every default runs on a laptop. A wrong value ends the process with exit
code 78 and one sentence that names the variable. Suffixes give the unit: `_S` seconds, `_BYTES` bytes, `_PX` pixels.
"""


class Setting(NamedTuple):
    """One row of the table."""

    variables: tuple[str, ...]
    """The names under which it is read; the first one counts."""
    default: str
    values: str
    meaning: str


def settings_of(service: str) -> type[ServiceSettings]:
    """Return the settings class of a service."""
    found: type[ServiceSettings] = importlib.import_module(f"services.{service}.settings").Settings
    return found


def groups_of(settings: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    """Yield the settings classes that are fields of this one."""
    for field in settings.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield field.annotation


def rows_of(settings: type[BaseSettings]) -> Iterator[Setting]:
    """Yield the settings of a class, without those of its groups."""
    prefix = settings.model_config.get("env_prefix") or ""
    meanings = {name: text for owner in reversed(settings.__mro__[:-1]) for name, text in _meanings(owner)}
    for name, field in settings.model_fields.items():
        if field.annotation not in set(groups_of(settings)):
            variables = tuple(_variables(f"{prefix}{name}".upper(), field))
            yield Setting(variables, _default(field), _values(field), meanings.get(name, ""))


def variables_of(settings: type[BaseSettings]) -> Iterator[str]:
    """Yield the environment variables that a class and its groups read."""
    for group in groups_of(settings):
        yield from variables_of(group)
    for row in rows_of(settings):
        yield from row.variables


def page() -> str:
    """Return docs/settings.md."""
    groups = {group: None for service in SERVICES for group in groups_of(settings_of(service))}
    parts = [_HEAD, "## Every service\n", _table(row for group in groups for row in rows_of(group))]
    for service in SERVICES:
        parts += [f"\n## {service}\n", _table(rows_of(settings_of(service)))]
    return "\n".join(parts)


def _table(rows: Iterator[Setting]) -> str:
    lines = ["| variable | default | values | meaning |", "|---|---|---|---|"]
    for row in rows:
        names = ", or ".join(f"`{name}`" for name in row.variables)
        lines.append(f"| {names} | {row.default} | {row.values} | {row.meaning.replace('|', '&#124;')} |")
    return "\n".join(lines)


def _meanings(settings: type) -> Iterator[tuple[str, str]]:
    """Yield the strings below the fields of a class. If pydantic read them, each service would start 6 ms later."""
    if not settings.__module__.startswith(("shared.", "services.")):
        return
    (definition,) = ast.parse(inspect.getsource(settings)).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 (for mypy)
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            yield field.target.id, " ".join(str(ast.literal_eval(below.value)).split())


def _variables(name: str, field: FieldInfo) -> Iterator[str]:
    alias: Any = field.validation_alias
    if isinstance(alias, AliasChoices):
        yield from (str(choice) for choice in alias.choices)
    else:
        yield alias if isinstance(alias, str) else name


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:  # for example a name that is new at each start
        return "made at the start"
    value = field.default
    if value is PydanticUndefined or value is None or value == "":
        return ""
    if isinstance(value, list | tuple | set | frozenset):
        value = ",".join(str(each) for each in value)
    return f"`{value}`"


def _values(field: FieldInfo) -> str:
    kinds = [kind for kind in _kinds(field.annotation) if kind is not type(None)]
    words = [
        ", ".join(f"`{each}`" for each in typing.get_args(kind)) for kind in kinds if typing.get_origin(kind) is Literal
    ]
    words = words or [_name(kind) for kind in kinds]
    bounds = [
        f"{sign} {getattr(bound, kind.__name__.lower())}"
        for bound in field.metadata
        for kind, sign in _SIGNS.items()
        if isinstance(bound, kind)
    ]
    return " ".join([*dict.fromkeys(words), ", ".join(bounds)]).strip()


def _kinds(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in {typing.Union, types.UnionType}
    return typing.get_args(annotation) if union else (annotation,)


def _name(kind: Any) -> str:
    names = {int: "integer", float: "number", str: "text", bool: "`true`, `false`", Path: "path"}
    return names.get(kind, "text")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
