"""A soft XAS scan that is paused or ended, and its axis stopped in a move: the shutter, the energy, the points."""

import contextlib

import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from beamline_devices import OutOfLimitsError
from beamline_plans import EnergyGrid, soft_xas_scan
from nimco.testing import wait_until
from sim_devices import SimSoftBeamline

ENERGIES_EV = (840.0, 850.0, 853.0, 855.5, 860.0, 872.0, 880.0)
START_EV = 846.0


def scan(beamline):
    return soft_xas_scan(
        beamline.energy,
        edges=["Ni_L3"],
        grids={"Ni_L3": EnergyGrid(ENERGIES_EV, (0.1,) * len(ENERGIES_EV))},
        i0=beamline.mesh,
        tey=beamline.tey,
        fy=beamline.fy,
        shutter=beamline.shutter,
        n_darks=1,
    )


def played(beamline, at=None, action=None):
    """Run the plan with an action before one of its messages; the engine, all events, the number of messages."""
    engine, events, count = RunEngine(), [], [0]

    def hook(_msg):
        count[0] += 1
        if count[0] == at:
            action(engine)

    engine.msg_hook = hook
    engine.subscribe(lambda name, doc: events.append(doc) if name == "event" else None)
    beamline.energy.set(START_EV).wait(5)
    with contextlib.suppress(RunEngineInterrupted):
        engine(scan(beamline))
    return engine, events, count


def pause(engine):
    engine.loop.create_task(engine._request_pause_coro(False))


def energies(events):
    return sorted(
        {round(event["data"]["soft_energy"], 3) for event in events if "soft_energy" in event["data"]}
    )


@pytest.mark.parametrize("ends", [False, True])
def test_a_pause_at_any_message_closes_the_shutter_and_the_end_is_safe(ends):
    beamline = SimSoftBeamline(seed=1)
    _, events, count = played(beamline)
    expected, n_messages = energies(events), count[0]
    assert set(ENERGIES_EV) <= set(expected)
    for number in range(2, n_messages, 5):
        engine, events, _ = played(beamline, number, pause)
        if engine.state == "paused":
            assert not beamline.station.shutter_open, number
            if ends:
                engine.abort()
            else:
                engine.resume()
        assert engine.state == "idle"
        assert not beamline.station.shutter_open, number
        assert beamline.energy.position == pytest.approx(START_EV), number
        assert ends or energies(events) == expected, number


@pytest.mark.parametrize("success", [True, False])
def test_an_axis_that_is_stopped_says_what_was_asked_for_and_where_it_is(success):
    beamline = SimSoftBeamline(seed=1, time_scale=1.0)
    status = beamline.energy.set(860.0)
    beamline.energy.stop(success=success)
    wait_until(lambda: status.done, 10)
    assert status.success is success
    assert beamline.energy.position != 860.0
    assert beamline.energy.locate()["readback"] == pytest.approx(beamline.station.setpoint_ev)


@pytest.mark.parametrize(
    ("value", "said"), [(0.85, "it looks like keV, give 850 eV"), ("far", "takes"), (1e5, "it takes")]
)
def test_energies_out_of_reach_are_refused(value, said):
    with pytest.raises(OutOfLimitsError, match=said):
        SimSoftBeamline().energy.set(value)
