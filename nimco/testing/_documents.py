"""Documents of a scan without a RunEngine, and playing them to a consumer."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import event_model
import numpy as np
import numpy.typing as npt

Document = tuple[str, dict[str, Any]]
Array = npt.NDArray[Any]


def play(consumer: Callable[[str, Any], object], documents: Iterable[Document]) -> None:
    """Give documents to a consumer, one after the other.

    Parameters
    ----------
    consumer : callable
        Takes the name of a document and the document, as a subscriber of a RunEngine.
    documents : iterable of (str, dict)
        What it gets.
    """
    for name, doc in documents:
        consumer(name, doc)


class ScanDocuments:
    """Documents of a small energy scan with known truth, composed by event_model as our plans record them.

    No RunEngine and no device is needed. Reference spectra differ by a shift; each pixel is a state of charge between
    them with a thickness of its own. The truth may be changed before the documents are made.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the frames.
    n_energies : int
        Energies of the scan; 14 or more.
    counts : float
        Counts of the open beam in a pixel.
    noise : bool
        Whether the counts have shot noise.
    seed : int
        Of the noise.
    **xanes
        What else, or otherwise, the start document says under ``xanes``.

    Attributes
    ----------
    energies_ev : ndarray, shape (n_energies,)
        Energies of the scan, in eV.
    references : ReferenceSeries
        The series that the spectra of the pixels are from.
    soc, jump : ndarray, shape (rows, cols)
        True state of charge and edge jump (optical depth) of each pixel.
    dark, open_beam : ndarray, shape (rows, cols)
        Counts without beam, and of the beam without sample.
    xanes : dict
        What the start document says of the scan.

    Examples
    --------
    >>> documents = ScanDocuments(shape=(8, 8), n_energies=20).run()
    >>> [name for name, _ in documents][:3]
    ['start', 'descriptor', 'event']
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
    def spectrum(energy_ev: Array, soc: Any) -> Array:
        """Return a step and white line that shift by 2 eV over the range of the state of charge."""
        centre = 8343.0 + 2.0 * np.asarray(soc)
        step = 0.5 + np.arctan((energy_ev - centre) / 1.6) / np.pi
        line = (0.7 + 0.1 * np.asarray(soc)) * np.exp(-(((energy_ev - centre - 6) / 4) ** 2))
        return np.asarray(step + line)

    def _shot(self, ideal: Array) -> Array:
        seen = self.rng.poisson(ideal) if self.noise else np.round(ideal)
        image: Array = np.clip(seen + self.dark, 0, 65535).astype(np.uint16)
        return image

    def frame(self, index: int, *, exposure_s: float = 1.0, i0: float = 1.0) -> Array:
        """Return the sample frame at one of the planned energies, in counts (uint16)."""
        energy = self.energies_ev[index]
        depth = 0.3 - 1e-4 * (energy - 8340) + self.jump * self.spectrum(energy, self.soc)
        return self._shot(self.open_beam * exposure_s * i0 * np.exp(-depth))

    def flat(self, *, exposure_s: float = 1.0, i0: float = 1.0) -> Array:
        """Return a frame of the open beam, in counts (uint16)."""
        return self._shot(self.open_beam * exposure_s * i0)

    def run(
        self,
        steps: Iterable[tuple[Any, ...]] | None = None,
        *,
        exit_status: Literal["success", "abort", "fail"] = "success",
        **md: Any,
    ) -> list[Document]:
        """Compose a run.

        Parameters
        ----------
        steps : iterable of tuple, optional
            ``(stream, energy_index, image[, changes of the data])`` of each event; by default those of `steps`.
        exit_status : {"success", "abort", "fail"}
            Of the stop document.
        **md
            Further metadata of the start document.

        Returns
        -------
        list of (str, dict)
            The documents, in order.
        """
        run = event_model.compose_run(
            metadata={"plan_name": "xanes_scan", "scan_group": "group", "xanes": self.xanes, **md}
        )
        documents: list[Document] = [("start", dict(run.start_doc))]
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
        documents.append(("stop", dict(run.compose_stop(exit_status=exit_status))))
        return documents

    def steps(self) -> list[tuple[Any, ...]]:
        """Return the steps of a plain scan: darks, then flat and frame of each energy."""
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
