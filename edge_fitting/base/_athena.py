"""Project files of Athena: read, and written so that Athena and Larch read them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]

# An assignment of Perl that opens a line: $name = ...; or @name = (...);
_ASSIGNMENT = re.compile(r"^([$@])(\w+)\s*=\s*(.*);\s*$")
# A string in quotes, with what is escaped in it, or a bare word or number, or an empty list.
_TOKEN = re.compile(r"'((?:[^'\\]|\\.)*)'|(\[[^\]]*\])|([^\s,()]+)")
_MOST_BYTES = 2**28
_ARRAYS = {"x": "energy_ev", "y": "mu", "i0": "i0", "signal": "signal", "stddev": "sigma"}


@dataclass(frozen=True, slots=True, eq=False)
class AthenaGroup:
    """One spectrum of an Athena project.

    Parameters
    ----------
    name, label : str
        Name of the group in the project, and what its author called it.
    energy_ev, mu : ndarray, shape (n,)
        Energies as stored, without the shift that the parameters may hold, and absorption.
    i0, signal, sigma : ndarray, shape (n,), or None
        Incident intensity, what was measured behind it, and standard deviation of a merge.
    reference : str
        Name of the group of the reference foil of the same scan; empty for none.
    parameters : mapping of str to str
        All that the project says of the group, such as ``bkg_e0`` or ``bkg_eshift`` (eV, not applied).
    """

    name: str
    label: str
    energy_ev: Array
    mu: Array
    i0: Array | None = None
    signal: Array | None = None
    sigma: Array | None = None
    reference: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def read_athena_project(path: Path | str) -> tuple[AthenaGroup, ...]:
    """Read the spectra of an Athena project (.prj), compressed or not.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    tuple of AthenaGroup
        In the order of the file; groups without energies or absorption are passed over.

    Raises
    ------
    EdgeFittingError
        The file is missing, is no project, or holds no spectrum.
    """
    path = Path(path)
    groups: list[AthenaGroup] = []
    held: dict[str, Any] = {}
    for sort, name, text in _assignments(path):
        if name == "old_group":
            held = {"name": "".join(_tokens(text))}
        elif sort == "@" and name == "args":
            tokens = _tokens(text)
            held["args"] = dict(zip(tokens[::2], tokens[1::2], strict=False))
        elif sort == "@" and name in _ARRAYS:
            held[_ARRAYS[name]] = _numbers(path, name, _tokens(text))
        elif name == "[record]" and "energy_ev" in held and "mu" in held:
            groups.append(_group(path, held))
            held = {}
    if not groups:
        raise EdgeFittingError(f"file {path} holds no spectrum of an Athena project.")
    return tuple(groups)


def write_athena_project(path: Path | str, groups: Sequence[AthenaGroup]) -> Path:
    """Write spectra as an Athena project.

    Parameters
    ----------
    path : Path or str
        The file, replaced if there is one.
    groups : sequence of AthenaGroup
        At least one; their names must differ.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EdgeFittingError
        For no groups, names twice, or arrays that differ in length.
    """
    path = Path(path)
    names = [group.name for group in groups]
    if not names or len(set(names)) < len(names):
        raise EdgeFittingError("a project needs groups with names of their own.")
    lines = ["# Athena project file -- Demeter version 0.9.26", "# Written by nimco", ""]
    for group in groups:
        arrays = {name: getattr(group, held) for name, held in _ARRAYS.items()}
        sizes = {array.size for array in arrays.values() if array is not None}
        if len(sizes) != 1:
            raise EdgeFittingError(f"the arrays of group {group.name} differ in length.")
        args = {
            "label": group.label,
            "datatype": "xmu",
            "is_xmu": "1",
            "is_col": "1",
            "file": "",
            "referencegroup": group.reference,
            "reference": group.reference,
            "bkg_eshift": "0",
            **group.parameters,
        }
        words = ",".join(f"{_quoted(key)},{_quoted(value)}" for key, value in args.items())
        lines += [f"$old_group = {_quoted(group.name)};", f"@args = ({words});"]
        for name, array in arrays.items():
            if array is not None:
                numbers = ",".join(f"'{value:.10g}'" for value in array)
                lines.append(f"@{name} = ({numbers});")
        lines += ["[record]   # create object and set arrays in ifeffit", ""]
    lines += ["@journal = ('');", "", "1;", "", "", "# Local Variables:", "# truncate-lines: t", "# End:", ""]
    # No time in the header: the same spectra make the same file.
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return path


def _assignments(path: Path) -> list[tuple[str, str, str]]:
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(path) as stream:
                raw = stream.read(_MOST_BYTES)
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise EdgeFittingError(f"file {path} cannot be read as an Athena project: {error}.") from error
    text = raw.decode("utf-8", errors="replace")
    if "Athena project file" not in text[:400]:
        raise EdgeFittingError(f"file {path} is no Athena project: its first line does not say so.")
    found = []
    for line in text.splitlines():
        if line.startswith("[record]"):
            found.append(("", "[record]", ""))
        elif match := _ASSIGNMENT.match(line):
            found.append((match[1], match[2], match[3]))
    return found


def _tokens(text: str) -> list[str]:
    return [
        re.sub(r"\\(.)", r"\1", quoted) if not other and not empty else other or empty
        for quoted, empty, other in _TOKEN.findall(text)
    ]


def _numbers(path: Path, name: str, tokens: Sequence[str]) -> Array:
    try:
        return np.array([float(token) for token in tokens])
    except ValueError:
        raise EdgeFittingError(f"file {path} holds an array {name} with what is no number.") from None


def _group(path: Path, held: Mapping[str, Any]) -> AthenaGroup:
    args: dict[str, str] = held.get("args", {})
    arrays: dict[str, Array] = {name: held[name] for name in _ARRAYS.values() if name in held}
    name = str(held.get("name", ""))
    if len({array.size for array in (arrays["energy_ev"], arrays["mu"])}) != 1:
        raise EdgeFittingError(
            f"file {path} holds a group {name} whose energies and absorption differ in length."
        )
    size = arrays["energy_ev"].size
    arrays = {key: array for key, array in arrays.items() if array.size == size}
    reference = args.get("referencegroup") or args.get("reference") or ""
    return AthenaGroup(
        name=name, label=args.get("label", name).strip(), reference=reference, parameters=args, **arrays
    )


def _quoted(text: str) -> str:
    escaped = str(text).replace("\\", "\\\\").replace("'", "\\'").replace("\n", " ")
    return f"'{escaped}'"
