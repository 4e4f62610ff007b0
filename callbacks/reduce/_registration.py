"""The reducer for drift: frames moved back to where the sample was, from the moment that it is seen to move."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from callbacks.documents import Slot, energies_text
from callbacks.errors import CallbackError
from edge_fitting import (
    LEAST_DRIFT_PX,
    DriftTracker,
    DriftWatch,
    EdgeFittingError,
    ReferenceSeries,
    RegisteredFrame,
    can_watch,
    drift_px,
    register_stack,
    resample_frame,
)

from ._corrected_frame import CorrectedFrame, Correction
from ._reducer import Item, Reduced, Retraction
from ._spectra import optical_depth, sampled_pixels

RegisterChoice = Literal["on", "off", "auto"]
FloatImage = npt.NDArray[np.float32]
# A field of which less than this is inside of a frame has moved too far for its spectra.
_LEAST_KEPT = 0.5
# A smaller field shows too few features to tell drift from noise without being asked.
_LEAST_WATCHED_PX = 64
# Values of frames that are registered together at the end; larger scans keep the shifts found on the way.
_MOST_AT_ONCE = 2**25
_NO_IMAGE: FloatImage = np.empty((0, 0), np.float32)


def check_register(choice: object) -> RegisterChoice:
    """Return whether to register frames.

    Raises
    ------
    CallbackError
        If it is none of ``on``, ``off`` and ``auto``.
    """
    for known in ("on", "off", "auto"):
        if choice == known:
            return known
    raise CallbackError(f"register must be 'on', 'off' or 'auto', not {choice!r}")


@dataclass(eq=False)
class _Frame:
    """One frame of the sample: how it came, and where it was put."""

    reduced: Reduced = field(repr=False)  # without its values
    correction: Correction = field(repr=False)
    place: RegisteredFrame | None = None  # without its image; None: given as it came
    is_given: bool = False


class FrameRegistration:
    """Reducer that moves frames back by the drift of the sample; its place is between the flat field and the estimator.

    Of darks and flats it sees none. With ``on`` every frame is registered, and the first ones are held back until the
    edge is passed (see `edge_fitting.DriftTracker`). With ``auto`` frames go on as they come, counts that the fused
    kernel takes, while a small part of the field is followed; once that moves by half a pixel and the whole field
    does too, what was given is retracted and given again registered. Frames taken again are registered anew.

    Parameters
    ----------
    choice : {"on", "auto"}
        Whether to register from the first frame on, or from when drift is found.
    correct : callable
        Gives a frame again from the darks and flats with which it came, see `DarksAndFlats.correct`.
    edge : str
        Edge that is scanned.
    n_energies : int
        Planned number of energies.
    references : ReferenceSeries, optional
        What lets an expected image follow the state.
    """

    is_provisional = False

    def __init__(
        self,
        choice: RegisterChoice,
        correct: Callable[[Correction], CorrectedFrame],
        *,
        edge: str,
        n_energies: int,
        references: ReferenceSeries | None = None,
    ) -> None:
        self._is_on = choice == "on"
        self._correct = correct
        self._edge, self._n_energies, self._references = edge, n_energies, references
        self._frames: dict[Slot, _Frame] = {}
        self._tracked: dict[int, _Frame] = {}  # by the tracker's own count
        self._tracker: DriftTracker | None = None
        self._watch: DriftWatch | None = None
        self._is_too_small = False
        self._found = False
        self._is_doubtful = False
        self._said: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What a reader of the maps should know, as things are now."""
        if self._is_too_small and self._is_on:
            return ["registration was asked for, and the frames are too small for it: they are as they came"]
        places = [frame.place for frame in self._frames.values() if frame.place is not None]
        if not places:
            return []
        if len(places) == 1:
            return ["a single frame has no drift to find: it is as it came"] if self._is_on else []
        known = [place for place in places if place.registered]
        if not known:
            return list(self._said) or [
                "nothing of a sample was found to register the frames on (an empty field, or one whose sample is "
                "outside): they are as they came"
            ]
        said = [warning.rstrip(".") for warning in self._said]
        shifts = np.array([place.shift_px for place in known])
        length = float(np.hypot(*np.ptp(shifts, axis=0)))
        if self._found or drift_px(known) > LEAST_DRIFT_PX:
            sigma = float(np.median([math.hypot(*place.sigma_px) for place in known]))
            said.append(
                f"the sample drifted by {length:.1f} px: {len(known)} frames are moved back by their shifts, known to "
                f"{max(sigma, 0.01):.2f} px"
            )
        if any(place.magnification != 1.0 or place.rotation_deg != 0.0 for place in known):
            larger = 100.0 * float(np.ptp([place.magnification for place in known]))
            turned = float(np.ptp([place.rotation_deg for place in known]))
            said.append(
                f"the magnification changed by {larger:.2f} % and the picture turned by {turned:.2f} degrees during "
                "the scan: taken out with the shifts"
            )
        lost = [place.energy_ev for place in places if not place.registered]
        if lost and not self._said:
            one = len(lost) == 1
            said.append(
                f"the frame{'' if one else 's'} at {energies_text(sorted(lost))} could not be registered (the sample "
                f"is not seen there): {'it is' if one else 'they are'} at the shift of the frame before"
            )
        shape = self._tracker_shape
        if (
            shape is not None
            and float(np.prod(1 - np.minimum(np.ptp(shifts, axis=0) / shape, 1))) < _LEAST_KEPT
        ):
            said.append(
                "the sample has moved by so much that less than half of the field was seen throughout: pixels at its "
                "borders lack frames"
            )
        return said

    @property
    def waiting(self) -> set[Slot]:
        """Slots of the frames that have no place yet."""
        return {slot for slot, frame in self._frames.items() if not frame.is_given}

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return what can go on."""
        if isinstance(item, Retraction) and item.reduced.slot in self._frames:
            yield from self._retract(item)
        elif isinstance(item, Reduced) and isinstance(item.values, CorrectedFrame):
            yield from self._add(item, item.values)
        else:
            yield item

    def again(self, slot: Slot) -> Reduced | None:
        """Return the frame of a slot once more as it was given; None where it passed by."""
        frame = self._frames.get(slot)
        if frame is None or not frame.is_given:
            return None
        return self._as_it_came(frame) if frame.place is None else self._placed(frame)

    def finish(self) -> Iterator[Item]:
        """Give the frames that wait still, or all of them where only the last ones show that the sample drifts."""
        if self._tracker is None and self._watch is not None and self._watch.finish():
            yield from self._begin()
            if self._tracker is None:
                yield from self._register_again(even_at_rest=True)
        if self._tracker is not None:
            yield from self._give(self._tracker.finish())
            yield from self._register_again()

    def reopen(self) -> None:
        """Take further frames after `finish`, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of all frames."""
        self._frames.clear()
        self._tracked.clear()
        self._tracker = self._watch = None

    @property
    def _tracker_shape(self) -> npt.NDArray[np.float64] | None:
        shapes = [frame.correction.held.shape for frame in self._frames.values()]
        return np.array(shapes[0], float) if shapes else None

    def _add(self, reduced: Reduced, values: CorrectedFrame) -> Iterator[Item]:
        image = values.reading.image
        if not can_watch((image.shape[0], image.shape[1])) or (
            not self._is_on and min(image.shape) < _LEAST_WATCHED_PX
        ):
            self._is_too_small = True
            yield reduced
            return
        frame = _Frame(replace(reduced, values=None), values.correction)
        self._frames.pop(reduced.slot, None)
        self._frames[reduced.slot] = frame
        if self._is_on and self._tracker is None:
            self._tracker = self._new_tracker(image.shape)
        if self._tracker is not None:
            try:
                found = self._push(self._tracker, frame, values)
            except EdgeFittingError:
                frame.is_given = True
                yield reduced  # the fit refuses it as well, and says why
                return
            yield from self._give(found)
            return
        frame.is_given = True
        yield reduced
        if self._is_moving(reduced, values):
            yield from self._begin()

    def _is_moving(self, reduced: Reduced, values: CorrectedFrame) -> bool:
        """Look at a part of a frame, for ``auto``; the whole field has the last word, at the end again."""
        if self._is_doubtful:
            return False
        try:
            if self._watch is None:
                self._watch = DriftWatch(_filled(values), edge=self._edge, references=self._references)
            return self._watch.add(
                reduced.energy_ev, _finite_or_nan(optical_depth(values, self._watch.pixels))
            )
        except EdgeFittingError:
            return False  # the fit has refused this frame, and said so

    def _begin(self) -> Iterator[Item]:
        """Register all frames so far; where the whole field moves, give them again in their places."""
        frames = [frame for frame in self._frames.values() if frame.is_given]
        shape = frames[0].correction.held.shape
        tracker, self._tracked = self._new_tracker(shape), {}
        found = []
        for frame in frames:
            with contextlib.suppress(EdgeFittingError):
                places = self._push(tracker, frame, self._correct(frame.correction))
                found += [_without_image(place) for place in places]
        found += [_without_image(place) for place in tracker.finish()]
        assert self._watch is not None
        if not drift_px(found) > LEAST_DRIFT_PX:
            # The part moves, the field does not: a change of magnification, or a part that shows too little.
            # To register the whole field is dear, so that it is tried once more at the end and not with each frame.
            self._is_doubtful = True
            self._tracked = {}
            return
        self._tracker, self._watch, self._found = tracker, None, True
        for place in found:
            frame = self._tracked[place.index]
            yield Retraction(self._as_it_came(frame))
            frame.place = place
            yield self._placed(frame)

    def _register_again(self, *, even_at_rest: bool = False) -> Iterator[Item]:
        """Register each frame against all others: nearer, and what came first knows then what came last.

        Where the field does not move as a whole, its magnification may change still, or it turns.
        """
        frames = [
            frame
            for frame in self._frames.values()
            if frame.is_given and (frame.place is not None or even_at_rest)
        ]
        if len(frames) < 2 or sum(np.prod(frame.correction.held.shape) for frame in frames) > _MOST_AT_ONCE:
            return
        energies = [frame.reduced.energy_ev for frame in frames]
        stack = np.stack([_finite_or_nan(_filled(self._correct(frame.correction))) for frame in frames])
        found = register_stack(energies, stack, edge=self._edge, references=self._references)
        del stack
        if even_at_rest and not (np.ptp(found.magnification) > 0 or np.ptp(found.rotation_deg) > 0):
            return
        self._said = found.warnings
        places = [
            RegisteredFrame(
                index=k,
                energy_ev=energies[k],
                optical_depth=_NO_IMAGE,
                shift_px=(float(found.shifts_px[k, 0]), float(found.shifts_px[k, 1])),
                sigma_px=(float(found.shift_sigma_px[k, 0]), float(found.shift_sigma_px[k, 1])),
                quality=float(found.quality[k]),
                registered=bool(found.registered[k]),
                magnification=float(found.magnification[k]),
                rotation_deg=float(found.rotation_deg[k]),
            )
            for k in range(len(frames))
        ]
        del found
        for frame, place in zip(frames, places, strict=True):
            yield Retraction(self._as_it_came(frame) if frame.place is None else self._placed(frame))
            frame.place = place
            yield self._placed(frame)

    def _push(self, tracker: DriftTracker, frame: _Frame, values: CorrectedFrame) -> list[RegisteredFrame]:
        index = tracker.n_frames
        found = tracker.push(frame.reduced.energy_ev, _finite_or_nan(_filled(values)))
        self._tracked[index] = frame
        return found

    def _give(self, found: Iterable[RegisteredFrame]) -> Iterator[Item]:
        for place in found:
            frame = self._tracked.get(place.index)
            if frame is None:
                continue  # taken again while it waited
            frame.place, frame.is_given = _without_image(place), True
            yield self._placed(frame)

    def _retract(self, retraction: Retraction) -> Iterator[Item]:
        frame = self._frames.pop(retraction.reduced.slot)
        if not frame.is_given:
            self._tracked = {index: other for index, other in self._tracked.items() if other is not frame}
        elif frame.place is None:
            yield retraction
        else:
            yield Retraction(self._placed(frame))

    def _as_it_came(self, frame: _Frame) -> Reduced:
        return replace(frame.reduced, values=self._correct(frame.correction))

    def _placed(self, frame: _Frame) -> Reduced:
        """Return a frame at its place: the same values whenever it is asked for."""
        assert frame.place is not None
        corrected = self._correct(frame.correction)
        depth = _filled(corrected)
        shift = np.array(frame.place.shift_px)
        turned = frame.place.magnification, frame.place.rotation_deg
        values = resample_frame(depth, shift, magnification=turned[0], rotation_deg=turned[1])
        depth.reshape(-1)[corrected.spikes] = np.nan
        there = np.isinf(depth)
        there.reshape(-1)[corrected.spikes] = True
        if there.any():
            _keep(values, depth, there, shift)
        sample = values.reshape(-1)[sampled_pixels((values.shape[0], values.shape[1]), self._n_energies)]
        notes: dict[str, Any] = {
            **frame.reduced.notes,
            "sample": np.where(np.isfinite(sample), sample, np.float32(np.nan)),
            "shift_px": frame.place.shift_px,
            "shift_sigma_px": frame.place.sigma_px,
            "magnification": turned[0],
            "rotation_deg": turned[1],
        }
        return replace(frame.reduced, values=values, notes=notes)

    def _new_tracker(self, shape: tuple[int, ...]) -> DriftTracker:
        return DriftTracker((shape[0], shape[1]), edge=self._edge, references=self._references)


def _depth(frame: CorrectedFrame) -> FloatImage:
    return optical_depth(frame).reshape(frame.reading.image.shape)


def _filled(frame: CorrectedFrame) -> FloatImage:
    """Optical depth with single pixels that stick out put to the median of those around, for what spreads them."""
    depth = _depth(frame)
    if frame.spikes.size:
        rows, cols = np.divmod(frame.spikes, depth.shape[1])
        around = [
            depth[np.clip(rows + i, 0, depth.shape[0] - 1), np.clip(cols + j, 0, depth.shape[1] - 1)]
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
            if i or j
        ]
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            depth[rows, cols] = np.nanmedian(around, axis=0)
    return depth


def _finite_or_nan(depth: FloatImage) -> FloatImage:
    return np.where(np.isfinite(depth), depth, np.float32(np.nan))


def _without_image(place: RegisteredFrame) -> RegisteredFrame:
    return replace(place, optical_depth=_NO_IMAGE)


def _keep(
    values: FloatImage, depth: FloatImage, which: npt.NDArray[np.bool_], shift_px: npt.NDArray[np.float64]
) -> None:
    """Keep some pixels as they were, at the nearest pixel: saturated or without light is more than missing."""
    there = np.nonzero(which)
    rows, cols = (index - round(float(shift)) for index, shift in zip(there, shift_px, strict=True))
    inside = (rows >= 0) & (rows < values.shape[0]) & (cols >= 0) & (cols < values.shape[1])
    values[rows[inside], cols[inside]] = depth[there[0][inside], there[1][inside]]
