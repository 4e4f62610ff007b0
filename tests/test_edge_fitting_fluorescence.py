"""Fluorescence spectra to counts and composition, against an independent model and Poisson maximum likelihood."""

import numpy as np
import pytest
import xraydb
from scipy.optimize import minimize
from scipy.stats import norm

from edge_fitting import (
    DetectorResponse,
    EdgeFittingError,
    SpectrumProjection,
    ThinFilmStandard,
    atomic_fractions,
    atoms_sensitivity,
    calibrate_spectrum,
    edge_distance,
    element_ratio,
    escape_factor,
    fit_core_shell,
    line_groups,
    line_profile,
    ratio_of_counts,
    rim_profile,
    self_absorption,
    window_counts,
)

EXCITATION_EV = 9600.0
N_CHANNELS = 1100
TRUE = DetectorResponse(10.06, -21.0, 78.0, 0.12)
ELEMENTS = ("Mn", "Fe", "Co", "Ni")


def spectrum_of(counts, background=100.0, response=TRUE):
    """Expected counts in each channel, from the tables and Gaussians: not by the package under test."""
    edges = response.offset_ev + response.gain_ev * (np.arange(N_CHANNELS + 1) - 0.5)

    def peak(energy_ev, extra_ev=0.0):
        fwhm = np.sqrt(response.noise_ev**2 + 2.3548**2 * response.fano * 3.65 * energy_ev + extra_ev**2)
        return np.diff(norm.cdf(edges, energy_ev, fwhm / 2.3548))

    out = np.zeros(N_CHANNELS)
    for element, number in counts.items():
        if element in ("elastic", "compton"):
            out += number * (
                peak(EXCITATION_EV) if element == "elastic" else peak(EXCITATION_EV - 177.0, 170.0)
            )
            continue
        lines = [line for line in xraydb.xray_lines(element, "K").values() if line.initial_level == "K"]
        total = sum(line.intensity for line in lines)
        for line in lines:
            escaped = 0.0042 * (5900.0 / line.energy) ** 2.7
            number_of = number * line.intensity / total
            out += number_of * ((1 - escaped) * peak(line.energy) + escaped * peak(line.energy - 1740.0))
    middle = (edges[1:] + edges[:-1]) / 2
    shape = np.exp(-(((middle - 9000.0) / 4000.0) ** 2)) + 0.5 * np.exp(-middle / 2500.0)
    return out + background * shape / shape.sum()


def counted(seed, counts, n, background=100.0):
    return (
        np.random.default_rng(seed)
        .poisson(spectrum_of(counts, background), (n, N_CHANNELS))
        .astype(np.uint16)
    )


MIXED = {"Mn": 300.0, "Fe": 15.0, "Co": 250.0, "Ni": 700.0, "elastic": 120.0, "compton": 300.0}


@pytest.fixture(scope="module")
def mixed():
    spectra = counted(1, MIXED, 2000)
    found = calibrate_spectrum(spectra.sum(axis=0), ELEMENTS, EXCITATION_EV)
    return spectra, found, SpectrumProjection(found.model, found.curve / len(spectra))


def test_gain_offset_and_width_come_from_the_summed_spectrum(mixed):
    _, found, _ = mixed
    response = found.model.response
    for energy_ev in (5900.0, 7478.0):
        channel = (energy_ev - TRUE.offset_ev) / TRUE.gain_ev
        assert float(response.energy_ev(channel)) == pytest.approx(energy_ev, abs=1.0)
        assert float(response.fwhm_ev(energy_ev)) == pytest.approx(float(TRUE.fwhm_ev(energy_ev)), rel=0.01)
    assert found.chi2 < 1.2
    assert found.warnings == ()


