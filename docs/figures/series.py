"""Draw a simulated electrode that is charged while its sample drifts: docs/figures/series.png and charge.png."""

import tempfile
from pathlib import Path

import numpy as np
from bluesky import RunEngine
from PIL import Image

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import (
    CellCapacity,
    LiveSOC,
    calibrate_by_charge,
    draw_charge,
    draw_series,
    follow_series,
    join_charge,
    read_cycler,
    series_table,
)
from nimco import measure_standards
from sim_devices import SampleSettings, SimBeamline, TwinSettings

OUT = Path(__file__).with_suffix(".png")
SHAPE = (96, 96)
# Mean state of charge of each map, one an hour, and where the sample is then (rows, columns).
STATES = (0.25, 0.35, 0.45, 0.55, 0.65)
PLACES_UM = ((0.0, 0.0), (0.7, -0.3), (1.0, 0.4), (0.4, 1.0), (-0.6, 1.3))


def measure(step: int, references: dict, grid: EnergyGrid):
    """Measure the electrode once, and return its result."""
    settings = TwinSettings(sample=SampleSettings(mean_soc=STATES[step], particle_spread=0.1))
    beamline = SimBeamline(SHAPE, seed=3, settings=settings)
    rows_um, columns_um = PLACES_UM[step]
    beamline.stage.move_in_position(columns_um / 1000)
    beamline.stage.y.set(rows_um / 1000).wait(10)
    devices = beamline.camera, beamline.energy, beamline.shutter, beamline.stage
    how = {"grid": grid, "i0": beamline.i0, "references": references, "pixel_size_nm": beamline.pixel_size_nm}
    run_engine = RunEngine()
    with LiveSOC(subscribers=[]) as live:
        run_engine.subscribe(live)
        run_engine(xanes_scan(*devices, edge="Ni_K", md={"series": {"place": 0, "cycle": step}}, **how))
        live.wait()
        result = live.latest()
    # Measured one after the other here, an hour apart at the beamline.
    return result.assign(frame_time_s=result["frame_time_s"] * 0 + 1.7e9 + 3600.0 * step).assign_attrs(
        series={"place": 0, "cycle": step}
    )


def draw_with_charge(series) -> None:
    """Draw the series against the charge of the cell, recorded on a clock that is ten minutes behind."""
    hours = np.arange(-0.5, 5.0, 0.05)
    current_a = np.where((hours > 0) & (hours < 4.2), 1e-4, 0.0)
    lines = [
        f"{1.7e9 - 600 + 3600 * hour:.1f},{current},{3.6 + 0.1 * min(max(hour, 0), 4.2)}"
        for hour, current in zip(hours, current_a, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cell.bdf.csv"
        file.write_text("\n".join(["Unix Time / s,Current / A,Voltage / V", *lines]))
        cycler = read_cycler(file).on_clock(offset_s=600.0)
    cell = CellCapacity(1e-3, 2e-5, initial_soc=STATES[0], initial_soc_sigma=0.01)
    joined = join_charge(series, cycler)
    calibration = calibrate_by_charge(series, joined, cell)
    picture = draw_charge(
        series, joined, cycler, OUT.with_name("charge.png"), cell=cell, calibration=calibration
    )
    Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(picture, optimize=True)
    print(calibration)


def main() -> None:
    grid = EnergyGrid.preset("default", "Ni_K")
    references = measure_standards(
        RunEngine(), SimBeamline((32, 32)), "Ni_K", socs=(0.0, 0.5, 1.0), grid=grid
    ).to_dict()
    series = follow_series(measure(step, references, grid) for step in range(len(STATES)))
    draw_series(series, OUT, (0.0, 1.0))
    Image.open(OUT).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(OUT, optimize=True)
    draw_with_charge(series[0])
    table = series_table(series[0])
    print(table[table["what"] == "map"].round(4).to_string(index=False))
    print("shifts", np.round([series[0]["step_shift_row_px"], series[0]["step_shift_column_px"]], 2).tolist())


if __name__ == "__main__":
    main()
