"""Draw the picture of the README: the live map at the end of a simulated scan."""

import argparse
import tempfile
from pathlib import Path

from bluesky import RunEngine
from PIL import Image

from beamline_plans import EnergyGrid, xanes_scan
from nimco import Session, TiledServer, measure_standards
from sim_devices import SimBeamline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("live_map.png"))
    picture = parser.parse_args().to
    beamline = SimBeamline((224, 224), seed=4)
    run_engine = RunEngine()
    grid = EnergyGrid.preset("default", "Ni_K")
    with (
        tempfile.TemporaryDirectory() as folder,
        TiledServer(folder) as server,
        Session(server, plot_path=picture, update_frames=2) as session,
    ):
        references = measure_standards(run_engine, beamline, "Ni_K", socs=(0.0, 0.5, 1.0), grid=grid)
        run_engine.subscribe(session)
        run_engine(
            xanes_scan(
                beamline.camera,
                beamline.energy,
                beamline.shutter,
                beamline.stage,
                edge="Ni_K",
                grid=grid,
                order="informative",
                i0=beamline.i0,
                references=references.to_dict(),
                pixel_size_nm=beamline.pixel_size_nm,
                md={"sample": {"name": "simulated NMC622 electrode"}},
            )
        )
        session.wait()
    # A picture for the repository: its colours are what it is about, so nothing but better compression.
    Image.open(picture).convert("RGB").save(picture, optimize=True)


if __name__ == "__main__":
    main()
