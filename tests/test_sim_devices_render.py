"""Statistics and geometry of the rendering kernels against laws they do not know."""

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import shift as spline_shift

from sim_devices import CameraSettings, OpticsSettings, SourceSettings, Twin, TwinSettings
from sim_devices.twin._projection import neighbours
from sim_devices.twin._render import CameraResponse, Illumination, RowBlocks, expose, normal_thirds

NORMAL = normal_thirds()


def draw(mean, *, shape=(400, 500), seed=7, gain=1.0, read_noise=0.0, offset=0.0, full=65535.0, blocks=None):
    out = np.empty(shape, dtype=np.uint16)
    ones = np.ones(shape, dtype=np.float32)
    light = Illumination(photons=float(mean), tilt=(0.0, 0.0), stray=0.0, random=True, exposure_s=0.5)
    camera = CameraResponse(ones, offset * ones, 0 * ones, gain, full, read_noise)
    args = (light, camera, np.empty((0, 0), dtype=np.float32), NORMAL, np.uint64(seed), out)
    for first, stop in blocks or [(0, shape[0])]:
        expose(first, stop, *args)
    return out


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.9, 10.1, 60.0, 400.0, 999.0, 1001.0, 9000.0])
def test_counts_follow_the_poisson_law(mean):
    """Chi-square over twenty classes of equal probability; the level is that of one test in 10 000."""
    counts = draw(mean).ravel()
    law = stats.poisson(mean)
    edges = np.unique(law.ppf(np.linspace(0, 1, 21)[1:-1]))
    expected = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]])) * counts.size
    observed = np.bincount(np.searchsorted(edges, counts, side="left"), minlength=edges.size + 1)
    chi2 = float(((observed - expected) ** 2 / expected).sum())
    assert chi2 < stats.chi2.ppf(1 - 1e-4, edges.size)


@pytest.mark.parametrize("mean", [4.0, 60.0, 900.0, 1100.0, 20000.0])
def test_moments_of_the_counts(mean):
    counts = draw(mean, shape=(1000, 1000)).astype(float)
    n = counts.size
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / n))
    assert counts.var() / mean == pytest.approx(1.0, abs=4 * np.sqrt((2 + 1 / mean) / n))
    assert stats.skew(counts, axis=None) == pytest.approx(mean**-0.5, abs=4 * np.sqrt(6 / n))


def test_gain_and_read_noise_add_as_they_should():
    gain, mean, read_noise = 2.5, 3000.0, 30.0
    counts = draw(mean, gain=gain, read_noise=read_noise, offset=100.0).astype(float)
    assert counts.mean() == pytest.approx(100 + gain * mean, rel=1e-3)
    assert counts.var() == pytest.approx(gain**2 * mean + read_noise**2, rel=0.02)


def test_neighbours_and_frames_are_independent():
    a, b = draw(500.0, seed=1).astype(float), draw(500.0, seed=2).astype(float)
    limit = 4 / np.sqrt(a.size)
    assert abs(np.corrcoef(a[:, :-1].ravel(), a[:, 1:].ravel())[0, 1]) < limit
    assert abs(np.corrcoef(a[:-1].ravel(), a[1:].ravel())[0, 1]) < limit
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < limit


def test_a_frame_does_not_depend_on_how_its_rows_are_shared():
    whole = draw(700.0, seed=3)
    parts = draw(700.0, seed=3, blocks=[(250, 400), (0, 1), (1, 250)])
    np.testing.assert_array_equal(whole, parts)


def test_counts_stop_at_the_full_well():
    assert draw(5000.0, full=4095.0).max() == 4095


def test_row_blocks_visit_every_row_once():
    for pixels in (100, 1_000_000):
        seen = np.zeros(37, dtype=int)

        def visit(first, stop, seen):
            seen[first:stop] += 1

        RowBlocks(pixels).run(visit, 37, seen)
        assert np.all(seen == 1)


def test_displacement_weights_move_a_straight_line_exactly():
    index, weight = neighbours(50, 10, 2.37, 1.01)
    assert np.all(weight.sum(axis=1) == pytest.approx(1.0, abs=1e-6))
    line = np.arange(70.0) - 34.5
    moved = sum(weight[:, k] * line[index + k] for k in range(4))
    np.testing.assert_allclose(moved, (np.arange(50) - 24.5 - 2.37) / 1.01, atol=1e-5)


def test_drifting_sample_is_the_same_sample_displaced():
    quiet = TwinSettings(
        source=SourceSettings(lifetime_h=0, drift=0),
        optics=OpticsSettings(blur_nm=300.0, drift_nm=0.0),
        camera=CameraSettings(shot_noise=False, read_noise=0, structure=0, pattern_noise=0, dark_per_s=0),
    )
    twin = Twin((128, 128), pixel_size_nm=125.0, seed=3, settings=quiet)
    twin.shutter_open = True
    still = twin.expose(1.0).astype(float)
    twin.stage_um = (0.125 * 2.4, -0.125 * 1.3)
    moved = twin.expose(1.0).astype(float)
    expected = spline_shift(still, (2.4, -1.3), order=3)
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(moved - still)[inner].max() > 500
    assert np.sqrt(np.mean((moved - expected)[inner] ** 2)) < 25
