"""Fills, checks and describes the folders of the models.

Files arrive in a folder of their own, are checked, and are moved into place; the manifest is written last. So no
service loads an incomplete model after an interrupted pull, and the next pull continues with the files that arrived.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from services.models import sources
from services.models.exclusive import exclusive
from services.models.manifest import MODELS, Hub, Wheel
from services.models.published_adapters import ADAPTERS
from shared.errors import ConfigError, NotFound, Unavailable
from shared.volumes import MANIFEST, FileFacts, Volume, VolumeManifest, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from services.models.manifest import Model

# In the model's folder, so that a move stays on one volume. Two folders, so that the rest of an interrupted fetch is
# not used as the content of a copied folder.
ARRIVALS, COPIES = ".arrivals", ".copies"
ALL = (*MODELS, *ADAPTERS)
DEFAULT = tuple(model for model in ALL if model.by_default)
_CONFIG = "transformer/config.json"


def select(names: Sequence[str], default: Sequence[Model] = DEFAULT) -> list[Model]:
    """Return the models with these names, or `default` without names. Raises NotFound."""
    by_name = {model.name: model for model in ALL}
    if unknown := [name for name in names if name not in by_name]:
        raise NotFound(f"There is no model {unknown[0]}; known are {', '.join(by_name)}.")
    return [by_name[name] for name in names] or list(default)


def pull(
    model: Model,
    folder: Path,
    origin: Path | None = None,
    *,
    renew: bool = False,
    waiting: Callable[[], object] = lambda: None,
) -> bool:
    """Fetch a model, or copy it from a folder, unless it is complete; return whether files were fetched.

    `renew` accepts other files than the locked ones. `waiting` is called if another pull must end first. Raises
    Unavailable, NotFound, ConfigError.
    """
    home = folder / model.home
    _require_base(model, home, read_manifest(folder, model.home))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(model, folder, error) from error
    with exclusive(home, waiting):
        locked = read_manifest(folder, model.home)
        _require_base(model, home, locked)
        if origin is None and not renew and (problem(model, folder) is None or _adopt(model, home)):
            return False
        arrivals = home / ((ARRIVALS if origin is None else COPIES) + (f"-{model.name}" if model.adapter else ""))
        try:
            arrivals.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(model, folder, error) from error
        try:
            source = _bring(model, home, locked, arrivals, origin, renew=renew)
            _move_in(model, arrivals, source, locked, renew=renew)
        finally:
            with suppress(OSError):  # keep arrived files for the next pull, but no empty folder
                arrivals.rmdir()
    return True


def _bring(
    model: Model, home: Path, locked: VolumeManifest, arrivals: Path, origin: Path | None, *, renew: bool
) -> str:
    """Fetch or copy the missing files into the folder of arrivals; return their source."""
    if origin is not None:
        return sources.copy(model, origin, arrivals)
    if renew:
        return sources.fetch(model, arrivals, "", set())
    whole = {name for name, facts in _files_of(model, locked).items() if _find_flaw(home, name, facts) is None}
    return sources.fetch(model, arrivals, _locked_source(model, locked), whole)


def _unwritable(model: Model, folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"MODEL_DIR names {folder}, where {model.name} cannot be written: {error.strerror}.")


def _require_base(model: Model, home: Path, locked: VolumeManifest) -> None:
    """Raise Unavailable if the folder has another version of the base, or if the base of an adapter is missing."""
    base, wanted = base_in(home, locked), model.adapter.base if model.adapter else model.base
    if model.adapter and base is None:
        raise Unavailable(f"{model.name} is an adapter for {wanted}, and {home.name} is missing: pull that first.")
    if wanted and base and base != wanted:
        raise Unavailable(
            f"{model.name} needs {wanted}, and {home} holds {base}. Use another MODEL_DIR, or delete that folder first."
        )


def base_in(home: Path, manifest: VolumeManifest) -> str | None:
    """Return the version of Qwen-Image-Edit in a folder; None if it has none."""
    return _base_of(home / _CONFIG) if _CONFIG in manifest.files else None


def _base_of(config: Path) -> str | None:
    """Return the version of a transformer's configuration: 2511 introduced the flag."""
    try:
        flag = json.loads(config.read_bytes()).get("zero_cond_t")
    except (OSError, ValueError, AttributeError):
        return None
    return f"Qwen-Image-Edit-{'2511' if flag else '2509'}"


def _adopt(model: Model, home: Path) -> bool:
    """Write a manifest for files of an old release if their digests are known; return whether that was done."""
    facts = {}
    for file in model.files:
        if not (home / file.name).is_file():
            return False
        facts[file.name] = measure(home / file.name, file.name)
    if not isinstance(model.source, Wheel) or any(facts[file.name].sha256 != file.sha256 for file in model.files):
        return False
    sources_, manifest = (model.source.requirement,), read_manifest(home.parent, model.home)
    seal(home, manifest.model_copy(update={"licence": model.licence, "sources": sources_, "files": facts}), model)
    return True


