"""References learnt from a scan against the end members that made it."""

import numpy as np
import pytest

from edge_fitting import EDGES, EdgeFittingError, fit_stack, learn_references

ENERGY = np.r_[np.arange(8250.0, 8320.0, 10.0), np.arange(8328.0, 8366.0), np.arange(8370.0, 8600.0, 15.0)]


def ends():
    first, last = (ENERGY - EDGES["Ni_K"].energy_ev - 9.0 - move for move in (0.0, 2.0))
    return np.array(
        [
            0.5 + np.arctan(x / 1.2) / np.pi + height * np.exp(-0.5 * ((x - 6.5) / 3.0) ** 2)
            for x, height in ((first, 0.9), (last, 0.7))
        ]
    )


def scan(part, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    jump = rng.uniform(0.3, 0.8, part.size)
    clean = 0.2 + jump * (np.outer(ends()[0], 1 - part) + np.outer(ends()[1], part))
    return (
        (clean + noise * jump * rng.standard_normal(clean.shape))
        .reshape(ENERGY.size, 30, -1)
        .astype(np.float32)
    )


def test_end_members_that_are_in_the_scan_are_found():
    part = np.clip(np.random.default_rng(1).uniform(-0.2, 1.2, 900), 0.0, 1.0)
    stack = scan(part)
    shuffled = np.random.default_rng(2).permutation(ENERGY.size)
    learned = learn_references(ENERGY[shuffled], stack[shuffled])
    assert learned.series.soc.tolist() == [0.0, 1.0]
    maps = fit_stack(ENERGY, stack, references=learned.series)
    found = np.isfinite(maps.soc)
    assert found.mean() > 0.95
    error = (maps.soc - part.reshape(maps.shape))[found]
    assert abs(error.mean()) < 0.05
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert 0.0 < learned.soc_systematic < 0.5
    assert "purest pixels" in learned.warnings[0]


def test_without_pure_pixels_the_scale_is_off_by_no_more_than_is_said():
    part = np.random.default_rng(3).uniform(0.15, 0.85, 900)
    stack = scan(part, noise=0.01)
    learned = learn_references(ENERGY, stack)
    maps = fit_stack(ENERGY, stack, references=learned.series)
    off = (maps.soc - part.reshape(maps.shape))[np.isfinite(maps.soc)]
    assert 0.05 < np.abs(off).max() < learned.soc_systematic + 0.15
    assert np.corrcoef(maps.soc.ravel(), part)[0, 1] > 0.97


def test_what_cannot_be_learnt_is_said():
    part = np.random.default_rng(4).uniform(0.0, 1.0, 900)
    stack = scan(part)
    with pytest.raises(EdgeFittingError, match="do not differ"):
        learn_references(ENERGY, scan(np.full(900, 0.5)))
    with pytest.raises(EdgeFittingError, match="beyond the white line"):
        learn_references(ENERGY[:40], stack[:40])
    with pytest.raises(EdgeFittingError, match="0 pixels have an edge"):
        learn_references(ENERGY, np.full_like(stack, np.nan))
    with pytest.raises(EdgeFittingError, match="differ"):
        learn_references(np.r_[ENERGY, ENERGY[:1]], np.concatenate([stack, stack[:1]]))
