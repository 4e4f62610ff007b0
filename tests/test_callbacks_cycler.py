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
        ("Time/s,Current/A\n1,1\n2,lost\n3,1\n", "no column of net charge and none of current"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(content, said, tmp_path):
    path = tmp_path / "cell.csv"
    path.write_text(content)
    with pytest.raises(CallbackError, match=said):
        read_cycler(path)


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
