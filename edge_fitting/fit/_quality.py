"""What the fit of references says of its frames and pixels: which do not belong, and how well the others agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import FitStatus
from edge_fitting.quality import (
    FrameCheck,
    FrameDoubt,
    check_frames,
    frame_chi2,
    mask_zingers,
    pixel_chi2,
    scale_sigma,
    spread_pixels,
    thick_warning,
)
from edge_fitting.references import ReferenceSeries
from edge_fitting.series import SeriesBasis, compile_series, on_reference_axis
from edge_fitting.stack import Values

from ._methods import Estimator, StreamingSeries
from ._offset import SeriesWithOffset

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Pixels of each frame that are looked at: counting noise of their mean is a fiftieth of that of one.
_SAMPLED = 2048
_FEWEST_PIXELS = 32
# A pixel is looked through for zingers if its chi2 is this many standard deviations above the usual one, and if no more
# than this part of the pixels is: what most of them have is misfit.
_CHI2_SIGMAS = 5.0
_MOST_PIXELS = 0.25
_DESIGN = 6


@dataclass(frozen=True, slots=True, eq=False)
class CheckedStack:
    """A stack with its frames judged.

    Attributes
    ----------
    keep : ndarray of bool, shape (n_frames,)
        Frames that belong.
    weight : ndarray, shape (n_frames,)
        Weights: those given, or those of counting statistics.
    check : FrameCheck
        What was found.
    level : ndarray, shape (n_kept,)
        Level of the noise in the frames that belong.
    basis : SeriesBasis
        The references.
    pixels : ndarray of intp, shape (n,)
        Flat indices of the pixels that were looked at.
    sample : ndarray of float32, shape (n_frames, n)
        Their optical depth.
    """

    keep: NDArray[np.bool_]
    weight: Array
    check: FrameCheck
    level: Array
    basis: SeriesBasis
    pixels: NDArray[np.intp]
    sample: Frame


def check_stack_frames(
    references: ReferenceSeries, energy_ev: Array, stack: Frame, weight: Array | None
) -> CheckedStack:
    """Judge the frames of a stack, shape (n_frames, n_pixels), by some of its pixels."""
    basis = compile_series(references)
    pixels = spread_pixels(stack.shape[1], _SAMPLED)
    sample = stack[:, pixels]
    check = check_frames(energy_ev, basis.at(energy_ev), sample, weight)
    keep = np.ones(energy_ev.size, bool)
    keep[[doubt.index for doubt in check.doubts]] = False
    if weight is None:
        complete = sample[:, np.isfinite(sample).all(axis=0)].astype(np.float64)
        own = None if check.noise is None else check.noise.weights(complete)
        weight = np.ones(energy_ev.size) if own is None else own
    level = np.ones(energy_ev.size) if check.noise is None else check.noise.level
    return CheckedStack(keep, weight, check, level[keep], basis, pixels, sample)


def energies_of_fit(estimator: Estimator, basis: SeriesBasis, energy_ev: Array, apply: bool) -> Array:
    """Energies on the axis of the references, as the fit has them."""
    if apply and isinstance(estimator, SeriesWithOffset) and math.isfinite(estimator.offset.offset_ev):
        return on_reference_axis(basis.series, energy_ev, estimator.offset.offset_ev)
    return energy_ev


def agreement(
    basis: SeriesBasis,
    energy_ev: Array,
    weight: Array,
    check: FrameCheck,
    level: Array,
    pixels: NDArray[np.intp],
    sample: Frame,
    fitted: Values,
) -> dict[str, Any]:
    """Return the fields of the maps that tell how well frames and pixels agree with the fit; make its sigmas honest.

    Parameters
    ----------
    basis : SeriesBasis
        References.
    energy_ev, weight : ndarray, shape (n_frames,)
        Of the frames in the fit, energies on the axis of the references.
    check : FrameCheck
        With the noise.
    level : ndarray, shape (n_frames,)
        Its level in these frames.
    pixels : ndarray of intp, shape (n,)
        Pixels of the sample.
    sample : ndarray of float32, shape (n_frames, n)
        Their optical depth.
    fitted : values and status
        Of all pixels; the sigmas take up that noise grows with optical depth.
    """
    values, status = fitted
    if check.noise is None:
        return {}
    usable = (status[pixels] <= FitStatus.ABOVE_RANGE) & np.isfinite(sample).all(axis=0)
    usable &= np.isfinite(values[0, pixels])
    if usable.sum() < _FEWEST_PIXELS:
        return {}
    # A zinger in one frame would count for the whole of it.
    noise = values[6, pixels]
    usable &= noise < 3.0 * np.median(noise[usable])
    chosen = pixels[usable]
    state, jump = values[0, chosen].astype(np.float64), values[4, chosen].astype(np.float64)
    curve = np.stack([np.interp(state, basis.soc, row) for row in basis.curve.T]) * jump
    by_frame, expected = frame_chi2(basis.at(energy_ev), curve, check.noise, level, sample[:, usable], weight)
    map_of = pixel_chi2(values, chosen, expected)
    scale_sigma(
        basis.at(energy_ev), basis.soc, basis.curve, basis.tangent, check.noise, level, weight, values
    )
    return {
        "reduced_chi2": map_of,
        "chi2": float(np.median(map_of[chosen])) / _median_of_chi2(weight.size - 4),
        "frame_energy_ev": energy_ev,
        "frame_chi2": by_frame,
    }


def _median_of_chi2(dof: int) -> float:
    """Median of reduced chi2 of noise alone (Wilson and Hilferty)."""
    return float((1.0 - 2.0 / (9.0 * dof)) ** 3)


def judge_streamed(
    estimator: SeriesWithOffset, fitted: Values, *, apply: bool
) -> tuple[dict[str, Any], tuple[str, ...], tuple[FrameDoubt, ...]]:
    """Judge the frames of a fit that keeps a sample of them: fields, warnings, and frames that do not belong."""
    sampled, basis = estimator.sample, estimator.basis
    if not len(sampled):
        return {}, (), ()
    energy_ev, sample, weight = sampled.stack
    energy_ev = energies_of_fit(estimator, basis, energy_ev, apply)
    pixels = sampled.pixels
    if pixels.size > _SAMPLED:
        part = spread_pixels(pixels.size, _SAMPLED)
        pixels, sample = pixels[part], sample[:, part]
    check = check_frames(energy_ev, basis.at(energy_ev), sample, weight)
    level = np.ones(energy_ev.size) if check.noise is None else check.noise.level
    fields = agreement(basis, energy_ev, weight, check, level, pixels, sample, fitted)
    return fields, warnings_of(check, *fitted, left_out=False), check.doubts


def refit_zingers(
    checked: CheckedStack,
    energy_ev: Array,
    stack: Frame,
    weight: Array,
    fitted: Values,
    fields: dict[str, Any],
) -> int:
    """Fit pixels with zingers again without these values; return how many values that are.

    Values, status and chi2 of the pixels are replaced. ``stack`` holds the frames of the fit.
    """
    values, status = fitted
    noise, chi2 = checked.check.noise, fields.get("reduced_chi2")
    if noise is None or chi2 is None:
        return 0
    usual = max(float(fields["chi2"]), 1.0)
    limit = usual * (1.0 + _CHI2_SIGMAS * math.sqrt(2.0 / (energy_ev.size - 4)))
    # Pixels without an edge have no jump, by which chi2 is known; the noise alone decides there.
    with np.errstate(invalid="ignore"):
        background = values[6] ** 2 > np.float32(limit) * np.float32(noise.gain) * np.exp(
            np.float32(noise.growth) * values[7]
        )
    suspects = np.flatnonzero((chi2 > limit) | (~np.isfinite(chi2) & background))
    if not suspects.size or suspects.size > _MOST_PIXELS * status.size:
        return 0
    functions = checked.basis.at(energy_ev)
    spectra = stack[:, suspects]
    typical = np.clip(np.nanmedian(spectra, axis=0), -1.0, 8.0)
    middle = np.clip(spectra, -1.0, typical + values[4, suspects].clip(0.0, 4.0))
    variance = usual * noise.variance(np.nan_to_num(middle, nan=0.0).astype(np.float64))
    off = mask_zingers(functions[:, :_DESIGN], spectra, variance)
    hit = np.flatnonzero(off.any(axis=0))
    if not hit.size:
        return 0
    part = spectra[:, hit].copy()
    part[off[:, hit]] = np.nan
    again = StreamingSeries((1, hit.size), checked.basis.series)
    again.push(energy_ev, part, weight)
    new_values, new_status = again.fit()
    scale_sigma(
        functions,
        checked.basis.soc,
        checked.basis.curve,
        checked.basis.tangent,
        noise,
        checked.level,
        weight,
        new_values,
    )
    where = suspects[hit]
    with np.errstate(invalid="ignore", divide="ignore"):
        chi2[where] *= (new_values[6] / values[6, where]) ** 2
    values[:, where] = new_values
    status[where] = new_status
    return int(off.sum())


def warnings_of(
    check: FrameCheck, values: Frame, status: NDArray[np.uint8], *, left_out: bool
) -> tuple[str, ...]:
    """Say in sentences what a reader of the maps should know."""
    done = "it is left out" if left_out else "it is in the fit still"
    return (
        *(f"{doubt}: {done}." for doubt in check.doubts),
        *check.warnings,
        *thick_warning(values[7], status <= FitStatus.ABOVE_RANGE),
    )
