"""Volumes from sums: against energy-by-energy reconstruction, against noise, at any prefix, and with a wrong axis."""

import numpy as np
import pytest

from edge_fitting import (
    EdgeFittingError,
    FilteredBackProjection,
    InterleavedProjections,
    ProjectionSums,
    ReconstructionSettings,
    ReferenceSeries,
    SumFunctions,
    angle_weights,
    find_axis,
    fit_stack,
    reconstruct,
    reconstruct_depth,
    reconstruct_interleaved,
    voxel_sigma,
)

SIZE, N_ANGLES = 24, 40
ENERGIES_EV = np.r_[8250.0:8320.0:20.0, 8328.0:8364.0:2.0, 8380.0:8500.0:30.0]
ANGLES_DEG = np.arange(N_ANGLES) * 180.0 / N_ANGLES
AXIS_PX = 0.5 * (SIZE - 1) + 0.8
JUMP = 0.03
SIGMA = 2e-3


def spectrum(energy_ev, soc):
    """Normalised absorption that moves with the state of charge."""
    x = np.asarray(energy_ev) - 8345.0 - 2.5 * np.asarray(soc)
    return 0.5 + np.arctan(x / 2.0) / np.pi + 0.6 * np.exp(-0.5 * ((x - 4.0) / 3.0) ** 2)


@pytest.fixture(scope="module")
def references():
    fine = np.arange(8200.0, 8600.0, 0.5)
    states = np.linspace(0.0, 1.0, 9)
    return ReferenceSeries(fine, spectrum(fine, states[:, None]), states)


@pytest.fixture(scope="module")
def functions(references):
    return SumFunctions(references, ENERGIES_EV, np.ones(ENERGIES_EV.size))


@pytest.fixture(scope="module")
def sample():
    """Share of material and state of charge of every voxel: two balls of two states, one row of cylinders."""
    z, y, x = np.meshgrid(*(np.arange(n) - 0.5 * (n - 1) for n in (4, SIZE, SIZE)), indexing="ij")
    density = np.clip(6.5 - np.hypot(y + 1.0, x - 2.0), 0.0, 1.0)
    soc = np.where(x > 2.0, 0.7, 0.3) + 0.01 * z
    return density, soc


@pytest.fixture(scope="module")
def projections(sample):
    """Optical depth without noise, shape (energies, angles, rows, cols), by areas of voxels on the detector."""
    density, soc = sample
    middle = 0.5 * (SIZE - 1)
    y, x = np.meshgrid(np.arange(SIZE) - middle, np.arange(SIZE) - middle, indexing="ij")
    # Each voxel as 16 points.
    aside = (np.arange(4) + 0.5) / 4 - 0.5
    shadows = np.zeros((N_ANGLES, SIZE, SIZE * SIZE), np.float32)
    for shadow, angle in zip(shadows, np.radians(ANGLES_DEG), strict=True):
        for dy in aside:
            for dx in aside:
                t = np.round((x + dx) * np.cos(angle) - (y + dy) * np.sin(angle) + AXIS_PX).astype(int)
                np.add.at(shadow, (np.clip(t, 0, SIZE - 1).ravel(), np.arange(SIZE * SIZE)), 1.0 / 16.0)
    mu = np.stack([0.4 - 2e-4 * (e - 8345.0) + spectrum(e, soc) for e in ENERGIES_EV])
    voxels = (JUMP * density * mu).reshape(ENERGIES_EV.size, 4, -1)
    return np.einsum("acv,erv->earc", shadows, voxels, optimize=True).astype(np.float32)


def summed(functions, stack, energies=None, angles=None):
    sums = ProjectionSums(functions, tuple(ANGLES_DEG), stack.shape[2:])
    for k in range(ENERGIES_EV.size) if energies is None else energies:
        for a in range(N_ANGLES) if angles is None else angles:
            sums.push(a, k, float(ENERGIES_EV[k]), stack[k, a], 1.0)
    return sums


def noisy(projections, seed):
    rng = np.random.default_rng(seed)
    return (projections + SIGMA * rng.standard_normal(projections.shape)).astype(np.float32)


def bulk(sample):
    density, _ = sample
    solid = density[0] > 0.99
    from scipy.ndimage import binary_erosion

    return np.broadcast_to(binary_erosion(solid, iterations=1), density.shape)


