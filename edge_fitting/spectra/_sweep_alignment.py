"""Sweeps put on one energy axis: by their foils, by one another, by the readback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from edge_fitting.base import Edge

from ._sweep_records import FEWEST, Sweep, SweepAxis

Array = NDArray[np.float64]

# Sweeps without a foil are moved onto one another by their own spectrum within so much.
_SEARCH_EV = 8.0
_SEARCH_STEP_EV = 0.5
_NEAR_EV = (-40.0, 80.0)


def align_sweeps(
    sweeps: Sequence[Sweep], axes: list[SweepAxis], first: int, edge: Edge
) -> tuple[list[SweepAxis], tuple[str, ...]]:
    """Give the sweeps without a foil of their own an axis from the others; say so."""
    by_foil = [number for number, axis in enumerate(axes) if axis.source == "foil"]
    lacking = [number for number, axis in enumerate(axes) if axis.source != "foil"]
    anchor = by_foil[0] if by_foil else first
    done = _foils_matched(sweeps, axes, by_foil, edge)
    for number in lacking:
        if number == anchor:
            continue
        shift = _shift_onto(_spectrum(sweeps[anchor]), _spectrum(sweeps[number]), edge)
        if shift is None:
            near = min(by_foil, key=lambda k: abs(k - number), default=anchor)
            done[number] = SweepAxis(done[near].offset_ev, 0.0, 0.0, "readback", axes[number].reason)
        else:
            base = done[anchor]
            done[number] = SweepAxis(
                base.offset_ev + shift[0], shift[1], base.common_sigma_ev, "spectrum", axes[number].reason
            )
    reasons = dict.fromkeys(axes[number].reason for number in lacking)
    said = []
    for reason in reasons:
        of = [str(number + 1) for number in lacking if axes[number].reason == reason]
        which = "every sweep" if len(of) == len(sweeps) > 1 else f"sweep {', '.join(of)}"
        how = (
            "the energy axis is the readback, not calibrated"
            if not by_foil
            else "aligned by the spectrum of the sample"
        )
        said.append(f"{which}: {reason}: {how}")
    return done, tuple(said)


def _foils_matched(
    sweeps: Sequence[Sweep], axes: Sequence[SweepAxis], by_foil: Sequence[int], edge: Edge
) -> list[SweepAxis]:
    """Let the whole curve of each foil say how the sweeps lie to one another, and all inflections where they lie.

    The inflection of one sweep depends on where its points fall on the rise; the curve does not.
    """
    done = list(axes)
    if len(by_foil) < 2:
        return done
    first = _spectrum(sweeps[by_foil[0]], foil=True)
    matched = {by_foil[0]: (0.0, 0.0)}
    for number in by_foil[1:]:
        shift = _shift_onto(first, _spectrum(sweeps[number], foil=True), edge)
        if shift is not None:
            matched[number] = shift
    away = np.array([axes[number].offset_ev - by_curve for number, (by_curve, _) in matched.items()])
    centre = float(np.median(away)) if away.size > 2 else float(away.mean())
    # What the inflections scatter by is what each is uncertain by, or what they say themselves where that is more.
    scatter = float(np.std(away, ddof=1)) if away.size > 1 else 0.0
    stated = float(np.median([axes[number].sigma_ev for number in matched]))
    common = float(
        np.hypot(
            max(scatter, stated) / np.sqrt(away.size),
            np.median([axes[number].common_sigma_ev for number in matched]),
        )
    )
    for number, (by_curve, sigma) in matched.items():
        done[number] = replace(
            axes[number], offset_ev=centre + by_curve, sigma_ev=sigma, common_sigma_ev=common
        )
    return done


def _spectrum(sweep: Sweep, *, foil: bool = False) -> tuple[Array, Array]:
    """Points of the sample, or of the foil, that can be used."""
    values = sweep.foil_mu if foil and sweep.foil_mu is not None else sweep.mu
    good = np.isfinite(values)
    return sweep.energy_ev[good], values[good]


def _shift_onto(
    reference: tuple[Array, Array], sweep: tuple[Array, Array], edge: Edge
) -> tuple[float, float] | None:
    """Find what to add to the energies of a spectrum so that it is that of another sweep, and its sigma."""
    x, y = sweep
    if reference[0].size < FEWEST:
        return None
    curve = CubicSpline(*reference)
    low, high = reference[0][0] + _SEARCH_EV, reference[0][-1] - _SEARCH_EV
    near = (x > max(edge.energy_ev + _NEAR_EV[0], low)) & (x < min(edge.energy_ev + _NEAR_EV[1], high))
    x, y = x[near], y[near]
    if x.size < 2 * FEWEST:
        return None
    line = np.stack([np.ones_like(x), (x - x.mean()) / 100.0], axis=1)

    def residual(shift: float) -> float:
        design = np.column_stack([line, curve(x + shift)])
        return float(np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2))

    tried = np.arange(-_SEARCH_EV, _SEARCH_EV + _SEARCH_STEP_EV / 2, _SEARCH_STEP_EV)
    best = float(tried[int(np.argmin([residual(value) for value in tried]))])
    sigma = float("inf")
    for _ in range(8):
        design = np.column_stack([line, curve(x + best), curve(x + best, 1)])
        found, *_ = np.linalg.lstsq(design, y, rcond=None)
        if not found[2] > 0:
            return None
        step = float(np.clip(found[3] / found[2], -_SEARCH_STEP_EV, _SEARCH_STEP_EV))
        variance = float(np.sum((y - design @ found) ** 2)) / max(x.size - 5, 1)
        sigma = float(np.sqrt(variance * np.linalg.pinv(design.T @ design)[3, 3]) / found[2])
        best += step
        if abs(step) < 1e-4:
            break
    return (best, sigma) if abs(best) < _SEARCH_EV and sigma < 1.0 else None
