"""Larch as the reference: normalisation and edge energy on every shared spectrum, and the fine structure by it."""

import contextlib
import sys

import numpy as np
import pytest

from edge_fitting import (
    EDGES,
    EdgeFittingError,
    Sweep,
    calibrate_foil,
    describe_spectrum,
    first_shell,
    merge_sweeps,
    normalize,
    read_athena_project,
)
from nimco._reference_files import read_reference_spectrum
from nimco.errors import NimcoError

E0 = 8345.0
# k^2 = 2 m E / hbar^2
K2_PER_EV = 0.2624682843


def spectra(folder):
    """Every shared spectrum that holds the edge of its folder: name, edge, energies and absorption."""
    for path in sorted(folder.glob("*/*")):
        edge = EDGES[f"{path.parent.name}_K"]
        if path.suffix == ".prj":
            found = [(f"{path.name} {one.label}", one.energy_ev, one.mu) for one in read_athena_project(path)]
        else:
            try:
                one = read_reference_spectrum(path)
            except NimcoError:
                continue  # a table whose columns have to be named
            found = [(path.name, np.asarray(one.energy_ev), np.asarray(one.mu))]
        for name, energy, mu in found:
            if energy[0] < edge.energy_ev - 45 and energy[-1] > edge.energy_ev + 40:
                yield name, edge, energy, mu


def test_larch_and_we_agree_on_every_shared_spectrum(shared_data):
    xafs = pytest.importorskip("larch.xafs", reason="xraylarch is not installed here")
    larch = pytest.importorskip("larch")
    checked = 0
    for name, edge, energy, mu in spectra(shared_data / "spectra"):
        e0 = float(xafs.find_e0(energy, mu))
        pre = (max(energy[0] - e0, -200.0), -25.0)
        post = (min(60.0, (energy[-1] - e0) / 2), energy[-1] - e0 - 1)
        group = larch.Group(energy=energy, mu=mu)
        xafs.pre_edge(group, e0=e0, pre1=pre[0], pre2=pre[1], norm1=post[0], norm2=post[1])
        ours = normalize(energy, mu[:, None, None], e0_ev=e0, pre_edge_ev=pre, post_edge_ev=post)
        assert ours.edge_jump[0, 0] == pytest.approx(group.edge_step, rel=1e-9), name
        np.testing.assert_allclose(ours.normalized[:, 0, 0], group.norm, atol=1e-9, err_msg=name)
        # Larch takes the steepest point of the grid wherever it is: of a metal our first inflection, of an oxide ours
        # of the main rise, or, where two rises are alike or the pre-edge peak is steepest, one as steep by 15 %.
        found = [describe_spectrum(energy, mu, edge=edge).positions["inflection"].value_ev]
        with contextlib.suppress(EdgeFittingError):
            found.append(calibrate_foil(energy, mu, edge=edge).measured_ev)
        step = float(np.median(np.diff(energy[np.abs(energy - e0) < 10])))
        if np.nanmin(np.abs(np.array(found) - e0), initial=np.inf) > 2 * step + 0.05:
            slope = np.interp([e0, *found], energy, np.gradient(group.norm, energy))
            assert slope[1] > 0.85 * slope[0] or np.isnan(found[0]), (name, e0, found)
        checked += 1
    assert checked > 50


