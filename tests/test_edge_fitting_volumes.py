"""Particles, cracks, zones and damage of volumes, against phantoms whose truth is known."""

import numpy as np
import pytest

from edge_fitting import (
    CrackKind,
    Damage,
    EdgeFittingError,
    damage_classes,
    damage_profile,
    segment_volume_cracks,
    split_volume,
    volume_zones,
)
from nimco.testing import PhantomBall, PhantomCrack, VolumePhantom

VOXEL_NM = 50.0
# The first two touch; of four voxels thickness a crack is wide, of one it is blurred to less than half its depth.
BALLS = (
    PhantomBall((24, 22, 21), 18, (PhantomCrack(4.0, (0, 0.2, 1), 2, 0.6),)),
    PhantomBall((24, 22, 54), 17, (PhantomCrack(1.0, (0, 1, 0.3), -2, 0.8),)),
    PhantomBall((26, 56, 28), 13),
    PhantomBall((24, 58, 62), 15, (PhantomCrack(5.0, (1, 0, 0), 0, 0.7),)),
)


@pytest.fixture(scope="module")
def phantom():
    return VolumePhantom.of((48, 76, 80), BALLS, at_cracks=0.1, noise_width=1.0, shell_depth=3.0)


@pytest.fixture(scope="module")
def particles(phantom):
    return split_volume(phantom.density, voxel_size=VOXEL_NM, min_diameter=400.0, widest_crack=400.0)


@pytest.fixture(scope="module")
def cracks(particles):
    return segment_volume_cracks(particles)


@pytest.fixture(scope="module")
def rows(phantom, particles):
    """Row of each ball in the tables."""
    return [np.bincount(particles.labels[phantom.labels == k]).argmax() - 1 for k in (1, 2, 3, 4)]


def test_touching_particles_are_told_apart_and_keep_their_cracks(phantom, particles, rows):
    assert particles.labels.max() == 4
    assert sorted(rows) == [0, 1, 2, 3]
    for ball, row in enumerate(rows, start=1):
        truth, found = phantom.labels == ball, particles.labels == row + 1
        assert np.count_nonzero(truth & found) > 0.93 * np.count_nonzero(truth | found), ball
    # Numbered by where they begin, so that a table is the same again.
    begins = [tuple(side.start for side in box) for _, box in particles.boxes()]
    assert begins == sorted(begins)


def test_crack_shares_are_the_truth_within_their_uncertainty(phantom, cracks, rows):
    found, sigma = cracks.crack_share[rows], cracks.crack_share_sigma[rows]
    assert (np.abs(found - phantom.crack_share) < np.maximum(2 * sigma, 0.002)).all(), (
        found,
        sigma,
        phantom.crack_share,
    )
    # Not by errors so wide that all fits.
    assert (sigma <= 0.25 * found).all()
    assert np.abs(found - phantom.crack_share).max() < 0.03
    assert found[2] < 0.001
    # What stays above the threshold is found as fine, what is below as wide.
    assert cracks.fine_share[rows[1]] > 10 * cracks.wide_share[rows[1]]
    for ball in (0, 3):
        assert cracks.wide_share[rows[ball]] > 10 * cracks.fine_share[rows[ball]]
    marked = cracks.kind > 0
    near = phantom.cracks > 0.3
    assert np.count_nonzero(marked & near) > 0.75 * np.count_nonzero(near)
    assert set(np.unique(cracks.kind)) == {CrackKind.NONE, CrackKind.WIDE, CrackKind.FINE}


def test_soc_at_cracks_at_the_surface_and_by_depth_is_the_truth(phantom, particles, cracks, rows):
    zones = volume_zones(
        phantom.soc, particles, cracks, sigma=phantom.soc_sigma, surface_width=150.0,
        crack_width=75.0, depth_step=100.0,
    )  # fmt: skip
    # Core-shell: 0.6 within 3 voxels (150 nm) of the surface, else 0.4; 0.1 more at cracks.
    assert np.abs(zones.bulk - 0.4).max() < 0.02
    assert np.abs(zones.surface_minus_bulk - 0.2).max() < 0.03
    assert (zones.surface_minus_bulk > 20 * zones.surface_minus_bulk_sigma).all()
    at = np.array(rows)[[0, 1, 3]]
    assert np.abs(zones.crack_minus_bulk[at] - 0.1).max() < 0.04
    assert (zones.crack_minus_bulk[at] > 8 * zones.crack_minus_bulk_sigma[at]).all()
    assert np.isnan(zones.crack_minus_bulk[rows[2]])
    assert zones.n_values.sum() == np.count_nonzero(particles.solid & np.isfinite(phantom.soc))
    assert zones.depth_edges[1] == 100.0
    assert np.abs(zones.pooled[0] - 0.2) < 0.02
    assert np.abs(zones.pooled[3:6]).max() < 0.03
    own = zones.profile[rows[2]]
    assert own[0] == pytest.approx(0.6, abs=0.01)
    assert np.abs(own[2:6] - 0.4).max() < 4 * zones.profile_sigma[rows[2]][2:6].max()


