"""Means of darks and flats."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import (
    Reading,
    saturated_pixels,
)
from edge_fitting.base import MAD_TO_SIGMA

from ._corrected_frame import BoolImage, Correction, FloatImage
from ._image_store import HeldFrame

_KEPT_FLAT_MEANS = 4
_KEPT_DARK_MEANS = 8
# Standard deviations by which the highest of the darks of a pixel exceeds the others if it does not belong.
_DARK_SPIKE = 12.0
_FlatKey = tuple[tuple[HeldFrame, ...], tuple[tuple[HeldFrame, ...], ...], tuple[float, ...]]


def dose_of(reading: Reading) -> float:
    """Exposure times incident intensity; some amplifiers give that with the other sign, always."""
    return reading.exposure_s * abs(reading.i0)


@dataclass(frozen=True)
class FlatMean:
    """A mean open beam without dark, its mean exposure times I0, and where it is saturated or sticks out."""

    image: FloatImage
    dose: float
    saturated: BoolImage | None
    spikes: npt.NDArray[np.int64]


class MeanFrames:
    """Means of darks and of flats, by the frames in them: what changes has another key. The last few are kept."""

    def __init__(self) -> None:
        self._darks: OrderedDict[tuple[HeldFrame, ...], FloatImage] = OrderedDict()
        self._flats: OrderedDict[_FlatKey, FlatMean] = OrderedDict()

    def clear(self) -> None:
        """Let go of all."""
        self._darks.clear()
        self._flats.clear()

    def forget_flats(self) -> None:
        """Average flats anew: other pixels of them are known to stick out."""
        self._flats.clear()

    def flat(self, correction: Correction) -> FlatMean:
        """Return the mean open beam without dark, with its mean exposure times I0 and the pixels that are no good."""
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
            self._darks[darks] = _mean_dark([held.load().image for held in darks], shape)
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
        missing: npt.NDArray[np.uint16] | None = None
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
            spikes = held.spikes
            if spikes is not None and spikes.size:
                if missing is None:
                    missing = np.zeros(total.shape, np.uint16)
                missing.reshape(-1)[spikes] += 1
                light = np.subtract(reading.image, dark, dtype=np.float32)
                total.reshape(-1)[spikes] -= light.reshape(-1)[spikes]
            dose += dose_of(reading)
        if missing is not None:
            total /= np.maximum(len(flats) - missing, 1)
        elif len(flats) > 1:
            total /= len(flats)
        if saturated is not None:
            total[~np.isfinite(total) & saturated] = 1.0  # any light: the pixel is marked
        nowhere = np.empty(0, np.int64) if missing is None else np.flatnonzero(missing == len(flats))
        return FlatMean(total, dose / len(flats), saturated, nowhere)


def _mean_dark(images: list[npt.NDArray[Any]], shape: tuple[int, ...]) -> FloatImage:
    """Average darks, each pixel without a value that sticks out of the others (a cosmic ray)."""
    total = np.zeros(shape, np.float32)
    for image in images:
        total += image
    n = len(images)
    if n < 2:
        return total
    highest = np.maximum.reduce(images).astype(np.float32)
    others = (total - highest) / np.float32(n - 1)
    above = highest - others
    usual = float(np.nanmedian(above))
    spread = MAD_TO_SIGMA * float(np.nanmedian(np.abs(above - usual)))
    mean = np.asarray(total / np.float32(n), np.float32)
    if images[0].dtype.kind in "ui":
        spread = max(spread, 1.0)  # a dark without noise is one that was rounded
    return np.where(above > usual + _DARK_SPIKE * spread, others, mean) if spread > 0 else mean
