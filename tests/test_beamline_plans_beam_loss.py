"""Beam lost, a pause, an end at any message of a scan: no frame without beam counts, and all is left safe."""

import numpy as np
import pytest
from bluesky import RunEngine
from ophyd import Signal

from beamline_plans import (
    EnergyGrid,
    beam_suspenders,
    multi_edge_xanes,
    xanes_scan,
    xanes_series,
    xas_scan,
)
from sim_devices import Fault, SimBeamline

HOME_EV = 8000.0
GRID = EnergyGrid((8300.0, 8350.0), (0.1, 0.1))
# Dark and light of the twin are far apart; a frame without beam has the counts of a dark.
DARK_COUNTS = 150.0
TIME_SCALE = 2e-4


def fresh(time_scale=TIME_SCALE):
    beamline = SimBeamline((16, 16), seed=3, time_scale=time_scale)
    beamline.energy.set(HOME_EV).wait(60)
    return beamline


def devices(beamline):
    return beamline.camera, beamline.energy, beamline.shutter, beamline.stage


def full_field(beamline):
    return xanes_scan(*devices(beamline), edge="Ni_K", grid=GRID, n_darks=1, i0=beamline.i0)


def with_filters(beamline):
    return multi_edge_xanes(
        *devices(beamline),
        edges=["Ni_K"],
        grids={"Ni_K": EnergyGrid((8300.0,), (0.1,))},
        n_darks=1,
        filters=beamline.filters,
        filter_per_edge={"Ni_K": "thin"},
    )


def over_places(beamline):
    return xanes_series(
        *devices(beamline),
        edges=["Ni_K"],
        grids={"Ni_K": EnergyGrid((8300.0,), (0.1,))},
        n_darks=1,
        flat_order="none",
        positioner=beamline.stage.y,
        positions=[0.01, 0.02],
    )


def points(beamline):
    return xas_scan(
        beamline.energy,
        edge="Ni_K",
        grid=GRID,
        tey=beamline.electrometer,
        shutter=beamline.shutter,
    )


PLANS = {"full field": full_field, "filters": with_filters, "places": over_places, "points": points}


class Watched:
    """A RunEngine on a beamline whose ring can lose its beam, and what it takes."""

    def __init__(self, beamline, *, shutter=True):
        self.beamline = beamline
        self.RE = RunEngine({})
        self.ring = Signal(name="ring", value=400.0)
        self.events = []
        self._streams = {}
        self._runs = 0
        self.RE.subscribe(self._take)
        given = beamline.shutter if shutter else None
        for suspender in beam_suspenders([(self.ring, 100.0, 300.0)], settle_s=0.005, shutter=given):
            self.RE.install_suspender(suspender)

    def _take(self, name, doc):
        if name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        elif name == "start":
            self._runs += 1
        elif name == "event":
            self.events.append((self._runs, self._streams[doc["descriptor"]], doc["data"]))

    def lose_beam(self):
        self.beamline.faults.arm(Fault.BEAM_TRIP, times=None)
        self.ring.put(0.0)

    def regain_beam(self):
        self.beamline.faults.clear()
        self.ring.put(400.0)

    def shots(self):
        return {(n, s, d["xanes_energy_index"], d["xanes_repeat"]) for n, s, d in self.events}

    def check(self):
        """No frame that must have light is without, and the instrument is as it has to be."""
        for _, stream, data in self.events:
            if stream != "dark" and "camera_image" in data:
                assert np.mean(data["camera_image"]) > DARK_COUNTS, data["xanes_energy_setpoint_ev"]
            if "electrometer" in data:
                assert data["electrometer"] > 0
            assert data["energy"] == pytest.approx(data["xanes_energy_setpoint_ev"], abs=0.1)
        beamline = self.beamline
        assert beamline.shutter.position == "closed"
        assert not beamline.twin.shutter_open
        assert beamline.stage.position == "in"
        assert beamline.energy.position == pytest.approx(HOME_EV, abs=1e-6)
        assert beamline.optics.energy_ev.get() == pytest.approx(HOME_EV, abs=1e-6)
        assert beamline.filters.position == "none"


def number_of_messages(plan):
    beamline = fresh(0.0)
    RE, seen = RunEngine({}), []
    RE.msg_hook = seen.append
    RE(PLANS[plan](beamline))
    return len(seen)


def at_message(RE, number, action):
    """Do something before the n-th message that the RunEngine processes, once."""
    count = [0]

    def hook(_msg):
        count[0] += 1
        if count[0] == number:
            action()

    RE.msg_hook = hook


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_a_beam_trip_at_any_message_leaves_no_frame_without_beam(plan):
    expected, beamline = None, fresh()
    for number in range(1, number_of_messages(plan) + 1):
        watched = Watched(beamline, shutter=number % 3 != 0)
        at_message(
            watched.RE,
            number,
            lambda w=watched: (w.lose_beam(), w.RE.loop.call_later(0.03, w.regain_beam)),
        )
        watched.RE(PLANS[plan](watched.beamline))
        watched.check()
        shots = watched.shots()
        expected = expected or shots
        assert shots == expected
