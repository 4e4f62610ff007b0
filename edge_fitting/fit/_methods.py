"""The estimators behind one interface: some reduce frames as they come, some keep them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, Self, get_args

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import Edge, FitStatus
from edge_fitting.combination import EndMemberFit
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries
from edge_fitting.series import (
    CurveError,
    SeriesBasis,
    compile_series,
    curve_error,
    fit_series,
    fit_whole_stack,
)
from edge_fitting.stack import FrameStore, StackMethod, Values, fit_pixels, mean_spectrum
from edge_fitting.sums import CountsFrame, SufficientStatistics
from edge_fitting.windows import WINDOW_METHODS, ArctanGaussMethod, WindowMethod

from ._jump_method import fit_jump
from ._own_error import add_own_error

Method = Literal["series", "half_jump", "inflection", "white_line", "lcf", "arctan_gauss", "edge_jump"]
METHODS: tuple[str, ...] = get_args(Method)

# In the mean of fewer pixels than this, the noise of each of them counts.
_FEW_PIXELS = 100
# How far from the white line towards the post-edge window a scan has to come before its step is about known.
_SETTLED = 0.3

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

_SERIES_DEFINITION = (
    "series: half-jump energy (normalised absorption crosses 0.5, cubic interpolation) of the reference series at "
    "the pixel's maximum-likelihood position along it."
)
_SHIFT_DEFINITION = (
    "series: half-jump energy (normalised absorption crosses 0.5, cubic interpolation) of the scan's own mean "
    "spectrum, moved along the energy axis to the pixel's maximum-likelihood shift."
)


_DIFFERENT_FRAMES = (
    "the tiles do not hold the same frames, so they cannot be joined: give every tile all frames with the same "
    "weights."
)


class Estimator(Protocol):
    """What :class:`~edge_fitting.EdgeFitter` drives; frames are flat, shape (n_pixels,)."""

    name: str
    definition: str
    keeps_frames: bool

    @property
    def n_frames(self) -> int:
        """Frames so far."""

    def push(self, energy_ev: Array, stack: Frame, weight: Array) -> None:
        """Add frames, shape (n, n_pixels)."""

    def push_counts(self, energy_ev: float, frame: CountsFrame, weight: float) -> None:
        """Correct and add one frame."""

    def retract(self, energy_ev: float, frame: Frame, weight: float) -> None:
        """Take out one frame, shape (n_pixels,), that has been added."""

    def merge(self, other: Self) -> None:
        """Add all frames of another estimator of the same kind, pixels and references."""

    def join_tiles(self, tiles: Sequence[tuple[NDArray[np.intp], Self]]) -> None:
        """Take over tiles of the image, each with the flat indices of its pixels, that hold the same frames."""

    def fit(self) -> Values:
        """Values, shape (8, n_pixels) in the order of EdgeMaps, and status, shape (n_pixels,), of the frames so far."""


class _Basis(Protocol):
    """What frames are projected on."""

    @property
    def n_functions(self) -> int:
        """Basis functions."""

    def at(self, energy_ev: Array) -> Array:
        """Basis functions at some energies, shape (n_energy, n_functions)."""


class _Streaming:
    """Frames reduced to sums as they come, and let go."""

    keeps_frames = False

    def __init__(self, shape: tuple[int, int], basis: _Basis) -> None:
        self._functions = basis
        self._statistics = SufficientStatistics(shape[0] * shape[1], basis.n_functions)

    @property
    def n_frames(self) -> int:
        """Frames so far."""
        return self._statistics.n_frames

    def push(self, energy_ev: Array, stack: Frame, weight: Array) -> None:
        """Add one frame by way of the waiting ones, or many, shape (n, n_pixels), without copying them."""
        projector = self._functions.at(energy_ev)
        if stack.shape[0] == 1:
            self._statistics.push(projector[0], stack[0], float(weight[0]))
        else:
            self._statistics.push_stack(projector, stack, weight)

    def push_counts(self, energy_ev: float, frame: CountsFrame, weight: float) -> None:
        """Correct and add one frame."""
        self._statistics.push_counts(self._functions.at(np.array([energy_ev]))[0], frame, weight)

    def retract(self, energy_ev: float, frame: Frame, weight: float) -> None:
        """Take out one frame, shape (n_pixels,), that has been added."""
        self._statistics.retract(self._functions.at(np.array([energy_ev]))[0], frame, weight)

    def merge(self, other: Self) -> None:
        """Add all frames of another estimator of the same kind, pixels and references."""
        self._statistics.merge(other._statistics)

    def join_tiles(self, tiles: Sequence[tuple[NDArray[np.intp], Self]]) -> None:
        """Take over tiles of the image, each with the flat indices of its pixels, that hold the same frames."""
        common = tiles[0][1]._statistics
        for number, (pixels, tile) in enumerate(tiles):
            part = tile._statistics
            part.flush()
            if part.n_frames != common.n_frames or not np.allclose(part.gram, common.gram, rtol=1e-9):
                raise EdgeFittingError(_DIFFERENT_FRAMES)
            self._statistics.place(pixels, part, first=number == 0)


class StreamingSeries(_Streaming):
    """The series fit from sufficient statistics."""

    name = "series"

    def __init__(self, shape: tuple[int, int], references: ReferenceSeries | SeriesBasis) -> None:
        self._basis = references if isinstance(references, SeriesBasis) else compile_series(references)
        is_soc = self._basis.series.coordinate == "soc"
        self.definition = _SERIES_DEFINITION if is_soc else _SHIFT_DEFINITION
        self._shape = shape
        self._gram: Array | None = None
        super().__init__(shape, self._basis)

    def reference_error(self) -> CurveError | None:
        """Work out what the scatter of the references does to the last fit; None where it does not matter."""
        return None if self._gram is None else curve_error(self._basis, self._gram)

    def fit(self) -> Values:
        """Values and status of the frames so far."""
        self._gram = self._statistics.gram
        return self._on_scale(fit_series(self._statistics, self._basis, self._shape))

    def fit_stack(self, energy_ev: Array, stack: Frame, weight: Array) -> Values:
        """Values and status of a stack that is all there is."""
        projector = self._basis.at(energy_ev)
        self._gram = (projector * weight[:, None]).T @ projector
        fitted = fit_whole_stack(projector, stack, weight, self._basis)
        if fitted is not None:
            return self._on_scale(fitted)
        self.push(energy_ev, stack, weight)
        return self.fit()

    def _on_scale(self, fitted: Values) -> Values:
        if self._basis.series.coordinate == "shift_ev":
            fitted[0][:2] = np.nan
        return fitted


class StreamingEndMembers(_Streaming):
    """Linear combination of the end members from sufficient statistics."""

    name = "lcf"
    definition = (
        "lcf: half-jump energy (normalised absorption crosses 0.5, cubic interpolation) of the fitted linear "
        "combination of the two end members of the reference series."
    )

    def __init__(self, shape: tuple[int, int], references: ReferenceSeries) -> None:
        self._fit = EndMemberFit(references)
        self._products = self._fit.no_products()
        super().__init__(shape, self._fit)

    def push(self, energy_ev: Array, stack: Frame, weight: Array) -> None:
        """Add one frame, or many, shape (n, n_pixels)."""
        super().push(energy_ev, stack, weight)
        self._products += self._fit.products(energy_ev, weight)

    def push_counts(self, energy_ev: float, frame: CountsFrame, weight: float) -> None:
        """Correct and add one frame."""
        super().push_counts(energy_ev, frame, weight)
        self._products += self._fit.products(np.array([energy_ev]), np.array([weight]))

    def retract(self, energy_ev: float, frame: Frame, weight: float) -> None:
        """Take out one frame, shape (n_pixels,), that has been added."""
        super().retract(energy_ev, frame, weight)
        self._products -= self._fit.products(np.array([energy_ev]), np.array([weight]))

    def merge(self, other: Self) -> None:
        """Add all frames of another estimator of the same kind, pixels and references."""
        super().merge(other)
        self._products += other._products

    def join_tiles(self, tiles: Sequence[tuple[NDArray[np.intp], Self]]) -> None:
        """Take over tiles of the image, each with the flat indices of its pixels, that hold the same frames."""
        super().join_tiles(tiles)
        self._products = tiles[0][1]._products.copy()

    def fit(self) -> Values:
        """Values and status of the frames so far."""
        return self._fit.fit(self._statistics, self._products)


class KeptStack:
    """Estimators that need whole spectra: frames are kept until the fit."""

    keeps_frames = True

    def __init__(
        self,
        method: StackMethod | None,
        edge: Edge,
        shape: tuple[int, int],
        references: ReferenceSeries | None,
    ) -> None:
        self.name = "series" if method is None else method.name
        self.definition = _SHIFT_DEFINITION if method is None else method.definition
        self._method = method
        self._edge = edge
        self._shape = shape
        self._references = references
        self._frames = FrameStore()

    @property
    def n_frames(self) -> int:
        """Frames so far."""
        return len(self._frames)

    def push(self, energy_ev: Array, stack: Frame, weight: Array) -> None:
        """Add frames, shape (n, n_pixels); the first ones are kept as they are, not copied."""
        if self._references is not None:
            self._references.check_covers(energy_ev)
        self._frames.add(energy_ev, stack, weight)

    def push_counts(self, energy_ev: float, frame: CountsFrame, weight: float) -> None:
        """Correct and add one frame."""
        depth = np.empty((1, frame.counts.size), np.float32)
        frame.correct(depth[0])
        self.push(np.array([energy_ev]), depth, np.array([weight]))

    def retract(self, energy_ev: float, frame: Frame, weight: float) -> None:
        """Take out one frame, shape (n_pixels,), that has been added."""
        if not self._frames.remove(energy_ev, frame, weight):
            raise EdgeFittingError(
                f"no frame of {energy_ev:g} eV with these values and this weight has been added, so none is taken out."
            )

    def merge(self, other: Self) -> None:
        """Add all frames of another estimator of the same kind, pixels and references."""
        if len(other._frames):
            energies, stack, weights = other._frames.frames
            self._frames.add(energies, stack if len(self._frames) else stack.copy(), weights)

    def join_tiles(self, tiles: Sequence[tuple[NDArray[np.intp], Self]]) -> None:
        """Take over tiles of the image, each with the flat indices of its pixels, that hold the same frames."""
        energies, common, weights = tiles[0][1]._frames.frames
        order = np.lexsort((weights, energies))
        whole = np.full((energies.size, self._shape[0] * self._shape[1]), np.nan, np.float32)
        for pixels, tile in tiles:
            other_ev, stack, other_weights = tile._frames.frames
            own = np.lexsort((other_weights, other_ev))
            if not np.array_equal(other_ev[own], energies[order]) or not np.array_equal(
                other_weights[own], weights[order]
            ):
                raise EdgeFittingError(_DIFFERENT_FRAMES)
            whole[:, pixels] = stack[own]
        if common.size:
            self._frames.add(energies[order], whole, weights[order])

    def fit(self) -> Values:
        """Values and status of the frames so far."""
        n_pixels = self._shape[0] * self._shape[1]
        if not len(self._frames):
            return no_frames(n_pixels)
        energies, stack, weights = self._frames.merged()
        if self._method is not None:
            return fit_pixels(self._method, energies, stack, weights, self._shape, self._references)
        family = own_family(self._edge, energies, weights, mean_spectrum(stack), n_pixels)
        if family is None:
            return no_frames(n_pixels)
        values, status = StreamingSeries(self._shape, family).fit_stack(energies, stack, weights)
        add_own_error(self._edge, energies, weights, stack, values, status)
        return values, status


class JumpStack(KeptStack):
    """Edge jump from frames below and above the edge, however few."""

    def __init__(self, edge: Edge, shape: tuple[int, int]) -> None:
        super().__init__(None, edge, shape, None)
        self.name = "edge_jump"
        self.definition = (
            "edge_jump: no edge energy; step of the optical depth at the edge, what absorbs below it carried above "
            "with the power law of absorption."
        )
        self.jump_sigma: Frame | None = None

    def fit(self) -> Values:
        """Values and status of the frames so far."""
        if not len(self._frames):
            return no_frames(self._shape[0] * self._shape[1])
        values, status, self.jump_sigma = fit_jump(self._edge, *self._frames.frames, self._shape)
        return values, status


def own_family(
    edge: Edge, energy_ev: Array, weights: Array, spectrum: Array, n_pixels: int
) -> ReferenceSeries | None:
    """Make a shift family of a scan's mean spectrum; None while that shows no whole edge.

    The spectrum has to go from below the edge to beyond the white line: before, its step is not known, and the edge
    energies would wander by electronvolts while the frames come in. The mean of a few pixels has to have an edge that
    noise cannot make, because such pixels would find their own noise in it.
    """
    below = energy_ev < (edge.onset_ev if edge.is_by_white_line else edge.half_jump_window_ev[0])
    top_ev = edge.white_line_window_ev[1]
    settled_ev = top_ev + _SETTLED * (edge.post_edge_ev[0] - top_ev)
    if below.sum() < 2 or (energy_ev > top_ev).sum() < 2 or energy_ev.max() < settled_ev:
        return None
    if n_pixels < _FEW_PIXELS:
        half_jump = WindowMethod(WINDOW_METHODS["half_jump"], edge)
        _, status = half_jump.estimate(energy_ev, weights, spectrum[:, None].astype(np.float32), (1, 1))
        if status[0] != FitStatus.OK:
            return None
    try:
        return ReferenceSeries.shift_family(energy_ev, spectrum, by_white_line=edge.is_by_white_line)
    except EdgeFittingError:
        return None  # no rising edge, or no pixel that has all frames


def fit_at_once(estimator: Estimator, energy_ev: Array, stack: Frame, weight: Array) -> Values:
    """Values and status of a stack, shape (n, n_pixels), given to an estimator that has no frames yet."""
    if isinstance(estimator, StreamingSeries):
        return estimator.fit_stack(energy_ev, stack, weight)
    estimator.push(energy_ev, stack, weight)
    return estimator.fit()


def no_frames(n_pixels: int) -> Values:
    """Give maps from before there is anything to fit."""
    return np.full((8, n_pixels), np.nan, np.float32), np.full(n_pixels, FitStatus.TOO_FEW_FRAMES, np.uint8)


def make_estimator(
    method: str, edge: Edge, shape: tuple[int, int], references: ReferenceSeries | None
) -> Estimator:
    """Build the estimator of that name.

    Raises
    ------
    EdgeFittingError
        If there is no such method, or ``references`` is not a series.
    """
    if references is not None and not isinstance(references, ReferenceSeries):
        raise EdgeFittingError(
            f"references must be a ReferenceSeries, not {type(references).__name__}: "
            "make one with ReferenceSeries(energy_ev, mu, soc)."
        )
    if method not in METHODS:
        raise EdgeFittingError(f"unknown method {method!r}: use one of {', '.join(METHODS)}.")
    if method == "series":
        return (
            StreamingSeries(shape, references)
            if references is not None
            else KeptStack(None, edge, shape, None)
        )
    if method == "lcf":
        if references is None:
            raise EdgeFittingError(
                "method 'lcf' needs references: give a ReferenceSeries of two or more spectra."
            )
        return StreamingEndMembers(shape, references)
    if method == "edge_jump":
        return JumpStack(edge, shape)
    if method == "arctan_gauss":
        return KeptStack(ArctanGaussMethod(edge), edge, shape, references)
    return KeptStack(WindowMethod(WINDOW_METHODS[method], edge), edge, shape, references)
