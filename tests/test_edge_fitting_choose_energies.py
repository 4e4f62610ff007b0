"""The chosen frames are the best there are, and give what is promised."""

from itertools import combinations_with_replacement
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from edge_fitting import (
    EdgeFitter,
    EdgeFittingError,
    EnergyChooser,
    ReferenceSeries,
    calibration_bias,
    choose_energies,
    expected_sigma,
    fit_stack,
    optical_depth_sigma,
)

NMC622_62 = np.concatenate(
    [np.arange(8200.0, 8321, 10), np.arange(8330.0, 8356), np.arange(8365.0, 8576, 10), [8630.0]]
)


def spectrum(energy: np.ndarray, soc: float, shift: float = 0.0) -> np.ndarray:
    """A Ni K edge that moves, sharpens and loses its shoulder with the state of charge."""
    e = energy - shift
    edge = 8344.0 + 1.2 * soc
    step = 0.5 + np.arctan((e - edge) / 1.6) / np.pi
    top = edge + 6.0 + 1.4 * soc
    white_line = (0.55 + 0.1 * soc) * np.exp(-0.5 * ((e - top) / 3.0) ** 2)
    return step + white_line + 0.1 * np.exp(-0.5 * ((e - 8372.0) / 8.0) ** 2)


@pytest.fixture(scope="module")
def series() -> ReferenceSeries:
    soc = np.linspace(0.0, 1.0, 7)
    return ReferenceSeries(NMC622_62, np.stack([spectrum(NMC622_62, s) for s in soc]), soc)


def variance_by_hand(
    series: ReferenceSeries, energies: np.ndarray, soc: float, sigma: np.ndarray | float
) -> float:
    """Cramer-Rao bound from numerical derivatives of the public model."""
    step = 1e-4
    energies = np.asarray(energies)
    slope = (series.evaluate(energies, soc + step) - series.evaluate(energies, soc - step)) / (2 * step)
    design = np.stack(
        [slope, series.evaluate(energies, soc), np.ones(energies.size), energies - 8400.0], axis=1
    )
    return float(
        np.linalg.inv(design.T @ (design / np.square(np.broadcast_to(sigma, energies.shape))[:, None]))[0, 0]
    )


def scipy_fits(series: ReferenceSeries, energies: np.ndarray, od: np.ndarray, start: float) -> np.ndarray:
    """States of charge by scipy's least squares, one pixel after the other."""
    x = (energies - 8400.0) / 100.0
    nodes = np.linspace(-0.5, 1.5, 401)
    table = series.evaluate(energies, nodes)

    def model(p: np.ndarray) -> np.ndarray:
        place = np.clip((p[0] - nodes[0]) / (nodes[1] - nodes[0]), 0, nodes.size - 1.001)
        k = int(place)
        reference = table[k] + (place - k) * (table[k + 1] - table[k])
        return p[2] + p[3] * x + p[1] * reference

    return np.array(
        [least_squares(lambda p, y=y: model(p) - y, [start, 1.0, 0.0, 0.0], method="lm").x[0] for y in od.T]
    )


