"""Profiles: diffusion and core with shell, against solutions found in other ways and by Monte Carlo."""

import math
import time

import numpy as np
import pytest
from scipy.special import erfc

from edge_fitting import EdgeFittingError, edge_distance
from edge_fitting.profiles import (
    ParticleShape,
    Profile,
    compare_profiles,
    diffusion_profile,
    distance_profile,
    fit_core_shell,
    fit_diffusion,
)

D, SIZE_NM, SIGMA = 1e-17, 200.0, 0.03
SECTION = ParticleShape("sphere", SIZE_NM, "section", section_nm=80.0)
SHAPES = [
    ParticleShape("slab", SIZE_NM),
    ParticleShape("cylinder", SIZE_NM),
    ParticleShape("cylinder", SIZE_NM, "section", section_nm=80.0),
    ParticleShape("sphere", SIZE_NM),
    SECTION,
    ParticleShape("sphere", SIZE_NM, "projection"),
]


def elapsed_s(tau: float, size_nm: float = SIZE_NM) -> float:
    return tau * size_nm**2 * 1e-14 / D


def simulated(shape, tau, rng, n=20, surface=0.2, sigma=SIGMA):
    distance = np.linspace(0.02, 0.98, n) * shape.edge_nm
    time_s = elapsed_s(tau, shape.size_nm)
    true = diffusion_profile(
        distance, shape, diffusivity_cm2_s=D, elapsed_s=time_s, start=1.0, surface=surface
    )
    return Profile(distance, true + sigma * rng.standard_normal(n), sigma, shape, time_s)