def test_errors_are_what_means_scatter_by_where_neighbours_are_alike():
    from scipy import ndimage

    balls = [PhantomBall((12, 12, 12 + 22 * k), 10) for k in range(3)]
    particles = split_volume(VolumePhantom.of((24, 24, 68), balls).density)
    random = np.random.default_rng(4)
    held = []
    for _ in range(8):
        noise = ndimage.gaussian_filter(random.standard_normal(particles.labels.shape), 1.2)
        zones = volume_zones(
            0.5 + 0.05 * noise / noise.std(), particles, sigma=np.full(noise.shape, 0.05),
            surface_width=2.0, depth_step=2.0,
        )  # fmt: skip
        held.append(
            (
                (zones.mean - 0.5) / zones.mean_sigma,
                zones.surface_minus_bulk / zones.surface_minus_bulk_sigma,
                ((zones.profile - 0.5) / zones.profile_sigma)[:, 1],
            )
        )
    pulls = np.sqrt(np.mean(np.square(held), axis=(0, 2)))
    assert (pulls > 0.65).all(), pulls
    assert (pulls < 1.4).all(), pulls


def test_what_is_not_known_is_neither_particle_nor_crack(phantom):
    field = np.ones(phantom.density.shape, dtype=bool)
    field[:, :, 68:] = False
    density = np.where(field, phantom.density, np.nan)
    by_nan, by_mask = split_volume(density), split_volume(phantom.density, mask=field)
    for found in (by_nan, by_mask):
        assert not found.labels[~field].any()
        assert found.labels.max() == 4
        shares = segment_volume_cracks(found)
        assert not shares.kind[~field].any()


def test_noise_is_smoothed_as_far_as_it_needs():
    balls = (PhantomBall((20, 20, 16), 11), PhantomBall((20, 20, 36), 11))
    strong = VolumePhantom.of((40, 40, 54), balls, noise=0.35)
    found = split_volume(strong.density)
    assert found.labels.max() == 2
    assert found.levels.smoothing_px > 0
    assert segment_volume_cracks(found).crack_share.max() < 0.01
    with pytest.raises(EdgeFittingError, match=r"not told apart.*noise"):
        split_volume(np.random.default_rng(0).standard_normal((20, 20, 20)))


def test_damage_is_classed_by_stated_limits_and_followed_through_the_electrode():
    share = np.array([0.0, 0.019, 0.03, 0.12])
    sigma = np.array([0.001, 0.004, 0.002, 0.01])
    classes, sure = damage_classes(share, sigma)
    assert classes.tolist() == [Damage.LEAST, Damage.LEAST, Damage.MILD, Damage.SEVERE]
    assert sure.tolist() == [True, False, True, True]
    assert damage_classes(share, sigma, (0.005, 0.02))[0].tolist() == [0, 1, 2, 2]

    random = np.random.default_rng(0)
    depth_um = random.uniform(0, 40, 200)
    share = np.clip(0.02 + 0.002 * depth_um + 0.02 * random.standard_normal(200), 0, None)
    classes, _ = damage_classes(share, np.full(200, 0.005))
    found = damage_profile(depth_um, share, classes, np.ones(200), edges=np.linspace(0, 40, 5))
    assert found.slope == pytest.approx(0.002, abs=3 * found.slope_sigma)
    assert found.slope_sigma < 0.0002
    assert (np.diff(found.crack_share) > 0).all()
    assert found.n_particles.sum() == 200
    assert (found.n_least + found.n_mild + found.n_severe == found.n_particles).all()
    assert found.n_severe[-1] > found.n_severe[0]
    alone = damage_profile([1.0], [0.1], [2], [1.0], edges=[0, 2, 4])
    assert np.isnan(alone.slope)
    assert np.isnan(alone.crack_share_sigma).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density": np.zeros((9, 9))}, r"\(planes, rows, columns\)"),
        ({"density": np.zeros((9, 9, 9))}, "same value everywhere"),
        ({"density": np.full((9, 9, 9), np.nan)}, "no finite value"),
        ({"density": np.zeros((9, 9, 9), complex)}, "real numbers"),
        ({"mask": np.ones((2, 9, 9))}, "mask"),
        ({"threshold": 99.0}, "outside of the density"),
        ({"neck": 1.0}, "neck must be"),
        ({"voxel_size": 0.0}, "voxel_size above 0"),
        ({"min_diameter": 500.0}, "no particle of 500"),
    ],
)
def test_a_volume_that_cannot_be_analysed_is_one_sentence(change, message):
    block = np.zeros((20, 20, 20))
    block[5:15, 5:15, 5:15] = 1.0
    arguments = {"density": block, **change}
    with pytest.raises(EdgeFittingError, match=message):
        split_volume(arguments.pop("density"), **arguments)


def test_values_that_do_not_fit_are_one_sentence(phantom, particles):
    for values, options, message in (
        (phantom.soc[1:], {}, "shape"),
        (phantom.soc, {"sigma": phantom.soc_sigma[1:]}, "shape"),
        (np.full(phantom.soc.shape, np.nan), {}, "no voxel of a particle"),
        (phantom.soc, {"depth_step": 0.0}, "must be positive"),
    ):
        with pytest.raises(EdgeFittingError, match=message):
            volume_zones(values, particles, **options)
    with pytest.raises(EdgeFittingError, match="least_loss"):
        segment_volume_cracks(particles, least_loss=1.0)
    with pytest.raises(EdgeFittingError, match="increasing"):
        damage_classes([0.1], [0.0], (0.08, 0.02))
