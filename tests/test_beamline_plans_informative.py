"""The most informative energies first: a map early in the scan, and every frame where it belongs."""

import h5py
import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.preprocessors import plan_mutator
from bluesky.utils import RunEngineInterrupted, single_gen

from beamline_plans import (
    EnergyGrid,
    GridError,
    PlanError,
    RunLedger,
    TimeModel,
    dry_run,
    multi_edge_xanes,
    resume_scan,
    validate_run_documents,
    xanes_scan,
    xanes_series,
)
from callbacks import LiveSOC
from edge_fitting import ReferenceSeries, expected_sigma
from edge_fitting.design._fisher import FrameInformation
from nimco import measure_standards
from nimco.testing import devices_of
from sim_devices import SimBeamline

GRID = EnergyGrid.preset("default", "Ni_K")


@pytest.fixture(scope="module")
def references():
    return measure_standards(
        RunEngine({}), SimBeamline((32, 32), seed=1), "Ni_K", socs=(0.0, 0.5, 1.0), grid=GRID
    )


def history_of(references, seed, order):
    """Per number of frames: pixels with a value among the clear ones, and their SOC error (RMS)."""
    beamline = SimBeamline((64, 64), seed=seed)
    truth = beamline.truth("Ni_K")
    clear = truth.jump > 0.2
    found = {}

    def note(update):
        ok = clear & np.isfinite(update["soc"].values)
        error = (update["soc"].values - truth.soc)[ok]
        found[update.attrs["n_frames"]] = (
            ok.sum() / clear.sum(),
            float(np.sqrt(np.mean(error**2))) if error.size else np.inf,
        )

    engine = RunEngine({})
    with LiveSOC(update_period_s=1e9, update_frames=1) as live:
        # In this thread: a subscriber of its own may skip what is overtaken.
        keep = live._keep
        live._keep = lambda uid, update, nbytes: (keep(uid, update, nbytes), note(update.get()))
        engine.subscribe(live)
        engine(
            xanes_scan(
                *devices_of(beamline), edge="Ni_K", grid=GRID, order=order, i0=beamline.i0, n_darks=2,
                references=references.to_dict(),
            )
        )  # fmt: skip
        live.wait(120)
    return found


@pytest.mark.parametrize("seed", [2, 5])
def test_the_eighth_frame_gives_a_map_where_ascending_energies_give_none(references, seed):
    early = history_of(references, seed, "informative")
    assert len(early) > 50  # a map with every frame, however fast they come
    share, error = early[8]
    assert share > 0.95
    assert error < 1.5 * early[62][1]
    assert early[16][1] < 1.25 * early[62][1]
    if seed == 2:
        late = history_of(references, seed, "ascending")
        assert all(share < 0.5 or error > 4 * late[62][1] for n, (share, error) in late.items() if n < 35)
        assert late[62][1] == pytest.approx(early[62][1], rel=0.15)


@pytest.mark.parametrize("preset", ["default", "nmc622_62", "fxi_21", "fxi_101"])
def test_every_prefix_block_is_near_the_best_there_is(references, preset):
    low, high = references.energy_ev[[0, -1]]
    given = EnergyGrid.preset(preset, "Ni_K")
    inside = [e for e in given.energies_ev if low <= e <= high]
    times = np.linspace(0.2, 0.4, len(inside))
    grid = EnergyGrid(inside, times)
    ordered = grid.ordered("informative", references)
    assert sorted(ordered) == sorted(grid)  # each energy once, with its exposure
    sigma = [expected_sigma(ordered.energies_ev[:n], references, 0.3, 0.02) for n in (8, 16, len(inside))]
    assert sigma[0] < 1.6 * sigma[2]
    assert sigma[1] < 1.3 * sigma[2]
    first = ordered.energies_ev[:8]
    assert first[0] < 8330 < 8360 < first[-1]
    assert list(first) == sorted(first)  # the monochromator comes from below
    best = EnergyGrid.chosen(references, 8, candidates=grid)
    assert sigma[0] < 1.5 * expected_sigma(best, references, 0.3, 0.02)


