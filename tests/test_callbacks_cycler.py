"""Exports of battery cyclers, and the state of charge of maps against the charge that has passed."""

from datetime import UTC, datetime

import numpy as np
import pytest

from callbacks import (
    FULL_FIELD_SCHEMA,
    CallbackError,
    CellCapacity,
    CyclerData,
    calibrate_by_charge,
    follow_series,
    join_charge,
    read_cycler,
)

BEGIN_S = datetime(2026, 11, 28, 10, tzinfo=UTC).timestamp()
LOCAL = datetime.fromtimestamp(BEGIN_S)
# Two hours of charge at 2 mA, then one of discharge at 1 mA: a line every six minutes.
PASSED_S = np.arange(0, 3 * 3600 + 1, 360.0)
CURRENT_A = np.where(PASSED_S < 7200, 2e-3, -1e-3)
CHARGE_AH = np.where(PASSED_S < 7200, PASSED_S / 3600 * 2e-3, 4e-3 - (PASSED_S - 7200) / 3600 * 1e-3)
VOLTAGE_V = 3.6 + 100 * CHARGE_AH


def text(head, line, separator=",", decimal="."):
    rows = [
        separator.join(part.replace(".", decimal) for part in line(*values))
        for values in zip(PASSED_S, CURRENT_A, CHARGE_AH, VOLTAGE_V, strict=True)
    ]
    return "\n".join([*head, *rows]) + "\n"


def date(passed_s, form="%Y-%m-%d %H:%M:%S"):
    return datetime.fromtimestamp(BEGIN_S + passed_s).strftime(form)


