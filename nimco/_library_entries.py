"""One spectrum of the reference library: what is said of it, and its metadata in Tiled."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import httpx
import numpy as np
import numpy.typing as npt

from edge_fitting import EDGES, EdgeFittingError, FoilCalibration, ReferenceSeries, edge_name
from nimco.errors import ReferenceLibraryError

Array = npt.NDArray[np.float64]

LIBRARY_PREFIX = "library:"
VERSION_MARK = "@"
SPEC = "NimcoReference"
SPEC_VERSION = "1.0"
# A name is typed on command lines (NAME@VERSION=SOC) and part of an address.
_NAME = re.compile(r"[\w(][\w .+(),-]{0,119}")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?(?:\d+(?:\.\d*)?|\.\d+)?)+")
_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d*)?|\.\d+)?")


@dataclass(frozen=True)
class ReferenceCalibration:
    """What the energy axis of a reference spectrum was calibrated with.

    Parameters
    ----------
    foil : str
        Metal of the foil, such as ``"Ni"``.
    definition : str
        Which point of the foil's spectrum, or of the edge, the energy stands for.
    shift_ev : float
        What the calibration added to the energies.
    foil_energy_ev : float, optional
        Energy of that point by convention; None where it is not known.
    """

    foil: str
    definition: str = "first inflection of the metal foil"
    shift_ev: float = 0.0
    foil_energy_ev: float | None = None

    @classmethod
    def of(cls, calibration: "ReferenceCalibration | FoilCalibration", edge: str) -> Self:
        """Return a calibration with the foil's energy by the convention of `edge_fitting.EDGES` where it can be known.

        Raises
        ------
        ReferenceLibraryError
            It is no calibration.
        """
        if isinstance(calibration, FoilCalibration):
            return cls(
                foil=EDGES[calibration.edge].element if calibration.edge in EDGES else calibration.edge,
                shift_ev=calibration.offset_ev,
                foil_energy_ev=calibration.nominal_ev,
            )
        if not isinstance(calibration, ReferenceCalibration):
            raise ReferenceLibraryError(
                f"{calibration!r} is no energy calibration; a reference spectrum without one serves no other beamline: "
                "give what calibrate_foil returned, or ReferenceCalibration(foil=...)."
            )
        for what, text in (("foil", calibration.foil), ("definition", calibration.definition)):
            if not isinstance(text, str) or not text.strip():
                raise ReferenceLibraryError(f"the calibration names no {what} ({text!r}); name it.")
        energy = calibration.foil_energy_ev
        if energy is None and calibration.foil.strip().casefold() == EDGES[edge].element.casefold():
            energy = EDGES[edge].foil_inflection_ev
        return cls(
            calibration.foil.strip(),
            calibration.definition.strip(),
            _finite(calibration.shift_ev, "shift of the calibration"),
            None if energy is None else _finite(energy, "energy of the foil"),
        )


@dataclass(frozen=True)
class LibraryEntry:
    """One version of a spectrum in the reference library.

    Attributes
    ----------
    name : str
        Name in the library.
    version : int
        1 for the first.
    edge : str
        Key of `edge_fitting.EDGES`.
    composition : str
        Formula or family, as it was given.
    soc, valence : float or None
        State of charge and valence of the metal, as far as known.
    calibration : ReferenceCalibration or None
        What the energies were calibrated with; None for a spectrum of others that does not say.
    source : str
        Where the spectrum came from: a file's name, the uid of a run.
    energy_ev, mu : numpy.ndarray, shape (n,)
        Energies on the calibrated axis and absorption, exactly as they were added.
    n_energies : int
        How many.
    """

    name: str
    version: int
    edge: str
    composition: str
    soc: float | None
    valence: float | None
    calibration: ReferenceCalibration | None
    source: str
    n_energies: int
    checksum: str = field(repr=False, default="")
    _node: Any = field(repr=False, compare=False, default=None)

    @property
    def label(self) -> str:
        """Name and version as a command takes them."""
        return f"{self.name}{VERSION_MARK}{self.version}"

    @cached_property
    def _spectrum(self) -> Array:
        try:
            spectrum = np.asarray(self._node.read(), dtype=np.float64)
        except httpx.TransportError as error:
            raise ReferenceLibraryError(
                f"the spectrum of {LIBRARY_PREFIX}{self.label} cannot be read: Tiled does not answer "
                f"({type(error).__name__}); start it again."
            ) from error
        except (
            Exception
        ) as error:  # a file that is gone or cut short: as many kinds of error as there are layers
            raise ReferenceLibraryError(
                f"the spectrum of {LIBRARY_PREFIX}{self.label} cannot be read ({type(error).__name__}); its data are "
                "damaged: use an earlier version, or add it again."
            ) from error
        if spectrum.shape != (2, self.n_energies) or checksum(spectrum) != self.checksum:
            raise ReferenceLibraryError(
                f"the spectrum of {LIBRARY_PREFIX}{self.label} is not what was added; its data are damaged: use an "
                "earlier version, or add it again."
            )
        spectrum.flags.writeable = False
        return spectrum

    @property
    def energy_ev(self) -> Array:
        """Energies in eV on the calibrated axis, as added."""
        return np.asarray(self._spectrum[0])

    @property
    def mu(self) -> Array:
        """Absorption, as added."""
        return np.asarray(self._spectrum[1])

    def origin(self) -> dict[str, Any]:
        """Return where a result says that this spectrum came from, `scan_contract.ReferenceSource`."""
        said: dict[str, Any] = {
            "name": self.name,
            "source": f"{LIBRARY_PREFIX}{self.label}",
            "version": str(self.version),
            "edge": self.edge,
            "composition": self.composition,
            "from": self.source,
        }
        if self.calibration is not None:
            said |= {
                "foil": self.calibration.foil,
                "definition": self.calibration.definition,
                "shift_ev": self.calibration.shift_ev,
            }
        return said

    def to_metadata(self) -> dict[str, Any]:
        """Return what Tiled keeps of it beside the spectrum."""
        known = self.calibration
        return {
            "name": self.name,
            "version": self.version,
            "edge": self.edge,
            "composition": self.composition,
            "soc": self.soc,
            "valence": self.valence,
            "calibration": None
            if known is None
            else {
                "foil": known.foil,
                "definition": known.definition,
                "shift_ev": known.shift_ev,
                "foil_energy_ev": known.foil_energy_ev,
            },
            "source": self.source,
            "n_energies": self.n_energies,
            "checksum": self.checksum,
            "columns": ["energy_ev", "mu"],
        }

    @classmethod
    def from_node(cls, key: str, node: Any) -> Self:
        """Read an entry of the library from what Tiled holds under a key.

        Raises
        ------
        ReferenceLibraryError
            Its metadata are not those of an entry.
        """
        about = node.metadata
        try:
            calibration = about.get("calibration")
            return cls(
                name=_text(about["name"]),
                version=int(about["version"]),
                edge=edge_name(about["edge"]),
                composition=_text(about["composition"]),
                soc=_optional(about.get("soc"), "state of charge"),
                valence=_optional(about.get("valence"), "valence"),
                calibration=None if calibration is None else _calibration(calibration),
                source=str(about.get("source") or ""),
                n_energies=int(about["n_energies"]),
                checksum=str(about["checksum"]),
                _node=node,
            )
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            EdgeFittingError,
            ReferenceLibraryError,
        ) as error:
            raise ReferenceLibraryError(
                f"the entry {key} of the reference library is damaged (what is said of it cannot be read: {error}); "
                "use an earlier version, or add it again."
            ) from error


def new_entry(
    name: str,
    energy_ev: npt.ArrayLike,
    mu: npt.ArrayLike,
    *,
    edge: str,
    composition: str,
    calibration: ReferenceCalibration | FoilCalibration,
    soc: float | None,
    valence: float | None,
    source: str,
) -> tuple[LibraryEntry, Array]:
    """Check a spectrum that shall go into the library.

    Returns
    -------
    entry : LibraryEntry
        Of version 0.
    spectrum : ndarray, shape (2, n)
        Energies and absorption.

    Raises
    ------
    ReferenceLibraryError
        Something of it cannot be.
    EdgeFittingError
        It is no spectrum of this edge.
    """
    check_name(name)
    edge = edge_name(edge)
    if not isinstance(composition, str) or not composition.strip():
        raise ReferenceLibraryError(f"{name} has no composition; give a formula or a family, such as NMC622.")
    states = _optional(soc, f"state of charge of {name}"), _optional(valence, f"valence of {name}")
    if states == (None, None):
        raise ReferenceLibraryError(f"{name} has no state; give its state of charge, its valence, or both.")
    spectrum = _spectrum(name, edge, energy_ev, mu)
    entry = LibraryEntry(
        name=name,
        version=0,
        edge=edge,
        composition=composition.strip(),
        soc=states[0],
        valence=states[1],
        calibration=ReferenceCalibration.of(calibration, edge),
        source=str(source),
        n_energies=spectrum.shape[1],
        checksum=checksum(spectrum),
    )
    return entry, spectrum


def _spectrum(name: str, edge: str, energy_ev: npt.ArrayLike, mu: npt.ArrayLike) -> Array:
    try:
        energies, values = np.asarray(energy_ev, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    except (TypeError, ValueError):
        raise ReferenceLibraryError(f"energy_ev and mu of {name} must be numbers.") from None
    if energies.ndim != 1 or energies.shape != values.shape:
        raise ReferenceLibraryError(
            f"energy_ev and mu of {name} must be one list each of the same length, not {energies.shape} and "
            f"{values.shape}."
        )
    if not (np.isfinite(energies).all() and np.isfinite(values).all()):
        raise ReferenceLibraryError(f"{name} has values that are not finite; leave those points out.")
    limits = EDGES[edge].scan_limits_ev
    at = EDGES[edge].energy_ev
    inside = (energies >= limits[0]) & (energies <= limits[1])
    if not energies.size or not inside.all() or not energies.min() < at < energies.max():
        span = f"{energies.min():.6g} to {energies.max():.6g} eV" if energies.size else "nothing"
        raise ReferenceLibraryError(
            f"{name} covers {span}, which is no scan across the {edge} edge at {at:.6g} eV; check the edge, and the "
            "unit of the energies (eV)."
        )
    try:
        ReferenceSeries.shift_family(energies, values)
    except EdgeFittingError as error:
        raise ReferenceLibraryError(f"{name} is no reference spectrum: {error}") from error
    return np.stack([energies, values])


def check_name(name: object) -> str:
    """Return the name of an entry.

    Raises
    ------
    ReferenceLibraryError
        It cannot be one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != name.strip():
        raise ReferenceLibraryError(
            f"{name!r} cannot be the name of a reference; use up to 120 letters, digits, spaces and . + - ( ) , _."
        )
    return name


