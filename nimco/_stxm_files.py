"""Stacks of a scanning microscope and of ptychography from files of other programs, and files for them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nimco.errors import RecordingError

__all__ = ["ImageStack", "read_image_stack", "read_reconstructions", "write_nxstxm"]

Array = npt.NDArray[np.float64]

_UM = {"um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6, "microns": 1.0}
_LARGEST_VALUES = 2**28
_SAME_PIXEL = 1e-3
_NUMBERS = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, eq=False)
class ImageStack:
    """Images at several energies.

    Attributes
    ----------
    energy_ev : ndarray, shape (n,)
        Energies.
    values : ndarray, shape (n, rows, cols)
        Counts of a scan (NaN for what is missing); of ptychography the optical depth by the amplitude.
    row_um, column_um : ndarray
        Places of rows and columns.
    dwell_s : ndarray, shape (n,)
        Time at each point; NaN where the file does not say it.
    phase_rad : ndarray, shape (n, rows, cols), optional
        Phase of a reconstruction.
    """

    energy_ev: Array
    values: Array
    row_um: Array
    column_um: Array
    dwell_s: Array
    phase_rad: Array | None = None


def read_image_stack(path: str | Path) -> ImageStack:
    """Read a stack of counts: NXstxm (HDF5), or the header (.hdr) and the images (.xim) of the ALS.

    Parameters
    ----------
    path : str or Path
        The HDF5 file, or the header, with the images beside it.

    Raises
    ------
    RecordingError
        The file is no such stack, or lacks a part; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordingError(f"{path} is no file")
    if path.suffix.lower() == ".hdr":
        return _read_hdr(path)
    try:
        with h5py.File(path, "r") as file:
            return _read_nxstxm(path, file)
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be read as HDF5 ({error})") from None


def _read_nxstxm(path: Path, file: h5py.File) -> ImageStack:
    for entry in (node for node in file.values() if isinstance(node, h5py.Group)):
        if "definition" not in entry or _text(entry["definition"]) != "NXstxm":
            continue
        groups = [node for node in entry.values() if isinstance(node, h5py.Group)]
        found = [
            group
            for group in groups
            if _class(group) == "NXdata" and {"data", "energy", "sample_x", "sample_y"} <= set(group)
        ]
        if not found:
            raise RecordingError(
                f"{path.name} follows NXstxm but holds no data over energy, sample_y and sample_x"
            )
        group = found[0]
        if group["data"].size > _LARGEST_VALUES:
            raise RecordingError(
                f"{path.name} holds {group['data'].size} values, too many to be read at once"
            )
        values = np.asarray(group["data"][()], np.float64)
        energy = np.atleast_1d(np.asarray(group["energy"][()], np.float64))
        if _unit(group["energy"]) == "kev":
            energy *= 1e3
        dwell = group["count_time"][()] if "count_time" in group else np.nan
        return _stack(
            path,
            energy,
            values if values.ndim == 3 else values.reshape(energy.size, *values.shape[-2:]),
            _length_um(path, group["sample_y"]),
            _length_um(path, group["sample_x"]),
            dwell,
        )
    raise RecordingError(f"{path.name} has no entry with the definition NXstxm")


def _stack(path: Path, energy: Array, values: Array, rows: Array, columns: Array, dwell: Any) -> ImageStack:
    if values.shape != (energy.size, rows.size, columns.size):
        raise RecordingError(
            f"{path.name} holds images of {values.shape} for {energy.size} energies, {rows.size} rows and "
            f"{columns.size} columns"
        )
    dwell = np.broadcast_to(np.asarray(dwell, np.float64).reshape(-1), (energy.size,)).copy()
    return ImageStack(energy, values, rows, columns, dwell)


