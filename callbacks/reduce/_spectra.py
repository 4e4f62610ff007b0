"""Mean spectra: optical depth against energy over a sample of the pixels, kept while the frames come."""

import numpy as np
import numpy.typing as npt

from callbacks.documents import saturated_pixels

from ._corrected_frame import CorrectedFrame

Spectrum = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]

_KEPT_VALUES = 2_000_000
_LARGEST_SAMPLE = 16_384


def optical_depth(
    frame: CorrectedFrame,
    pixels: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice = slice(None),
    *,
    own_spikes: bool = False,
) -> npt.NDArray[np.float32]:
    """Return the optical depth of a frame at some of its pixels (flat indices, mask, or all).

    NaN where the flat field has no light above the dark and where a pixel sticks out, infinite where the frame has none
    (+inf) or where frame or flat field are saturated (-inf), as `edge_fitting.EdgeFitter.push` takes it. With
    `own_spikes` those of the frame itself, not of its flat field, have their value.
    """
    image = frame.reading.image.reshape(-1)[pixels]
    light = image - frame.dark.reshape(-1)[pixels]
    flat = frame.flat.reshape(-1)[pixels]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -np.log(np.where(light > 0, light, np.float32(0.0)) / flat * np.float32(frame.scale))
    depth[~(flat > 0) | np.isnan(light)] = np.nan
    saturated = saturated_pixels(image.reshape(1, -1), frame.limit)
    if saturated is not None:
        depth[saturated.reshape(-1)] = -np.inf
    if frame.saturated_flat is not None:
        depth[frame.saturated_flat.reshape(-1)[pixels]] = -np.inf
    spikes = frame.flat_spikes if own_spikes else frame.spikes
    if spikes.size:
        missing = np.zeros(frame.reading.image.size, np.bool_)
        missing[spikes] = True
        depth[missing[pixels]] = np.nan
    return np.asarray(depth, np.float32)


def finite_mean(depth: npt.NDArray[np.float32]) -> tuple[float, int]:
    """Return the mean of what is finite (NaN where nothing is), and how much is not."""
    good = np.isfinite(depth)
    return float(depth[good].mean()) if good.any() else np.nan, int(depth.size - good.sum())


def counting_variance(frame: CorrectedFrame, mean_od: float, n_flats: int) -> float:
    """Return the variance of a frame's optical depth by counting statistics, up to the gain of the camera.

    It is that of a pixel of mean optical depth: the light there is the geometric mean over the frame, so that neither
    the open beam nor a few opaque grains decide.

    Parameters
    ----------
    frame : CorrectedFrame
        The frame.
    mean_od : float
        Its mean optical depth; NaN counts as open beam.
    n_flats : int
        Frames that its flat field is the mean of.
    """
    flat = float(frame.flat.reshape(-1)[:: max(frame.flat.size // _LARGEST_SAMPLE, 1)].mean())
    if not flat > 0:
        return 1.0  # a frame without a single value
    return (frame.scale * float(np.exp(np.nan_to_num(mean_od))) + 1.0 / max(n_flats, 1)) / flat


def sampled_pixels(shape: tuple[int, int], n_energies: int) -> npt.NDArray[np.intp]:
    """Return the flat indices of a regular sample of the pixels, small enough to keep at every energy."""
    wanted = min(_LARGEST_SAMPLE, max(_KEPT_VALUES // max(n_energies, 1), 256))
    step = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / wanted))))
    rows, cols = np.meshgrid(
        np.arange(step // 2, shape[0], step), np.arange(step // 2, shape[1], step), indexing="ij"
    )
    pixels: npt.NDArray[np.intp] = (rows * shape[1] + cols).ravel()
    return pixels


class _Energy:
    """Sums over the frames of one energy; float64, so that what is subtracted leaves nothing behind."""

    def __init__(self, n_pixels: int) -> None:
        self.energy_sum = 0.0
        self.frames = 0
        self.depth_sum = np.zeros(n_pixels)
        self.n_missing = np.zeros(n_pixels, np.int32)

    def add(self, energy_ev: float, depth: npt.NDArray[np.float32], sign: int) -> None:
        """Add a frame, or subtract it (sign -1)."""
        missing = np.isnan(depth)
        self.energy_sum += sign * energy_ev
        self.frames += sign
        self.depth_sum += sign * np.where(missing, np.float32(0.0), depth)
        self.n_missing += sign * missing.astype(np.int32)

    def merge(self, other: "_Energy") -> None:
        """Add the frames of another one."""
        self.energy_sum += other.energy_sum
        self.frames += other.frames
        self.depth_sum += other.depth_sum
        self.n_missing += other.n_missing

    def mean(self) -> npt.NDArray[np.float64]:
        """Mean optical depth, NaN where a frame has none."""
        return np.where(self.n_missing > 0, np.nan, self.depth_sum / self.frames)


class SampledSpectra:
    """Optical depth of a regular sample of the pixels at every energy: spectra over any mask, at bounded memory.

    Parameters
    ----------
    shape : (rows, cols)
        Shape of the frames.
    n_energies : int
        Planned number of energies.

    Attributes
    ----------
    pixels : ndarray of int
        Flat indices of the sample.
    """

    def __init__(self, shape: tuple[int, int], n_energies: int) -> None:
        self.pixels = sampled_pixels(shape, n_energies)
        self._energies: dict[int, _Energy] = {}

    def add(self, energy_index: int, energy_ev: float, depth: npt.NDArray[np.float32]) -> None:
        """Add a frame: its optical depth at the sampled pixels, NaN where it has none."""
        if energy_index not in self._energies:
            self._energies[energy_index] = _Energy(self.pixels.size)
        self._energies[energy_index].add(energy_ev, depth, 1)

    def retract(self, energy_index: int, energy_ev: float, depth: npt.NDArray[np.float32]) -> None:
        """Take a frame out again that was added with the same values."""
        entry = self._energies[energy_index]
        entry.add(energy_ev, depth, -1)
        if not entry.frames:
            del self._energies[energy_index]

    def merge(self, other: "SampledSpectra") -> None:
        """Add the frames of another sample of the same pixels."""
        for index, entry in other._energies.items():
            if index not in self._energies:
                self._energies[index] = _Energy(self.pixels.size)
            self._energies[index].merge(entry)

    def mean(self, mask: npt.NDArray[np.bool_] | None = None) -> Spectrum:
        """Return energies, mean optical depth and its standard error over the sampled pixels of a mask.

        Parameters
        ----------
        mask : ndarray of bool, (rows, cols), optional
            Pixels to average; all where it holds none of the sample.
        """
        chosen = np.ones(self.pixels.size, bool) if mask is None else mask.reshape(-1)[self.pixels]
        if not chosen.any():
            chosen[:] = True
        energies, depths, errors = [], [], []
        for entry in self._energies.values():
            values = entry.mean()[chosen]
            good = values[np.isfinite(values)]
            if not good.size:
                continue
            energies.append(entry.energy_sum / entry.frames)
            depths.append(float(good.mean(dtype=np.float64)))
            errors.append(float(good.std(dtype=np.float64)) / np.sqrt(good.size))
        order = np.argsort(energies)
        return np.asarray(energies)[order], np.asarray(depths)[order], np.asarray(errors)[order]
