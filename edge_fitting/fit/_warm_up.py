"""Compile what a scan needs before its first frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import EDGES
from edge_fitting.maps import label_particles
from edge_fitting.quality import SpikeFinder
from edge_fitting.references import ReferenceSeries
from edge_fitting.registration import DriftWatch, resample_frame
from edge_fitting.sums import CountsFrame
from edge_fitting.tomography import FilteredBackProjection

from ._methods import Method, fit_at_once, make_estimator
from ._offset import SeriesWithOffset
from ._quality import fit_checked

# Any edge will do: what is compiled depends on types, never on values.
_EDGE = EDGES["Ni_K"]
_SHAPE = (12, 12)
# Enough frames for the noise of a pixel of its own; and so few that neighbours have to help.
_MANY, _FEW = 40, 10
_REGISTERED_PX = 48


def warm_up(method: Method = "series") -> None:
    """Compile the kernels that a live fit and a fit of a stack call, before there is beam on the sample.

    The first time on a machine this takes up to a minute; what was compiled is kept on disk and later takes part of a
    second to load. Afterwards no frame, whatever its type, gaps or corrections, makes a fit wait for the compiler.

    Parameters
    ----------
    method : str
        Estimator, as in :func:`fit_stack`. Included in any case are the series fit, with and without references,
        the half-jump and the registration of frames.

    Raises
    ------
    EdgeFittingError
        If there is no such method.
    """
    energy_ev, stack = _scan(_MANY)
    references = ReferenceSeries(
        energy_ev, [_absorption(energy_ev, shift_ev) for shift_ev in (-1.0, 1.0)], [0.0, 1.0]
    )
    make_estimator(method, _EDGE, _SHAPE, references)  # refuses one that there is not
    _fit_counts(references)
    fit_at_once(
        make_estimator("series", _EDGE, _SHAPE, references), energy_ev, stack, np.ones(energy_ev.size)
    )
    for n_frames in (_MANY, _FEW):
        _fit_frames(*_scan(n_frames), "series", references)
    _check_frames(references)
    _find_spikes()
    for name in dict.fromkeys(("half_jump", method)):
        _fit_frames(energy_ev, stack, name, references)
    _register_frames(references)
    label_particles(np.eye(3, dtype=bool))
    FilteredBackProjection(np.arange(3.0), 8, 4.0).slice(np.zeros((3, 1, 8), np.float32))


def _absorption(energy_ev: NDArray[np.float64], shift_ev: float) -> NDArray[np.float64]:
    from_edge = energy_ev - _EDGE.energy_ev - shift_ev
    width = _EDGE.core_width_ev
    return (
        0.5
        + np.arctan(2.0 * from_edge / width) / np.pi
        + 0.5 * np.exp(-((from_edge / width / 2.0 - 2.0) ** 2))
    )


def _scan(n_frames: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Energies and frames, shape (n_frames, n_pixels), in which two pixels miss a value and one value is saturated."""
    n_line = n_frames // 5
    rise_ev = _EDGE.half_jump_window_ev[0], _EDGE.white_line_window_ev[1]
    energy_ev = np.concatenate(
        [
            np.linspace(*_EDGE.pre_edge_ev, n_line),
            np.linspace(*rise_ev, n_frames - 2 * n_line),
            np.linspace(*_EDGE.post_edge_ev, n_line),
        ]
    )
    stack = np.repeat(_absorption(energy_ev, 0.0)[:, None], _SHAPE[0] * _SHAPE[1], axis=1).astype(np.float32)
    stack += np.float32(0.003) * np.random.default_rng(0).standard_normal(stack.shape, np.float32)
    stack[2, 0] = np.nan
    stack[3, 1] = np.inf
    return energy_ev, stack


def _fit_frames(
    energy_ev: NDArray[np.float64], stack: NDArray[np.float32], method: str, references: ReferenceSeries
) -> None:
    estimator = make_estimator(method, _EDGE, _SHAPE, references)
    for k in range(energy_ev.size):
        estimator.push(energy_ev[k : k + 1], stack[k : k + 1], np.ones(1))
    estimator.fit()


def _check_frames(references: ReferenceSeries) -> None:
    """Fit a stack in which one value sticks out."""
    energy_ev, stack = _scan(_MANY)
    stack[~np.isfinite(stack)] = 0.0
    stack[5, 5] -= 2.0
    estimator = SeriesWithOffset(_SHAPE, references, apply=False, search=False)
    fit_checked(estimator, energy_ev, stack, None)


def _find_spikes() -> None:
    """Compare two frames, of which one has a value that sticks out."""
    finder, random = SpikeFinder(), np.random.default_rng(0)
    for added in (0.0, 5000.0):
        light = random.poisson(1000.0, (24, 24)).astype(np.float32)
        light[9, 9] += added
        finder.find(light)


def _register_frames(references: ReferenceSeries) -> None:
    """Follow a square that moves by a tenth of a pixel a frame."""
    energy_ev, _ = _scan(_MANY)
    mu = _absorption(energy_ev, 0.0)
    place = np.arange(_REGISTERED_PX)
    watch = None
    for k, energy in enumerate(energy_ev):
        line = 1.0 / (1.0 + np.exp(np.abs(place - 16.0 - 0.1 * k) - 6.0))
        frame = (mu[k] * np.outer(line, line)).astype(np.float32)
        frame[0, 0] = np.nan
        watch = watch or DriftWatch(frame, edge=_EDGE, references=references)
        watch.add(float(energy), frame.ravel()[watch.pixels])
        resample_frame(frame, (0.3, 0.1 * k))
    if watch is not None:
        watch.finish()


def _fit_counts(references: ReferenceSeries) -> None:
    flat = np.full(_SHAPE[0] * _SHAPE[1], 2000.0, np.float32)
    dark = np.zeros_like(flat)
    frame = CountsFrame(np.full(flat.size, 1000, np.uint16), dark, flat, dark, scale=1.0, saturation=65535)
    make_estimator("series", _EDGE, _SHAPE, references).push_counts(_EDGE.energy_ev, frame, 1.0)
