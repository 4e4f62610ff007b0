"""At how many counts the camera is at its limit: what it says itself, and what its frames show.

A camera of 12 or 14 bits in 16-bit frames clips far below the limit of the type. Clipped counts look like any
others and bend every spectrum, so they are looked for.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fitting.base import MAD_TO_SIGMA
from scan_contract import saturation_of

Image = npt.NDArray[Any]

_SAMPLED = 131_072
_LEAST_PIXELS = 5
_LEAST_SHARE = 2e-4
# Of counts with noise, neighbouring values are about as frequent as the highest one.
_STANDS_OUT = 5.0
_NEAR = 0.1
_BITS = range(8, 17)
_SUMMED_BITS = (10, 12, 14, 16)
# Counts of at least so many pixels beyond a limit show that it is none.
_BEYOND = 5
# Means of clipped and unclipped exposures lie this little below the limit.
_MEAN_MARGIN = 0.005
_LEAST_TRIPLES = 50
# Noise of a camera with up to a thousand electrons per count, as a part of the square root of the counts.
_LEAST_NOISE = 0.03
_WARNING_SHARE = 1e-3
# All but this part of the pixels with one value, and nothing shortly below it: a made-up frame.
_LEAST_UNIFORM = 0.99


def count_limit(dtype: np.dtype[Any], saturation_counts: float | None = None) -> float:
    """Return the counts at which a pixel is saturated; infinite where nothing limits it."""
    of_type = float(np.iinfo(dtype).max) if dtype.kind in "ui" else np.inf
    return of_type if saturation_counts is None else min(of_type, saturation_counts)


def saturated_pixels(image: Image, limit: float) -> npt.NDArray[np.bool_] | None:
    """Return which pixels of a frame are at the limit or infinite; None where none is."""
    if image.dtype.kind == "f":
        if limit < np.inf:
            limit *= 1.0 - (_MEAN_MARGIN if _has_fractions(image) else 1e-6)
        mask = image >= limit
    elif limit <= np.iinfo(image.dtype).max:
        mask = image >= limit
    else:
        return None
    return mask if mask.any() else None


def stated_saturation(
    xanes: Mapping[str, Any], descriptor: Mapping[str, Any], camera: str | None
) -> float | None:
    """Return the limit that the contract or the camera's configuration states; None where they do not.

    Parameters
    ----------
    xanes : mapping
        The contract in the start document; ``saturation_counts`` there goes first.
    descriptor : mapping
        Of the stream; the configuration of the camera may say it, see `scan_contract.saturation_of`.
    camera : str or None
        Name of the camera.
    """
    stated = saturation_of({"saturation_counts": xanes.get("saturation_counts")})
    if stated is not None:
        return stated
    return saturation_of(descriptor.get("configuration", {}).get(camera, {}).get("data", {}))


class SaturationWatch:
    """Keeps the limit of a camera, told or found in its frames.

    Where nobody says, the limit is a value that many pixels share exactly, that none exceeds, and that stands
    out of the counts below it: at once where it is a full scale (4095, 16383, ..., or a multiple, as of summed
    frames), otherwise when several frames show it beside counts that have noise. A frame of one value throughout
    shows nothing by itself: flats are made up so. What the camera says is not believed where counts exceed it.
    """

    def __init__(self) -> None:
        self._stated: float | None = None
        self._found: dict[float, float] = {}
        self._candidates: dict[tuple[float, float], int] = defaultdict(int)
        self._highest: dict[float, float] = {}
        self._uniform: dict[float, float] = {}
        self._noisy = False
        self._share = 0.0
        self._warned_limit = np.inf
        self._contradicted: float | None = None

    def state(self, counts: float | None) -> None:
        """Take over what the camera says."""
        if counts is not None and counts != self._contradicted:
            self._stated = counts

    def limit(self, dtype: np.dtype[Any], exposure_s: float) -> float:
        """Return the limit of frames of a type and an exposure; infinite where there is none."""
        known = [value for value in (self._stated, self._found.get(exposure_s)) if value is not None]
        return count_limit(dtype, min(known, default=None))

    def look(self, image: Image, exposure_s: float) -> bool:
        """Look at a frame with beam; return whether the limit has changed by it."""
        few = _some_rows(image)
        values = few[np.isfinite(few)]
        if not values.size:
            return False
        top = float(values.max())
        changed = self._refute(values, exposure_s)
        if not self._noisy:
            self._noisy = _has_noise(few, top)
        # What several pixels of any frame of this exposure exceed is no limit (as of frames without light).
        some = float(np.partition(values, -_BEYOND)[-_BEYOND]) if values.size >= _BEYOND else top
        self._highest[exposure_s] = max(self._highest.get(exposure_s, -np.inf), some)
        lowest_limit = self._highest[exposure_s] * (1 - 1e-6)
        piles_up = top >= lowest_limit and self._piles_up(values, top)
        if piles_up and _is_uniform(values, top) and not _is_full_scale(top):
            self._uniform[exposure_s] = top
            piles_up = top in self._found.values()
        if piles_up and self._is_limit(top, exposure_s):
            # Frames of one value are at the limit that others show.
            same = {exposure for exposure, value in self._uniform.items() if value == top} | {exposure_s}
            changed |= any(self._found.get(exposure) != top for exposure in same)
            self._found.update(dict.fromkeys(same, top))
        limit = self.limit(image.dtype, exposure_s)
        share = float(np.mean(few >= limit))
        if share > self._share:
            self._share, self._warned_limit = share, limit
        return changed

    def warnings(self) -> list[str]:
        """Return what a reader of the maps should know."""
        said = []
        if self._contradicted is not None:
            said.append(
                f"the camera is said to saturate at {self._contradicted:g} counts and its frames hold more: that is "
                "not used; correct its setting"
            )
        odd = sorted(set(self._uniform.values()) - set(self._found.values()))
        if odd and self._noisy:
            said.append(
                f"a frame or flat has {odd[0]:g} counts in every pixel, which no camera with noise gives: it is "
                "taken as it is; if the camera clips there, state its limit (saturation_counts) and expose for less"
            )
        if self._share >= _WARNING_SHARE:
            source = "stated" if self._warned_limit == self._stated else "found in the frames"
            said.append(
                f"up to {100 * self._share:.3g} % of the pixels of a frame or flat are at the limit of the camera, "
                f"{self._warned_limit:g} counts ({source}): they are saturated and left out; use shorter exposures"
            )
        return said

    def _refute(self, values: Image, exposure_s: float) -> bool:
        """Drop limits that this frame exceeds."""
        changed = False
        found = self._found.get(exposure_s)
        if found is not None and np.count_nonzero(values > found * (1 + 1e-6)) >= _BEYOND:
            del self._found[exposure_s]
            self._share, changed = 0.0, True
        if self._stated is not None and np.count_nonzero(values > self._stated) >= _BEYOND:
            self._contradicted, self._stated = self._stated, None
            self._share, changed = 0.0, True
        return changed

    def _is_limit(self, top: float, exposure_s: float) -> bool:
        where = (exposure_s, top)
        if _is_full_scale(top):
            return True
        self._candidates[where] += 1
        return self._noisy and self._candidates[where] > 1

    @staticmethod
    def _piles_up(values: Image, top: float) -> bool:
        at_top = int(np.count_nonzero(values == top))
        if top <= 0 or at_top < max(_LEAST_PIXELS, _LEAST_SHARE * values.size):
            return False
        # Far enough down for the few counts of a counting detector.
        low = min((1 - _NEAR) * top, top - 4.0 * np.sqrt(top) - 4.0)
        below = values[(values < top) & (values >= low)]
        if not below.size:
            return True
        return at_top > _STANDS_OUT * int(np.unique(below, return_counts=True)[1].max())


def _is_uniform(values: Image, top: float) -> bool:
    """Whether a frame has one value throughout, but for dead pixels."""
    near = np.count_nonzero(values >= (1 - _NEAR) * top)
    at_top = np.count_nonzero(values == top)
    return bool(at_top == near and at_top >= _LEAST_UNIFORM * values.size)


def _is_full_scale(counts: float) -> bool:
    """Whether counts are all bits of a converter, or a multiple, as of summed or shifted frames."""
    if counts != int(counts):
        return False
    whole = int(counts)
    return whole in {2**bits - 1 for bits in _BITS} or any(
        whole % (2**bits - 1) == 0 for bits in _SUMMED_BITS
    )


def _has_noise(rows: Image, top: float) -> bool:
    """Whether neighbouring pixels below the highest value differ as by counting noise (made-up frames do not)."""
    if rows.shape[1] < 3:
        return False
    left, middle, right = (
        rows[:, a : rows.shape[1] - 2 + a].astype(np.float64).reshape(-1) for a in range(3)
    )
    good = (left < top) & (middle < top) & (right < top) & (middle > 0)
    good &= np.isfinite(left) & np.isfinite(middle) & np.isfinite(right)
    if np.count_nonzero(good) < _LEAST_TRIPLES:
        return False
    bend = np.abs(left - 2 * middle + right)[good]
    noise = MAD_TO_SIGMA * float(np.median(bend)) / np.sqrt(6.0)
    return bool(noise > max(_LEAST_NOISE * np.sqrt(float(np.median(middle[good]))), 0.5))


def _some_rows(image: Image) -> Image:
    """Return some rows of a frame, whole, because neighbours tell noise from structure."""
    wanted = max(_SAMPLED // max(image.shape[1], 1), 1)
    step = max(1, -(-image.shape[0] // wanted))
    return image[step // 2 :: step]


def _has_fractions(image: Image) -> bool:
    few = _some_rows(image)
    few = few[np.isfinite(few)]
    return bool((few != np.floor(few)).any())
