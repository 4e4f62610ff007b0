"""Reference spectra from files: two-column text, CSV and XDI, in eV or keV."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_fitting import ReferenceSeries
from nimco._errors import ReferenceFileError

# No absorption edge this package knows lies above 100 keV or below 100 eV, so the number itself tells its unit.
_KEV_BELOW = 100.0
_COMMENT = ("#", "%", ";", "!")
_MU_NAMES = ("mutrans", "mu", "xmu", "mu_trans", "norm", "normalized", "flat", "mufluor", "mu_fluor")
_AFTER_SAMPLE = ("itrans", "i1", "it")
_FLUORESCENCE = ("ifluor", "if", "fluor")


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

    Two-column text and CSV hold energy and absorption; an XDI file (XDI/1.0) names its columns, and where it
    holds intensities the absorption is ``ln(i0 / itrans)`` or ``ifluor / i0``. Energies in keV are recognised
    by their size and converted.

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
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ReferenceFileError(
            f"Reference file {path} cannot be read ({error.strerror}); check the path."
        ) from error
    header = [line.lstrip("".join(_COMMENT)).strip() for line in lines if line.lstrip().startswith(_COMMENT)]
    table = _numbers(path, lines)
    names = _column_names(header)
    energy_column, mu, notes = _absorption(path, table, names)
    energy = table[:, energy_column]
    if not np.isfinite(energy).all() or not np.isfinite(mu).all():
        raise ReferenceFileError(f"Reference file {path} holds non-finite values; remove those rows.")
    if energy.max() < _KEV_BELOW:
        energy = energy * 1000.0
        notes = (*notes, "energies in keV, converted to eV")
    else:
        notes = (*notes, "energies in eV")
    energy, inverse = np.unique(energy, return_inverse=True)
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


def _numbers(path: Path, lines: list[str]) -> np.ndarray:
    """All rows of numbers, as one table; a first row of column titles is passed over."""
    rows = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith(_COMMENT):
            continue
        try:
            rows.append([float(cell) for cell in re.split(r"[\s,;]+", line.strip().strip(",;"))])
        except ValueError:
            if rows:
                raise ReferenceFileError(
                    f"Reference file {path} has text among its numbers ('{line.strip()[:40]}'); remove it."
                ) from None
    widths = {len(row) for row in rows}
    if len(widths) != 1 or min(widths) < 2:
        raise ReferenceFileError(
            f"Reference file {path} is not a table of numbers with two or more columns (energy, absorption)."
        )
    return np.array(rows)


def _column_names(header: list[str]) -> dict[str, int]:
    """Column names of an XDI header, lower case, with their index from 0."""
    names = {}
    for line in header:
        if match := re.match(r"column\.(\d+):\s*(\S+)", line, re.IGNORECASE):
            names[match[2].lower()] = int(match[1]) - 1
    return names


def _absorption(
    path: Path, table: np.ndarray, names: dict[str, int]
) -> tuple[int, np.ndarray, tuple[str, ...]]:
    """Find the energy column and the absorption; say which columns were used."""
    names = {name: index for name, index in names.items() if index < table.shape[1]}
    energy_column = names.get("energy", 0)
    for name in _MU_NAMES:
        if name in names:
            return energy_column, table[:, names[name]], (f"XDI column '{name}'",)
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in _AFTER_SAMPLE:
            if "i0" in names and name in names:
                mu = np.log(table[:, names["i0"]] / table[:, names[name]])
                return energy_column, mu, (f"XDI columns ln(i0/{name})",)
        for name in _FLUORESCENCE:
            if "i0" in names and name in names:
                mu = table[:, names[name]] / table[:, names["i0"]]
                return energy_column, mu, (f"XDI columns {name}/i0",)
    if names:
        raise ReferenceFileError(
            f"Reference file {path} names the columns {', '.join(names)}: none is an absorption; "
            "save it with a column 'mutrans', or with 'i0' and 'itrans'."
        )
    return 0, table[:, 1], ("columns 1 and 2",)
