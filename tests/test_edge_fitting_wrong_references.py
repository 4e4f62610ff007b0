"""What maps say where positions are no states, mixtures no phases, and references too few or of something else."""

import functools

import numpy as np
import pytest

from edge_fitting import EDGES, ReferenceSeries, fit_stack

ENERGY = np.r_[np.arange(8250.0, 8320.0, 10.0), np.arange(8328.0, 8366.0), np.arange(8370.0, 8600.0, 15.0)]
SOC = np.linspace(0.0, 1.0, 5)


def spectrum(energy, soc, edge="Ni_K", move=2.0, shape=0.2):
    x = np.asarray(energy) - EDGES[edge].energy_ev - 9.0 - move * soc
    white_line = (0.9 - shape * soc) * np.exp(-0.5 * ((x - 6.5) / 3.0) ** 2)
    return 0.5 + np.arctan(x / 1.2) / np.pi + white_line


def references(edge="Ni_K", move=2.0, shape=0.2, soc=SOC):
    fine = np.r_[np.arange(-100.0, -20.0, 4.0), np.arange(-20.0, 60.0, 0.5), np.arange(60.0, 280.0, 5.0)]
    fine += EDGES[edge].energy_ev
    return ReferenceSeries(fine, [spectrum(fine, s, edge, move, shape) for s in soc], soc)


@functools.cache
def series():
    return references()


def frames(clean, noise, seed=0):
    values = 0.3 + 0.6 * clean + 0.6 * noise * np.random.default_rng(seed).standard_normal(clean.shape)
    return values.reshape(clean.shape[0], 30, -1).astype(np.float32)


def mixed(soc):
    first, last = series().evaluate(ENERGY, [0.0, 1.0])
    return np.outer(first, 1 - soc) + np.outer(last, soc)


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_mixtures_of_the_ends_are_told_from_intermediate_states(noise):
    soc = np.random.default_rng(1).uniform(0.0, 1.0, 900)
    single = series().evaluate(ENERGY, soc).T
    one = fit_stack(ENERGY, frames(single, noise), references=series())
    assert abs(one.mixture_share) < 3 * one.mixture_sigma
    assert one.warnings == ()
    two = fit_stack(ENERGY, frames(mixed(soc), noise), references=series())
    assert abs(two.mixture_share - 1.0) < 3 * two.mixture_sigma
    assert any("mixtures of its two end states" in said for said in two.warnings)
    half = np.where(np.arange(soc.size) % 2, single, mixed(soc))
    assert fit_stack(ENERGY, frames(half, noise), references=series()).mixture_share == pytest.approx(
        0.5, abs=0.15
    )


def test_where_mixtures_cannot_be_told_that_is_said():
    soc = np.random.default_rng(2).uniform(0.0, 1.0, 900)
    noisy = fit_stack(ENERGY, frames(mixed(soc), 0.5), references=series())
    assert noisy.mixture_share is None
    assert "noise" in noisy.mixture_reason
    ends = fit_stack(ENERGY, frames(mixed(soc), 0.01), references=references(soc=[0.0, 1.0]))
    assert ends.mixture_share is None
    assert "two references" in ends.mixture_reason
    fine = series().energy_ev
    first, last = series().evaluate(fine, [0.0, 1.0])
    straight = ReferenceSeries(fine, [(1 - s) * first + s * last for s in SOC], SOC)
    same = fit_stack(ENERGY, frames(mixed(soc), 0.01), references=straight)
    assert "straight line" in same.mixture_reason


def test_a_position_that_is_not_the_valence_is_said():
    clean = np.repeat(spectrum(ENERGY, 0.4)[:, None], 900, axis=1)
    for method in ("half_jump", "inflection", "white_line", "arctan_gauss"):
        assert fit_stack(ENERGY, frames(clean, 0.01), method=method, references=series()).warnings == ()
    shaped = references(move=0.8, shape=0.6)
    said = fit_stack(ENERGY, frames(clean, 0.01), method="half_jump", references=shaped).warnings
    assert any("of the shape" in one and "half_jump is not the valence" in one for one in said)
    # The series uses the shape, and says nothing of it.
    assert not any(
        "valence" in one for one in fit_stack(ENERGY, frames(clean, 0.01), references=shaped).warnings
    )
    for edge in ("Co_K", "Mn_K"):
        energy = ENERGY - EDGES["Ni_K"].energy_ev + EDGES[edge].energy_ev
        clean = np.repeat(spectrum(energy, 0.4, edge)[:, None], 900, axis=1)
        for method in ("half_jump", "series"):
            said = fit_stack(energy, frames(clean, 0.01), edge=edge, method=method).warnings
            assert any("not the valence" in one for one in said)


def test_a_series_that_ends_too_soon_is_said():
    soc = np.random.default_rng(3).uniform(0.0, 1.0, 900)
    clean = series().evaluate(ENERGY, soc).T
    narrow = references(soc=[0.0, 0.15, 0.3, 0.4])
    for method in ("series", "lcf", "half_jump"):
        said = fit_stack(ENERGY, frames(clean, 0.01), method=method, references=narrow).warnings
        assert any("clearly above the last reference" in one for one in said), method
        assert not any("below the first" in one for one in said), method


def test_an_axis_that_is_off_is_not_taken_for_a_mixture():
    soc = np.random.default_rng(4).uniform(0.1, 0.9, 900)
    for offset_ev in (0.5, -0.5, 1.0):
        clean = series().evaluate(ENERGY - offset_ev, soc).T
        maps = fit_stack(ENERGY, frames(clean, 0.01), references=series())
        assert not any("mixtures" in said for said in maps.warnings)
        assert maps.axis_offset_ev == pytest.approx(offset_ev, abs=0.05)
