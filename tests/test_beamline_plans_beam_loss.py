"""Beam lost, a pause, an end at any message of a scan: no frame without beam counts, and all is left safe."""

import asyncio
import os
import signal
from functools import cache

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import FailedStatus, RunEngineInterrupted
from ophyd import Device, DeviceStatus, Signal

from beamline_plans import (
    EnergyGrid,
    EnergyRegion,
    FrameError,
    NotSafeError,
    adaptive_xanes,
    beam_suspenders,
    calibrate_energy,
    edge_jump_map,
    multi_edge_xanes,
    xanes_scan,
    xanes_series,
    xas_scan,
)
from nimco import measure_standards
from sim_devices import Fault, SimBeamline

HOME_EV = 8000.0
GRID = EnergyGrid((8300.0, 8350.0), (0.1, 0.1))
# Dark and light of the twin are far apart; a frame without beam has the counts of a dark.
DARK_COUNTS = 150.0
CHAMBER_DARK = 5.0
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
        elif name == "event" and self._streams[doc["descriptor"]] != "adaptive":
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
            if "i0_chamber" in data and stream != "dark":
                assert data["i0_chamber"] > CHAMBER_DARK, data["xanes_energy_setpoint_ev"]
            if stream != "dark" or "camera_image" in data:
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
    RE(plan(beamline))
    return len(seen)


def at_message(RE, number, action):
    """Do something before the n-th message that the RunEngine processes, once."""
    at_messages(RE, {number: action})


def at_messages(RE, actions):
    count = [0]

    def hook(_msg):
        count[0] += 1
        if count[0] in actions:
            actions[count[0]]()

    RE.msg_hook = hook


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_a_beam_trip_at_any_message_leaves_no_frame_without_beam(plan):
    expected, beamline = None, fresh()
    for number in range(1, number_of_messages(PLANS[plan]) + 1, 1 if plan == "full field" else 2):
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


def pausing(RE, *, defer=False):
    """Ask for a pause on the event loop itself, where the message hook runs."""
    return lambda: RE.loop.create_task(RE._request_pause_coro(defer))


@pytest.mark.slow
@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("plan", ["full field", "points"])
def test_a_pause_at_any_message_closes_the_shutter_until_it_is_resumed(plan, defer, monkeypatch):
    sleep = asyncio.sleep
    # A deferred pause waits half a second for more signals.
    monkeypatch.setattr(asyncio, "sleep", lambda s, **kw: sleep(0 if s == 0.5 else s, **kw))
    expected, beamline, paused = None, fresh(), 0
    for number in range(1, number_of_messages(PLANS[plan]) + 1, 3 if defer else 2):
        watched = Watched(beamline)
        RE = watched.RE
        at_message(RE, number, pausing(RE, defer=defer))
        try:
            RE(PLANS[plan](beamline))
        except RunEngineInterrupted:
            assert RE.state == "paused"
            # Before its first message of all the plan is not known of.
            assert beamline.shutter.position == "closed" or number == 1
            assert not beamline.twin.shutter_open or number == 1
            # What moves by hand in a pause is put back by the rewind.
            beamline.energy.set(8100.0).wait(5)
            if plan != "points":
                beamline.stage.set("out").wait(5)
            paused += 1
            RE.resume()
        # What is moved before the plan has asked where it is, is where it belongs.
        if number > 3:
            watched.check()
        shots = watched.shots()
        expected = expected or shots
        assert shots == expected
    assert paused > 10


@pytest.mark.slow
@pytest.mark.parametrize("how", ["abort", "stop", "pause, abort", "trip, abort"])
def test_an_end_at_any_message_cleanup_included_leaves_all_safe(how):
    beamline = fresh()
    for number in range(4 + len(how) % 4, number_of_messages(full_field) + 1, 4):
        watched = Watched(beamline)
        RE = watched.RE
        if how == "pause, abort":
            at_message(RE, number, pausing(RE))
        elif how == "trip, abort":
            at_message(
                RE,
                number,
                lambda w=watched: (
                    w.lose_beam(),
                    w.RE.loop.call_later(0.02, lambda: w.RE.loop.create_task(end(w.RE, "abort"))),
                ),
            )
        else:
            at_message(RE, number, lambda r=RE: r.loop.create_task(end(r, how)))
        try:
            RE(full_field(beamline))
        except RunEngineInterrupted:
            if RE.state == "paused":
                RE.abort()
        assert RE.state == "idle"
        watched.regain_beam()
        watched.check()


