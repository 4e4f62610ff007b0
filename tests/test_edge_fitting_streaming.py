"""Streaming: any order, any chunks, counts or optical depth, missing values; kernels against NumPy."""

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_fitting import EdgeFitter, EdgeFittingError, FitStatus, ReferenceSeries, fit_stack
from edge_fitting.base import pool_variance
from edge_fitting.series import compile_series
from edge_fitting.series._series_kernels import reduce_series
from edge_fitting.series._series_records import ReducedSeries, SeriesCurve
from edge_fitting.sums import PixelSums, SufficientStatistics, WeightedFrames
from edge_fitting.sums._projection_kernels import correct_counts, count_blocks, fold
from edge_fitting.sums._records import CountsCorrection

ENERGY = np.concatenate(
    [np.arange(8200.0, 8330.0, 10.0), np.arange(8330.0, 8360.0, 1.0), np.arange(8370.0, 8560.0, 10.0)]
)
MAPS = ("soc", "soc_sigma", "edge_energy_ev", "edge_energy_sigma_ev", "edge_jump", "goodness", "noise")
METHODS = ("series", "half_jump", "inflection", "white_line", "lcf")


def spectrum(soc):
    edge = 8343.0 + 2.5 * np.asarray(soc)[..., None]
    line = np.exp(-(((ENERGY - edge - 7.0) / 3.5) ** 2))
    return 0.5 + np.arctan((ENERGY - edge) / 1.6) / np.pi + 0.6 * line


def series(n=5):
    soc = np.linspace(0.0, 1.0, n)
    return ReferenceSeries(ENERGY, spectrum(soc), soc)


def stack(shape=(5, 7), noise=0.01, seed=0):
    random = np.random.default_rng(seed)
    soc = random.random(shape)
    jump = 0.3 + 0.4 * random.random(shape)
    clean = np.moveaxis(spectrum(soc), -1, 0) * jump + 0.3
    return (clean + noise * random.standard_normal(clean.shape)).astype(np.float32)


def assert_same(left, right, rtol=2e-4):
    np.testing.assert_array_equal(left.status, right.status)
    for name in MAPS:
        a, b = getattr(left, name), getattr(right, name)
        np.testing.assert_allclose(
            a, b, rtol=rtol, atol=rtol * max(1e-3, np.nanmax(np.abs(b), initial=0.0)) * 0.1
        )


@pytest.mark.parametrize("gap", [None, (3, 0), (-1, -1)])
def test_blocks_of_a_stack_fitted_at_once_equal_the_sums_of_its_frames(gap):
    """Several blocks of pixels, the last not full; a value missing in the first or in the last of them."""
    shape = (29, 37)
    frames = stack(shape, seed=8)
    if gap is not None:
        frames[11, gap[0], gap[1]] = np.nan
    fitter = EdgeFitter(shape, references=series())
    for energy, frame in zip(ENERGY, frames, strict=True):
        fitter.push(energy, frame, 2.0)
    at_once = fit_stack(ENERGY, frames, references=series(), weights=np.full(ENERGY.size, 2.0))
    assert_same(fitter.maps(), at_once)
    np.testing.assert_array_equal(fitter.maps().optical_depth, at_once.optical_depth)
    assert at_once.has_value.all()


@pytest.mark.parametrize("method", METHODS)
def test_frame_by_frame_equals_the_whole_stack(method):
    frames = stack()
    fitter = EdgeFitter((5, 7), method=method, references=series())
    for k in np.random.default_rng(1).permutation(ENERGY.size):
        fitter.push(ENERGY[k], frames[k])
    assert fitter.n_frames == ENERGY.size
    assert_same(fitter.maps(), fit_stack(ENERGY, frames, method=method, references=series()))


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations(range(ENERGY.size)),
    cuts=st.lists(st.integers(1, ENERGY.size - 1), max_size=5),
)
def test_order_and_chunks_of_frames_do_not_matter(order, cuts):
    frames = stack(seed=3)
    frames[7, 2, 3] = np.nan
    fitter = EdgeFitter((5, 7), references=series())
    order = np.array(order)
    for part in np.split(order, sorted(set(cuts))):
        if part.size:
            fitter.push(ENERGY[part], frames[part])
    assert_same(fitter.maps(), fit_stack(ENERGY, frames, references=series()))


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(1, 11), method=st.sampled_from(METHODS))
def test_chunks_of_pixels_do_not_matter(cut, method):
    frames = stack((12, 6), seed=4)
    whole = fit_stack(ENERGY, frames, method=method, references=series())
    upper = fit_stack(ENERGY, frames[:, :cut], method=method, references=series())
    lower = fit_stack(ENERGY, frames[:, cut:], method=method, references=series())
    for name in (*MAPS, "status"):
        joined = np.concatenate([getattr(upper, name), getattr(lower, name)])
        np.testing.assert_array_equal(joined, getattr(whole, name))