def _move_in(model: Model, arrivals: Path, source: str, locked: VolumeManifest, *, renew: bool) -> None:
    """Check the files that arrived, put each in its place, and write the manifest last. Raises Unavailable."""
    home = arrivals.parent
    paths = {path.relative_to(arrivals).as_posix(): path for path in sorted(arrivals.rglob("*")) if path.is_file()}
    present = {name: home / name for name in locked.files} | paths
    if lost := [name for name in (*(file.name for file in model.files), *_shards(present)) if name not in present]:
        raise Unavailable(f"{model.name} is not complete: the source has no {lost[0]}. Check --from, or pull again.")
    base = _base_of(paths[_CONFIG]) if _CONFIG in paths else None
    if model.base and base and base != model.base:
        other = next(each.name for each in MODELS if each.base == base)
        raise Unavailable(f"{model.name} is {model.base}, and these files are {base}; run `pull {other}`.")
    known = {} if renew else {name: facts.sha256 for name, facts in _files_of(model, locked).items()}
    known |= {file.name: file.sha256 for file in model.files if file.sha256}
    facts = {name: measure(path, name) for name, path in paths.items()}
    for name in sorted(facts.keys() & known.keys()):
        if facts[name].sha256 != known[name]:
            shutil.rmtree(arrivals)
            raise Unavailable(f"{model.name} arrived damaged: {name} has another SHA-256 than the manifest.")
    for name, path in paths.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        path.replace(home / name)
    shutil.rmtree(arrivals)
    changes = {
        "licence": locked.licence if model.adapter else model.licence,
        "sources": tuple(dict.fromkeys((*locked.sources, source))),
        "files": {**locked.files, **facts},
        "adapters": {**locked.adapters, **(dict.fromkeys(facts, model.adapter) if model.adapter else {})},
    }
    seal(home, locked.model_copy(update=changes), model)


def _shards(paths: Mapping[str, Path]) -> Iterator[str]:
    """Yield the names of the weight files in the indexes."""
    for name, path in paths.items():
        if name.endswith(".safetensors.index.json"):
            with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):  # the loader's error is better
                shards = set(json.loads(path.read_bytes())["weight_map"].values())
                yield from sorted(str(PurePosixPath(name).with_name(shard)) for shard in shards)


def seal(home: Path, manifest: VolumeManifest, model: Model | None = None) -> None:
    """Write a folder's manifest atomically, and the model's notice beside it."""
    if model is not None:
        (home / ("NOTICE" if model.adapter is None else f"NOTICE-{model.name}")).write_text(model.notice)
    part = home / f"{MANIFEST}.part"
    part.write_text(manifest.model_dump_json(indent=1, exclude_defaults=True))
    part.replace(home / MANIFEST)


def measure(path: Path, name: str) -> FileFacts:
    """Return size and digest of a file."""
    size = path.stat().st_size
    with sources.show_progress(f"checking {name}", size) as progress:
        return FileFacts(sha256=digest(path, progress), size_bytes=size)


def read_manifest(folder: Path, home: str) -> VolumeManifest:
    """Return the manifest of a folder, or an empty one."""
    try:
        return Volume(folder, home).manifest
    except ConfigError:
        return VolumeManifest(model=home, licence="", sources=(), files={})


def _files_of(model: Model, locked: VolumeManifest) -> dict[str, FileFacts]:
    """Return the locked files of a model; for an adapter only those from its source: adapters share file names."""
    if model.adapter is None:
        pulled = {name for name, facts in locked.adapters.items() if facts.source}
        return {name: facts for name, facts in locked.files.items() if name not in pulled}
    source, names = model.adapter.source, {file.name for file in model.files}
    ours = {name for name, facts in locked.adapters.items() if name in names and facts.source == source}
    return {name: facts for name, facts in locked.files.items() if name in ours}


def _locked_source(model: Model, locked: VolumeManifest) -> str:
    """Return the model's source of the last pull, with its commit; empty if it was not pulled."""
    repository = model.source.repository if isinstance(model.source, Hub) else ""
    return next((source for source in reversed(locked.sources) if source.startswith(f"{repository}@")), "")


def problem(model: Model, folder: Path, *, read: bool = True) -> str | None:
    """Return the first problem of a model on disk; None if it is complete.

    Without `read` only names and sizes are compared.
    """
    manifest, home = read_manifest(folder, model.home), folder / model.home
    locked = _files_of(model, manifest)
    base = base_in(home, manifest)
    if not {file.name for file in model.files} <= locked.keys() or (model.base and base and base != model.base):
        return "missing"
    pinned = (file for file in model.files if file.sha256)
    flaws = [f"damaged ({file.name})" for file in pinned if locked[file.name].sha256 != file.sha256]
    flaws += [flaw for name, facts in locked.items() if (flaw := _find_flaw(home, name, facts, read=read))]
    return flaws[0] if flaws else None


def _find_flaw(home: Path, name: str, facts: FileFacts, *, read: bool = True) -> str | None:
    path = home / name
    if not path.is_file():
        return f"missing ({name})"
    if path.stat().st_size != facts.size_bytes or (read and measure(path, name) != facts):
        return f"damaged ({name})"
    return None


def size_bytes(model: Model, folder: Path) -> int | None:
    """Return the size of a model in bytes; None if it is unknown before the pull."""
    locked = _files_of(model, read_manifest(folder, model.home)) if problem(model, folder, read=False) is None else {}
    sizes: list[int | None] = [facts.size_bytes for facts in locked.values()]
    sizes = sizes or [file.size_bytes for file in model.files]
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None
