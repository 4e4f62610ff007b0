"""Reference spectra from files: text, CSV and XDI tables, in eV or keV."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_fitting import EdgeFittingError, read_text_table
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


def file_source(spectrum: ReferenceSpectrum) -> dict[str, str]:
    """Return where a result says that a spectrum came from, `scan_contract.ReferenceSource`."""
    return {"name": spectrum.path.stem, "source": spectrum.path.name}