@settings(max_examples=15, deadline=None)
@given(shift=st.floats(-20.0, 20.0), method=st.sampled_from(METHODS))
def test_shifting_scan_and_references_shifts_the_energies_only(shift, method):
    from dataclasses import replace

    from edge_fitting import EDGES

    edge = EDGES["Ni_K"]
    moved_edge = replace(
        edge,
        **{
            name: tuple(e + shift for e in getattr(edge, name))
            for name in ("half_jump_window_ev", "white_line_window_ev", "pre_edge_ev", "post_edge_ev")
        },
    )
    frames = stack(seed=5)
    here = fit_stack(ENERGY, frames, method=method, references=series())
    moved_series = ReferenceSeries(ENERGY + shift, series().mu, series().soc)
    there = fit_stack(ENERGY + shift, frames, edge=moved_edge, method=method, references=moved_series)
    np.testing.assert_array_equal(here.status, there.status)
    np.testing.assert_allclose(there.soc, here.soc, atol=2e-3)
    np.testing.assert_allclose(there.edge_energy_ev - shift, here.edge_energy_ev, atol=4e-3)


def test_repeats_count_like_their_mean_with_summed_weight():
    frames = stack(seed=6)
    twice = EdgeFitter((5, 7), references=series())
    once = EdgeFitter((5, 7), references=series())
    for k, energy in enumerate(ENERGY):
        if k % 3:
            twice.push(energy, frames[k])
            once.push(energy, frames[k])
        else:
            twice.push(energy, frames[k] + 0.004)
            twice.push(energy, frames[k] - 0.004)
            once.push(energy, frames[k], weight=2.0)
    np.testing.assert_allclose(twice.maps().soc, once.maps().soc, atol=2e-5)
    for method in ("half_jump", "white_line"):
        energies = np.concatenate([ENERGY, ENERGY])
        doubled = fit_stack(energies, np.concatenate([frames, frames]), method=method)
        single = fit_stack(ENERGY, frames, method=method, weights=np.full(ENERGY.size, 2.0))
        np.testing.assert_allclose(doubled.edge_energy_ev, single.edge_energy_ev, atol=1e-3)
        np.testing.assert_allclose(doubled.edge_energy_sigma_ev, single.edge_energy_sigma_ev, rtol=1e-3)


def test_maps_can_be_asked_for_after_every_frame():
    frames = stack(seed=7, noise=0.002)
    fitter = EdgeFitter((5, 7), references=series())
    order = np.random.default_rng(2).permutation(ENERGY.size)
    with_value = []
    for n, k in enumerate(order, start=1):
        fitter.push(ENERGY[k], frames[k])
        maps = fitter.maps()
        assert maps.n_frames == n
        with_value.append(int(maps.has_value.sum()))
        alone = fit_stack(ENERGY[order[:n]], frames[order[:n]], references=series())
        assert_same(maps, alone)
    assert with_value[0] == 0
    assert with_value[-1] == 35


def test_maps_are_not_touched_by_later_frames():
    frames = stack(seed=8)
    fitter = EdgeFitter((5, 7), references=series())
    fitter.push(ENERGY, frames)
    first = fitter.maps()
    kept = first.soc.copy()
    fitter.push(ENERGY, frames[::-1])
    fitter.maps()
    np.testing.assert_array_equal(first.soc, kept)


@pytest.mark.parametrize("method", ["series", "half_jump"])
def test_a_pushed_frame_may_be_overwritten_by_its_owner(method):
    frames = stack(seed=9)
    fitter = EdgeFitter((5, 7), method=method, references=series())
    buffer = np.empty((5, 7), np.float32)
    for energy, frame in zip(ENERGY, frames, strict=True):
        buffer[...] = frame
        fitter.push(energy, buffer)
    buffer[...] = np.nan
    assert_same(fitter.maps(), fit_stack(ENERGY, frames, method=method, references=series()))


