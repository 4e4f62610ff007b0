"""Map statistics against scipy, plain NumPy and known truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from edge_fitting import (
    EdgeFittingError,
    cluster_maps,
    cluster_spectra,
    edge_distance,
    group_spectra,
    label_particles,
    map_histogram,
    particle_statistics,
    radial_profile,
    recentre_map,
    relative_depth,
)


def blobs(rows: int, cols: int, seed: int, level: float = 0.5) -> np.ndarray:
    noise = np.random.default_rng(seed).random((rows, cols))
    return ndimage.gaussian_filter(noise, 1.2, mode="constant", cval=0.5) > level


def flooded(mask: np.ndarray, diagonal: bool) -> np.ndarray:
    labels = np.zeros(mask.shape, int)
    for seed in zip(*np.nonzero(mask), strict=True):
        if labels[seed]:
            continue
        label, waiting = labels.max() + 1, [seed]
        while waiting:
            i, j = waiting.pop()
            if 0 <= i < mask.shape[0] and 0 <= j < mask.shape[1] and mask[i, j] and not labels[i, j]:
                labels[i, j] = label
                waiting += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
                if diagonal:
                    waiting += [(i + 1, j + 1), (i + 1, j - 1), (i - 1, j + 1), (i - 1, j - 1)]
    return labels


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_labels_in_the_order_of_first_pixels(
    rows: int, cols: int, seed: int, diagonal: bool, speckle: bool
) -> None:
    mask = blobs(rows, cols, seed) if not speckle else np.random.default_rng(seed).random((rows, cols)) > 0.45
    labels = label_particles(mask, diagonal=diagonal)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, flooded(mask, diagonal))


def test_small_particles_are_dropped_and_the_rest_renumbered() -> None:
    mask = np.zeros((6, 9), bool)
    mask[0, 0] = True
    mask[2:5, 1:4] = True
    mask[1:3, 6:8] = True
    labels = label_particles(mask, min_pixels=4)
    assert labels[0, 0] == 0
    assert np.bincount(labels.ravel())[1:].tolist() == [4, 9]


def test_checkerboard_has_as_many_particles_as_fields() -> None:
    board = np.indices((7, 9)).sum(axis=0) % 2 == 0
    assert label_particles(board, diagonal=False).max() == 32
    assert label_particles(board, diagonal=True).max() == 1


def distance_by_scipy(labels: np.ndarray, frame_is_rim: bool) -> np.ndarray:
    padded = np.pad(labels, 1, constant_values=0 if frame_is_rim else -1)
    out = np.full(labels.shape, np.nan)
    for label in np.unique(labels[labels > 0]):
        same = (padded == label) | (padded == -1)
        if same.all():
            out[labels == label] = np.inf
            continue
        # Only real pixels are a rim: beyond the image everything goes on as the particle itself.
        far = np.pad(same, 100, constant_values=not frame_is_rim)
        distance = ndimage.distance_transform_edt(far)[101:-101, 101:-101]
        out[labels == label] = distance[labels == label] - 0.5
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 10**6), st.integers(1, 4), st.booleans())
def test_distance_to_the_rim_is_exact(rows: int, cols: int, seed: int, kinds: int, frame: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(blobs(rows, cols, seed, 0.48), 1, 0)
    # Touching particles: each has its own rim.
    for kind in range(2, kinds + 1):
        row, col = rng.integers(rows), rng.integers(cols)
        labels[row : row + 8, col : col + 8] = kind
    assert edge_distance(labels, frame_is_rim=frame) == pytest.approx(
        distance_by_scipy(labels, frame), nan_ok=True
    )


def test_distance_in_a_disc() -> None:
    y, x = np.mgrid[:101, :101] - 50.0
    radius = np.hypot(y, x)
    distance = edge_distance(radius <= 40, pixel_size=30.0)
    assert np.isnan(distance[0, 0])
    # The nearest pixel outside is one row off the axis.
    assert distance[50, 50] == pytest.approx(30 * (np.hypot(40, 1) - 0.5))
    inside = radius <= 39
    # The disc is made of squares: up to a pixel off.
    assert np.abs(distance[inside] - 30 * (40 - radius[inside])).max() < 30
    assert relative_depth(radius <= 40)[50, 50] == 1.0


def test_histogram_peak_and_width_of_known_distributions() -> None:
    rng = np.random.default_rng(0)
    normal = 8344.2 + 0.3 * rng.standard_normal((200, 200))
    normal[:3] = np.nan
    histogram = map_histogram(normal)
    assert histogram.peak == pytest.approx(8344.2, abs=0.04)
    assert histogram.fwhm == pytest.approx(2.3548 * 0.3, rel=0.05)
    assert histogram.spread == pytest.approx(0.3, rel=0.03)
    assert (histogram.n_values, histogram.n_missing) == (197 * 200, 600)
    assert histogram.counts.sum() == histogram.n_values
    # The peak is the mode, neither mean nor median.
    two = np.concatenate([0.2 + 0.02 * rng.standard_normal(30_000), 0.8 + 0.2 * rng.standard_normal(30_000)])
    assert map_histogram(two).peak == pytest.approx(0.2, abs=0.01)
    # Far outliers neither move nor widen it.
    wild = np.concatenate([normal[3:].ravel(), [0.0, 1e6]])
    assert map_histogram(wild).peak == pytest.approx(histogram.peak, abs=0.01)
    assert map_histogram(wild).fwhm == pytest.approx(histogram.fwhm, rel=0.03)


def test_histogram_of_limits_masks_and_constants() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, np.inf]])
    histogram = map_histogram(values, bins=2, limits=(1.0, 3.0), mask=values < 4)
    assert histogram.counts.tolist() == [1, 2]
    constant = map_histogram(np.full((4, 4), 0.7))
    assert (constant.peak, constant.fwhm, constant.spread) == (pytest.approx(0.7), 0.0, 0.0)
    assert map_histogram([5.0]).peak == 5.0
    for bad in ({"values": [np.nan]}, {"values": values, "limits": (3.0, 1.0)}, {"values": values, "bins": 0},
                {"values": values, "mask": [True]}):  # fmt: skip
        with pytest.raises(EdgeFittingError):
            map_histogram(**bad)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60))
def test_histogram_never_loses_a_value(values: list[float]) -> None:
    histogram = map_histogram(values)
    assert histogram.counts.sum() == len(values)
    assert min(values) - 1e-6 <= histogram.median <= max(values) + 1e-6
    assert np.isfinite([histogram.peak, histogram.fwhm]).all()


def test_recentred_map_follows_the_peak() -> None:
    rng = np.random.default_rng(1)
    energy = 8343.0 + 0.4 * rng.standard_normal((100, 100))
    energy[0, 0] = 8346.0
    energy[0, 1] = np.nan
    moved = recentre_map(energy + 2.3)
    assert moved.centre_ev == pytest.approx(recentre_map(energy).centre_ev + 2.3, abs=1e-6)
    assert moved.centre_ev == pytest.approx(8345.3, abs=0.08)
    assert moved.half_width_ev == 1.5
    assert moved.outside[0, 0]
    assert not moved.outside[0, 1]
    assert np.isnan(moved.shift_ev[0, 1])
    assert recentre_map(energy, centre_ev=8340.0).shift_ev[0, 0] == pytest.approx(6.0)
    with pytest.raises(EdgeFittingError):
        recentre_map(energy, half_width_ev=0.0)


def test_statistics_of_each_particle() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros((90, 90), int)
    labels[5:45, 5:45] = 3
    labels[50:85, 50:85] = 7
    labels[0, 89] = 9
    sigma = np.full(labels.shape, 0.05)
    values = np.where(labels == 3, 0.3, 0.7) + np.where(labels == 3, 0.0, 0.1) * rng.standard_normal(
        labels.shape
    )
    values = values + sigma * rng.standard_normal(labels.shape)
    values[5, 5] = 1e9
    values[6, 6] = values[0, 89] = np.nan
    table = particle_statistics(values, labels, sigma=sigma, pixel_size=30.0)
    assert table.label.tolist() == [3, 7, 9]
    assert table.n_pixels.tolist() == [1600, 1225, 1]
    assert table.n_values.tolist() == [1599, 1225, 0]
    assert table.median[:2] == pytest.approx([0.3, 0.7], abs=0.01)
    assert table.spread[:2] == pytest.approx([0.05, np.hypot(0.05, 0.1)], rel=0.08)
    assert table.intrinsic_spread[0] < 0.02
    assert table.intrinsic_spread[1] == pytest.approx(0.1, rel=0.1)
    assert (table.low < table.median)[:2].all()
    assert (table.median < table.high)[:2].all()
    assert (table.row[0], table.column[1]) == (24.5, 67.0)
    assert table.diameter[0] == pytest.approx(30 * np.sqrt(4 * 1600 / np.pi))
    assert np.isnan(table.median[2])
    assert len(particle_statistics(values, np.zeros_like(labels))) == 0


def test_profile_from_the_rim() -> None:
    y, x = np.mgrid[:81, :81] - 40.0
    particle = np.hypot(y, x) <= 35
    distance = edge_distance(particle)
    values = 0.2 + 0.01 * np.nan_to_num(distance)
    values += 0.02 * np.random.default_rng(3).standard_normal(values.shape)
    values[40, 40] = np.nan
    profile = radial_profile(values, distance, edges=np.arange(0, 36, 5.0))
    assert profile.n_values.sum() == particle.sum() - 1 - np.count_nonzero(distance > 35)
    assert profile.mean == pytest.approx(0.2 + 0.01 * profile.distance, abs=0.01)
    assert profile.median == pytest.approx(profile.mean, abs=0.01)
    first = values[(distance >= 0) & (distance < 5)]
    assert profile.mean[0] == pytest.approx(first.mean())
    assert profile.standard_error[0] == pytest.approx(first.std(ddof=1) / np.sqrt(first.size))
    core = radial_profile(values, relative_depth(particle), edges=[0.0, 0.5, 1.0], mask=x > 0)
    assert core.mean[1] > core.mean[0]
    empty = radial_profile(values, distance, edges=[100.0, 200.0])
    assert empty.n_values.tolist() == [0]
    assert np.isnan(empty.mean[0])


def three_phases(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    energy = np.linspace(-10, 15, 16)
    shapes = np.stack([0.5 + np.arctan((energy - e) / 2) / np.pi for e in (0.0, 2.0, 5.0)])
    truth = np.ones((30, 30), int)
    truth[:, 15:] = 2
    truth[20:, :20] = 3
    jump = rng.uniform(0.3, 1.0, truth.shape)
    offset = rng.uniform(0, 0.5, truth.shape)
    stack = offset + jump * shapes[truth - 1].transpose(2, 0, 1) + noise * rng.standard_normal((16, 30, 30))
    return truth, jump, stack.astype(np.float32)


@pytest.mark.parametrize("know_jump", [True, False])
def test_like_spectra_are_found_whatever_their_thickness(know_jump: bool) -> None:
    truth, jump, stack = three_phases(0.01)
    stack[3, 0, 0] = np.nan
    mask = np.ones(truth.shape, bool)
    mask[-1] = False
    clusters = cluster_spectra(stack, 3, edge_jump=jump if know_jump else None, mask=mask)
    assert clusters.labels[0, 0] == 0
    assert (clusters.labels[-1] == 0).all()
    assert (np.diff(clusters.n_pixels) <= 0).all()
    assert clusters.n_pixels.sum() == np.count_nonzero(clusters.labels) == 29 * 30 - 1
    assert (clusters.rms > 0).all()
    used = clusters.labels > 0
    for label in (1, 2, 3):
        phases = np.bincount(truth[used & (clusters.labels == label)], minlength=4)
        assert phases.max() > 0.98 * phases.sum()
    again = cluster_spectra(stack, 3, edge_jump=jump if know_jump else None, mask=mask)
    assert np.array_equal(again.labels, clusters.labels)


def test_maps_of_different_units_count_alike() -> None:
    rng = np.random.default_rng(5)
    soc = np.where(np.arange(50) < 20, 0.2, 0.8) + 0.02 * rng.standard_normal((50, 50))
    jump = 1000 * np.where(np.arange(50)[:, None] < 10, 1.0, 3.0) + 50 * rng.standard_normal((50, 50))
    clusters = cluster_maps([soc, jump], 4)
    assert sorted(clusters.n_pixels.tolist()) == [200, 300, 800, 1200]
    assert clusters.centres[0] == pytest.approx([0.8, 3000.0], rel=0.02)


def test_clusters_at_the_limits_of_what_can_be_grouped() -> None:
    one_map = np.arange(6.0).reshape(1, 2, 3)
    one = cluster_maps(one_map, 1)
    assert (one.n_pixels.tolist(), one.centres.tolist()) == ([6], [[2.5]])
    assert one.rms == pytest.approx([1.0])  # in units of the map's own spread
    each = cluster_maps(one_map, 6)
    assert each.n_pixels.tolist() == [1] * 6
    assert each.rms == pytest.approx(np.zeros(6), abs=1e-6)
    # Twenty narrow groups far apart, one of them of a single pixel among a hundred thousand.
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 19, (300, 350))
    truth[150, 200] = 19
    many = cluster_maps([truth + 1e-3 * rng.standard_normal(truth.shape)], 20)
    assert len(many) <= 20
    assert many.n_pixels.sum() == truth.size


def test_mean_spectra_of_groups_leave_missing_values_out() -> None:
    rng = np.random.default_rng(6)
    stack = rng.standard_normal((4, 10, 10))
    labels = rng.integers(0, 3, (10, 10))
    stack[1, :3] = np.nan
    spectra = group_spectra(stack, labels)
    assert spectra.label.tolist() == [1, 2]
    for k, label in enumerate((1, 2)):
        inside = stack[:, labels == label]
        count = np.isfinite(inside).sum(axis=1)
        assert spectra.mean[k] == pytest.approx(np.nanmean(inside, axis=1))
        assert spectra.n_values[k].tolist() == count.tolist()
        assert spectra.standard_error[k] == pytest.approx(np.nanstd(inside, axis=1, ddof=1) / np.sqrt(count))


def test_bad_input_is_named() -> None:
    frame = np.zeros((3, 3))
    for call, message in (
        (lambda: label_particles(np.ones(3)), "rows, cols"),
        (lambda: particle_statistics(frame, np.ones((2, 2), int)), "labels must be"),
        (lambda: particle_statistics(frame, frame), "whole numbers"),
        (lambda: particle_statistics(frame, np.ones((3, 3), int), sigma=np.ones(3)), "sigma"),
        (lambda: edge_distance(np.array([[-1, 0]])), "whole numbers"),
        (lambda: radial_profile(frame, np.ones(3), edges=[0, 1]), "distance"),
        (lambda: radial_profile(frame, frame, edges=[1, 0]), "increasing"),
        (lambda: cluster_spectra(frame, 2), "n, rows, cols"),
        (lambda: cluster_maps([frame], 2), "only 1 different pixels"),
        (lambda: cluster_maps([frame * np.nan], 2), "no pixel"),
        (lambda: cluster_maps([frame], 0), "n_clusters"),
        (lambda: cluster_maps([frame], 10), "fewer than"),
        (lambda: cluster_spectra([frame], 1, edge_jump=np.ones(3)), "edge_jump"),
        (lambda: group_spectra([frame], np.ones((2, 2), int)), "labels"),
    ):
        with pytest.raises(EdgeFittingError, match=message):
            call()
