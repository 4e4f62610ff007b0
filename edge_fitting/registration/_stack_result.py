"""From the matches of all frames to shifts, aligned frames and warnings."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ._band_pass import Array
from ._detector_pattern import outweighed_frames
from ._matching import repeats_at
from ._registered_stack import RegisteredStack
from ._resample import linear_part, resample_frame
from ._stack_passes import StackPasses, blocks_apart

_LEAST_HELD = 0.5
# Drift is none when its mean chi-square, or its root mean square in pixels, is below these.
_NO_DRIFT_CHI2 = 2.0
_NO_DRIFT_PX = 0.02
_APART_PX = 0.3


def stack_result(passes: StackPasses) -> RegisteredStack:
    """Return shifts relative to frame 0, frames resampled once, and what is doubtful."""
    outweighed, doubtful = outweighed_frames(
        passes.pattern, passes.template, passes.functions(), sorted(passes.matches)
    )
    passes.give_up(outweighed)
    found = passes.found()
    places = np.stack([passes.interpolated(k) for k in range(passes.n)])
    # The whole is to be one step: a frame is turned about its middle first, and then found displaced.
    turned = np.stack(
        [
            linear_part(1.0 + m, math.degrees(turn)) @ place
            for (m, turn), place in zip(passes.change, places, strict=True)
        ]
    )
    magnification = 1.0 + passes.change[:, 0]
    rotation_deg = np.degrees(passes.change[:, 1])
    is_turned = bool(passes.change.any())
    shifts = turned - np.stack(
        [linear_part(1.0 + m, math.degrees(turn)) @ places[0] for m, turn in passes.change]
    )
    sigma = np.full((passes.n, 2), np.nan)
    misfit = passes.misfit_sigma()
    for k, match in passes.matches.items():
        sigma[k] = np.hypot(match.sigma_px, misfit[k])
    sigma[~found] = _interpolation_sigma(places, found)
    sure = np.setdiff1d(np.flatnonzero(found), doubtful)
    for k in (*outweighed, *doubtful):
        # The sample goes on wandering from the nearest frame whose place is known.
        reach = _interpolation_sigma(places, found) * math.sqrt(np.abs(sure - k).min())
        sigma[k] = reach if k in outweighed else np.hypot(sigma[k], reach)
    quality = np.array([passes.matches[k].quality if k in passes.matches else 0.0 for k in range(passes.n)])
    about = places[found] - np.average(places[found], axis=0, weights=1.0 / sigma[found] ** 2)
    drift = is_turned or bool(
        np.mean((about / sigma[found]) ** 2) > _NO_DRIFT_CHI2 and np.sqrt(np.mean(about**2)) > _NO_DRIFT_PX
    )
    if drift:
        aligned = np.empty_like(passes.original)
        for k in range(passes.n):
            aligned[k] = resample_frame(
                passes.original[k],
                shifts[k],
                magnification=float(magnification[k]),
                rotation_deg=float(rotation_deg[k]),
            )
    else:
        aligned = passes.original.copy()
    return RegisteredStack(
        optical_depth=aligned,
        shifts_px=shifts,
        shift_sigma_px=sigma,
        quality=quality,
        registered=found,
        drift_found=drift,
        widths_px=passes.band.widths,
        warnings=tuple(_warnings(passes, found, places, outweighed, doubtful)),
        magnification=magnification,
        rotation_deg=rotation_deg,
    )


def _interpolation_sigma(places: Array, found: NDArray[np.bool_]) -> Array:
    """How far a frame may be from the line between its neighbours: the scatter of those that are known."""
    steps = np.diff(places[found], axis=0)
    if not steps.size:
        return np.full(2, np.inf)
    scatter: Array = np.maximum(np.sqrt(np.mean(steps**2, axis=0)), 0.05)
    return scatter


def _warnings(
    passes: StackPasses, found: NDArray[np.bool_], places: Array, outweighed: list[int], doubtful: list[int]
) -> list[str]:
    out = []
    if outweighed:
        out.append(
            f"{_shown(outweighed)} little of the sample beside a pattern that is fixed to the "
            "detector (dust, a flat field that does not match): the shift is that of the nearest other frames, and "
            "may be off by several times the usual step."
        )
    if doubtful:
        out.append(
            f"{_shown(doubtful)} little more of the sample than of a pattern that is fixed to the "
            "detector, which may pull on them: their sigma is that of the way from the nearest other frames."
        )
    other = ~found
    other[outweighed] = False
    if other.any():
        out.append(
            f"{_frames(np.flatnonzero(other))} could not be registered (no structure of the sample in it, or "
            "it is not where it can be expected): the shift is interpolated."
        )
    held = np.array([passes.matches[k].held if k in passes.matches else 1.0 for k in range(passes.n)])
    left = np.flatnonzero(held < _LEAST_HELD)
    if left.size:
        out.append(
            f"in {_frames(left)} more than half of the structure is outside of the field: the sample leaves it, "
            "and what is seen of it there is little."
        )
    period = repeats_at(passes.template.mean(), passes.template.mask())
    if period is not None:
        out.append(
            f"the texture repeats itself every ({period[0]}, {period[1]}) px: a jump between two frames is known "
            "only up to multiples of that."
        )
    apart = blocks_apart(passes.matches, passes.n)
    if apart > _APART_PX:
        out.append(
            f"parts of the field move apart by {apart:.1f} px (root mean square): one shift cannot serve for all "
            "of them."
        )
    return out


def _shown(indices: list[int]) -> str:
    return f"{_frames(np.array(indices))} {'show' if len(indices) > 1 else 'shows'}"


def _frames(indices: NDArray[np.intp]) -> str:
    shown = ", ".join(str(int(k)) for k in indices[:8])
    more = f" and {indices.size - 8} more" if indices.size > 8 else ""
    return f"frame{'s' if indices.size > 1 else ''} {shown}{more}"
