"""Which sweeps are repeats of one another, and their mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._sweep_records import FEWEST

Array = NDArray[np.float64]

# A sweep this many times worse than the others, and by this part of the step, is no repeat of them.
_OUTLYING = 4.0
_OUTLYING_STEP = 0.01


def find_outliers(
    values: Array, noise: Array, used: NDArray[np.bool_], step: float
) -> tuple[NDArray[np.bool_], Array, tuple[str, ...]]:
    """Leave out the sweeps that differ from the others, the worst first; their deviations; what to say."""
    used, n = used.copy(), len(values)
    deviation = np.full(n, np.nan)
    named: list[str] = []
    if used.sum() < 2:
        return used, deviation, ()
    while True:
        size = np.full(n, np.nan)
        for row in range(n):
            others = used.copy()
            others[row] = False
            if not others.any():
                continue
            rest = _middle(values[others])
            both = np.isfinite(values[row]) & np.isfinite(rest)
            if both.sum() < FEWEST:
                continue
            x = np.arange(values.shape[1], dtype=np.float64)
            apart = (values[row] - rest)[both]
            apart -= np.polyval(np.polyfit(x[both], apart, 1), x[both])
            size[row] = float(np.sqrt(np.mean(apart**2)))
            expected = np.sqrt(noise[row] ** 2 + np.median(noise[others]) ** 2 / others.sum())
            deviation[row] = size[row] / expected if expected > 0 else np.nan
        among = used & np.isfinite(size)
        if among.sum() < 2:
            break
        worst = int(np.nanargmax(np.where(among, size, -np.inf)))
        usual = float(np.median(size[among]))
        stands_out = size[worst] > max(_OUTLYING * usual, _OUTLYING_STEP * step)
        if among.sum() == 2:
            if size[worst] > 2.0 * _OUTLYING_STEP * step and deviation[worst] > _OUTLYING:
                named.append(
                    f"two sweeps differ by {size[worst] / step:.1%} of the step, {deviation[worst]:.0f} times "
                    "their noise: take a third to tell which is off"
                )
            break
        if not stands_out:
            break
        used[worst] = False
        named.append(
            f"sweep {worst + 1} differs from the others by {size[worst] / step:.1%} of the step, "
            f"{size[worst] / usual:.0f} times as much as they do: it is left out"
        )
    return used, deviation, tuple(named)


def _middle(rows: Array) -> Array:
    """Median of the rows where they have values."""
    some = np.isfinite(rows).any(axis=0)
    middle = np.full(rows.shape[1], np.nan)
    middle[some] = np.nanmedian(rows[:, some], axis=0)
    return middle


def weighted_mean(
    values: Array, variance: Array, used: NDArray[np.bool_]
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean weighted by the inverse variance, its standard deviation, and how many values there are."""
    good = np.isfinite(values) & used[:, None]
    weight = np.where(good, 1.0 / variance, 0.0)
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, values * weight, 0.0).sum(axis=0) / total
        sigma = 1.0 / np.sqrt(total)
    return mean, sigma, good.sum(axis=0)