def best_eight(features, rng):
    """Smallest variance of eight frames that exchanges from random starts find, no condition on where they lie."""
    best, n = np.inf, features.shape[1]
    for _ in range(8):
        chosen, value, since = list(rng.choice(n, 8, replace=False)), np.inf, 0
        while since < 8:
            others = chosen[1:]
            left = features[:, others]
            tried = np.swapaxes(left, 1, 2)[:, None] @ left[:, None] + (
                features[:, :, :, None] * features[:, :, None, :]
            )
            values = np.linalg.inv(tried + 1e-9 * np.eye(4))[..., 0, 0].mean(axis=0)
            values[others] = np.inf
            found = int(np.argmin(values))
            since = 0 if values[found] < value * (1 - 1e-9) else since + 1
            chosen, value = [*others, found if since == 0 else chosen[0]], min(value, values[found])
        best = min(best, value)
    return best


@pytest.mark.parametrize("edge", ["Ni_K", "Mn_K", "Co_K", "real"])
def test_no_other_eight_energies_would_be_much_better(edge, request):
    if edge == "real":
        with h5py.File(
            request.getfixturevalue("shared_data") / "stacks" / "semireal_ni_k_particle.h5"
        ) as file:
            series = ReferenceSeries(file["energy_ev"][:], file["reference/mu"][:], file["reference/soc"][:])
    elif edge == "Ni_K":
        series = request.getfixturevalue("references")
    else:
        series = measure_standards(
            RunEngine({}),
            SimBeamline((16, 16), seed=1),
            edge,
            socs=(0.0, 0.5, 1.0),
            grid=EnergyGrid.preset("default", edge),
        )
    low, high = series.energy_ev[[0, -1]]
    for preset in ("default", "fxi_41"):
        given = EnergyGrid.preset(preset, "Ni_K" if edge == "real" else edge)
        grid = EnergyGrid([e for e in given.energies_ev if low <= e <= high])
        first = grid.ordered("informative", series).energies_ev[:8]
        features = FrameInformation(series).features(np.asarray(grid.energies_ev))
        best = np.sqrt(best_eight(features, np.random.default_rng(3)))
        # What is left is the price of one energy below the edge, one above and an axis that may be off.
        assert expected_sigma(first, series, 1.0, 1.0) < 1.1 * best


def test_what_the_order_needs_is_said(references):
    with pytest.raises(GridError, match="goes by reference spectra and there are none"):
        GRID.ordered("informative")
    beamline = SimBeamline((8, 8), seed=1)
    for grid in ({"preset": "default", "order": "informative"}, GRID):
        order = None if isinstance(grid, dict) else "informative"
        with pytest.raises(GridError, match="there are none"):
            dry_run(xanes_scan(*devices_of(beamline), edge="Ni_K", grid=grid, order=order))
    with pytest.raises(GridError, match=r"cannot be put in the order informative.*cover"):
        EnergyGrid((8100.0, 8300.0, 8345.0, 8500.0)).ordered("informative", references)
    with pytest.raises(PlanError, match="references do not suit"):
        dry_run(xanes_scan(*devices_of(beamline), edge="Ni_K", order="informative", references={"mu": [1]}))
    with pytest.raises(GridError, match="choose ascending, descending, interleaved or informative"):
        GRID.ordered("best")
    few = EnergyGrid((8300.0, 8345.0, 8350.0, 8350.0, 8500.0)).ordered("informative", references)
    assert sorted(few.energies_ev) == [8300.0, 8345.0, 8350.0, 8350.0, 8500.0]


