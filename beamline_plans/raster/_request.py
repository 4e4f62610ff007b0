"""What a raster is asked to take, checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from beamline_devices.protocols import LinePath
from beamline_plans.errors import PlanError
from beamline_plans.running import check_provenance, check_roles, check_value
from scan_contract import (
    COLUMN_AXIS,
    CONTRACT_KEY,
    ROW_AXIS,
    ContractError,
    XRFContract,
    make_contract,
)

__all__ = ["RasterDevices", "RasterRequest", "positions"]

_MOST_POINTS = 1_000_000
# Positions of a line that is flown are even to this part of their step.
_EVEN = 1e-3


def positions(given: Any, name: str) -> tuple[float, ...]:
    """Return positions in um from a list of them, or from start, stop and step.

    Raises
    ------
    PlanError
        They are neither, not finite, or too many.
    """
    if isinstance(given, Mapping):
        try:
            start, stop, step = (float(given[key]) for key in ("start", "stop", "step"))
        except (KeyError, TypeError, ValueError):
            raise PlanError(
                f'{name} needs "start", "stop" and "step" in um, or a list of positions.'
            ) from None
        if not (math.isfinite(start) and math.isfinite(stop) and step > 0 and stop >= start):
            raise PlanError(f"{name} must go from start up to stop in steps above 0, not {dict(given)}.")
        n = math.floor((stop - start) / step + 1e-9) + 1
        if n > _MOST_POINTS:
            raise PlanError(f"{name} would have {n} positions; take a longer step.")
        return tuple(round(start + step * k, 9) for k in range(n))
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or not given:
        raise PlanError(f'{name} must be a list of positions in um, or "start", "stop" and "step".')
    try:
        found = tuple(float(one) for one in given)
    except (TypeError, ValueError):
        raise PlanError(f"{name} holds a position that is no number: {list(given)}.") from None
    if not all(math.isfinite(one) for one in found):
        raise PlanError(f"{name} holds a position that is not finite.")
    return found


@dataclass(frozen=True)
class RasterDevices:
    """Detector, energy, both axes of the stage and, if there are any, I0 and shutter.

    Raises
    ------
    PlanError
        If one lacks something that a raster needs of it.
    """

    mca: Any
    energy: Any
    row_axis: Any
    column_axis: Any
    i0: Optional[Any] = None
    shutter: Optional[Any] = None

    def __post_init__(self) -> None:
        check_roles(
            (
                ("mca", self.mca, ("name", "read", "describe", "trigger", "exposure_s")),
                ("energy", self.energy, ("name", "read", "describe", "set", "hints")),
                ("row_axis", self.row_axis, ("name", "read", "describe", "set")),
                ("column_axis", self.column_axis, ("name", "read", "describe", "set")),
                ("i0", self.i0, ("name", "read", "describe")),
                ("shutter", self.shutter, ("name", "set")),
            )
        )

    def names(self, line: bool) -> dict[str, Optional[str]]:
        """Names by role, of what each event reads."""
        own = {"energy": self.energy, "mca": self.mca, "row": self.row_axis}
        if not line:
            own |= {"column": self.column_axis}
        found: dict[str, Optional[str]] = {role: device.name for role, device in own.items()}
        return {**found, "i0": None if self.i0 is None or line else self.i0.name}


@dataclass(frozen=True)
class RasterRequest:
    """A raster, or one at each of several energies.

    Parameters
    ----------
    rows_um, columns_um : tuple of float
        Positions.
    energies_ev : tuple of float
        Energies, the outermost loop.
    exposure_s : float
        Time of a point.
    line : bool
        Whether lines are flown.
    edge : str
        The edge that the energies are at or above.
    entries : mapping
        Further entries of the contract.
    """

    rows_um: tuple[float, ...]
    columns_um: tuple[float, ...]
    energies_ev: tuple[float, ...]
    exposure_s: float
    line: bool
    edge: str
    entries: Mapping[str, Any] = field(default_factory=dict)

    def path(self, row: int) -> LinePath:
        """Return how a line is flown."""
        return LinePath(row, self.columns_um[0], self.columns_um[-1], len(self.columns_um), self.exposure_s)

    def check(self, devices: RasterDevices) -> None:
        """Refuse what makes no sense, and moves that a device would refuse.

        Raises
        ------
        PlanError
            With the reason.
        """
        if not (isinstance(self.exposure_s, (int, float)) and 0 < self.exposure_s < math.inf):
            raise PlanError(f"exposure_s must be a time above 0 s, not {self.exposure_s!r}.")
        n = len(self.rows_um) * len(self.columns_um) * len(self.energies_ev)
        if n > _MOST_POINTS:
            raise PlanError(f"The raster has {n} points; take fewer, or longer steps.")
        for energy_ev in sorted(set(self.energies_ev)):
            check_value(devices.energy, energy_ev)
        for axis, places in ((devices.row_axis, self.rows_um), (devices.column_axis, self.columns_um)):
            for place in (min(places), max(places)):
                check_value(axis, place)
        if devices.shutter is not None:
            for position in ("open", "closed"):
                check_value(devices.shutter, position)
        if self.line:
            self._check_line(devices)

    def _check_line(self, devices: RasterDevices) -> None:
        if not hasattr(devices.mca, "prepare"):
            raise PlanError(
                f"{devices.mca.name} cannot fly lines (it has no prepare); give a detector that does, or fly=False."
            )
        if len(self.columns_um) > 1:
            step = (self.columns_um[-1] - self.columns_um[0]) / (len(self.columns_um) - 1)
            even = (self.columns_um[0] + step * k for k in range(len(self.columns_um)))
            if any(abs(a - b) > _EVEN * abs(step) for a, b in zip(even, self.columns_um, strict=True)):
                raise PlanError("A line is flown evenly: give columns_um in even steps, or fly=False.")
        check_value(devices.mca, self.path(0))

    def start(
        self, devices: RasterDevices, md: Mapping[str, Any], take: Optional[Mapping[str, Any]] = None
    ) -> dict[str, Any]:
        """Return the start document.

        Raises
        ------
        PlanError
            If no contract can say it.
        """
        try:
            contract = make_contract(
                XRFContract,
                edge=self.edge,
                energies_ev=self.energies_ev,
                exposure_s=(float(self.exposure_s),) * len(self.energies_ev),
                devices=devices.names(self.line),
                axes={ROW_AXIS: self.rows_um, COLUMN_AXIS: self.columns_um},
                line=self.line,
                pixel_size_nm=self._pixel_size_nm(),
                **self.entries,
                **(take or {}),
                **check_provenance(md),
            )
        except ContractError as error:
            raise PlanError(f"The scan cannot be described: {error}.") from error
        axes = (devices.row_axis, devices.column_axis)
        return {
            "detectors": [devices.mca.name, *([] if devices.i0 is None or self.line else [devices.i0.name])],
            "motors": [devices.energy.name, *(axis.name for axis in axes)],
            "num_points": contract.readings_expected,
            "hints": {"dimensions": [([*devices.energy.hints.get("fields", [])[:1]], "primary")]},
            **md,
            CONTRACT_KEY: contract.to_dict(),
        }

    def _pixel_size_nm(self) -> Optional[float]:
        steps = [abs(places[1] - places[0]) for places in (self.rows_um, self.columns_um) if len(places) > 1]
        return 1000.0 * steps[-1] if steps and steps[-1] > 0 and max(steps) < 1.001 * min(steps) else None
