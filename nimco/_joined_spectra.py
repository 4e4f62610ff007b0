"""Spectra on energies of their own as one reference series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_fitting import ReferenceSeries
from nimco.errors import ReferenceFileError

_LEAST_ENERGIES = 5


@dataclass(frozen=True)
class KnownSpectrum:
    """A spectrum of known state of charge.

    Attributes
    ----------
    name : str
        What a message calls it.
    energy_ev, mu : numpy.ndarray
        Photon energy (eV, any order, repeats allowed) and absorption (any scale), shape (n,).
    soc : float
        Its state of charge.
    source : mapping
        Where it came from, `scan_contract.ReferenceSource`.
    """

    name: str
    energy_ev: np.ndarray
    mu: np.ndarray
    soc: float
    source: Mapping[str, Any] = field(default_factory=dict)


def join_spectra(spectra: Sequence[KnownSpectrum]) -> ReferenceSeries:
    """Put spectra on the energies of the finest one that all of them cover.

    Parameters
    ----------
    spectra : sequence of KnownSpectrum
        Two or more.

    Returns
    -------
    ReferenceSeries
        With the sources of the spectra.

    Raises
    ------
    ReferenceFileError
        There are fewer than two, two have the same state of charge, or they share no energy range.
    EdgeFittingError
        They are no references, see `edge_fitting.ReferenceSeries`.
    """
    if len(spectra) < 2:
        raise ReferenceFileError(
            f"{len(spectra)} reference spectrum given; a series needs two or more, for example "
            "--reference discharged.txt=0 --reference charged.txt=1."
        )
    by_soc: dict[float, KnownSpectrum] = {}
    for spectrum in spectra:
        same = by_soc.setdefault(spectrum.soc, spectrum)
        if same is not spectrum:
            raise ReferenceFileError(
                f"{same.name} and {spectrum.name} have the same state of charge ({spectrum.soc:g}); leave one of them "
                "out, or give each its own as NAME=SOC."
            )
    sorted_spectra = [_merge_repeats(spectrum) for spectrum in spectra]
    low = max(energy[0] for energy, _ in sorted_spectra)
    high = min(energy[-1] for energy, _ in sorted_spectra)
    # The finest axis keeps what the spectra hold; np.interp then only ever fills in, never thins out.
    finest = min(
        (energy for energy, _ in sorted_spectra), key=lambda energy: float(np.median(np.diff(energy)))
    )
    axis = finest[(finest >= low) & (finest <= high)]
    if axis.size < _LEAST_ENERGIES:
        raise ReferenceFileError(
            f"The references {', '.join(spectrum.name for spectrum in spectra)} share no energy range (common part "
            f"{low:.1f} to {high:.1f} eV); give spectra of the same edge."
        )
    mu = np.stack([np.interp(axis, energy, values) for energy, values in sorted_spectra])
    socs = np.array([spectrum.soc for spectrum in spectra])
    return ReferenceSeries(axis, mu, socs, sources=[dict(spectrum.source) for spectrum in spectra])


def _merge_repeats(spectrum: KnownSpectrum) -> tuple[np.ndarray, np.ndarray]:
    energies, inverse = np.unique(spectrum.energy_ev, return_inverse=True)
    return energies, np.bincount(inverse, weights=spectrum.mu) / np.bincount(inverse)
