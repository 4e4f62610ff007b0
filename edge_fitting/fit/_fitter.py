"""Frames fitted one by one, as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import (
    LAYOUT,
    Edge,
    EdgeMaps,
    check_energies,
    check_frame,
    check_shape,
    check_stack,
    check_weights,
    resolve_edge,
)
from edge_fitting.errors import EdgeFittingError
from edge_fitting.quality import FrameDoubt, StrayLight
from edge_fitting.references import ReferenceSeries
from edge_fitting.sums import CountsFrame

from ._maps import as_maps, estimator_of, judged
from ._methods import Estimator, Method
from ._offset import OffsetChoice, SeriesWithOffset, check_choice, moved_energies
from ._quality import judge_streamed
from ._warm_up import warm_up
from ._without_value import without_value


class EdgeFitter:
    """Fit every pixel of an energy scan while its frames arrive.

    Frames come in any order of energy, repeats included; maps can be asked for at any moment. With
    ``method="series"`` or ``"lcf"`` and references, frames are reduced to a few sums per pixel and let go:
    memory does not grow with their number. The other methods, and a series without references, need whole
    spectra: choosing one means keeping the frames.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of a frame.
    edge : str or Edge
        Edge that is scanned, such as ``"Ni_K"``.
    method : {"series", "half_jump", "inflection", "white_line", "lcf", "arctan_gauss", "edge_jump"}
        Estimator, as in :func:`fit_stack`.
    references : ReferenceSeries, optional
        Reference spectra; they give ``soc`` its scale.
    axis_offset : {"report", "fit"} or float
        As in :func:`fit_stack`.

    Raises
    ------
    EdgeFittingError
        For a shape, edge, method or references that cannot be used.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        edge: str | Edge = "Ni_K",
        method: Method = "series",
        references: ReferenceSeries | None = None,
        axis_offset: OffsetChoice = "report",
    ) -> None:
        self._shape = check_shape(shape)
        self._edge = resolve_edge(edge)
        self._method: Method = method
        self._references = references
        self._axis_offset = check_choice(axis_offset, method, references)
        self._estimator: Estimator = estimator_of(
            method, self._edge, self._shape, references, self._axis_offset
        )
        self._doubts: tuple[FrameDoubt, ...] = ()
        self._taken_out: StrayLight | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._shape

    @property
    def edge(self) -> Edge:
        """Edge that is scanned."""
        return self._edge

    @property
    def n_frames(self) -> int:
        """Frames pushed so far."""
        return self._estimator.n_frames

    def push(self, energy_ev: ArrayLike, optical_depth: ArrayLike, weight: ArrayLike = 1.0) -> None:
        """Add one frame, or several at once.

        Parameters
        ----------
        energy_ev : float or array_like, shape (n,)
            Energy of the frame in eV, best the readback.
        optical_depth : array_like, shape (rows, cols) or (n, rows, cols)
            Optical depth; NaN marks missing pixels, infinite ones count as saturated.
        weight : float or array_like, shape (n,)
            Weight, inversely proportional to the variance of the frame's noise.

        Raises
        ------
        EdgeFittingError
            For an energy that is not finite, in keV or out of range, a frame of another shape, or a weight that
            is not positive. Nothing is added then.
        """
        energies = check_energies(energy_ev, edge=self._edge)
        if np.ndim(energy_ev) == 0:
            stack = check_frame(optical_depth, self._shape)[None]
        else:
            stack = check_stack(optical_depth, energies.size)
            if stack.shape[1:] != self._shape:
                raise EdgeFittingError(
                    f"optical_depth has frames of {stack.shape[1:]} but the fitter was made for {self._shape}."
                )
        weights = check_weights(weight, energies.size)
        if self._estimator.keeps_frames:
            stack = stack.copy()
        moved = moved_energies(energies, self._axis_offset, self._references)
        self._estimator.push(moved, stack.reshape(energies.size, -1), weights)

    def push_counts(
        self,
        energy_ev: float,
        counts: ArrayLike,
        *,
        dark: ArrayLike,
        flat: ArrayLike,
        dark_flat: ArrayLike | None = None,
        scale: float = 1.0,
        saturation: int | None = None,
        weight: float = 1.0,
    ) -> None:
        """Correct one frame of detector counts and add it, in one pass.

        The optical depth is ``-ln(scale * (counts - dark) / (flat - dark_flat))``.

        Parameters
        ----------
        energy_ev : float
            Energy of the frame in eV.
        counts : array_like of uint16, shape (rows, cols)
            Detector counts of the sample frame.
        dark : array_like, shape (rows, cols)
            Mean dark of the same exposure.
        flat : array_like, shape (rows, cols)
            Mean flat without sample.
        dark_flat : array_like, shape (rows, cols), optional
            Mean dark of the flat's exposure; ``dark`` by default.
        scale : float
            What makes both comparable: (exposure * incident intensity) of the flat over that of the sample.
        saturation : int, optional
            Counts from here on are saturated; the highest value of uint16 by default.
        weight : float
            Weight, inversely proportional to the variance of the frame's noise.

        Raises
        ------
        EdgeFittingError
            As :meth:`push`, and for counts that are not uint16 or a scale that is not positive.
        """
        energy, frame, own_weight = self._counts_frame(
            energy_ev, counts, dark, flat, dark_flat, scale, saturation, weight
        )
        moved = moved_energies(np.array([energy]), self._axis_offset, self._references)
        self._estimator.push_counts(float(moved[0]), frame, own_weight)

    def retract(self, energy_ev: float, optical_depth: ArrayLike, weight: float = 1.0) -> None:
        """Take one frame out again: a frame taken anew, or one that turned out not to belong.

        It costs about what adding it did, whatever the number of frames; the maps are those of the other frames to
        rounding. The one exception: ``optical_depth`` of the maps, the highest met, stays as an upper bound where the
        frame alone had it.

        Parameters
        ----------
        energy_ev, optical_depth, weight
            What was given to :meth:`push`, for one frame.

        Raises
        ------
        EdgeFittingError
            As :meth:`push`, if there are no frames, or, for the methods that keep frames, if this one is not among
            them.
        """
        energies = check_energies(energy_ev, edge=self._edge)
        if energies.size != 1:
            raise EdgeFittingError("retract takes one frame and one energy at a time.")
        frame = check_frame(optical_depth, self._shape).ravel()
        self._take_out(float(energies[0]), frame, float(check_weights(weight, 1)[0]))

    def retract_counts(
        self,
        energy_ev: float,
        counts: ArrayLike,
        *,
        dark: ArrayLike,
        flat: ArrayLike,
        dark_flat: ArrayLike | None = None,
        scale: float = 1.0,
        saturation: int | None = None,
        weight: float = 1.0,
    ) -> None:
        """Take one frame of detector counts out again; see :meth:`retract` and :meth:`push_counts`.

        Raises
        ------
        EdgeFittingError
            As both of them.
        """
        energy, frame, own_weight = self._counts_frame(
            energy_ev, counts, dark, flat, dark_flat, scale, saturation, weight
        )
        depth = np.empty(frame.counts.size, np.float32)
        frame.correct(depth)
        self._take_out(energy, depth, own_weight)

    def merge(self, other: EdgeFitter) -> None:
        """Add all frames of another fitter: another part of the scan, or another worker's.

        The maps are those of one fitter with the frames of both, to rounding.

        Parameters
        ----------
        other : EdgeFitter
            Of the same shape, edge, method and references. It can be used on.

        Raises
        ------
        EdgeFittingError
            If it differs in one of these.
        """
        if other.shape != self._shape:
            raise EdgeFittingError(f"a fitter of {other.shape} cannot be merged into one of {self._shape}.")
        self._check_same_fit(other)
        self._estimator.merge(other._estimator)

    def tile(self, place: tuple[int, int], shape: tuple[int, int]) -> EdgeFitter:
        """Return a fitter without frames of a part of the image, to be joined with others by :meth:`from_tiles`.

        Tiles that are made by this look at the pixels that the fitter of the whole image looks at for all of them (the
        offset of the axis, the frames that do not belong), so that joined they say the same.

        Parameters
        ----------
        place : tuple of int
            First row and column of the part.
        shape : tuple of int
            Its rows and columns.

        Raises
        ------
        EdgeFittingError
            If it is not inside of the image.
        """
        rows, columns = check_shape(shape)
        index = np.arange(self._shape[0] * self._shape[1]).reshape(self._shape)
        part = index[place[0] : place[0] + rows, place[1] : place[1] + columns]
        if min(place) < 0 or part.shape != (rows, columns):
            raise EdgeFittingError(
                f"a tile of {shape} at row {place[0]}, column {place[1]} is not inside of an image of {self._shape}."
            )
        tile = EdgeFitter(
            (rows, columns),
            edge=self._edge,
            method=self._method,
            references=self._references,
            axis_offset=self._axis_offset,
        )
        if isinstance(tile._estimator, SeriesWithOffset) and isinstance(self._estimator, SeriesWithOffset):
            tile._estimator.sample_as(self._estimator, part.ravel())
        return tile

    @property
    def keeps_frames(self) -> bool:
        """Whether the method needs whole spectra, so that frames are kept until the fit."""
        return self._estimator.keeps_frames

    @classmethod
    def from_tiles(
        cls, shape: tuple[int, int], tiles: Sequence[tuple[tuple[int, int], EdgeFitter]]
    ) -> EdgeFitter:
        """Join fitters of parts of the image that were given the same frames.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns of the whole image.
        tiles : sequence of ((row, column), EdgeFitter)
            First row and column of each tile, and its fitter. Together they cover the image, each pixel once.

        Returns
        -------
        EdgeFitter
            Its maps are those of a fitter of the whole image, to rounding.

        Raises
        ------
        EdgeFittingError
            If the tiles do not fit together, or were not given the same frames.
        """
        if not tiles:
            raise EdgeFittingError("there is no tile to join.")
        first = tiles[0][1]
        whole = cls(
            shape,
            edge=first._edge,
            method=first._method,
            references=first._references,
            axis_offset=first._axis_offset,
        )
        index = np.arange(whole._shape[0] * whole._shape[1]).reshape(whole._shape)
        covered = np.zeros(whole._shape, np.int64)
        parts = []
        for (row, column), tile in tiles:
            first._check_same_fit(tile)
            place = np.s_[row : row + tile.shape[0], column : column + tile.shape[1]]
            if min(row, column) < 0 or index[place].shape != tile.shape:
                raise EdgeFittingError(
                    f"a tile of {tile.shape} at row {row}, column {column} is not inside of an image of {whole._shape}."
                )
            covered[place] += 1
            parts.append((index[place].ravel(), tile._estimator))
        if (covered != 1).any():
            raise EdgeFittingError(
                f"the tiles leave {int((covered == 0).sum())} pixels out and cover {int((covered > 1).sum())} twice or "
                "more: each pixel has to be in one tile."
            )
        whole._estimator.join_tiles(parts)
        return whole

    def _check_same_fit(self, other: EdgeFitter) -> None:
        mine, theirs = self._references, other._references
        same_series = mine is theirs or (
            mine is not None and theirs is not None and mine.to_dict() == theirs.to_dict()
        )
        for what, same in (
            ("edge", self._edge == other._edge),
            ("method", self._method == other._method),
            ("references", same_series),
            ("axis_offset", self._axis_offset == other._axis_offset),
        ):
            if not same:
                raise EdgeFittingError(
                    f"two fitters with different {what} have no common sums: fit them alike."
                )

    def _take_out(self, energy_ev: float, frame: NDArray[np.float32], weight: float) -> None:
        if self.n_frames == 0:
            raise EdgeFittingError("no frame has been added, so none can be taken out.")
        moved = moved_energies(np.array([energy_ev]), self._axis_offset, self._references)
        self._estimator.retract(float(moved[0]), frame, weight)

    def _counts_frame(
        self,
        energy_ev: float,
        counts: ArrayLike,
        dark: ArrayLike,
        flat: ArrayLike,
        dark_flat: ArrayLike | None,
        scale: float,
        saturation: int | None,
        weight: float,
    ) -> tuple[float, CountsFrame, float]:
        """Check what :meth:`push_counts` was given."""
        energies = check_energies(energy_ev, edge=self._edge)
        if energies.size != 1:
            raise EdgeFittingError("counts are taken one frame and one energy at a time.")
        weights = check_weights(weight, 1)
        raw = np.asarray(counts)
        if raw.dtype.kind != "u" or raw.dtype.itemsize > 2:
            raise EdgeFittingError(f"counts must be uint16, not {raw.dtype}: use push for optical depths.")
        if raw.shape != self._shape:
            raise EdgeFittingError(f"counts has shape {raw.shape} but the fitter was made for {self._shape}.")
        if not (np.isfinite(scale) and scale > 0):
            raise EdgeFittingError(f"scale must be positive and finite, not {scale}.")
        dark_frame = check_frame(dark, self._shape, "dark").ravel()
        flat_frame = check_frame(flat, self._shape, "flat").ravel()
        dark_of_flat = (
            dark_frame if dark_flat is None else check_frame(dark_flat, self._shape, "dark_flat").ravel()
        )
        limit = int(np.iinfo(np.uint16).max) if saturation is None else int(saturation)
        frame = CountsFrame(
            counts=np.require(raw, np.uint16, LAYOUT).ravel(),
            dark=dark_frame,
            flat=flat_frame,
            dark_flat=dark_of_flat,
            scale=float(scale),
            saturation=limit,
        )
        return float(energies[0]), frame, float(weights[0])

    def maps(self, *, find_offset: bool = True, final: bool = False) -> EdgeMaps:
        """Fit what has arrived so far.

        Parameters
        ----------
        find_offset : bool
            Whether to look for the offset of the axis anew, which takes 12 to 20 ms; else the last one is told.
        final : bool
            Whether no more frames come: what they lack is said then.

        Returns
        -------
        EdgeMaps
            New arrays; pixels that cannot be fitted yet are NaN with a status that says so.
        """
        if isinstance(self._estimator, SeriesWithOffset) and find_offset:
            self._estimator.find_offset()
        fitted = self._estimator.fit()
        fields: dict[str, Any] = {}
        warnings: tuple[str, ...] = ()
        if isinstance(self._estimator, SeriesWithOffset):
            fields, warnings, self._doubts = judge_streamed(self._estimator, fitted, self._taken_out)
            if len(self._estimator.sample):
                energies, sample, _ = self._estimator.sample.stack
                warnings += without_value(fitted[1], self._edge, energies, lambda: sample, final=final)
        maps = as_maps(
            self._estimator,
            fitted,
            self._edge,
            self._shape,
            self.n_frames,
            self._axis_offset,
            self._references,
        )
        return judged(maps, fields, warnings)

    def note_taken_out(self, background: StrayLight | None) -> None:
        """Note the light beside the sample that all frames had lost before they came, with its uncertainty.

        Parameters
        ----------
        background : StrayLight or None
            As :meth:`FrameJudge.stray_light` found it; None where nothing was taken out.
        """
        self._taken_out = background

    @property
    def doubts(self) -> tuple[FrameDoubt, ...]:
        """Frames that did not belong when the last maps were made; energies are those of the fit."""
        return self._doubts

    def warm_up(self) -> None:
        """Compile what this fitter needs, before beam is on the sample; changes nothing in the fitter.

        See :func:`edge_fitting.warm_up`.
        """
        warm_up(self._method)
