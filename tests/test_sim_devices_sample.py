"""The electrode: geometry against Monte Carlo, knobs against their effect."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sim_devices import SampleSettings
from sim_devices.twin._absorption import NMC622, OxideAbsorption
from sim_devices.twin._sample import _nearest_seed, electrode, uniform

PLAIN = SampleSettings(
    grain_roughness=0.0, cracks=0.0, particle_spread=0.0, grain_spread=0.0, shell_excess=0.0, density=1.0
)


def grow(settings, *, shape=(200, 200), seed=4, blur_nm=0.0, pixel_size_nm=150.0):
    rng = np.random.default_rng(seed)
    return electrode(shape, pixel_size_nm, blur_nm, settings, OxideAbsorption(1.3e-4), rng)


def thickness(maps):
    return maps.areal.sum(axis=0)


def test_one_seed_gives_one_electrode():
    a, b, c = grow(SampleSettings()), grow(SampleSettings()), grow(SampleSettings(), seed=5)
    np.testing.assert_array_equal(a.areal, b.areal)
    np.testing.assert_array_equal(a.soc, b.soc)
    assert not np.array_equal(a.areal, c.areal)


def test_particles_cover_what_is_asked_and_are_no_thicker_than_they_are_wide():
    maps = grow(replace(PLAIN, coverage=0.4, diameter_um=(5.0, 6.0)))
    covered = (thickness(maps) > 0).mean()
    assert 0.25 < covered < 0.5
    assert 3.5 < np.percentile(thickness(maps)[thickness(maps) > 0], 99) < 2 * 6.2


def test_plain_electrode_is_uniform_nmc622_where_there_is_any():
    maps = grow(PLAIN)
    there = thickness(maps) > 0
    assert np.ptp(maps.soc[there]) < 1e-6
    assert np.all(maps.soc_variance < 1e-6)
    fractions = maps.areal[:, there] / thickness(maps)[there]
    np.testing.assert_allclose(
        fractions, np.broadcast_to(np.array(NMC622)[:, None], fractions.shape), rtol=1e-5
    )


def test_radial_profile_has_the_mean_and_spread_of_the_chords():
    """One sphere, dented a little; the mean over its volume stays, along a ray through its middle it is known."""
    excess = 0.4
    settings = replace(PLAIN, shell_excess=excess, diameter_um=(24.0, 24.0), coverage=0.05)
    for seed in range(50):  # until the sphere lies whole in the field
        maps = grow(settings, shape=(400, 400), pixel_size_nm=150.0, seed=seed)
        t = thickness(maps)
        if t[[0, -1]].max() == 0 and t[:, [0, -1]].max() == 0:
            break
    else:
        raise AssertionError("no sphere lies whole in the field")
    weight = t / t.sum()
    assert (weight * maps.soc).sum() == pytest.approx(0.5, abs=0.01)
    y, x = np.unravel_index(np.argmax(t), t.shape)
    # Monte Carlo along the diameter: positions uniform in [-R, R], profile 0.5 + excess (r^2 - 0.6).
    r2 = np.random.default_rng(0).uniform(-1, 1, 400_000) ** 2
    profile = 0.5 + excess * (r2 - 0.6)
    assert maps.soc[y, x] == pytest.approx(profile.mean(), abs=3e-3)
    assert maps.soc_variance[y, x] == pytest.approx(profile.var(), abs=1e-3)


def test_rays_through_two_particles_carry_the_spread_between_them():
    settings = replace(PLAIN, particle_spread=0.25, coverage=0.9)
    maps = grow(settings, shape=(300, 300))
    assert maps.soc_variance.max() > 0.003
    assert np.median(maps.soc_variance[thickness(maps) > 1]) < 1e-4


@pytest.mark.parametrize(
    ("knob", "value", "measure"),
    [
        ("particle_spread", 0.2, lambda m: m.soc[thickness(m) > 1].std()),
        ("grain_spread", 0.1, lambda m: np.abs(np.diff(m.soc, axis=0))[thickness(m)[1:] > 2].mean()),
        ("grain_roughness", 0.1, lambda m: np.abs(np.diff(thickness(m), 2, axis=0)).mean()),
        ("cracks", 8.0, lambda m: -thickness(m).sum()),
        (
            "nickel_excess",
            0.3,
            lambda m: (m.areal[0] / np.maximum(thickness(m), 1e-3))[thickness(m) > 1].std(),
        ),
    ],
)
def test_each_knob_turns_what_it_names(knob, value, measure):
    off, on = (measure(grow(replace(PLAIN, **{knob: v}))) for v in (0.0, value))
    assert on > off + 1e-4


def test_blur_softens_edges_and_keeps_the_amount():
    sharp, soft = grow(PLAIN), grow(PLAIN, blur_nm=600.0)
    steep = lambda m: np.abs(np.diff(thickness(m), axis=0)).max()  # noqa: E731
    assert steep(soft) < 0.8 * steep(sharp)
    assert thickness(soft).sum() == pytest.approx(thickness(sharp).sum(), rel=0.01)


def test_grains_are_the_voronoi_cells_of_their_seeds():
    rng = np.random.default_rng(3)
    seeds = rng.random((9, 11, 2))
    index = np.empty((40, 50), dtype=np.int32)
    _nearest_seed(seeds, 4.6, index)
    places = (np.indices((9, 11)).transpose(1, 2, 0) + seeds).reshape(-1, 2) * 4.6
    pixels = np.indices((40, 50)).reshape(2, -1).T + 0.5
    _, expected = cKDTree(places).query(pixels)
    np.testing.assert_array_equal(index.ravel(), expected)


def test_uniform_has_no_structure():
    maps = uniform((10, 12), OxideAbsorption(0.0), (9.0, 3.0, 3.0), 0.25)
    assert maps.areal.shape == (3, 10, 12)
    assert np.ptp(maps.areal[0]) == 0
    assert np.all(maps.soc == np.float32(0.25))
