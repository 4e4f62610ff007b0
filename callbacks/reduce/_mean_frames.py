"""Means of darks and flats."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from callbacks.documents import (
    Reading,
    saturated_pixels,
)

from ._corrected_frame import BoolImage, Correction, FloatImage
from ._image_store import HeldFrame

_KEPT_FLAT_MEANS = 4
_KEPT_DARK_MEANS = 8
_FlatKey = tuple[tuple[HeldFrame, ...], tuple[tuple[HeldFrame, ...], ...], tuple[float, ...]]


def dose_of(reading: Reading) -> float:
    """Exposure times incident intensity; some amplifiers give that with the other sign, always."""
    return reading.exposure_s * abs(reading.i0)


@dataclass(frozen=True)
class FlatMean:
    """A mean open beam without dark, its mean exposure times I0, and where it is saturated."""

    image: FloatImage
    dose: float
    saturated: BoolImage | None


class MeanFrames:
    """Means of darks and of flats, by the frames in them: what changes has another key. The last few are kept."""

    def __init__(self) -> None:
        self._darks: OrderedDict[tuple[HeldFrame, ...], FloatImage] = OrderedDict()
        self._flats: OrderedDict[_FlatKey, FlatMean] = OrderedDict()

    def clear(self) -> None:
        """Let go of all."""
        self._darks.clear()
        self._flats.clear()

    def flat(self, correction: Correction) -> FlatMean:
        """Return the mean open beam without dark, its mean exposure times I0, and where it is saturated."""
        key = correction.flats, correction.flat_darks, correction.flat_limits
        if key not in self._flats:
            self._flats[key] = self._average_flats(*key)
            while len(self._flats) > _KEPT_FLAT_MEANS:
                self._flats.popitem(last=False)
        return self._flats[key]

    def dark(self, darks: tuple[HeldFrame, ...], shape: tuple[int, ...]) -> FloatImage:
        """Return the mean of darks; zero without any."""
        if not darks:
            return np.zeros(shape, np.float32)
        if darks not in self._darks:
            total = np.zeros(shape, np.float32)
            for held in darks:
                total += held.load().image
            self._darks[darks] = total / np.float32(len(darks))
            while len(self._darks) > _KEPT_DARK_MEANS:
                self._darks.popitem(last=False)
        return self._darks[darks]

    def _average_flats(
        self,
        flats: tuple[HeldFrame, ...],
        flat_darks: tuple[tuple[HeldFrame, ...], ...],
        limits: tuple[float, ...],
    ) -> FlatMean:
        total = np.empty(flats[0].shape, np.float32)
        dose = 0.0
        saturated: BoolImage | None = None
        for number, (held, darks, limit) in enumerate(zip(flats, flat_darks, limits, strict=True)):
            reading = held.load()
            dark = self.dark(darks, reading.image.shape)
            clipped = saturated_pixels(reading.image, limit)
            if clipped is not None:
                saturated = clipped if saturated is None else saturated | clipped
            if number == 0:
                np.subtract(reading.image, dark, out=total, dtype=np.float32)
            else:
                total += reading.image
                total -= dark
            dose += dose_of(reading)
        if len(flats) > 1:
            total /= len(flats)
        if saturated is not None:
            total[~np.isfinite(total) & saturated] = 1.0  # any light: the pixel is marked
        return FlatMean(total, dose / len(flats), saturated)