def simulate(
    series: ReferenceSeries, energies: np.ndarray, soc: float, sigma: float, n: int, seed: int
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    clean = 0.3 - 0.0005 * (energies - 8400.0) + series.evaluate(energies, soc)
    return clean[:, None] + sigma * rng.standard_normal((energies.size, n))


def test_expected_sigma_is_the_cramer_rao_bound(series: ReferenceSeries) -> None:
    for soc in (0.1, 0.5, 0.93):
        by_hand = np.sqrt(variance_by_hand(series, NMC622_62, soc, 0.03 / 0.7))
        assert expected_sigma(NMC622_62, series, 0.7, 0.03, soc=soc) == pytest.approx(by_hand, rel=1e-5)


def test_expected_sigma_takes_a_sigma_per_energy(series: ReferenceSeries) -> None:
    sigma = np.linspace(0.02, 0.06, NMC622_62.size)
    by_hand = np.sqrt(variance_by_hand(series, NMC622_62, 0.4, sigma))
    assert expected_sigma(NMC622_62, series, 1.0, sigma, soc=0.4) == pytest.approx(by_hand, rel=1e-5)


def test_expected_sigma_counts_repeats_and_exposures(series: ReferenceSeries) -> None:
    once = expected_sigma(NMC622_62, series, 1.0, 0.03)
    assert expected_sigma(np.tile(NMC622_62, 4), series, 1.0, 0.03) == pytest.approx(once / 2)
    assert expected_sigma(NMC622_62, series, 1.0, 0.03, weights=np.full(62, 4.0)) == pytest.approx(once / 2)
    # A grid's exposures are relative to their mean.
    long = SimpleNamespace(energies_ev=tuple(NMC622_62), exposure_s=(0.5,) * 61 + (2.0,))
    exposure = np.array(long.exposure_s)
    assert expected_sigma(long, series, 1.0, 0.03) == pytest.approx(
        expected_sigma(NMC622_62, series, 1.0, 0.03, weights=exposure / exposure.mean())
    )


def test_too_few_energies_are_infinitely_uncertain(series: ReferenceSeries) -> None:
    assert expected_sigma([8300.0, 8345.0, 8345.0, 8345.0, 8600.0], series, 1.0, 0.03) == np.inf
    assert calibration_bias([8300.0, 8345.0, 8600.0], series, 0.3) == np.inf


@pytest.mark.parametrize("n_frames", [4, 5, 6])
def test_as_good_as_trying_every_choice(series: ReferenceSeries, n_frames: int) -> None:
    candidates = np.array([8200.0, 8300.0, 8342.0, 8346.0, 8350.0, 8353.0, 8400.0, 8500.0])
    step = 1e-4
    designs = []
    for soc in np.linspace(0, 1, 11):
        slope = (series.evaluate(candidates, soc + step) - series.evaluate(candidates, soc - step)) / (
            2 * step
        )
        x = (candidates - 8400.0) / 200.0
        designs.append(np.stack([slope, series.evaluate(candidates, soc), np.ones_like(x), x], axis=1))
    choices = [
        choice
        for choice in combinations_with_replacement(range(candidates.size), n_frames)
        if len(set(choice)) >= 4 and choice[0] < 2 and choice[-1] >= 7
    ]
    rows = np.array(designs)[:, np.array(choices)]
    best = 0.03**2 * np.linalg.inv(np.swapaxes(rows, 2, 3) @ rows)[..., 0, 0].mean(axis=0).min()
    chosen = choose_energies(series, n_frames, 1.0, 0.03, candidates_ev=candidates, calibration_error_ev=0.0)
    assert chosen.expected_sigma <= 1.02 * np.sqrt(best)
    assert chosen.expected_sigma >= 0.999 * np.sqrt(best)


def relaxed_bound(series: ReferenceSeries, states: np.ndarray) -> float:
    """Least variance of one frame's worth of dose if frames could be divided (multiplicative algorithm)."""
    step = 1e-4
    designs = []
    for s in states:
        slope = (series.evaluate(NMC622_62, s + step) - series.evaluate(NMC622_62, s - step)) / (2 * step)
        x = (NMC622_62 - 8400.0) / 200.0
        designs.append(np.stack([slope, series.evaluate(NMC622_62, s), np.ones_like(x), x], axis=1))
    designs = np.array(designs)
    share = np.full(NMC622_62.size, 1.0 / NMC622_62.size)
    for _ in range(3000):
        covariance = np.linalg.inv(np.einsum("sni,n,snj->sij", designs, share, designs))
        pull = np.einsum("sni,si->sn", designs, covariance[:, :, 0]) ** 2
        gradient = pull.mean(axis=0)
        share *= np.sqrt(gradient)
        share /= share.sum()
    # Kiefer and Wolfowitz: the criterion cannot fall below criterion * (2 - max gradient / criterion).
    criterion = float(covariance[:, 0, 0].mean())
    return criterion * (2.0 - float(gradient.max()) / criterion)


def test_close_to_what_any_choice_could_reach(series: ReferenceSeries) -> None:
    states = np.linspace(0, 1, 11)
    bound = np.sqrt(relaxed_bound(series, states))
    for n_frames, excess in ((8, 1.12), (16, 1.08), (62, 1.03)):
        chosen = choose_energies(series, n_frames, 1.0, 1.0, calibration_error_ev=0.0)
        assert bound / np.sqrt(n_frames) <= chosen.expected_sigma <= excess * bound / np.sqrt(n_frames)


@pytest.mark.slow
def test_sixteen_frames_give_what_the_62_point_grid_gives(series: ReferenceSeries) -> None:
    sigma, n = 0.03, 500
    chosen = choose_energies(series, 16, 1.0, sigma)
    assert len(chosen) == 16
    assert chosen.expected_sigma <= expected_sigma(NMC622_62, series, 1.0, sigma)
    for soc in (0.2, 0.5, 0.8):
        rms = {}
        for name, energies in (("16", np.array(chosen.energies_ev)), ("62", NMC622_62)):
            od = simulate(series, energies, soc, sigma, n, seed=round(100 * soc))
            error = scipy_fits(series, energies, od, start=0.5) - soc
            rms[name] = np.sqrt(np.mean(error**2))
            # Monte Carlo of 500 knows an RMS to 3.2 %.
            assert rms[name] == pytest.approx(expected_sigma(energies, series, 1.0, sigma, soc=soc), rel=0.1)
        assert rms["16"] < 1.02 * rms["62"]


@pytest.mark.parametrize("n_frames", [5, 8, 16])
def test_the_fitter_reaches_the_expected_sigma(series: ReferenceSeries, n_frames: int) -> None:
    sigma = 0.02
    chosen = choose_energies(series, n_frames, 1.0, sigma)
    energies = np.array(chosen.energies_ev)
    states = np.repeat(np.linspace(0.1, 0.9, 9), 2000)
    rng = np.random.default_rng(4)
    od = 0.2 + series.evaluate(energies, states).T + sigma * rng.standard_normal((n_frames, states.size))
    fitter = EdgeFitter((9, 2000), references=series)
    for energy, frame in zip(energies, od, strict=True):
        fitter.push(energy, frame.reshape(9, 2000).astype(np.float32))
    maps = fitter.maps()
    fitted = maps.has_value.ravel()
    assert fitted.mean() > 0.99
    rms = np.sqrt(np.mean((maps.soc.ravel() - states)[fitted] ** 2))
    promised = expected_sigma(energies, series, 1.0, sigma, soc=np.linspace(0.1, 0.9, 9))
    # Few frames: curvature of the series over one sigma makes the error exceed the bound by a few per cent.
    assert rms == pytest.approx(promised, rel=0.08)


def test_a_wrong_energy_axis_is_allowed_for(series: ReferenceSeries) -> None:
    chosen = choose_energies(series, 16, 1.0, 0.03, calibration_error_ev=0.5)
    sharp = choose_energies(series, 16, 1.0, 0.03, calibration_error_ev=0.0)
    worst = 0.0
    for shift in (-0.5, -0.25, 0.25, 0.5):
        moved = ReferenceSeries(
            NMC622_62, np.stack([spectrum(NMC622_62, s, shift) for s in series.soc]), series.soc
        )
        here = expected_sigma(chosen, moved, 1.0, 0.03)
        worst = max(worst, here)
        assert here <= expected_sigma(NMC622_62, moved, 1.0, 0.03)
    assert chosen.worst_sigma == pytest.approx(worst, rel=0.03)
    assert sharp.expected_sigma <= chosen.expected_sigma <= 1.1 * sharp.expected_sigma


def test_calibration_bias_is_the_shift_of_a_fit(series: ReferenceSeries) -> None:
    chosen = choose_energies(series, 16, 1.0, 0.03)
    for energies in (NMC622_62, np.array(chosen.energies_ev)):
        for soc in (0.3, 0.7):
            # The analytic spectra are not the interpolated series: compare with the unshifted fit.
            read = [
                scipy_fits(series, energies, spectrum(energies, soc, shift)[:, None], start=soc)[0]
                for shift in (-0.1, 0.1)
            ]
            assert abs(read[1] - read[0]) / 2 == pytest.approx(
                calibration_bias(energies, series, 0.1, soc=soc), rel=0.08
            )
    assert chosen.calibration_bias_per_ev == pytest.approx(calibration_bias(chosen, series, 1.0))


def test_frames_below_and_above_the_edge(series: ReferenceSeries) -> None:
    for n_frames, pairs in ((4, 1), (5, 1), (8, 1), (12, 2), (16, 2), (40, 2)):
        energies = np.array(choose_energies(series, n_frames, 1.0, 0.03).energies_ev)
        assert energies.size == n_frames
        assert (np.diff(energies) >= 0).all()
        assert np.unique(energies[energies < series.edge_ev - 15]).size >= pairs
        assert np.unique(energies[energies > series.edge_ev + 50]).size >= pairs
        assert np.isin(energies, NMC622_62).all()


def test_what_is_taken_is_completed(series: ReferenceSeries) -> None:
    first = choose_energies(series, 5, 1.0, 0.03)
    more = choose_energies(series, 7, 1.0, 0.03, taken_ev=first.energies_ev)
    together = choose_energies(series, 12, 1.0, 0.03)
    assert len(more) == 7
    everything = np.concatenate([first.energies_ev, more.energies_ev])
    assert more.expected_sigma == pytest.approx(expected_sigma(everything, series, 1.0, 0.03))
    assert more.expected_sigma <= 1.1 * together.expected_sigma


def test_one_frame_per_energy(series: ReferenceSeries) -> None:
    chosen = choose_energies(series, 10, 1.0, 0.03, max_repeats=1, taken_ev=[8345.0, 8350.0])
    assert set(chosen.repeats.values()) == {1}
    assert not {8345.0, 8350.0} & set(chosen.energies_ev)
    everything = choose_energies(series, 62, 1.0, 0.03, max_repeats=1)
    assert everything.energies_ev == tuple(NMC622_62)
    assert everything.efficiency == pytest.approx(1.0)


def test_noise_of_the_frames_steers_the_choice(series: ReferenceSeries) -> None:
    free = choose_energies(series, 12, 1.0, 0.03)
    favourite = max(free.repeats, key=lambda energy: free.repeats[energy])
    sigma = np.where(favourite == NMC622_62, 0.3, 0.03)
    assert favourite not in choose_energies(series, 12, 1.0, sigma).repeats
    # The same scaled noise and jump: the same frames.
    assert choose_energies(series, 12, 0.2, 0.3).energies_ev == free.energies_ev


def test_next_energy_is_the_best_of_all(series: ReferenceSeries) -> None:
    taken = list(choose_energies(series, 5, 0.5, 0.02).energies_ev)
    chooser = EnergyChooser(series, 0.5, 0.02, calibration_error_ev=0.0)
    chooser.add(taken)
    for _ in range(4):
        after = [expected_sigma([*taken, energy], series, 0.5, 0.02) for energy in NMC622_62]
        energy = chooser.next_energy()
        assert after[int(np.flatnonzero(energy == NMC622_62)[0])] == pytest.approx(min(after), rel=1e-3)
        chooser.add(energy)
        taken.append(energy)
        assert chooser.expected_sigma() == pytest.approx(expected_sigma(taken, series, 0.5, 0.02))


def test_one_at_a_time_is_about_as_good_as_together(series: ReferenceSeries) -> None:
    chooser = EnergyChooser(series, 1.0, 0.03)
    assert chooser.expected_sigma() == np.inf
    for _ in range(16):
        # Read back a little off, as a monochromator does.
        chooser.add(chooser.next_energy() + 0.03)
    assert chooser.expected_sigma() <= 1.1 * choose_energies(series, 16, 1.0, 0.03).expected_sigma


def test_states_met_so_far_steer_the_choice(series: ReferenceSeries) -> None:
    narrow = choose_energies(series, 8, 1.0, 0.03, soc=[0.05], calibration_error_ev=0.0)
    wide = choose_energies(series, 8, 1.0, 0.03, calibration_error_ev=0.0)
    assert narrow.expected_sigma < expected_sigma(wide, series, 1.0, 0.03, soc=0.05)
    weighted = choose_energies(
        series, 8, 1.0, 0.03, soc=[0.05, 0.9], soc_weights=[1.0, 0.0], calibration_error_ev=0.0
    )
    assert weighted.energies_ev == narrow.energies_ev


def test_optical_depth_noise_is_poisson() -> None:
    rng = np.random.default_rng(1)
    light = rng.poisson(4000 * np.exp(-0.8), 200_000)
    flat = rng.poisson(4000, (2, 200_000)).mean(axis=0)
    measured = np.std(-np.log(light / flat))
    assert optical_depth_sigma(4000, 0.8, n_flats=2) == pytest.approx(measured, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 20), st.floats(0.05, 3.0), st.floats(0.002, 0.2), st.integers(0, 2**31))
