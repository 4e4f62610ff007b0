"""Window methods on unusual grids, weak edges and bulk spectra: a value with an honest sigma, or why there is none."""

import functools

import numpy as np
import pytest

from edge_fitting import EDGES, EdgeFitter, FitStatus, ReferenceSeries, fit_stack

METHODS = ("half_jump", "inflection", "white_line", "arctan_gauss", "lcf", "series")
SOC = np.linspace(0.0, 1.0, 5)


def oxide(energy, soc, edge="Ni_K", width=1.2):
    """Arctan edge with a white line, a small pre-edge peak and fading oscillations."""
    x = np.asarray(energy) - EDGES[edge].energy_ev
    rise = 9.0 + 2.0 * soc
    step = 0.5 + np.arctan((x - rise) / width) / np.pi
    white_line = (0.9 - 0.2 * soc) * np.exp(-0.5 * ((x - rise - 6.5) / 3.0) ** 2)
    beyond = np.clip(x - rise - 20.0, 0.0, None)
    return (
        step + white_line + 0.02 * np.exp(-0.5 * x**2) + 0.06 * np.sin(0.12 * beyond) * np.exp(-beyond / 120)
    )


def in_three_parts(n):
    n_pre, n_post = max(2, n // 7), max(3, n // 5)
    return np.r_[
        np.linspace(8250, 8310, n_pre),
        np.linspace(8325, 8365, n - n_pre - n_post),
        np.linspace(8420, 8600, n_post),
    ]


GRIDS = {
    **{f"parts_{n}": in_three_parts(n) for n in (12, 15, 21, 31, 41, 62)},
    **{f"even_{n}": np.linspace(8250, 8500, n) for n in (12, 21, 41, 81)},
    **{f"wide_{n}": np.linspace(8200, 8700, n) for n in (21, 41, 121)},
    **{f"short_{n}": np.linspace(8310, 8420, n) for n in (15, 21, 41, 62)},
}


@functools.cache
def series():
    fine = np.arange(8180.0, 8760.0, 0.5)
    return ReferenceSeries(fine, np.array([oxide(fine, s) for s in SOC]), SOC)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_pixel_that_is_ok_has_a_state(grid):
    energy, true = GRIDS[grid], np.linspace(0.05, 0.95, 7)
    clean = 0.5 + 0.8 * np.array([oxide(energy, s) for s in true]).T[:, None, :].repeat(4, axis=1)
    frames = clean + 0.004 * np.random.default_rng(1).standard_normal(clean.shape)
    for method in METHODS:
        maps = fit_stack(energy, frames, method=method, references=series())
        ok = maps.status == FitStatus.OK
        assert np.isfinite(maps.soc[ok]).all(), method
        assert np.isfinite(maps.soc_sigma[ok]).all(), method
        assert np.isnan(maps.soc[~maps.has_value]).all(), method
        if grid in ("parts_21", "parts_41", "parts_62", "short_41") and method in ("half_jump", "inflection"):
            assert ok.mean() > 0.95, method
            assert np.sqrt(np.mean((maps.soc - true)[ok] ** 2)) < 0.04, method


def test_references_without_the_feature_are_said():
    fine = np.arange(8180.0, 8760.0, 0.5)
    # The half-jump of these references lies above the window in which it is searched.
    away = ReferenceSeries(fine, np.array([oxide(fine - 12.0, s) for s in SOC]), SOC)
    energy = in_three_parts(62)
    frames = np.repeat(0.5 + 0.8 * oxide(energy, 0.5)[:, None, None], 3, axis=2)
    frames = frames + 0.002 * np.random.default_rng(0).standard_normal(frames.shape)
    maps = fit_stack(energy, frames, method="half_jump", references=away)
    assert maps.counts() == {"NOT_FOUND": 3}
    assert np.isnan(maps.edge_energy_ev).all()


@pytest.mark.parametrize("n_pixels", [1, 40])
def test_a_scan_that_begins_near_the_edge_has_its_pre_edge_there(n_pixels):
    energy = np.r_[np.arange(6520.0, 6630.5, 0.5)]
    clean = 0.4 * (6539.0 / energy) ** 3 + 0.7 * oxide(energy, 0.4, "Mn_K")
    frames = clean[:, None, None] + 0.004 * np.random.default_rng(2).standard_normal(
        (energy.size, n_pixels, n_pixels)
    )
    full = np.r_[np.arange(6300.0, 6520.0, 10.0), energy, np.arange(6640.0, 6900.0, 10.0)]
    whole = 0.4 * (6539.0 / full) ** 3 + 0.7 * oxide(full, 0.4, "Mn_K")
    for method in ("half_jump", "inflection", "white_line"):
        truth = fit_stack(full, whole[:, None, None], edge="Mn_K", method=method).edge_energy_ev[0, 0]
        maps = fit_stack(energy, frames, edge="Mn_K", method=method)
        assert (maps.status == FitStatus.OK).mean() > 0.99
        error = maps.edge_energy_ev.astype(float) - truth
        assert abs(np.nanmean(error)) < 0.25
        if n_pixels > 1:
            own = np.sqrt(np.nanmean(maps.edge_energy_sigma_ev.astype(float) ** 2))
            assert 0.8 < np.nanstd(error) / own < 1.2


@pytest.mark.parametrize("noise", [0.01, 0.018, 0.025])
def test_half_jump_of_weak_edges_is_found_with_an_honest_sigma(noise):
    energy = np.r_[
        np.arange(8180.0, 8315.0, 10.0), np.arange(8325.0, 8361.0), np.arange(8430.0, 8560.0, 10.0)
    ]
    clean = 1.1 * (8340.0 / energy) ** 3 + 0.35 * oxide(energy, 0.3, width=2.2)
    exact = fit_stack(energy, clean[:, None, None], method="half_jump").edge_energy_ev[0, 0]
    frames = clean[:, None, None] + noise * np.random.default_rng(3).standard_normal((energy.size, 60, 60))
    maps = fit_stack(energy, frames, method="half_jump")
    ok = maps.status == FitStatus.OK
    assert ok.mean() > 0.98
    pulls = (maps.edge_energy_ev.astype(float) - exact)[ok] / maps.edge_energy_sigma_ev[ok]
    assert 0.9 < pulls.std() < 1.15
    # Without an edge there is none.
    nothing = frames - 0.35 * oxide(energy, 0.3, width=2.2)[:, None, None]
    assert (fit_stack(energy, nothing, method="half_jump").status == FitStatus.NO_EDGE).mean() > 0.999


def test_two_rises_of_nearly_the_same_steepness_are_in_the_sigma_of_the_inflection():
    energy = np.r_[
        np.arange(8200.0, 8320.0, 10.0), np.arange(8326.0, 8362.0), np.arange(8420.0, 8580.0, 10.0)
    ]

    def two_rises(second):
        rises = [0.5 + np.arctan((energy - e) / 1.0) / np.pi for e in (8340.0, 8346.0)]
        return 0.3 + 0.6 * ((1.0 - second) * rises[0] + second * rises[1])

    for second in (0.5, 0.52):
        clean = two_rises(second)
        exact = fit_stack(energy, clean[:, None, None], method="inflection").edge_energy_ev[0, 0]
        frames = clean[:, None, None] + 0.012 * np.random.default_rng(4).standard_normal(
            (energy.size, 50, 50)
        )
        maps = fit_stack(energy, frames, method="inflection")
        ok = maps.status == FitStatus.OK
        error = (maps.edge_energy_ev - exact)[ok]
        rms = np.sqrt(np.mean(error**2))
        assert rms > 1.5
        assert 0.6 < rms / np.sqrt(np.mean(maps.edge_energy_sigma_ev[ok].astype(float) ** 2)) < 1.3


@pytest.mark.parametrize("step_ev", [2.0, 2.5, 3.0])
def test_two_rises_that_a_coarse_grid_shows_as_one_are_in_the_sigma_of_the_inflection(step_ev):
    rises_ev = np.array([8340.0, 8344.0])
    for off_ev in (0.0, 0.7):
        energy = np.r_[
            np.arange(8200.0, 8320.0, 10.0),
            np.arange(8326.0 + off_ev, 8362.0, step_ev),
            np.arange(8420.0, 8580.0, 10.0),
        ]
        clean = 0.3 + 0.3 * sum(0.5 + np.arctan((energy - rise) / 1.0) / np.pi for rise in rises_ev)
        frames = clean[:, None, None] + 0.004 * np.random.default_rng(4).standard_normal(
            (energy.size, 20, 20)
        )
        maps = fit_stack(energy, frames, method="inflection")
        found = maps.edge_energy_ev[maps.status == FitStatus.OK].astype(float)
        sigma = maps.edge_energy_sigma_ev[maps.status == FitStatus.OK].astype(float)
        nearest = np.abs(found[:, None] - rises_ev).min(axis=1)
        assert np.sqrt(np.mean((nearest / sigma) ** 2)) < 2.0


@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_arctan_gauss_fits_its_own_spectra(noise):
    random = np.random.default_rng(5)
    n = 400
    energy = np.r_[
        np.arange(8200.0, 8320.0, 10.0), np.arange(8326.0, 8362.0), np.arange(8370.0, 8580.0, 10.0)
    ]
    step = random.uniform(8338.0, 8347.0, n)
    jump, height = random.uniform(0.15, 1.5, n), random.uniform(0.1, 1.6, n)
    width, spread = np.exp(random.uniform(np.log(0.4), np.log(3.0), n)), random.uniform(1.2, 5.0, n)
    peak = step + random.uniform(3.5, 10.0, n)
    e = energy[:, None]
    clean = random.uniform(0.1, 2.0, n) - 0.08 * (e - 8343.0) / 100.0
    clean = clean + jump * (0.5 + np.arctan((e - step) / width) / np.pi)
    clean = clean + jump * height * np.exp(-0.5 * ((e - peak) / spread) ** 2)
    frames = clean + noise * jump * random.standard_normal(clean.shape)
    maps = fit_stack(energy, frames[:, None, :], method="arctan_gauss")
    ok = maps.status[0] == FitStatus.OK
    assert ok.mean() >= 0.98
    pulls = np.abs((maps.edge_energy_ev[0] - step)[ok] / maps.edge_energy_sigma_ev[0][ok])
    assert (pulls > 4.0).mean() < 0.01
    assert 0.85 < np.percentile(pulls, 68.3) < 1.15


@pytest.mark.parametrize("noise", [0.0005, 0.005])
def test_fine_structure_of_a_bulk_spectrum_is_not_noise(noise):
    energy = np.r_[
        np.arange(8180.0, 8320.0, 5.0), np.arange(8326.0, 8370.0, 0.5), np.arange(8372.0, 8900.0, 3.0)
    ]
    x = np.clip(energy - 8333.0 - 15.0, 0.0, None)
    structure = 0.12 * np.sin(1.1 * np.sqrt(x) + 0.4 * x**0.5) * np.exp(-x / 250.0)
    clean = 0.3 + 0.9 * (oxide(energy, 0.2) + structure)
    random = np.random.default_rng(6)
    alone = [
        fit_stack(
            energy, (clean + noise * random.standard_normal(energy.size))[:, None, None], method="half_jump"
        )
        for _ in range(80)
    ]
    assert all(maps.counts() == {"OK": 1} for maps in alone)
    found = np.array([maps.edge_energy_ev[0, 0] for maps in alone], dtype=float)
    own = np.sqrt(np.mean([float(maps.edge_energy_sigma_ev[0, 0]) ** 2 for maps in alone]))
    assert own < 0.05
    # The edge itself bends by some thousandths from frame to frame: of a spectrum without noise that is left.
    assert found.std() / own < 1.2
    if noise > 0.001:
        assert found.std() / own > 0.75
        noises = [float(maps.noise[0, 0]) for maps in alone]
        assert np.mean(noises) == pytest.approx(noise, rel=0.15)


def test_a_clean_spectrum_of_few_points_beside_the_edge_has_an_edge():
    energy = np.r_[
        np.linspace(8250, 8310, 5), np.arange(8324.0, 8361.0), np.linspace(8364, 8400, 10), 8440, 8490, 8540
    ]
    clean = 0.3 + 0.5 * oxide(energy, 0.5)
    noisy = clean + 0.002 * np.random.default_rng(7).standard_normal(energy.size)
    assert fit_stack(energy, noisy[:, None, None], method="half_jump").counts() == {"OK": 1}


@pytest.mark.parametrize(("n_pixels", "n_scans"), [(1, 60), (4, 40)])
def test_without_references_the_error_of_the_own_mean_spectrum_counts(n_pixels, n_scans):
    energy = np.r_[
        np.arange(8200.0, 8320.0, 10.0), np.arange(8326.0, 8362.0), np.arange(8370.0, 8580.0, 10.0)
    ]
    clean = 0.5 + 0.6 * oxide(energy, 0.2, width=2.0)
    exact = fit_stack(energy, clean[:, None, None].repeat(4, axis=2), method="series").edge_energy_ev[0, 0]
    random = np.random.default_rng(8)
    error, own = [], []
    for _ in range(n_scans):
        frames = clean[:, None, None] + 0.01 * random.standard_normal((energy.size, 1, n_pixels))
        maps = fit_stack(energy, frames, method="series")
        error.append(maps.edge_energy_ev[maps.has_value].astype(float) - exact)
        own.append(maps.edge_energy_sigma_ev[maps.has_value].astype(float))
    rms, sigma = (np.sqrt(np.mean(np.concatenate(values) ** 2)) for values in (error, own))
    assert 0.75 < rms / sigma < 1.3


@pytest.mark.parametrize("step", [3.0, 4.0])
@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_a_white_line_between_far_energies_has_the_states_that_it_allows_in_its_sigma(step, noise):
    random, pulls = np.random.default_rng(8), []
    for offset in (0.0, 0.3 * step, 0.7 * step):
        energy = np.r_[
            np.arange(8250.0, 8325.0, 15.0),
            np.arange(8328.0 + offset, 8372.0, step),
            np.arange(8385.0, 8590.0, 25.0),
        ]
        true = random.uniform(0.05, 0.95, (15, 15))
        clean = 0.3 + 0.8 * series().evaluate(energy, true.ravel()).T.reshape(-1, 15, 15)
        frames = clean + 0.8 * noise * random.standard_normal(clean.shape)
        maps = fit_stack(energy, frames, method="white_line", references=series())
        found = np.isfinite(maps.soc)
        assert found.mean() > 0.85
        pulls.append(((maps.soc - true) / maps.soc_sigma)[found])
    every = np.concatenate(pulls)
    # Before, up to 4.9; without noise to speak of, sigma also holds the residuals of the post-edge polynomial.
    assert 0.3 < np.sqrt(np.mean(every**2)) < 1.2
    assert np.mean(np.abs(every) < 2) > 0.95


def test_edge_energies_without_references_have_the_cost_of_far_energies_in_their_sigma():
    random = np.random.default_rng(9)
    fine = np.r_[
        np.arange(8250.0, 8320.0, 5.0), np.arange(8325.0, 8370.0, 0.1), np.arange(8380.0, 8600.0, 5.0)
    ]
    for method in ("half_jump", "inflection", "white_line", "arctan_gauss"):
        for step in (1.5, 3.0, 4.0):
            pulls = []
            for soc in (0.15, 0.35, 0.6, 0.85):
                truth = fit_stack(fine, oxide(fine, soc)[:, None, None], method=method).edge_energy_ev[0, 0]
                energy = np.r_[
                    np.arange(8250.0, 8315.0, 12.0),
                    np.arange(8325.0 + random.uniform(0, step), 8367.0, step),
                    np.arange(8385.0, 8600.0, 22.0),
                ]
                frames = 0.8 * oxide(energy, soc)[:, None, None] + 0.016 * random.standard_normal(
                    (energy.size, 9, 9)
                )
                maps = fit_stack(energy, frames, method=method)
                pulls.append(((maps.edge_energy_ev - truth) / maps.edge_energy_sigma_ev)[maps.has_value])
            assert np.sqrt(np.mean(np.concatenate(pulls) ** 2)) < 2.0, (method, step)


@pytest.mark.parametrize("step_ev", [4.0, 5.0])
def test_a_linear_combination_of_the_ends_is_calibrated_on_the_energies_of_the_scan(step_ev):
    true = np.linspace(0.05, 0.95, 16)
    for off_ev in (0.0, step_ev / 3.0):
        energy = np.r_[
            np.arange(8242.0, 8320.0, 13.0),
            np.arange(8322.0 + off_ev, 8370.0, step_ev),
            np.arange(8375.0, 8520.0, 20.0),
        ]
        clean = 0.3 + 0.8 * np.array([oxide(energy, s) for s in true]).T[:, None, :].repeat(20, axis=1)
        frames = clean + 0.002 * np.random.default_rng(1).standard_normal(clean.shape)
        fitter = EdgeFitter((20, 16), method="lcf", references=series())
        for k in range(energy.size):
            fitter.push(energy[k], frames[k])
        for maps in (fit_stack(energy, frames, method="lcf", references=series()), fitter.maps(final=True)):
            error = maps.soc - true
            assert abs(np.nanmean(error)) < 0.003
            assert np.sqrt(np.nanmean((error / maps.soc_sigma) ** 2)) < 1.2