def test_overlapping_lines_are_resolved_with_their_sigma(mixed):
    """Mn Kb lies on Fe Ka, Co Ka on Fe Kb, and Ni Ka on Co Kb."""
    spectra, found, projection = mixed
    fit = projection.fit(spectra)
    for k, name in enumerate(ELEMENTS):
        assert fit.free[:, k].mean() == pytest.approx(
            MIXED[name], abs=4 * fit.sigma[:, k].mean() / 2000**0.5 + 0.004 * MIXED[name]
        )
        assert fit.free[:, k].std() == pytest.approx(fit.sigma[:, k].mean(), rel=0.06)
    by_windows, _ = window_counts(spectra, line_groups(ELEMENTS, EXCITATION_EV), found.model.response)
    assert by_windows[:, 1].mean() > 2 * MIXED["Fe"]  # what windows make of the weak one
    assert by_windows[:, 3].mean() == pytest.approx(MIXED["Ni"], rel=0.03)


def test_negative_amplitudes_alone_are_fitted_again(mixed):
    *_, projection = mixed
    few = counted(2, {"Mn": 20.0, "Ni": 30.0}, 300, 5.0)
    fit = projection.fit(few)
    assert (fit.free < 0).any()
    assert fit.counts.min() >= 0
    same = (fit.free >= 0).all(axis=1)
    np.testing.assert_array_equal(fit.counts[same], fit.free[same])
    assert abs(fit.free[:, 1].mean()) < 0.3  # the free one has no bias


def test_the_projection_agrees_with_poisson_maximum_likelihood(mixed):
    spectra, _, projection = mixed
    matrix, window = projection.model.matrix, projection.model.window.slice
    sample = spectra[:25]
    fit = projection.fit(sample)

    def likeliest(y, start):
        def loss(x):
            expected = np.maximum(matrix @ x, 1e-9)
            return (expected - y * np.log(expected)).sum(), matrix.T @ (1 - y / expected)

        limits = [(0, None)] * len(start)
        return minimize(loss, np.maximum(start, 1.0), jac=True, method="L-BFGS-B", bounds=limits).x

    best = np.stack([likeliest(y[window], x) for y, x in zip(sample, fit.free, strict=True)])
    difference = (fit.counts - best)[:, :4] / fit.sigma[:, :4]
    assert np.sqrt((difference**2).mean(axis=0)).max() < 0.35


@pytest.mark.parametrize("total", [100, 3000, 100_000])
def test_two_thirds_of_the_intervals_of_ratios_hold_the_truth(mixed, total):
    *_, projection = mixed
    for shares in ((0.35, 0.2, 0.45), (0.1, 0.1, 0.8)):
        mn, co, ni = shares
        expected = spectrum_of(
            {"Mn": mn * total, "Co": co * total, "Ni": ni * total, "compton": 0.2 * total}, 0.1 * total
        )
        spectra = np.random.default_rng([3, total]).poisson(expected, (1500, N_CHANNELS))
        free = projection.project(spectra)
        even = dict.fromkeys(ELEMENTS, 1.0)
        found = [
            (element_ratio(projection, free, ("Mn", "Ni"), even), mn / ni),
            (element_ratio(projection, free, ("Co", "Ni"), even), co / ni),
            (atomic_fractions(projection, free, ["Mn", "Co", "Ni"], even)["Ni"], ni),
        ]
        for ratio, truth in found:
            assert 0.63 <= ((ratio.low <= truth) & (truth <= ratio.high)).mean() <= 0.73


def test_a_ratio_over_nothing_is_none():
    ratio = ratio_of_counts([5.0, 5.0], [5.0, 5.0], [0.5, 50.0], [1.0, 50.0])
    assert np.isnan(ratio.value[0])
    assert ratio.low[1] < 0.1 < ratio.high[1]


def test_densities_follow_from_a_film_and_from_tables_where_it_lacks_an_element():
    table = atoms_sensitivity(["Mn", "Co", "Ni"], 9600.0)
    assert table["Mn"] < table["Co"] < table["Ni"] == 1.0
    mass = {name: xraydb.atomic_mass(name) for name in table}
    film = ThinFilmStandard(
        {"Mn": 2.0, "Ni": 3.0},
        {name: 500.0 * d * table[name] / mass[name] for name, d in (("Mn", 2.0), ("Ni", 3.0))},
    )
    found = film.sensitivity(["Mn", "Co", "Ni"], 9600.0)
    assert found.from_tables == ("Co",)
    assert found.sigma == pytest.approx(0.0, abs=1e-9)
    assert found.areal_density("Co", 500.0 * table["Co"] / mass["Co"] * 7.0, 1.0) == pytest.approx(7.0)
    left = self_absorption({"Mn": 500.0, "Ni": 1500.0}, 9600.0, mass_ratio=1.7)
    assert 0.6 < left["Ni"] < left["Mn"] < 0.8  # manganese absorbs the lines of nickel
    assert escape_factor([0.0, 1.0]) == pytest.approx([1.0, 1 - np.exp(-1)])