def test_any_subset_of_candidates(n_frames: int, jump: float, sigma: float, seed: int) -> None:
    soc = np.linspace(0.0, 1.0, 3)
    series = ReferenceSeries(NMC622_62, np.stack([spectrum(NMC622_62, s) for s in soc]), soc)
    rng = np.random.default_rng(seed)
    inner = rng.choice(NMC622_62[8:-5], 12, replace=False)
    candidates = np.concatenate([[8200.0, 8260.0, 8630.0, 8565.0], inner])
    chosen = choose_energies(
        series, n_frames, jump, sigma, candidates_ev=candidates, calibration_error_ev=0.0
    )
    assert len(chosen) == n_frames
    assert set(chosen.energies_ev) <= set(candidates)
    assert chosen.expected_sigma == pytest.approx(expected_sigma(chosen, series, jump, sigma), rel=1e-6)
    # Never worse than a random choice with the same safeguards.
    random = np.concatenate([candidates[:4], rng.choice(candidates, max(n_frames - 4, 0))])[:n_frames]
    assert chosen.expected_sigma <= expected_sigma(random, series, jump, sigma)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_frames": 3}, "at least 4"),
        ({"n_frames": 0}, "positive whole number"),
        ({"n_frames": 7.5}, "positive whole number"),
        ({"jump": 0.0}, "jump"),
        ({"jump": float("nan")}, "jump"),
        ({"sigma": -1.0}, "sigma"),
        ({"sigma": [0.1, 0.2]}, "one per energy"),
        ({"candidates_ev": [8.3, 8.4]}, "keV"),
        ({"candidates_ev": [8000.0, 8345.0]}, "cover"),
        ({"candidates_ev": [8342.0, 8344.0, 8345.0, 8600.0]}, "below the edge"),
        ({"candidates_ev": [8300.0, 8342.0, 8344.0, 8345.0]}, "above the edge"),
        ({"taken_ev": [float("nan")]}, "not finite"),
        ({"soc": []}, "soc"),
        ({"soc_weights": [1.0]}, "soc_weights"),
        ({"calibration_error_ev": float("inf")}, "calibration_error_ev"),
        ({"max_repeats": 0}, "max_repeats"),
        ({"max_repeats": 1, "n_frames": 63}, "room"),
        ({"series": "NiO"}, "ReferenceSeries"),
    ],
)
def test_mistakes_are_named(series: ReferenceSeries, change: dict[str, object], message: str) -> None:
    arguments = {"series": series, "n_frames": 8, "jump": 1.0, "sigma": 0.03, **change}
    with pytest.raises(EdgeFittingError, match=message):
        choose_energies(**arguments)  # type: ignore[arg-type]


