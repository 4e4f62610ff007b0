"""Which columns of a table are the energy and the absorption of a reference spectrum."""

import numpy as np
import numpy.typing as npt

from edge_fitting import EDGES, EdgeFittingError, TextTable, Title
from nimco.errors import ReferenceFileError
from scan_contract import HC_EV_ANGSTROM

_KEV_BELOW = 100.0
_ENERGY = ("energy", "e", "en", "ene", "photon_energy", "mono_energy", "bragg_energy", "x_eng", "energies")
# In the order in which they are taken, where a file has several: as measured before normalised, before fluorescence.
_MU = (
    *(
        "mutrans",
        "mu_trans",
        "mu",
        "xmu",
        "mux",
        "mu_x",
        "absorption",
        "absorption_coefficient",
        "absorbance",
    ),
    *("optical_depth", "optical_density", "od", "norm", "nor", "normalized", "normalised", "normalized_mu"),
    *("norm_mu", "mu_norm", "normalized_absorption", "normalised_absorption", "normalized_xmu", "norm_xmu"),
    *("normtrans", "flat", "flattened", "mufluor", "mu_fluor", "normfluor"),
)
_I0 = ("i0", "io", "i_0", "monitor", "mon")
_AFTER_SAMPLE = ("itrans", "i1", "it", "i_1", "i_t", "itransmission")
_FLUORESCENCE = ("ifluor", "if", "i_f", "fluor", "fluorescence", "iff")
_ANGLE = ("angle", "theta", "bragg", "bragg_angle", "mono_angle")
_WAVELENGTH = ("wavelength", "lambda")

Column = npt.NDArray[np.float64]


def spectrum_columns(table: TextTable) -> tuple[Column, Column, tuple[str, ...]]:
    """Return energies (eV) and absorption as the rows of a file give them, and notes on what was taken.

    Raises
    ------
    ReferenceFileError
        If the columns cannot be told apart; the message says why.
    """
    where = f"Reference file {table.path}"
    count = table.values.shape[1]
    if count < 2:
        raise ReferenceFileError(
            f"{where} is not a table of numbers with two or more columns (energy, absorption)."
        )
    try:
        titles = table.titles(_is_known)
    except EdgeFittingError as error:
        raise ReferenceFileError(f"Reference {error}") from error
    if titles is None:
        if count > 2:
            raise ReferenceFileError(
                f"{where} has {count} columns without titles, so that the absorption among them cannot be told; add a "
                "line of titles such as: energy mu i0."
            )
        energy, mu = table.values[:, 0], table.values[:, 1]
        energy_ev, note = _in_ev(where, energy, Title("energy"))
        return energy_ev, mu, ("columns 1 and 2", note)
    energy_ev, note = _energy(where, table, titles)
    mu, taken = _absorption(where, table, titles)
    return energy_ev, mu, (f"XDI {taken}" if table.is_xdi else taken, note)


def _is_known(name: str) -> bool:
    names = (*_ENERGY, *_MU, *_I0, *_AFTER_SAMPLE, *_FLUORESCENCE, *_ANGLE, *_WAVELENGTH)
    return name in names or "energy" in name


def _find(where: str, titles: tuple[Title, ...], names: tuple[str, ...]) -> int | None:
    """Return the column with the first of some names; None where there is none."""
    for name in names:
        found = [index for index, title in enumerate(titles) if title.name == name]
        if len(found) > 1:
            raise ReferenceFileError(f"{where} has {len(found)} columns titled '{name}'; keep one.")
        if found:
            return found[0]
    return None


def _energy(where: str, table: TextTable, titles: tuple[Title, ...]) -> tuple[Column, str]:
    column = _find(where, titles, _ENERGY)
    if column is None:
        containing = [index for index, title in enumerate(titles) if "energy" in title.name]
        if len(containing) > 1:
            named = ", ".join(titles[index].name for index in containing)
            raise ReferenceFileError(
                f"{where} has several columns of energies ({named}); title one 'energy'."
            )
        column = containing[0] if containing else None
    if column is not None:
        return _in_ev(where, table.values[:, column], titles[column])
    if (column := _find(where, titles, _WAVELENGTH)) is not None:
        angstrom = table.values[:, column] * {"nm": 10.0, "pm": 0.01}.get(titles[column].unit, 1.0)
        with np.errstate(divide="ignore"):
            return _checked(where, HC_EV_ANGSTROM / angstrom), "energies from the wavelength"
    if (column := _find(where, titles, _ANGLE)) is not None:
        return _from_angle(where, table, table.values[:, column], titles[column].unit)
    named = ", ".join(title.name or "?" for title in titles)
    raise ReferenceFileError(f"{where} names the columns {named}: none is an energy; title one 'energy'.")