async def end(RE, how):
    """End a scan as `RE.abort` and `RE.stop` do, on the event loop; later where a suspension is just beginning."""
    while RE.state in ("suspending", "pausing"):
        await asyncio.sleep(0)
    if RE.state == "running":
        await (RE._abort_coro("test") if how == "abort" else RE._stop_coro())


@pytest.mark.slow
def test_a_pause_while_the_scan_is_held_does_not_let_it_go_on_without_beam():
    beamline = fresh()
    total = number_of_messages(full_field)
    for number in range(5, total + 1, 6):
        watched = Watched(beamline, shutter=number % 2 == 0)
        RE = watched.RE
        at_message(
            RE,
            number,
            lambda w=watched: (w.lose_beam(), w.RE.loop.call_later(0.02, pausing(w.RE))),
        )
        with pytest.raises(RunEngineInterrupted):
            RE(full_field(beamline))
        assert beamline.shutter.position == "closed"
        RE.loop.call_soon_threadsafe(RE.loop.call_later, 0.05, watched.regain_beam)
        RE.resume()
        watched.check()
        assert len(watched.shots()) == 5


@pytest.mark.slow
def test_the_beam_may_go_while_a_scan_is_paused():
    beamline = fresh(1e-2)
    total = number_of_messages(full_field)
    for number in range(5, total - 15, 14):
        watched = Watched(beamline)
        RE = watched.RE
        at_message(RE, number, pausing(RE))
        with pytest.raises(RunEngineInterrupted):
            RE(full_field(beamline))
        watched.lose_beam()
        RE.loop.call_soon_threadsafe(RE.loop.call_later, 0.1, watched.regain_beam)
        RE.resume()
        watched.check()
        assert len(watched.shots()) == 5


class Lift(Device):
    """Somebody else's device: a move that is stopped has failed, whatever is asked."""

    position = "in"
    status = None

    def __init__(self, stage):
        super().__init__(name="sample")
        self._stage = stage

    def set(self, value):
        self.status = DeviceStatus(self, call_stop_on_failure=False)
        moving = self._stage.set(value)

        def ended(_):
            if self._stage.position == value:
                self.status.set_finished()
            else:
                self.status.set_exception(RuntimeError("stopped on the way"))

        moving.add_callback(ended)
        return self.status

    def stop(self, *, success=False):
        self._stage.stop(success=success)


@pytest.mark.slow
def test_a_device_that_fails_when_it_is_stopped_does_not_undo_the_suspension():
    beamline = fresh(2e-3)
    lift = Lift(beamline.stage)

    def plan():
        return xanes_scan(
            beamline.camera, beamline.energy, beamline.shutter, lift, edge="Ni_K", grid=GRID, n_darks=1
        )

    moved = [0]
    move = beamline.stage.set
    for nth in range(1, 6):
        watched = Watched(beamline)
        moved[0] = 0

        def count(value, nth=nth, watched=watched):
            status = move(value)
            moved[0] += 1
            if moved[0] == nth:
                watched.RE.loop.call_soon(watched.lose_beam)
                watched.RE.loop.call_later(0.2, watched.regain_beam)
            return status

        beamline.stage.set = count
        watched.RE(plan())
        watched.check()
        assert len(watched.shots()) == 5


