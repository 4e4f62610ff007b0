"""Frames of electrons without dark counts and the pattern of the channel plate; nothing is put into a logarithm."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import FrameLoss, Reading, Slot

from ._reducer import Item, Reduced, Retraction

Image = npt.NDArray[np.float32]

# Parts of the channel plate that amplify less than this share of the rest show noise.
_DEAD = 0.1


class ChannelPlate:
    """Reducer that makes yields of frames: dark off, divided by flat, exposure and incident intensity.

    Darks and flats come before the frames; each frame is corrected by the mean of those there are. The values of what
    it gives are the pair of yield and variance.
    """

    waiting: frozenset[Slot] = frozenset()
    is_provisional = False

    def __init__(self) -> None:
        self._frames: dict[str, dict[Slot, tuple[int, Image]]] = {"dark": {}, "flat": {}}
        self._given: dict[Slot, Reduced] = {}
        self._without_light: list[float] = []
        self._means: dict[str, Image | None] = {}

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the results should know."""
        said = []
        for stream, what in (("dark", "dark counts are"), ("flat", "the pattern of the channel plate is")):
            if not self._frames[stream] and self._given:
                said.append(f"there is no {stream} frame: {what} in the yields")
        if self._without_light:
            said.append(
                f"I0 is zero or no number in {len(self._without_light)} frames, the first at "
                f"{self._without_light[0]:.1f} eV: they are left out"
            )
        return said

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return what can go on."""
        if not isinstance(item, Reading):
            yield item
            return
        if item.stream in self._frames:
            held = self._frames[item.stream].get(item.slot)
            if held is None or held[0] < item.attempt:
                self._frames[item.stream][item.slot] = item.attempt, np.asarray(item.image, np.float32)
                self._means.pop(item.stream, None)
            return
        before = self._given.get(item.slot)
        if before is not None and before.label.attempt >= item.attempt:
            return
        if not (np.isfinite(item.i0) and item.i0 > 0):
            self._without_light.append(item.energy_ev)
            reason = f"the incident intensity is {item.i0:g}"
            yield FrameLoss(item.slot, item.attempt, item.energy_ev, item.exposure_s, reason)
            return
        if before is not None:
            yield Retraction(before)
        reduced = Reduced(item.label, item.energy_ev, self._yield(item), time_s=item.time_s)
        self._given[item.slot] = reduced
        yield reduced

    def finish(self) -> Iterator[Item]:
        """Return nothing: no reading is held back."""
        return iter(())

    def reopen(self) -> None:
        """Take further readings, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of everything."""
        for frames in self._frames.values():
            frames.clear()
        self._given.clear()

    def _mean(self, stream: str) -> Image | None:
        if stream not in self._means:
            frames = [image for _, image in self._frames[stream].values()]
            self._means[stream] = np.mean(frames, axis=0, dtype=np.float32) if frames else None
        return self._means[stream]

    def _yield(self, reading: Reading) -> tuple[Image, Image]:
        counts = np.asarray(reading.image, np.float32)
        dark, flat = self._mean("dark"), self._mean("flat")
        signal = counts if dark is None else counts - dark
        gain: Any = np.float32(1.0)
        if flat is not None and flat.shape == counts.shape:
            bare = flat if dark is None else flat - dark
            gain = bare / np.median(bare)
            gain = np.where(gain > _DEAD, gain, np.nan)
        scale = np.float32(reading.exposure_s * reading.i0)
        return (signal / gain / scale).astype(np.float32), (
            np.maximum(counts, 1.0) / (gain * scale) ** 2
        ).astype(np.float32)
