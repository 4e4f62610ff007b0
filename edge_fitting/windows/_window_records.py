"""What the kernels of the window estimators take, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Index = NDArray[np.int64]


class WindowFrames(NamedTuple):
    """Which frames are in the two windows, and what is made of them; see ``WindowPlan``."""

    pre: _Index
    """Frames below the edge."""
    post: _Index
    """Frames above it."""
    others: _Index
    """All the rest."""
    slots: _Index
    """Place of each frame in the search window, or -1."""
    pre_rule: _Array
    """Coefficients of the pre-edge polynomials, shape (2, n_pre)."""
    post_rule: _Array
    """Those of the post-edge polynomials, shape (m, n_post)."""
    pre_weight: _Array
    """Weights of the frames below."""
    post_weight: _Array
    """Weights of those above."""
    post_level: _Array
    """Values of the post-edge polynomials at the reference energy, shape (m,)."""


class PreEdgeLine(NamedTuple):
    """The line below the edge, per unit noise."""

    centre_ev: float
    """Where its slope adds nothing."""
    own_slope: float
    """What a slope of each pixel's own adds per eV; 0 where they share theirs."""
    level: float
    """Value of the constant polynomial."""
    slope: float
    """Value of the linear polynomial, per eV."""
    shared: float
    """Slope relative to the level that all pixels share; NaN where each has its own."""
    reference_ev: float
    """Where the step is taken."""
    post_variance: float
    """Variance of the post-edge level there."""


class SearchFrames(NamedTuple):
    """Frames of the search window in order of energy."""

    energy_ev: _Array
    """Energies."""
    weight: _Array
    """Weights."""
    width_ev: _Array
    """Energy that each stands for."""
    top: int
    """First of those in the upper part of the window, whose mean shows whether there is an edge."""
    top_ev: float
    """Mean energy of these."""


class SlopeRules(NamedTuple):
    """Slopes of polynomials fitted by least squares around each frame of the search window."""

    start: _Index
    """First frame of each support within the search window, shape (n_inside,)."""
    n_frames: _Index
    """How many frames each has."""
    slope: _Array
    """Give the slope, shape (n_inside, most), filled up with zeros."""
    covariance: _Array
    """Covariance of the slopes for unit noise at unit weight, shape (n_inside, n_inside)."""


class WindowLimits(NamedTuple):
    """What a pixel needs for a value."""

    dof: float
    """Degrees of freedom of its own noise."""
    detection: float
    """Threshold of (step / sigma of step)**2."""
    step_variance: float
    """Variance of the step for unit noise."""
    rise_variance: float
    """Variance of the mean height above the pre-edge line in the upper part of the search window."""
    weight_above: float
    """Summed weight of the frames above the edge."""
    first_ev: float
    """Lower end of the search window."""
    last_ev: float
    """Upper end."""
    n_frames: int
    """Frames."""
    by_white_line: bool
    """Whether the height of the white line stands in place of the step: on L edges it is many times as high."""


class WindowScan(NamedTuple):
    """What a scan is to the kernels, beside its frames' values."""

    frames: WindowFrames
    """Frames of the two windows."""
    line: PreEdgeLine
    """The line below the edge."""
    search: SearchFrames
    """Frames of the search window."""
    limits: WindowLimits
    """What a pixel needs for a value."""