def test_states_are_those_of_reconstructing_every_energy(functions, references, sample, projections):
    stack = noisy(projections, 1)
    found = reconstruct(summed(functions, stack).even(), functions)
    projector = FilteredBackProjection(ANGLES_DEG, SIZE, found.centre_px)
    volumes = np.stack(
        [[projector.slice(np.ascontiguousarray(one[:, None, row]))[0] for row in range(4)] for one in stack]
    )
    each = fit_stack(
        ENERGIES_EV, volumes.reshape(ENERGIES_EV.size, -1, SIZE), edge="Ni_K", references=references
    )
    inside = bulk(sample)
    soc, soc_each = found.values["soc"][inside], each.soc.reshape(4, SIZE, SIZE)[inside]
    assert np.isfinite(soc).all()
    assert np.abs(soc - soc_each).max() < 1e-4
    sigma, sigma_each = (
        found.values["soc_sigma"][inside], each.soc_sigma.reshape(4, SIZE, SIZE)[inside]
    )  # fmt: skip
    assert np.median(sigma) == pytest.approx(np.median(sigma_each), rel=0.1)
    # A clean-up that is linear, such as none, keeps that; one that is not is known for it.
    assert ReconstructionSettings().is_linear
    assert not ReconstructionSettings(clean_up=lambda sinogram: sinogram).is_linear


def test_the_volume_is_the_sample_and_sigma_the_scatter(functions, sample, projections):
    density, soc = sample
    inside = bulk(sample)
    exact = reconstruct(summed(functions, projections).even(), functions, ReconstructionSettings("ramp"))
    assert exact.centre_px == pytest.approx(AXIS_PX, abs=0.05)
    left = inside & (np.abs(soc - np.round(soc, 1)) < 0.02)
    assert np.median(exact.values["edge_jump"][inside]) == pytest.approx(JUMP, rel=0.02)
    assert np.abs(np.median((exact.values["soc"] - soc)[left])) < 0.01
    assert not np.isfinite(exact.values["soc"][density == 0.0]).any() or (density == 0.0).mean() > 0.5
    # Where two states meet within the resolution the spectra are of neither, which sigma says by being larger.
    apart = inside & (np.abs(np.arange(SIZE) - 0.5 * (SIZE - 1) - 2.0) > 3.0)
    border = inside & (np.abs(np.arange(SIZE) - 0.5 * (SIZE - 1) - 2.0) < 1.0)
    for name in ("hann", "ramp"):
        runs = [
            reconstruct(
                summed(functions, noisy(projections, seed)).even(), functions, ReconstructionSettings(name)
            )
            for seed in range(12)
        ]
        states = np.stack([run.values["soc"][apart] for run in runs])
        sigma = np.stack([run.values["soc_sigma"][apart] for run in runs])
        scatter = np.sqrt(np.nanmean(np.nanvar(states, axis=0, ddof=1)))
        assert np.sqrt(np.nanmean(sigma**2)) == pytest.approx(scatter, rel=0.1)
        assert np.nanmean([run.values["soc_sigma"][border] for run in runs]) > 1.05 * scatter
        noise = np.median([np.nanmedian(run.values["noise"][inside]) for run in runs])
        assert noise == pytest.approx(voxel_sigma(SIGMA, N_ANGLES, name), rel=0.15)


