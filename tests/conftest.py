"""Fixtures shared by all tests."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest


def pytest_configure() -> None:
    """Keep Channel Access on loopback, on a free port; its library reads this once, when ophyd is imported."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        os.environ.update(
            EPICS_CA_AUTO_ADDR_LIST="NO",
            EPICS_CA_ADDR_LIST="127.0.0.1",
            EPICS_CA_SERVER_PORT=str(one.getsockname()[1]),
            EPICS_CA_REPEATER_PORT=str(other.getsockname()[1]),
            EPICS_CA_MAX_ARRAY_BYTES="67108864",
        )


# What tests call, compiled before any of them is timed; numba keeps it on disk for all processes.
_COMPILE = """
from edge_fitting import warm_up
for method in ("series", "inflection", "white_line", "lcf", "arctan_gauss"):
    warm_up(method)
from sim_devices import SimBeamline
beamline = SimBeamline((32, 32))
beamline.shutter.set("open").wait()
beamline.camera.trigger().wait()
"""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels once, before the workers start, where they have changed since the last run."""
    config = session.config
    workers = getattr(config.option, "numprocesses", None)  # None in the workers themselves, and without them
    if not workers or os.environ.get("NUMBA_DISABLE_JIT"):
        return
    root = Path(__file__).resolve().parents[1]
    sources = [
        path for name in ("edge_fitting", "sim_devices") for path in sorted((root / name).rglob("*.py"))
    ]
    stamp = [sys.version, *(f"{path.name} {path.stat().st_mtime_ns}" for path in sources)]
    cache = getattr(config, "cache", None)  # absent with -p no:cacheprovider
    if cache is None or cache.get("nimco/kernels", None) == stamp:
        return
    config.get_terminal_writer().line("compiling the kernels, once after each change of them")
    done = subprocess.run([sys.executable, "-c", _COMPILE], cwd=root, check=False)
    if done.returncode == 0:  # where it fails, tests say why
        cache.set("nimco/kernels", stamp)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real reference data beside the repository; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no reference data beside the repository ({folder.name}/ is missing)")
    return folder


class ScanDocuments:
    """Documents of a small energy scan with known truth, composed by event_model as our plans record them.

    Two reference spectra differ by a shift; each pixel is a state of charge between them with its own thickness.
    """

    def __init__(
        self,
        shape: tuple[int, int] = (12, 16),
        *,
        n_energies: int = 36,
        counts: float = 4e4,
        noise: bool = False,
        seed: int = 3,
        **xanes: Any,
    ) -> None:
        from edge_fitting import ReferenceSeries

        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        self.energies_ev = np.r_[
            np.linspace(8250, 8325, 6), np.linspace(8330, 8365, n_energies - 12), np.linspace(8380, 8500, 6)
        ]
        self._fine_ev = np.r_[8240:8325:5, 8325:8370:0.5, 8370:8520:5]
        states = np.linspace(0, 1, 5)
        self.references = ReferenceSeries(
            self._fine_ev, np.array([self.spectrum(self._fine_ev, state) for state in states]), states
        )
        rows, cols = np.indices(shape)
        self.soc = 0.2 + 0.6 * cols / max(shape[1] - 1, 1)
        self.jump = 0.6 + 0.4 * rows / max(shape[0] - 1, 1)
        self.dark = np.full(shape, 100.0)
        self.open_beam = counts * (1 - 0.2 * (rows / shape[0] - 0.5) ** 2)
        self.xanes = {
            "schema_version": 1,
            "edge": "Ni_K",
            "energies_ev": self.energies_ev.tolist(),
            "exposure_s": [1.0] * self.energies_ev.size,
            "repeats": 1,
            "technique": "txm_transmission",
            "flat_order": "per_energy",
            "n_flats": 1,
            "n_darks": 2,
            "pixel_size_nm": 40.0,
            "references": self.references.to_dict(),
            "devices": {"camera": "camera", "energy": "energy", "i0": "i0"},
            **xanes,
        }

    @staticmethod
    def spectrum(energy_ev: np.ndarray, soc: Any) -> np.ndarray:
        """Step and white line that shift by 2 eV over the range of the state of charge."""
        centre = 8343.0 + 2.0 * np.asarray(soc)
        step = 0.5 + np.arctan((energy_ev - centre) / 1.6) / np.pi
        return step + (0.7 + 0.1 * np.asarray(soc)) * np.exp(-(((energy_ev - centre - 6) / 4) ** 2))

    def _shot(self, ideal: np.ndarray) -> np.ndarray:
        seen = self.rng.poisson(ideal) if self.noise else np.round(ideal)
        return np.clip(seen + self.dark, 0, 65535).astype(np.uint16)

    def frame(self, index: int, *, exposure_s: float = 1.0, i0: float = 1.0) -> np.ndarray:
        """Sample frame at one of the planned energies."""
        energy = self.energies_ev[index]
        depth = 0.3 - 1e-4 * (energy - 8340) + self.jump * self.spectrum(energy, self.soc)
        return self._shot(self.open_beam * exposure_s * i0 * np.exp(-depth))

    def flat(self, *, exposure_s: float = 1.0, i0: float = 1.0) -> np.ndarray:
        """Open beam."""
        return self._shot(self.open_beam * exposure_s * i0)

    def run(
        self, steps: Iterable[tuple[Any, ...]] | None = None, *, exit_status: str = "success", **md: Any
    ) -> list[tuple[str, dict[str, Any]]]:
        """Compose a run from steps ``(stream, energy_index, image[, changes of the data])``."""
        run = event_model.compose_run(
            metadata={"plan_name": "xanes_scan", "scan_group": "group", "xanes": self.xanes, **md}
        )
        documents: list[tuple[str, dict[str, Any]]] = [("start", run.start_doc)]
        streams: dict[str, Any] = {}
        for stream, index, image, *changes in self.steps() if steps is None else steps:
            if stream not in streams:
                streams[stream] = run.compose_descriptor(**self._descriptor(stream))
                documents.append(("descriptor", streams[stream].descriptor_doc))
            energy = float(self.energies_ev[max(index, 0)])
            data = {
                "camera_image": image,
                "energy": energy,
                "i0": 1.0,
                "xanes_energy_index": index,
                "xanes_energy_setpoint_ev": energy,
                "xanes_exposure_s": 1.0,
                "xanes_repeat": 0,
                "xanes_attempt": 0,
                **(changes[0] if changes else {}),
            }
            event = streams[stream].compose_event(data=data, timestamps=dict.fromkeys(data, time.time()))
            documents.append(("event", event))
        documents.append(("stop", run.compose_stop(exit_status=exit_status)))
        return documents

    def steps(self) -> list[tuple[Any, ...]]:
        """A plain scan: darks, then flat and frame of each energy."""
        steps: list[tuple[Any, ...]] = [
            ("dark", -1, self._shot(np.zeros(self.shape)), {"xanes_repeat": repeat})
            for repeat in range(self.xanes["n_darks"])
        ]
        for index in range(self.energies_ev.size):
            steps += [("flat", index, self.flat()), ("primary", index, self.frame(index))]
        return steps

    def _descriptor(self, stream: str) -> dict[str, Any]:
        number = {"dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": "test"}
        integer = {"dtype": "integer", "shape": [], "dtype_numpy": "<i8", "source": "test"}
        point = {
            "xanes_energy_index": integer,
            "xanes_energy_setpoint_ev": number,
            "xanes_exposure_s": number,
            "xanes_repeat": integer,
            "xanes_attempt": integer,
        }
        image = {"dtype": "array", "shape": list(self.shape), "dtype_numpy": "<u2", "source": "test"}
        return {
            "name": stream,
            "data_keys": {"camera_image": image, "energy": number, "i0": number, **point},
            "object_keys": {
                "camera": ["camera_image"],
                "energy": ["energy"],
                "i0": ["i0"],
                "xanes": list(point),
            },
            "hints": {"energy": {"fields": ["energy"]}, "i0": {"fields": ["i0"]}},
        }


@pytest.fixture(scope="session")
def scan_documents() -> type[ScanDocuments]:
    """Class that composes the documents of a small scan with known truth."""
    return ScanDocuments


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Tiled server on loopback, shared by the tests of one session."""
    from nimco._server import TiledServer

    with TiledServer(tmp_path_factory.mktemp("tiled")) as server:
        yield server


@pytest.fixture(scope="session")
def start_ioc(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Start a simulated EPICS beamline, under a prefix of its own, where the clients of this session find it."""
    from sim_devices.ioc import IOCProcess

    def start(prefix: str, **settings: Any) -> Any:
        return IOCProcess(
            prefix,
            port=int(os.environ["EPICS_CA_SERVER_PORT"]),
            repeater_port=int(os.environ["EPICS_CA_REPEATER_PORT"]),
            log=tmp_path_factory.mktemp("ioc") / "log",
            **settings,
        )

    return start
