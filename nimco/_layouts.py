"""Layouts of a beamline's own plans, written down in a file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from callbacks import ForeignLayout, FrameFile
from edge_fitting import EdgeFittingError

from .errors import NimcoError

# What only a program can give.
_NOT_IN_A_FILE = ("energies", "accepts", "references")
_KEYS = tuple(field.name for field in fields(ForeignLayout) if field.name not in _NOT_IN_A_FILE)


def read_layout(path: Path) -> ForeignLayout:
    """Read a `callbacks.ForeignLayout` from a TOML file with its parameters.

    ``flats`` and ``darks`` are tables with ``path`` (relative to the file) and ``dataset``; ``energies_key`` names the
    key of the start document that holds the planned energies, where they are not those of a list scan.

    Raises
    ------
    NimcoError
        The file cannot be read, or says something that is no layout.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NimcoError(f"The layout {path} cannot be read: {error}.") from error
    energies_key = content.pop("energies_key", None)
    unknown = [key for key in content if key not in _KEYS]
    if unknown:
        raise NimcoError(
            f"The layout {path} has {unknown[0]!r}, which means nothing; known are {', '.join(_KEYS)}."
        )
    missing = [key for key in ("edge", "camera", "energy") if not isinstance(content.get(key), str)]
    if missing:
        raise NimcoError(f"The layout {path} does not say the {missing[0]}, as text.")
    for key in ("flats", "darks"):
        if key in content:
            content[key] = _frame_file(path, key, content[key])
    if "frame_types" in content:
        # The keys of a TOML table are text; what a camera says is mostly a number.
        types = content["frame_types"].items()
        content["frame_types"] = {int(key) if key.lstrip("-").isdigit() else key: kind for key, kind in types}
    if energies_key is not None:
        content["energies"] = _Entry(energies_key)
    content.setdefault("name", path.stem)
    try:
        return ForeignLayout(**content)
    except (EdgeFittingError, TypeError, ValueError) as error:
        raise NimcoError(f"The layout {path} cannot be used: {error}") from error


@dataclass(frozen=True)
class _Entry:
    """An entry of the start document; unlike a lambda it can be sent to another process."""

    key: str

    def __call__(self, start: Mapping[str, Any]) -> Any:
        return start.get(self.key)


def with_runs(layout: ForeignLayout, *, flat_uid: str | None, dark_uid: str | None) -> ForeignLayout:
    """Return a layout whose flats and darks are those of certain runs."""
    return replace(
        layout,
        flat_runs=layout.flat_runs if flat_uid is None else {"uid": flat_uid},
        dark_runs=layout.dark_runs if dark_uid is None else {"uid": dark_uid},
    )


def _frame_file(layout: Path, key: str, value: Any) -> FrameFile:
    if not isinstance(value, Mapping) or not isinstance(value.get("path"), str) or "dataset" not in value:
        raise NimcoError(f"{key} in the layout {layout} must be a table with path and dataset.")
    return FrameFile(layout.parent / value["path"], str(value["dataset"]), value.get("exposure_s"))
