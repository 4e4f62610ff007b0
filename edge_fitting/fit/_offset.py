"""What is done about an offset between the axes of scan and references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import FitStatus
from edge_fitting.errors import EdgeFittingError
from edge_fitting.quality import spread_pixels
from edge_fitting.references import ReferenceSeries
from edge_fitting.series import (
    ALLOWED_EV,
    AxisOffset,
    CurveError,
    JointBasis,
    Mixture,
    SeriesBasis,
    estimate_offset,
    fit_series,
    foreign_warnings,
    mixture_of_ends,
    on_reference_axis,
)
from edge_fitting.stack import Values
from edge_fitting.sums import CountsFrame, SufficientStatistics

from ._methods import Estimator, StreamingSeries, fit_at_once

Array = NDArray[np.float64]
Frame = NDArray[np.float32]
OffsetChoice = Literal["report", "fit"] | float

# Pixels of each frame that are kept for the offset: enough for 0.01 eV, and 16 kB a frame. Of long scans, half as many
# whenever the values kept would be more than these, 16 MB.
_SAMPLED = 4096
_MOST_VALUES = 2**22


def check_choice(choice: object, method: str, references: ReferenceSeries | None) -> OffsetChoice:
    """Return the choice.

    Raises
    ------
    EdgeFittingError
        If it is none, or cannot be followed by this method.
    """
    checked = check_offset(choice)
    if checked == "fit" and (method != "series" or references is None or references.coordinate != "soc"):
        raise EdgeFittingError(
            "an axis offset is fitted by method 'series' with references only: give both, or the offset in eV."
        )
    return checked


def check_offset(choice: object) -> OffsetChoice:
    """Return what to do about an offset of the axes.

    Raises
    ------
    EdgeFittingError
        If it is none of ``report``, ``fit`` and a finite number of eV.
    """
    if choice == "report":
        return "report"
    if choice == "fit":
        return "fit"
    if isinstance(choice, (int, float, np.number)) and not isinstance(choice, bool) and math.isfinite(choice):
        return float(choice)
    raise EdgeFittingError(f"axis_offset must be 'report', 'fit' or a number of eV, not {choice!r}.")


def moved_energies(energy_ev: Array, choice: OffsetChoice, references: ReferenceSeries | None) -> Array:
    """Take a given offset from the energies of a scan."""
    if isinstance(choice, str) or choice == 0.0:
        return energy_ev
    return energy_ev - choice if references is None else on_reference_axis(references, energy_ev, choice)


class SampledFrames:
    """Some pixels of every frame, spread over the image: fewer the more frames there are."""

    def __init__(self, n_pixels: int, pixels: NDArray[np.intp] | None = None) -> None:
        self._pick = spread_pixels(n_pixels, _SAMPLED) if pixels is None else pixels
        self._is_part = pixels is not None  # that of the whole image is kept small as a whole
        self._every = 1
        self._frames: list[tuple[float, float, Frame]] = []

    def add(self, energy_ev: Array, stack: Frame, weight: Array) -> None:
        """Keep the sample of some frames, shape (n, n_pixels)."""
        for energy, frame, own in zip(energy_ev, stack, weight, strict=True):
            self._frames.append((float(energy), float(own), frame[self._pick]))
            self._bound()

    def add_counts(self, energy_ev: float, frame: CountsFrame, weight: float) -> None:
        """Correct the sample of a frame of counts."""
        pick = self._pick
        part = CountsFrame(
            counts=np.ascontiguousarray(frame.counts[pick]),
            dark=np.ascontiguousarray(frame.dark[pick]),
            flat=np.ascontiguousarray(frame.flat[pick]),
            dark_flat=np.ascontiguousarray(frame.dark_flat[pick]),
            scale=frame.scale,
            saturation=frame.saturation,
        )
        depth = np.empty(part.counts.size, np.float32)
        part.correct(depth)
        self._frames.append((energy_ev, weight, depth))
        self._bound()

    def _bound(self) -> None:
        while (
            not self._is_part and len(self._frames) * self._pick.size > _MOST_VALUES and self._pick.size > 1
        ):
            self._thin(2)

    def _thin(self, step: int) -> None:
        """Keep every so many-th pixel."""
        self._every *= step
        self._pick = self._pick[::step]
        self._frames = [(energy, weight, frame[::step].copy()) for energy, weight, frame in self._frames]

    @property
    def pixels(self) -> NDArray[np.intp]:
        """Flat indices of the pixels."""
        return self._pick

    def remove(self, energy_ev: float, frame: Frame, weight: float) -> None:
        """Let go of the last frame that is equal to one; to rounding of what corrects counts."""
        sample = frame[self._pick]
        for k in range(len(self._frames) - 1, -1, -1):
            energy, own, kept = self._frames[k]
            if (energy, own) == (energy_ev, weight) and np.allclose(kept, sample, atol=1e-4, equal_nan=True):
                del self._frames[k]
                return

    def merge(self, other: SampledFrames) -> None:
        """Add the frames of another sample of images of the same size."""
        if other._every > self._every:
            self._thin(other._every // self._every)
        step = self._every // other._every
        self._frames += [(energy, weight, frame[::step].copy()) for energy, weight, frame in other._frames]
        self._bound()

    def join(self, tiles: Sequence[SampledFrames], places: Sequence[NDArray[np.intp]]) -> None:
        """Put the samples of tiles with the same frames side by side; their pixels are at ``places`` in the image."""
        picked = np.concatenate(places)
        order = np.argsort(picked)
        self._pick = picked[order]
        ordered = [sorted(tile._frames, key=lambda frame: frame[:2]) for tile in tiles]
        self._frames = [
            (parts[0][0], parts[0][1], np.concatenate([part[2] for part in parts])[order])
            for parts in zip(*ordered, strict=True)
        ]
        self._bound()

    @property
    def scan(self) -> tuple[Array, Array]:
        """Energies and weights."""
        return np.array([frame[0] for frame in self._frames]), np.array([frame[1] for frame in self._frames])

    @property
    def stack(self) -> tuple[Array, Frame, Array]:
        """Energies, samples and weights."""
        energies, weights, frames = zip(*self._frames, strict=True)
        return np.array(energies), np.stack(frames), np.array(weights)

    def __len__(self) -> int:
        return len(self._frames)


class SeriesWithOffset(StreamingSeries):
    """The series fit that looks for an offset of the axis from a sample of the pixels.

    With ``apply`` the sums are taken on functions that hold the series at any offset, about twice as many. Without
    ``search`` it keeps the sample alone, by which its frames are judged.
    """

    def __init__(
        self, shape: tuple[int, int], references: ReferenceSeries, *, apply: bool, search: bool = True
    ) -> None:
        super().__init__(shape, references)
        self._search = search
        self._sample = SampledFrames(shape[0] * shape[1])
        self._joint = JointBasis(references) if apply else None
        if self._joint is not None:
            self._functions = self._joint
            self._statistics = SufficientStatistics(shape[0] * shape[1], self._joint.n_functions)
        self.offset = AxisOffset()
        self.mixture = Mixture()
        self._scan = np.empty(0), np.empty(0)
        self._seen: tuple[Array, Frame, Array] | None = None
        self._seen_pixels = self._sample.pixels

    def push(self, energy_ev: Array, stack: Frame, weight: Array) -> None:
        """Add frames, shape (n, n_pixels)."""
        super().push(energy_ev, stack, weight)
        self._sample.add(energy_ev, stack, weight)

    def push_counts(self, energy_ev: float, frame: CountsFrame, weight: float) -> None:
        """Correct and add one frame."""
        super().push_counts(energy_ev, frame, weight)
        self._sample.add_counts(energy_ev, frame, weight)

    def retract(self, energy_ev: float, frame: Frame, weight: float) -> None:
        """Take out one frame, shape (n_pixels,), that has been added."""
        super().retract(energy_ev, frame, weight)
        self._sample.remove(energy_ev, frame, weight)

    def merge(self, other: Any) -> None:
        """Add all frames of another estimator of the same kind, pixels and references."""
        super().merge(other)
        self._sample.merge(other._sample)

    def join_tiles(self, tiles: Any) -> None:
        """Take over tiles of the image that hold the same frames."""
        super().join_tiles(tiles)
        self._sample.join(
            [tile._sample for _, tile in tiles], [pixels[tile._sample.pixels] for pixels, tile in tiles]
        )

    def sample_as(self, whole: Self, pixels: NDArray[np.intp]) -> None:
        """Look at those pixels that the estimator of the whole image looks at; these are at ``pixels`` in it."""
        inside = np.flatnonzero(np.isin(pixels, whole._sample.pixels))
        self._sample = SampledFrames(pixels.size, inside)
        self._seen_pixels = inside

    @property
    def sample(self) -> SampledFrames:
        """Some pixels of the frames so far."""
        return self._sample

    @property
    def basis(self) -> SeriesBasis:
        """The references as the fit has them."""
        return self._basis

    def energies_of_fit(self, energy_ev: Array) -> Array:
        """Energies on the axis of the references, as the fit has them."""
        if self._joint is None or not math.isfinite(self.offset.offset_ev):
            return energy_ev
        return on_reference_axis(self._basis.series, energy_ev, self.offset.offset_ev)

    def find_offset(self) -> None:
        """Look for the offset in the frames so far, if that is wanted."""
        if not self._search:
            return
        self.offset, self._seen = AxisOffset(), None
        if len(self._sample):
            self._seen, self._seen_pixels = self._sample.stack, self._sample.pixels
            self.offset = estimate_offset(self._basis, *self._seen)

    def fit(self) -> Values:
        """Values and status of the frames so far, at the offset found last."""
        if len(self._sample):
            self._keep_gram(*self._sample.scan)
        if self._joint is None:
            return super().fit()
        found = self.offset.offset_ev
        basis = self._joint.moved(found if math.isfinite(found) else 0.0)
        return self._on_scale(fit_series(self._statistics, basis, self._shape))

    def _keep_gram(self, energy_ev: Array, weight: Array) -> None:
        projector = self._basis.at(energy_ev)
        self._gram = (projector * weight[:, None]).T @ projector
        self._scan = energy_ev, weight

    def offset_error(self, error: CurveError, soc: Array) -> float:
        """Work out the sigma (eV) of the offset from the scatter of the references, for pixels of some states."""
        return error.of_offset(self._basis, *self._scan, soc)

    def foreign_warnings(
        self, soc: Frame, jump: Frame, status: NDArray[np.uint8], *, off: bool
    ) -> tuple[str, ...]:
        """Say whether the sampled frames hold spectra that the references do not, given the maps of all pixels.

        Mixtures of the ends of the series are such, too: ``mixture`` is what was found of them. With the axis ``off``,
        which leaves a residual and is told already, nothing else is looked for.
        """
        self.mixture = Mixture()
        if self._seen is None or self._basis.series.coordinate != "soc":
            return ()
        energies, sample, weights = self._seen
        energies = self.energies_of_fit(energies)
        pixels = self._seen_pixels
        states, heights = (row[pixels].astype(np.float64) for row in (soc, jump))
        known, outside = self._basis.series.states, np.isnan(states)
        # What lies far beyond the references is compared with the nearest of them.
        states[outside & (status[pixels] == FitStatus.BELOW_RANGE)] = known[0]
        states[outside & (status[pixels] == FitStatus.ABOVE_RANGE)] = known[-1]
        self.mixture = mixture_of_ends(self._basis.series, energies, sample, weights, states, heights)
        if self.mixture.warnings or off:
            return self.mixture.warnings
        return foreign_warnings(self._basis.series, energies, sample, weights, states, heights)

    def fit_stack(self, energy_ev: Array, stack: Frame, weight: Array) -> Values:
        """Values and status of a stack that is all there is."""
        return self.fit_sampled(energy_ev, stack, weight, np.take(stack, self._sample.pixels, axis=1))

    def fit_sampled(self, energy_ev: Array, stack: Frame, weight: Array, sample: Frame) -> Values:
        """Do the same where the pixels of the sample have been taken out already."""
        self._keep_gram(energy_ev, weight)
        moved = energy_ev
        if self._search:
            self.offset = estimate_offset(self._basis, energy_ev, sample, weight)
            self._seen, self._seen_pixels = (energy_ev, sample, weight), self._sample.pixels
            moved = self.energies_of_fit(energy_ev)
        return fit_at_once(StreamingSeries(self._shape, self._basis), moved, stack, weight)


def offset_fields(
    estimator: Estimator, choice: OffsetChoice, shared: float, reference_sigma_ev: float
) -> dict[str, Any]:
    """Return the fields of the maps that tell of the offset.

    Parameters
    ----------
    estimator : Estimator
        After its fit.
    choice : {"report", "fit"} or float
        What was asked for.
    shared, reference_sigma_ev : float
        Uncertainty of the states, and of the offset, from the references. An offset that is no larger than both leave
        open is no finding.
    """
    if not isinstance(choice, str):
        return {"axis_offset_ev": choice}
    if not isinstance(estimator, SeriesWithOffset):
        return {}
    found = estimator.offset
    if found.reason:
        said = f"an offset between the axes of scan and references cannot be told: {found.reason}; calibrate on a foil."
        return {"axis_offset_reason": said, "warnings": (said,)}
    if not math.isfinite(found.offset_ev):
        return {}
    sigma_ev = math.hypot(found.sigma_ev, reference_sigma_ev)
    per_ev = abs(found.soc_per_ev)
    warnings: tuple[str, ...] = ()
    if choice == "fit":
        systematic = per_ev * sigma_ev
    else:
        bias = abs(found.soc_bias) if math.isfinite(found.soc_bias) else 0.0
        open_ = 2.0 * math.hypot(shared, per_ev * reference_sigma_ev)
        systematic = math.hypot(per_ev * found.sigma_ev, math.sqrt(max(bias**2 - open_**2, 0.0)))
        if abs(found.offset_ev) > max(ALLOWED_EV, 3.0 * sigma_ev) and bias > open_:
            warnings = (
                f"the energy axis of the scan is {found.offset_ev:+.2f} +- {sigma_ev:.2f} eV off that of the "
                f"references, more than a foil calibration leaves open ({ALLOWED_EV:g} eV): soc is biased by "
                f"{found.soc_bias:+.2f}; fit again with axis_offset='fit', or calibrate.",
            )
    return {
        "axis_offset_ev": found.offset_ev,
        "axis_offset_sigma_ev": sigma_ev,
        "soc_systematic": systematic,
        "warnings": warnings,
    }
