"""Mean spectra: optical depth against energy over a sample of the pixels, kept while the frames come."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from callbacks.documents import Reading, saturated_pixels

from ._flat_field import ReadyFrame

Spectrum = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]

_KEPT_VALUES = 2_000_000
_LARGEST_SAMPLE = 16_384


def optical_depth(
    ready: ReadyFrame, pixels: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice = slice(None)
) -> npt.NDArray[np.float32]:
    """Return the optical depth of a frame at some of its pixels (flat indices, mask, or all).

    NaN where the flat field has no light above the dark, infinite where the frame has none (+inf) or where frame
    or flat field are saturated (-inf), as `edge_fitting.EdgeFitter.push` takes it.
    """
    image = ready.reading.image.reshape(-1)[pixels]
    light = image - ready.dark.reshape(-1)[pixels]
    flat = ready.flat.reshape(-1)[pixels]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -np.log(np.where(light > 0, light, np.float32(0.0)) / flat * np.float32(ready.scale))
    depth[~(flat > 0) | np.isnan(light)] = np.nan
    saturated = saturated_pixels(image.reshape(1, -1), ready.limit)
    if saturated is not None:
        depth[saturated.reshape(-1)] = -np.inf
    if ready.saturated_flat is not None:
        depth[ready.saturated_flat.reshape(-1)[pixels]] = -np.inf
    return np.asarray(depth, np.float32)


def finite_mean(depth: npt.NDArray[np.float32]) -> tuple[float, int]:
    """Return the mean of what is finite (NaN where nothing is), and how much is not."""
    good = np.isfinite(depth)
    return float(depth[good].mean()) if good.any() else np.nan, int(depth.size - good.sum())


def counting_variance(ready: ReadyFrame, mean_od: float, n_flats: int) -> float:
    """Return the variance of a frame's optical depth by counting statistics, up to the gain of the camera.

    It is that of a pixel of mean optical depth: the light there is the geometric mean over the frame, so that neither
    the open beam nor a few opaque grains decide.

    Parameters
    ----------
    ready : ReadyFrame
        The frame.
    mean_od : float
        Its mean optical depth; NaN counts as open beam.
    n_flats : int
        Frames that its flat field is the mean of.
    """
    flat = float(ready.flat.reshape(-1)[:: max(ready.flat.size // _LARGEST_SAMPLE, 1)].mean())
    if not flat > 0:
        return 1.0  # a frame without a single value
    return (ready.scale * float(np.exp(np.nan_to_num(mean_od))) + 1.0 / max(n_flats, 1)) / flat


@dataclass
class _Energy:
    energy_sum: float = 0.0
    frames: int = 0
    depth_sum: npt.NDArray[np.float32] | None = None


class SampledSpectra:
    """Optical depth of a regular sample of the pixels at every energy: spectra over any mask, at bounded memory.

    Parameters
    ----------
    shape : (rows, cols)
        Shape of the frames.
    n_energies : int
        Planned number of energies.
    """

    def __init__(self, shape: tuple[int, int], n_energies: int) -> None:
        wanted = min(_LARGEST_SAMPLE, max(_KEPT_VALUES // max(n_energies, 1), 256))
        step = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / wanted))))
        rows, cols = np.meshgrid(
            np.arange(step // 2, shape[0], step), np.arange(step // 2, shape[1], step), indexing="ij"
        )
        self.pixels: npt.NDArray[np.intp] = (rows * shape[1] + cols).ravel()
        self._energies: dict[int, _Energy] = {}

    def sample(self, ready: ReadyFrame) -> npt.NDArray[np.float32]:
        """Return the optical depth of a frame at the sampled pixels, NaN where it has none."""
        depth = optical_depth(ready, self.pixels)
        depth[~np.isfinite(depth)] = np.nan
        return depth

    def add(self, reading: Reading, depth: npt.NDArray[np.float32]) -> None:
        """Add the sample of a frame."""
        entry = self._energies.setdefault(reading.energy_index, _Energy())
        entry.energy_sum += reading.energy_ev
        entry.frames += 1
        entry.depth_sum = depth if entry.depth_sum is None else entry.depth_sum + depth

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
            if entry.depth_sum is None:
                continue
            values = entry.depth_sum[chosen] / entry.frames
            good = values[np.isfinite(values)]
            if not good.size:
                continue
            energies.append(entry.energy_sum / entry.frames)
            depths.append(float(good.mean(dtype=np.float64)))
            errors.append(float(good.std(dtype=np.float64)) / np.sqrt(good.size))
        order = np.argsort(energies)
        return np.asarray(energies)[order], np.asarray(depths)[order], np.asarray(errors)[order]