def test_the_merge_of_the_drifting_scans_is_that_of_larch_within_noise(shared_data):
    larch_io = pytest.importorskip("larch.io", reason="xraylarch is not installed here")
    larch = pytest.importorskip("larch")
    groups = {one.name: one for one in read_athena_project(shared_data / "spectra" / "Ni" / "larch_NiO.prj")}
    scans = [one for one in groups.values() if one.label.startswith("NiO.") and one.reference in groups]
    scans = list({scan.mu.tobytes(): scan for scan in scans}.values())
    sweeps = [Sweep(scan.energy_ev, scan.mu, groups[scan.reference].mu) for scan in scans]
    merged = merge_sweeps(sweeps, edge="Ni_K")
    assert merged.used.all()
    theirs = larch_io.merge_groups(
        [
            larch.Group(energy=sweep.energy_ev + axis.offset_ev, mu=sweep.mu)
            for sweep, axis in zip(sweeps, merged.axes, strict=True)
        ],
        xarray="energy",
        yarray="mu",
    )
    at = np.arange(8320.0, 8400.0, 0.25)

    def normalized(energy, mu):
        whole = normalize(
            energy, mu[:, None, None], e0_ev=8345.0, pre_edge_ev=(-150, -30), post_edge_ev=(100, 600)
        )
        return np.interp(at, energy, whole.normalized[:, 0, 0])

    each = [
        normalized(one.energy_ev + axis.offset_ev, one.mu)
        for one, axis in zip(sweeps, merged.axes, strict=True)
    ]
    sigma_of_mean = np.std(each, axis=0, ddof=1) / np.sqrt(len(each))
    apart = normalized(merged.energy_ev, merged.mu) - normalized(theirs.energy, theirs.mu)
    assert np.sqrt(np.mean(apart**2)) < np.sqrt(np.mean(sigma_of_mean**2))
    for definition in ("half_jump", "inflection", "white_line"):
        ours, other = (
            describe_spectrum(x, y, edge="Ni_K").positions[definition].value_ev
            for x, y in ((merged.energy_ev, merged.mu), (theirs.energy, theirs.mu))
        )
        assert ours == pytest.approx(other, abs=0.02)


def fine_structure(amplitude, noise=0.0, seed=0):
    """A step with one shell at 2 angstrom: chi(k) k^2 is a damped sine of a given amplitude."""
    rng = np.random.default_rng(seed)
    energy = np.concatenate(
        [np.arange(8145.0, 8325.0, 5.0), np.arange(8325.0, 8380.0, 0.5), np.arange(8380.0, 9000.0, 1.5)]
    )
    k = np.sqrt(K2_PER_EV * np.maximum(energy - E0, 1e-9))
    chi = amplitude * np.sin(4.0 * k) * np.exp(-2 * 0.005 * k**2) / np.maximum(k, 1.0) ** 2
    mu = 0.4 - 1e-4 * (energy - E0) + (energy > E0) * (1.0 + chi * (k > 1.0))
    return energy, mu + noise * rng.standard_normal(energy.size)


def test_the_first_shell_is_where_it_is_and_grows_with_its_amplitude():
    pytest.importorskip("larch.xafs", reason="xraylarch is not installed here")
    one, two = (first_shell(*fine_structure(a), e0_ev=E0, r_range=(1.2, 3.0)) for a in (1.0, 2.0))
    assert one.distance == pytest.approx(2.0, abs=0.06)
    assert two.amplitude == pytest.approx(2 * one.amplitude, rel=0.05)
    noisy = [
        first_shell(*fine_structure(1.0, 1e-3, seed), e0_ev=E0, r_range=(1.2, 3.0)) for seed in range(12)
    ]
    spread = np.std([found.amplitude for found in noisy])
    assert 0.4 < spread / np.mean([found.amplitude_sigma for found in noisy]) < 2.5
    assert one.k.shape == one.chi.shape
    assert one.r.shape == one.chi_r.shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[x < 8500], y[x < 8500]), "measure further above"),
        (lambda x, y: (x[::-1], y[::-1]), "must increase"),
        (lambda x, y: (x, y[1:]), "as many"),
        (lambda x, y: (x, y * np.nan), "numbers"),
    ],
)
def test_a_spectrum_without_fine_structure_is_refused(change, words):
    with pytest.raises(EdgeFittingError, match=words):
        first_shell(*change(*fine_structure(1.0)), e0_ev=E0)


def test_without_larch_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "larch.xafs", None)
    with pytest.raises(EdgeFittingError, match="pip install xraylarch"):
        first_shell(*fine_structure(1.0), e0_ev=E0)