@pytest.mark.parametrize("method", ["series", "lcf", "half_jump"])
def test_counts_give_what_their_optical_depth_gives(method):
    random = np.random.default_rng(10)
    depth = stack((8, 9), noise=0.0, seed=10)
    dark = (100.0 + 3.0 * random.random((8, 9))).astype(np.float32)
    dark_flat = (40.0 + random.random((8, 9))).astype(np.float32)
    flat = (9000.0 + 2000.0 * random.random((ENERGY.size, 8, 9))).astype(np.float32)
    scale = 1.7
    counts = random.poisson((flat - dark_flat) / 1.0 * np.exp(-depth) / scale + dark).astype(np.uint16)
    by_counts = EdgeFitter((8, 9), method=method, references=series())
    by_depth = EdgeFitter((8, 9), method=method, references=series())
    for k, energy in enumerate(ENERGY):
        by_counts.push_counts(energy, counts[k], dark=dark, flat=flat[k], dark_flat=dark_flat, scale=scale)
        by_depth.push(energy, -np.log(scale * (counts[k] - dark) / (flat[k] - dark_flat)))
    assert_same(by_counts.maps(), by_depth.maps(), rtol=1e-3)


def test_saturated_dead_and_dark_pixels_of_counts():
    flat = np.full((1, 5), 5000.0, np.float32)
    flat[0, 1] = 10.0
    dark = np.full((1, 5), 10.0, np.float32)
    depth = stack((1, 5), noise=0.002, seed=11)
    fitter = EdgeFitter((1, 5), references=series())
    for k, energy in enumerate(ENERGY):
        counts = ((flat - dark) * np.exp(-depth[k]) + dark).astype(np.uint16)
        counts[0, 2] = 65535
        counts[0, 3] = 4
        if k == 10:
            counts[0, 4] = 4095
        fitter.push_counts(energy, counts, dark=dark, flat=flat, saturation=4095)
    names = [FitStatus(code).name for code in fitter.maps().status[0]]
    assert names[1:4] == ["NO_DATA", "SATURATED", "SATURATED"]
    assert FitStatus[names[0]].has_value
    # A single saturated value, as from a cosmic ray, is only a missing one.
    assert FitStatus[names[4]].has_value


def test_logarithm_of_counts_is_right_to_rounding():
    counts = np.arange(65536, dtype=np.uint16)
    dark = np.full(counts.size, 99.5, np.float32)
    flat = np.full(counts.size, 30000.0, np.float32)
    out = np.empty(counts.size, np.float32)
    zero = np.zeros_like(dark)
    correct_counts(counts, CountsCorrection(dark, flat, zero, np.float32(1.3), np.float32(65535)), out)
    lit = (counts > 99) & (counts < 65535)
    expected = -np.log(np.float64(np.float32(1.3)) * (counts[lit] - 99.5) / 30000.0)
    np.testing.assert_allclose(out[lit], expected, atol=5e-7, rtol=2e-7)
    assert np.isposinf(out[:100]).all()
    assert np.isneginf(out[65535])


def test_projection_kernel_against_numpy():
    random = np.random.default_rng(12)
    n_frames, n_pixels, n_basis = 11, 2500, 6
    frames = random.random((n_frames, n_pixels)).astype(np.float32)
    frames[random.random(frames.shape) < 0.01] = np.nan
    frames[random.random(frames.shape) < 0.01] = np.inf
    frames[3, 50] = frames[7, 50] = 2.0
    projector, weight = random.standard_normal((n_frames, n_basis)), 0.5 + random.random(n_frames)
    sums = np.zeros((n_basis + 1, n_pixels))
    highest = np.full(n_pixels, -np.inf, np.float32)
    at_highest, saturated = np.zeros(n_pixels, np.uint16), np.zeros(n_pixels, np.uint16)
    missing = np.zeros((count_blocks(n_pixels), n_frames), np.int64)
    fold(WeightedFrames(frames, projector, weight), PixelSums(sums, highest, at_highest, saturated), missing)
    finite = np.isfinite(frames)
    y = np.where(finite, frames, 0.0).astype(np.float64)
    np.testing.assert_allclose(sums[:-1], (projector * weight[:, None]).T @ y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sums[-1], weight @ y**2, rtol=1e-12)
    np.testing.assert_array_equal(highest, np.where(finite, frames, -np.inf).max(axis=0))
    np.testing.assert_array_equal(at_highest, (np.where(finite, frames, -1) == highest).sum(axis=0))
    np.testing.assert_array_equal(saturated, np.isinf(frames).sum(axis=0))
    np.testing.assert_array_equal(missing.sum(axis=0), (~finite).sum(axis=1))