def test_mistakes_in_grids_are_named(series: ReferenceSeries) -> None:
    with pytest.raises(EdgeFittingError, match="cover"):
        expected_sigma([8000.0], series, 1.0, 0.1)
    with pytest.raises(EdgeFittingError, match="weights"):
        expected_sigma(NMC622_62, series, 1.0, 0.1, weights=[1.0, 2.0])
    with pytest.raises(EdgeFittingError, match="positive"):
        optical_depth_sigma(0.0)


@pytest.mark.parametrize(("low", "high", "step"), [(844.0, 862.0, 0.25), (6520.0, 6630.0, 1.0)])
def test_short_scans_have_a_choice_too(low: float, high: float, step: float) -> None:
    energy = np.arange(low, high + step / 2, step)
    edge, width = low + 0.45 * (high - low), 0.06 * (high - low)

    def line(soc: float) -> np.ndarray:
        rise = 0.5 + np.arctan((energy - edge - 0.4 * width * soc) / width) / np.pi
        return rise + 2 * np.exp(-0.5 * ((energy - edge - width * (1 + 0.5 * soc)) / width) ** 2)

    series = ReferenceSeries(energy, [line(s) for s in (0.0, 0.5, 1.0)], (0.0, 0.5, 1.0))
    chosen = choose_energies(series, 16, 1.0, 0.03, calibration_error_ev=0.1)
    assert chosen.energies_ev[1] < edge < chosen.energies_ev[-2]
    assert chosen.efficiency > 1.5


