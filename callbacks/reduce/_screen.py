"""Frames that do not belong into a run: another shape, no incident intensity, the last one given again."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from callbacks.documents import FrameLoss, Reading, Slot

from ._i0 import I0Sign
from ._reducer import Item

_FEW_PIXELS = 4096


class FrameScreen:
    """Reducer that passes on the frames that can be used, and a `FrameLoss` for each other one.

    The first frames are held back until the sign of the incident intensity is clear.
    """

    waiting: frozenset[Slot] = frozenset()
    is_provisional = False

    def __init__(self) -> None:
        self.warnings: Sequence[str] = ()
        self._i0_sign = I0Sign()
        self._shape: tuple[int, ...] | None = None
        self._last_sample: Reading | None = None

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return those that can go on."""
        if not isinstance(item, Reading):
            yield item
            return
        for reading in self._i0_sign.take(item):
            yield self._screened(reading)

    def finish(self) -> Iterator[Item]:
        """Return the frames that are held back still."""
        for reading in self._i0_sign.decide():
            yield self._screened(reading)
        self._last_sample = None

    def reopen(self) -> None:
        """Take further frames, of a run that resumes the one that ended: its amplifiers may be set differently."""
        self._i0_sign = I0Sign()

    def close(self) -> None:
        """Let go of the last frame."""
        self._last_sample = None

    def _screened(self, reading: Reading) -> Item:
        reason = self._problem(reading)
        if reason is None:
            return reading
        return FrameLoss(reading.slot, reading.attempt, reading.energy_ev, reading.exposure_s, reason)

    def _problem(self, reading: Reading) -> str | None:
        """Say why a frame cannot be used; None where it can."""
        if self._shape is None:
            self._shape = reading.image.shape
        if reading.image.shape != self._shape:
            return f"a shape of {reading.image.shape} in a run of frames {self._shape}"
        if reading.stream == "dark":
            return None
        if not (np.isfinite(reading.exposure_s) and reading.exposure_s > 0):
            return f"an exposure of {reading.exposure_s:g} s"
        if problem := self._i0_sign.problem(reading):
            return problem
        if reading.stream == "primary":
            last, self._last_sample = self._last_sample, reading
            if last is not None and _is_stale(reading, last):
                return f"the frame at {last.energy_ev:.1f} eV again, count for count: the camera did not take a new one"
        return None


def _is_stale(reading: Reading, last: Reading) -> bool:
    """Return whether two frames of different energies are equal, which counting noise never lets happen."""
    if reading.energy_index == last.energy_index:
        return False
    image: Any = reading.image
    step = max(1, image.size // _FEW_PIXELS)
    few, same = image.reshape(-1)[::step], last.image.reshape(-1)[::step]
    if few.min() == few.max() or not np.array_equal(few, same):
        return False  # a frame without light or all saturated says nothing
    return np.array_equal(image, last.image)
