"""The mean spectrum of maps beside the spectrum of the whole sample, as a point scan or another beamline gives it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.errors import ReadingError
from callbacks.publish import replacing
from callbacks.techniques import has_value
from edge_fitting import EdgeFittingError, EdgePosition, ReferenceSeries, SpectrumFit, describe_spectrum

Array = npt.NDArray[np.float64]

_FEWEST = 8
_DEFINITIONS = ("half_jump", "inflection", "white_line")


@dataclass(frozen=True, eq=False)
class MeanSpectrum:
    """The mean spectrum of a map.

    Attributes
    ----------
    uid, edge : str
        Run and edge.
    energy_ev, optical_depth : ndarray, (n,)
        Mean over the pixels with a value.
    n_pixels : int
        How many these are.
    references : ReferenceSeries or None
        Those that the map was fitted with, where they tell a state of charge.
    """

    uid: str
    edge: str
    energy_ev: Array
    optical_depth: Array
    n_pixels: int
    references: ReferenceSeries | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class BulkComparison:
    """Mean spectrum of maps and spectrum of the whole sample, on the energies of the maps and normalised alike.

    Attributes
    ----------
    bulk : str
        Name of the bulk spectrum.
    edge : str
        Which edge.
    n_maps : int
        Maps that the mean is of.
    energy_ev, of_map, of_bulk : ndarray, (n,)
        Normalised absorption of both.
    edges : dict of str to tuple of EdgePosition
        By definition, edge energy of the maps and of the bulk.
    soc, soc_sigma : tuple of float
        State of charge of both mean spectra by the references of the maps, and its standard deviation by noise; NaN
        without references.
    rms : float
        Root mean square of the difference of the normalised absorption.
    warnings : tuple of str
        What speaks against comparing them.
    """

    bulk: str
    edge: str
    n_maps: int
    energy_ev: Array
    of_map: Array
    of_bulk: Array
    edges: dict[str, tuple[EdgePosition, EdgePosition]]
    soc: tuple[float, float]
    soc_sigma: tuple[float, float]
    rms: float
    warnings: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Say it in words: maps less bulk."""
        said = []
        for name, (of_map, of_bulk) in self.edges.items():
            if np.isfinite([of_map.value_ev, of_bulk.value_ev]).all():
                sigma = float(np.hypot(of_map.sigma_ev, of_bulk.sigma_ev))
                said.append(
                    f"{name.replace('_', ' ')}: maps {of_map.value_ev:.2f} eV, bulk {of_bulk.value_ev:.2f} eV, "
                    f"difference {of_map.value_ev - of_bulk.value_ev:+.2f} ± {sigma:.2f} eV"
                )
        if np.isfinite(self.soc).all():
            sigma = float(np.hypot(*self.soc_sigma))
            said.append(
                f"state of charge of the mean spectra: maps {self.soc[0]:.3f}, bulk {self.soc[1]:.3f}, "
                f"difference {self.soc[0] - self.soc[1]:+.3f} ± {sigma:.3f}"
            )
        said.append(f"normalised absorption: rms of the difference {self.rms:.3f}")
        return said


def mean_spectrum(result: xr.Dataset) -> MeanSpectrum:
    """Return the mean spectrum of a map, as it was published with it.

    Raises
    ------
    ReadingError
        The result has none.
    """
    about = result.attrs
    uid = str(about.get("raw_uid"))
    if "mean_optical_depth" not in result or result["mean_optical_depth"].size < _FEWEST:
        raise ReadingError(
            f"the result of run {uid[:8]} has no mean spectrum to compare with that of the bulk"
        )
    energy, depth = (result[name].values.astype(float) for name in ("energy_ev", "mean_optical_depth"))
    order = np.argsort(energy, kind="stable")
    references = None
    if about.get("references"):
        try:
            references = ReferenceSeries.from_dict(about["references"])
        except (EdgeFittingError, KeyError, TypeError, ValueError):
            references = None
    return MeanSpectrum(
        uid,
        str(about.get("edge")),
        energy[order],
        depth[order],
        int(has_value(result).sum()) if "status" in result else 1,
        references if references is not None and references.coordinate == "soc" else None,
    )


