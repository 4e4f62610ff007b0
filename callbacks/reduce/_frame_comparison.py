"""The reducer for frames that do not belong to the others: taken out again, and put back once they do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from callbacks.documents import FrameLoss, LeftOut, Slot
from edge_fitting import EdgeFittingError, FrameJudge, StrayLight

from ._corrected_frame import CorrectedFrame
from ._reducer import Item, Reduced, Retraction
from ._spectra import optical_depth
from ._stray_light import take_out

# Frames are compared anew once there are so many times as many of them.
_JUDGE_ANEW = 1.1


@dataclass(eq=False)
class _Frame:
    """One frame of the sample: how it came, and the pixels by which it is judged."""

    reduced: Reduced = field(repr=False)  # without its values
    sample: npt.NDArray[np.float32] = field(repr=False)
    is_left_out: bool = False


class FrameComparison:
    """Reducer that takes out frames which do not belong to the others; its place is before the estimator.

    A frame goes on as it comes. Once there are a tenth more of them, and at the end, all are compared with each other
    by the rule of `edge_fitting.FrameJudge`. One that does not belong is retracted and noted among those left out; one
    that does again, now that others have come, is given again. At the end, light beside the sample that thick pixels
    show clearly is taken out of all frames: they are retracted and given again without it.

    Parameters
    ----------
    judge : FrameJudge
        The rule.
    again : callable
        Gives a frame of a slot once more, as it was given; None if there is none.
    left_out : LeftOut
        Where frames that are left out are noted.
    """

    def __init__(self, judge: FrameJudge, again: Callable[[Slot], Reduced | None], left_out: LeftOut) -> None:
        self._judge = judge
        self._again = again
        self._left_out = left_out
        self._frames: dict[Slot, _Frame] = {}
        self._pixels: npt.NDArray[np.intp] | None = None
        self._judged_of = 0
        self._light: StrayLight | None = None

    @property
    def warnings(self) -> list[str]:
        """Nothing: what is left out is said with all else that is."""
        return []

    @property
    def waiting(self) -> set[Slot]:
        """No frame is held back."""
        return set()

    @property
    def is_provisional(self) -> bool:
        """Frames are as they came."""
        return False

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return what can go on."""
        if isinstance(item, Retraction):
            frame = self._frames.pop(item.reduced.slot, None)
            if frame is None or not frame.is_left_out:
                yield Retraction(take_out(item.reduced, self._light))
            else:
                self._left_out.discard(item.reduced.slot)
        elif isinstance(item, Reduced):
            self._frames[item.slot] = _Frame(replace(item, values=None), self._sample(item))
            yield take_out(item, self._light)
            if len(self._frames) >= _JUDGE_ANEW * self._judged_of:
                yield from self._compare()
        else:
            yield item

    def finish(self) -> Iterator[Item]:
        """Compare all frames, and take out the light beside the sample."""
        yield from self._compare()
        yield from self._without_stray_light()

    def reopen(self) -> None:
        """Take further frames after `finish`, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of all samples."""
        self._frames.clear()

    def _compare(self) -> Iterator[Item]:
        frames = list(self._frames.values())
        self._judged_of = len(frames)
        if not frames or len({frame.sample.size for frame in frames}) > 1:
            return
        try:
            doubts = self._judge.doubts(
                [frame.reduced.energy_ev for frame in frames],
                np.stack([frame.sample for frame in frames]),
                [frame.reduced.weight for frame in frames],
            )
        except EdgeFittingError:
            return  # the fit has refused a frame, and said why
        doubted = {doubt.index: doubt for doubt in doubts}
        for k, frame in enumerate(frames):
            if (k in doubted) == frame.is_left_out:
                continue
            reduced = self._again(frame.reduced.slot)
            if reduced is None:
                continue
            frame.is_left_out = k in doubted
            slot = reduced.slot
            if frame.is_left_out:
                yield Retraction(take_out(reduced, self._light))
                exposure_s = float(reduced.notes.get("exposure_s", 0.0))
                self._left_out.add(
                    FrameLoss(
                        slot,
                        reduced.label.attempt,
                        reduced.energy_ev,
                        exposure_s,
                        f"it is {doubted[k].reason}",
                    )
                )
            else:
                self._left_out.discard(slot)
                yield take_out(reduced, self._light)

    def _without_stray_light(self) -> Iterator[Item]:
        """Give the frames again without the light beside the sample, where it is found or was another one."""
        frames = [frame for frame in self._frames.values() if not frame.is_left_out]
        if not frames or len({frame.sample.size for frame in frames}) > 1:
            return
        try:
            light = self._judge.stray_light(
                [frame.reduced.energy_ev for frame in frames],
                np.stack([frame.sample for frame in frames]),
                [frame.reduced.weight for frame in frames],
            )
        except EdgeFittingError:
            return
        before, self._light = self._light, light
        if light == before:
            return
        for frame in frames:
            reduced = self._again(frame.reduced.slot)
            if reduced is not None:
                yield Retraction(take_out(reduced, before))
                yield take_out(reduced, light)

    def _sample(self, reduced: Reduced) -> npt.NDArray[np.float32]:
        values = reduced.values
        is_fused = isinstance(values, CorrectedFrame)
        if self._pixels is None:
            size = values.reading.image.size if is_fused else values.size
            self._pixels = self._judge.pixels(size)
        if not is_fused:
            return np.asarray(values.reshape(-1)[self._pixels], np.float32)
        return optical_depth(values, self._pixels)
