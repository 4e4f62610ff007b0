import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamline_plans import EnergyGrid, EnergyRegion, GridError, KRegion
from edge_fitting import EDGES, ReferenceSeries, expected_sigma

energies = st.lists(st.floats(500, 20_000), min_size=1, max_size=80)
exposures = st.floats(1e-3, 60)


def test_regions_share_their_boundary_once_and_keep_their_own_exposure():
    grid = EnergyGrid.from_regions([(8330, 8332, 1, 0.5), (8332, 8340, 4, 2.0), (8341, 8340, 1, 1.0)])
    assert grid.energies_ev == (8330, 8331, 8332, 8336, 8340, 8341, 8340)
    assert grid.exposure_s == (0.5, 0.5, 0.5, 2.0, 2.0, 1.0, 1.0)


def test_a_region_may_be_an_object_a_tuple_or_a_mapping():
    as_object = EnergyGrid.from_regions([EnergyRegion(8330, 8340, 2.5, 0.1)])
    as_tuple = EnergyGrid.from_regions([(8330, 8340, 2.5, 0.1)])
    as_mapping = EnergyGrid.from_regions(
        [{"start_ev": 8330, "stop_ev": 8340, "step_ev": 2.5, "exposure_s": 0.1}]
    )
    assert as_object == as_tuple == as_mapping


def test_a_step_that_is_no_binary_fraction_still_ends_on_the_stop():
    grid = EnergyGrid.from_regions([(850.0, 851.0, 0.1)])
    assert grid.energies_ev == tuple(round(850 + 0.1 * i, 1) for i in range(11))


def test_k_region_follows_the_free_electron_dispersion():
    grid = EnergyGrid.from_regions([KRegion("Ni_K", 2, 6, 2)])
    # hbar c = 1973.269804 eV A and m_e c^2 = 510998.95 eV give E = (hbar c k)^2 / (2 m_e c^2)
    expected = [8333.0 + (1973.269804 * k) ** 2 / (2 * 510998.95) for k in (2, 4, 6)]
    assert grid.energies_ev == pytest.approx(expected, abs=2e-3)
    longer = EnergyGrid.from_regions(
        [(8300, 8347, 1, 0.2), {"edge": "Ni", "start_k": 2, "stop_k": 6, "step_k": 2, "exposure_power": 2}]
    )
    assert longer.exposure_s[-4:] == pytest.approx((0.2, 0.5, 2.0, 4.5))


@pytest.mark.parametrize(
    ("name", "edge", "count", "first", "last"),
    [
        ("ssrl_62", "Ni_K", 62, 8250, 8690),
        ("nmc622_62", "Ni_K", 62, 8200, 8630),
        ("fxi_21", "Ni_K", 21, 8212, 8777),
        ("fxi_41", "Ni_K", 41, 8212, 8777),
        ("fxi_63", "Ni_K", 63, 8212, 8777),
        ("fxi_83", "Ni_K", 83, 8212, 8777),
        ("fxi_101", "Ni_K", 101, 8212, 8777),
        ("fxi_101", "Co_K", 101, 7588, 8153),
        ("ssrl_62", "Mn_K", 62, 6456, 6896),
        ("mn_47", "Mn_K", 47, 6450, 6850),
        ("default", "Co_K", 62, 7626, 8066),
        ("l_edge", "Ni_L3", 73, 844, 862),
        ("l_edge", "Mn_L3", 97, 636, 660),
        ("l_edge", "Co_L3", 81, 770, 790),
    ],
)
def test_presets_have_the_published_number_of_points_and_range(name, edge, count, first, last):
    grid = EnergyGrid.preset(name, edge)
    assert (len(grid), grid.energies_ev[0], grid.energies_ev[-1]) == (count, first, last)
    assert len(set(grid.energies_ev)) == count
    grid.check_edge(EDGES[edge])


def test_every_edge_has_a_default_grid_across_its_edge():
    for edge in EDGES.values():
        grid = EnergyGrid.preset("default", edge.name, exposure_s=0.25)
        assert min(grid.energies_ev) < edge.energy_ev < max(grid.energies_ev)
        assert set(grid.exposure_s) == {0.25}


