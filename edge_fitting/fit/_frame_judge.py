"""Which frames of a scan do not belong to the others, asked while it goes on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies
from edge_fitting.quality import FrameDoubt, StrayLight, spread_pixels
from edge_fitting.references import ReferenceSeries
from edge_fitting.series import compile_series

from ._offset import OffsetChoice, moved_energies
from ._quality import background_of, look_at_frames
from ._stray_light import can_be_taken_out

# Pixels of each frame that are kept: enough with an edge where the sample fills a small part of the field.
_KEPT = 4096


class FrameJudge:
    """Compares the frames of a scan with each other, by some of their pixels.

    The rule is that of :func:`fit_stack`, see docs/explanation/when-not-to-believe-a-map.md.

    Parameters
    ----------
    references : ReferenceSeries
        Reference spectra of known state of charge.
    axis_offset : {"report", "fit"} or float
        As in :func:`fit_stack`; a number is taken from the energies.
    """

    def __init__(self, references: ReferenceSeries, axis_offset: OffsetChoice = "report") -> None:
        self._basis = compile_series(references)
        self._axis_offset = axis_offset

    @staticmethod
    def pixels(n_pixels: int) -> NDArray[np.intp]:
        """Flat indices of the pixels to keep of an image."""
        return spread_pixels(n_pixels, _KEPT)

    def doubts(
        self, energy_ev: ArrayLike, samples: NDArray[np.float32], weights: ArrayLike
    ) -> tuple[FrameDoubt, ...]:
        """Return the frames that do not belong, the worst first.

        Parameters
        ----------
        energy_ev, weights : array_like, shape (n_frames,)
            Energies and weights of the frames so far.
        samples : ndarray of float32, shape (n_frames, n)
            Their optical depth at the pixels; NaN is missing.

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy.
        """
        energies = moved_energies(check_energies(energy_ev), self._axis_offset, self._basis.series)
        own = np.asarray(weights, np.float64)
        check, _, _ = look_at_frames(self._basis.at(energies), energies, samples, own)
        return check.doubts

    def stray_light(
        self, energy_ev: ArrayLike, samples: NDArray[np.float32], weights: ArrayLike
    ) -> StrayLight | None:
        """Return the light beside the sample, where it is known well enough to be taken out of the frames.

        Parameters
        ----------
        energy_ev, samples, weights
            As for `doubts`, of the frames that belong.

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy.
        """
        energies = moved_energies(check_energies(energy_ev), self._axis_offset, self._basis.series)
        found = background_of(self._basis.at(energies), energies, samples, np.asarray(weights, np.float64))
        return found if can_be_taken_out(found) else None