def test_series_kernel_against_numpy():
    """The kernel's search (coarse scan, parabola, one correction) against a dense scan of the likelihood."""
    frames = stack((6, 6), seed=13)
    references = series(7)
    basis = compile_series(references)
    statistics = SufficientStatistics(36, basis.n_functions)
    projector = basis.at(ENERGY)
    statistics.push_stack(projector, frames.reshape(ENERGY.size, -1), np.ones(ENERGY.size))
    maps = fit_stack(ENERGY, frames, references=references)
    soc = np.linspace(-0.25, 1.25, 30001)
    line = np.stack([np.ones_like(ENERGY), ENERGY - 8340.0], axis=1)
    off_line = np.eye(ENERGY.size) - line @ np.linalg.pinv(line)
    shapes = references.evaluate(ENERGY, soc) @ off_line
    unit = shapes / np.linalg.norm(shapes, axis=1, keepdims=True)
    y = off_line @ frames.reshape(ENERGY.size, -1).astype(np.float64)
    overlap = unit @ y
    best = overlap.argmax(axis=0)
    np.testing.assert_allclose(maps.soc.ravel(), soc[best], atol=1e-4)
    peak = overlap.max(axis=0)
    chi2 = (y**2).sum(axis=0) - peak**2
    np.testing.assert_allclose(maps.noise.ravel(), np.sqrt(chi2 / (ENERGY.size - 4)), rtol=1e-4)
    np.testing.assert_allclose(maps.edge_jump.ravel(), peak / np.linalg.norm(shapes[best], axis=1), rtol=1e-4)
    n_nodes, n_modes = basis.curve.shape
    shapes = ((n_modes, 2), (2, 2), (n_nodes, n_modes), (n_nodes, n_modes))
    reduced = ReducedSeries(*(np.empty(shape) for shape in shapes), np.empty((n_nodes, 6)), 32)
    nodes = np.stack([basis.soc, basis.edge_energy_ev, basis.edge_energy_slope])
    assert reduce_series(statistics.gram, SeriesCurve(basis.curve, basis.tangent, nodes, 50.0), reduced)
    lengths = np.linalg.norm(references.evaluate(ENERGY, basis.soc) @ off_line, axis=1)
    np.testing.assert_allclose(reduced.at_nodes[:, 1], lengths, rtol=1e-4)
    slope = np.gradient(references.evaluate(ENERGY, basis.soc) @ off_line, basis.soc, axis=0)
    along = np.einsum("ne,ne->n", slope, references.evaluate(ENERGY, basis.soc) @ off_line) / lengths
    expected = (slope**2).sum(axis=1) - along**2
    np.testing.assert_allclose(reduced.at_nodes[5:-5, 2], expected[5:-5], rtol=2e-2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.3))
def test_missing_values_anywhere_are_exact(seed, share):
    random = np.random.default_rng(seed)
    frames = stack((2, 3), seed=seed)
    frames[random.random(frames.shape) < share] = np.nan
    maps = fit_stack(ENERGY, frames, references=series())
    for r in range(2):
        for c in range(3):
            keep = np.isfinite(frames[:, r, c])
            alone = fit_stack(ENERGY[keep], frames[keep][:, r : r + 1, c : c + 1], references=series())
            assert maps.status[r, c] == alone.status[0, 0]
            np.testing.assert_allclose(maps.soc[r, c], alone.soc[0, 0], atol=2e-5)
            np.testing.assert_allclose(maps.soc_sigma[r, c], alone.soc_sigma[0, 0], rtol=2e-3)