def test_profiles_average_counts_and_not_ratios():
    rng = np.random.default_rng(4)
    rows, cols = np.indices((41, 41))
    depth = edge_distance(np.hypot(rows - 20, cols - 20) < 18)
    share = np.clip(0.8 - 0.04 * np.nan_to_num(depth), 0.2, 0.8)
    here = np.where(np.isnan(depth), 0.0, 12.0)
    expected = {"Mn": here * share, "Ni": here * (1 - share)}
    atoms = {name: rng.poisson(value).astype(float) for name, value in expected.items()}
    sigma = {name: np.sqrt(np.maximum(value, 1e-6)) for name, value in expected.items()}
    profile = rim_profile(atoms, sigma, depth, edges=np.arange(0, 17, 2.0))
    truth = np.interp(profile.position, [0, 15, 18], [0.8, 0.2, 0.2])
    fraction = profile.fraction("Mn")
    assert np.abs((fraction.value - truth) / fraction.sigma).max() < 3.5
    across = line_profile(atoms, sigma, (20, 2), (20, 38), width=5, step=3, pixel_size=0.1)
    assert across.position[-1] < 3.7
    assert across.n_pixels.min() >= 10
    ratio = across.ratio("Mn", "Ni")
    assert ratio.value[0] > 2 * ratio.value[len(ratio.value) // 2]
    with pytest.raises(EdgeFittingError, match="two different ends"):
        line_profile(atoms, sigma, (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        (["Mn", "Zn"], "not excited at 9600 eV"),
        (["Mn", "Mn"], "named twice"),
        (["Xx"], "names no lines"),
        ([], "no element to look for"),
    ],
)
def test_elements_that_cannot_be_looked_for_are_said(elements, words):
    with pytest.raises(EdgeFittingError, match=words):
        calibrate_spectrum(spectrum_of(MIXED), elements, EXCITATION_EV)


def test_what_is_not_described_and_what_cannot_be_told_apart_is_said():
    spectrum = np.random.default_rng(5).poisson(2000 * spectrum_of(MIXED))
    found = calibrate_spectrum(spectrum, ["Mn", "Ni"], EXCITATION_EV)
    assert "no element in the list describes" in found.warnings[0]
    both = calibrate_spectrum(
        spectrum, [*ELEMENTS, "Gd_L"], EXCITATION_EV
    )  # its La lies 43 eV from Fe Kb... and Mn Ka
    assert not any("Mn and Ni" in words for words in both.warnings)
    wide = DetectorResponse(10.0, 0.0, 900.0, 0.12)
    twins = calibrate_spectrum(
        spectrum, ["Co", "Fe", "Eu_L", "Mn"], EXCITATION_EV, nominal=wide, fit_response=False
    )
    assert any("cannot be told apart" in words for words in twins.warnings)
    empty = calibrate_spectrum(np.zeros(N_CHANNELS), ELEMENTS, EXCITATION_EV)
    assert "too few to find the energy scale" in empty.warnings[0]
    with pytest.raises(EdgeFittingError, match="outside of the 300 channels"):
        calibrate_spectrum(np.ones(300), ELEMENTS, EXCITATION_EV)
    with pytest.raises(EdgeFittingError, match="not negative"):
        calibrate_spectrum(-np.ones(N_CHANNELS), ELEMENTS, EXCITATION_EV)
    zeros = {name: np.zeros((9, 9)) for name in ("Mn", "Ni")}
    ones = {name: np.ones((9, 9)) for name in zeros}
    with pytest.raises(EdgeFittingError, match="no particle"):
        fit_core_shell(zeros, ones, {"Mn": 1.0, "Ni": 1.0}, pixel_size_um=0.2, excitation_ev=9600.0)