def sweeps(beamline):
    """Two sweeps with ion chambers, foil and readings without beam; the plan itself watches the absorption."""
    return xas_scan(
        beamline.energy,
        edge="Ni_K",
        grid=GRID,
        i0=beamline.i0_chamber,
        it=beamline.it_chamber,
        iref=beamline.iref_chamber,
        shutter=beamline.shutter,
        sweeps=2,
        n_darks=1,
        target_sigma_ev=1e-6,
    )


def jump_map(beamline):
    return edge_jump_map(*devices(beamline), edges=["Ni_K"], n_darks=1, i0=beamline.i0, i0_min=1.0)


class NothingYet:
    """A live analysis that never has a map."""

    def latest(self, uid):
        raise KeyError(uid)


def adaptive(beamline):
    return adaptive_xanes(
        *devices(beamline),
        edge="Ni_K",
        references=REFERENCES,
        live=NothingYet(),
        grid=EnergyGrid(tuple(REFERENCES["energy_ev"]), (0.1,) * len(REFERENCES["energy_ev"])),
        max_frames=6,
        first_frames=5,
        n_darks=1,
        i0=beamline.i0,
        timeout_s=0.0,
    )


ENERGY_EV = [8310.0, 8325.0, 8335.0, 8340.0, 8343.0, 8346.0, 8349.0, 8352.0, 8360.0, 8380.0]
REFERENCES = {
    "energy_ev": ENERGY_EV,
    "mu": [
        [float(0.5 + np.arctan((ev - 8342.0 - at) / 2.0) / np.pi) for ev in ENERGY_EV] for at in (0.0, 2.0)
    ],
    "soc": [0.0, 1.0],
}


def calibration(beamline):
    beamline.load_compound("Ni")
    beamline.shift_ev = None
    beamline.shift_ev = yield from calibrate_energy(
        beamline.energy,
        beamline.i0_chamber,
        beamline.iref_chamber,
        beamline.energy.offset_ev,
        edge="Ni_K",
        grid=EnergyGrid.from_regions([EnergyRegion(8323.0, 8353.0, 1.0, 0.1)]),
        shutter=beamline.shutter,
        write="no",
    )


EVERY_PLAN = {
    **PLANS,
    "sweeps": sweeps,
    "jump map": jump_map,
    "adaptive": adaptive,
    "calibration": calibration,
}
MOMENTS = 3


@cache
def undisturbed(plan):
    """How many messages a plan is, what it takes and what it finds."""
    beamline, messages = fresh(0.0), []
    watched = Watched(beamline)
    watched.RE.msg_hook = messages.append
    watched.RE(plan(beamline))
    watched.check()
    return len(messages), watched.shots(), getattr(beamline, "shift_ev", None)


def trip_for_a_while(watched):
    watched.lose_beam()
    watched.RE.loop.call_later(0.03, watched.regain_beam)


