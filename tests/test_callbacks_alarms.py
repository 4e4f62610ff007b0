"""Alarms while a scan runs: from real scans with faults, told once when they begin and once when they end."""

import logging

import numpy as np
import pytest

from callbacks import FULL_FIELD_SCHEMA, AlarmWatch, LiveSOC, log_alarm
from nimco import Session

QUIET = {"OK": 100, "NO_EDGE": 50}


def result(run="run-1", *, warnings=(), pixels=QUIET, i0=(), soc=None, **about):
    values = {"frame_i0": list(i0), "frame_energy_ev": 8300.0 + np.arange(len(i0))}
    if soc is not None:
        values["soc"] = soc
    said = {"raw_uid": run, "edge": "Ni_K", "final": False, "warnings": warnings, "pixels": pixels, **about}
    return FULL_FIELD_SCHEMA.make(values, said)


@pytest.fixture
def told():
    return []


@pytest.fixture
def watch(told):
    watch = AlarmWatch(told.append)
    yield watch
    watch.close()


def say(watch, *results):
    for one in results:
        watch(one)
        watch.wait(60)


def test_an_alarm_is_told_when_it_begins_and_when_it_ends(watch, told, caplog):
    steady = [1.0] * 9
    say(watch, result(i0=steady), result(i0=[*steady, 0.01]), result(i0=[*steady, 0.02, 0.02]))
    (lost,) = told
    assert (lost.kind, lost.severity, lost.run, lost.ended_s) == ("beam", "critical", "run-1", None)
    assert "last frame is 0.01, and 1 as a rule" in lost.sentence
    assert "0.02" in watch.standing[0].sentence
    assert watch.standing[0].began_s == lost.began_s
    say(watch, result(i0=[*steady, 0.02, 1.0]))
    assert told[1].ended_s >= lost.began_s
    assert told[1].kind == "beam"
    assert watch.standing == ()
    assert len(told) == 2
    # Warnings of a map: their figures go on changing, that is no new alarm.
    first = "the frame at 8347 eV is left out: 0.2 of optical depth beside the others"
    more = "the frames at 8347, 8350 eV are left out: 0.3 of optical depth beside the others"
    say(watch, result(warnings=[first]), result(warnings=[more]), result("run-2", warnings=[more]))
    assert [(alarm.kind, alarm.run) for alarm in told[2:]] == [("frame", "run-1"), ("frame", "run-2")]
    say(watch, result())
    assert (told[-1].run, told[-1].ended_s is None) == ("run-1", False)
    assert [alarm.run for alarm in watch.standing] == ["run-2"]
    # A hook that fails disturbs nothing.
    with caplog.at_level(logging.INFO, "nimco"):
        failing = AlarmWatch(lambda alarm: 1 / 0)
        say(failing, result(warnings=[first]), result())
        failing.close()
        log_alarm(told[2])
        log_alarm(told[-1])
    assert any(isinstance(error, ZeroDivisionError) for error in failing.errors)
    assert "warning: frame (run run-1, Ni_K): the frame at 8347 eV is left out" in caplog.text
    assert "over: frame (run run-1, Ni_K)" in caplog.text


def test_sample_dose_saturation_and_delivery_have_their_rules(told):
    undelivered = []
    watch = AlarmWatch(told.append, delivery=lambda: undelivered)
    say(watch, result(), result(pixels={"OK": 40}), result(pixels={"OK": 90}))
    assert [(alarm.kind, alarm.ended_s is None) for alarm in told] == [("sample", True), ("sample", False)]
    assert "Only 40 pixels have a value, of 100" in told[0].sentence
    told.clear()
    say(watch, result("run-3", pixels={"OK": 90, "SATURATED": 10}))
    assert told[0].kind == "saturation"
    told.clear()
    undelivered.append("9 raw documents of 1 run(s) wait in spool; Tiled does not answer.")
    say(watch, result("run-4"))
    undelivered[0] = "12 raw documents of 1 run(s) wait in spool, 3 go to Tiled every second."
    say(watch, result("run-4"))
    undelivered.clear()
    say(watch, result("run-4"))
    assert [(alarm.kind, alarm.run, alarm.ended_s is None) for alarm in told] == [
        ("delivery", "", True),
        ("delivery", "", False),
    ]
    told.clear()
    place = {"sample": {"name": "cell 3", "cycle": 2}, "field_of_view": {"name": "a"}, "final": True}
    soc = np.random.default_rng(1).normal(0.5, 0.05, (20, 20))
    say(watch, result("d1", soc=soc, **place), result("d2", soc=soc + 0.005, **place))
    moved = {"soc": soc + 0.1}
    say(watch, result("d3", **moved, **{**place, "field_of_view": {"name": "b"}}))
    say(watch, result("d4", **moved, **{**place, "sample": {"name": "cell 3", "cycle": 3}}))
    say(watch, result("d5", soc=soc + 0.1, soc_systematic=0.08, **place))
    assert told == []
    say(watch, result("d6", soc=soc, **place), result("d7", **moved, **place))
    (dose,) = [alarm for alarm in told if alarm.run == "d7"]
    assert dose.kind == "dose"
    assert "moved by +0.100 ± 0.00" in dose.sentence
    assert "since run d6" in dose.sentence
    n_told = len(told)
    say(watch, result("d7", **moved, **place))  # the same again, as where Tiled did not take it
    assert len(told) == n_told
    watch.close()


def test_faults_of_a_real_scan_become_alarms_of_their_kind(scan_documents, told):
    def alarms(scan, steps=None, **options):
        told.clear()
        with AlarmWatch(told.append) as watch, LiveSOC(subscribers=[watch], **options) as live:
            for document in scan.run(steps):
                live(*document)
            live.wait(240)
            watch.wait(60)
            return {alarm.kind for alarm in watch.standing}

    scan = scan_documents((24, 30), noise=True, counts=2e4)
    assert alarms(scan) == set()
    assert told == []
    steps = scan.steps()
    places = [k for k, step in enumerate(steps) if step[0] == "primary"]
    dark = list(steps)
    dark[places[17]] = ("primary", 17, (0.6 * steps[places[17]][2].astype(float)).astype("uint16"))
    dark[places[5]] = ("primary", 5, np.full_like(steps[places[5]][2], 65535))
    del dark[places[30]]
    found = alarms(scan, dark)
    assert {"frame", "saturation", "missing"} <= found
    # These references differ by a shift alone, so that an offset of the axis cannot be told.
    assert alarms(scan, axis_offset="fit") == {"axis"}
    far = scan_documents((24, 30), noise=True, counts=2e4)
    far.soc = far.soc + 0.6
    assert alarms(far) == {"model"}
    empty = scan_documents((24, 30), noise=True, counts=2e4)
    empty.jump = np.zeros(empty.shape)
    assert "sample" in alarms(empty)


def test_a_session_calls_the_hook(tiled_server, scan_documents, told):
    scan = scan_documents((12, 16), noise=True)
    steps = scan.steps()
    del steps[-1]
    with Session(tiled_server, on_alarm=told.append) as session:
        for document in scan.run(steps):
            session(*document)
        session.wait(240)
        assert "missing" in {alarm.kind for alarm in session.alarms}
    assert {alarm.kind for alarm in told} == {alarm.kind for alarm in session.alarms}