def test_interleaved_prefixes_are_coarse_to_fine():
    grid = EnergyGrid(tuple(range(8300, 8365)), (0.5,)).ordered("interleaved")
    assert grid.energies_ev[:5] == (8300, 8364, 8332, 8316, 8348)
    for n in (3, 5, 9, 17, 33):
        prefix = sorted(grid.energies_ev[:n])
        gaps = [b - a for a, b in pairwise(prefix)]
        assert max(gaps) == min(gaps)


@given(energies, st.sampled_from(["ascending", "descending", "interleaved"]), st.data())
def test_ordering_only_permutes_and_keeps_each_exposure_with_its_energy(values, order, data):
    times = data.draw(st.lists(exposures, min_size=len(values), max_size=len(values)))
    grid = EnergyGrid(tuple(values), tuple(times))
    again = grid.ordered(order)
    assert sorted(again) == sorted(grid)
    if order == "ascending":
        assert list(again.energies_ev) == sorted(values)
    if order == "descending":
        assert list(again.energies_ev) == sorted(values, reverse=True)


@given(energies, exposures)
def test_dict_and_csv_round_trips_are_exact(tmp_path_factory, values, exposure):
    grid = EnergyGrid(tuple(values), (exposure,))
    assert EnergyGrid.from_dict(grid.to_dict()) == grid
    path = tmp_path_factory.mktemp("grid") / "grid.csv"
    grid.to_csv(path)
    assert EnergyGrid.from_csv(path) == grid


def test_from_dict_reads_presets_and_regions_with_an_order():
    preset = EnergyGrid.from_dict(
        {"preset": "fxi_21", "edge": "Ni_K", "exposure_s": 0.2, "order": "descending"}
    )
    assert preset == EnergyGrid.preset("fxi_21", "Ni_K", exposure_s=0.2).ordered("descending")
    regions = EnergyGrid.from_dict({"regions": [[8330, 8340, 5]]})
    assert regions.energies_ev == (8330, 8335, 8340)


def test_a_chosen_grid_is_better_than_as_many_even_steps():
    energy = np.arange(8250.0, 8650.0)
    steps = [1 / (1 + np.exp(-(energy - e0))) for e0 in (8343.0, 8344.5, 8346.0)]
    series = ReferenceSeries(energy, np.stack(steps), np.array([0.0, 0.5, 1.0]))
    candidates = EnergyGrid.preset("ssrl_62", "Ni_K")
    grid = EnergyGrid.chosen(series, 8, candidates=EnergyGrid(candidates.energies_ev[:61]), exposure_s=0.2)
    assert (len(grid), set(grid.exposure_s)) == (8, {0.2})
    assert set(grid.energies_ev) <= set(candidates.energies_ev)
    even = np.linspace(8280, 8420, 8)
    assert expected_sigma(grid.energies_ev, series, 1.0, 0.03) < 0.5 * expected_sigma(even, series, 1.0, 0.03)
    with pytest.raises(GridError, match="No energies can be chosen"):
        EnergyGrid.chosen(series, 3)


