"""Edge energies of the series fit against the truth of the twin, whose references are measured like its sample."""

from dataclasses import replace

import numpy as np
import pytest

from beamline_plans import EnergyGrid
from edge_fitting import ReferenceSeries, fit_stack
from sim_devices import SampleSettings, Twin, TwinSettings

SOCS = (0.0, 0.5, 1.0)


def optical_depths(twin, energies_ev):
    """Frame by frame, with a flat and a dark of the same beam, as a scan takes them."""

    def counts(**beam):
        twin.shutter_open, twin.sample_in = beam["shutter_open"], beam["sample_in"]
        exposure = twin.begin(1.0)
        return twin.render(exposure).astype(np.float32), max(exposure.intensity, 1e-9)

    dark, _ = counts(shutter_open=False, sample_in=True)
    for energy in energies_ev:
        twin.energy_ev = energy
        flat, flat_beam = counts(shutter_open=True, sample_in=False)
        frame, beam = counts(shutter_open=True, sample_in=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = -np.log((frame - dark) / (flat - dark) * flat_beam / beam)
        yield np.where(np.isfinite(depth), depth, np.nan)


def measured_references(twin, edge, energies_ev):
    rows = []
    for soc in SOCS:
        twin.load_pellet(soc)
        rows.append([np.nanmean(depth) for depth in optical_depths(twin, energies_ev)])
    twin.load_electrode()
    return ReferenceSeries(energies_ev, rows, SOCS)


# A grid of 2 eV around the edge samples a rise of 6 eV in three steps: what lies between them is interpolated.
@pytest.mark.parametrize(("preset", "most_ev"), [("ssrl_62", 0.05), ("fxi_41", 0.06), ("fxi_21", 0.13)])
@pytest.mark.parametrize("edge", ["Ni_K", "Mn_K", "Co_K"])
def test_edge_energies_have_no_bias_beside_their_sigma(edge, preset, most_ev):
    """Over the few points above an edge, a straight line takes the oscillations for a slope: 0.13 eV on ssrl_62."""
    settings = replace(
        TwinSettings(), sample=SampleSettings(particle_spread=0.2) if preset == "fxi_41" else SampleSettings()
    )
    twin = Twin((96, 96), pixel_size_nm=160.0, seed=len(edge + preset), settings=settings)
    energies = EnergyGrid.preset(preset, edge).energies_ev
    references = measured_references(twin, edge, energies)
    truth = twin.truth(edge)
    inside = truth.jump > 0.6 * truth.jump.max()
    depths = np.stack(list(optical_depths(twin, energies)))

    # The mean of many pixels, whose noise hides nothing.
    whole = fit_stack(
        energies, np.nanmean(depths[:, inside], axis=1)[:, None, None], edge=edge, references=references
    )
    assert float(whole.edge_energy_ev[0, 0] - truth.edge_energy_ev[inside].mean()) == pytest.approx(
        0.0, abs=most_ev
    )
    assert float(whole.edge_jump[0, 0] / truth.jump[inside].mean()) == pytest.approx(1.0, abs=0.04)
    if edge == "Mn_K":
        return  # one pixel's manganese is too little for a position
    maps = fit_stack(energies, depths, edge=edge, references=references)
    clear = inside & maps.has_value
    assert clear.sum() > 400
    bias_ev = float(np.mean((maps.edge_energy_ev - truth.edge_energy_ev)[clear]))
    assert abs(bias_ev) < 0.7 * float(np.median(maps.edge_energy_sigma_ev[clear]))
    if edge == "Ni_K":
        sigma = np.median(maps.soc_sigma[clear]) / np.sqrt(clear.sum())
        assert abs(float(np.mean((maps.soc - truth.soc)[clear]))) < 0.003 + 3 * sigma


@pytest.mark.parametrize("slope_per_ev", [0.0, 2e-4])
def test_normalising_twice_changes_nothing_and_a_line_below_does_not_count(slope_per_ev):
    twin = Twin((32, 32), pixel_size_nm=480.0, seed=3, settings=TwinSettings.ideal())
    energies = np.array(EnergyGrid.preset("default", "Ni_K").energies_ev)
    series = measured_references(twin, "Ni_K", energies)
    moved = ReferenceSeries(energies, 0.4 * series.mu + 0.7 + slope_per_ev * (energies - 8300.0), SOCS)
    np.testing.assert_allclose(moved.mu, series.mu, atol=1e-6)
    again = ReferenceSeries.from_dict(series.to_dict())
    np.testing.assert_array_equal(again.mu, series.mu)
