"""Checks of what reference spectra are given as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]


def check_spectra(energies: Array, mu: ArrayLike, soc: ArrayLike) -> tuple[Array, Array]:
    try:
        spectra = np.atleast_2d(np.asarray(mu, dtype=np.float64))
        states = np.atleast_1d(np.asarray(soc, dtype=np.float64))
    except (TypeError, ValueError):
        raise EdgeFittingError(
            "reference mu and soc must be numbers, mu of shape (n_ref, n_energy)."
        ) from None
    if spectra.ndim != 2 or spectra.shape[1] != energies.size:
        raise EdgeFittingError(
            f"reference mu must be (n_ref, n_energy) with {energies.size} energies, not {spectra.shape}."
        )
    if states.shape != (spectra.shape[0],):
        raise EdgeFittingError(
            f"there are {spectra.shape[0]} reference spectra but soc has shape {states.shape}."
        )
    if states.size < 2:
        raise EdgeFittingError("a series needs at least two references.")
    if not np.isfinite(states).all():
        raise EdgeFittingError("a reference soc is not finite.")
    if np.unique(states).size < 2:
        raise EdgeFittingError("the references all have the same soc: a series needs two different ones.")
    bad = ~np.isfinite(spectra).all(axis=1)
    if bad.any():
        raise EdgeFittingError(f"reference {int(np.argmax(bad))} has values that are not finite.")
    return spectra, states


def check_sources(sources: Sequence[Mapping[str, Any]], n_references: int) -> list[dict[str, Any]]:
    if not isinstance(sources, (list, tuple)) or not all(isinstance(source, Mapping) for source in sources):
        raise EdgeFittingError("reference sources must be mappings, one for each reference.")
    if len(sources) != n_references:
        raise EdgeFittingError(f"there are {n_references} references but {len(sources)} sources.")
    return [dict(source) for source in sources]


def names_of(order: NDArray[np.intp], sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what a message calls the references: the places they were given at, and where they came from."""
    known = [source.get("source") or source.get("name") for source in sources] or [None] * order.size
    return [
        f"reference {place}" + (f" ({source})" if source else "")
        for place, source in zip(order, known, strict=True)
    ]
