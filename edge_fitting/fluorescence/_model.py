"""The components that a spectrum is made of: line groups, scattered photons, background."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from edge_fitting.errors import EdgeFittingError

from ._lines import LineGroup, compton_energy_ev
from ._response import DetectorResponse

__all__ = ["BACKGROUND", "COMPTON", "ELASTIC", "SpectrumModel", "Window", "background_splines", "fit_window"]

ELASTIC, COMPTON, BACKGROUND = "elastic", "compton", "background"
"""Names of the components beside the elements; the background has two, which differ in slope."""

_BELOW_EV, _ABOVE_EV = 700.0, 450.0
_LOWEST_EV = 900.0
_KNOTS_EV = 900.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Channels that are fitted.

    Attributes
    ----------
    first, stop : int
        First channel, and the one after the last.
    """

    first: int
    stop: int

    @property
    def channels(self) -> Array:
        """Their numbers."""
        return np.arange(self.first, self.stop, dtype=np.float64)

    @property
    def slice(self) -> slice:
        """To take them out of spectra."""
        return slice(self.first, self.stop)


def fit_window(
    groups: Sequence[LineGroup], response: DetectorResponse, excitation_ev: float, n_channels: int
) -> Window:
    """Return the channels from below the lowest line to above the elastic peak.

    Raises
    ------
    EdgeFittingError
        Where the spectrum ends before the lines.
    """
    low_ev = max(min(group.main_ev for group in groups) - _BELOW_EV, _LOWEST_EV)
    first = max(int((low_ev - response.offset_ev) / response.gain_ev), 0)
    stop = min(int((excitation_ev + _ABOVE_EV - response.offset_ev) / response.gain_ev), n_channels)
    for group in groups:
        channel = (group.main_ev - response.offset_ev) / response.gain_ev
        if not first < channel < stop:
            raise EdgeFittingError(
                f"The lines of {group.name} at {group.main_ev:g} eV lie outside of the {n_channels} channels of the "
                f"spectra ({response.energy_ev(0):g} to {response.energy_ev(n_channels - 1):g} eV); check the "
                "calibration or leave the element out."
            )
    return Window(first, stop)


def background_splines(window: Window, gain_ev: float) -> Array:
    """Return a basis for a smooth background, shape (n, n_splines); each is not negative, together they are 1."""
    n_inner = max(int((window.stop - window.first) * gain_ev / _KNOTS_EV), 1)
    x = np.linspace(0.0, 1.0, window.stop - window.first)
    knots = np.concatenate([np.zeros(3), np.linspace(0.0, 1.0, n_inner + 1), np.ones(3)])
    return np.asarray(BSpline.design_matrix(x, knots, 3).toarray())


@dataclass(frozen=True, eq=False)
class SpectrumModel:
    """What each component gives in each channel, per count.

    Attributes
    ----------
    names : tuple of str
        Components: the elements first, then elastic and Compton peak, then the background.
    n_elements : int
        How many of them are elements.
    matrix : ndarray, shape (n_window, n_components)
        Spectrum of each. An element's is that of one photon detected.
    window : Window
        Channels it is for.
    response : DetectorResponse
        The detector.
    excitation_ev : float
        Energy of the beam.
    """

    names: tuple[str, ...]
    n_elements: int
    matrix: Array
    window: Window
    response: DetectorResponse
    excitation_ev: float

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of the elements."""
        return self.names[: self.n_elements]


def peak_matrix(
    groups: Sequence[LineGroup],
    response: DetectorResponse,
    excitation_ev: float,
    window: Window,
    *,
    angle_deg: float,
    compton: tuple[float, float],
) -> Array:
    """Return the spectra of the elements, the elastic and the Compton peak, shape (n, n_groups + 2).

    ``compton`` is the width of the latter, and what its energy differs by from electrons at rest, in eV.
    """
    channels, one = window.channels, np.ones(1)
    columns = [response.peaks(channels, group.energy_ev, group.share) for group in groups]
    columns.append(response.peaks(channels, np.array([excitation_ev]), one))
    at = np.array([compton_energy_ev(excitation_ev, angle_deg) + compton[1]])
    columns.append(response.peaks(channels, at, one, compton[0]))
    return np.stack(columns, axis=1)


def with_background(
    groups: Sequence[LineGroup],
    peaks: Array,
    background: Array,
    window: Window,
    response: DetectorResponse,
    excitation_ev: float,
) -> SpectrumModel:
    """Return the model of spectra whose background is that of the summed one, times a straight line."""
    names = (*(group.name for group in groups), ELASTIC, COMPTON)
    total = background.sum()
    columns = [peaks]
    if total > 0:
        shape = background / total
        rising = np.linspace(0.0, 1.0, shape.size)
        columns.append(np.stack([shape * (1.0 - rising), shape * rising], axis=1) * 2.0)
        names = (*names, f"{BACKGROUND}_low", f"{BACKGROUND}_high")
    return SpectrumModel(names, len(groups), np.hstack(columns), window, response, excitation_ev)
