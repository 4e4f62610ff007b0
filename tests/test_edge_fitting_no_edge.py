"""Spectra without an absorption edge are no references, by whatever way they come."""

import contextlib

import numpy as np
import pytest
from bluesky import RunEngine

from beamline_plans import PlanError, xanes_scan
from callbacks import LiveSOC
from edge_fitting import EdgeFittingError, ReferenceSeries
from nimco import ReferenceCalibration
from nimco._reference_files import read_reference_spectrum
from nimco._reference_options import reference_series
from nimco.errors import ReferenceFileError, ReferenceLibraryError
from nimco.testing import devices_of, play
from sim_devices import SimBeamline

ENERGY_EV = np.concatenate(
    [np.arange(8230.0, 8325.0, 5.0), np.arange(8325.0, 8365.0, 0.5), np.arange(8365.0, 8560.0, 4.0)]
)


def spectrum(soc, noise=0.0):
    edge = 0.5 + np.arctan((ENERGY_EV - 8343.0 - 2.0 * soc) / 1.5) / np.pi
    white_line = 0.8 * np.exp(-(((ENERGY_EV - 8349.0 - 2.0 * soc) / 3.0) ** 2))
    return 0.1 + edge + white_line + noise * np.random.default_rng(int(soc)).normal(size=ENERGY_EV.size)


RNG = np.random.default_rng(3)
NO_EDGE = {
    "noise": RNG.normal(1.0, 0.1, ENERGY_EV.size),
    "counts": RNG.poisson(3.0, ENERGY_EV.size).astype(float),
    "constant": np.full(ENERGY_EV.size, 0.7),
    "zeros": np.zeros(ENERGY_EV.size),
    "line": 1.0 + 1e-3 * (ENERGY_EV - 8300.0),
    "bent background": 1.0 + 2e-3 * (ENERGY_EV - 8300.0) + 1e-6 * (ENERGY_EV - 8300.0) ** 2,
    "line with noise": 1.0 + 1e-3 * (ENERGY_EV - 8300.0) + RNG.normal(0.0, 0.02, ENERGY_EV.size),
    "peak": np.exp(-(((ENERGY_EV - 8349.0) / 3.0) ** 2)),
    "transmission": np.exp(-spectrum(0.0)),
    "edge far below the noise": 1.0 + 1e-3 * spectrum(1.0) + RNG.normal(0.0, 1e-3, ENERGY_EV.size),
}


@pytest.mark.parametrize("kind", NO_EDGE)
def test_a_reference_without_an_edge_is_refused_and_named(tmp_path, kind):
    bad = NO_EDGE[kind]
    with pytest.raises(EdgeFittingError, match="reference 1 has no"):
        ReferenceSeries(ENERGY_EV, [spectrum(0.0), bad], (0.0, 1.0))
    with pytest.raises(EdgeFittingError, match=r"reference 0 .* has no|reference 0 has no"):
        ReferenceSeries(ENERGY_EV, [bad, spectrum(0.0)], (1.0, 0.0))  # as it was given, not as it is sorted
    for name, values in (("good.txt", spectrum(0.0)), ("bad.txt", bad)):
        np.savetxt(tmp_path / name, np.column_stack([ENERGY_EV, values]))
    with pytest.raises(
        (EdgeFittingError, ReferenceFileError), match=r"bad\.txt.* has no|bad\.txt\) has no"
    ) as said:
        reference_series([(tmp_path / "good.txt", 0.0), (tmp_path / "bad.txt", 1.0)])
    assert "\n" not in str(said.value)
    beamline = SimBeamline((8, 8))
    given = {"energy_ev": ENERGY_EV.tolist(), "mu": [spectrum(0.0).tolist(), bad.tolist()], "soc": [0.0, 1.0]}
    with pytest.raises(PlanError, match=r"references do not suit this scan.*has no"):
        RunEngine({})(xanes_scan(*devices_of(beamline), edge="Ni_K", references=given))


def test_neither_library_nor_start_document_brings_one_in(tiled_server, scan_documents):
    library = tiled_server.library
    about = {"edge": "Ni_K", "composition": "NMC622", "calibration": ReferenceCalibration("Ni")}
    with pytest.raises(ReferenceLibraryError, match=r"has none is no reference spectrum: .* has no"):
        library.add("has none", ENERGY_EV, NO_EDGE["noise"], soc=1.0, **about)
    scan = scan_documents((4, 5))
    documents = scan.run()
    given = documents[0][1]["xanes"]["references"]
    given["mu"] = [given["mu"][0], list(np.random.default_rng(1).normal(1.0, 0.1, len(given["energy_ev"])))]
    given["soc"] = [0.0, 1.0]
    with LiveSOC() as live:
        play(live, documents)
        live.wait(120)
        assert any("reference 1 has no" in str(error) for error in live.errors), live.errors


def test_spectra_that_end_below_the_edge_are_refused():
    below = ENERGY_EV < 8325.0
    noise = np.random.default_rng(0).normal(0.0, 1e-3, (2, np.count_nonzero(below)))
    with pytest.raises(EdgeFittingError, match=r"has no .* from 8230 to 8320 eV"):
        ReferenceSeries(
            ENERGY_EV[below], np.stack([spectrum(0.0), spectrum(1.0)])[:, below] + noise, (0.0, 1.0)
        )


def test_a_noisy_edge_is_an_edge():
    for noise in (0.0, 0.01, 0.03):
        ReferenceSeries(ENERGY_EV, [spectrum(0.0, noise), spectrum(1.0, noise)], (0.0, 1.0))


def test_what_wanders_slowly_is_no_edge():
    """A drift has a step at its steepest point too; one in twelve looks like an edge in all else as well."""
    accepted = []
    for seed in range(60):
        walk = np.cumsum(np.random.default_rng(seed).normal(size=ENERGY_EV.size))
        with contextlib.suppress(EdgeFittingError):
            ReferenceSeries(ENERGY_EV, [spectrum(0.0), 1.0 + 0.2 * walk / np.ptp(walk)], (0.0, 1.0))
            accepted.append(seed)
    assert len(accepted) <= 6


def test_measured_spectra_over_short_ranges_and_few_energies_have_edges(shared_data):
    spectra = [
        read_reference_spectrum(shared_data / "spectra" / "Ni" / name)
        for name in ("pyxas_ref_NiO.txt", "pyxas_ref_LiNiO2.txt")
    ]
    for below, above in ((100.0, 200.0), (60.0, 100.0), (30.0, 60.0), (20.0, 40.0)):
        for n in (100, 40, 20):
            energy_ev = np.linspace(8341.0 - below, 8341.0 + above, n)
            mu = [np.interp(energy_ev, held.energy_ev, held.mu) for held in spectra]
            ReferenceSeries(energy_ev, mu, (0.0, 1.0))
