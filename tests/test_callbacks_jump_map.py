"""Two energies per edge give a map of each metal: from the plan through the live analysis to Tiled and the picture."""

import numpy as np
import pytest
from bluesky import RunEngine

from beamline_plans import EnergyGrid, edge_jump_map, xanes_scan
from callbacks import LiveSOC, LiveSOCPlot, SOCPublisher, has_value, open_soc
from edge_fitting import EDGES, EdgeFitter, FitStatus, ReferenceSeries
from nimco.testing import devices_of
from sim_devices import SimBeamline

EDGE_NAMES = ("Ni_K", "Mn_K", "Co_K")


def measure(beamline, plan, *subscribers, **kwargs):
    engine = RunEngine({})
    starts = []
    engine.subscribe(lambda name, doc: starts.append(doc["uid"]) if name == "start" else None)
    with LiveSOC(subscribers=subscribers, **kwargs) as live:
        engine.subscribe(live)
        engine(plan)
        live.wait(240)
        return [live.latest(uid) for uid in starts], live.errors


@pytest.mark.parametrize(("repeats", "seed"), [(1, 3), (3, 6)])
def test_jump_maps_agree_with_the_twin_within_their_sigma(repeats, seed):
    beamline = SimBeamline((96, 96), seed=seed)
    plan = edge_jump_map(
        *devices_of(beamline),
        edges=list(EDGE_NAMES),
        i0=beamline.i0,
        repeats=repeats,
        n_flats=repeats,
        exposure_s=1.0,
    )
    updates, errors = measure(beamline, plan)
    assert errors == []
    assert [update.attrs["edge"] for update in updates] == list(EDGE_NAMES)
    sigmas = {}
    for update in updates:
        maps, truth = update, beamline.truth(update.attrs["edge"])
        assert maps.attrs["method"] == "edge_jump"
        assert update.attrs["complete"]
        assert np.isnan(maps["soc"].values).all()
        clear = truth.jump > 0.6 * truth.jump.max()
        good = clear & has_value(maps)
        assert good.sum() > 0.9 * clear.sum()
        # The oscillations at the one energy above the edge are a few per cent of the jump.
        assert np.median(maps["edge_jump"].values[good] / truth.jump[good]) == pytest.approx(1.0, abs=0.08)
        common = np.median(maps["edge_jump"].values[good] / truth.jump[good])
        scatter = (maps["edge_jump"].values - common * truth.jump)[good] / maps["edge_jump_sigma"].values[
            good
        ]
        assert 0.8 < 1.4826 * np.median(np.abs(scatter)) < 1.25
        outside = truth.jump < 0.002
        assert (maps["status"].values[outside] == FitStatus.NO_EDGE).mean() > 0.97
        sigmas[update.attrs["edge"]] = float(np.median(maps["edge_jump_sigma"].values[good]))
        assert update["history_n_frames"].values[-1] == 2 * repeats
        assert update["history_sigma"].values[-1] == pytest.approx(sigmas[update.attrs["edge"]], rel=0.5)
    if repeats == 3:
        assert sigmas["Ni_K"] < 0.02


def test_a_jump_map_is_published_and_drawn_even_where_the_session_has_references(tiled_server, tmp_path):
    series = ReferenceSeries(
        np.arange(8200.0, 8700.0, 2.0),
        [1 / (1 + np.exp(-(np.arange(8200.0, 8700.0, 2.0) - e0))) for e0 in (8344.0, 8346.0)],
        (0.0, 1.0),
    )
    beamline = SimBeamline((48, 48), seed=2)
    plot = LiveSOCPlot(tmp_path / "jump.png", show=False)
    with SOCPublisher(tiled_server.maps, raw_container=None, spool_dir=tmp_path) as publisher:
        updates, errors = measure(
            beamline, edge_jump_map(*devices_of(beamline), edges=["Ni", "Mn"], below_ev=40.0, above_ev=120.0),
            publisher, plot, references={"Ni_K": series},
        )  # fmt: skip
        publisher.wait(60)
    assert errors == []
    client = tiled_server.client()
    for update in updates:
        stored = open_soc(client, update.attrs["raw_uid"])
        np.testing.assert_array_equal(stored["edge_jump"].values, update["edge_jump"].values)
        np.testing.assert_array_equal(stored["edge_jump_sigma"].values, update["edge_jump_sigma"].values)
        assert stored.attrs["method"] == "edge_jump"
        assert stored.attrs["definition"].startswith("edge_jump: no edge energy")
        figure = plot.render(update)
        assert figure.axes[0].get_title(loc="left") == f"{EDGES[update.attrs['edge']].element} edge jump"
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert any(title.startswith("standard deviation of the") for title in titles)
    plot.close()
    assert (tmp_path / "jump.png").stat().st_size > 10_000


def test_a_spectrum_stays_a_spectrum():
    beamline = SimBeamline((16, 16), seed=1)
    grid = EnergyGrid((8300.0, 8340.0, 8345.0, 8355.0, 8450.0))
    updates, _ = measure(beamline, xanes_scan(*devices_of(beamline), edge="Ni_K", grid=grid))
    assert updates[0].attrs["method"] == "series"
    assert "edge_jump_sigma" not in updates[0]


@pytest.mark.parametrize("edge", EDGE_NAMES)
def test_missing_saturated_dark_and_inverted_pixels_are_said(edge):
    rng = np.random.default_rng(1)
    fitter = EdgeFitter((24, 24), edge=edge, method="edge_jump")
    e0 = EDGES[edge].energy_ev
    below = (0.5 + rng.normal(0, 0.01, (24, 24))).astype(np.float32)
    above = (1.0 + rng.normal(0, 0.01, (24, 24))).astype(np.float32)
    below[0, 0], above[1, 1], above[2, 2], above[3, 3] = np.nan, np.inf, 0.5, 0.1
    fitter.push(e0 - 20.0, below)
    assert (fitter.maps().status == FitStatus.TOO_FEW_FRAMES).all()
    fitter.push(e0 + 80.0, above)
    maps = fitter.maps()
    names = [FitStatus(int(maps.status[k, k])).name for k in range(5)]
    assert names == ["NO_DATA", "SATURATED", "NO_EDGE", "INVERTED", "OK"]
    assert np.isnan(maps.edge_jump[0, 0])
    # Half a unit more, and what absorbs below the edge has become less on the way: 0.5 (E/E0)^-2.75.
    expected = (1.0 - 0.5 * ((e0 - 20) / (e0 + 80)) ** 2.75) * (1 + 80 / e0) ** 2.45
    assert np.nanmedian(maps.edge_jump) == pytest.approx(expected, abs=0.003)
    assert np.nanmedian(maps.edge_jump_sigma) == pytest.approx(0.0141 * 1.03, rel=0.2)
