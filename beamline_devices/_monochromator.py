"""Double-crystal monochromator: photon energy as a pseudo-axis over the Bragg angle and what has to follow it."""

from collections.abc import Sequence
from typing import Any, Protocol

from bluesky.protocols import Location
from ophyd import Component, DeviceStatus, FormattedComponent, Kind, PseudoPositioner, PseudoSingle
from ophyd.pseudopos import pseudo_position_argument, real_position_argument

from beamline_devices._axis import EpicsAxis
from beamline_devices._bragg import bragg_angle_deg, bragg_energy_ev
from beamline_devices._calibration_table import CalibrationTable
from beamline_devices._checks import check_energy_ev, check_range
from beamline_devices._described import CompleteDescriptions
from beamline_devices._parameters import Parameter
from beamline_devices._tasks import Task
from beamline_devices.errors import DeviceTimeoutError, NotArrivedError, OutOfLimitsError

__all__ = ["EnergyFollower", "Monochromator", "UndulatorMonochromator"]

# What is longer was given in milliseconds.
_LONGEST_SETTLE_S = 60.0


class EnergyFollower(Protocol):
    """Optics that have to be somewhere else at every energy, as `ZonePlateOptics`."""

    name: str

    def check_value(self, value: float) -> None:
        """Refuse an energy the optics cannot follow."""

    def set(self, value: float) -> DeviceStatus:
        """Follow to an energy in eV."""

    def stop(self, *, success: bool = False) -> None:
        """Stop what moves."""

    def read(self) -> dict[str, Any]:
        """Return the reading."""

    def describe(self) -> dict[str, Any]:
        """Return the data keys of the reading."""

    def read_configuration(self) -> dict[str, Any]:
        """Return the configuration."""

    def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the configuration."""


class Monochromator(CompleteDescriptions, PseudoPositioner):
    """Photon energy in eV.

    The energy follows from the Bragg angle and the lattice spacing, plus the offset that a foil gave:
    `calibrate`. A move turns the crystals (from below, where there is backlash), takes along what follows,
    waits for all to settle and verifies that the readback is where it was sent. Nothing moves when any part
    would refuse.

    Parameters
    ----------
    prefix : str
        In front of the names of the records.
    bragg : str
        Name of the Bragg axis' motor record after the prefix, in degrees.
    name : str
        Name of the device and of its readback key in eV.
    d_spacing_a : float
        Lattice spacing of the crystals at their working temperature, angstrom.
    limits_ev : tuple of float
        Lowest and highest energy.
    offset_ev : float
        What is added to the energy of the Bragg angle; from a foil.
    resolution : float
        Relative energy width (FWHM) of the crystals, for the record.
    tolerance_ev : float
        Largest difference between readback and target that counts as arrived.
    settle_s, settle_s_per_ev : float
        Waiting time after each move, and what is added to it per eV of the step.
    backlash_ev : float
        0 for none. Otherwise a move down in energy goes this much further, and comes up to its target from
        there.
    move_timeout_s : float
        Longest a move may take.
    followers : sequence of EnergyFollower
        Optics that go to each energy too; their readings become part of this one's.

    Examples
    --------
    >>> si111 = silicon_spacing_angstrom(1, 1, 1)
    >>> mono = Monochromator(  # doctest: +SKIP
    ...     "BL:", bragg="mono:theta", name="energy", d_spacing_a=si111, limits_ev=(5e3, 12e3)
    ... )
    """

    energy = Component(PseudoSingle, egu="eV", kind=Kind.hinted)
    bragg = FormattedComponent(EpicsAxis, "{self.prefix}{self._bragg_suffix}", kind=Kind.normal)
    offset_ev = Component(Parameter, value=0.0, units="eV", precision=3, kind=Kind.config)
    d_spacing_a = Component(Parameter, value=0.0, units="angstrom", precision=7, kind=Kind.config)
    resolution = Component(Parameter, value=0.0, precision=6, kind=Kind.config)
    tolerance_ev = Component(Parameter, value=0.0, units="eV", precision=3, kind=Kind.config)
    settle_s = Component(Parameter, value=0.0, units="s", precision=3, kind=Kind.config)
    settle_s_per_ev = Component(Parameter, value=0.0, units="s/eV", precision=5, kind=Kind.config)
    backlash_ev = Component(Parameter, value=0.0, units="eV", precision=2, kind=Kind.config)

    def __init__(
        self,
        prefix: str,
        *,
        bragg: str,
        name: str,
        d_spacing_a: float,
        limits_ev: tuple[float, float],
        offset_ev: float = 0.0,
        resolution: float = 1.3e-4,
        tolerance_ev: float = 0.05,
        settle_s: float = 0.05,
        settle_s_per_ev: float = 0.001,
        backlash_ev: float = 0.0,
        move_timeout_s: float = 300.0,
        followers: Sequence[EnergyFollower] = (),
        **kwargs: Any,
    ) -> None:
        low, high = limits_ev
        if not 0.0 < low < high:
            raise OutOfLimitsError(
                f"{name} needs limits in eV of which the lower comes first, not {limits_ev}"
            )
        if d_spacing_a <= 0.0 or min(tolerance_ev, settle_s, settle_s_per_ev, backlash_ev) < 0.0:
            raise OutOfLimitsError(
                f"{name} needs a lattice spacing above 0, and no negative tolerance, settling time or "
                "backlash"
            )
        check_range(f"settle_s of {name}", settle_s, (0.0, _LONGEST_SETTLE_S), "s")
        check_range(f"settle_s_per_ev of {name}", settle_s_per_ev, (0.0, 1.0), "s/eV")
        self._bragg_suffix = bragg
        # Not read from its signal: the Bragg axis may report its first position while the signals are being made.
        self._d_spacing_a = float(d_spacing_a)
        self._limits_ev = (float(low), float(high))
        self._followers = tuple(followers)
        self._move_timeout_s = move_timeout_s
        self._task = Task(self, self._halt)
        self._last_target_ev: float | None = None
        super().__init__(prefix, name=name, egu="eV", **kwargs)
        for parameter, value in (
            (self.offset_ev, offset_ev),
            (self.d_spacing_a, d_spacing_a),
            (self.resolution, resolution),
            (self.tolerance_ev, tolerance_ev),
            (self.settle_s, settle_s),
            (self.settle_s_per_ev, settle_s_per_ev),
            (self.backlash_ev, backlash_ev),
        ):
            parameter.put(float(value))
        self.offset_ev.subscribe(self._offset_changed, run=True)
        self.energy.readback.name = name
        self.energy.setpoint.name = f"{name}_setpoint"
        self.energy._limits = self._limits_ev
        # The energy is what a table or a plot is to show.
        self.bragg.user_readback.kind = Kind.normal
        # Far below any tolerance in energy: arrival is judged by the energy.
        self.bragg.tolerance = 1.0

    # -- energy and angle ------------------------------------------------------------------------------

    @pseudo_position_argument
    def forward(self, pseudo_pos: Any) -> Any:
        """Where the real axes have to be for an energy."""
        return self.RealPosition(bragg=self._angle_deg(pseudo_pos.energy))

    @real_position_argument
    def inverse(self, real_pos: Any) -> Any:
        """Energy at which the real axes are."""
        energy_ev = bragg_energy_ev(real_pos.bragg, self._d_spacing_a) + self.offset_ev.get()
        return self.PseudoPosition(energy=energy_ev)

    def _angle_deg(self, energy_ev: float) -> float:
        return bragg_angle_deg(energy_ev - self.offset_ev.get(), self._d_spacing_a)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest energy in eV."""
        return self._limits_ev

    @property
    def energy_ev(self) -> float:
        """Energy in eV as read back."""
        return float(self.position.energy)

    def locate(self) -> Location[float]:
        """Where the axis was sent and where it is, eV."""
        return Location(setpoint=float(self.energy.target), readback=self.energy_ev)

    def calibrate(self, measured_ev: float, nominal_ev: float) -> None:
        """Take over the energy calibration from a foil.

        Parameters
        ----------
        measured_ev : float
            Energy of the foil's first inflection on the present axis.
        nominal_ev : float
            Energy at which it has to be, for example 8333.0 for nickel.

        Raises
        ------
        OutOfLimitsError
            When either is not an energy within the limits.
        """
        measured = check_energy_ev(self.name, measured_ev, self._limits_ev)
        nominal = check_energy_ev(self.name, nominal_ev, self._limits_ev)
        self.offset_ev.put(self.offset_ev.get() + nominal - measured)

    def _offset_changed(self, **_: Any) -> None:
        self._last_target_ev = None
        if None not in self.real_position:
            self._update_position()

    # -- motion ----------------------------------------------------------------------------------------

    def check_value(self, value: Any) -> None:
        """Refuse an energy that any part of the monochromator or its followers cannot reach.

        Raises
        ------
        OutOfLimitsError
            With what refused; nothing has moved.
        """
        energy_ev = check_energy_ev(self.name, _single(value), self._limits_ev)
        try:
            self._check_parts(energy_ev)
        except OutOfLimitsError as error:
            raise OutOfLimitsError(f"{self.name} cannot go to {energy_ev:g} eV: {error}") from error

    def _check_parts(self, energy_ev: float) -> None:
        self.bragg.check_value(self._angle_deg(energy_ev))
        self.bragg.check_value(self._angle_deg(energy_ev - self.backlash_ev.get()))
        for follower in self._followers:
            follower.check_value(energy_ev)

    def set(self, value: Any, **_: Any) -> DeviceStatus:
        """Move to an energy in eV; the status is done when it is there, settled and verified.

        Raises
        ------
        OutOfLimitsError
            When any part would refuse; nothing has moved.
        """
        self._task.connections.watch()
        self.check_value(value)
        energy_ev = float(_single(value))

        def travel() -> None:
            self._move_parts(energy_ev)

        status = self._task.start(travel)
        self.energy._target = energy_ev
        return status

    def move(
        self, position: Any, wait: bool = True, timeout: float | None = None, moved_cb: Any = None
    ) -> DeviceStatus:
        """Move as `set` does, by default waiting for the end."""
        status = self.set(position)
        if moved_cb is not None:
            status.add_callback(lambda _: moved_cb(obj=self))
        if wait:
            status.wait(timeout)
        return status

    def stop(self, success: bool = False) -> None:
        """Stop everything that moves."""
        self._task.stop(success=success)
        self._halt(success)

    def _halt(self, success: bool = False) -> None:
        super().stop(success=success)
        for follower in self._followers:
            follower.stop(success=success)

    def _move_parts(self, energy_ev: float) -> None:
        step_ev = energy_ev - self.energy_ev
        tolerance_ev = self.tolerance_ev.get()
        already_there = energy_ev == self._last_target_ev and abs(step_ev) <= tolerance_ev
        self._last_target_ev = None
        followers = self._start_followers(energy_ev)
        if not already_there:
            backlash_ev = self.backlash_ev.get()
            if backlash_ev > 0.0 and step_ev < 0.0:
                self._turn_crystals(energy_ev - backlash_ev)
            self._turn_crystals(energy_ev)
        for follower in followers:
            follower.wait(self._move_timeout_s)
        if not already_there:
            self._task.pause(self.settle_s.get() + self.settle_s_per_ev.get() * abs(step_ev))
        miss_ev = self.energy_ev - energy_ev
        if abs(miss_ev) > tolerance_ev:
            raise NotArrivedError(
                f"{self.name} is at {self.energy_ev:.3f} eV, {miss_ev:+.3f} eV from {energy_ev:g} eV "
                "where it was sent; "
                f"more than {tolerance_ev:g} eV off, so check the Bragg axis {self.bragg.prefix}"
            )
        self._last_target_ev = energy_ev

    def _start_followers(self, energy_ev: float) -> list[DeviceStatus]:
        """Start what moves along with the crystals."""
        return [follower.set(energy_ev) for follower in self._followers]

    def _turn_crystals(self, energy_ev: float) -> None:
        self._task.pause(0.0)
        turning = self.bragg.set(self._angle_deg(energy_ev))
        # It may have been told to stop just before the crystals began to turn.
        self._task.pause(0.0)
        try:
            turning.wait(self._move_timeout_s)
        except TimeoutError as error:
            raise DeviceTimeoutError(
                f"{self.name} has not reached {energy_ev:g} eV within {self._move_timeout_s:g} s; it is "
                f"at {self.energy_ev:.3f} eV"
            ) from error
        self._task.pause(0.0)

    # -- documents -------------------------------------------------------------------------------------

    def read(self) -> dict[str, Any]:
        """Energy, Bragg angle, and what follows the energy."""
        return self._with_followers(super().read(), "read")

    def describe(self) -> dict[str, Any]:
        """Return the data keys of the reading."""
        described = super().describe()
        for key in (self.name, f"{self.name}_setpoint"):
            described[key].update(units="eV", precision=3)
        return self._with_followers(described, "describe")

    def read_configuration(self) -> dict[str, Any]:
        """Lattice spacing, offset, settling and the like."""
        return self._with_followers(super().read_configuration(), "read_configuration")

    def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the configuration."""
        return self._with_followers(super().describe_configuration(), "describe_configuration")

    def _with_followers(self, own: dict[str, Any], method: str) -> dict[str, Any]:
        merged = dict(own)
        for follower in self._followers:
            merged.update(getattr(follower, method)())
        return merged


class UndulatorMonochromator(Monochromator):
    """Monochromator whose undulator gap follows the energy.

    Parameters
    ----------
    gap : str
        Name of the gap's motor record after the prefix.
    gap_table : CalibrationTable
        Gap over the energy of the undulator's first harmonic.
    harmonic : int
        Harmonic in use, odd.
    gap_offset_ev : float
        How far the undulator is set above the monochromator, in eV of the harmonic in use.
    gap_tolerance : float
        Largest distance of the gap from its target that counts as arrived, in units of the axis.
    **kwargs
        As for `Monochromator`.
    """

    gap = FormattedComponent(EpicsAxis, "{self.prefix}{self._gap_suffix}", kind=Kind.normal)
    harmonic = Component(Parameter, value=1, kind=Kind.config)
    gap_offset_ev = Component(Parameter, value=0.0, units="eV", precision=1, kind=Kind.config)

    def __init__(
        self,
        prefix: str,
        *,
        gap: str,
        gap_table: CalibrationTable,
        harmonic: int = 1,
        gap_offset_ev: float = 0.0,
        gap_tolerance: float = 2e-3,
        **kwargs: Any,
    ) -> None:
        if harmonic < 1 or harmonic % 2 == 0:
            raise OutOfLimitsError(
                f"an undulator shines on axis in odd harmonics (1, 3, 5 ...), not in {harmonic}"
            )
        self._gap_suffix = gap
        self._gap_table = gap_table
        super().__init__(prefix, **kwargs)
        self.harmonic.put(int(harmonic))
        self.gap_offset_ev.put(float(gap_offset_ev))
        self.gap.user_readback.kind = Kind.normal
        self.gap.tolerance = gap_tolerance

    @pseudo_position_argument
    def forward(self, pseudo_pos: Any) -> Any:
        """Where Bragg axis and gap have to be for an energy."""
        return self.RealPosition(bragg=self._angle_deg(pseudo_pos.energy), gap=self.gap_at(pseudo_pos.energy))

    def gap_at(self, energy_ev: float) -> float:
        """Gap for an energy, in units of the axis.

        Raises
        ------
        OutOfLimitsError
            When the first harmonic would be outside the table.
        """
        return self._gap_table.at((energy_ev + self.gap_offset_ev.get()) / self.harmonic.get())

    def _check_parts(self, energy_ev: float) -> None:
        super()._check_parts(energy_ev)
        self.gap.check_value(self.gap_at(energy_ev))

    def _start_followers(self, energy_ev: float) -> list[DeviceStatus]:
        return [self.gap.set(self.gap_at(energy_ev)), *super()._start_followers(energy_ev)]


def _single(value: Any) -> Any:
    """Return the energy of a pseudo-position or of a number."""
    return value[0] if isinstance(value, tuple) else value