def test_any_part_of_the_data_gives_a_volume(functions, sample, projections):
    stack, inside = noisy(projections, 2), bulk(sample)
    whole = reconstruct(summed(functions, stack).even(), functions)
    order = np.random.default_rng(3).permutation(ENERGIES_EV.size)
    few = reconstruct(summed(functions, stack, order[:18]).even(), functions)
    half_an_energy = summed(functions, stack, order[:18])
    for a in range(N_ANGLES // 3):
        half_an_energy.push(a, order[18], float(ENERGIES_EV[order[18]]), stack[order[18], a], 1.0)
    completed = reconstruct(half_an_energy.even(), functions)
    assert completed.n_completed == N_ANGLES // 3
    some_angles = reconstruct(summed(functions, stack, angles=range(0, N_ANGLES, 2)).even(), functions)
    for part in (few, completed, some_angles):
        error = (part.values["soc"] - whole.values["soc"])[inside]
        sigma = part.values["soc_sigma"][inside]
        assert np.isfinite(error).all()
        assert np.sqrt(np.mean(error**2)) < 1.5 * np.median(sigma)
        assert np.median(sigma) > np.median(whole.values["soc_sigma"][inside])
    assert np.abs((completed.values["soc"] - few.values["soc"])[inside]).max() < np.median(sigma)
    # Too early: fewer energies than tell basis and noise apart, or two angles.
    assert reconstruct(summed(functions, stack, order[:5]).even(), functions) is None
    assert reconstruct(summed(functions, stack, angles=(0, 20)).even(), functions) is None
    assert ProjectionSums(functions, tuple(ANGLES_DEG), (4, SIZE)).even() is None


def test_a_projection_is_retracted_and_parts_are_merged(functions, projections):
    even = summed(functions, projections, angles=range(0, N_ANGLES, 2))
    odd = summed(functions, projections, angles=range(1, N_ANGLES, 2))
    even.merge(odd)
    whole = summed(functions, projections)
    np.testing.assert_allclose(even.sums, whole.sums, atol=1e-6)
    wrong = np.full((4, SIZE), 0.5, np.float32)
    whole.push(3, 2, float(ENERGIES_EV[2]), wrong, 1.0)
    whole.retract(3, 2, float(ENERGIES_EV[2]), wrong, 1.0)
    np.testing.assert_allclose(even.sums, whole.sums, atol=1e-5)
    np.testing.assert_allclose(even.grams, whole.grams, atol=1e-9)
    with pytest.raises(EdgeFittingError, match="does not fit"):
        whole.push(0, 0, 8300.0, np.zeros((5, SIZE), np.float32), 1.0)
    with pytest.raises(EdgeFittingError, match="another detector"):
        whole.merge(ProjectionSums(functions, tuple(ANGLES_DEG), (3, SIZE)))


def test_energies_with_angles_of_their_own(functions, sample, projections):
    interleaved = InterleavedProjections(functions, tuple(ANGLES_DEG.repeat(1)), (4, SIZE))
    with pytest.raises(EdgeFittingError, match="does not fit"):
        interleaved.push(0, 0, 8300.0, np.zeros((2, 2), np.float32), 1.0)
    # Every energy at every angle, as angles of its own: the same as sums of what they share.
    angles = tuple(np.tile(ANGLES_DEG, ENERGIES_EV.size))
    own = InterleavedProjections(functions, angles, (4, SIZE))
    for k, energy_ev in enumerate(ENERGIES_EV):
        for a in range(N_ANGLES):
            own.push(k * N_ANGLES + a, k, float(energy_ev), projections[k, a], 1.0)
    assert own.n_frames == len(angles)
    settings = ReconstructionSettings(centre_px=AXIS_PX, take_out_runout=False)
    found = reconstruct_interleaved(own, settings)
    shared = reconstruct(summed(functions, projections).even(), functions, settings)
    inside = bulk(sample)
    assert np.abs((found.values["soc"] - shared.values["soc"])[inside]).max() < 1e-3
    place = 7
    own.retract(place, 0, float(ENERGIES_EV[0]), projections[0, place], 1.0)
    assert own.n_frames == len(angles) - 1


def test_the_axis_is_found_and_what_leaves_the_field_is_told(projections):
    depth = projections[-1].copy()
    shifts = np.stack([np.zeros(N_ANGLES), 0.6 * np.sin(np.radians(6.0 * ANGLES_DEG))], axis=1)
    from scipy.ndimage import shift

    moved = np.stack([shift(one, by, order=3, mode="nearest") for one, by in zip(depth, shifts, strict=True)])
    axis = find_axis(moved, ANGLES_DEG)
    assert axis.centre_px == pytest.approx(AXIS_PX, abs=0.1)
    assert np.abs(axis.shift_px[:, 1] - shifts[:, 1]).max() < 0.2
    assert axis.is_inside.all()
    assert not axis.is_truncated
    gone = depth.copy()
    gone[5, :, : SIZE // 2] = 0.0
    assert list(np.flatnonzero(~find_axis(gone, ANGLES_DEG).is_inside)) == [5]
    volume, _, _ = reconstruct_depth(gone, ANGLES_DEG)
    complete, _, _ = reconstruct_depth(depth, ANGLES_DEG)
    assert np.sqrt(np.mean((volume - complete) ** 2)) < 0.1 * np.ptp(complete)
    cut = depth[:, :, 8:16]
    assert find_axis(cut, ANGLES_DEG).is_truncated
    nothing = find_axis(np.zeros((N_ANGLES, 4, SIZE), np.float32), ANGLES_DEG)
    assert (nothing.centre_px, np.isnan(nothing.sigma_px)) == (0.5 * (SIZE - 1), True)


def test_angles_count_for_the_gap_they_fill():
    assert angle_weights(ANGLES_DEG) == pytest.approx(np.full(N_ANGLES, np.pi / N_ANGLES))
    assert angle_weights([0.0, 90.0, 180.0, 270.0]).sum() == pytest.approx(np.pi)
    # A wedge is missing: its neighbours do not stand for it.
    assert angle_weights(np.arange(10.0)).max() < 0.05


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: FilteredBackProjection(ANGLES_DEG, SIZE, 40.0), "outside of the field"),
        (lambda _: FilteredBackProjection(ANGLES_DEG, SIZE, 12.0, filter_name="cosine"), "no filter"),
        (lambda _: voxel_sigma(1.0, 10, "cosine"), "no filter"),
        (lambda series: SumFunctions(series, ENERGIES_EV[:4], np.ones(4)), "4 energies"),
    ],
)
def test_what_makes_no_sense_is_refused(references, make, said):
    with pytest.raises(EdgeFittingError, match=said):
        make(references)
