"""The fit of the spectrum of a region, with the references and the method of the result."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks import RegionSpectrum
from edge_fitting import EDGES, EdgeFitter, EdgeFittingError, FitStatus, ReferenceSeries

from ._plain import plain

Array = npt.NDArray[np.float64]

_STATES = 121
_FEWEST = 5


@dataclass(frozen=True)
class RegionFit:
    """What the fit of a spectrum gives; None where it gives no value.

    Attributes
    ----------
    values : dict
        ``soc``, ``edge_energy_ev`` and ``edge_jump`` with their ``..._sigma``, as the maps of the result have them.
    curve : ndarray or None
        The model at the energies of the spectrum.
    noise : float or None
        Standard deviation of a point about it.
    note : str
        Why there is no value, in words.
    """

    values: dict[str, float | None]
    curve: Array | None
    noise: float | None
    note: str


class RegionFitter:
    """Fits spectra as the pixels of a result were fitted.

    Parameters
    ----------
    attrs : dict
        Attributes of the result.
    mean_energy_ev, mean_depth : ndarray
        Its mean spectrum, which is moved where there are no references.
    """

    def __init__(self, attrs: dict[str, Any], mean_energy_ev: Array, mean_depth: Array) -> None:
        attrs = plain(attrs)
        self._note = ""
        self._series: ReferenceSeries | None = None
        self._template: EdgeFitter | None = None
        try:
            told = attrs.get("references")
            self._series = (
                ReferenceSeries.from_dict(told)
                if told
                else ReferenceSeries.shift_family(
                    mean_energy_ev, mean_depth, by_white_line=EDGES[attrs["edge"]].is_by_white_line
                )
            )
            offset = (attrs.get("parameters") or {}).get("axis_offset", "report")
            if offset == "fit":  # that of the whole map, which many pixels tell better than one spectrum
                offset = attrs.get("axis_offset_ev") or 0.0
            self._offset_ev = float(offset) if isinstance(offset, int | float) else 0.0
            self._template = EdgeFitter(
                (1, 1),
                edge=attrs["edge"],
                method=attrs.get("method") or "series",
                references=self._series,
                axis_offset=offset,
            )
        except (EdgeFittingError, KeyError, TypeError, ValueError) as error:
            self._note = f"the spectrum cannot be fitted: {error}"

    def fit(self, spectrum: RegionSpectrum) -> RegionFit:
        """Fit one spectrum; what cannot be fitted says why."""
        if self._template is None or self._series is None:
            return RegionFit({}, None, None, self._note)
        if spectrum.energy_ev.size < _FEWEST:
            return RegionFit({}, None, None, f"{spectrum.energy_ev.size} frames are too few for a fit")
        try:
            fitter = copy.deepcopy(self._template)
            depths = spectrum.optical_depth[:, None, None].astype(np.float32)
            fitter.push(spectrum.energy_ev, depths, spectrum.weight)
            maps = fitter.maps(find_offset=False)
            status = FitStatus(int(maps.status[0, 0]))
            values = {
                name: _number(array[0, 0])
                for name in ("soc", "soc_sigma", "edge_energy_ev", "edge_energy_sigma_ev", "edge_jump")
                if (array := getattr(maps, name)) is not None
            }
            if self._series.coordinate != "soc":
                values["soc"] = values["soc_sigma"] = None
            curve, noise = self._curve(spectrum, values.get("soc"))
        except EdgeFittingError as error:
            return RegionFit({}, None, None, f"the spectrum cannot be fitted: {error}")
        note = "" if status.has_value else _WORDS.get(status, status.name.lower().replace("_", " "))
        return RegionFit(values, curve, noise, note)

    def _curve(self, spectrum: RegionSpectrum, state: float | None) -> tuple[Array | None, float | None]:
        """Return line, jump and reference of a state by least squares, and the noise about them."""
        series = self._series
        assert series is not None
        energies = spectrum.energy_ev - self._offset_ev
        order = np.argsort(energies, kind="stable")
        low, high = float(series.soc[0]), float(series.soc[-1])
        states = np.linspace(low, high, _STATES) if state is None else np.array([state])
        shapes = np.asarray(series.evaluate(energies[order], np.clip(states, low, high)))
        shapes = shapes[:, np.argsort(order, kind="stable")]
        root = np.sqrt(spectrum.weight)
        line = np.column_stack([np.ones_like(energies), (energies - energies.mean()) / 100.0])
        best: tuple[float, Array] | None = None
        for shape in shapes:
            design = np.column_stack([line, shape])
            solution, *_ = np.linalg.lstsq(design * root[:, None], spectrum.optical_depth * root, rcond=None)
            curve = design @ solution
            chi2 = float(np.sum(spectrum.weight * (spectrum.optical_depth - curve) ** 2))
            if best is None or chi2 < best[0]:
                best = chi2, curve
        if best is None:
            return None, None
        freedom = max(energies.size - 4, 1)
        return best[1], float(
            np.sqrt(np.mean((spectrum.optical_depth - best[1]) ** 2) * energies.size / freedom)
        )


_WORDS = {
    FitStatus.TOO_FEW_FRAMES: "the energies measured so far do not determine the fit yet",
    FitStatus.NO_EDGE: "no edge stands out of the noise here",
    FitStatus.INVERTED: "the optical depth steps down at the edge here",
    FitStatus.SATURATED: "saturated here",
    FitStatus.UNCERTAIN: "there is an edge, but its position is not determined",
    FitStatus.NOT_FOUND: "there is an edge, but not where it is looked for",
    FitStatus.STRAY_LIGHT: "so thick that light beside the sample leaves the state open",
    FitStatus.FLAT: "the same value in every frame",
    FitStatus.NO_DATA: "no values here",
}


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