def ctrl_c(watched):
    """Twice: the first one asks for a pause at the next checkpoint, the second for one at once."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


def lose_device(watched, name, back_s):
    faults = watched.beamline.faults
    faults.arm(Fault.DISCONNECTED, times=None, device=name)
    watched.RE.loop.call_later(back_s, faults.clear)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trip", "pause", "abort", "pause, abort", "ctrl-c", "disconnect"])
def test_every_plan_at_moments_drawn_by_lot(kind, monkeypatch):
    monkeypatch.setattr("beamline_plans.running._frames.POLL_S", 0.01)
    monkeypatch.setattr("beamline_plans.running._safe_state.POLL_S", 0.01)
    draw = np.random.default_rng(sum(map(ord, kind)))
    for name, plan in EVERY_PLAN.items():
        beamline = fresh()
        n_messages, shots, shift_ev = undisturbed(plan)
        for number in draw.integers(4, n_messages, MOMENTS):
            watched = Watched(beamline)
            RE, said = watched.RE, None
            device = draw.choice(("energy", "shutter", "stage", "camera", "i0_chamber"))
            at_message(
                RE,
                number,
                {
                    "trip": lambda w=watched: trip_for_a_while(w),
                    "pause": pausing(RE),
                    "abort": lambda r=RE: r.loop.create_task(end(r, "abort")),
                    "pause, abort": pausing(RE),
                    "ctrl-c": lambda w=watched: ctrl_c(w),
                    "disconnect": lambda w=watched, d=device: lose_device(w, str(d), 0.05),
                }[kind],
            )
            try:
                RE(plan(beamline))
            except RunEngineInterrupted:
                if RE.state == "paused":
                    assert not beamline.twin.shutter_open
                    RE.resume() if kind == "pause" else RE.abort()
            except (FrameError, NotSafeError, FailedStatus, ConnectionError) as error:
                assert kind == "disconnect", (name, number)
                said = error
            assert RE.state == "idle"
            watched.regain_beam()
            about = (kind, name, int(number), str(device), said)
            if not isinstance(said, NotSafeError):
                watched.check()
            if kind in ("trip", "pause"):
                assert watched.shots() == shots, about
                if name == "calibration":
                    assert beamline.shift_ev == pytest.approx(shift_ev, abs=0.05), about


def standards(watched):
    grid = EnergyGrid(tuple(ENERGY_EV), (0.1,) * len(ENERGY_EV))
    return measure_standards(watched.RE, watched.beamline, "Ni_K", socs=(0.0, 1.0), grid=grid)


def counts_of(watched):
    return {
        (run, stream, data["xanes_energy_index"]): np.mean(data["camera_image"])
        for run, stream, data in watched.events
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trip", "pause", "abort", "ctrl-c"])
def test_frames_of_standards_show_the_standard_whatever_interrupts_them(kind, monkeypatch, caplog):
    monkeypatch.setattr("beamline_plans.running._frames.POLL_S", 0.01)
    watched, messages = Watched(fresh(0.0)), []
    watched.RE.msg_hook = messages.append
    series, counts = standards(watched), counts_of(watched)
    beamline = fresh()
    # Not at the very ends: between the two scans nothing is running that a pause would interrupt.
    for number in np.random.default_rng(len(kind)).integers(4, 0.45 * len(messages), MOMENTS):
        watched = Watched(beamline)
        RE = watched.RE
        stopping = {
            "trip": lambda w=watched: trip_for_a_while(w),
            "pause": pausing(RE),
            "abort": lambda r=RE: r.loop.create_task(end(r, "abort")),
            "ctrl-c": lambda w=watched: ctrl_c(w),
        }
        at_message(RE, number, stopping[kind])
        caplog.clear()
        try:
            found = standards(watched)
        except RunEngineInterrupted:
            assert kind != "trip"
            if kind in ("pause", "ctrl-c"):
                assert "paused and the standard stays in its place" in caplog.text
                RE.resume()
                assert len({index for _, stream, index in counts_of(watched) if stream == "primary"}) == 10
                beamline.load_electrode()
        else:
            assert kind in ("trip", "ctrl-c")  # in the clean-up of a scan nothing is left that would pause
            # Two energies of a noisy reading of a few hundred pixels.
            np.testing.assert_allclose(found.mu, series.mu, atol=0.05)
        watched.regain_beam()
        watched.check()
        taken = counts_of(watched)
        assert taken.keys() <= counts.keys()
        for frame, mean in taken.items():
            assert mean == pytest.approx(counts[frame], rel=0.05), (number, frame)


@pytest.mark.slow
def test_the_foil_is_found_where_it_is_though_the_signal_came_later_than_the_loss():
    """The energy that the RunEngine takes again is that of the calibration, and not what was read without beam."""
    n_messages, _, shift_ev = undisturbed(calibration)
    beamline = fresh()
    for number in range(29, n_messages, 70):
        watched = Watched(beamline)
        at_messages(
            watched.RE,
            {
                number: lambda b=beamline: b.faults.arm(Fault.BEAM_TRIP, times=None),
                number + 7: lambda w=watched: trip_for_a_while(w),
            },
        )
        watched.RE(calibration(beamline))
        assert beamline.shift_ev == pytest.approx(shift_ev, abs=0.05), number
