"""Draw the picture of the page in the browser: a simulated scan, a region and a pixel of it."""

import argparse
import tempfile
from pathlib import Path

from bluesky import RunEngine
from PIL import Image

from beamline_plans import EnergyGrid, xanes_scan
from nimco import Session, TiledServer, measure_standards
from nimco.monitor import Monitor
from nimco.testing import Browser
from sim_devices import SimBeamline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("monitor.png"))
    picture = parser.parse_args().to
    beamline = SimBeamline((224, 224), seed=4)
    run_engine = RunEngine()
    grid = EnergyGrid.preset("default", "Ni_K")
    with tempfile.TemporaryDirectory() as folder, TiledServer(folder) as server:
        with Session(server, update_frames=4) as session:
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
        with Monitor(server.uri, api_key=server.api_key) as monitor, Browser() as browser:
            page = browser.open(monitor.browser_url)
            page.wait_for("window.nimco && nimco.head && nimco.frames && nimco.frames.is_read", timeout_s=120)
            x, y = page.centre_of("#drawing")
            page.click("[data-tool=rectangle]")
            page.drag([(x - 60, y - 150), (x - 30, y - 120), (x + 20, y - 90)])
            page.wait_for("nimco.results.length && nimco.results[0].curve")
            page.click("#keep")
            page.wait_for("nimco.regions.length === 1")
            page.click("[data-tool=point]")
            page.click((x + 230, y + 90))
            page.wait_for("nimco.results.length === 2 && nimco.results[0].kind === 'point'")
            page.screenshot(picture)
    Image.open(picture).convert("RGB").save(picture, optimize=True)


if __name__ == "__main__":
    main()
