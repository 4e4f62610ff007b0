"""The detector's response from the summed spectrum: energy scale and width, with the background."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares, nnls

from edge_fitting.errors import EdgeFittingError

from ._lines import LineGroup, line_groups
from ._model import SpectrumModel, Window, background_splines, fit_window, peak_matrix, with_background
from ._response import DetectorResponse

__all__ = ["CalibratedSpectrum", "calibrate_spectrum"]

Array = NDArray[np.float64]

_FEWEST_COUNTS = 500.0
# How far the nominal gain and offset may be off.
_GAINS = np.linspace(-0.02, 0.02, 21)
_OFFSETS_EV = np.linspace(-60.0, 60.0, 7)
_COMPTON = (180.0, 0.0)  # width, and shift against electrons at rest
_MOST_FWHM_RATIO = 2.5
_UNEXPLAINED_SIGMA, _UNEXPLAINED_SHARE = 8.0, 0.004
_CORRELATED = 0.98


@dataclass(frozen=True, eq=False)
class CalibratedSpectrum:
    """A summed spectrum, described.

    Attributes
    ----------
    model : SpectrumModel
        Components with the response that was found.
    amplitude : ndarray, shape (n_components,)
        Counts of each component in the summed spectrum.
    curve : ndarray, shape (n_window,)
        The fit.
    background : ndarray, shape (n_window,)
        The background in it.
    chi2 : float
        Reduced.
    warnings : tuple of str
        What a reader should know: peaks that nothing describes, elements that cannot be told apart.
    compton : tuple of float
        Width of the Compton peak and its shift against electrons at rest, eV.
    """

    model: SpectrumModel
    amplitude: Array
    curve: Array
    background: Array
    chi2: float
    warnings: tuple[str, ...]
    compton: tuple[float, float] = _COMPTON


def calibrate_spectrum(
    counts: ArrayLike,
    elements: Sequence[str],
    excitation_ev: float,
    *,
    nominal: DetectorResponse | None = None,
    angle_deg: float = 90.0,
    fit_response: bool = True,
    lines_at_ev: float | None = None,
    compton: tuple[float, float] | None = None,
) -> CalibratedSpectrum:
    """Fit gain, offset and width of a detector, and the background, to a spectrum of many counts.

    An error of the gain of 0.1 % moves Mn/Ni by 1.3 %: so this comes before any map.

    Parameters
    ----------
    counts : array_like, shape (n_channels,)
        The sum of all spectra.
    elements : sequence of str
        What is in the sample, as for :func:`line_groups`.
    excitation_ev : float
        Energy of the beam.
    nominal : DetectorResponse, optional
        What is known of the detector; its gain to 2 %, its offset to 60 eV.
    angle_deg : float
        Angle through which the beam is scattered into the detector.
    fit_response : bool
        Whether the response is fitted, or taken as it is.
    lines_at_ev : float, optional
        Energy whose lines are looked for, where it is higher than that of the beam: the highest of a scan.
    compton : tuple of float, optional
        Width of the Compton peak and its shift against electrons at rest, eV, where they are known.

    Returns
    -------
    CalibratedSpectrum

    Raises
    ------
    EdgeFittingError
        For a spectrum that is no list of counts, elements that are not excited, or lines outside of it.
    """
    spectrum = np.asarray(counts, np.float64)
    if spectrum.ndim != 1 or spectrum.size < 16 or not np.isfinite(spectrum).all() or spectrum.min() < 0:
        raise EdgeFittingError(
            "A spectrum is a list of counts that are not negative, at least 16 channels of them."
        )
    groups = line_groups(elements, max(excitation_ev, lines_at_ev or 0.0))
    response = nominal or DetectorResponse()
    fit = _Fit(groups, excitation_ev, angle_deg, spectrum, response)
    said: list[str] = []
    peak = compton or _COMPTON
    in_lines = spectrum[fit.window.slice].sum()
    if fit_response and in_lines < _FEWEST_COUNTS:
        said.append(
            f"the summed spectrum has {in_lines:.0f} counts at the lines, too few to find the energy scale: it is "
            "taken as given"
        )
    elif fit_response:
        response, peak = fit.search(response)
    found = fit.solve(response, peak)
    model = with_background(groups, found.peaks, found.background, fit.window, response, excitation_ev)
    said += _unexplained(fit.y, found.curve, response, fit.window)
    said += cannot_be_told_apart(model, found.curve)
    chi2 = float(((fit.y - found.curve) ** 2 / np.maximum(found.curve, 1.0)).sum() / fit.y.size)
    n = len(groups) + 2
    weights = 1.0 / np.maximum(found.curve, 1.0)
    gram = model.matrix.T @ (weights[:, None] * model.matrix)
    solved = np.linalg.lstsq(gram, model.matrix.T @ (weights * fit.y), rcond=None)[0]
    amplitude = np.asarray(solved, np.float64)
    amplitude[:n] = found.coefficients[:n]
    return CalibratedSpectrum(model, amplitude, found.curve, found.background, chi2, tuple(said), peak)


@dataclass(frozen=True, eq=False)
class _Solved:
    peaks: Array
    coefficients: Array
    background: Array
    curve: Array


class _Fit:
    """Least squares in which the amplitudes follow from the response."""

    def __init__(
        self,
        groups: tuple[LineGroup, ...],
        excitation_ev: float,
        angle_deg: float,
        spectrum: Array,
        response: DetectorResponse,
    ) -> None:
        self._groups, self._excitation_ev, self._angle_deg = groups, excitation_ev, angle_deg
        self.window: Window = fit_window(groups, response, excitation_ev, spectrum.size)
        self.y = spectrum[self.window.slice]
        self._splines = background_splines(self.window, response.gain_ev)
        self._weights = 1.0 / np.maximum(self.y, 1.0)

    def search(self, start: DetectorResponse) -> tuple[DetectorResponse, tuple[float, float]]:
        """Return response and width of the Compton peak that describe the spectrum best."""
        middle = self.window.channels.mean()
        best = min(
            (
                (self._chi2(_changed(start, gain, offset, middle)), gain, offset)
                for gain in _GAINS
                for offset in _OFFSETS_EV
            ),
            key=lambda one: one[0],
        )
        begin = _changed(start, best[1], best[2], middle)
        centre = begin.energy_ev(middle)

        def at(x: Array) -> tuple[DetectorResponse, tuple[float, float]]:
            gain = begin.gain_ev * (1.0 + float(x[0]) * 1e-3)
            offset = float(centre) + float(x[1]) - gain * middle
            noise, fano, escape, width = (float(one) for one in np.exp(x[2:6]))
            response = DetectorResponse(
                gain, offset, begin.noise_ev * noise, begin.fano * fano, begin.escape * escape
            )
            return response, (_COMPTON[0] * width, float(x[6]))

        x = np.zeros(7)
        limits = np.array([15.0, 80.0, np.log(_MOST_FWHM_RATIO), np.log(1.6), np.log(5.0), np.log(3.0), 60.0])
        for _ in range(2):
            x = least_squares(
                lambda v: self._residual(*at(v)), x, bounds=(-limits, limits), x_scale=[1, 10, 0.3, 0.3, 0.5, 0.5, 20],
                diff_step=1e-4,
                max_nfev=40,
            ).x  # fmt: skip
            # The expected variance in place of the observed one, which few counts bias.
            self._weights = 1.0 / np.maximum(self.solve(*at(x)).curve, 1.0)
        return at(x)

    def solve(self, response: DetectorResponse, compton: tuple[float, float]) -> _Solved:
        """Return the amplitudes that describe the spectrum best."""
        peaks = peak_matrix(
            self._groups, response, self._excitation_ev, self.window, angle_deg=self._angle_deg,
            compton=compton,
        )  # fmt: skip
        matrix = np.hstack([peaks, self._splines])
        root = np.sqrt(self._weights)
        scale = np.maximum(np.linalg.norm(matrix * root[:, None], axis=0), 1e-30)
        normal = (matrix * root[:, None]) / scale
        gram = normal.T @ normal + 1e-12 * np.eye(scale.size)
        chol = np.linalg.cholesky(gram)
        target = np.linalg.solve(chol, normal.T @ (root * self.y))
        coefficients = nnls(chol.T, target, maxiter=100 * scale.size)[0] / scale
        n = peaks.shape[1]
        background = self._splines @ coefficients[n:]
        return _Solved(peaks, coefficients, background, matrix @ coefficients)

    def _residual(self, response: DetectorResponse, compton: tuple[float, float]) -> Array:
        return np.sqrt(self._weights) * (self.y - self.solve(response, compton).curve)

    def _chi2(self, response: DetectorResponse) -> float:
        return float((self._residual(response, _COMPTON) ** 2).sum())


def _changed(response: DetectorResponse, gain: float, offset_ev: float, middle: float) -> DetectorResponse:
    """Change the gain about the middle of the channels, and shift."""
    new = response.gain_ev * (1.0 + gain)
    shift = (response.gain_ev - new) * middle + offset_ev
    return replace(response, gain_ev=new, offset_ev=response.offset_ev + shift)


def _unexplained(y: Array, curve: Array, response: DetectorResponse, window: Window) -> list[str]:
    """Name peaks that no component describes."""
    energy = response.energy_ev(window.channels)
    width = max(int(response.fwhm_ev(energy.mean()) / response.gain_ev), 1)
    box = np.ones(width)
    excess = np.convolve(y - curve, box, "same")
    sigma = np.sqrt(np.maximum(np.convolve(curve, box, "same"), 1.0))
    at = int(np.argmax(excess / sigma))
    if excess[at] / sigma[at] < _UNEXPLAINED_SIGMA or excess[at] < _UNEXPLAINED_SHARE * y.sum():
        return []
    return [
        f"there is a peak of {excess[at]:.0f} counts at {energy[at]:.0f} eV that no element in the list describes: "
        "name the element it is of"
    ]


def cannot_be_told_apart(model: SpectrumModel, expected: Array) -> list[str]:
    """Name pairs of elements whose lines fall together, at the counts of a spectrum."""
    weights = 1.0 / np.maximum(expected, max(expected.max(), 1.0) * 1e-6)
    gram = model.matrix.T @ (weights[:, None] * model.matrix)
    covariance = np.linalg.pinv(gram, hermitian=True)
    n = model.n_elements
    norm = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    said = []
    for i in range(n):
        for j in range(i):
            cosine = gram[i, j] / np.sqrt(gram[i, i] * gram[j, j])
            if max(abs(covariance[i, j] / (norm[i] * norm[j])), cosine) > _CORRELATED:
                said.append(
                    f"{model.names[j]} and {model.names[i]} cannot be told apart by this detector: their lines fall "
                    "together, and only their sum is known"
                )
    return said
