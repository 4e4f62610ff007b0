"""Draw three cycles of a simulated sample, four fields of view each, on one scale: docs/figures/samples.png."""

from pathlib import Path

from bluesky import RunEngine
from PIL import Image

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import LiveSOC, compare_samples, draw_samples
from nimco import measure_standards
from sim_devices import SampleSettings, SimBeamline, TwinSettings

OUT = Path(__file__).with_suffix(".png")
SHAPE, N_FIELDS = (96, 96), 4
# Mean state of charge, and its spread between particles, by cycle.
CYCLES = {1: (0.35, 0.04), 50: (0.45, 0.07), 200: (0.6, 0.12)}


def measure(field: int, cycle: int, references: dict, grid: EnergyGrid):
    """Measure one field of view of the sample, and return its result."""
    mean, spread = CYCLES[cycle]
    settings = TwinSettings(sample=SampleSettings(mean_soc=mean, particle_spread=spread))
    beamline = SimBeamline(SHAPE, seed=10 * cycle + field, settings=settings)
    devices = beamline.camera, beamline.energy, beamline.shutter, beamline.stage
    about = {"sample": {"name": "NMC622", "cycle": cycle}, "field_of_view": str(field)}
    how = {"grid": grid, "i0": beamline.i0, "references": references, "pixel_size_nm": beamline.pixel_size_nm}
    run_engine = RunEngine()
    with LiveSOC(subscribers=[]) as live:
        run_engine.subscribe(live)
        run_engine(xanes_scan(*devices, edge="Ni_K", md=about, **how))
        live.wait()
        return live.latest()


def main() -> None:
    grid = EnergyGrid.preset("default", "Ni_K")
    references = measure_standards(
        RunEngine(), SimBeamline((32, 32)), "Ni_K", socs=(0.0, 0.5, 1.0), grid=grid
    )
    results = [
        measure(field, cycle, references.to_dict(), grid) for cycle in CYCLES for field in range(N_FIELDS)
    ]
    comparison = compare_samples(results, ["cycle"])
    draw_samples(comparison, OUT, (0.0, 1.0))
    Image.open(OUT).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(OUT, optimize=True)
    columns = [
        "cycle",
        "fields",
        "particles",
        "mean",
        "mean_sigma",
        "systematic",
        "between_particles",
        "between_fields",
    ]
    print(comparison.table()[columns].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
