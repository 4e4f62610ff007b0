"""Draw a simulated electrode that is charged while its sample drifts: docs/figures/series.png."""

from pathlib import Path

import numpy as np
from bluesky import RunEngine
from PIL import Image

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import LiveSOC, draw_series, follow_series, series_table
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


def main() -> None:
    grid = EnergyGrid.preset("default", "Ni_K")
    references = measure_standards(
        RunEngine(), SimBeamline((32, 32)), "Ni_K", socs=(0.0, 0.5, 1.0), grid=grid
    ).to_dict()
    series = follow_series(measure(step, references, grid) for step in range(len(STATES)))
    draw_series(series, OUT, (0.0, 1.0))
    Image.open(OUT).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(OUT, optimize=True)
    table = series_table(series[0])
    print(table[table["what"] == "map"].round(4).to_string(index=False))
    print("shifts", np.round([series[0]["step_shift_row_px"], series[0]["step_shift_column_px"]], 2).tolist())


if __name__ == "__main__":
    main()
