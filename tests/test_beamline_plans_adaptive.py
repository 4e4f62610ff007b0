import math

import numpy as np
import pytest
import xarray as xr
from bluesky import Msg, RunEngine
from bluesky.preprocessors import plan_mutator
from bluesky.simulators import RunEngineSimulator
from bluesky.utils import RunEngineInterrupted, single_gen

from beamline_plans import EnergyGrid, LiveMaps, PlanError, adaptive_xanes, validate_run_documents
from callbacks import LiveSOC
from nimco import measure_standards
from nimco.testing import DocumentCollector
from sim_devices import SimBeamline


@pytest.fixture
def recorder():
    return DocumentCollector(RunEngine({}, call_returns_result=True))


@pytest.fixture(scope="module")
def references():
    beamline = SimBeamline(shape=(32, 32), seed=11)
    grid = EnergyGrid.preset("ssrl_62", "Ni_K")
    return measure_standards(RunEngine({}), beamline, "Ni_K", socs=(0.0, 0.5, 1.0), grid=grid)


@pytest.fixture
def beamline():
    return SimBeamline(shape=(32, 32), seed=5)


def plan_with(beamline, **kwargs):
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    return adaptive_xanes(*devices, **{"edge": "Ni_K", "i0": beamline.i0, "n_darks": 2, **kwargs})


def plan_for(beamline, references, live, **kwargs):
    return plan_with(beamline, references=references.to_dict(), live=live, **kwargs)


class FixedLive:
    """A live analysis that reports the given sigmas, one per question."""

    def __init__(self, *sigmas, behind=0):
        self.sigmas = list(sigmas)
        self.behind = behind
        self.asked = []

    def latest(self, uid):
        self.asked.append(uid)
        if not self.sigmas:
            raise KeyError(uid)
        sigma = self.sigmas.pop(0) if len(self.sigmas) > 1 else self.sigmas[0]
        soc = np.full((4, 4), 0.5, np.float32)
        soc[0, 0] = np.nan
        maps = {"soc": soc, "soc_sigma": np.full((4, 4), sigma, np.float32)}
        variables = {name: (("row", "column"), values) for name, values in maps.items()}
        return xr.Dataset(variables, attrs={"n_frames": 10_000 - self.behind})


def test_a_live_soc_can_be_followed():
    with LiveSOC() as live:
        follower: LiveMaps = live
        with pytest.raises(Exception, match="held"):
            follower.latest("nothing")


def test_the_scan_stops_when_the_map_is_good_enough(beamline, references, recorder, capsys):
    with LiveSOC(update_period_s=0.02) as live:
        recorder.run_engine.subscribe(live)
        result = recorder.run_engine(
            plan_for(beamline, references, live, target_sigma=0.05, max_frames=40)
        ).plan_result
        live.wait(240)
        final = live.latest(result.uid)
    validate_run_documents(recorder.documents)
    assert result.reason == "target"
    assert result.n_frames == len(recorder.data("primary")) == final.attrs["n_frames"] < 40
    assert result.frames_saved == 62 - result.n_frames
    sigma = final["soc_sigma"].values[np.isfinite(final["soc"].values)]
    assert np.median(sigma) == pytest.approx(result.median_sigma, rel=1e-3)
    assert result.median_sigma <= 0.05
    # The precision it promises is the precision it has: compare with what is really in the beam.
    truth = beamline.truth("Ni_K")
    where = truth.mask & np.isfinite(final["soc"].values) & (truth.jump > 0.3)
    error = (final["soc"].values - truth.soc)[where]
    assert np.sqrt(np.mean(error**2)) < 2 * 0.05
    decisions = recorder.data("adaptive")
    assert decisions[-1]["adaptive_decision"] == "target"
    assert decisions[-1]["adaptive_n_frames"] == result.n_frames
    assert "% of its dose was saved" in capsys.readouterr().out


def test_an_energy_taken_again_counts_its_repeats_and_shares_its_flat(beamline, references, recorder):
    recorder.run_engine(plan_for(beamline, references, FixedLive(1.0), max_frames=25))
    validate_run_documents(recorder.documents)
    taken = {}
    for event in recorder.data("primary"):
        taken.setdefault(event["xanes_energy_index"], []).append(event["xanes_repeat"])
    assert max(len(repeats) for repeats in taken.values()) > 1
    assert all(repeats == list(range(len(repeats))) for repeats in taken.values())
    flats = [event["xanes_energy_index"] for event in recorder.data("flat")]
    assert sorted(flats) == sorted(taken)
    energies = recorder.of("start")[0]["xanes"]["energies_ev"]
    for event in recorder.data("primary"):
        assert event["xanes_energy_setpoint_ev"] == energies[event["xanes_energy_index"]]


