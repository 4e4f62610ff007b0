"""The contract in the start document: what a run says about its own energy scan."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from callbacks.errors import DocumentError
from edge_fitting import EDGES, EdgeFittingError, ReferenceSeries, edge_name

from ._read_only import read_only

# What this software reads of the versions of scan_contract.
SCHEMA_VERSIONS = (1, 2)
MOST_ENERGIES = 20_000


@dataclass(frozen=True)
class ScanContract:
    """The ``xanes`` part of a start document, checked.

    Attributes
    ----------
    raw_uid, scan_group : str
        Uid of the run, and of the measurement it belongs to.
    edge : str
        Key of `edge_fitting.EDGES`.
    energies_ev, exposure_s : tuple of float
        Planned energies and exposures in the order of acquisition.
    repeats : int
        Frames per energy.
    n_flats : int
        Open-beam frames per energy, or in all.
    pixel_size_nm : float or None
        Pixel size at the sample.
    references : ReferenceSeries or None
        Reference spectra with known state of charge.
    devices : mapping
        Names of camera, energy axis and I0 (None without).
    xanes, start : mapping
        The documents themselves.
    """

    raw_uid: str
    scan_group: str
    edge: str
    energies_ev: tuple[float, ...]
    exposure_s: tuple[float, ...]
    repeats: int
    n_flats: int
    pixel_size_nm: float | None
    references: ReferenceSeries | None
    devices: Mapping[str, str | None]
    xanes: Mapping[str, Any] = field(repr=False)
    start: Mapping[str, Any] = field(repr=False)

    @property
    def is_jump_map(self) -> bool:
        """Whether energies on both sides of the edge are too few for its position: a map of the metal."""
        energies, edge_ev = set(self.energies_ev), EDGES[self.edge].energy_ev
        return (
            self.xanes.get("adaptive") is None
            and len(energies) < 4
            and min(energies) < edge_ev < max(energies)
        )

    @property
    def frames_expected(self) -> int:
        """Number of sample frames of the whole scan, with those of the runs it resumes, or at most so many."""
        if self.xanes.get("max_frames") is not None:
            return int(self.xanes["max_frames"])
        if self.resumes is not None:
            return len(self.energies_ev) * self.repeats
        return len(self.taken_indices) * self.repeats

    @property
    def taken_indices(self) -> tuple[int, ...]:
        """Indices of the energies that this run takes sample frames at: all, or what an interrupted run lacks."""
        taken = (self.xanes.get("take") or {}).get("primary")
        return tuple(range(len(self.energies_ev)) if taken is None else taken)

    @property
    def resumes(self) -> str | None:
        """Uid of the interrupted run that this one goes on with."""
        uid = self.xanes.get("resumes")
        return None if uid is None else str(uid)

    @property
    def is_standard(self) -> bool:
        """Whether the sample is a bulk standard of known state of charge."""
        return "standard" in self.start


def is_energy_scan(start: Mapping[str, Any]) -> bool:
    """Return whether a start document opens an energy scan with a camera; others may write anything under its key."""
    xanes = start.get("xanes") if isinstance(start, Mapping) else None
    return isinstance(xanes, Mapping) and "schema_version" in xanes and xanes.get("technique") != "xas"


def read_contract(start: Mapping[str, Any]) -> ScanContract:
    """Read the contract from a start document.

    Raises
    ------
    DocumentError
        Where a part is missing, of another schema version, not of its type, or names an unknown edge.
    """
    try:
        return _read_contract(start)
    except DocumentError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, EdgeFittingError) as error:
        raise DocumentError(
            f"the xanes part of the start document of run {str(start.get('uid'))[:8]} cannot be read "
            f"({type(error).__name__}: {error}); the run is stored and not analysed"
        ) from error


def _read_contract(start: Mapping[str, Any]) -> ScanContract:
    start = read_only(start)  # every update of the run hands it on
    uid = str(start["uid"])
    xanes = start["xanes"]
    version = xanes.get("schema_version")
    if version not in SCHEMA_VERSIONS:
        raise DocumentError(
            f"run {uid[:8]} follows version {version!r} of the xanes contract and this software "
            f"version {' and '.join(map(str, SCHEMA_VERSIONS))}; analyse it with the release that recorded it"
        )
    missing = [key for key in ("edge", "energies_ev", "exposure_s", "devices") if key not in xanes]
    if missing:
        raise DocumentError(f"the start document of run {uid[:8]} lacks xanes.{', xanes.'.join(missing)}")
    try:
        edge = edge_name(xanes["edge"])
    except EdgeFittingError as error:
        raise DocumentError(f"run {uid[:8]} cannot be analysed: {error}") from error
    energies = xanes["energies_ev"]
    if len(energies) > MOST_ENERGIES:
        # The fit keeps a few numbers per energy and position along the references.
        raise DocumentError(
            f"run {uid[:8]} plans {len(energies)} energies, and maps of up to {MOST_ENERGIES} can be made"
        )
    references = xanes.get("references")
    group = start.get("scan_group", uid)
    contract = ScanContract(
        raw_uid=uid,
        scan_group=group if isinstance(group, str) else uid,
        edge=edge,
        energies_ev=tuple(float(value) for value in energies),
        exposure_s=tuple(float(value) for value in xanes["exposure_s"]),
        repeats=int(xanes.get("repeats", 1)),
        n_flats=int(xanes.get("n_flats", 1)),
        pixel_size_nm=None if xanes.get("pixel_size_nm") is None else float(xanes["pixel_size_nm"]),
        references=None if references is None else ReferenceSeries.from_dict(references),
        devices=dict(xanes["devices"]),
        xanes=xanes,
        start=start,
    )
    _check(contract)
    return contract


def _check(contract: ScanContract) -> None:
    """Refuse a contract of the right types that says what cannot be.

    Raises
    ------
    ValueError, TypeError
        What is wrong.
    """
    n_energies = len(contract.energies_ev)
    if not n_energies or not all(math.isfinite(value) and value > 0 for value in contract.energies_ev):
        raise ValueError("energies_ev are not positive numbers")
    if len(contract.exposure_s) != n_energies or not all(map(math.isfinite, contract.exposure_s)):
        raise ValueError(f"there are {len(contract.exposure_s)} exposures for {n_energies} energies")
    if contract.repeats < 1 or contract.n_flats < 0:
        raise ValueError("repeats or n_flats are too small")
    if not all(isinstance(name, str | None) for name in contract.devices.values()):
        raise TypeError("the names of the devices are no texts")
    if not all(type(index) is int for index in contract.taken_indices) or contract.frames_expected < 0:
        raise TypeError("the energies to take are no numbers of energies")
