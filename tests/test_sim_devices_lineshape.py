"""The twin's spectra against the figures of the literature and, where at hand, against measured references."""

from pathlib import Path

import numpy as np
import pytest

from sim_devices import Twin
from sim_devices.twin._absorption import broadened, edge_truth
from sim_devices.twin._compounds import COMPOUNDS, LAYERED_OXIDE

SI_111 = 1.3e-4
FOIL_EV = {"Ni": 8333.0, "Co": 7709.0, "Mn": 6539.0}


def half_jump(energy, mu, low, high):
    """Last crossing of 0.5 on the way up to the white line."""
    window = (energy > low) & (energy < high)
    e, m = energy[window], mu[window]
    top = int(np.argmax(m))
    last = int(np.flatnonzero(m[:top] < 0.5)[-1])
    return e[last] + (e[last + 1] - e[last]) * (0.5 - m[last]) / (m[last + 1] - m[last])


def first_inflection(energy, mu, near):
    slope = np.gradient(mu, energy)
    window = np.flatnonzero(np.abs(energy - near) < 12)
    peak = slope[window].max()
    for i in window:
        if slope[i] > 0.4 * peak and slope[i] >= slope[i - 1] and slope[i] > slope[i + 1]:
            return energy[i]
    raise AssertionError("no inflection")


@pytest.mark.parametrize("name", COMPOUNDS)
def test_normalised_and_smooth(name):
    edge = FOIL_EV[COMPOUNDS[name].element]
    energy = np.arange(edge - 150, edge + 700, 0.05)
    mu = Twin.true_spectrum(name, energy, SI_111)
    assert np.abs(mu[energy < edge - 100]).max() < 0.03
    assert mu[energy > edge + 400].mean() == pytest.approx(1.0, abs=0.02)
    # The finite resolution (1 eV) leaves no structure on the scale of 0.1 eV.
    second = np.diff(mu, 2) / 0.05**2
    assert np.abs(np.diff(second)).max() < 0.02


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NiO", 8342.4),
        ("LiNiO2", 8344.6),
        ("NiO2", 8345.95),
        ("CoO", 7718.5),
        ("Co3O4", 7719.8),
        ("LiCoO2", 7721.35),
        ("MnO", 6544.85),
        ("Mn2O3", 6549.4),
        ("MnO2", 6552.3),
    ],
)
def test_half_jump_lies_where_foil_calibrated_spectra_have_it(name, expected):
    energy = np.arange(expected - 20, expected + 40, 0.02)
    mu = Twin.true_spectrum(name, energy, SI_111)
    assert half_jump(energy, mu, expected - 6, expected + 20) == pytest.approx(expected, abs=0.35)


@pytest.mark.parametrize("metal", FOIL_EV)
def test_foils_calibrate_at_the_convention(metal):
    energy = np.arange(FOIL_EV[metal] - 30, FOIL_EV[metal] + 60, 0.02)
    mu = Twin.true_spectrum(metal, energy, SI_111)
    assert first_inflection(energy, mu, FOIL_EV[metal]) == pytest.approx(FOIL_EV[metal], abs=0.1)


def test_charge_moves_nickel_most_and_manganese_hardly():
    shift = {}
    for edge in ("Ni_K", "Co_K", "Mn_K"):
        truth = edge_truth(edge, SI_111)
        assert np.all(np.diff(truth.half_jump_ev) > 0)
        assert np.all(np.diff(truth.white_line_ev) > 0)
        shift[edge] = (np.ptp(truth.half_jump_ev), np.ptp(truth.white_line_ev))
    assert 1.1 < shift["Ni_K"][0] < 1.6
    assert 2.2 < shift["Ni_K"][1] < 2.9
    assert 0.1 < shift["Co_K"][0] < 0.6
    assert shift["Mn_K"][0] < 0.1


