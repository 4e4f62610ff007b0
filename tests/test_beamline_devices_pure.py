"""The parts of the real devices that need no control system, against formulas and hand calculations."""

import math

import numpy as np
import pytest
from ophyd import Device

from beamline_devices import DeviceError, OutOfLimitsError
from beamline_devices._described import completed
from beamline_devices._tasks import Task
from beamline_devices.epics import (
    CalibrationTable,
    RegionOfInterest,
    ZonePlate,
    bragg_angle_deg,
    bragg_energy_ev,
    silicon_spacing_angstrom,
)


def test_silicon_111_spacing_is_the_tabulated_one() -> None:
    assert silicon_spacing_angstrom(1, 1, 1) == pytest.approx(3.13560, abs=5e-6)


def test_bragg_angle_of_the_copper_line_on_silicon() -> None:
    # Cu K-alpha1 at 1.540593 A (Hoelzer 1997) is reflected by Si(111) at two theta = 28.442 degrees (NIST SRM 640).
    energy_ev = 12398.4198 / 1.540593
    assert 2 * bragg_angle_deg(energy_ev, silicon_spacing_angstrom(1, 1, 1)) == pytest.approx(
        28.442, abs=1e-3
    )


@pytest.mark.parametrize("energy_ev", [2500.0, 6539.0, 8333.0, 25000.0])
def test_energy_and_angle_are_inverse(energy_ev: float) -> None:
    assert bragg_energy_ev(bragg_angle_deg(energy_ev, 3.1356), 3.1356) == pytest.approx(energy_ev, rel=1e-12)


@pytest.mark.parametrize("energy_ev", [1900.0, 0.0, -1.0])
def test_an_energy_below_reflection_is_refused(energy_ev: float) -> None:
    with pytest.raises(OutOfLimitsError, match=r"give 1977 eV or more"):
        bragg_angle_deg(energy_ev, 3.1356)


def test_zone_plate_obeys_the_lens_equation() -> None:
    plate = ZonePlate(diameter_um=200.0, outermost_zone_nm=30.0)
    focal_mm = plate.focal_length_mm(8333.0)
    # D dr / lambda = 200 um x 30 nm / 0.148787 nm = 40.326 mm
    assert focal_mm == pytest.approx(40.326, abs=2e-3)
    for magnification in (10.0, 50.0):
        near = plate.object_distance_mm(8333.0, magnification)
        far = plate.image_distance_mm(8333.0, magnification)
        assert 1 / near + 1 / far == pytest.approx(1 / focal_mm)
        assert far / near == pytest.approx(magnification)
        assert plate.magnification(8333.0, near + far) == pytest.approx(magnification)


def test_zone_plate_focal_length_is_proportional_to_energy() -> None:
    plate = ZonePlate(diameter_um=200.0, outermost_zone_nm=30.0)
    assert plate.focal_length_mm(9000.0) / plate.focal_length_mm(6000.0) == pytest.approx(1.5)


def test_zone_plate_without_room_for_an_image_says_so() -> None:
    with pytest.raises(OutOfLimitsError, match="no sharp image 100 mm"):
        ZonePlate(diameter_um=200.0, outermost_zone_nm=30.0).magnification(8333.0, 100.0)


def test_zone_plate_table_goes_through_the_measured_focus() -> None:
    plate = ZonePlate(diameter_um=125.0, outermost_zone_nm=30.0)
    table = plate.table(
        [8000.0, 8333.0, 8600.0], sample_to_camera_mm=1500.0, at_energy_ev=8333.0, at_position_mm=3.0
    )
    assert table.at(8333.0) == pytest.approx(3.0)
    moved = table.at(8600.0) - table.at(8000.0)
    # The zone plate moves by the change of the object distance, slightly more than that of the focal length.
    focal = plate.focal_length_mm(8600.0) - plate.focal_length_mm(8000.0)
    assert focal < moved < 1.1 * focal


def test_calibration_table_interpolates_and_sorts() -> None:
    table = CalibrationTable([8600.0, 8200.0, 8400.0], [3.0, 1.0, 2.5])
    assert table.limits_ev == (8200.0, 8600.0)
    assert [table.at(e) for e in (8200.0, 8300.0, 8500.0, 8600.0)] == pytest.approx([1.0, 1.75, 2.75, 3.0])


@pytest.mark.parametrize("energy_ev", [8199.9, 8600.1, math.nan])
def test_calibration_table_refuses_what_it_does_not_cover(energy_ev: float) -> None:
    with pytest.raises(OutOfLimitsError, match="covers 8200 to 8600 eV"):
        CalibrationTable([8200.0, 8600.0], [1.0, 2.0]).at(energy_ev)


@pytest.mark.parametrize(
    ("energy_ev", "position"),
    [([8300.0], [1.0]), ([8300.0, 8300.0], [1.0, 2.0]), ([8300.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0])],
)
def test_calibration_table_refuses_what_cannot_be_interpolated(
    energy_ev: list[float], position: list[float]
) -> None:
    with pytest.raises(OutOfLimitsError):
        CalibrationTable(energy_ev, position)


def test_region_of_interest_around_a_line() -> None:
    assert RegionOfInterest.around(7478.0, 200.0) == RegionOfInterest(7378.0, 7578.0)


def test_descriptions_are_completed() -> None:
    bare = {"source": "PV:x", "dtype": "number", "shape": [], "units": None, "dtype_numpy": "float64"}
    full = completed({**bare, "lower_ctrl_limit": 0.0, "upper_ctrl_limit": 0.0})
    assert full["dtype_numpy"] == "<f8"
    assert full["units"] == ""
    assert full["precision"] == 6
    assert "lower_ctrl_limit" not in full
    assert completed({**bare, "dtype": "string", "enum_strs": ("a", "b")})["choices"] == ["a", "b"]


def test_a_stop_of_earlier_work_does_not_end_what_is_waited_for_later() -> None:
    task = Task(Device("", name="camera"))
    status = task.start(lambda: task.pause(30.0))
    task.stop()
    with pytest.raises(DeviceError, match="stopped"):
        status.wait(30.0)
    task.pause(0.1)
