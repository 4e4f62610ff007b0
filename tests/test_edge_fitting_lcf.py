"""Linear combination of references: against NumPy, SciPy's non-negative least squares and Monte Carlo."""

import numpy as np
import pytest
from scipy.optimize import nnls

from edge_fitting import EdgeFittingError, FitStatus, ReferenceSeries, fit_lcf, fit_stack

ENERGY = np.concatenate(
    [np.arange(8200.0, 8320.0, 10.0), np.arange(8330.0, 8362.0, 1.0), np.arange(8370.0, 8560.0, 10.0)]
)


def references(n):
    edges = 8341.0 + 1.7 * np.arange(n) + 0.3 * np.arange(n) ** 2
    x = ENERGY - edges[:, None]
    height = 0.4 + 0.15 * np.arange(n)[:, None] * np.array([1, -1])[np.arange(n) % 2][:, None]
    mu = 0.5 + np.arctan(x / 1.5) / np.pi + height * np.exp(-(((x - 7.0) / 3.5) ** 2))
    return ReferenceSeries(ENERGY, mu, np.linspace(0.0, 1.0, n))


def mixture(series, weights, *, noise=0.0, seed=0):
    weights = np.asarray(weights)
    clean = np.tensordot(series.mu, weights, axes=(0, 0)) + 0.3
    clean += (-0.05 * (ENERGY - 8340.0) / 100.0).reshape(-1, *[1] * (clean.ndim - 1))
    return clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_weights_come_back(n):
    series = references(n)
    weights = np.random.default_rng(n).random((n, 4, 5))
    maps = fit_lcf(ENERGY, mixture(series, weights), series)
    np.testing.assert_allclose(maps.weights, weights, atol=2e-4)
    np.testing.assert_allclose(maps.edge_jump, weights.sum(axis=0), rtol=1e-4)
    np.testing.assert_allclose(maps.fractions.sum(axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        maps.soc, np.tensordot(series.soc, weights / weights.sum(axis=0), axes=1), atol=2e-4
    )
    assert np.nanmax(maps.r_factor) < 1e-9


@pytest.mark.parametrize("constraint", ["none", "sum_to_one", "non_negative"])
def test_sigmas_hold(constraint):
    series = references(3)
    weights = np.broadcast_to(np.array([0.5, 0.2, 0.3])[:, None, None], (3, 110, 110))
    maps = fit_lcf(ENERGY, mixture(series, weights, noise=0.005), series, constraint=constraint)
    error = maps.weights - weights
    assert np.isfinite(error).all()
    for k in range(3):
        assert np.std(error[k]) == pytest.approx(np.median(maps.weights_sigma[k]), rel=0.1)
        assert abs(error[k].mean()) < 0.1 * np.std(error[k])
    assert np.std(maps.soc) == pytest.approx(np.median(maps.soc_sigma), rel=0.1)
    if constraint == "sum_to_one":
        np.testing.assert_allclose(maps.edge_jump, 1.0, rtol=1e-5)


def test_sum_to_one_is_tighter():
    series = references(2)
    weights = np.broadcast_to(np.array([0.4, 0.6])[:, None, None], (2, 60, 60))
    frames = mixture(series, weights, noise=0.01)
    free = fit_lcf(ENERGY, frames, series)
    tied = fit_lcf(ENERGY, frames, series, constraint="sum_to_one")
    assert tied.weights[0].std() < free.weights[0].std()


def test_non_negative_agrees_with_scipy():
    series = references(4)
    weights = np.random.default_rng(8).normal(0.2, 0.3, (4, 6, 6))
    frames = mixture(series, weights, noise=0.01, seed=8)
    maps = fit_lcf(ENERGY, frames, series, constraint="non_negative")
    # The line is free in sign: a positive and a negative copy of each of its functions.
    line = np.stack([np.ones_like(ENERGY), (ENERGY - 8340.0) / 100.0])
    design = np.concatenate([line, -line, series.mu]).T
    checked = 0
    for r in range(6):
        for c in range(6):
            if maps.status[r, c] != FitStatus.OK:
                continue
            expected = nnls(design, frames[:, r, c].astype(np.float32).astype(float))[0][4:]
            np.testing.assert_allclose(maps.weights[:, r, c], expected, atol=2e-4)
            checked += 1
    assert checked > 20
    assert (maps.weights[np.isfinite(maps.weights)] >= 0).all()


@pytest.mark.parametrize(
    ("truth", "weights_within"),
    [
        ((1.0, 0.0), 1.2),
        ((0.99, 0.01), 1.2),
        ((0.0, 1.0, 0.0), 1.2),
        ((0.5, 0.0, 0.0, 0.5), 1.4),
        ((1.0, 0.0, 0.0), 1.7),
    ],
)
def test_a_weight_that_is_held_at_zero_has_an_honest_sigma(truth, weights_within):
    """Root mean square of the errors of many pixels, as stated: never less, and little more."""
    series, noise = references(len(truth)), 0.02
    weights = np.broadcast_to(np.array(truth)[:, None, None], (len(truth), 70, 70))
    maps = fit_lcf(ENERGY, mixture(series, weights, noise=noise, seed=2), series, constraint="non_negative")
    assert (maps.status == FitStatus.OK).all()
    alone = (maps.weights > 0).sum(axis=0) == 1
    assert alone.mean() > 0.1 or max(truth) < 1.0
    assert (maps.soc_sigma[alone] > 0.2 * np.median(maps.soc_sigma)).all()

    def ratio(values, sigma, expected):
        error = (values - np.asarray(expected).reshape(-1, *[1] * 2)) ** 2
        return np.sqrt((sigma**2).reshape(error.shape).mean((1, 2)) / error.mean((1, 2)))

    assert np.isfinite(maps.weights_sigma).all()
    of_weights = ratio(maps.weights, maps.weights_sigma, truth)
    assert ((of_weights > 0.95) & (of_weights < weights_within)).all(), of_weights
    of_soc = ratio(maps.soc, maps.soc_sigma, series.soc @ np.array(truth))
    assert 0.95 < of_soc[0] < 1.3
    of_jump = ratio(maps.edge_jump, maps.edge_jump_sigma, sum(truth))
    assert 0.95 < of_jump[0] < 1.15


def test_a_weight_far_from_zero_does_not_notice_the_constraint():
    series = references(3)
    weights = np.broadcast_to(np.array([0.4, 0.3, 0.3])[:, None, None], (3, 4, 4))
    frames = mixture(series, weights, noise=1e-3)
    free, held = (fit_lcf(ENERGY, frames, series, constraint=c) for c in ("none", "non_negative"))
    for name in ("weights", "weights_sigma", "soc", "soc_sigma", "edge_jump_sigma"):
        np.testing.assert_allclose(getattr(held, name), getattr(free, name), rtol=1e-4)


def test_references_that_look_alike_are_named():
    series = references(3)
    frames = mixture(series, np.full((3, 2, 2), 0.3), noise=1e-3)
    assert fit_lcf(ENERGY, frames, series).warnings == ()

    def said(mu, energy=ENERGY, constraint="none"):
        alike = ReferenceSeries(ENERGY, mu, np.array([0.0, 0.4, 0.5, 1.0]))
        keep = np.isin(ENERGY, energy)
        maps = fit_lcf(energy, frames[keep], alike, constraint=constraint)
        return "".join(maps.warnings), maps

    nearly = series.mu[1] + 1e-3 * np.sin(ENERGY)
    text, maps = said(np.stack([series.mu[0], series.mu[1], nearly, series.mu[2]]))
    assert "references 2 and 3 (states 0.4 and 0.5) can hardly be told apart" in text
    condition = float(text.split("condition number of all references ")[1].split(",")[0])
    design = np.stack([series.mu[0], series.mu[1], nearly, series.mu[2]]).T
    line = np.stack([np.ones_like(ENERGY), ENERGY - 8340.0]).T
    left = design - line @ np.linalg.lstsq(line, design)[0]
    assert condition == pytest.approx(np.linalg.cond(left / np.linalg.norm(left, axis=0)), rel=0.1)
    assert (maps.status == FitStatus.OK).all()
    # Two that are the same, and, at energies far above the edge, all.
    text, maps = said(
        np.stack([series.mu[0], series.mu[1], series.mu[1], series.mu[2]]), constraint="non_negative"
    )
    assert "references 2 and 3 (states 0.4 and 0.5) cannot be told apart" in text
    assert not (maps.status == FitStatus.OK).any()
    # A mixture of two others.
    text, _ = said(np.stack([series.mu[0], 0.5 * (series.mu[0] + series.mu[2]), series.mu[1], series.mu[2]]))
    assert "references" in text


def test_missing_frames_and_bad_pixels():
    series = references(3)
    weights = np.broadcast_to(np.array([0.2, 0.2, 0.2])[:, None, None], (3, 1, 5))
    frames = mixture(series, weights, noise=0.002)
    frames[[4, 30], 0, 1] = np.nan
    frames[:, 0, 2] = np.nan
    frames[:, 0, 3] = 0.3 + 0.002 * np.random.default_rng(1).standard_normal(ENERGY.size)
    frames[:, 0, 4] = 1.0 - frames[:, 0, 0]
    maps = fit_lcf(ENERGY, frames, series)
    assert maps.status[0].tolist() == [0, 0, FitStatus.NO_DATA, FitStatus.NO_EDGE, FitStatus.INVERTED]
    keep = np.setdiff1d(np.arange(ENERGY.size), [4, 30])
    alone = fit_lcf(ENERGY[keep], frames[keep][:, :, 1:2], series)
    np.testing.assert_allclose(maps.weights[:, 0, 1], alone.weights[:, 0, 0], rtol=1e-5)
    assert np.isnan(maps.weights[:, 0, 2:]).all()
    assert np.isnan(maps.soc[0, 2:]).all()


def test_end_members_are_calibrated_on_the_members_between():
    # A spectrum in the middle of a shifting series is no half-and-half mixture of its ends.
    soc = np.linspace(0.0, 1.0, 9)
    x = ENERGY - (8342.0 + 3.0 * soc[:, None] ** 1.5)
    mu = 0.5 + np.arctan(x / 1.5) / np.pi + 0.6 * np.exp(-(((x - 7.0) / 3.5) ** 2))
    series = ReferenceSeries(ENERGY, mu, soc)
    maps = fit_stack(ENERGY, 0.3 + 0.5 * mu.T[:, :, None], references=series, method="lcf")
    np.testing.assert_allclose(maps.soc[:, 0], soc, atol=2e-3)


def test_bad_requests_are_refused():
    series = references(3)
    frames = np.zeros((ENERGY.size, 1, 1))
    with pytest.raises(EdgeFittingError, match="constraint must be"):
        fit_lcf(ENERGY, frames, series, constraint="positive")
    many = ReferenceSeries(
        ENERGY, np.repeat(series.mu, 3, axis=0) + 1e-3 * np.arange(9)[:, None], np.arange(9.0)
    )
    with pytest.raises(EdgeFittingError, match="2 to 6 references"):
        fit_lcf(ENERGY, frames, many)
    assert fit_lcf(ENERGY[:4], frames[:4], series).status[0, 0] in (FitStatus.TOO_FEW_FRAMES, FitStatus.FLAT)