def by_volumes(kind: str, tau: float, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Concentration 1 -> 0 by finite volumes and implicit steps: another way than a sum of functions."""
    from scipy.linalg import solve_banded

    faces, middles = np.linspace(0, 1, n + 1), (np.arange(n) + 0.5) / n
    power = {"slab": 0, "cylinder": 1, "sphere": 2}[kind]
    area, volume = faces**power, np.diff(faces ** (power + 1)) / (power + 1)
    steps = 400
    flow = area * n
    flow[-1] *= 2.0  # half a cell to the surface
    dt = tau / steps
    band = np.zeros((3, n))
    band[1] = 1 + dt * (flow[:-1] * (np.arange(n) > 0) + flow[1:]) / volume
    band[0, 1:] = -dt * flow[1:-1] / volume[:-1]
    band[2, :-1] = -dt * flow[1:-1] / volume[1:]
    c = np.ones(n)
    for _ in range(steps):
        c = solve_banded((1, 1), band, c)
    return middles, c


@pytest.mark.parametrize("kind", ["slab", "cylinder", "sphere"])
def test_profiles_of_diffusion_are_those_of_another_solution_and_of_its_mean_over_the_depth(kind):
    for tau in (0.01, 0.1):
        x, expected = by_volumes(kind, tau)
        found = diffusion_profile(
            (1 - x) * SIZE_NM, ParticleShape(kind, SIZE_NM), diffusivity_cm2_s=D, elapsed_s=elapsed_s(tau),
            start=1.0, surface=0.0,
        )  # fmt: skip
        np.testing.assert_allclose(found, expected, atol=4e-3)
        if kind == "slab":
            continue
        for seen, half in (("section", 0.3), ("projection", 1.0)):
            shape = ParticleShape(kind, SIZE_NM, seen, section_nm=2 * half * SIZE_NM)
            depth = np.linspace(0, 1, 4001)
            means = []
            for radius in (0.1, 0.5, 0.9):
                inside = depth[(depth <= half) & (np.hypot(depth, radius) <= 1)]
                means.append(np.interp(np.hypot(inside, radius), x, expected).mean())
            found = diffusion_profile(
                (1 - np.array([0.1, 0.5, 0.9])) * SIZE_NM, shape, diffusivity_cm2_s=D,
                elapsed_s=elapsed_s(tau), start=1.0, surface=0.0,
            )  # fmt: skip
            np.testing.assert_allclose(found, means, atol=6e-3)
    early = diffusion_profile(
        [10.0], ParticleShape("slab", SIZE_NM), diffusivity_cm2_s=D, elapsed_s=elapsed_s(1e-3), start=1.0,
        surface=0.0,
    )  # fmt: skip
    assert early[0] == pytest.approx(1 - erfc(10.0 / SIZE_NM / 2 / math.sqrt(1e-3)), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.kind}-{s.seen}")
def test_d_is_found_without_bias_and_its_sigma_is_right_and_models_are_told_apart(shape):
    rng = np.random.default_rng(1)
    fits, told = [], []
    for k in range(200 if shape == SECTION else 120):
        profile = simulated(shape, (0.015, 0.03, 0.05)[k % 3], rng)
        fits.append(fit_diffusion(profile))
        if k < 40:
            truth = np.where(profile.points[0] < 0.2 * SIZE_NM, 0.2, 1.0)
            if shape.seen != "point":
                truth = _seen_core(shape, profile.points[0])
            stepped = Profile(
                profile.points[0], truth + SIGMA * rng.standard_normal(20), SIGMA, shape, profile.elapsed_s
            )
            told.append(compare_profiles(profile).better == "diffusion")
            told.append(compare_profiles(stepped).better == "core_shell")
    error = np.array([fit.ln_d for fit in fits]) - math.log(D)
    sigma = np.array([fit.ln_d_sigma for fit in fits])
    assert abs(math.expm1(np.median(error))) < (0.04 if shape.seen != "projection" else 0.06)
    if shape.seen != "projection":  # less is left of the start where all of the particle is seen
        assert error.std() < (0.135 if shape.kind == "slab" else 0.12)
    assert 0.59 < (np.abs(error) < sigma).mean() < 0.77
    assert np.mean(told) >= 0.95
    start = np.array([(fit.start - 1.0) / fit.start_sigma for fit in fits])
    surface = np.array([(fit.surface[0] - 0.2) / fit.surface_sigma[0] for fit in fits])
    assert 0.6 < (np.abs(start) < 1).mean() < 0.77
    assert 0.6 < (np.abs(surface) < 1).mean() < 0.77


def _seen_core(shape, distance):
    """A shell of a fifth of the radius by counting points along the depth."""
    radius = shape.edge_nm - distance
    out = []
    for r in radius:
        depth = np.linspace(-1, 1, 2001) * min(math.sqrt(SIZE_NM**2 - r**2), 0.5 * shape.section_nm)
        out.append(np.where(np.hypot(depth, r) > 0.8 * SIZE_NM, 0.2, 1.0).mean())
    return np.array(out)


def test_the_mean_over_the_depth_matters_and_takes_little_time():
    rng = np.random.default_rng(2)
    shape = ParticleShape("sphere", SIZE_NM, "projection")
    profiles = [simulated(shape, 0.02, rng) for _ in range(20)]
    fit_diffusion(profiles[0])
    took = []
    for one in profiles:
        begin = time.process_time()
        fit_diffusion(one)
        took.append(time.process_time() - begin)
    assert np.median(took) < 0.020
    wrong = [
        fit_diffusion(Profile(*one.points, ParticleShape("sphere", SIZE_NM), one.elapsed_s)).diffusivity_cm2_s
        for one in profiles
    ]
    assert np.median(wrong) / D > 1.5


def test_many_particles_share_d_and_have_their_own_surfaces_sizes_and_times():
    rng = np.random.default_rng(3)
    profiles, surfaces = [], rng.uniform(0.0, 0.6, 12)
    for surface in surfaces:
        shape = ParticleShape(
            "sphere", rng.uniform(150, 260), "section", section_nm=60.0, centre_nm=rng.uniform(-60, 60)
        )
        profiles.append(simulated(shape, rng.uniform(0.01, 0.05), rng, surface=surface))
    together = fit_diffusion(profiles)
    apart = [fit_diffusion(one).ln_d_sigma for one in profiles]
    assert together.ln_d == pytest.approx(math.log(D), abs=3 * together.ln_d_sigma)
    assert together.ln_d_sigma < 0.5 * min(apart)
    assert (np.abs(together.surface - surfaces) < 4 * together.surface_sigma).all()
    assert together.n_parameters == 14
    assert together.chi2 == pytest.approx(together.n_points - 14, abs=4 * math.sqrt(2 * together.n_points))


def test_elapsed_time_passes_its_uncertainty_on():
    one = simulated(SECTION, 0.03, np.random.default_rng(4))
    exact = fit_diffusion(one)
    late = fit_diffusion(Profile(*one.points, SECTION, one.elapsed_s, 0.2 * one.elapsed_s))
    assert late.ln_d_sigma == pytest.approx(math.hypot(exact.ln_d_sigma, 0.2))
    never = fit_diffusion(Profile(*one.points, SECTION, one.elapsed_s, 0.6 * one.elapsed_s))
    assert math.isnan(never.diffusivity_cm2_s)
    assert "elapsed time does not fix D" in never.reason


@pytest.mark.parametrize(
    ("tau", "n", "sigma", "words"),
    [
        (0.3, 20, SIGMA, "D"),
        (0.2, 20, 0.1, "the diffusion has reached the middle"),
        (0.03, 3, SIGMA, "3 points are too few for 3 parameters: measure 4 or more"),
        (2e-4, 8, SIGMA, "any smaller D fits as well"),
        (0.03, 5, 0.2, "D"),
        (0.03, 20, 5.0, "any D fits as well: the profile does not change"),
    ],
)
def test_d_is_refused_with_the_reason_where_the_profile_does_not_fix_it(tau, n, sigma, words):
    fit = fit_diffusion(
        simulated(ParticleShape("sphere", SIZE_NM), tau, np.random.default_rng(7), n, 0.2, sigma)
    )
    assert math.isnan(fit.diffusivity_cm2_s)
    assert words in fit.reason
    assert compare_profiles(
        simulated(ParticleShape("sphere", SIZE_NM), tau, np.random.default_rng(7), n, 0.2, sigma)
    ).warnings


def test_a_good_profile_of_five_points_has_a_d_and_its_sigma():
    fit = fit_diffusion(simulated(SECTION, 0.03, np.random.default_rng(8), 5, 0.2, 0.01))
    assert not fit.reason
    assert abs(fit.ln_d - math.log(D)) < 3 * fit.ln_d_sigma


def test_core_and_shell_give_the_thickness_and_a_misfit_of_both_is_said():
    rng = np.random.default_rng(5)
    distance = np.linspace(0.02, 0.98, 30) * SIZE_NM
    pulls = []
    for _ in range(50):
        truth = _seen_core(SECTION, distance)
        fit = fit_core_shell(Profile(distance, truth + SIGMA * rng.standard_normal(30), SIGMA, SECTION))
        pulls.append((fit.shell_nm - 40.0) / fit.shell_nm_sigma)
        assert fit.core == pytest.approx(1.0, abs=5 * fit.core_sigma)
    assert np.std(pulls) < 1.4
    assert abs(np.median(pulls)) < 0.5
    waves = Profile(distance, np.sin(distance / 20.0), SIGMA, SECTION, elapsed_s(0.03))
    assert any("neither explains" in words for words in compare_profiles(waves).warnings)


def test_profiles_of_maps_are_weighted_and_their_errors_hold():
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:80, :80] - 40
    inside = np.hypot(y, x) < 35
    distance = edge_distance(inside, pixel_size=10.0)
    sigma = rng.uniform(0.02, 0.5, distance.shape)
    truth = np.clip(distance / 200.0, 0, 1)
    pulls = []
    for _ in range(30):
        values = truth + sigma * rng.standard_normal(truth.shape)
        values[40, 40] = np.nan
        found = distance_profile(values, sigma, distance, edges=np.arange(0, 351, 10.0))
        assert found.n_pixels.sum() == inside.sum() - 1
        pulls.append((found.mean - np.clip(found.distance / 200.0, 0, 1)) / found.standard_error)
    assert 0.85 < np.std(pulls) < 1.1
    wide = distance_profile(values, sigma, distance, edges=np.arange(0, 351, 10.0), resolution_px=2.0)
    assert wide.standard_error[3] == pytest.approx(2.0 * found.standard_error[3])
    with pytest.raises(EdgeFittingError, match="no pixel lies within the limits"):
        distance_profile(values, sigma, distance, edges=[1e4, 2e4])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ParticleShape("cube", 1.0), "a particle is a slab"),
        (lambda: ParticleShape("sphere", 0.0), "above 0 nm"),
        (lambda: ParticleShape("sphere", 100.0, "section"), "needs its thickness"),
        (lambda: ParticleShape("sphere", 100.0, "section", 20.0, 150.0), "does not cut"),
        (lambda: ParticleShape("slab", 100.0, "projection"), "stands on its edge"),
        (lambda: Profile([1.0, 2.0], [1.0], 0.1, SECTION), "one value for each distance"),
        (lambda: Profile([1.0, 2.0], [1.0, 2.0], 0.0, SECTION), "has to be above 0"),
        (lambda: Profile([1.0, 900.0], [1.0, 2.0], 0.1, SECTION), "check the size, and that both are in nm"),
        (lambda: Profile(["a"], [1.0], 0.1, SECTION), "needs numbers"),
        (lambda: fit_diffusion([]), "no profile to fit"),
        (lambda: fit_diffusion(Profile([1.0], [1.0], 0.1, SECTION)), "needs the elapsed time"),
        (lambda: fit_core_shell(Profile([1.0], [1.0], 0.1, SECTION), interface_nm=-1.0), "0 nm or more"),
        (
            lambda: diffusion_profile(
                [1.0], SECTION, diffusivity_cm2_s=1e-20, elapsed_s=1.0, start=0.0, surface=1.0
            ),
            "give a longer time",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(make, words):
    with pytest.raises(EdgeFittingError, match=words):
        make()