def _read_hdr(path: Path) -> ImageStack:
    text = path.read_text(errors="replace")
    axes = {}
    for name in ("PAxis", "QAxis", "StackAxis"):
        at = text.find(name)
        points = text.find("Points", at) if at >= 0 else -1
        if points < 0:
            raise RecordingError(
                f"{path.name} names no points of the {name}: it is no header of an image stack"
            )
        listed = [float(x) for x in _NUMBERS.findall(text[points : text.find(")", points)])]
        axes[name] = np.array(listed[1 : 1 + int(listed[0])] if listed else [])
    dwell = re.search(r"Dwell\s*=\s*([\d.]+)", text)
    images, numbers = [], []
    stem = path.with_suffix("").name
    files = sorted(f for f in path.parent.glob(f"{stem}_a*.xim") if f.stem[len(stem) + 2 :].isdigit())
    if not files:
        raise RecordingError(f"there is no image {stem}_a000.xim beside {path.name}")
    for file in files:
        image = np.loadtxt(file, ndmin=2)
        if image.shape != (axes["QAxis"].size, axes["PAxis"].size):
            raise RecordingError(
                f"{file.name} holds {image.shape[0]} x {image.shape[1]} values where {path.name} announces "
                f"{axes['QAxis'].size} x {axes['PAxis'].size}"
            )
        images.append(image)
        numbers.append(int(file.stem[len(stem) + 2 :]))
    energy = axes["StackAxis"]
    if max(numbers) >= energy.size:
        raise RecordingError(
            f"{path.name} announces {energy.size} energies, but image {max(numbers)}, counted from 0, is beside it"
        )
    # The number of an image is that of its energy: of a scan that was stopped the first ones are there.
    return _stack(
        path,
        energy[numbers],
        np.stack(images),
        axes["QAxis"],
        axes["PAxis"],
        1e-3 * float(dwell[1]) if dwell else np.nan,
    )


def write_nxstxm(stack: ImageStack, path: str | Path, *, title: str = "") -> Path:
    """Write a stack as NXstxm, which Mantis and other programs open.

    Parameters
    ----------
    stack : ImageStack
        Counts, or optical depth.
    path : str or Path
        The file; one that is there is not replaced.
    title : str
        What it is.

    Raises
    ------
    RecordingError
        The file is there already.
    """
    path = Path(path)
    if path.exists():
        raise RecordingError(f"{path} is there already: give another name")
    with h5py.File(path, "w") as file:
        entry = _group(file, "entry1", "NXentry")
        file.attrs["default"] = "entry1"
        entry.attrs["default"] = "counter0"
        entry["definition"] = "NXstxm"
        entry["definition"].attrs["version"] = "1.1"
        entry["title"] = title
        instrument = _group(entry, "instrument", "NXinstrument")
        source = _group(instrument, "source", "NXsource")
        for name, said in (("type", "Synchrotron X-ray Source"), ("name", ""), ("probe", "x-ray")):
            source[name] = said
        shape = stack.values.shape
        each = np.broadcast_to(stack.energy_ev[:, None, None], shape).reshape(-1)
        for name, values, unit in (
            ("detector", stack.values.reshape(-1), ""),
            ("sample_x", np.broadcast_to(stack.column_um, shape).reshape(-1), "um"),
            ("sample_y", np.broadcast_to(stack.row_um[:, None], shape).reshape(-1), "um"),
        ):
            detector = _group(instrument, name, "NXdetector")
            detector["data"] = values
            detector["data"].attrs["units"] = unit
        monochromator = _group(instrument, "monochromator", "NXmonochromator")
        monochromator["energy"] = each
        monochromator["energy"].attrs["units"] = "eV"
        sample = _group(entry, "sample", "NXsample")
        sample["rotation_angle"] = 0.0
        sample["rotation_angle"].attrs["units"] = "deg"
        data = _group(entry, "counter0", "NXdata")
        data.attrs["signal"] = "data"
        data.attrs["axes"] = np.array(["energy", "sample_y", "sample_x"], dtype="S8")
        for axis, name in enumerate(("energy", "sample_y", "sample_x")):
            data.attrs[f"{name}_indices"] = np.uint32(axis)
        for name, values, unit in (
            ("data", stack.values, ""),
            ("energy", stack.energy_ev, "eV"),
            ("sample_y", stack.row_um, "um"),
            ("sample_x", stack.column_um, "um"),
            ("count_time", stack.dwell_s, "s"),
        ):
            data[name] = values
            data[name].attrs["units"] = unit
        data["stxm_scan_type"] = "sample image stack"
    return path


