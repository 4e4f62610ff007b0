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
    JudgedPixels,
    NoiseModel,
    SigmaScale,
    StrayLight,
    check_frames,
    estimate_background,
    expected_noise,
    frame_chi2,
    judge_all_pixels,
    mask_zingers,
    pixels_with_edge,
    sigma_scale,
    thick_warning,
)
from edge_fitting.series import SeriesBasis
from edge_fitting.stack import Values

from ._methods import StreamingSeries
from ._offset import SeriesWithOffset
from ._stray_light import add_share_sigma, can_be_taken_out, stray_light_warning, without_stray_light

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Pixels with an edge that are looked at: counting noise of their mean is a thirtieth of that of one.
_LOOKED_AT = 1024
_FEWEST_PIXELS = 32
# A pixel is looked through for zingers if its chi2 is this many standard deviations above the usual one, and if no more
# than this part of the pixels is: what most of them have is misfit.
_CHI2_SIGMAS = 5.0
_MOST_PIXELS = 0.25
_DESIGN = 6
_SOC, _JUMP, _NOISE, _HIGHEST = 0, 4, 6, 7


@dataclass(frozen=True, slots=True, eq=False)
class CheckedFit:
    """A fit of the frames and values of a stack that belong.

    Attributes
    ----------
    fitted : values and status
        Of all pixels.
    n_frames : int
        Frames in the fit.
    fields : dict
        Fields of the maps that tell of agreement.
    warnings : tuple of str
        What a reader of the maps should know.
    """

    fitted: Values
    n_frames: int
    fields: dict[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """Some pixels of the frames in a fit, with the noise.

    Attributes
    ----------
    functions : ndarray, shape (n_frames, n_functions)
        Of the series, at the energies on the axis of the references.
    energy_ev, weight, level : ndarray, shape (n_frames,)
        These energies, weights, level of the noise.
    pixels : ndarray of intp, shape (n,)
        Flat indices.
    sample : ndarray of float32, shape (n_frames, n)
        Optical depth.
    noise : NoiseModel or None
        Noise of one pixel in one frame.
    """

    functions: Array
    energy_ev: Array
    weight: Array
    level: Array
    pixels: NDArray[np.intp]
    sample: Frame
    noise: NoiseModel | None


def fit_checked(
    estimator: SeriesWithOffset, energy_ev: Array, stack: Frame, weight: Array | None
) -> CheckedFit:
    """Fit the series to the frames and values of a stack, shape (n_frames, n_pixels), that belong.

    Without weights, those of counting statistics are taken where the noise is that of counting. Light beside the sample
    that the first fit finds is taken out of all frames for a second one.
    """
    found, background = _fit_once(estimator, energy_ev, stack, weight, None)
    if not can_be_taken_out(background):
        return found
    corrected = without_stray_light(stack, background.share)
    return _fit_once(estimator, energy_ev, corrected, weight, background)[0]


def _fit_once(
    estimator: SeriesWithOffset,
    energy_ev: Array,
    stack: Frame,
    weight: Array | None,
    taken_out: StrayLight | None,
) -> tuple[CheckedFit, StrayLight]:
    """Fit the frames and values that belong, of frames that may have lost the light beside the sample."""
    basis = estimator.basis
    sample = np.take(stack, estimator.sample.pixels, axis=1)
    functions = basis.at(energy_ev)
    check, chosen, looked_at = look_at_frames(functions, energy_ev, sample, weight)
    if weight is None:
        complete = looked_at[:, np.isfinite(looked_at).all(axis=0)]
        own = None if check.noise is None else check.noise.weights(complete)
        weight = np.ones(energy_ev.size) if own is None else own
    level = np.ones(energy_ev.size) if check.noise is None else check.noise.level
    keep = np.ones(energy_ev.size, bool)
    keep[[doubt.index for doubt in check.doubts]] = False
    left_out_ev = tuple(float(energy) for energy in energy_ev[~keep])
    if left_out_ev:
        energy_ev, stack, sample, looked_at = energy_ev[keep], stack[keep], sample[keep], looked_at[keep]
        weight, level, functions = np.ascontiguousarray(weight[keep]), level[keep], functions[keep]
    fitted = estimator.fit_sampled(energy_ev, stack, weight, sample)
    on_axis = estimator.energies_of_fit(energy_ev)
    if on_axis is not energy_ev:
        functions = basis.at(on_axis)
    looked = _Looked(
        functions, on_axis, weight, level, estimator.sample.pixels[chosen], looked_at, check.noise
    )
    fields, judged, scale = _agreement(basis, looked, fitted)
    n_masked = 0
    if judged is not None and scale is not None:
        n_masked = _refit_zingers(basis, looked, stack, fitted, judged, fields["chi2"], scale)
    background = _background(looked) if taken_out is None else taken_out
    if taken_out is not None:
        add_share_sigma(basis, functions, weight, looked_at, fitted, taken_out)
    fields |= {"left_out_ev": left_out_ev, "n_masked_values": n_masked}
    fields |= _background_fields(background, taken_out is not None)
    said = _sentences(check, fitted, background, left_out=True, is_taken_out=taken_out is not None)
    return CheckedFit(fitted, energy_ev.size, fields, said), background


def judge_streamed(
    estimator: SeriesWithOffset, fitted: Values, taken_out: StrayLight | None = None
) -> tuple[dict[str, Any], tuple[str, ...], tuple[FrameDoubt, ...]]:
    """Judge the frames of a fit that keeps a sample of them: fields, warnings, and frames that do not belong.

    With ``taken_out``, light beside the sample that the frames had lost before they came.
    """
    sampled, basis = estimator.sample, estimator.basis
    if not len(sampled):
        return {}, (), ()
    energy_ev, sample, weight = sampled.stack
    energy_ev = estimator.energies_of_fit(energy_ev)
    functions = basis.at(energy_ev)
    check, chosen, looked_at = look_at_frames(functions, energy_ev, sample, weight)
    level = np.ones(energy_ev.size) if check.noise is None else check.noise.level
    looked = _Looked(functions, energy_ev, weight, level, sampled.pixels[chosen], looked_at, check.noise)
    fields, _, _ = _agreement(basis, looked, fitted)
    background = _background(looked) if taken_out is None else taken_out
    if taken_out is not None:
        add_share_sigma(basis, functions, weight, looked_at, fitted, taken_out)
    fields |= _background_fields(background, taken_out is not None)
    said = _sentences(check, fitted, background, left_out=False, is_taken_out=taken_out is not None)
    return fields, said, check.doubts


def background_of(functions: Array, energy_ev: Array, sample: Frame, weight: Array) -> StrayLight:
    """Estimate the light beside the sample from a sample of pixels of some frames."""
    check, chosen, looked_at = look_at_frames(functions, energy_ev, sample, weight)
    return _background(
        _Looked(functions, energy_ev, weight, np.ones(energy_ev.size), chosen, looked_at, check.noise)
    )


def _background(looked: _Looked) -> StrayLight:
    """Estimate the light beside the sample from the pixels that are looked at."""
    if looked.noise is None:
        return StrayLight()
    complete = np.isfinite(looked.sample).all(axis=0)
    return estimate_background(
        np.ascontiguousarray(looked.functions[:, :_DESIGN]), looked.sample[:, complete], looked.noise, looked.weight
    )  # fmt: skip


def _background_fields(background: StrayLight, is_taken_out: bool) -> dict[str, Any]:
    if not math.isfinite(background.sigma):
        return {}
    return {
        "stray_light": background.share,
        "stray_light_sigma": background.share_sigma if background.is_significant else background.sigma,
        "stray_light_taken_out": is_taken_out,
    }


def look_at_frames(
    functions: Array, energy_ev: Array, sample: Frame, weight: Array | None
) -> tuple[FrameCheck, NDArray[np.intp], Frame]:
    """Judge the frames by pixels of the sample that have an edge; return which these are, and what they hold."""
    chosen = pixels_with_edge(100.0 * functions[:, 1], sample, _LOOKED_AT)
    looked_at = np.ascontiguousarray(sample[:, chosen])
    return check_frames(energy_ev, functions, looked_at, weight), chosen, looked_at


def _agreement(
    basis: SeriesBasis, looked: _Looked, fitted: Values
) -> tuple[dict[str, Any], JudgedPixels | None, SigmaScale | None]:
    """Return the fields of the maps that say how well frames and pixels fit; widen its sigmas by the misfit."""
    (values, status), pixels, noise = fitted, looked.pixels, looked.noise
    if noise is None:
        return {}, None, None
    usable = (status[pixels] <= FitStatus.ABOVE_RANGE) & np.isfinite(values[_SOC, pixels])
    usable &= np.isfinite(looked.sample).all(axis=0)
    if usable.sum() < _FEWEST_PIXELS:
        return {}, None, None
    # A zinger in one frame would count for the whole of it.
    size = values[_NOISE, pixels]
    usable &= size < 3.0 * np.median(size[usable])
    chosen = pixels[usable]
    state, jump, highest, size = (
        values[row, chosen].astype(float) for row in (_SOC, _JUMP, _HIGHEST, _NOISE)
    )
    curve = np.stack([np.interp(state, basis.soc, row) for row in basis.curve.T]) * jump
    by_frame, variance, residual = frame_chi2(
        looked.functions, curve, noise, looked.level, np.ascontiguousarray(looked.sample[:, usable]), looked.weight
    )  # fmt: skip
    dof = looked.weight.size - 4
    chi2 = float(np.median(size**2 / variance)) / _median_of_chi2(dof)
    scale = sigma_scale(
        looked.functions, basis.soc, basis.curve, basis.tangent, noise, looked.level, looked.weight
    )
    most_chi2 = max(chi2, 1.0) * (1.0 + _CHI2_SIGMAS * math.sqrt(2.0 / dof))
    judged = judge_all_pixels(values, expected_noise(highest, jump, variance), scale, noise, most_chi2)
    fields = {
        "reduced_chi2": judged.reduced_chi2,
        "chi2": chi2,
        "frame_energy_ev": looked.energy_ev,
        "frame_chi2": by_frame,
        "frame_residual": residual,
    }
    return fields, judged, scale


def _median_of_chi2(dof: int) -> float:
    """Median of reduced chi2 of noise alone (Wilson and Hilferty)."""
    return float((1.0 - 2.0 / (9.0 * dof)) ** 3)


def _refit_zingers(
    basis: SeriesBasis,
    looked: _Looked,
    stack: Frame,
    fitted: Values,
    judged: JudgedPixels,
    chi2: float,
    scale: SigmaScale,
) -> int:
    """Fit pixels with zingers again without these values; return how many values that are.

    Values, status and chi2 of the pixels are replaced. ``stack`` holds the frames of the fit.
    """
    (values, status), suspects, noise = fitted, judged.suspects, looked.noise
    assert noise is not None
    if not suspects.size or suspects.size > _MOST_PIXELS * status.size:
        return 0
    spectra = stack[:, suspects]
    typical = np.clip(np.nanmedian(spectra, axis=0), -1.0, 8.0)
    middle = np.clip(spectra, -1.0, typical + np.nan_to_num(values[_JUMP, suspects]).clip(0.0, 4.0))
    variance = max(chi2, 1.0) * noise.variance(np.nan_to_num(middle)) * looked.level[:, None]
    off = mask_zingers(looked.functions[:, :_DESIGN], spectra, variance.astype(np.float32))
    hit = np.flatnonzero(off.any(axis=0))
    if not hit.size:
        return 0
    part = np.ascontiguousarray(spectra[:, hit])
    part[off[:, hit]] = np.nan
    again = StreamingSeries((1, hit.size), basis)
    again.push(looked.energy_ev, part, looked.weight)
    new_values, new_status = again.fit()
    where = suspects[hit]
    with np.errstate(invalid="ignore", divide="ignore"):
        judged.reduced_chi2[where] *= (new_values[_NOISE] / values[_NOISE, where]) ** 2
    judge_all_pixels(new_values, np.zeros(5, np.float32), scale, noise, np.inf)
    values[:, where] = new_values
    status[where] = new_status
    return int(off.sum())


def _sentences(
    check: FrameCheck, fitted: Values, background: StrayLight, *, left_out: bool, is_taken_out: bool
) -> tuple[str, ...]:
    """Say what a reader of the maps should know."""
    values, status = fitted
    done = "it is left out" if left_out else "it is in the fit still"
    return (
        *(f"{doubt}: {done}." for doubt in check.doubts),
        *check.warnings,
        *(
            stray_light_warning(status, background)
            if is_taken_out
            else thick_warning(values[_HIGHEST], status <= FitStatus.ABOVE_RANGE, background)
        ),
    )
