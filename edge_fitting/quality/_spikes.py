"""Pixels of single frames that stick out: cosmic rays, pixels that are hot for one frame, values that were not read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import launch

from ._spike_kernels import deviations, judge, mark, smooth_over
from ._spread import spread_pixels

Frame = NDArray[np.float32]
Pixels = NDArray[np.int64]

# Standard deviations that noise does not reach in a thousand frames of 4 million pixels.
_LEAST_Z = 7.5
# A single pixel is off by so many times what 70 % of the 24 pixels around it are off by: a rim that moves is a line.
_TIMES_AROUND = 6.0
_SHARE = 0.7
# More pixels than this part are a matter of the frame.
_MOST = 0.02
# What may be one too: the part of them that is noted, and times what those around are off by.
_TIMES_AROUND_AT_LEAST = 1.5
_MOST_SUSPECTED = 0.005
_FEW = 64
_LEAST_SIDE = 3
_REACH = 2
_SAMPLED = 8192
# Frames that others are compared with, and how much more than noise two of a kind may differ.
_MOST_KEPT = 4
_ALIKE = 1.5
# Square of a normal variable that is exceeded in half of all cases.
_MEDIAN_OF_SQUARE = 0.4549364


def _no_pixels() -> Pixels:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Spikes:
    """Pixels of a frame that do not belong.

    Attributes
    ----------
    found : ndarray of int64
        Flat indices of those that stick out.
    suspected : ndarray of int64
        Of those that may, as far as two frames tell.
    """

    found: Pixels = field(default_factory=_no_pixels)
    suspected: Pixels = field(default_factory=_no_pixels)


class SpikeFinder:
    """Compares each frame of a series with the one before that is most like it, and each pixel with those around it.

    What a sample shows changes from frame to frame by a factor that neighbouring pixels share. A pixel that changes by
    another one does not belong: by 7.5 standard deviations of the counting noise, which is estimated from the frames
    themselves, and by six times what is usual in the 24 pixels around. Four frames as different as they come are held
    for that, so that the order of the energies does not matter. A frame that was the first of its kind, which nothing
    like it came before, is looked at again with the first one that is.

    A feature of one pixel changes by a factor of its own, too, and where all pixels do a spike hides: what is found is
    for `confirm_spikes` to confirm once there are spectra, and so is what else is suspected.
    """

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._number = 0
        self._gain = np.inf

    def find(self, light: Frame) -> tuple[Spikes, dict[int, Spikes]]:
        """Look at the next frame.

        Parameters
        ----------
        light : ndarray of float32, shape (rows, cols)
            Counts above the dark. The array is kept and written to.

        Returns
        -------
        spikes : Spikes
            What there is in this frame.
        earlier : dict of int to Spikes
            What there is, besides, in frames before this one that could not be judged before; by their number, from 0.
        """
        none = Spikes()
        if self._kept and self._kept[0].light.shape != light.shape:
            self._kept.clear()
        frame = _Kept(light, self._number)
        self._number += 1
        if min(light.shape) < _LEAST_SIDE:
            return none, {}
        if not self._kept:
            self._kept.append(frame)
            return none, {}
        gains = [_gain(light, kept.light) for kept in self._kept]
        if not any(gain > 0.0 for gain in gains):
            return none, {}
        gain, nearest = min((gain, k) for k, gain in enumerate(gains) if gain > 0.0)
        before = self._kept[nearest]
        self._gain = min(self._gain, gain)
        is_alike = gain <= _ALIKE * self._gain
        earlier = {}
        if before.is_first_of_its_kind:
            of_before, may_be = (
                # What one of them has too much the other has too little.
                pixels[_is_bright(before.light, light, pixels)]
                for pixels in _find(before.light, light, gain)
            )
            smooth_over(before.light, light, of_before)
            if of_before.size or may_be.size:
                earlier[before.number] = Spikes(of_before, may_be)
            before.is_first_of_its_kind = not is_alike
        found, may_be = _find(light, before.light, gain)
        # One that is off twice in a row has another level from now on, or what it was compared with was off.
        smooth_over(light, before.light, np.setdiff1d(found, before.found))
        frame.found = found
        frame.is_first_of_its_kind = not is_alike
        if is_alike or len(self._kept) == _MOST_KEPT:
            self._kept[nearest] = frame
        else:
            self._kept.append(frame)
        return Spikes(found, may_be), earlier


@dataclass
class _Kept:
    """A frame that others are compared with."""

    light: Frame
    number: int
    found: Pixels = field(default_factory=_no_pixels)
    is_first_of_its_kind: bool = True


def _gain(now: Frame, before: Frame) -> float:
    """Return the counts of one photon by the spread of the differences; more where the frames differ otherwise."""
    few = spread_pixels(now.size, _SAMPLED)
    sizes = np.empty(few.size, np.float32)
    deviations(now, before, few, sizes)
    # Pixels at the limit of the camera do not change at all.
    changed = sizes[np.isfinite(sizes) & (sizes != 0.0)]
    return float(np.median(changed**2)) / _MEDIAN_OF_SQUARE if changed.size else 0.0


def _find(now: Frame, before: Frame, gain: float) -> tuple[Pixels, Pixels]:
    """Return the pixels that do not belong, and further ones of which that may be."""
    marks = np.empty(now.shape, np.bool_)
    launch(mark, now, before, np.float32(_LEAST_Z**2 * gain), marks)
    candidates: Pixels = np.flatnonzero(marks)
    ratios = np.empty(candidates.size, np.float32)
    judge(now, before, candidates, gain, _LEAST_Z, _SHARE, ratios)
    found = candidates[ratios > _TIMES_AROUND]
    if found.size > max(_MOST * now.size, 1.0):
        found = found[:0]
    may_be = np.flatnonzero(ratios > _TIMES_AROUND_AT_LEAST)
    most = int(max(_MOST_SUSPECTED * now.size, _FEW))
    if may_be.size > most:
        may_be = may_be[np.argpartition(-ratios[may_be], most)[:most]]
    return found, np.setdiff1d(candidates[may_be], found)


def _is_bright(now: Frame, before: Frame, pixels: Pixels) -> NDArray[np.bool_]:
    sizes = np.empty(pixels.size, np.float32)
    deviations(now, before, pixels, sizes)
    return sizes > 0


def bright_pixels(light: Frame) -> Pixels:
    """Find single pixels of one frame that are brighter than those around.

    Whether they are of the frame or of the camera a frame alone does not tell.

    Parameters
    ----------
    light : ndarray of float32, shape (rows, cols)
        Counts above the dark.

    Returns
    -------
    ndarray of int64
        Flat indices of pixels that exceed the mean of their four neighbours by 7.5 times the standard deviation that is
        usual over the frame, and by six times what 70 % of the pixels around are off by.
    """
    if min(light.shape) < _LEAST_SIDE:
        return np.empty(0, np.int64)
    around = neighbours_mean(light)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.where(around > 0, (light - around) / np.sqrt(around), np.float32(0.0))
    off[~np.isfinite(off)] = 0.0
    spread = np.sqrt(float(np.median(off**2)) / _MEDIAN_OF_SQUARE)
    found = [
        pixel
        for pixel in np.flatnonzero(off > max(_LEAST_Z * spread, 1e-6)).tolist()
        if off.flat[pixel] > _TIMES_AROUND * _usual_around(off, pixel)
    ]
    pixels = np.array(found, np.int64)
    return pixels if pixels.size <= max(_MOST * light.size, 1.0) else np.empty(0, np.int64)


def neighbours_mean(image: NDArray[np.float32]) -> Frame:
    """Return the mean of the four neighbours of each pixel; at the border the one inside counts twice."""
    padded = np.pad(image, 1, mode="reflect")
    total = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return np.asarray(np.float32(0.25) * total)


def _usual_around(off: Frame, pixel: int) -> float:
    """Return what 70 % of the pixels around one are off by at most; next to it all are, by a quarter of it."""
    row, col = divmod(pixel, off.shape[1])
    rows, cols = (slice(max(middle - _REACH, 0), middle + _REACH + 1) for middle in (row, col))
    # The pixel itself is the last of them.
    sizes = np.sort(np.abs(off[rows, cols]), axis=None)[:-1]
    return float(sizes[min(int(_SHARE * sizes.size), sizes.size - 1)])