def _from_angle(where: str, table: TextTable, angle: Column, unit: str) -> tuple[Column, str]:
    given = table.fields.get("mono.d_spacing", "").split()
    try:
        d_spacing_angstrom = float(given[0])
    except (IndexError, ValueError):
        d_spacing_angstrom = 0.0
    if not (np.isfinite(d_spacing_angstrom) and d_spacing_angstrom > 0):
        raise ReferenceFileError(
            f"{where} gives the angle of the monochromator but not its lattice spacing; add the header field "
            "Mono.d_spacing (Angstrom), or a column 'energy'."
        )
    radians = angle * {"rad": 1.0, "radians": 1.0, "mrad": 0.001}.get(unit, np.pi / 180)
    with np.errstate(divide="ignore"):
        energy_ev = HC_EV_ANGSTROM / (2 * d_spacing_angstrom * np.sin(radians))
    return _checked(where, energy_ev), f"energies from the angle and d = {d_spacing_angstrom:g} A"


def _in_ev(where: str, energy: Column, title: Title) -> tuple[Column, str]:
    finite = energy[np.isfinite(energy)]
    # No absorption edge known here lies above 100 keV or below 100 eV, so the number itself tells its unit.
    in_kev = bool(finite.size and finite.max() < _KEV_BELOW)
    if title.unit in ("ev", "kev") and in_kev != (title.unit == "kev"):
        raise ReferenceFileError(
            f"{where} gives energies in {'keV' if title.unit == 'kev' else 'eV'} by its title, but {finite.max():g} "
            "is none of an edge known here; correct the title."
        )
    if in_kev:
        return _checked(where, energy * 1000.0), "energies in keV, converted to eV"
    return _checked(where, energy), "energies in eV"


def _checked(where: str, energy_ev: Column) -> Column:
    """Refuse what cannot be the energies of a scan over an edge: an angle, a point number, an absorption."""
    finite = energy_ev[np.isfinite(energy_ev)]
    for levels in (("K",), ("L3", "L2")):
        limits = [edge.scan_limits_ev for edge in EDGES.values() if edge.level in levels]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        if not finite.size or (low <= finite.min() and finite.max() <= high):
            return energy_ev
    raise ReferenceFileError(
        f"{where}: its energies would go from {finite.min():g} to {finite.max():g} eV, which is no scan of an edge "
        "known here; put the energy (eV or keV) into the first column or title it 'energy'."
    )


def _absorption(where: str, table: TextTable, titles: tuple[Title, ...]) -> tuple[Column, str]:
    column = _find(where, titles, _MU)
    if column is not None:
        return table.values[:, column], f"column '{titles[column].name}'"
    i0 = _find(where, titles, _I0)
    after, fluorescence = _find(where, titles, _AFTER_SAMPLE), _find(where, titles, _FLUORESCENCE)
    if i0 is not None and (after is not None or fluorescence is not None):
        before = table.values[:, i0]
        other = after if after is not None else fluorescence
        assert other is not None
        seen = table.values[:, other]
        known = np.isfinite(before) & np.isfinite(seen)
        if (before[known] <= 0).any() or (after is not None and (seen[known] <= 0).any()):
            raise ReferenceFileError(
                f"{where} holds intensities that are zero or negative in '{titles[i0].name}' or "
                f"'{titles[other].name}'; subtract the dark current, and remove such rows."
            )
        if after is not None:
            return np.log(before / seen), f"columns ln({titles[i0].name}/{titles[other].name})"
        return seen / before, f"columns {titles[other].name}/{titles[i0].name}"
    named = ", ".join(title.name or "?" for title in titles)
    raise ReferenceFileError(
        f"{where} names the columns {named}: none is an absorption; "
        "save it with a column 'mutrans' or 'mu', or with 'i0' and 'itrans'."
    )
