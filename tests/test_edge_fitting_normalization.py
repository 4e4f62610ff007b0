"""Normalisation against Larch (stored values, and an installed Larch when there is one) and against its definition."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from edge_fitting import EdgeFittingError, normalize

GOLDEN = Path(__file__).parent / "golden"


def _golden_module():
    spec = importlib.util.spec_from_file_location("larch_normalization", GOLDEN / "larch_normalization.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cases():
    return json.loads((GOLDEN / "larch_normalization.json").read_text(encoding="utf-8"))["cases"]


def _ours(case, energy, mu, **options):
    return normalize(
        energy,
        mu[:, None, None],
        e0_ev=case["e0"],
        pre_edge_ev=tuple(case["pre"]),
        post_edge_ev=tuple(case["post"]),
        order=case["order"],
        **options,
    )


@pytest.mark.parametrize("case", _cases(), ids=lambda case: f"{case['kind']}-order{case['order']}")
def test_agrees_with_stored_larch_values(case):
    energy, mu = _golden_module().spectrum(case["kind"])
    plain = _ours(case, energy, mu)
    flat = _ours(case, energy, mu, flatten=True)
    every = slice(None, None, case["stride"])
    assert plain.edge_jump[0, 0] == pytest.approx(case["edge_step"], rel=1e-6)
    np.testing.assert_allclose(plain.normalized[every, 0, 0], case["norm"], atol=1e-6)
    np.testing.assert_allclose(flat.normalized[every, 0, 0], case["flat"], atol=1e-6)


@pytest.mark.parametrize("case", _cases()[:2], ids=lambda case: f"order{case['order']}")
def test_agrees_with_installed_larch(case):
    xafs = pytest.importorskip("larch.xafs", reason="xraylarch is not installed here")
    larch = pytest.importorskip("larch")
    energy, mu = _golden_module().spectrum(case["kind"])
    group = larch.Group(energy=energy, mu=mu)
    (pre1, pre2), (norm1, norm2) = case["pre"], case["post"]
    xafs.pre_edge(group, e0=case["e0"], pre1=pre1, pre2=pre2, norm1=norm1, norm2=norm2, nnorm=case["order"])
    ours = _ours(case, energy, mu)
    np.testing.assert_allclose(ours.normalized[:, 0, 0], group.norm, atol=1e-6)


def test_order_of_energies_does_not_matter():
    energy, mu = _golden_module().spectrum("coarse")
    case = _cases()[2]
    shuffled = np.random.default_rng(0).permutation(energy.size)
    assert _ours(case, energy[shuffled], mu[shuffled]).edge_jump == _ours(case, energy, mu).edge_jump


def test_polynomial_background_is_removed_exactly():
    energy = np.arange(8200.0, 8700.0, 5.0)
    x = (energy - 8340.0) / 100.0
    jump = 0.37
    mu = 0.5 - 0.1 * x + np.where(energy > 8342, jump - 0.02 * x + 0.004 * x**2, 0.0)
    found = normalize(
        energy,
        mu[:, None, None],
        e0_ev=8340.0,
        pre_edge_ev=(-130, -10),
        post_edge_ev=(20, 340),
        order=2,
        flatten=True,
    )
    assert found.edge_jump[0, 0] == pytest.approx(jump, abs=1e-6)
    np.testing.assert_allclose(found.normalized[energy < 8330, 0, 0], 0.0, atol=2e-6)
    np.testing.assert_allclose(found.normalized[energy > 8350, 0, 0], 1.0, atol=2e-6)


def test_global_slope_is_exact_where_slopes_follow_thickness():
    energy = np.arange(8200.0, 8700.0, 10.0)
    x = (energy - 8340.0) / 100.0
    shape = -0.2 * x + np.where(energy > 8342, 1.0, 0.0)
    thickness = np.linspace(0.05, 0.6, 12).reshape(3, 4)
    offset = np.linspace(0.1, 1.0, 12).reshape(3, 4)
    stack = offset + thickness * shape[:, None, None]
    found = normalize(
        energy,
        stack,
        e0_ev=8340.0,
        pre_edge_ev=(-130, -10),
        post_edge_ev=(20, 340),
        order=1,
        global_slope=True,
    )
    np.testing.assert_allclose(found.edge_jump, thickness, atol=2e-6)


def test_global_slope_is_more_precise_in_noise():
    random = np.random.default_rng(3)
    energy = np.arange(8250.0, 8500.0, 10.0)
    truth = np.where(energy > 8342, 0.3, 0.0)[:, None, None]
    stack = truth + 0.03 * random.standard_normal((energy.size, 60, 60))
    options = {"e0_ev": 8340.0, "pre_edge_ev": (-90, -15), "post_edge_ev": (20, 150), "order": 0}
    own = normalize(energy, stack, **options).edge_jump
    shared = normalize(energy, stack, **options, global_slope=True).edge_jump
    assert abs(shared.mean() - 0.3) < 2e-3
    assert shared.std() < 0.6 * own.std()


def test_missing_value_in_a_window_gives_nan_for_that_pixel_only():
    energy = np.arange(8200.0, 8600.0, 10.0)
    stack = np.repeat(np.where(energy > 8342, 0.3, 0.0)[:, None, None], 2, axis=2).astype(np.float32)
    stack[2, 0, 0] = np.nan
    found = normalize(energy, stack, e0_ev=8340.0, pre_edge_ev=(-130, -10), post_edge_ev=(20, 200))
    assert np.isnan(found.edge_jump[0, 0])
    assert found.edge_jump[0, 1] == pytest.approx(0.3, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_edge_ev": (-20, -19)}, "pre-edge window"),
        ({"post_edge_ev": (300, 301)}, "post-edge window"),
        ({"order": 3}, "0, 1 or 2"),
        ({"e0_ev": 9000.0}, "not within the scan"),
        ({"e0_ev": float("nan")}, "not within the scan"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change, message):
    energy = np.arange(8200.0, 8600.0, 10.0)
    options = {"e0_ev": 8340.0, "pre_edge_ev": (-130, -10), "post_edge_ev": (20, 200), "order": 1} | change
    with pytest.raises(EdgeFittingError, match=message):
        normalize(energy, np.zeros((energy.size, 1, 1)), **options)
