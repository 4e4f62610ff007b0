"""The option --reference: spectra from files and from the reference library as one series."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_fitting import ReferenceSeries, edge_name
from nimco._joined_spectra import KnownSpectrum, join_spectra
from nimco._library_entries import LIBRARY_PREFIX, LibraryEntry
from nimco._library_series import check_together, known_spectrum
from nimco._reference_files import file_source, read_reference_spectrum
from nimco._reference_library import ReferenceLibrary
from nimco.errors import NimcoError, ReferenceFileError


class ReferenceOption(NamedTuple):
    """One --reference.

    Attributes
    ----------
    spectrum : Path or str
        The file; a text is an entry of the library, ``NAME`` or ``NAME@VERSION``.
    soc : float or None
        State of charge, where one is given.
    """

    spectrum: Path | str
    soc: float | None


def parse_reference_option(text: str) -> ReferenceOption:
    """Read ``FILE``, ``FILE=SOC``, ``library:NAME``, ``library:NAME@VERSION`` or ``library:NAME=SOC``.

    Raises
    ------
    ReferenceFileError
        What stands behind the sign is no number.
    """
    if Path(text).exists():
        return ReferenceOption(Path(text), None)
    name, equals, soc = text.rpartition("=")
    try:
        state = float(soc) if equals else None
    except ValueError as error:
        raise ReferenceFileError(
            f"--reference {text}: '{soc}' is not a state of charge; write FILE=SOC, for example charged.txt=1."
        ) from error
    name = name if equals else text
    if name.startswith(LIBRARY_PREFIX):
        return ReferenceOption(name.removeprefix(LIBRARY_PREFIX), state)
    return ReferenceOption(Path(name), state)


def uses_library(options: Sequence[tuple[Path | str, float | None]]) -> bool:
    """Whether a spectrum of the library is among them."""
    return any(isinstance(spectrum, str) for spectrum, _ in options)


def reference_series(
    options: Sequence[tuple[Path | str, float | None]],
    *,
    library: Callable[[], ReferenceLibrary] | None = None,
    edge: str | None = None,
) -> tuple[ReferenceSeries, list[str]]:
    """Build a reference series from files and entries of the library.

    Parameters
    ----------
    options : sequence of (Path or str, float or None)
        In the order of the series. Files without a state of charge are spread evenly from 0 to 1 in the order given;
        entries of the library have their own.
    library : callable, optional
        Returns the library; called where an option needs it.
    edge : str, optional
        The edge of the scan, where it is known: entries of another one are refused.

    Returns
    -------
    series : ReferenceSeries
        On the energies of the finest spectrum that all cover.
    notes : list of str
        One line a spectrum: what was recognised.

    Raises
    ------
    NimcoError
        There are fewer than two, a file or entry cannot be read, only some files have a state of charge, or they do
        not go together.
    """
    if len(options) < 2:
        raise ReferenceFileError(
            f"{len(options)} reference given; a series needs two or more, for example --reference discharged.txt=0 "
            "--reference charged.txt=1, or entries of the library as --reference library:NAME."
        )
    states = [soc for spectrum, soc in options if isinstance(spectrum, Path)]
    if None in states and (uses_library(options) or any(soc is not None for soc in states)):
        raise ReferenceFileError(
            "Give a state of charge (FILE=SOC) for every reference file or for none; beside entries of the library, "
            "for every file."
        )
    entries: dict[str, LibraryEntry] = {}
    if uses_library(options):
        if library is None:
            raise NimcoError(
                "References of the library are kept in Tiled; name the server with --tiled http://127.0.0.1:8710."
            )
        held = library()
        entries = {name: held.get(name) for name, _ in options if isinstance(name, str)}
        check_together(list(entries.values()), None if edge is None else edge_name(edge))
    spread = np.linspace(0.0, 1.0, len(options))
    spectra, notes = [], []
    for (name, soc), even in zip(options, spread, strict=True):
        if isinstance(name, str):
            spectrum = known_spectrum(entries[name], soc)
            note = f"{spectrum.name}: SOC {spectrum.soc:g}, {entries[name].edge}, {entries[name].composition}"
        else:
            read = read_reference_spectrum(name)
            state = float(even) if soc is None else soc
            spectrum = KnownSpectrum(read.path.name, read.energy_ev, read.mu, state, file_source(read))
            note = f"{read.path.name}: SOC {state:g}, {', '.join(read.notes)}"
        spectra.append(spectrum)
        notes.append(note)
    return join_spectra(spectra), notes


def references_by_edge(
    texts: Sequence[str], *, library: Callable[[], ReferenceLibrary] | None, edge: str | None
) -> tuple[ReferenceSeries | dict[str, ReferenceSeries], list[str]]:
    """Build a series as the command line names it; one of the library is for the runs of its edge only.

    Parameters
    ----------
    texts : sequence of str
        As `parse_reference_option` reads them.
    library, edge
        As for `reference_series`.

    Returns
    -------
    series : ReferenceSeries or dict of edge name to ReferenceSeries
    notes : list of str
        One line a spectrum.

    Raises
    ------
    NimcoError
        As `parse_reference_option` and `reference_series`.
    """
    series, notes = reference_series(
        [parse_reference_option(text) for text in texts], library=library, edge=edge
    )
    edges = {source.get("edge") for source in series.sources}
    known = edges.pop() if len(edges) == 1 else None
    return series if known is None else {known: series}, notes