def test_series_is_linear_in_its_parameters_and_vectorised():
    series = LAYERED_OXIDE["Ni"]
    energy = np.linspace(8320.0, 8420.0, 201)
    soc = np.array([0.0, 0.3, 1.0])
    together = series.at(soc[:, None])(energy)
    for row, s in zip(together, soc, strict=True):
        np.testing.assert_allclose(row, series.at(float(s))(energy), rtol=0, atol=1e-12)
    np.testing.assert_allclose(together[0], series.discharged(energy), atol=1e-12)
    np.testing.assert_allclose(together[2], series.charged(energy), atol=1e-12)


def test_broadening_conserves_the_step_and_lowers_the_white_line():
    energy = np.arange(8200.0, 8700.0, 0.5)
    shape = COMPOUNDS["NiO"].lineshape
    sharp, wide = shape(energy), broadened(shape, energy, 3e-4)
    assert wide.max() < sharp.max() - 0.02
    assert wide[-20:].mean() == pytest.approx(sharp[-20:].mean(), abs=1e-3)
    np.testing.assert_allclose(broadened(shape, energy, 0.0), sharp, atol=1e-12)


# -- against measured references -------------------------------------------------------------------------------


def _normalised(energy, mu, e0):
    """Line before the edge taken off, divided by a parabola after it taken to the edge."""
    line = np.polyfit(energy[energy < e0 - 30], mu[energy < e0 - 30], 1)
    y = mu - np.polyval(line, energy)
    after = energy > e0 + 80
    curve = np.polyfit(energy[after] - e0, y[after], 2)
    y = y / curve[-1]
    return np.where(energy > e0, y - (np.polyval(curve, energy - e0) / curve[-1] - 1), y)


REFERENCES = {
    "NiO": ("Ni/ceric_NiO_111.xdi", "Ni"),
    "CoO": ("Co/ceric_CoO_111_80K.xdi", "Co"),
    "Co3O4": ("Co/ceric_Co3O4_111_80K.xdi", "Co"),
    "LiCoO2": ("Co/ceric_LiCoO2_80K_111.xdi", "Co"),
    "MnO": ("Mn/ceric_MnO.xdi", "Mn"),
    "MnO2": ("Mn/ceric_MnO2.xdi", "Mn"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_compounds_look_like_measured_ones(shared_data: Path, name):
    path, metal = REFERENCES[name]
    energy, mu, foil = np.loadtxt(shared_data / "spectra" / path).T
    energy = energy + FOIL_EV[metal] - first_inflection(energy, foil, FOIL_EV[metal])
    near = {"Ni": 8343.0, "Co": 7720.0, "Mn": 6549.0}[metal]
    mu = _normalised(energy, mu, near)
    window = (energy > near - 20) & (energy < near + 35)
    ours = Twin.true_spectrum(name, energy, SI_111)
    assert (ours - mu)[window].std() < 0.045
    measured = half_jump(energy, mu, near - 10, near + 25)
    fine = np.arange(near - 25, near + 40, 0.05)
    assert half_jump(fine, Twin.true_spectrum(name, fine, SI_111), near - 10, near + 25) == pytest.approx(
        measured, abs=0.6
    )


def test_layered_oxide_follows_a_measured_charge(shared_data: Path):
    """Every spectrum of an operando charge lies on the series, at a state of charge that grows."""
    files = sorted((shared_data / "spectra" / "Ni").glob("perex_norm_op2_*.txt"))
    assert len(files) == 10
    grid = np.linspace(0.0, 1.0, 51)
    found = []
    for path in files:
        energy, mu = np.loadtxt(path, usecols=(0, 1)).T
        window = (energy > 8320) & (energy < 8378)
        energy, mu = energy[window] - 0.12, mu[window]
        misfit = [(broadened(LAYERED_OXIDE["Ni"].at(float(s)), energy, SI_111) - mu).std() for s in grid]
        assert min(misfit) < 0.02
        found.append(grid[int(np.argmin(misfit))])
    assert np.all(np.diff(found) >= 0)
    assert found[0] < 0.1
    assert found[-1] > 0.9
