"""What a fit gives: maps and a status per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class FitStatus(IntEnum):
    """Why a pixel has the value it has, or none.

    ``OK``, and up to a limit ``BELOW_RANGE`` and ``ABOVE_RANGE``, carry values; all others are NaN in
    every map but ``optical_depth`` and, where it could be measured, ``noise`` and ``edge_jump``.
    """

    OK = 0
    #: State below the first reference: extrapolated linearly, NaN beyond a quarter of the series' range.
    BELOW_RANGE = 1
    #: State above the last reference: extrapolated linearly, NaN beyond a quarter of the series' range.
    ABOVE_RANGE = 2
    #: Every frame so far is missing here (NaN), as for a dead pixel or a pixel out of the field.
    NO_DATA = 3
    #: The energies measured so far do not determine the unknowns yet.
    TOO_FEW_FRAMES = 4
    #: The same value in every frame.
    FLAT = 5
    #: No edge that stands out of the noise.
    NO_EDGE = 6
    #: The optical depth steps down at the edge.
    INVERTED = 7
    #: Clipped: frames without light, at the camera's limit, or stuck at one maximum.
    SATURATED = 8
    #: The edge is there, but the position is not determined to better than half of its range, or where it is does not
    #: depend on the state in the references.
    UNCERTAIN = 9
    #: The edge is there, but the feature looked for is not inside of its search window, or not in the references.
    NOT_FOUND = 10
    #: The non-linear fit did not converge.
    NOT_CONVERGED = 11
    #: Set aside by a mask.
    MASKED = 12
    #: So thick that light beside the sample, though taken out, leaves the state open.
    STRAY_LIGHT = 13

    @property
    def has_value(self) -> bool:
        """Whether pixels of this status carry values."""
        return self <= FitStatus.ABOVE_RANGE


@dataclass(frozen=True, slots=True, eq=False)
class EdgeMaps:
    """Maps of one fit; NaN means "no value" and ``status`` says why.

    Parameters
    ----------
    soc, soc_sigma : ndarray of float32, shape (rows, cols)
        State of charge on the references' own scale, and its standard deviation.
    edge_energy_ev, edge_energy_sigma_ev : ndarray of float32, shape (rows, cols)
        Edge energy by ``definition`` and its standard deviation.
    edge_jump : ndarray of float32, shape (rows, cols)
        Height of the edge in optical depth: thickness times concentration.
    goodness : ndarray of float32, shape (rows, cols)
        R-factor: squared residual over the squared data, pre-edge line subtracted from both. Smaller is
        better; noise alone gives about ``(noise / edge_jump)**2``, more than that is misfit.
    status : ndarray of uint8, shape (rows, cols)
        A :class:`FitStatus` per pixel.
    noise : ndarray of float32, shape (rows, cols)
        Standard deviation of one frame of weight 1, in optical depth, from the residuals.
    optical_depth : ndarray of float32, shape (rows, cols)
        Highest optical depth met, for judging stray light.
    edge, method, definition : str
        The edge, the method, and in one sentence what "edge energy" means in these maps.
    n_frames : int
        Frames that went in.
    edge_jump_sigma : ndarray of float32, shape (rows, cols), or None
        Standard deviation of ``edge_jump``, with the method ``edge_jump``.
    axis_offset_ev, axis_offset_sigma_ev : float or None
        Energies of the scan minus those of the references for the same feature, with its standard deviation; None
        where it was not looked for or cannot be told. One for all pixels.
    soc_systematic : float or None
        Uncertainty of ``soc`` that all pixels share: from the axis (what an offset that was left in means, and what
        the uncertainty of the offset does) and from the references (their noise, and their scatter about a smooth
        curve), in quadrature. By how much the error of the references differs between the states of the map is in
        ``soc_sigma``.
    axis_offset_reason : str
        Why the offset of the axis cannot be told, as one of the warnings; empty otherwise.
    reduced_chi2 : ndarray of float32, shape (rows, cols), or None
        Squared residual over what noise leaves, per degree of freedom: about 1 where the model is right, more where
        it is not. The noise is that which neighbouring pixels do not share, see ``edge_fitting.quality``. None where
        it cannot be told: without references, or with too few frames or pixels.
    chi2 : float or None
        The same, typical of the pixels with a state of charge.
    frame_energy_ev, frame_chi2 : ndarray, shape (n_frames,), or None
        The same of each frame in the fit, and its energy on the axis of the references.
    frame_residual : ndarray, shape (n_frames,), or None
        Optical depth of each frame beyond the fit, mean over pixels with an edge.
    stray_light, stray_light_sigma : float or None
        Part of the open beam that reaches the camera beside the sample (stray light, harmonics, a dark that is too
        low), told from thick pixels; None where nothing is thick enough to tell.
    stray_light_taken_out : bool
        Whether it was subtracted from the frames before the fit: where it is significant.
    left_out_ev : tuple of float
        Energies of frames that do not belong and were left out.
    n_masked_values : int
        Single values, of pixels hit by a zinger, that were left out.
    warnings : tuple of str
        Why the map should not be believed as it is, one sentence each; empty for a sound one.
    mixture_share, mixture_sigma : float or None
        Where the spectra between the ends of the series lie, over all pixels: 0 for intermediate states of one phase, 1
        for the two end states side by side; None where it was not looked for or cannot be told.
    mixture_reason : str
        Why that cannot be told; empty otherwise.
    """

    soc: NDArray[np.float32]
    soc_sigma: NDArray[np.float32]
    edge_energy_ev: NDArray[np.float32]
    edge_energy_sigma_ev: NDArray[np.float32]
    edge_jump: NDArray[np.float32]
    goodness: NDArray[np.float32]
    status: NDArray[np.uint8]
    noise: NDArray[np.float32]
    optical_depth: NDArray[np.float32]
    edge: str
    method: str
    definition: str
    n_frames: int
    edge_jump_sigma: NDArray[np.float32] | None = None
    axis_offset_ev: float | None = None
    axis_offset_sigma_ev: float | None = None
    soc_systematic: float | None = None
    reduced_chi2: NDArray[np.float32] | None = None
    chi2: float | None = None
    frame_energy_ev: NDArray[np.float64] | None = None
    frame_chi2: NDArray[np.float64] | None = None
    frame_residual: NDArray[np.float64] | None = None
    stray_light: float | None = None
    stray_light_sigma: float | None = None
    stray_light_taken_out: bool = False
    left_out_ev: tuple[float, ...] = ()
    n_masked_values: int = 0
    warnings: tuple[str, ...] = ()
    axis_offset_reason: str = ""
    mixture_share: float | None = None
    mixture_sigma: float | None = None
    mixture_reason: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.status.shape
        return rows, cols

    @property
    def has_value(self) -> NDArray[np.bool_]:
        """Pixels with a state of charge, an edge energy or, of a jump map, a jump; shape (rows, cols)."""
        carries = self.status <= FitStatus.ABOVE_RANGE
        if self.edge_jump_sigma is not None:
            return carries
        return carries & (np.isfinite(self.soc) | np.isfinite(self.edge_energy_ev))

    def counts(self) -> dict[str, int]:
        """Count the pixels of each status that occurs, by its name."""
        found = np.bincount(self.status.ravel(), minlength=len(FitStatus))
        return {code.name: int(found[code]) for code in FitStatus if found[code]}
