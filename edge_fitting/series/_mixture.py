"""Whether pixels between the ends of a series are states of it, or mixtures of its two ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.references import ReferenceSeries

from ._strong_pixels import FEWEST_PIXELS, strong_pixels

Array = NDArray[np.float64]

# States in the middle part of the series count: at its ends the two are the same.
_MIDDLE = (0.15, 0.85)
# A share known to no better than this is not told; one above this, and by this many standard deviations, is warned of.
_WIDEST = 0.2
_NOTABLE = 0.4
_CLEAR = 4.0
# Where that of most single pixels is known to less than this, the state that was fitted follows the noise, and the mean
# over the pixels is biased.
_WIDEST_SINGLE = 1.0
# What the pixels have in common beside both is no larger than this part of the distance between the two.
_MOST_ELSE = 0.5
# What references leave open of the share, however many pixels there are.
_OF_REFERENCES = 0.1
# The series is a chord where the distance between the two is below this part of the jump (rms).
_LEAST_RMS = 2e-3
_N_UNKNOWNS = 5


@dataclass(frozen=True, slots=True)
class Mixture:
    """Where the spectra of a map lie between the curve of the references and the chord between their ends.

    Attributes
    ----------
    share, sigma : float
        0 on the curve (one phase of intermediate state), 1 on the chord (two phases, the ends of the series, side
        by side), and its standard deviation; NaN where it cannot be told.
    pixels : float
        Part of the pixels that are nearer to the chord, of those that tell it singly; NaN for none.
    reason : str
        Why it cannot be told; empty otherwise, and while there are too few frames.
    """

    share: float = np.nan
    sigma: float = np.nan
    pixels: float = np.nan
    reason: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return one sentence where the pixels are mixtures, none otherwise."""
        if not (self.share > _NOTABLE and self.share > _CLEAR * self.sigma):
            return ()
        told = f", in {self.pixels:.0%} of the pixels that tell it singly" if np.isfinite(self.pixels) else ""
        return (
            "the spectra between the ends of the series are mixtures of its two end states rather than intermediate "
            f"states (share of mixture {self.share:.2f} +- {self.sigma:.2f}{told}): soc is no state of one phase; "
            "method 'lcf' with the two ends gives the fraction of each.",
        )


def mixture_of_ends(
    series: ReferenceSeries,
    energy_ev: Array,
    stack: NDArray[np.float32],
    weight: Array,
    soc: Array,
    jump: Array,
) -> Mixture:
    """Compare the curve of the references with the chord between their ends, pooled over pixels.

    What a pixel has beside pre-edge line and both end members is, on the curve, the same part of the reference of its
    state; on the chord, nothing.

    Parameters
    ----------
    series : ReferenceSeries
        The references.
    energy_ev, weight : ndarray, shape (n_frames,)
        Energies on the references' axis, and weights.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth.
    soc, jump : ndarray, shape (n_pixels,)
        What was fitted; NaN where nothing was.

    Returns
    -------
    Mixture
    """
    if series.states.size < 3:
        return Mixture(
            reason="two references leave open whether a pixel is a mixture of both or a state between them"
        )
    low, high = series.states[0], series.states[-1]
    part = (soc - low) / (high - low)
    usable = np.isfinite(soc) & np.isfinite(jump) & np.isfinite(stack).all(axis=0)
    if energy_ev.size <= 2 * _N_UNKNOWNS or usable.sum() < FEWEST_PIXELS:
        return Mixture()
    taken = strong_pixels(jump, usable, (part > _MIDDLE[0]) & (part < _MIDDLE[1]))
    if not taken.size:
        return Mixture(reason="no pixels lie between the ends of the series")
    root = np.sqrt(weight / weight.mean())
    ends = series.evaluate(energy_ev, np.array([low, high]))
    plane = np.stack([np.ones_like(energy_ev), energy_ev - energy_ev.mean(), *ends], axis=1)
    known = np.linalg.qr(root[:, None] * plane)[0]

    def beside(spectra: Array) -> Array:
        return np.asarray(spectra - (spectra @ known) @ known.T)

    curve = beside(root * series.evaluate(energy_ev, soc[taken]))
    data = beside(root * stack[:, taken].T.astype(np.float64))
    heights = jump[taken].astype(np.float64)
    strength = (curve**2).sum(axis=1)
    if np.sqrt(strength.mean() / energy_ev.size) < _LEAST_RMS:
        return Mixture(
            reason="the references between lie on the straight line of mixtures, so that both are the same spectra"
        )
    of_curve = (curve * data).sum(axis=1) / (heights * strength)
    rest = data - (heights * of_curve)[:, None] * curve
    noise2 = (rest**2).sum(axis=1) / (energy_ev.size - _N_UNKNOWNS)
    total = float((heights**2).sum())
    common = (heights @ rest) / total
    left = float((common**2).sum()) - energy_ev.size * float((heights**2 * noise2).sum()) / total**2
    if left > _MOST_ELSE**2 * float(strength.mean()):
        return Mixture(reason="the spectra differ from the references in another way as well")
    sigma = np.sqrt(noise2 / strength) / heights
    information = 1.0 / sigma**2
    share = 1.0 - float((information * of_curve).sum() / information.sum())
    pooled = float(np.hypot(1.0 / np.sqrt(information.sum()), _OF_REFERENCES))
    if pooled > _WIDEST:
        return Mixture(reason=f"noise leaves the share of mixture open by {pooled:.2f}")
    if np.median(sigma) > _WIDEST_SINGLE:
        return Mixture(reason="the noise of single pixels bends what would tell the two apart")
    single = sigma < _WIDEST
    pixels = float((of_curve[single] < 0.5).mean()) if single.any() else np.nan
    return Mixture(share, pooled, pixels)
