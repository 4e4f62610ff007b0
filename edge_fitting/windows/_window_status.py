"""Status and values of pixels whose edge was looked for in windows."""

import numba as nb
import numpy as np

from edge_fitting.base import FitStatus

#: Status set on pixels with missing frames: the caller fits those again with the frames they have.
INCOMPLETE = 255

_OK = int(FitStatus.OK)
_FLAT = int(FitStatus.FLAT)
_NO_EDGE = int(FitStatus.NO_EDGE)
_INVERTED = int(FitStatus.INVERTED)
_SATURATED = int(FitStatus.SATURATED)
_UNCERTAIN = int(FitStatus.UNCERTAIN)
_NOT_FOUND = int(FitStatus.NOT_FOUND)

# A step known to less than this many standard deviations gives no half of it.
_LEAST_STEP = 5.0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def squared_residual(chi2, weight_above, highest):
    """Squared residual, at least what single precision leaves."""
    return max(chi2, 1e-14 * weight_above * highest * highest)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def set_status(raw, seen, lo, hi, limits, out, status):
    """Give every pixel of a block its status, and values to those that deserve them."""
    first, last, n_frames = limits.first_ev, limits.last_ev, limits.n_frames
    weight_above = limits.weight_above
    for i in range(hi - lo):
        pixel = lo + i
        energy, sigma, step, chi2 = raw[0, i], raw[1, i], raw[2, i], raw[3, i]
        noise2, rise = np.float64(raw[4, i]), raw[5, i]
        highest, at_highest, missing = seen[0, i], seen[1, i], seen[2, i]
        for m in range(7):
            out[m, pixel] = np.nan
        out[7, pixel] = highest if missing < n_frames else np.nan
        if missing > 0:
            status[pixel] = INCOMPLETE
            continue
        if at_highest >= n_frames:
            status[pixel] = _FLAT
            continue
        residual = squared_residual(chi2, weight_above, highest)
        out[6, pixel] = np.sqrt(residual / limits.dof)
        stands_out = step * step > limits.detection * limits.step_variance * noise2
        if not stands_out:
            if not (rise > 0.0 and rise * rise > limits.detection * limits.rise_variance * noise2):
                status[pixel] = _NO_EDGE
                continue
            if not (step > 0.0 and step * step > _LEAST_STEP**2 * limits.step_variance * noise2):
                status[pixel] = _UNCERTAIN
                continue
        if step < 0.0:
            status[pixel] = _INVERTED
            continue
        goodness = residual / (weight_above * step * step + residual)
        if at_highest >= 4 and at_highest >= 0.1 * n_frames and goodness > 1e-6:
            status[pixel] = _SATURATED
            continue
        out[4, pixel] = step
        out[5, pixel] = goodness
        if not (energy >= first and energy <= last):
            status[pixel] = _NOT_FOUND
        elif not sigma < 0.5 * (last - first):
            status[pixel] = _UNCERTAIN
        else:
            out[2, pixel] = energy
            out[3, pixel] = sigma
            status[pixel] = _OK