def checksum(spectrum: Array) -> str:
    """Return what tells a spectrum that has changed."""
    return hashlib.sha256(np.ascontiguousarray(spectrum, dtype="<f8").tobytes()).hexdigest()


def same_composition(one: str, other: str) -> bool:
    """Whether two compositions are the same: formulas in any order of the elements, families in any case."""
    one, other = ("".join(text.split()) for text in (one, other))
    amounts = _amounts(one), _amounts(other)
    if amounts[0] is not None and amounts[1] is not None:
        return amounts[0] == amounts[1]
    return one.casefold() == other.casefold()


def _amounts(formula: str) -> dict[str, float] | None:
    if not _FORMULA.fullmatch(formula):
        return None
    amounts: dict[str, float] = {}
    for element, amount in _ELEMENT.findall(formula):
        amounts[element] = round(amounts.get(element, 0.0) + float(amount or 1.0), 6)
    return amounts


def _calibration(about: Mapping[str, Any]) -> ReferenceCalibration:
    return ReferenceCalibration(
        _text(about["foil"]),
        _text(about["definition"]),
        _finite(about["shift_ev"], "shift of the calibration"),
        _optional(about.get("foil_energy_ev"), "energy of the foil"),
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no text")
    return value


def _optional(value: object, what: str) -> float | None:
    return None if value is None else _finite(value, what)


def _finite(value: object, what: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may have been given; what is no number raises
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ReferenceLibraryError(f"the {what} is {value!r}; give a number.")
    return number
