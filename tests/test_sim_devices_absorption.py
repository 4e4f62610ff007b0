"""Absorption of the electrode against tabulated cross-sections."""

import numpy as np
import pytest
import xraydb

from sim_devices.twin._absorption import NMC622, SOC_NODES, OxideAbsorption, PureAbsorption


@pytest.mark.parametrize("energy_ev", [6480.0, 6800.0, 7640.0, 7900.0, 8250.0, 8700.0])
def test_oxide_agrees_with_the_tables_away_from_the_edges(energy_ev):
    ours = float(np.asarray(NMC622) @ OxideAbsorption(0.0).table(energy_ev)[:, 0])
    table = float(xraydb.material_mu("LiNi0.6Mn0.2Co0.2O2", energy_ev, density=4.75)) * 1e-4
    assert ours == pytest.approx(table, rel=0.03)


@pytest.mark.parametrize(
    ("edge", "fractions", "expected"),
    [
        ("Ni_K", (0.8, 0.1, 0.1), 0.64),
        ("Co_K", (0.8, 0.1, 0.1), 0.08),
        ("Mn_K", (0.8, 0.1, 0.1), 0.09),
        ("Ni_K", (1 / 3, 1 / 3, 1 / 3), 0.25),
        ("Co_K", (1 / 3, 1 / 3, 1 / 3), 0.28),
        ("Mn_K", (1 / 3, 1 / 3, 1 / 3), 0.34),
    ],
)
def test_edge_jump_of_ten_micrometres(edge, fractions, expected):
    jump = 10.0 * float(np.asarray(fractions) @ OxideAbsorption(0.0).jump_per_um(edge))
    assert jump == pytest.approx(expected, rel=0.12, abs=0.02)


def test_jump_is_what_the_spectrum_steps_by():
    oxide = OxideAbsorption(1.3e-4)
    before, after = (float(oxide.table(e)[0, 0]) for e in (8290.0, 8800.0))
    # Both sides brought to the edge with the slopes of the tables.
    below = xraydb.mu_elam("Ni", np.array([8290.0, 8332.0]))
    above = xraydb.mu_elam("Ni", np.array([8340.0, 8800.0]))
    step = after * above[0] / above[1] - before * below[1] / below[0]
    assert step == pytest.approx(float(oxide.jump_per_um("Ni_K")[0]), rel=0.03)


def test_only_the_metal_at_its_edge_depends_on_charge():
    table = OxideAbsorption(1.3e-4).table(8345.5)
    spread = np.ptp(table, axis=1) / table[:, 0]
    assert table.shape == (3, SOC_NODES.size)
    assert spread[0] > 0.1
    assert spread[1] < 5e-3
    assert spread[2] < 5e-3


def test_foil_has_one_map_and_only_its_own_edge():
    foil = PureAbsorption("Ni", 1.3e-4)
    assert foil.table(8400.0).shape == (1, SOC_NODES.size)
    table = float(xraydb.material_mu("Ni", 8700.0)) * 1e-4
    assert float(foil.table(8700.0)[0, 0]) == pytest.approx(table, rel=0.03)
    assert foil.jump_per_um("Mn_K")[0] == 0.0
    assert foil.jump_per_um("Ni_K")[0] > 0.2
