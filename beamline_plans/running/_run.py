"""One run: the frames of one edge, under one start document."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from scan_contract import ALL_ENERGIES, CONTRACT_KEY

from ._frames import FrameTaker
from ._instrument import Instrument
from ._request import ScanRequest, check_provenance

__all__ = ["one_run", "take_frames"]


def one_run(
    instrument: Instrument,
    request: ScanRequest,
    md: Mapping[str, Any],
    *,
    entries: Optional[Mapping[str, Any]] = None,
    take: Optional[Callable[[FrameTaker, str], MsgGenerator[None]]] = None,
    taker: type[FrameTaker] = FrameTaker,
) -> MsgGenerator[str]:
    """Stage the detectors and take one edge as one run, leaving the instrument as it was last.

    Parameters
    ----------
    instrument : Instrument
        The devices.
    request : ScanRequest
        What to measure.
    md : mapping
        Metadata of the start document; who and what in it goes into the contract as well.
    entries : mapping, optional
        Further entries of the contract.
    take : callable, optional
        Plan that takes the frames, given a `FrameTaker` and the uid of the run; by default all frames of the
        request in order.
    taker : type of FrameTaker
        What takes a frame.

    Returns
    -------
    str
        The uid of the run.
    """
    start = {
        "detectors": [device.name for device in instrument.detectors],
        "motors": [device.name for device in (instrument.energy, instrument.rotation) if device is not None],
        "num_points": request.n_events,
        "hints": {"dimensions": [([_energy_key(instrument)], "primary")]},
        **md,
        CONTRACT_KEY: request.contract(instrument, **{**check_provenance(md), **(entries or {})}).to_dict(),
    }

    def inside() -> MsgGenerator[str]:
        uid: str = yield from bps.open_run(start)

        def frames() -> MsgGenerator[None]:
            if request.filter_position is not None:
                yield from bps.mv(instrument.filters, request.filter_position)
            frames_of = taker(instrument, request.i0_min)
            yield from frames_of.begin()
            yield from (take_frames(frames_of, request) if take is None else take(frames_of, uid))
            yield from bps.checkpoint()

        def failed(error: Exception) -> MsgGenerator[None]:
            # The exceptions by which a RunEngine ends a plan say themselves how it ended.
            yield from bps.close_run(exit_status=getattr(error, "exit_status", "fail"), reason=str(error))

        yield from bpp.contingency_wrapper(frames(), except_plan=failed, else_plan=bps.close_run)
        return uid

    finished: str = yield from bpp.stage_wrapper(inside(), instrument.detectors)
    return finished


def take_frames(
    taker: FrameTaker, request: ScanRequest, wanted: Optional[Mapping[str, Collection[int]]] = None
) -> MsgGenerator[None]:
    """Take the darks, flats and frames of one run in the order the request asks for.

    Parameters
    ----------
    taker : FrameTaker
        Takes them.
    request : ScanRequest
        What to measure.
    wanted : mapping, optional
        The energy indices to take per stream, "flat" and "primary"; by default all. Darks, and flats that serve all
        energies, are taken in any case.
    """
    grid = request.grid
    for exposure_s in dict.fromkeys(grid.exposure_s):
        yield from taker.take("dark", ALL_ENERGIES, grid.energies_ev[0], exposure_s, request.n_darks)
    if request.flat_order == "before_all":
        yield from taker.take("flat", ALL_ENERGIES, grid.energies_ev[0], grid.exposure_s[0], request.n_flats)
    block = {"per_energy": 1, "every_n": request.flat_every}.get(request.flat_order, len(grid))
    visits = list(enumerate(grid))
    for first in range(0, len(visits), block):
        streams = [("primary", request.repeats), ("flat", request.n_flats)]
        if request.flat_order in ("none", "before_all"):
            streams.pop()
        elif request.flat_order == "per_energy" and first % 2 == 0:
            # Alternating which comes first halves the number of times the sample travels.
            streams.reverse()
        for stream, n_frames in streams:
            for index, (energy_ev, exposure_s) in visits[first : first + block]:
                if wanted is not None and index not in wanted[stream]:
                    continue
                yield from taker.take(stream, index, energy_ev, exposure_s, n_frames)


def _energy_key(instrument: Instrument) -> str:
    fields = instrument.energy.hints.get("fields")
    return fields[0] if fields else instrument.energy.name
