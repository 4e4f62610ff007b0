"""`nimco references`: the reference library from the command line."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from edge_fitting import FoilCalibration, calibrate_foil, edge_name
from nimco._library_entries import LIBRARY_PREFIX, LibraryEntry, ReferenceCalibration, new_entry
from nimco._reference_files import ReferenceSpectrum, read_reference_spectrum
from nimco._reference_library import ReferenceLibrary
from nimco._stopping import ended_by_signal
from nimco._stored_data import stored_data
from nimco.errors import NimcoError

_STATES = ("soc", "valence")


def add(
    *,
    files: list[Path],
    edge: str,
    composition: str,
    state: list[str] | None,
    name: list[str] | None,
    foil: str | None,
    foil_scan: Path | None,
    definition: str | None,
    shift_ev: float,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
) -> None:
    """Read spectra from files, put them on the calibrated axis, and add them to the library."""
    console = Console(highlight=False, soft_wrap=True)
    edge = edge_name(edge)
    states = _per_file("--state soc=0.5 or valence=2", state, files)
    names = [path.stem for path in files] if not name else _per_file("--name", name, files)
    twice = next((text for text in names if names.count(text) > 1), None)
    if twice is not None:
        raise NimcoError(f"Two of the files would be called {twice!r}; name each with --name, once a file.")
    calibration = _calibration(edge, foil, foil_scan, definition, shift_ev)
    spectra = [read_reference_spectrum(path) for path in files]
    # All are checked before the first is written.
    found = [
        _checked(spectrum, called, edge, composition, calibration, _states(text))
        for spectrum, called, text in zip(spectra, names, states, strict=True)
    ]
    added: list[LibraryEntry] = []
    with ended_by_signal(lambda: _progress_sentence(added)), ExitStack() as closing:
        library = ReferenceLibrary(stored_data(closing, tiled, api_key_file, data_dir, may_create=True))
        for spectrum, entry in zip(spectra, found, strict=True):
            added.append(
                library.add(
                    entry.name,
                    spectrum.energy_ev + calibration.shift_ev,
                    spectrum.mu,
                    edge=edge,
                    composition=composition,
                    calibration=calibration,
                    soc=entry.soc,
                    valence=entry.valence,
                    source=spectrum.path.name,
                )
            )
            console.print(
                f"added  {added[-1].label}: {', '.join((*_about(added[-1]), *spectrum.notes))}", markup=False
            )
    console.print(
        "use    " + " ".join(f'--reference "{LIBRARY_PREFIX}{entry.name}"' for entry in added), markup=False
    )


def list_entries(
    *,
    edge: str | None,
    composition: str | None,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
) -> None:
    """Print what the library has, the current version of each."""
    with ended_by_signal(lambda: "nothing was changed, nothing waits"), ExitStack() as closing:
        library = ReferenceLibrary(stored_data(closing, tiled, api_key_file, data_dir))
        found = library.find(edge=edge, composition=composition)
    # Names are typed again: none is cut short.
    texts = [Column(title, overflow="fold") for title in ("name", "composition", "calibration", "from")]
    table = Table(texts[0], "version", "edge", texts[1], "SOC", "valence", *texts[2:], "energies")
    for entry in found:
        known = entry.calibration
        table.add_row(
            entry.name,
            str(entry.version),
            entry.edge,
            entry.composition,
            "" if entry.soc is None else f"{entry.soc:g}",
            "" if entry.valence is None else f"{entry.valence:g}",
            "none" if known is None else f"{known.foil} foil, {known.shift_ev:+.2f} eV",
            entry.source,
            str(entry.n_energies),
        )
    Console().print(table if found else "The reference library has no such spectra.")


def _per_file(option: str, given: list[str] | None, files: Sequence[Path]) -> list[str]:
    if len(given or ()) != len(files):
        raise NimcoError(
            f"{len(files)} files and {len(given or ())} of {option}; give one for each file, in the same order."
        )
    return list(given or ())


def _states(text: str) -> dict[str, float]:
    """Read ``soc=0.5``, ``valence=2``, both with a comma, or just the state of charge."""
    states: dict[str, float] = {}
    for part in text.split(","):
        key, equals, value = part.rpartition("=")
        key = key.strip().casefold() if equals else "soc"
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if key not in _STATES or key in states or number != number:
            raise NimcoError(f"--state {text} is no state; write soc=0.5, valence=2, or soc=0.5,valence=3.2.")
        states[key] = number
    return states


def _calibration(
    edge: str, foil: str | None, foil_scan: Path | None, definition: str | None, shift_ev: float
) -> ReferenceCalibration:
    """Return how the energies of the files come onto the calibrated axis."""
    if foil_scan is not None:
        if foil is not None or definition is not None or shift_ev:
            raise NimcoError(
                "--foil-scan finds foil, definition and shift itself; give it alone, or the others."
            )
        scan = read_reference_spectrum(foil_scan)
        found: FoilCalibration = calibrate_foil(scan.energy_ev, scan.mu, edge=edge)
        return ReferenceCalibration.of(found, edge)
    if foil is None:
        raise NimcoError(
            "Spectra whose energy axis is not calibrated serve no other beamline; name the scan of a foil with "
            "--foil-scan FILE, or say with --foil Ni what they were calibrated with (and with --shift-ev what is to "
            "be added still)."
        )
    said = ReferenceCalibration(foil, shift_ev=shift_ev)
    if definition is not None:
        said = ReferenceCalibration(foil, definition, shift_ev)
    return ReferenceCalibration.of(said, edge)


def _checked(
    spectrum: ReferenceSpectrum,
    name: str,
    edge: str,
    composition: str,
    calibration: ReferenceCalibration,
    states: dict[str, float],
) -> LibraryEntry:
    entry, _ = new_entry(
        name,
        spectrum.energy_ev + calibration.shift_ev,
        spectrum.mu,
        edge=edge,
        composition=composition,
        calibration=calibration,
        soc=states.get("soc"),
        valence=states.get("valence"),
        source=spectrum.path.name,
    )
    return entry


def _about(entry: LibraryEntry) -> tuple[str, ...]:
    said = [entry.edge, entry.composition]
    said += [] if entry.soc is None else [f"SOC {entry.soc:g}"]
    said += [] if entry.valence is None else [f"valence {entry.valence:g}"]
    assert entry.calibration is not None
    return (*said, f"{entry.calibration.foil} foil, {entry.calibration.shift_ev:+.2f} eV")


def _progress_sentence(added: list[LibraryEntry]) -> str:
    """Say what a stopped command has added."""
    names = ", ".join(entry.label for entry in added) or "nothing"
    return f"{names} was added to the reference library as a whole, the rest was not; nothing waits"
