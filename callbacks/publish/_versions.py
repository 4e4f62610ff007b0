"""Versions of a result in Tiled: the current one in the container that readers open, older ones beside it.

``<name>`` is the current version, ``<name>@1``, ``<name>@2``, ... the others. Each analysis writes into a container of
its own. One that begins while another one's result is there copies that one beside first, and takes its place only
when the copy is whole: whatever is broken off leaves a whole result in one of the two. Copying twice gives the same,
so two writers that do it at once, and one that goes on after a crash, need no lock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tiled.structures.core import Spec

from callbacks.errors import DeliveryError
from callbacks.results import CONTENTS, COPYING, CURRENT, VERSION, WRITTEN_BY

from ._containers import CHANGED_MEANWHILE, VERSION_MARK, is_written

_MOST_TRIES = 20


@dataclass(frozen=True)
class _State:
    """What of a result must not change while it is copied."""

    written_by: Any
    version: int
    final: bool


def claim(
    of_run: Any,
    name: str,
    analysis_id: str,
    metadata: Mapping[str, Any],
    specs: list[Spec],
    moved: Callable[[], object],
) -> Any:
    """Return the container that an analysis writes its result into.

    It is the one that the analysis has already, be it that of the current version or, where another analysis has begun
    since, that of an older one. An analysis that has none becomes the current version; the former one is kept.

    Parameters
    ----------
    of_run : tiled client of a container
        Holds the results of a run.
    name : str
        Name of the result.
    analysis_id : str
        Which analysis asks.
    metadata, specs
        Of its result.
    moved : callable
        Called after each part of the former version that the server took or deleted: a sign of life of a slow one.

    Raises
    ------
    DeliveryError
        Others take the place again and again.
    """
    for _ in range(_MOST_TRIES):
        held = containers_of(of_run, name)
        for node in held.values():
            if node.metadata.get(WRITTEN_BY) == analysis_id and is_whole(node.metadata):
                return node
        number = 1 + max((version_of(key, node.metadata) for key, node in held.items()), default=0)
        own = {**metadata, VERSION: number, CURRENT: True, WRITTEN_BY: analysis_id}
        current = held.get(name)
        if current is None:
            if (created := _created(of_run, name, own, specs)) is not None:
                return created
            continue
        state = _state(current)
        if not _keep(of_run, name, current, state, held, moved) or state != _state(current.refresh()):
            continue
        # Nothing is in it until it is written: the arrays that are there still are those of the former.
        own[CONTENTS] = {"variables": [], "sizes": {}}
        current.replace_metadata({**own, "final": False}, specs=specs, drop_revision=True)
        if _clear(current, analysis_id, moved):
            return current
    raise DeliveryError(f"several analyses write {name} of one run at the same time; let one end first")


def containers_of(of_run: Any, name: str) -> dict[str, Any]:
    """Return the containers of all versions of a result, the current one first, then from the oldest on."""
    found = {key: node for key, node in of_run.items() if key == name or _number(key, name) is not None}
    return dict(sorted(found.items(), key=lambda held: _number(held[0], name) or 0))


def whole_versions(of_run: Any, name: str) -> dict[str, Any]:
    """Return the containers of all versions but of copies that are not whole."""
    return {key: node for key, node in containers_of(of_run, name).items() if is_whole(node.metadata)}


def is_whole(metadata: Mapping[str, Any]) -> bool:
    """Return whether a container is more than the beginning of a copy."""
    return not metadata.get(COPYING)


def version_of(key: str, metadata: Mapping[str, Any]) -> int:
    """Return the number of a version; containers that were written before there were versions are the first."""
    held = metadata.get(VERSION)
    if isinstance(held, int):
        return held
    _, _, number = key.rpartition(VERSION_MARK)
    return int(number) if number.isdigit() else 1


def version_key(name: str, number: int) -> str:
    """Return the name of the container of a version that is not the current one."""
    return f"{name}{VERSION_MARK}{number}"


def _number(key: str, name: str) -> int | None:
    digits = key.removeprefix(f"{name}{VERSION_MARK}")
    return int(digits) if digits != key and digits.isdigit() else None


def _state(node: Any) -> _State:
    metadata = node.metadata
    return _State(metadata.get(WRITTEN_BY), version_of("", metadata), bool(metadata.get("final")))


def _keep(
    of_run: Any,
    name: str,
    current: Any,
    state: _State,
    held: Mapping[str, Any],
    moved: Callable[[], object],
) -> bool:
    """Copy the current version beside; False where it changed meanwhile."""
    numbers = {version_of(key, node.metadata): node for key, node in held.items() if key != name}
    number = state.version
    while number in numbers and numbers[number].metadata.get(WRITTEN_BY) != state.written_by:
        number += 1
    about = {**current.metadata, VERSION: number, CURRENT: False}
    target = held.get(version_key(name, number))
    if target is not None and dict(target.metadata) == about:
        return True
    copying = {**about, COPYING: True}
    specs = list(current.specs)
    if target is None:
        target = _created(of_run, version_key(name, number), copying, specs)
        if target is None:
            return False
    elif is_whole(target.metadata):
        # A copy of an earlier state: whoever made it came no further.
        if state != _state(current.refresh()):
            return False
        target.replace_metadata(copying, specs=specs, drop_revision=True)
    parts = list(current)
    for key in parts:
        if not _copy_part(current, target, key, state):
            return False
        moved()
    for key in list(target):
        if key not in parts:
            _delete(target, key)
    if state != _state(current.refresh()):
        return False
    target.replace_metadata(about, specs=specs, drop_revision=True)
    return True


def _copy_part(current: Any, target: Any, key: str, state: _State) -> bool:
    """Copy an array or a table; False where what was read may not be of the version that is copied."""
    try:
        part = current[key]
        if not is_written(part):
            return True
        values = part.read()
    except KeyError:
        return False
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in CHANGED_MEANWHILE:
            raise
        return False  # whoever took the place is clearing or filling it
    if state != _state(current.refresh()):
        return False
    is_table = part.structure_family == "table"
    there = target.get(key)
    if there is not None and not _has_same_layout(part, there, is_table):
        _delete(target, key)
        there = None
    about = {"metadata": dict(part.metadata), "specs": list(part.specs)}
    try:
        if there is not None:
            there.write(values)
        elif is_table:
            target.write_table(values, key=key, **about)
        else:
            target.write_array(values, key=key, dims=part.dims, **about)
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in CHANGED_MEANWHILE:
            raise
        return False  # another writer makes the same copy
    return True


def _has_same_layout(part: Any, there: Any, is_table: bool) -> bool:
    """Return whether what there is of a copy can be written over."""
    if part.structure_family != there.structure_family:
        return False
    if is_table:
        return list(part.columns) == list(there.columns)
    return (tuple(part.shape), part.dtype) == (tuple(there.shape), there.dtype)


def _created(of_run: Any, key: str, metadata: Mapping[str, Any], specs: list[Spec]) -> Any | None:
    """Create a container; None where another writer was first."""
    try:
        return of_run.create_container(key, metadata=dict(metadata), specs=specs)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.CONFLICT:
            raise
        return None


def _clear(node: Any, analysis_id: str, moved: Callable[[], object]) -> bool:
    """Delete what is in a container; False once it is no longer that of the analysis."""
    for key in (None, *node):
        if node.refresh().metadata.get(WRITTEN_BY) != analysis_id:
            return False
        if key is not None:
            _delete(node, key)
            moved()
    return True


def _delete(node: Any, key: str) -> None:
    try:
        node[key].delete(external_only=False)
    except KeyError:
        return  # another writer was first
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
