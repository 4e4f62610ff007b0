"""Kernel that averages a map over square neighbourhoods."""

from __future__ import annotations

import numba as nb
import numpy as np

_BAND = 64


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _add_row(row, sign, sums, counts):
    """Add the squares of a row, or take them away again, those that are not finite left out."""
    for j in range(row.size):
        value = np.float64(row[j])
        finite = value - value == 0.0
        sums[j] += sign * value * value if finite else 0.0
        counts[j] += sign if finite else 0.0


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def mean_square_around(image, reach, out):
    """Average the squares of an image over the square of ``2 reach + 1`` pixels around each.

    Parameters
    ----------
    image : float32 (rows, cols)
        Values; those that are not finite are left out.
    reach : int
        How far the square goes to each side; it is cut off at the borders.
    out : float64 (rows, cols)
        Means; NaN where no value is finite.
    """
    rows, cols = image.shape
    for band in nb.prange((rows + _BAND - 1) // _BAND):
        first, last = band * _BAND, min((band + 1) * _BAND, rows)
        top = max(first - reach, 0)
        # Sums down the columns, moved on from row to row; along each row they are summed likewise.
        sums, counts = np.zeros(cols), np.zeros(cols)
        for i in range(top, min(first + reach, rows)):
            _add_row(image[i], 1.0, sums, counts)
        for i in range(first, last):
            if i + reach < rows:
                _add_row(image[i + reach], 1.0, sums, counts)
            if i - reach - 1 >= top:
                _add_row(image[i - reach - 1], -1.0, sums, counts)
            total, count = 0.0, 0.0
            for j in range(min(reach, cols)):
                total += sums[j]
                count += counts[j]
            for j in range(cols):
                if j + reach < cols:
                    total += sums[j + reach]
                    count += counts[j + reach]
                if j - reach - 1 >= 0:
                    total -= sums[j - reach - 1]
                    count -= counts[j - reach - 1]
                out[i, j] = total / count if count > 0.5 else np.nan
