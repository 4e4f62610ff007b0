"""Series made of real repeats: a smooth curve, its uncertainty, and references that do not belong."""

import re

import numpy as np
import pytest

from edge_fitting import EdgeFitter, EdgeFittingError, ReferenceSeries, fit_lcf, fit_stack
from tests.test_edge_fitting_axis_offset import scan, spectrum
from tests.test_edge_fitting_series import GRID


def repeats(
    rng: np.random.Generator, *, n_states: int = 4, each: int = 2, gap: float = 0.0, shift_ev: float = 0.1
) -> ReferenceSeries:
    """Some spectra of each state, each with a calibration, a step and noise of its own."""
    soc = np.repeat(np.linspace(0.0, 1.0, n_states), each) + gap * np.tile(np.arange(each), n_states)
    off = shift_ev * rng.standard_normal(soc.size)
    mu = np.stack([spectrum(GRID - d, s) for d, s in zip(off, soc, strict=True)])
    step = 1.0 + 0.01 * rng.standard_normal((soc.size, 1))
    return ReferenceSeries(GRID, step * mu + 0.005 * rng.standard_normal(mu.shape), soc)


def test_pairs_are_averaged_and_their_scatter_is_the_systematic_error() -> None:
    inside, wider, n = 0, [], 100
    for seed in range(n):
        rng = np.random.default_rng(seed)
        series = repeats(rng, gap=0.03 * (seed % 2))
        true = np.full((10, 10), rng.uniform(0.1, 0.9))
        stack = 0.4 + 0.8 * np.moveaxis(spectrum(GRID, true), -1, 0)
        stack = (stack + 0.02 * rng.standard_normal(stack.shape)).astype(np.float32)
        maps = fit_stack(GRID, stack, references=series)
        assert maps.soc_systematic is not None
        error = maps.soc - true
        inside += abs(np.nanmean(error)) <= maps.soc_systematic
        wider.append(np.nanstd(error) / np.sqrt(np.nanmean(maps.soc_sigma**2)))
    assert 0.56 <= inside / n <= 0.80
    assert np.median(wider) <= 1.1
    assert np.quantile(wider, 0.98) <= 1.3


def test_the_scatter_over_all_states_is_in_sigma() -> None:
    soc, stack = scan()
    squares = []
    for seed in range(20):
        maps = fit_stack(GRID, stack, references=repeats(np.random.default_rng(seed)))
        error = maps.soc - soc
        squares.append((np.nanvar(error), np.nanmean(maps.soc_sigma**2)))
    scatter, sigma = np.sqrt(np.mean(squares, axis=0))
    assert 0.8 * sigma <= scatter <= 1.3 * sigma


def test_live_maps_and_stacks_say_the_same() -> None:
    _, stack = scan()
    series = repeats(np.random.default_rng(1))
    whole = fit_stack(GRID, stack, references=series)
    fitter = EdgeFitter(stack.shape[1:], references=series)
    for k in range(GRID.size):
        fitter.push(GRID[k], stack[k])
    live = fitter.maps()
    assert live.soc_systematic == pytest.approx(whole.soc_systematic, rel=0.02)
    np.testing.assert_allclose(live.soc_sigma, whole.soc_sigma, rtol=0.02)
    fixed = fit_stack(GRID, stack, references=series, axis_offset=0.0)
    assert fixed.soc_systematic == pytest.approx(whole.soc_systematic, rel=0.3)


def test_clean_references_are_met_and_add_nothing() -> None:
    states = np.linspace(0.0, 1.0, 9)
    series = ReferenceSeries(GRID, spectrum(GRID, states), states)
    np.testing.assert_allclose(series.evaluate(GRID, states), series.mu, atol=2e-4)
    assert series.warnings == ()
    _, stack = scan()
    assert fit_stack(GRID, stack, references=series, axis_offset=0.0).soc_systematic is None
    twice = ReferenceSeries(GRID, spectrum(GRID, np.repeat(states, 2)), np.repeat(states, 2))
    np.testing.assert_allclose(twice.evaluate(GRID, 0.37), series.evaluate(GRID, 0.37), atol=2e-4)
    assert ReferenceSeries.from_dict(twice.to_dict()).states.size == 9


def test_every_method_takes_repeats() -> None:
    soc, stack = scan()
    series = repeats(np.random.default_rng(3), shift_ev=0.02)
    for method in ("series", "lcf", "half_jump"):
        maps = fit_stack(GRID, stack, references=series, method=method)  # type: ignore[arg-type]
        assert abs(np.nanmedian(maps.soc - soc)) < 0.06, method
    assert fit_lcf(GRID, stack, series).weights.shape[0] == 4
    with pytest.raises(EdgeFittingError, match="two different ones"):
        ReferenceSeries(GRID, series.mu[:2], [0.5, 0.5])


def other_phase() -> np.ndarray:
    """A spectrum that no state of the series has: a sharp white line and a deep dip behind it."""
    line = 1.3 * np.exp(-(((GRID - 8349.0) / 2.0) ** 2)) - 0.25 * np.exp(-(((GRID - 8362.0) / 6.0) ** 2))
    return np.asarray(0.5 + np.arctan((GRID - 8343.5) / 1.6) / np.pi + line)


@pytest.mark.parametrize("noise", [0.0, 0.005])
@pytest.mark.parametrize(
    ("place", "wrong", "said"),
    [
        (3, other_phase(), "of the jump"),
        (0, other_phase(), "of the jump"),
        (7, other_phase(), "of the jump"),
        (4, spectrum(GRID - 1.0, np.array(4 / 7)), r"its axis is \+(0\.9|1\.[01])"),
        (5, spectrum(GRID, np.array(0.2)), r"its spectrum is that of 0\.(1[5-9]|2[0-5])"),
        (None, None, ""),
    ],
)
def test_references_that_do_not_belong_are_named(
    place: int | None, wrong: np.ndarray, said: str, noise: float
) -> None:
    rng = np.random.default_rng(2)
    soc = np.linspace(0.0, 1.0, 8)
    mu = spectrum(GRID, soc)
    if place is not None:
        mu[place] = wrong
    sources = [{"name": f"sample {k}"} for k in range(8)]
    series = ReferenceSeries(GRID, mu + noise * rng.standard_normal(mu.shape), soc, sources=sources)
    if place is None:
        assert series.warnings == ()
        return
    (warning,) = series.warnings
    assert f"'sample {place}'" in warning
    assert re.search(said, warning)
    _, stack = scan()
    assert warning in fit_stack(GRID, stack, references=series).warnings


@pytest.mark.parametrize(("share", "is_said"), [(0.0, False), (0.3, True), (1.0, True)])
def test_a_phase_that_the_references_do_not_have_is_said(share: float, is_said: bool) -> None:
    soc, stack = scan()
    states = np.linspace(0.0, 1.0, 9)
    series = ReferenceSeries(GRID, spectrum(GRID, states), states)
    own = np.moveaxis(spectrum(GRID, soc), -1, 0)
    mixed = (stack + 0.8 * share * (other_phase()[:, None, None] - own)).astype(np.float32)
    fitter = EdgeFitter(mixed.shape[1:], references=series)
    for k in range(GRID.size):
        fitter.push(GRID[k], mixed[k])
    for maps in (fit_stack(GRID, mixed, references=series, axis_offset="fit"), fitter.maps()):
        found = [said for said in maps.warnings if "not those of the references" in said or "axis" in said]
        assert bool(found) == is_said, maps.warnings
