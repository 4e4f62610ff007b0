"""L edges are found and measured by their white line, which is many times as high as the step beside it."""

import numpy as np
import pytest

from edge_fitting import EDGES, Edge, ReferenceSeries, fit_stack

METHODS = ("half_jump", "inflection", "white_line", "series")
GRIDS = {"Ni_L3": (844, 862), "Mn_L3": (636, 660), "Co_L3": (770, 790)}


def white_line(energy_ev, edge, at=1.0, width=1.1, step=0.08):
    """A white line of height 1 over an arctan step, and half of it at L2."""
    x = energy_ev - edge.energy_ev - at
    l2 = EDGES[f"{edge.element}_L2"].energy_ev - edge.energy_ev
    shape = sum(share / (1 + ((x - d) / (width / 2)) ** 2) for share, d in ((1.0, 0.0), (0.45, l2)))
    return shape + step * (0.5 + np.arctan(x / 0.3) / np.pi)


@pytest.mark.parametrize("name", list(GRIDS))
@pytest.mark.parametrize("snr", [60, 20])
def test_a_single_l3_spectrum_has_an_edge_by_every_method(name, snr):
    edge, rng = EDGES[name], np.random.default_rng(1)
    energy = np.arange(*GRIDS[name], 0.25)
    mu = 0.4 - 1e-3 * (energy - energy[0]) + white_line(energy, edge)
    mu += rng.standard_normal(energy.size) / snr
    top = edge.energy_ev + 1.0
    for method in METHODS:
        found = fit_stack(energy, mu[:, None, None], edge=edge, method=method)
        assert found.counts() == {"OK": 1}, (method, found.counts())
        expected = top if method == "white_line" else top - 0.55
        assert abs(float(found.edge_energy_ev[0, 0]) - expected) < 0.35, method


def test_noise_is_no_white_line_and_neither_is_a_pixel_beside_the_sample():
    edge, rng = EDGES["Ni_L3"], np.random.default_rng(2)
    energy = np.arange(844, 862, 0.25)
    sample = np.zeros((20, 20))
    sample[5:15, 5:15] = 0.4
    stack = 0.3 + sample * white_line(energy, edge)[:, None, None]
    stack += 0.02 * rng.standard_normal(stack.shape)
    for method in METHODS:
        found = fit_stack(energy, stack, edge=edge, method=method)
        assert (found.has_value == (sample > 0)).all(), (method, found.counts())
        assert np.abs(found.edge_jump[sample > 0] / 0.4 - 1).mean() < 0.15
    empty = 0.3 + 0.02 * rng.standard_normal(stack.shape)
    for method in METHODS:
        assert not fit_stack(energy, empty, edge=edge, method=method).has_value.any()


def test_the_half_jump_of_a_narrow_white_line_is_on_its_low_side():
    edge = EDGES["Ni_L3"]
    energy = np.arange(835, 900, 0.2)
    mu = white_line(energy, edge, at=0.3, width=0.8)
    found = fit_stack(energy, mu[:, None, None], edge=edge, method="half_jump")
    assert float(found.edge_energy_ev[0, 0]) == pytest.approx(edge.energy_ev + 0.3 - 0.4, abs=0.06)


def test_references_without_a_visible_step_are_normalised_by_their_white_line():
    edge = EDGES["Co_L3"]
    energy = np.arange(770, 790, 0.25)
    # The background of the particle falls more than the step rises.
    falling = 0.5 - 0.01 * (energy - 770)
    spectra = [falling + white_line(energy, edge, at, step=0.0) for at in (0.5, 1.5)]
    series = ReferenceSeries(energy, spectra, [0.0, 1.0])
    true = np.linspace(0.1, 0.9, 16).reshape(4, 4)
    stack = falling[:, None, None] + sum(
        part * s[:, None, None] for part, s in ((1 - true, spectra[0]), (true, spectra[1]))
    )
    stack = stack + 0.005 * np.random.default_rng(3).standard_normal(stack.shape)
    found = fit_stack(energy, stack, edge=edge, method="lcf", references=series)
    assert np.abs(found.soc - true).max() < 0.06


def test_the_real_iron_stack_has_edges_by_every_method(shared_data):
    with np.load(shared_data / "stacks" / "als11022_fe_l_stxm_62energies.npz") as held:
        energy, counts = held["energy_ev"], held["counts"].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -np.log(counts / np.percentile(counts.reshape(62, -1), 99, axis=1)[:, None, None])
    depth[~np.isfinite(depth)] = np.nan
    l3, l2 = 706.8, 719.9
    iron = Edge(
        "Fe_L3", "Fe", "L3", l3, l3, 0.36, (l3 - 4, l3 + 4), (l3 - 2.5, l3 + 5.5), (l3 - 30, l3 - 4.5),
        (l3 + 5.5, l2 - 4.5),
    )  # fmt: skip
    whole = np.nanmean(depth.reshape(62, -1), axis=1)[:, None, None]
    for method in METHODS:
        found = fit_stack(energy, depth, edge=iron, method=method)
        assert found.has_value.sum() > 3000, (method, found.counts())
        at = np.nanmedian(found.edge_energy_ev)
        assert (709.0 < at < 710.5) if method in ("white_line", "inflection") else (706.5 < at < 709.0)
        assert fit_stack(energy, whole, edge=iron, method=method).has_value.all(), method
