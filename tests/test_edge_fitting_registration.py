"""Registration of drifting stacks: shifts against known ones, and what is said of stacks that cannot be registered."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from edge_fitting import DriftTracker, EdgeFittingError, register_stack, resample_frame

ENERGY_EV = np.concatenate(
    [np.arange(8200, 8330, 14.0), np.arange(8332, 8356, 1.5), np.arange(8360, 8520, 16.0)]
)
SHAPE = (96, 120)
SPECTRUM = (
    0.5 + np.arctan((ENERGY_EV - 8343.0) / 1.6) / np.pi + 0.4 * np.exp(-(((ENERGY_EV - 8350.0) / 4.0) ** 2))
)


def texture(seed: int, shape: tuple[int, int], grain_px: float = 1.5) -> np.ndarray:
    """Thickness of a field of particles with grains, 0 to about 1."""
    random = np.random.default_rng(seed)
    large = gaussian_filter(random.standard_normal(shape), 12.0)
    grains = gaussian_filter(random.standard_normal(shape), grain_px)
    return np.clip(0.6 + 0.5 * large / large.std() * 0.5, 0.0, None) * (1.0 + 0.12 * grains / grains.std())


def drift(seed: int, n: int, step_px: float = 0.5) -> np.ndarray:
    """Random walk that starts at 0."""
    steps = step_px * np.random.default_rng(seed).standard_normal((n, 2))
    steps[0] = 0.0
    return np.cumsum(steps, axis=0)


def moved(image: np.ndarray, shift: np.ndarray, margin: int) -> np.ndarray:
    """Content of a large image displaced by a shift, seen through a window that leaves a margin."""
    rows, cols = np.indices((image.shape[0] - 2 * margin, image.shape[1] - 2 * margin), dtype=float)
    return map_coordinates(
        image, [rows + margin - shift[0], cols + margin - shift[1]], order=5, mode="nearest"
    )


def stack(
    seed: int,
    shifts: np.ndarray,
    *,
    noise: float = 0.02,
    shape: tuple[int, int] = SHAPE,
    binder: float = 0.0,
    every: int = 1,
) -> np.ndarray:
    """Optical depth of a moving sample: its jump, a pattern of it that has no edge, noise."""
    margin = 40
    large = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    jump, carbon = texture(seed, large), texture(seed + 1000, large, 3.0)
    random = np.random.default_rng(seed + 2000)
    frames = [
        moved(jump * 0.6 * mu + 0.08 * jump + binder * carbon, s, margin)
        for mu, s in zip(SPECTRUM[::every], shifts, strict=True)
    ]
    return (np.array(frames) + noise * random.standard_normal((len(frames), *shape))).astype(np.float32)


def rms(shifts: np.ndarray, truth: np.ndarray) -> float:
    """Scatter of shifts about the truth, besides a common offset."""
    error = shifts - truth
    return float(np.sqrt(np.mean((error - error.mean(axis=0)) ** 2)))


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    return drift(5, ENERGY_EV.size)


@pytest.mark.parametrize("seed", [1, 2])
def test_shifts_are_found_within_their_sigma(seed: int, walk: np.ndarray) -> None:
    found = register_stack(ENERGY_EV, stack(seed, walk))
    assert found.warnings == ()
    assert found.drift_found
    assert found.registered.all()
    assert rms(found.shifts_px, walk) < 0.1
    error = found.shifts_px - walk
    pull = (error - error.mean(axis=0)) / found.shift_sigma_px
    assert 0.5 < np.sqrt(np.mean(pull**2)) < 1.6


def test_structure_without_an_edge_moves_shifts_little(walk: np.ndarray) -> None:
    found = register_stack(ENERGY_EV, stack(1, walk, binder=0.1))
    assert found.warnings == ()
    assert rms(found.shifts_px, walk) < 0.15


def test_frames_are_resampled_once_by_the_stored_shifts(walk: np.ndarray) -> None:
    frames = stack(3, walk)
    frames[:, 40, 50] = np.nan
    before = frames.copy()
    found = register_stack(ENERGY_EV, frames)
    np.testing.assert_array_equal(frames, before)
    for k in (0, 7, frames.shape[0] - 1):
        np.testing.assert_array_equal(found.optical_depth[k], resample_frame(frames[k], found.shifts_px[k]))
    np.testing.assert_array_equal(found.optical_depth[0], frames[0])
    still = np.nanmedian(found.optical_depth, axis=0)
    assert np.isfinite(still).mean() > 0.8


def test_live_shifts_come_in_order_once_the_edge_is_passed(walk: np.ndarray) -> None:
    frames = stack(4, walk)
    tracker, out = DriftTracker(SHAPE), []
    for energy, frame in zip(ENERGY_EV, frames, strict=True):
        out += tracker.push(energy, frame)
    assert tracker.n_kept == 0
    out += tracker.finish()
    assert [o.index for o in out] == list(range(ENERGY_EV.size))
    assert rms(np.array([o.shift_px for o in out]), walk) < 0.15
    np.testing.assert_array_equal(out[-1].optical_depth, resample_frame(frames[-1], out[-1].shift_px))


def test_a_clean_stack_at_rest_is_left_alone() -> None:
    frames = stack(6, np.zeros((ENERGY_EV.size, 2)))
    found = register_stack(ENERGY_EV, frames)
    assert found.warnings == ()
    assert not found.drift_found
    np.testing.assert_array_equal(found.optical_depth, frames)
    about = found.shifts_px - found.shifts_px.mean(axis=0)
    assert np.abs(about / found.shift_sigma_px).max() < 5.0


def test_a_small_field_and_few_frames_are_registered() -> None:
    walk = drift(5, ENERGY_EV[::2].size)
    found = register_stack(ENERGY_EV[::2], stack(3, walk, shape=(40, 48), every=2))
    assert found.registered.all()
    assert rms(found.shifts_px, walk) < 0.5 * rms(np.zeros_like(walk), walk)


def test_a_jump_of_many_pixels_is_found(walk: np.ndarray) -> None:
    shifts = walk.copy()
    shifts[20:] += (11.0, -14.0)
    found = register_stack(ENERGY_EV, stack(7, shifts))
    assert found.registered.all()
    assert rms(found.shifts_px, shifts) < 0.3  # a fifth of the field is seen on one side of the jump only


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.full((4, 64, 64), np.nan, np.float32), "finite"),
        (0.02 * np.random.default_rng(1).standard_normal((4, 64, 64)).astype(np.float32), "no structure"),
        (np.ones((4, 12, 64), np.float32), "too small"),
        (np.ones((1, 64, 64), np.float32), "one frame"),
    ],
    ids=["nothing but NaN", "empty field", "small", "one frame"],
)
def test_what_cannot_be_registered_is_returned_as_it_was(frames: np.ndarray, said: str) -> None:
    found = register_stack(ENERGY_EV[: frames.shape[0]], frames)
    np.testing.assert_array_equal(found.optical_depth, frames)
    assert not found.shifts_px.any()
    assert not found.registered.any()
    assert len(found.warnings) == 1
    assert said in found.warnings[0]


def test_resampling_never_wraps_and_keeps_gaps() -> None:
    frame = np.random.default_rng(2).random((40, 50)).astype(np.float32)
    whole = resample_frame(frame, (3.0, -2.0))
    np.testing.assert_array_equal(whole[:37, 2:], frame[3:, :48])
    assert np.isnan(whole[37:]).all()
    assert np.isnan(whole[:, :2]).all()
    frame[20, 20] = np.nan
    part = resample_frame(frame, (0.5, 0.0))
    assert np.isnan(part[16:24, 20]).all()
    assert np.isfinite(part[5:15, 20]).all()
    assert np.isfinite(part[18, 21])
    assert np.isnan(resample_frame(frame, (1e9, 0.0))).all()
    with pytest.raises(EdgeFittingError, match="two finite numbers"):
        resample_frame(frame, (np.nan, 0.0))


def test_the_shared_stack(shared_data: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "stacks" / "semireal_ni_k_particle_drift.h5") as file:
        energy_ev, truth = file["energy_ev"][:], file["truth/drift_px"][:]
        dark = file["dark"][:]
        depth = -np.log((file["frames"][:] - dark) / (file["flats"][:] - dark))
    found = register_stack(energy_ev, depth)
    assert found.warnings == ()
    assert rms(found.shifts_px, truth) < 0.10
    assert rms(found.shifts_px[:20], truth[:20]) < 0.25


@pytest.mark.parametrize(("percent", "degrees"), [(1.0, 0.2), (1.0, 0.0), (0.0, 0.5)])
def test_magnification_and_rotation_are_taken_out_with_the_drift(percent: float, degrees: float) -> None:
    walk = drift(2, ENERGY_EV.size, 0.9)
    place = (ENERGY_EV - ENERGY_EV[0]) / np.ptp(ENERGY_EV)
    size, turn = 1.0 + 0.01 * percent * place, degrees * np.linspace(0.0, 1.0, ENERGY_EV.size)
    margin, shape = 50, (128, 140)
    large = texture(1, (shape[0] + 2 * margin, shape[1] + 2 * margin))
    random = np.random.default_rng(3)
    rows, cols = np.indices(shape, dtype=float)
    centre = (np.array(shape) - 1) / 2
    frames, where = [], np.mgrid[-50:51:25, -50:51:25].reshape(2, -1)
    for mu, shift, m, angle in zip(SPECTRUM, walk, size, np.radians(turn), strict=True):
        down, right = rows - centre[0] - shift[0], cols - centre[1] - shift[1]
        source = [
            (np.cos(angle) * down + np.sin(angle) * right) / m + centre[0] + margin,
            (np.cos(angle) * right - np.sin(angle) * down) / m + centre[1] + margin,
        ]
        frames.append((0.08 + 0.6 * mu) * map_coordinates(large, source, order=5, mode="nearest"))
    stack = np.array(frames) + 0.02 * random.standard_normal((len(frames), *shape))
    found = register_stack(ENERGY_EV, stack.astype(np.float32))
    assert found.warnings == ()
    off = []
    for k in range(ENERGY_EV.size):
        true, told = (
            m * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
            for m, a in (
                (size[k], np.radians(turn[k])),
                (found.magnification[k], np.radians(found.rotation_deg[k])),
            )
        )
        off.append((told - true) @ where + (found.shifts_px[k] - walk[k])[:, None])
    error = np.array(off)
    assert np.sqrt(np.mean((error - error.mean(axis=(0, 2))[:, None]) ** 2)) < 0.1
    assert (np.ptp(found.magnification) > 0) == (percent > 0)
    assert (np.ptp(found.rotation_deg) > 0) == (degrees > 0)
    assert (found.magnification[0], found.rotation_deg[0]) == (1.0, 0.0)
    # One resampling from the frames as they came.
    k = ENERGY_EV.size - 1
    np.testing.assert_array_equal(
        found.optical_depth[k],
        resample_frame(
            stack[k].astype(np.float32),
            found.shifts_px[k],
            magnification=found.magnification[k],
            rotation_deg=found.rotation_deg[k],
        ),
    )


def test_resampling_turns_and_magnifies_about_the_middle() -> None:
    rows, cols = np.indices((81, 91)) - np.array([40.0, 45.0])[:, None, None]
    image = np.exp(-((rows - 10) ** 2 + (cols - 20) ** 2) / 18).astype(np.float32)
    angle, m, shift = np.radians(5.0), 1.1, np.array([1.5, -2.25])
    back = resample_frame(image, shift, magnification=m, rotation_deg=5.0)
    # Where the content is seen that belongs to a place.
    seen_r = m * (np.cos(angle) * rows - np.sin(angle) * cols) + shift[0]
    seen_c = m * (np.sin(angle) * rows + np.cos(angle) * cols) + shift[1]
    wanted = np.exp(-((seen_r - 10) ** 2 + (seen_c - 20) ** 2) / 18)
    inside = np.isfinite(back)
    assert inside.mean() > 0.6
    assert np.abs(back - wanted)[inside].max() < 0.005
    image[30, 60] = np.nan
    gap = np.isnan(resample_frame(image, shift, magnification=m, rotation_deg=5.0)) & inside
    assert 40 < gap.sum() < 80  # what the kernel of eight pixels would read it for
    with pytest.raises(EdgeFittingError, match="magnification"):
        resample_frame(image, shift, magnification=0.0)


def test_a_pattern_fixed_to_the_detector_does_not_drag_the_match() -> None:
    walk = drift(8, ENERGY_EV.size, 1.0)
    frames = stack(1, walk)
    dirt = gaussian_filter(np.random.default_rng(4).standard_normal(SHAPE), 1.5)
    dirt /= dirt.std()
    found = register_stack(ENERGY_EV, (frames + 0.01 * dirt).astype(np.float32))
    assert rms(found.shifts_px, walk) < 0.15
    # Dirt that outweighs the sample where that shows little leaves those frames that show it well alone.
    dirt[20:24, 30:35] = dirt[60:63, 80:90] = 7.5
    found = register_stack(ENERGY_EV, (frames + 0.02 * dirt).astype(np.float32))
    strong = SPECTRUM > 0.5
    assert rms(found.shifts_px[strong], walk[strong]) < 0.1
    # Those are not told from it: they stay where the nearest one is, with a sigma that says so.
    assert any("pattern that is fixed to the detector" in said for said in found.warnings)
    error = found.shifts_px - walk
    error -= np.median(error[strong], axis=0)
    assert np.sqrt(np.mean((error[~strong] / found.shift_sigma_px[~strong]) ** 2)) < 3.0


def test_parts_that_move_apart_are_said() -> None:
    shape, n = (96, 140), ENERGY_EV.size
    rows, cols = np.indices(shape, dtype=float)
    grains = gaussian_filter(np.random.default_rng(1).standard_normal((200, 300)), 1.5)
    grains /= grains.std()
    frames = []
    for k, mu in enumerate(SPECTRUM):
        field = np.zeros(shape)
        for centre, pace in ((35.0, -1.0), (105.0, 1.0)):
            row, col = rows - 48.0, cols - centre - pace * 3.0 * k / n
            thick = np.sqrt(np.clip(1.0 - (row**2 + col**2) / 28.0**2, 0.0, None))
            field += thick * (
                1.0 + 0.12 * map_coordinates(grains, [row + 100, col + 70 + 80 * (pace > 0)], order=3)
            )
        frames.append(field * (0.08 + 0.6 * mu))
    noisy = np.array(frames) + 0.02 * np.random.default_rng(2).standard_normal((n, *shape))
    found = register_stack(ENERGY_EV, noisy.astype(np.float32))
    assert any("one shift cannot serve" in said for said in found.warnings), found.warnings
    assert np.ptp(found.magnification) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_not_registered_on_itself(seed: int) -> None:
    noise = 0.02 * np.random.default_rng(seed).standard_normal((ENERGY_EV.size, 96, 120))
    found = register_stack(ENERGY_EV, noise.astype(np.float32))
    assert not found.registered.any()
    assert not found.drift_found
    assert ["no structure of a sample" in said for said in found.warnings] == [True]