def test_any_order_and_repeated_energies_are_legal():
    grid = EnergyGrid((8350, 8330, 8350), (0.1, 0.2, 0.3))
    assert list(grid) == [(8350, 0.1), (8330, 0.2), (8350, 0.3)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EnergyGrid(()), "empty"),
        (lambda: EnergyGrid.from_regions([]), "empty"),
        (lambda: EnergyGrid((8333.0, math.nan)), "finite"),
        (lambda: EnergyGrid((8333.0, math.inf)), "finite"),
        (lambda: EnergyGrid((8333.0, -1.0)), "positive"),
        (lambda: EnergyGrid((8.320, 8.333)), "keV"),
        (lambda: EnergyGrid((8333.0, 8.333)), "keV"),
        (lambda: EnergyGrid(("a",)), "number"),
        (lambda: EnergyGrid("8333"), "list"),
        (lambda: EnergyGrid(8333.0), "list"),
        (lambda: EnergyGrid((8333.0,), (0.1, 0.2)), "one per energy"),
        (lambda: EnergyGrid((8333.0,), (0.0,)), "positive"),
        (lambda: EnergyGrid((8333.0,), (math.nan,)), "finite"),
        (lambda: EnergyGrid.from_regions([(8330, 8340, 0)]), "positive"),
        (lambda: EnergyGrid.from_regions([(8330, 8340, -1)]), "positive"),
        (lambda: EnergyGrid.from_regions([(8330, 8340, 1e-9)]), "looks like keV"),
        (lambda: EnergyGrid.from_regions([(8330, 9340, 0.02)]), "points"),
        (lambda: EnergyGrid.from_regions([(8.33, 8.34, 0.001)]), "looks like keV"),
        (lambda: EnergyGrid.from_regions([(8330, 8340, 0.001)]), r"give it in eV \(1 eV\?\)"),
        (lambda: EnergyGrid.from_regions([(8330, 8340, 500)]), "longer than the region"),
        (lambda: EnergyGrid.from_regions([(8330, 8340, 1, 500)]), "seconds are meant"),
        (lambda: EnergyGrid((8330.0, 8340.0), 500), r"500 s.*seconds are meant \(500 ms are 0\.5 s\)"),
        (lambda: EnergyGrid((8330.0, 8340.0), (0.5, 500)), "seconds are meant"),
        (lambda: EnergyGrid.preset("default", "Ni_K", exposure_s=500), "seconds are meant"),
        (lambda: EnergyGrid.from_dict({"preset": "default", "edge": "Ni", "exposure_s": 500}), "seconds are"),
        (lambda: EnergyGrid.from_regions([(8330, 8340)]), "region"),
        (lambda: EnergyGrid.from_regions([7]), "region"),
        (lambda: EnergyGrid.from_regions([{"start_ev": 8330, "stop": 8340}]), "region"),
        (lambda: EnergyGrid.from_regions([KRegion("Ni_K", -1, 6, 1)]), "negative"),
        (lambda: EnergyGrid.from_regions([KRegion("Ni_K", 0, 6, 1, exposure_power=1)]), "above the edge"),
        (lambda: EnergyGrid.from_regions([KRegion("Ni_K", 1, 16, 1, exposure_power=3)]), "seconds"),
        (lambda: EnergyGrid.preset("ssrl", "Ni_K"), "ssrl_62"),
        (lambda: EnergyGrid.preset("ssrl_62", "Fe_K"), "Ni_K"),
        (lambda: EnergyGrid.preset("l_edge", "Ni_K"), "ssrl_62"),
        (lambda: EnergyGrid.from_dict({}), "exactly one"),
        (lambda: EnergyGrid.from_dict({"energies_ev": [8333], "exposures": 1}), "exposures"),
        (lambda: EnergyGrid.from_dict({"preset": "ssrl_62"}), "edge"),
        (lambda: EnergyGrid((8333.0,)).ordered("random"), "ascending"),
        (lambda: EnergyGrid((7112.0,)).check_edge(EDGES["Ni_K"]), "out of range"),
        (lambda: EnergyGrid((8333.0,)).check_edge(EDGES["Ni_L3"]), "out of range"),
    ],
)
def test_a_wrong_grid_is_refused_in_one_sentence(make, said):
    with pytest.raises(GridError, match=said) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", ")."))


def test_a_csv_that_is_no_grid_is_named(tmp_path):
    path = tmp_path / "grid.csv"
    with pytest.raises(GridError, match=r"grid\.csv"):
        EnergyGrid.from_csv(path)
    path.write_text("8333\n8334\n")
    with pytest.raises(GridError, match="energy_ev"):
        EnergyGrid.from_csv(path)
    for text in ("energy_ev,exposure_s\n8333,500\n", "start,stop,step,exposure\n8300,8340,1,500\n"):
        path.write_text(text)
        with pytest.raises(GridError, match=r"grid\.csv cannot be used.*seconds are meant"):
            EnergyGrid.from_csv(path)
    path.write_text("energy_ev,exposure_ms\n8333,500\n8334,500\n")
    assert EnergyGrid.from_csv(path).exposure_s == (0.5, 0.5)
    path.write_text("energy_ev\n8333\n8334\n")
    assert EnergyGrid.from_csv(path).energies_ev == (8333, 8334)