def test_every_plan_takes_the_order_and_the_dry_run_says_what_it_costs(references):
    beamline = SimBeamline((8, 8), seed=1)
    series = {"Ni_K": references.to_dict()}
    expected = GRID.ordered("informative", references).energies_ev
    plans = [
        xanes_scan(*devices_of(beamline), edge="Ni", order="informative", references=series["Ni_K"], n_darks=1),
        xanes_scan(
            *devices_of(beamline), edge="Ni_K", grid={"preset": "default", "order": "informative"},
            references=series["Ni_K"], n_darks=1,
        ),
        multi_edge_xanes(*devices_of(beamline), edges=["Ni_K"], order="informative", references=series, n_darks=1),
        xanes_series(*devices_of(beamline), edges=["Ni_K"], order="informative", references=series, n_darks=1),
    ]  # fmt: skip
    for plan in plans:
        starts = []
        engine = RunEngine({})
        engine(plan, lambda name, doc, kept=starts: kept.append(doc) if name == "start" else None)
        assert tuple(starts[0]["xanes"]["energies_ev"]) == expected

    times = TimeModel(energy_s=0.1, energy_s_per_ev=0.02)
    for flats in ("per_energy", "every_n", "after_all", "none"):
        runs = {
            order: dry_run(
                xanes_scan(
                    *devices_of(beamline),
                    edge="Ni_K",
                    order=order,
                    references=series["Ni_K"],
                    flat_order=flats,
                ),
                times=times,
            )
            for order in ("ascending", "informative")
        }
        ascending, informative = runs["ascending"], runs["informative"]
        assert ascending.energy_s == pytest.approx(ascending.energy_ascending_s)
        assert informative.energy_ascending_s == pytest.approx(ascending.energy_s)
        # What it says is what the messages take, but for the way from where the energy was before, and back.
        extra_s = informative.energy_s - informative.energy_ascending_s
        assert extra_s > 5
        assert informative.time_s - ascending.time_s == pytest.approx(
            extra_s, abs=2 * 0.02 * np.ptp(expected)
        )


@pytest.mark.parametrize(("flats", "stop_at"), [("every_n", 13), ("after_all", 80), ("per_energy", 5)])
def test_an_interrupted_scan_is_resumed_in_the_same_order(references, flats, stop_at):
    beamline = SimBeamline((16, 16), seed=3)
    engine, ledger, documents = RunEngine({}), RunLedger(), []
    engine.subscribe(ledger)
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    saved = 0

    def interrupt(msg):
        nonlocal saved
        saved += msg.command == "save"
        if msg.command == "checkpoint" and saved >= stop_at > 0:
            saved = -1000
            return None, single_gen(Msg("pause", defer=False))
        return None, None

    plan = xanes_scan(
        *devices_of(beamline), edge="Ni_K", grid=GRID, order="informative", i0=beamline.i0, n_darks=1,
        flat_order=flats, flat_every=7, references=references.to_dict(),
    )  # fmt: skip
    with LiveSOC() as live:
        engine.subscribe(live)
        with pytest.raises(RunEngineInterrupted):
            engine(plan_mutator(plan, interrupt))
        engine.abort()
        first = documents[0][1]["uid"]
        n_before = len(documents)
        engine(resume_scan(*devices_of(beamline), uid=first, archive=ledger, i0=beamline.i0))
        live.wait(240)
        update = live.latest()
    validate_run_documents(documents[n_before:])
    assert update.attrs["complete"]
    assert update.attrs["n_frames"] == len(GRID)
    order = GRID.ordered("informative", references).energies_ev
    for index, energy_ev in zip(
        update["frame_energy_index"].values, update["frame_energy_ev"].values, strict=True
    ):
        assert energy_ev == pytest.approx(order[index], abs=0.5)


def test_a_grid_of_nothing_but_the_edge_is_ordered_too():
    energies = np.linspace(8340.0, 8360.0, 21)
    mu = [1 / (1 + np.exp(-(energies - e0))) for e0 in (8346.0, 8348.0)]
    series = ReferenceSeries(energies, mu, (0.0, 1.0))
    ordered = EnergyGrid(energies).ordered("informative", series)
    assert sorted(ordered.energies_ev) == pytest.approx(sorted(energies))
