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
    heterogeneity,
    label_particles,
    map_histogram,
    particle_statistics,
    particle_zones,
    radial_profile,
    recentre_map,
    relative_depth,
    segment_cracks,
    split_particles,
)
from sim_devices import SampleSettings, SimBeamline, TwinSettings


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
        (lambda: split_particles(np.ones(3)), "rows, cols"),
        (lambda: split_particles(frame), "leaves no pixel"),
        (lambda: split_particles(frame + 1, min_diameter=5, max_diameter=3), "min_diameter"),
        (lambda: split_particles(frame + 1, neck=1.5), "neck"),
        (lambda: segment_cracks(frame, np.ones((2, 2), int)), "labels must be"),
        (lambda: segment_cracks(frame, np.ones((3, 3), int), least_loss=2.0), "least_loss"),
        (lambda: particle_zones(frame, np.ones((3, 3), int), sigma=np.ones(3)), "sigma"),
        (lambda: particle_zones(frame, np.ones((3, 3), int), rim_width=0.0), "positive"),
        (lambda: heterogeneity(particle_statistics(frame * np.nan, np.ones((3, 3), int))), "no particle"),
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


def electrode(seed: int, size: int, **sample: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edge jump with noise, and the truth: particles and the share that cracks take away."""
    beamline = SimBeamline((size, size), seed=seed, settings=TwinSettings(sample=SampleSettings(**sample)))
    truth = beamline.truth("Ni_K")
    jump = truth.jump + 0.02 * np.random.default_rng(seed).standard_normal(truth.jump.shape)
    return jump, np.where(truth.mask, truth.particle, 0), truth.crack


def overlap(labels: np.ndarray, truth: np.ndarray) -> list[float]:
    """Return the best intersection over union for each true particle of some size."""
    best = []
    for label in np.unique(truth[truth > 0]):
        own = truth == label
        if own.sum() < 100:
            continue
        found, counts = np.unique(labels[own], return_counts=True)
        shares = [n / (own.sum() + (labels == k).sum() - n) for k, n in zip(found, counts, strict=True) if k]
        best.append(max(shares, default=0.0))
    return best


@pytest.mark.parametrize("coverage", [0.55, 0.8])
def test_touching_particles_come_apart_as_the_truth_has_them(coverage: float) -> None:
    shares, connected = [], []
    for seed in (21, 22, 23):
        jump, truth, _ = electrode(seed, 256, coverage=coverage, cracks=3.0)
        mask = ndimage.binary_opening(jump > 0.06)
        labels = split_particles(mask, min_diameter=9)
        assert labels.dtype == np.int32
        assert not labels[~ndimage.binary_dilation(mask, iterations=2)].any()
        first = [np.flatnonzero(labels.ravel() == k)[0] for k in range(1, labels.max() + 1)]
        assert first == sorted(first)
        shares += overlap(labels, truth)
        connected += overlap(label_particles(mask), truth)
        assert labels.max() <= 1.3 * len(overlap(labels, truth)) + 1
    assert np.mean(np.array(shares) > 0.7) > 0.88
    assert np.mean(shares) > np.mean(connected) + 0.03


def discs(*parts: tuple[float, float, float], shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.any([np.hypot(rows - y, cols - x) < r for y, x, r in parts], axis=0)


def test_what_parts_particles_is_the_neck_and_not_the_size() -> None:
    for scale in (0.3, 1.0, 2.5):
        shape = (int(120 * scale), int(160 * scale))
        two = discs((60 * scale, 50 * scale, 30 * scale), (60 * scale, 105 * scale, 27 * scale), shape=shape)
        assert split_particles(two).max() == 2
        rows, cols = np.mgrid[: shape[0], : shape[1]]
        ellipse = ((rows - 60 * scale) / (22 * scale)) ** 2 + ((cols - 80 * scale) / (45 * scale)) ** 2 < 1
        assert split_particles(ellipse).max() == 1


def test_cracks_and_missing_pixels_do_not_part_a_particle() -> None:
    mask = discs((60, 80, 40))
    whole = mask.copy()
    mask[59:62, 70:] = False  # a crack that runs in from the rim
    mask[40:43, 60:63] = False
    labels = split_particles(mask)
    assert labels.max() == 1
    assert (labels[40:43, 60:63] == 1).all()
    assert (labels > 0)[mask].all()
    assert np.count_nonzero(labels) >= whole.sum() - 0.03 * whole.sum()


def test_limits_of_size() -> None:
    three = discs((40, 30, 20), (40, 80, 10), (100, 140, 4), (40, 52, 4))
    assert split_particles(three).max() == 3  # the small one counts to what it hangs on
    sizes = particle_statistics(np.ones(three.shape), split_particles(three, min_diameter=12)).diameter
    assert len(sizes) == 2
    assert split_particles(three, max_diameter=30, min_diameter=12).max() == 1
    assert split_particles(three, max_diameter=30 * 65.0, min_diameter=12 * 65.0, pixel_size=65.0).max() == 1
    assert split_particles(np.ones((9, 9), bool)).tolist() == np.ones((9, 9), int).tolist()


def test_cracks_of_the_twin_are_found_and_clean_particles_have_none() -> None:
    for crack_nm in (80.0, 150.0):
        found = hits = true = seen = 0
        for seed in (31, 32):
            jump, _, loss = electrode(seed, 256, cracks=3.0, crack_nm=crack_nm)
            labels = split_particles(ndimage.binary_opening(jump > 0.06), min_diameter=9)
            inside = ndimage.distance_transform_edt(labels > 0) > 3
            marked, crack = segment_cracks(jump, labels) & inside, (loss > 0.25) & inside
            near = ndimage.binary_dilation(crack, np.ones((3, 3)))
            found, hits = found + marked.sum(), hits + (marked & near).sum()
            true += crack.sum()
            seen += (crack & ndimage.binary_dilation(marked, np.ones((3, 3)))).sum()
        assert hits > 0.75 * found
        assert seen > 0.85 * true
    jump, _, _ = electrode(33, 256, cracks=0.0)
    labels = split_particles(ndimage.binary_opening(jump > 0.06), min_diameter=9)
    assert segment_cracks(jump, labels).sum() < 0.01 * np.count_nonzero(labels)


def test_wide_and_fine_cracks_of_a_sphere() -> None:
    rows, cols = np.mgrid[:161, :161] - 80.0
    sphere = np.sqrt(np.clip(1 - np.hypot(rows, cols) ** 2 / 70**2, 0, None))
    labels = (sphere > 0.1).astype(int)
    noise = 0.02 * np.random.default_rng(0).standard_normal(sphere.shape)
    assert segment_cracks(sphere + noise, labels).sum() < 20
    for width, loss in ((2, 0.5), (10, 0.4)):
        crack = (np.abs(rows) < width / 2) & (np.abs(cols) < 40)
        marked = segment_cracks(np.where(crack, 1 - loss, 1.0) * sphere + noise, labels)
        assert marked[crack].mean() > 0.8
        assert (marked & ~ndimage.binary_dilation(crack, np.ones((5, 5)))).sum() < 40
    hole = np.where(np.hypot(rows, cols) < 12, np.nan, sphere + noise)
    assert not segment_cracks(hole, labels)[np.isnan(hole)].any()  # what is not known is no crack


def test_zones_and_spreads_have_errors_that_hold() -> None:
    random = np.random.default_rng(5)
    centres = [(r, c) for r in range(30, 240, 60) for c in range(30, 240, 60)]
    rows, cols = np.mgrid[:240, :240]
    labels, cracks = np.zeros(rows.shape, int), np.zeros(rows.shape, bool)
    for k, (r, c) in enumerate(centres, start=1):
        depth = np.hypot(rows - r, cols - c)
        labels[depth < 27] = k
        cracks |= (np.abs(rows - r) < 1.5) & (cols > c) & (depth < 25)
    distance = np.nan_to_num(edge_distance(labels))
    rim = distance < 4
    along = (ndimage.distance_transform_edt(~cracks) <= 2.5) & ~rim
    pulls = {"rim": [], "crack": [], "mean": []}
    spreads = []
    for _ in range(8):
        grain = ndimage.gaussian_filter(random.standard_normal(labels.shape), 1.5)
        base = random.normal(0.5, 0.15, len(centres) + 1)
        sigma = np.where(rim, 0.12, 0.05) * random.uniform(0.7, 1.3, labels.shape)
        truth = base[labels] + 0.05 * grain / grain.std() + np.where(rim, 0.05, 0) - np.where(along, 0.04, 0)
        values = np.where(labels > 0, truth + sigma * random.standard_normal(labels.shape), np.nan)
        zones = particle_zones(values, labels, cracks=cracks, sigma=sigma)
        pulls["rim"].append((zones.rim_minus_bulk - 0.05) / zones.rim_minus_bulk_sigma)
        pulls["crack"].append((zones.crack_minus_bulk + 0.04) / zones.crack_minus_bulk_sigma)
        table = particle_statistics(np.where(rim | along, np.nan, values), labels, sigma=sigma)
        pulls["mean"].append((table.mean - base[1:]) / table.mean_sigma)
        spread = heterogeneity(table)
        spreads.append(
            (
                spread.within,
                spread.within_sigma,
                (spread.between - base[1:].std(ddof=1)) / spread.between_sigma,
            )
        )
        naive = np.nanmedian(sigma[labels > 0]) / np.sqrt(zones.n_crack)
        assert (zones.crack_minus_bulk_sigma > 1.2 * naive).all()  # neighbours are alike
    for name, values in pulls.items():
        assert 0.7 < np.std(values) < 1.35, name
        assert abs(np.mean(values)) < 0.35, name
    within, stated, between = np.array(spreads).T
    assert within.mean() == pytest.approx(0.05, abs=0.004)
    assert np.std(within) < 2.5 * stated.mean()
    assert np.abs(between).max() < 1.0
    assert zones.n_crack.tolist() == [np.count_nonzero(along & (labels == k)) for k in zones.label]


def test_noise_alone_is_no_heterogeneity() -> None:
    random = np.random.default_rng(6)
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), int))
    sigma = random.uniform(0.02, 0.3, labels.shape)
    table = particle_statistics(0.4 + sigma * random.standard_normal(labels.shape), labels, sigma=sigma)
    spread = heterogeneity(table)
    assert spread.within < 3 * spread.within_sigma
    assert spread.between < 3 * spread.between_sigma
    assert spread.mean == pytest.approx(0.4, abs=4 * spread.mean_sigma)
    assert table.at_border.sum() == 12