def test_many_different_gaps_are_fast_enough_to_follow_a_scan():
    random = np.random.default_rng(14)
    frames = stack((40, 40), seed=14)
    frames[random.random(frames.shape) < 0.02] = np.nan
    fitter = EdgeFitter((40, 40), references=series())
    fitter.push(ENERGY, frames)
    maps = fitter.maps()
    assert maps.has_value.all()
    assert len(fitter._estimator._statistics.missing.histories()[2]) < 1700


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames():
    fitter, late = (EdgeFitter((64, 64), references=series()) for _ in range(2))
    frames = stack((64, 64), seed=15)
    held = []
    tracemalloc.start()
    repeats = 3000 // ENERGY.size
    for _ in range(repeats):
        fitter.push(ENERGY, frames)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(held[repeats // 2 :]) < 1.1 * max(held[: repeats // 2])
    late.push(ENERGY, frames)
    once = late.maps()
    late.merge(fitter)
    assert late.n_frames == (repeats + 1) * ENERGY.size
    assert late.maps().axis_offset_ev == pytest.approx(once.axis_offset_ev, abs=0.02)


def test_warm_up_changes_nothing():
    for method in METHODS:
        fitter = EdgeFitter((3, 3), method=method, references=series())
        fitter.warm_up()
        assert fitter.n_frames == 0
        assert fitter.maps().counts() == {"TOO_FEW_FRAMES": 9}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.push(8340.0, np.zeros((3, 3))), "made for"),
        (lambda f: f.push([8340.0, 8341.0], np.zeros((2, 3, 3))), "made for"),
        (lambda f: f.push(8.34, np.zeros((2, 2))), "keV"),
        (lambda f: f.push(np.nan, np.zeros((2, 2))), "not finite"),
        (lambda f: f.push(8340.0, np.zeros((2, 2)), weight=0.0), "positive"),
        (lambda f: f.push(8700.0, np.zeros((2, 2))), "references cover"),
        (
            lambda f: f.push_counts(8340.0, np.zeros((2, 2)), dark=np.zeros((2, 2)), flat=np.ones((2, 2))),
            "uint16",
        ),
        (
            lambda f: f.push_counts(
                8340.0, np.zeros((2, 3), np.uint16), dark=np.zeros((2, 2)), flat=np.ones((2, 2))
            ),
            "counts has shape",
        ),
        (
            lambda f: f.push_counts(
                8340.0, np.zeros((2, 2), np.uint16), dark=np.zeros((2, 2)), flat=np.ones((2, 3))
            ),
            "flat has shape",
        ),
        (
            lambda f: f.push_counts(
                8340.0, np.zeros((2, 2), np.uint16), dark=np.zeros((2, 2)), flat=np.ones((2, 2)), scale=-1
            ),
            "scale must be positive",
        ),
    ],
)
def test_bad_frames_are_refused_and_leave_no_trace(call, message):
    fitter = EdgeFitter((2, 2), references=series())
    with pytest.raises(EdgeFittingError, match=message):
        call(fitter)
    assert fitter.n_frames == 0


@pytest.mark.parametrize("shape", [(0, 3), (3,), "ab", (2.5, "x")])
def test_bad_shapes_are_refused(shape):
    with pytest.raises(EdgeFittingError, match="shape must be"):
        EdgeFitter(shape, references=series())


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="threads of compiled kernels")
def test_fitters_may_be_driven_from_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    frames = stack((32, 32), seed=16)
    expected = fit_stack(ENERGY, frames, references=series())

    def run(_):
        fitter = EdgeFitter((32, 32), references=series())
        for energy, frame in zip(ENERGY, frames, strict=True):
            fitter.push(energy, frame)
        return fitter.maps()

    with ThreadPoolExecutor(4) as pool:
        for maps in pool.map(run, range(8)):
            assert_same(maps, expected)


@pytest.mark.parametrize("shape", [(5, 7), (1, 40), (70, 33), (90, 3)])
@pytest.mark.parametrize("dof", [1, 3, 11])
def test_noise_of_neighbours_is_their_mean_square(shape, dof):
    random = np.random.default_rng(9)
    noise = random.random(shape).astype(np.float32)
    noise[random.random(shape) < 0.2] = np.nan
    found, together = pool_variance(noise.ravel(), dof, shape)
    reach = 1
    while (2 * reach + 1) ** 2 * dof < 40:
        reach += 1
    expected = np.full(shape, np.nan)
    for i, j in np.ndindex(shape):
        around = noise[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1].astype(float)
        if np.isfinite(around).any():
            expected[i, j] = np.nanmean(around**2)
    np.testing.assert_allclose(found.reshape(shape), expected, rtol=1e-9)
    assert together == dof * min(reach + 1, shape[0]) * min(reach + 1, shape[1])
