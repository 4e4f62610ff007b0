"""Maps as pictures of one byte per pixel, with the limits that the bytes stand for."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge_fitting import EdgeFittingError, map_histogram

RangeMode = Literal["map", "fixed", "recentred"]

HALF_WIDTH_EV = 1.5
"""Half the width of the colours around the most frequent edge energy."""
LARGEST_WHOLE = 1024 * 1024
"""Pictures of more pixels are sent twice: every few pixels at once, then all of them."""
_SAMPLE = 65_536
_PREVIEW = 512
_MOST_BINS = 80
_CODES = ("status",)


@dataclass(frozen=True)
class ColourRange:
    """What the colours are to span.

    Attributes
    ----------
    mode : {"map", "fixed", "recentred"}
        The middle 98 % of the values; from ``low`` to ``high``; 1.5 eV on both sides of the most frequent value.
    low, high : float or None
        Of a fixed range.
    """

    mode: RangeMode = "map"
    low: float | None = None
    high: float | None = None

    @classmethod
    def read(cls, told: Any) -> "ColourRange":
        """Read what a page asks for; what is no range is that of the map."""
        if not isinstance(told, dict) or told.get("mode") not in ("map", "fixed", "recentred"):
            return cls()
        try:
            low, high = float(told["low"]), float(told["high"])
        except (KeyError, TypeError, ValueError):
            low = high = np.nan
        if told["mode"] == "fixed":
            return cls("fixed", low, high) if np.isfinite([low, high]).all() and low < high else cls()
        return cls(told["mode"])


@dataclass(frozen=True)
class Histogram:
    """Distribution of the values of a map, of a regular sample of its pixels."""

    edges: list[float]
    counts: list[int]
    peak: float | None
    fwhm: float | None
    median: float | None
    n_values: int


def plane(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a map of two dimensions: of more, the middle of the others."""
    while values.ndim > 2:
        values = values[len(values) // 2]
    return values


def is_coded(about: dict[str, Any], values: npt.NDArray[Any]) -> bool:
    """Return whether the values are codes rather than amounts."""
    return about.get("role") in _CODES or values.dtype.kind in "bu"


def sample(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the finite values of a regular sample of the pixels."""
    step = max(1, values.size // _SAMPLE)
    # An odd step does not stay in the same columns.
    step += step > 1 and values.shape[-1] % step == 0
    taken = values.reshape(-1)[::step].astype(np.float64)
    return np.asarray(taken[np.isfinite(taken)])


def histogram(values: npt.NDArray[np.float64], limits: tuple[float, float] | None = None) -> Histogram:
    """Return the distribution of some values."""
    if values.size < 2 or values.min() == values.max():
        median = float(values[0]) if values.size else None
        return Histogram([], [], median, None, median, int(values.size))
    low, high = np.percentile(values, (0.5, 99.5)) if limits is None else limits
    if not low < high:
        low, high = float(values.min()), float(values.max())
    try:
        found = map_histogram(values, limits=(float(low), float(high)))
    except EdgeFittingError:
        counts, edges = np.histogram(values, bins=_MOST_BINS, range=(float(low), float(high)))
        return Histogram(edges.tolist(), counts.tolist(), None, None, float(np.median(values)), values.size)
    edges, counts = found.edges, found.counts
    if counts.size > _MOST_BINS:
        counts, edges = np.histogram(values, bins=_MOST_BINS, range=(float(low), float(high)))
    return Histogram(
        edges.tolist(), counts.tolist(), _finite(found.peak), _finite(found.fwhm), _finite(found.median),
        int(values.size),
    )  # fmt: skip


def limits_of(
    values: npt.NDArray[np.float64], wanted: ColourRange, peak: float | None
) -> tuple[float, float]:
    """Return what the first and the last colour stand for."""
    if wanted.mode == "fixed" and wanted.low is not None and wanted.high is not None:
        return wanted.low, wanted.high
    if wanted.mode == "recentred" and peak is not None:
        return peak - HALF_WIDTH_EV, peak + HALF_WIDTH_EV
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    if not low < high:
        half = max(abs(low) * 1e-3, 1e-6)
        return low - half, high + half
    return low, high


def to_bytes(values: npt.NDArray[Any], limits: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Return a map in bytes: 1 to 255 between the limits (and beyond them the nearest), 0 where it has no value."""
    low, high = limits
    scaled = np.subtract(values, np.float32(low), dtype=np.float32)
    scaled *= np.float32(254.0 / (high - low))
    np.clip(scaled, np.float32(0.0), np.float32(254.0), out=scaled)
    scaled += np.float32(1.5)
    np.nan_to_num(scaled, copy=False, nan=0.0)
    return np.asarray(scaled.astype(np.uint8))


def codes_to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return codes in bytes, one more than they are: 0 stands for no value."""
    return np.asarray(np.minimum(values.astype(np.int64), 254) + 1, np.uint8)


def preview_step(shape: tuple[int, ...]) -> int:
    """Return every how many pixels a picture is sent first; 1 where it goes as a whole."""
    rows, columns = shape
    return 1 if rows * columns <= LARGEST_WHOLE else -(-max(rows, columns) // _PREVIEW)


def binned_preview(values: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Return every few pixels of a map."""
    return np.ascontiguousarray(values[step // 2 :: step, step // 2 :: step])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
