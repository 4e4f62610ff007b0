"""The sample with three dimensions: what it holds, and what is seen of it when it is turned."""

import numpy as np
import pytest

from beamline_devices import DeviceError
from sim_devices import SimBeamline, TwinSettings, VolumeSettings


@pytest.fixture(scope="module")
def beamline():
    made = SimBeamline((32, 32), settings=TwinSettings.ideal())
    made.load_volume(VolumeSettings(axis_offset_px=1.5))
    made.shutter.set("open").wait()
    return made


def depth(beamline, energy_ev):
    beamline.energy.set(energy_ev).wait()
    beamline.stage.set("out").wait()
    flat = beamline.twin.expose(3.0).astype(float)
    beamline.stage.set("in").wait()
    dark = beamline.twin.settings.camera.offset
    return -np.log((beamline.twin.expose(3.0) - dark) / (flat - dark))


def test_projections_are_line_integrals_of_the_truth(beamline):
    truth = beamline.volume_truth("Ni_K")
    assert 0.05 < np.isfinite(truth.soc).mean() < 0.5
    assert {0, 1, 2} <= set(np.unique(truth.crack))
    assert truth.other.max() > 0.9
    seen = {}
    for angle_deg in (0.0, 30.0, 180.0, 210.0):
        beamline.stage.rotation.set(angle_deg).wait()
        jump = depth(beamline, 8400.0) - depth(beamline, 8300.0)
        total = truth.edge_jump.sum()
        # The other phase has no edge; both phases lose a little absorption with rising energy.
        assert jump.sum() == pytest.approx(total, rel=0.1)
        seen[angle_deg] = depth(beamline, 8400.0)
    # Half a turn mirrors the picture about the axis, which lies 1.5 pixels beside the middle: 3 pixels in all.
    for angle_deg in (0.0, 30.0):
        mirrored = seen[angle_deg + 180.0][:, ::-1]
        assert np.abs(seen[angle_deg][:, 3:] - mirrored[:, :-3]).max() < 0.02
        assert np.abs(seen[angle_deg] - mirrored).max() > 0.05


def test_what_is_no_volume_has_no_truth_of_one():
    beamline = SimBeamline((16, 16))
    with pytest.raises(DeviceError, match="load_volume"):
        beamline.volume_truth("Ni_K")
    with pytest.raises(DeviceError, match="radius"):
        VolumeSettings(radius=(0.3, 0.2))
    with pytest.raises(DeviceError, match="density"):
        VolumeSettings(density=-1.0)