EXPORTS = {
    "biologic.mpt": text(
        [
            "EC-Lab ASCII FILE",
            "Nb header lines : 5                          ",
            f"Acquisition started on : {LOCAL:%m/%d/%Y %H:%M:%S}.000",
            "",
            "mode\ttime/s\tcontrol/V/mA\tEwe/V\t<I>/mA\t(Q-Qo)/mA.h\tdQ/mA.h",
        ],
        lambda t, i, q, v: ("1", f"{t:.6E}", "0", f"{v:.6E}", f"{1e3 * i:.6E}", f"{1e3 * q:.6E}", "0"),
        "\t",
        ",",
    ),
    "arbin.csv": text(
        ["Data_Point,Test_Time(s),Date_Time,Step_Time(s),Cycle_Index,Current(A),Voltage(V),Charge_Capacity(Ah)"],
        lambda t, i, q, v: ("1", f"{t:.3f}", date(t), "0", "1", f"{i:.6f}", f"{v:.4f}", f"{max(q, 0):.6f}"),
    ),
    "maccor.txt": text(
        ["Today's Date\t11/30/2026", "Rec#\tCyc#\tStep\tTest (Sec)\tStep (Sec)\tAmp-hr\tAmps\tVolts\tState\tDPt Time"],
        lambda t, i, q, v: (
            "1", "0", "1", f"{t:.2f}", "0", "0", f"{abs(i):.6f}", f"{v:.4f}", "C" if i > 0 else "D",
            date(t, "%m/%d/%Y %I:%M:%S %p"),
        ),
        "\t",
    ),
    "neware.csv": text(
        ["Record ID;Time(h:min:s.ms);Realtime;Current(mA);Voltage(V)"],
        lambda t, i, q, v: ("1", "0:00:00.0", date(t), f"{1e3 * i:.4f}", f"{v:.4f}"),
        ";",
    ),
    "labels.bdf.csv": text(
        ["Test Time / s,Unix Time / s,Voltage / V,Current / A,Net Capacity / Ah"],
        lambda t, i, q, v: (f"{t}", f"{BEGIN_S + t:.1f}", f"{v}", f"{i}", f"{q}"),
    ),
    "names.bdf.csv": text(
        ["test_time_second,unix_time_second,voltage_volt,current_ampere"],
        lambda t, i, q, v: (f"{t}", f"{BEGIN_S + t:.1f}", f"{v}", f"{i}"),
    ),
    "hours.csv": text(["Time [h],Current [mA],Note"], lambda t, i, q, v: (f"{t / 3600}", f"{1e3 * i}", "x")),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_of_cyclers_are_read_by_the_names_of_their_columns(name, tmp_path):
    path = tmp_path / name
    path.write_text(EXPORTS[name], encoding="latin-1")
    found = read_cycler(path)
    assert found.is_absolute is (name != "hours.csv")
    begin_s = BEGIN_S if found.is_absolute else 0.0
    np.testing.assert_allclose(found.time_s, begin_s + PASSED_S, atol=0.51)
    # By trapezoids, the line where the current turns belongs half to each side.
    exact = 1e-6 if found.charge_from == "column of net charge" else 1.6e-4
    np.testing.assert_allclose(found.charge_ah, CHARGE_AH, atol=exact)
    np.testing.assert_allclose(found.current_a, CURRENT_A, atol=1e-6)
    if name != "hours.csv":
        np.testing.assert_allclose(found.voltage_v, VOLTAGE_V, atol=1e-3)
        return
    with pytest.raises(CallbackError, match="does not say when it was recorded"):
        found.on_clock()
    np.testing.assert_allclose(
        found.on_clock(start_s=BEGIN_S, offset_s=5.0, drift_s_per_h=2.0).time_s,
        BEGIN_S + 5.0 + PASSED_S * (1 + 2.0 / 3600),
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no line with names of columns"),
        ("a,b\n1,2\n", "no line with names of columns"),
        ("Time/s,Voltage/V\n1,3.6\n2,3.7\n", "no column of net charge and none of current"),
        ("Time/s,Current/A\nx,1\ny,2\n", "no times that can be read"),
        ("Time/s,Current/lightyears\n1,1\n2,2\n", "no line with names of columns"),
        ("Time/s,Current/A\n1,1\n2,lost\n3,1\n", r"1 of 3 lines .* no current .*line 3\)"),
        ("Time/s,Current/A\n1,1\n2,inf\n3,1\n", r"1 of 3 lines .* no current"),
        ("Time/s,Current/mA\n0,2,5\n1,2,5\n", "line 2 .*more values than there are names"),
        ("Time/s,Current/mA\n" + "0,0,2,5,0,0,0,0,0,0,0,0,0,0\n" * 3, "do not fit the names|more values"),
        ("Time/s,Current/A" + "," * 2**21 + "\n1,1\n2,1\n", "no line with names of columns"),
        ("Time/s,Current/A\n" + "1" * 2**18 + ",1\n2,1\n", "no times that can be read"),
        ("Time(s),Current(mA)\n0,1\n9,1\n0,1\n9,1\n", r"column 'Time\(s\)' .* go back at line 4"),
        ("time,current\n0,2.5\n1,2.5\n", "does not say the unit of its column 'time'"),
        ("time_s,current\n0,2.5\n1,2.5\n", "does not say the unit of its column 'current'"),
        ("Unix Time / s,Current/A\n1e17,1\n2e17,1\n", "holds no seconds since 1970"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(content, said, tmp_path):
    path = tmp_path / "cell.csv"
    path.write_text(content)
    with pytest.raises(CallbackError, match=said):
        read_cycler(path)


def lines(head, form, passed=range(0, 3001, 600)):
    """Return a table of 2.5 mA for fifty minutes."""
    return (
        head
        + "\n"
        + "".join(form.format(t=t, h=t // 3600, m=t // 60 % 60, step=t % 1200) + "\n" for t in passed)
    )


@pytest.mark.parametrize(
    ("content", "sign", "absolute"),
    [
        (lines("Time / s;Current / mA", "{t};2,5").encode("utf-16"), 1, False),
        (lines("Time / s\tCurrent / mA", "{t}\t2.5").encode("utf-16-le"), 1, False),
        (lines("Time/s,I/\u03bcA", "{t},2500").encode(), 1, False),
        (lines("Time/s;I/\u00b5A", "{t};2500").encode("latin-1"), 1, False),
        (lines('"Time/s","Current/mA"', '"{t},0","2,5"').encode(), 1, False),
        (lines("Time/s;Current/mA", "{t:,}.0;2.5").encode(), 1, False),
        (lines("Time,Current\ns,mA", "{t},2.5").encode(), 1, False),
        (lines("time_s,current_ma", "{t},2.5").encode(), 1, False),
        (lines("Time/s,Current/A,Note", '{t},.0025,"5').encode(), 1, False),
        (lines("Time(s),Total Time(s),Current(mA)", "{step},{t},2.5").encode(), 1, False),
        (lines("Time(s),Current(mA),Realtime", "{step},2.5,2026-11-28 {h:02}:{m:02}:00").encode(), 1, True),
        (lines("Total Time,Current(mA)", "{h:02}:{m:02}:00,2.5").encode(), 1, False),
        (lines("Test Time\tAmps", "0d {h:02}:{m:02}:00.00\t0.0025").encode(), 1, False),
        # A date without a time of day says no more than the day.
        (lines("Time/s,Current/mA,Date", "{t},2.5,2026-11-28").encode(), 1, False),
        (lines("Date;Current/mA", "28/11/2026 {h:02}:{m:02}:00;2,5").encode(), 1, True),
        (lines("Date;Current/mA", "28.11.26 {h:02}:{m:02}:00,500;2,5").encode(), 1, True),
        (lines("mode\ttime/s\t<I>/mA", "1\t11/28/2026 {h:02}:{m:02}:00.0000\t2.5").encode(), 1, True),
        (lines("unix_time_millisecond,current_ampere", "17E5{t:04}000,.0025").replace("E5", "9584").encode(), 1, True),
        (lines("Unix Time,Current/A", "17E5{t:04}000,.0025").replace("E5", "9584").encode(), 1, True),
        (lines("Time/s,Current/A", "{t},.0025").encode() + b"End of test\n", 1, False),
        (lines("Time/s;Current/mA;Step Type", "{t};2.5;CC DChg").encode(), -1, False),
        (lines("Time/s;Current/mA;Step Type", "{t};-2.5;CC Chg").encode(), 1, False),
        (lines("Time/s,Net Capacity / C,Voltage/V", "{t},{t}e-3,3.6").encode(), 0.4, False),
    ],
)  # fmt: skip
def test_texts_of_other_places_are_read_or_refused_but_never_read_wrongly(content, sign, absolute, tmp_path):
    path = tmp_path / "cell.csv"
    path.write_bytes(content)
    found = read_cycler(path)
    assert found.is_absolute is absolute
    np.testing.assert_allclose(found.time_s - found.time_s[0], np.arange(0, 3001, 600), atol=1e-3)
    assert found.charge_ah[-1] == pytest.approx(sign * 2.5e-3 * 3000 / 3600)
    assert read_cycler(path, discharge_positive=True).charge_ah[-1] == pytest.approx(-found.charge_ah[-1])
    if absolute:
        assert datetime.fromtimestamp(found.time_s[0], UTC).year == 2026


def test_a_test_counts_no_time_while_it_is_paused_and_the_clock_does(tmp_path):
    """Over midnight between the 12th and the 13th, days first; ten minutes of pause."""
    begin, paused = datetime(2026, 11, 12, 23, 55).timestamp(), 600
    lines = ["Test_Time(s),Date_Time,Current(A)"]
    for passed in range(0, 600, 60):
        at = begin + passed + (paused if passed >= 300 else 0)
        lines.append(f"{passed},{datetime.fromtimestamp(at):%d/%m/%Y %H:%M:%S},0.001")
    path = tmp_path / "cell.csv"
    path.write_text("\n".join(lines))
    found = read_cycler(path)
    assert found.is_absolute
    assert (found.time_s.size, found.time_s[0], found.time_s[-1]) == (10, begin, begin + 540 + paused)


def test_clocks_that_cannot_be_are_refused_and_a_reversed_sign_is_noticed(tmp_path):
    path = tmp_path / "cell.csv"
    path.write_text(EXPORTS["arbin.csv"])
    found = read_cycler(path)
    assert not found.falls_while_charged
    assert read_cycler(path, discharge_positive=True).falls_while_charged
    for clock in ({"offset_s": float("nan")}, {"drift_s_per_h": -4000.0}, {"drift_s_per_h": float("nan")}):
        with pytest.raises(CallbackError, match="an hour, not by"):
            found.on_clock(**clock)
    with pytest.raises(CallbackError, match="cannot begin"):
        found.on_clock(offset_s=1e15)


CELL = CellCapacity(5e-3, initial_soc=0.1, initial_soc_sigma=0.01)
AXIS = -0.07  # by which all maps are off, as an offset of the energy axis does
CLOCK_S, DRIFT = 600.0, 30.0


def maps_of_cell(rng, scale=1.0):
    """Return results taken every half an hour, and the true mean state of charge of the cell at each."""
    rows, columns = np.indices((24, 24))
    labels = (1 + rows // 8 * 3 + columns // 8).astype(np.int32)
    own = rng.normal(0, 0.02, 9)
    results, truth = [], []
    for passed in np.arange(0.25, 3.0, 0.5) * 3600:
        # The clock of the beamline runs before that of the cycler.
        now_s = BEGIN_S + CLOCK_S + passed * (1 + DRIFT / 3600)
        truth.append(float(CELL.soc(np.interp(passed, PASSED_S, CHARGE_AH))))
        soc = AXIS + scale * truth[-1] + own[labels - 1] + rng.normal(0, 0.03, labels.shape)
        values = {
            "soc": soc, "soc_sigma": np.full(soc.shape, 0.03), "edge_energy_ev": soc, "status": np.zeros(soc.shape),
            "edge_jump": 0.5 + 0.1 * rng.random(soc.shape), "particle_label_map": labels,
            "frame_time_s": [now_s - 60, now_s + 60],
        }  # fmt: skip
        about = {"raw_uid": f"run{len(results)}", "edge": "Ni_K", "final": True, "soc_systematic": 0.08}
        # The same scene each time, so that the maps lie on each other.
        values["edge_jump"] = 0.5 + 0.2 * np.sin(rows / 3.0) * np.cos(columns / 4.0)
        results.append(FULL_FIELD_SCHEMA.make(values, about))
    return results, np.array(truth)


def test_the_coulomb_count_takes_the_offset_of_the_axis_out(tmp_path):
    path = tmp_path / "cell.bdf.csv"
    path.write_text(EXPORTS["labels.bdf.csv"])
    cycler = read_cycler(path).on_clock(offset_s=CLOCK_S, drift_s_per_h=DRIFT)
    rng = np.random.default_rng(4)
    pulls = []
    for _ in range(12):
        results, truth = maps_of_cell(rng)
        (series,) = follow_series(results)
        joined = join_charge(series, cycler)
        np.testing.assert_allclose(CELL.soc(joined["charge_ah"].to_numpy()), truth, atol=1e-3)
        found = calibrate_by_charge(series, joined, CELL)
        pulls.append((found.offset + AXIS) / found.offset_sigma)
        assert abs(series["step_mean"].values + found.offset - truth).max() < 0.04
        assert found.scale == pytest.approx(1.0, abs=4 * found.scale_sigma)
        assert found.n_maps == len(truth)
        assert not found.warnings
    # The spread of the particles of a field is in it, and the initial state, which here is exact.
    assert 0.3 < np.sqrt(np.mean(np.square(pulls))) < 1.3
    (wide,) = follow_series(maps_of_cell(rng, scale=0.6)[0])
    (said,) = calibrate_by_charge(wide, join_charge(wide, cycler), CELL).warnings
    assert "The maps change by 0.6" in said
    some = CyclerData(
        *(values[:12] for values in (cycler.time_s, cycler.charge_ah, cycler.voltage_v)),
        cycler.current_a[:12],
        True,
        "some.csv",
        "",
    )
    (said,) = calibrate_by_charge(series, join_charge(series, some), CELL).warnings
    assert "4 of 6 maps lie outside of the time" in said
    later = cycler.on_clock(offset_s=1e6)
    with pytest.raises(
        CallbackError, match=r"covers 2026-.* and the maps were taken from 2026-.*do not overlap"
    ):
        join_charge(series, later)
    with pytest.raises(CallbackError, match="without state of charge"):
        calibrate_by_charge(series.assign_attrs(signal="edge_energy_ev"), joined, CELL)
    for wrong in (
        {"capacity_ah": 0.0},
        {"capacity_ah": 1.0, "initial_soc": 50.0},
        {"capacity_ah": 1, "capacity_sigma_ah": -1},
    ):
        with pytest.raises(CallbackError, match=r"capacity is a positive|between 0 and 1|not negative"):
            CellCapacity(**{"capacity_ah": 0.0, **wrong})