def compare_with_bulk(
    maps: Sequence[MeanSpectrum], energy_ev: Array, mu: Array, *, name: str = "bulk"
) -> BulkComparison:
    """Put the mean spectrum of maps beside that of the whole sample.

    Parameters
    ----------
    maps : sequence of MeanSpectrum
        Of maps at one edge, such as of all fields of view of a sample; each counts by its pixels.
    energy_ev, mu : ndarray, (n,)
        Increasing energies in eV, and absorption on any scale.
    name : str
        What to call it.

    Returns
    -------
    BulkComparison

    Raises
    ------
    ReadingError
        Maps of several edges, or spectra that have too little in common.

    Notes
    -----
    Both are taken at the energies of the maps that both cover (the bulk is interpolated) and normalised by the same
    rule, so that what the rule and the steps do to an edge energy is alike. The difference of two edge energies is
    that of the samples and of the two energy axes.
    """
    edges = sorted({one.edge for one in maps})
    if len(edges) != 1:
        raise ReadingError(
            f"a bulk spectrum is compared with maps at one edge, not {', '.join(edges) or 'none'}"
        )
    energy, depth = _pooled(maps)
    known = np.isfinite(energy_ev) & np.isfinite(mu)
    bulk_ev, bulk_mu = np.asarray(energy_ev, float)[known], np.asarray(mu, float)[known]
    inside = (energy >= bulk_ev.min(initial=np.inf)) & (energy <= bulk_ev.max(initial=-np.inf))
    if inside.sum() < _FEWEST:
        covered = f"{bulk_ev.min():.1f} to {bulk_ev.max():.1f} eV" if bulk_ev.size else "nothing"
        raise ReadingError(
            f"{name} covers {covered} and the maps {energy.min():.1f} to {energy.max():.1f} eV: too little in common"
        )
    warnings = []
    if not inside.all():
        warnings.append(
            f"{name} does not cover {int((~inside).sum())} of {inside.size} energies of the maps."
        )
    energy, depth = energy[inside], depth[inside]
    fits = [
        describe_spectrum(energy, values, edge=edges[0], references=maps[0].references)
        for values in (depth, np.interp(energy, bulk_ev, bulk_mu))
    ]
    normalised = []
    for fit, what in zip(fits, ("maps", name), strict=True):
        if fit.normalized is None:
            raise ReadingError(
                f"the spectrum of {what} cannot be normalised: {'; '.join(fit.warnings) or 'no edge'}"
            )
        normalised.append(fit.normalized)
        warnings += [f"{what}: {said}." for said in fit.warnings]
    rest = normalised[0] - normalised[1]
    return BulkComparison(
        bulk=name,
        edge=edges[0],
        n_maps=len(maps),
        energy_ev=energy,
        of_map=normalised[0],
        of_bulk=normalised[1],
        edges={
            key: (fits[0].positions[key], fits[1].positions[key])
            for key in _DEFINITIONS
            if key in fits[0].positions
        },
        soc=_of_both(fits, "soc"),
        soc_sigma=_of_both(fits, "soc_sigma"),
        rms=float(np.sqrt(np.mean(rest**2))),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def draw_bulk(comparison: BulkComparison, path: Path | str) -> Path:
    """Draw both spectra and their difference.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    figure = Figure(figsize=(6.4, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.0, 1.0))
    count = f"{comparison.n_maps} map{'s' if comparison.n_maps > 1 else ''}"
    upper.plot(comparison.energy_ev, comparison.of_bulk, "k-", lw=1.2, label=comparison.bulk)
    upper.plot(comparison.energy_ev, comparison.of_map, "C0o", ms=3, label=f"mean of {count}")
    upper.set_ylabel("normalised absorption")
    upper.set_title(comparison.edge.replace("_", " "), loc="left", fontsize=10)
    upper.legend(fontsize=8, frameon=False, loc="lower right")
    lower.axhline(0.0, color="0.6", lw=0.8)
    lower.plot(comparison.energy_ev, comparison.of_map - comparison.of_bulk, "C0.-", ms=3, lw=0.8)
    lower.set(xlabel="energy (eV)", ylabel="maps - bulk")
    lower.ticklabel_format(axis="x", useOffset=False)
    return replacing(Path(path), lambda unfinished: figure.savefig(unfinished, format="png"))


def _pooled(maps: Sequence[MeanSpectrum]) -> tuple[Array, Array]:
    """Return the mean spectrum of all maps, at those energies of the first that all cover."""
    energy = maps[0].energy_ev
    low, high = max(one.energy_ev[0] for one in maps), min(one.energy_ev[-1] for one in maps)
    energy = np.unique(energy[(energy >= low) & (energy <= high)])
    if energy.size < _FEWEST:
        raise ReadingError("the maps have too few energies in common for one mean spectrum")
    weights = np.array([max(one.n_pixels, 1) for one in maps], dtype=float)
    spectra = [np.interp(energy, one.energy_ev, one.optical_depth) for one in maps]
    return energy, np.asarray(np.average(spectra, axis=0, weights=weights))


def _of_both(fits: Sequence[SpectrumFit], name: str) -> tuple[float, float]:
    return float(getattr(fits[0], name)), float(getattr(fits[1], name))
