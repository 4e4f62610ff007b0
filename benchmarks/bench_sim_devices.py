"""How long the twin takes for a frame, against the same physics written in plain NumPy.

The twin must not hide the speed of what follows it: a 2048 x 2048 frame is to take at most 60 ms on two cores.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sim_devices import OpticsSettings, Twin, TwinSettings
from sim_devices.twin._absorption import SOC_NODES

_WITHOUT = OpticsSettings()
_WITH = replace(_WITHOUT, drift_nm=100.0, runout_nm=50.0, magnification_per_ev=1e-6)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
        What is rendered.
    twin_ms, numpy_ms : float
        Median time of a frame.
    """

    what: str
    twin_ms: float
    numpy_ms: float

    @property
    def ratio(self) -> float:
        """How many times faster the twin is."""
        return self.numpy_ms / self.twin_ms


def make_twin(size: int, *, moving: bool) -> Twin:
    settings = replace(TwinSettings(), optics=_WITH if moving else _WITHOUT)
    twin = Twin((size, size), pixel_size_nm=31.2, seed=1, settings=settings)
    twin.shutter_open = True
    return twin


def numpy_frame(twin: Twin, energy_ev: float, exposure_s: float, rng: np.random.Generator) -> np.ndarray:
    """Render the same still frame from array expressions: interpolation, exponential, random deviates."""
    sample, camera = twin.sample, twin.settings.camera
    rows, cols = twin.view
    soc = sample.soc[rows, cols]
    depth = np.zeros(twin.shape, dtype=np.float32)
    for areal, row in zip(sample.areal[:, rows, cols], sample.absorber.table(energy_ev), strict=True):
        depth += areal * np.interp(soc, SOC_NODES, row).astype(np.float32)
    mean = camera.photons_per_s * exposure_s * np.exp(-depth) * twin._camera.sensitivity
    counts = rng.poisson(mean + camera.dark_per_s * exposure_s) + twin._camera.offset
    counts += camera.read_noise * rng.standard_normal(twin.shape, dtype=np.float32)
    return np.clip(np.rint(counts), 0, camera.full_well).astype(np.uint16)


def median_ms(call: Callable[[float], object], energies_ev: np.ndarray) -> float:
    times = []
    for energy_ev in energies_ev:
        start = time.perf_counter()
        call(float(energy_ev))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def run(size: int = 2048, frames: int = 9) -> list[Row]:
    """Return the rows of the table, all measured now."""
    rng = np.random.default_rng(0)
    energies = np.linspace(8330.0, 8370.0, frames)
    rows = []
    for what, moving in (("sample, still", False), ("sample, drifting and magnified", True)):
        twin = make_twin(size, moving=moving)

        def expose(energy_ev: float, twin: Twin = twin) -> None:
            twin.energy_ev = energy_ev
            twin.expose(0.5)

        expose(8320.0)
        rival = median_ms(lambda e, twin=twin: numpy_frame(twin, e, 0.5, rng), energies[:3])
        rows.append(Row(what, median_ms(expose, energies), rival))
    return rows


def main() -> None:
    """Print the table."""
    size = 2048
    print(f"One {size} x {size} frame, median; NumPy renders the still sample in both lines")
    print(f"{'':34s}{'twin':>10s}{'NumPy':>10s}{'ratio':>8s}")
    for row in run(size):
        print(f"{row.what:34s}{row.twin_ms:7.1f} ms{row.numpy_ms:7.0f} ms{row.ratio:7.1f}x")


if __name__ == "__main__":
    main()
