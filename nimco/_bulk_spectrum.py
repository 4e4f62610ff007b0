"""The spectrum of the whole sample for `nimco compare`: from a file, or from a stored point scan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from callbacks import (
    MeanSpectrum,
    ReadingError,
    SampleComparison,
    compare_with_bulk,
    draw_bulk,
    open_soc,
)
from nimco._reference_files import read_reference_spectrum
from nimco.errors import NimcoError


def bulk_spectrum(client: Any, bulk: str, edge: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return energies, absorption and name of a bulk spectrum.

    Raises
    ------
    NimcoError
        It is neither a file nor a run with a spectrum at that edge, or cannot be read.
    """
    if Path(bulk).is_file():
        read = read_reference_spectrum(bulk)
        return read.energy_ev, read.mu, read.path.stem
    try:
        result = open_soc(client, bulk, edge)
    except (ReadingError, ValueError) as error:
        raise NimcoError(
            f"--bulk {bulk} is no file, and no run with a spectrum at {edge}: {error}"
        ) from error
    if "mu" not in result or result["mu"].dims != ("energy",):
        raise NimcoError(
            f"--bulk {bulk} is a run without a spectrum of the whole sample; name one of xas_scan or xas_fly."
        )
    return result["energy_ev"].values, result["mu"].values, f"run {str(result.attrs['raw_uid'])[:8]}"


def say_bulk(
    comparison: SampleComparison,
    spectra: Mapping[str, MeanSpectrum],
    bulk: tuple[np.ndarray, np.ndarray, str],
    plot: Path | None,
    console: Console,
) -> list[Path]:
    """Compare the mean spectrum of each group with that of the bulk, say it, and draw it; return what was written."""
    energy_ev, mu, name = bulk
    written = []
    for number, group in enumerate(comparison.groups):
        found = compare_with_bulk([spectra[uid] for uid in group.uids], energy_ev, mu, name=name)
        console.print(f"{group.name}, mean spectrum of {found.n_maps} map(s) beside {name}:", highlight=False)
        for said in (*found.sentences(), *found.warnings):
            console.print(f"  {said}", highlight=False, soft_wrap=True)
        if plot is not None:
            path = plot if len(comparison.groups) == 1 else plot.with_stem(f"{plot.stem}-{number}")
            written.append(draw_bulk(found, path))
    return written
