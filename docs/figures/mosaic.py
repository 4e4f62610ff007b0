"""Draw a simulated electrode in 3 x 3 tiles that motors put beside their places: docs/figures/mosaic.png."""

from pathlib import Path

import numpy as np
from bluesky import RunEngine
from PIL import Image

from beamline_plans import EnergyGrid, xanes_mosaic
from callbacks import LiveSOC, draw_mosaic, stitch_mosaic
from nimco import measure_standards
from sim_devices import SampleSettings, SimBeamline, TwinSettings

OUT = Path(__file__).with_suffix(".png")
SHAPE = (96, 96)
FIELD_UM, EXTENT_UM = (32.0, 32.0), (84.0, 84.0)


def main() -> None:
    grid = EnergyGrid.preset("default", "Ni_K")
    references = measure_standards(
        RunEngine(), SimBeamline((32, 32)), "Ni_K", socs=(0.0, 0.5, 1.0), grid=grid
    ).to_dict()
    settings = TwinSettings(sample=SampleSettings(extent=2.8, diameter_um=(5.0, 20.0)))
    beamline = SimBeamline(SHAPE, seed=5, settings=settings)
    devices = (
        beamline.camera,
        beamline.energy,
        beamline.shutter,
        beamline.stage,
        beamline.fine_y,
        beamline.fine_x,
    )
    results, starts = [], {}
    run_engine = RunEngine()
    run_engine.subscribe(lambda _, doc: starts.update({doc["uid"]: doc}), "start")
    with LiveSOC(subscribers=[]) as live:
        run_engine.subscribe(live)
        run_engine(
            xanes_mosaic(
                *devices,
                extent_um=EXTENT_UM,
                field_um=FIELD_UM,
                overlap=0.18,
                um_per_unit=(1.04, 0.97),  # the motors are off by some per cent
                grids={"Ni_K": grid},
                references={"Ni_K": references},
                i0=beamline.i0,
                pixel_size_nm=beamline.pixel_size_nm,
            )
        )
        live.wait()
        results = [live.latest(uid).assign_attrs(mosaic=start["mosaic"]) for uid, start in starts.items()]
    whole = stitch_mosaic(results)
    draw_mosaic(whole, OUT, (0.0, 1.0))
    Image.open(OUT).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(OUT, optimize=True)
    print(
        np.round(
            [whole["tile_moved_row_px"], whole["tile_moved_column_px"], whole["tile_residual_px"]], 2
        ).tolist()
    )
    print(np.round([whole["tile_step"], whole["tile_step_sigma"]], 3).tolist(), whole.attrs["warnings"])


if __name__ == "__main__":
    main()
