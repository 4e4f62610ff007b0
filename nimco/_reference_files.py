"""Reference spectra from files: text, CSV and XDI tables, in eV or keV."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_fitting import EdgeFittingError, ReferenceSeries, read_text_table
from nimco._reference_columns import spectrum_columns
from nimco.errors import ReferenceFileError


@dataclass(frozen=True)
class ReferenceSpectrum:
    """One reference spectrum as read from a file.

    Attributes
    ----------
    path : Path
        Where it came from.
    energy_ev, mu : numpy.ndarray
        Photon energy (eV, increasing) and absorption (any scale), shape (n,).
    notes : tuple of str
        What was recognised: the unit, the columns.
    """

    path: Path
    energy_ev: np.ndarray
    mu: np.ndarray
    notes: tuple[str, ...]


def read_reference_spectrum(path: Path | str) -> ReferenceSpectrum:
    """Read one reference spectrum.

    Two columns without titles are energy and absorption. Otherwise the columns are found by their titles (a line above
    the numbers, SPEC's ``#L``, or the header of an XDI file): energy, wavelength or angle; absorption, measured or
    normalised, or the intensities, whose absorption is ``ln(i0 / itrans)`` or ``ifluor / i0``. Energies in keV are
    recognised by their size and converted. What cannot be told for certain is refused.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    ReferenceSpectrum
        Energies in eV, increasing, repeats averaged.

    Raises
    ------
    ReferenceFileError
        If the file is missing, holds no numbers, or its columns cannot be told apart.
    """
    path = Path(path)
    try:
        table = read_text_table(path)
    except EdgeFittingError as error:
        raise ReferenceFileError(f"Reference {error}") from error
    energy, mu, notes = spectrum_columns(table)
    whole = np.isfinite(energy) & np.isfinite(mu)
    inside = np.flatnonzero(whole)
    if inside.size == 0 or not whole[inside[0] : inside[-1] + 1].all():
        bad = table.lines[
            int(np.flatnonzero(~whole)[0] if inside.size == 0 else inside[0] + np.argmin(whole[inside[0] :]))
        ]
        raise ReferenceFileError(
            f"Reference file {path} holds non-finite or missing values among its numbers (line {bad}); remove "
            "those rows."
        )
    if inside.size < whole.size:
        notes = (*notes, f"{whole.size - inside.size} rows without values at the ends left out")
    energy, mu = energy[whole], mu[whole]
    energy, inverse = np.unique(energy, return_inverse=True)
    if energy.size < inverse.size:
        notes = (*notes, f"{inverse.size - energy.size} repeated energies averaged")
    mu = np.bincount(inverse, weights=mu) / np.bincount(inverse)
    if energy.size < 5:
        raise ReferenceFileError(
            f"Reference file {path} holds {energy.size} energies; a reference spectrum needs at least 5."
        )
    return ReferenceSpectrum(path, energy, mu, notes)


def reference_series(files: list[tuple[Path, float | None]]) -> tuple[ReferenceSeries, list[str]]:
    """Build a reference series from files.

    Parameters
    ----------
    files : list of (Path, float or None)
        Files in the order of the series with their state of charge (0-1); where none is given they are spread
        evenly from 0 to 1 in the order given.

    Returns
    -------
    series : ReferenceSeries
        On the energies of the first file that all files cover.
    notes : list of str
        One line a file: what was recognised.

    Raises
    ------
    ReferenceFileError
        If fewer than two files are given, only some have a state of charge, or they do not overlap.
    """
    if len(files) < 2:
        raise ReferenceFileError(
            f"{len(files)} reference file given; a series needs two or more, for example "
            "--reference discharged.txt=0 --reference charged.txt=1."
        )
    given = [soc for _, soc in files if soc is not None]
    if given and len(given) != len(files):
        raise ReferenceFileError("Give a state of charge (FILE=SOC) for every reference file or for none.")
    socs = np.array(given) if given else np.linspace(0.0, 1.0, len(files))
    spectra = [read_reference_spectrum(path) for path, _ in files]
    low = max(s.energy_ev[0] for s in spectra)
    high = min(s.energy_ev[-1] for s in spectra)
    # The finest axis keeps what the files hold; np.interp then only ever fills in, never thins out.
    finest = min(spectra, key=lambda s: float(np.median(np.diff(s.energy_ev))))
    axis = finest.energy_ev[(finest.energy_ev >= low) & (finest.energy_ev <= high)]
    if axis.size < 5:
        raise ReferenceFileError(
            f"The reference files share no energy range (common part {low:.1f} to {high:.1f} eV); "
            "give spectra of the same edge."
        )
    mu = np.stack([np.interp(axis, s.energy_ev, s.mu) for s in spectra])
    notes = [
        f"{s.path.name}: SOC {soc:g}, {', '.join(s.notes)}" for s, soc in zip(spectra, socs, strict=True)
    ]
    return ReferenceSeries(axis, mu, socs), notes


def parse_reference_option(text: str) -> tuple[Path, float | None]:
    """Split ``FILE`` or ``FILE=SOC`` as given on the command line."""
    name, equals, soc = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text), None
    try:
        return Path(name), float(soc)
    except ValueError as error:
        raise ReferenceFileError(
            f"--reference {text}: '{soc}' is not a state of charge; write FILE=SOC, for example charged.txt=1."
        ) from error