@pytest.mark.parametrize(
    ("budget", "reason", "frames"),
    [({"max_frames": 9}, "frames", 9), ({"max_frames": 20, "max_exposure_s": 3.6}, "dose", 7)],
)
def test_the_scan_stops_when_the_budget_is_spent(beamline, references, recorder, budget, reason, frames):
    result = recorder.run_engine(plan_for(beamline, references, FixedLive(0.5), **budget)).plan_result
    assert (result.reason, result.n_frames, result.median_sigma) == (reason, frames, pytest.approx(0.5))
    assert result.dose_saved == pytest.approx(1 - frames / 62)
    assert recorder.data("adaptive")[-1]["adaptive_decision"] == reason


def test_the_scan_stops_when_the_time_is_spent(beamline, references):
    simulator = RunEngineSimulator()
    clock = [0.0]
    simulator.add_handler("read", lambda msg: {"clock": {"value": clock[0], "timestamp": 0.0}}, "clock")

    def expose(msg):
        clock[0] += 1.0

    simulator.add_handler("trigger", expose, "camera")
    messages = simulator.simulate_plan(
        plan_for(beamline, references, FixedLive(0.5), max_frames=40, max_time_s=30.0)
    )
    assert simulator.return_value.reason == "time"
    n_darks = 2
    exposures = sum(m.command == "trigger" and m.obj is beamline.camera for m in messages)
    assert 30 <= exposures - n_darks <= 31


def test_the_questions_become_rare_while_the_target_is_far(beamline, references, recorder):
    far, near = FixedLive(0.2), FixedLive(0.06)
    for live in (far, near):
        recorder.run_engine(plan_for(beamline, references, live, max_frames=24, target_sigma=0.05))
    assert len(far.asked) < len(near.asked)


def test_a_silent_analysis_does_not_hang_the_scan(beamline, references, recorder):
    result = recorder.run_engine(
        plan_for(beamline, references, FixedLive(), max_frames=6, timeout_s=0.1)
    ).plan_result
    assert (result.reason, result.median_sigma) == ("frames", None)
    assert math.isnan(recorder.data("adaptive")[-1]["adaptive_median_sigma"])
    late = FixedLive(0.01, behind=9_999)
    result = recorder.run_engine(
        plan_for(beamline, references, late, max_frames=6, timeout_s=0.1)
    ).plan_result
    assert result.n_frames == 6


@pytest.mark.parametrize("at", [30, 61, 90, 101])
def test_a_pause_changes_nothing_but_marks_the_double(beamline, references, at):
    outcomes = []
    for paused in (False, True):
        recorder = DocumentCollector(RunEngine({}, call_returns_result=True))
        count = [0]

        def mutate(msg, count=count, paused=paused):
            count[0] += 1
            return (
                (None, single_gen(Msg("pause", defer=False))) if paused and count[0] == at else (None, None)
            )

        plan = plan_mutator(plan_for(beamline, references, FixedLive(0.5), max_frames=9), mutate)
        if paused:
            with pytest.raises(RunEngineInterrupted):
                recorder.run_engine(plan)
            result = recorder.run_engine.resume().plan_result
        else:
            result = recorder.run_engine(plan).plan_result
        validate_run_documents(recorder.documents)
        frames = {(e["xanes_energy_index"], e["xanes_repeat"]) for e in recorder.data("primary")}
        outcomes.append((frames, result.n_frames))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"target_sigma": 0.0}, "target_sigma"),
        ({"target_sigma": math.nan}, "target_sigma"),
        ({"max_frames": 4}, "max_frames"),
        ({"first_frames": 4}, "first_frames"),
        ({"first_frames": 31}, "first_frames"),
        ({"max_exposure_s": 0.0}, "max_exposure_s"),
        ({"max_time_s": -1.0}, "max_time_s"),
        ({"live": None}, "live analysis"),
        ({"grid": [8340.0, 8345.0, 8350.0]}, "No energies can be chosen"),
        ({"grid": [8100.0, 8345.0]}, "cover"),
        ({"references": None}, "needs reference"),
    ],
)
def test_a_request_that_makes_no_sense_moves_nothing(beamline, references, recorder, kwargs, said):
    fixed = {"references": references.to_dict(), "live": FixedLive(0.1)}
    with pytest.raises(PlanError, match=said):
        recorder.run_engine(plan_with(beamline, **{**fixed, **kwargs}))
    assert recorder.documents == []
