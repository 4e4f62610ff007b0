"""An edge may be written as people write it, wherever one is named."""

import numpy as np
import pytest
from bluesky import RunEngine

from beamline_plans import (
    EnergyGrid,
    GridError,
    KRegion,
    PlanError,
    edge_jump_map,
    multi_edge_xanes,
    xas_scan,
)
from callbacks import LiveSOC
from edge_fitting import EDGES, EdgeFittingError, calibrate_foil, edge_among, edge_name, edge_names
from sim_devices import SimBeamline


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *[
            (name, "Ni_K")
            for name in ("Ni", "ni", "NI", "Ni_K", "ni-k", "NiK", "Ni K", " Ni_K ", "Ni K edge")
        ],
        *[(name, "Mn_L3") for name in ("Mn_L3", "mn l3", "MnL3", "MN-L3")],
        *[(name, name) for name in EDGES],
    ],
)
def test_a_name_in_any_spelling(written: str, meant: str) -> None:
    assert edge_name(written) == meant


@pytest.mark.parametrize("written", ["", "Fe", "N", "Ni_M", "Mn_L", "NiMn", "K", None, 28, ["Ni"], "Ni_K_K"])
def test_what_is_no_edge_is_refused_with_those_there_are(written: object) -> None:
    with pytest.raises(EdgeFittingError, match=r"no edge .*Ni_K, Co_K"):
        edge_name(written)


def test_several_edges_in_a_list_or_one_text() -> None:
    expected = ["Ni_K", "Mn_K", "Co_L3"]
    for given in (["ni", "Mn-K", "Co L3"], "Ni, Mn K, Co_L3", "Ni Mn CoL3", "Ni;MnK;Co L3"):
        assert edge_names(given) == expected
    with pytest.raises(EdgeFittingError, match="named twice"):
        edge_names("Ni, Ni_K")
    with pytest.raises(EdgeFittingError, match="at least one"):
        edge_names(" , ")


def test_grids_know_every_spelling() -> None:
    assert EnergyGrid.preset("default", "ni k") == EnergyGrid.preset("default", "Ni_K")
    assert KRegion("Ni", 1, 2, 1).energies_ev() == KRegion("Ni_K", 1, 2, 1).energies_ev()
    with pytest.raises(GridError, match="choose one of default, ssrl_62"):
        EnergyGrid.preset("nothing", "Ni")
    with pytest.raises(GridError, match="no edge 'Fe'"):
        EnergyGrid.preset("default", "Fe")


def test_documents_of_every_plan_name_the_edge_by_its_key() -> None:
    beamline = SimBeamline((8, 8))
    full_field = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    small = EnergyGrid((8300.0, 8340.0))
    starts: list[dict] = []
    run_engine = RunEngine()
    run_engine.subscribe(lambda _, doc: starts.append(doc), "start")
    run_engine(
        multi_edge_xanes(
            *full_field,
            edges="ni, Mn",
            grids={"NiK": small, "mn_k": (6500.0, 6550.0)},
            n_darks=1,
        )
    )
    run_engine(edge_jump_map(*full_field, edges=["co-k"], n_darks=1))
    run_engine(xas_scan(beamline.energy, edge="Ni", grid=small, i0=beamline.i0))
    assert [s["xanes"]["edge"] for s in starts] == ["Ni_K", "Mn_K", "Co_K", "Ni_K"]
    assert starts[0]["xanes"]["energies_ev"] == list(small.energies_ev)
    with pytest.raises(PlanError, match="named twice"):
        run_engine(multi_edge_xanes(*full_field, edges=["Ni", "Ni_K"]))
    with pytest.raises(PlanError, match="grids names 'Co_K'"):
        run_engine(multi_edge_xanes(*full_field, edges=["Ni"], grids={"Co": small}))


def test_analysis_takes_references_and_runs_under_any_spelling(scan_documents) -> None:
    scan = scan_documents(n_energies=16, edge="ni k", references=None)
    with LiveSOC({"Ni": scan.references}) as live:
        for name, doc in scan.run():
            live(name, doc)
        live.wait(240)
        update = live.latest()
    assert update.attrs["edge"] == "Ni_K"
    assert np.nanmedian(np.abs(update["soc"].values - scan.soc)) < 0.05
    with pytest.raises(EdgeFittingError, match="no edge 'nickel'"):
        LiveSOC({"nickel": scan.references})


def test_foil_calibration_takes_any_spelling() -> None:
    energy_ev = np.arange(8300.0, 8400.0, 0.25)
    mu = sum(
        share * (0.5 + np.arctan((energy_ev - centre) / width) / np.pi)
        for share, centre, width in ((0.35, 8334.0, 0.8), (0.65, 8343.0, 3.0))
    )
    assert calibrate_foil(energy_ev, mu, edge="Ni").nominal_ev == EDGES["Ni_K"].foil_inflection_ev


@pytest.mark.parametrize("written", ["O K", "O_K", "ok", "OK", "o-k", "O K edge"])
def test_results_of_oxygen_are_meant_by_any_spelling(written: str) -> None:
    assert edge_among(written, ["Ni_L3", "O_K"]) == "O_K"


def test_what_is_stored_comes_before_what_is_usual() -> None:
    assert edge_among("Ni", ["Ni_L3", "O_K"]) == "Ni_L3"
    assert edge_among("Ni", ["Ni_K", "Ni_L3"]) == "Ni_K"
    assert edge_among("xrf", ["xrf"]) == "xrf"
    assert edge_among("Mn K", ["Ni_K"]) == "Mn_K"
    with pytest.raises(EdgeFittingError, match=r"no edge 'F K'.*O_K"):
        edge_among("F K", ["O_K"])


@pytest.mark.parametrize("written", ["Ni K", "ni-k", "NiK", "Ni"])
def test_the_twin_takes_any_spelling(written: str) -> None:
    beamline = SimBeamline((8, 8))
    np.testing.assert_array_equal(beamline.truth(written).soc, beamline.truth("Ni_K").soc)
    beamline.load_standard(written, 0.5)