def read_reconstructions(
    paths: Sequence[str | Path], *, energies_ev: Sequence[float] | None = None
) -> ImageStack:
    """Read one ptychographic reconstruction per energy: PtyPy or CXI files of complex images.

    The amplitude becomes an optical depth, ``-2 ln |O|`` against its largest values; the phase is kept.

    Parameters
    ----------
    paths : sequence of str or Path
        The files.
    energies_ev : sequence of float, optional
        Energy of each, where the files do not say it.

    Raises
    ------
    RecordingError
        A file holds no reconstruction, says no energy, or has another size or pixel than the first one.
    """
    if not paths:
        raise RecordingError("there is no reconstruction to read")
    if energies_ev is not None and len(energies_ev) != len(paths):
        raise RecordingError(f"{len(energies_ev)} energies are given for {len(paths)} reconstructions")
    found: list[tuple[Any, float, float]] = []
    for number, path in enumerate(map(Path, paths)):
        try:
            with h5py.File(path, "r") as file:
                image, pixel_m, energy_ev = _reconstruction(path, file)
        except OSError as error:
            raise RecordingError(f"{path.name} cannot be read as HDF5 ({error})") from None
        if energies_ev is not None:
            energy_ev = float(energies_ev[number])
        if not math.isfinite(energy_ev):
            raise RecordingError(f"{path.name} does not say its energy: give energies_ev")
        if found and abs(pixel_m / found[0][1] - 1.0) > _SAME_PIXEL:
            raise RecordingError(
                f"{path.name} has pixels of {1e9 * pixel_m:.2f} nm and {Path(paths[0]).name} of "
                f"{1e9 * found[0][1]:.2f} nm: reconstruct all energies on one pixel size, or resample them"
            )
        if found and image.shape != found[0][0].shape:
            raise RecordingError(
                f"{path.name} has {image.shape} pixels and {Path(paths[0]).name} {found[0][0].shape}: crop them alike"
            )
        found.append((image, pixel_m, energy_ev))
    order = np.argsort([energy for *_, energy in found], kind="stable")
    images = np.stack([found[k][0] for k in order])
    amplitude = np.abs(images)
    open_beam = np.nanpercentile(amplitude, 99, axis=(1, 2), keepdims=True)
    with np.errstate(divide="ignore"):
        depth = np.where(amplitude > 0, -2.0 * np.log(amplitude / open_beam), np.nan)
    step_um = 1e6 * found[0][1]
    rows, columns = (step_um * (np.arange(n) - 0.5 * (n - 1)) for n in images.shape[1:])
    energies = np.array([found[k][2] for k in order])
    return ImageStack(energies, depth, rows, columns, np.full(energies.size, np.nan), np.angle(images))


def _reconstruction(path: Path, file: h5py.File) -> tuple[Any, float, float]:
    """Return the complex image, its pixel in m and its energy in eV (NaN where the file does not say it)."""
    if "content/obj" in file:
        storage = next(iter(file["content/obj"].values()))
        image = np.asarray(storage["data"][()])
        pixel = float(np.ravel(storage["_psize"][()])[0]) if "_psize" in storage else math.nan
        energy = 1e3 * float(np.ravel(storage["_energy"][()])[0]) if "_energy" in storage else math.nan
    elif "entry_1" in file:
        entry = file["entry_1"]
        node = next((entry[name] for name in ("image_1", "object_1") if name in entry), None)
        if node is None or "data" not in node:
            raise RecordingError(
                f"{path.name} is a CXI file without image_1/data: it holds no reconstruction"
            )
        image = np.asarray(node["data"][()])
        pixel = float(np.ravel(node["x_pixel_size"][()])[0]) if "x_pixel_size" in node else math.nan
        held = entry.get("instrument_1/source_1/energy")
        # CXI keeps energies in joules.
        energy = math.nan if held is None else float(np.ravel(held[()])[0]) / 1.602176634e-19
    else:
        raise RecordingError(f"{path.name} is neither a PtyPy nor a CXI reconstruction")
    image = image.reshape(-1, *image.shape[-2:])[0]
    if image.dtype.kind != "c":
        raise RecordingError(f"{path.name} holds {image.dtype} where a complex image is needed")
    if not (math.isfinite(pixel) and pixel > 0):
        raise RecordingError(f"{path.name} does not say its pixel size")
    return image, pixel, energy


def _group(parent: Any, name: str, nx_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _class(group: h5py.Group) -> str:
    said = group.attrs.get("NX_class", b"")
    return said.decode() if isinstance(said, bytes) else str(said)


def _text(node: Any) -> str:
    value = np.ravel(node[()])[0] if isinstance(node, h5py.Dataset) and node.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _unit(node: h5py.Dataset) -> str:
    said = node.attrs.get("units", "")
    return (said.decode(errors="replace") if isinstance(said, bytes) else str(said)).strip().lower()


def _length_um(path: Path, node: h5py.Dataset) -> Array:
    unit = _unit(node)
    if unit not in _UM:
        raise RecordingError(
            f"{path.name} has places in {unit or 'no unit'!r}, which is no length that is known"
        )
    return _UM[unit] * np.atleast_1d(np.asarray(node[()], np.float64))
