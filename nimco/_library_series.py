"""Entries of the reference library as references of one series."""

from collections.abc import Sequence

from nimco._joined_spectra import KnownSpectrum
from nimco._library_entries import (
    LIBRARY_PREFIX,
    LibraryEntry,
)
from nimco.errors import ReferenceLibraryError

# Energies by convention that differ by less are the same convention.
_SAME_CONVENTION_EV = 0.05


def known_spectrum(entry: LibraryEntry, soc: float | None = None) -> KnownSpectrum:
    """Return the spectrum of an entry with its state of charge, or with another one that was given.

    Raises
    ------
    ReferenceLibraryError
        It has none, or its data are damaged.
    """
    state = entry.soc if soc is None else soc
    if state is None:
        raise ReferenceLibraryError(
            f"{LIBRARY_PREFIX}{entry.label} has a valence of {entry.valence:g} and no state of charge; say which with "
            f"{LIBRARY_PREFIX}{entry.name}=SOC."
        )
    return KnownSpectrum(f"{LIBRARY_PREFIX}{entry.label}", entry.energy_ev, entry.mu, state, entry.origin())


def check_together(entries: Sequence[LibraryEntry], edge: str | None) -> None:
    """Raise if entries cannot stand in one series, at an edge if one is given.

    Raises
    ------
    ReferenceLibraryError
        One is of another edge, not calibrated, or calibrated by another convention.
    """
    for entry in entries:
        label = f"{LIBRARY_PREFIX}{entry.label}"
        if edge is not None and entry.edge != edge:
            raise ReferenceLibraryError(
                f"{label} is a spectrum of the {entry.edge} edge, not of {edge}; give references of that edge."
            )
        if entry.edge != entries[0].edge:
            raise ReferenceLibraryError(
                f"{LIBRARY_PREFIX}{entries[0].label} is a spectrum of the {entries[0].edge} edge and {label} of "
                f"{entry.edge}; give references of one edge."
            )
        if entry.calibration is None:
            raise ReferenceLibraryError(
                f"the energy axis of {label} is not calibrated; add it again with its foil calibration."
            )
        _check_same_convention(entries[0], entry)


def _check_same_convention(first: LibraryEntry, entry: LibraryEntry) -> None:
    one, other = first.calibration, entry.calibration
    assert one is not None
    assert other is not None
    said = _meaning(one.definition), _meaning(other.definition)
    energies = one.foil_energy_ev, other.foil_energy_ev
    differ = (
        one.foil.casefold() == other.foil.casefold()
        and energies[0] is not None
        and energies[1] is not None
        and abs(energies[0] - energies[1]) > _SAME_CONVENTION_EV
    )
    if said[0] != said[1] or differ:
        what = (
            f"{one.definition!r} and {other.definition!r}"
            if said[0] != said[1]
            else f"{energies[0]:g} and {energies[1]:g} eV for the foil"
        )
        raise ReferenceLibraryError(
            f"{LIBRARY_PREFIX}{first.label} and {LIBRARY_PREFIX}{entry.label} were calibrated by different conventions "
            f"({what}), so that their axes differ; add one of them again on the axis of the other."
        )


def _meaning(definition: str) -> str:
    """Return a definition as it can be compared: the first inflection of a foil is said in many words."""
    text = " ".join(definition.casefold().split())
    return "first inflection" if "first inflection" in text else text
