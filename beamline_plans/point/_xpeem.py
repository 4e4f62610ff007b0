"""Energy stacks of emitted electrons."""

import uuid
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import soft_edge_named
from beamline_plans.running import (
    FrameLabel,
    check_provenance,
    check_roles,
    check_value,
    restore_wrapper,
)
from scan_contract import ALL_ENERGIES, CONTRACT_KEY, ContractError, Shot, XpeemContract, make_contract

from ._soft_xas import checked_soft_grid
from ._xas import given_channels, read_point

__all__ = ["xpeem_scan"]


def xpeem_scan(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    *,
    edge: str = "Ni_L3",
    grid: Any = None,
    sample: Optional[Movable] = None,
    i0: Optional[Readable] = None,
    n_darks: int = 5,
    n_flats: int = 10,
    repeats: int = 1,
    components: Optional[list] = None,
    pixel_size_nm: Optional[float] = None,
    probing_nm: Optional[float] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[str]:
    """Take frames of emitted electrons at the energies of a soft edge.

    Darks and flats come first. However the scan ends, the shutter is closed, the sample brought in, and the energy
    restored.

    Parameters
    ----------
    camera : FrameDetector
        Camera behind the channel plate.
    energy : EnergyAxis
        Photon energy in eV.
    shutter : Shutter
        Beam shutter.
    edge : str
        "Ni_L3", "Co_L3", "Mn_L3" (each for L3 and L2) or "O_K".
    grid : EnergyGrid or dict
        Energies and exposures; by default the preset of the edge.
    sample : SampleStage
        Takes a plain surface into the field for flats, at "out".
    i0 : PointDetector
        Incident intensity: the drain current of a mesh.
    n_darks, n_flats : int
        Frames without beam, and of the plain surface.
    repeats : int
        Frames per energy.
    components : list
        Normalised spectra of known states: name, energy_ev, normalized_mu and valence of each.
    pixel_size_nm : float
        Pixel size at the sample.
    probing_nm : float
        Depth that the electrons come from.
    md : dict
        Metadata of the run, who and what among them as for `xanes_scan`.

    Returns
    -------
    str
        The uid of the run.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    chosen = soft_edge_named(edge)
    planned = checked_soft_grid(grid, chosen)
    if n_flats and sample is None:
        raise PlanError(
            "Flats need the plain surface: give sample, which takes it into the field, or n_flats=0."
        )
    if min(n_darks, n_flats) < 0 or repeats < 1:
        raise PlanError(f"Frames are counted from 0, repeats from 1: not {n_darks}, {n_flats} and {repeats}.")
    channels = given_channels(camera=camera, i0=i0)
    check_roles(
        (
            ("energy", energy, ("name", "read", "describe", "set", "hints")),
            ("camera", camera, ("name", "read", "describe", "trigger", "exposure_s")),
            ("shutter", shutter, ("name", "set")),
        )
    )
    for energy_ev in sorted(set(planned.energies_ev)):
        check_value(energy, energy_ev)
    for device, positions in ((shutter, ("open", "closed")), (sample, ("in", "out"))):
        for position in positions if device is not None else ():
            check_value(device, position)
    run_md = {"plan_name": "xpeem_scan", "scan_group": str(uuid.uuid4()), **(md or {})}
    try:
        contract = make_contract(
            XpeemContract,
            edge=chosen.name,
            **planned.to_dict(),
            repeats=repeats,
            channels={role: device.name for role, device in channels.items()},
            devices={"energy": energy.name, **{role: device.name for role, device in channels.items()}},  # type: ignore[attr-defined]
            components=tuple(components or ()),
            pixel_size_nm=pixel_size_nm,
            probing_nm=probing_nm,
            n_darks=n_darks,
            n_flats=n_flats,
            **check_provenance(run_md),
        )
    except ContractError as error:
        raise PlanError(f"The scan cannot be described: {error}.") from error
    start = {
        "detectors": [device.name for device in channels.values()],
        "motors": [energy.name],  # type: ignore[attr-defined]
        "num_points": contract.events_expected,
        "hints": {},
        **run_md,
        CONTRACT_KEY: contract.to_dict(),
    }
    detectors, label = list(channels.values()), FrameLabel()
    timed = [device.exposure_s for device in detectors if hasattr(device, "exposure_s")]
    longest_s = max(planned.exposure_s)

    def frames(
        stream: str, index: int, energy_ev: float, exposure_s: float, count: int
    ) -> MsgGenerator[None]:
        for repeat in range(count):
            yield from bps.checkpoint()
            yield from bps.mv(shutter, "closed" if stream == "dark" else "open")
            if sample is not None:
                yield from bps.mv(sample, "out" if stream == "flat" else "in")
            for axis in timed:
                yield from bps.mv(axis, exposure_s)
            yield from read_point(
                energy, detectors, label, Shot(stream, index, energy_ev, exposure_s, repeat)
            )

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator(md=start)
    def inside() -> MsgGenerator[None]:
        first_ev = planned.energies_ev[0]
        yield from bps.checkpoint()
        yield from bps.mv(energy, first_ev)
        yield from frames("dark", ALL_ENERGIES, first_ev, longest_s, n_darks)
        yield from frames("flat", ALL_ENERGIES, first_ev, longest_s, n_flats)
        for index, (energy_ev, exposure_s) in enumerate(planned):
            yield from bps.checkpoint()
            yield from bps.mv(energy, energy_ev)
            yield from frames("primary", index, energy_ev, exposure_s, repeats)
        yield from bps.checkpoint()

    safe = restore_wrapper(energy, inside(), shutter)
    if sample is not None:
        safe = bpp.finalize_wrapper(safe, lambda: bps.mv(sample, "in"))
    uid: str = yield from safe
    return uid