@pytest.mark.parametrize(("n_frames", "excess"), [(16, 1.15), (8, 1.3), (5, 1.9)])
def test_few_frames_of_real_spectra(shared_data: Path, n_frames: int, excess: float) -> None:
    with h5py.File(shared_data / "stacks" / "semireal_ni_k_particle.h5") as file:
        energy = file["energy_ev"][:]
        series = ReferenceSeries(energy, file["reference/mu"][:], file["reference/soc"][:])
        dark = file["dark"][:].astype(np.float32)
        flats = file["flats"][:] - dark
        frames = file["frames"][:] - dark
        truth, jump = file["truth/soc"][:], file["truth/edge_jump"][:]
    with np.errstate(divide="ignore", invalid="ignore"):
        od = -np.log(frames / flats)
    thick = jump > 0.4
    typical = float(np.median(jump[thick]))
    spectrum_here = typical * series.evaluate(energy, series.soc).mean(axis=0)
    sigma = optical_depth_sigma(flats.mean(), spectrum_here)
    # The recording has one frame per energy.
    chosen = choose_energies(series, n_frames, typical, sigma, max_repeats=1)
    rms = {}
    for name, index in (
        ("few", np.searchsorted(energy, chosen.energies_ev)),
        ("all", np.arange(energy.size)),
    ):
        maps = fit_stack(energy[index], od[index], references=series)
        good = thick & np.isfinite(maps.soc)
        assert good.sum() > 0.99 * thick.sum()
        rms[name] = np.sqrt(np.mean((maps.soc[good] - truth[good]) ** 2))
    assert rms["few"] <= excess * rms["all"]
