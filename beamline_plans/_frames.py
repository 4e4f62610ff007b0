"""Plan stubs: move the instrument, take one frame, keep the beam safe."""

from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky import Msg
from bluesky.protocols import Triggerable
from bluesky.utils import MsgGenerator

from ._errors import FrameError
from ._instrument import Instrument
from ._label import FrameLabel, Shot

__all__ = ["FrameTaker", "left_safe"]

_STALE_ATTEMPTS = 3


class FrameTaker:
    """Takes the frames of one run.

    Parameters
    ----------
    instrument : Instrument
        The devices.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._label = FrameLabel()
        self._last_reading: Optional[dict[str, Any]] = None

    def visit(
        self, stream: str, energy_index: int, energy_ev: float, exposure_s: float, n_frames: int
    ) -> MsgGenerator[None]:
        """Go to one energy and take the frames of one stream there.

        Everything the frames depend on is set after the checkpoint, so that a rewind, after which a person
        may have moved anything, finds the instrument as the label says.
        """
        ins = self._instrument
        position = {"dark": "in", "flat": "out", "primary": "in"}[stream]
        beam = "closed" if stream == "dark" else "open"
        yield from bps.checkpoint()
        yield from bps.mv(ins.energy, energy_ev, ins.camera.exposure_s, exposure_s, ins.stage, position)
        # The beam is let through only when everything stands.
        yield from bps.mv(ins.shutter, beam)
        for repeat in range(n_frames):
            yield from self._frame(Shot(stream, energy_index, energy_ev, exposure_s, repeat))

    def _frame(self, shot: Shot) -> MsgGenerator[None]:
        for _ in range(_STALE_ATTEMPTS):
            if (yield from self._attempt(shot)):
                return
        raise FrameError(
            f"{self._instrument.camera.name} gave the same frame {_STALE_ATTEMPTS} times in a row at "
            f"{shot.energy_setpoint_ev:g} eV; restart the camera, then take the missing energies."
        )

    def _attempt(self, shot: Shot) -> MsgGenerator[bool]:
        """Take one frame; False, and nothing saved, when the camera gave the previous one again."""
        ins = self._instrument
        yield from bps.abs_set(self._label, shot, wait=True)
        yield from _trigger(ins.detectors)
        yield from bps.create(name=shot.stream)
        reading = yield from bps.read(ins.camera)
        for device in (self._label, ins.energy, ins.i0):
            if device is not None:
                yield from bps.read(device)
        if _is_same_frame(reading, self._last_reading):
            yield from bps.drop()
            return False
        yield from bps.save()
        self._last_reading = reading
        return True


def _trigger(devices: list[Any]) -> MsgGenerator[None]:
    group = "frame"
    for device in devices:
        if isinstance(device, Triggerable):
            yield from bps.trigger(device, group=group)
    yield from bps.wait(group=group)


def _is_same_frame(reading: Any, last: Any) -> bool:
    """Say whether a camera that was triggered still shows the frame of before.

    No new frame arrived when no key of the reading has a later time than it had.
    """
    if not reading or not last or reading.keys() != last.keys():
        return False
    return all(reading[key]["timestamp"] <= last[key]["timestamp"] for key in reading)


def left_safe(instrument: Instrument, plan: MsgGenerator[Any]) -> MsgGenerator[Any]:
    """Run `plan`; whatever becomes of it, close the shutter, bring the sample in, restore the rest."""
    start = yield from _position(instrument.energy)
    filters = None if instrument.filters is None else (yield from _position(instrument.filters))

    def close() -> MsgGenerator[None]:
        yield from _forget_past()
        yield from bps.mv(instrument.shutter, "closed")

    def bring_back() -> MsgGenerator[None]:
        yield from bps.mv(instrument.stage, "in")

    def restore() -> MsgGenerator[None]:
        targets = [(instrument.energy, start), (instrument.filters, filters)]
        known = [item for device, position in targets if position is not None for item in (device, position)]
        if known:
            yield from bps.mv(*known)

    # Nested, so that one device that fails does not keep the others from being left safe.
    safe = bpp.finalize_wrapper(plan, close)
    safe = bpp.finalize_wrapper(safe, bring_back)
    return (yield from bpp.finalize_wrapper(safe, restore))


def _position(device: Any) -> MsgGenerator[Any]:
    """Read where a device is; None where nothing answers, as in a simulation of the plan."""
    # A rewind during an asynchronous read loses its answer, so ask once more.
    reading = (yield from bps.read(device)) or (yield from bps.read(device))
    if not reading:
        return None
    fields = getattr(device, "hints", {}).get("fields") or list(reading)
    return reading[fields[0]]["value"]


def _forget_past() -> MsgGenerator[None]:
    """Let a rewind during the cleanup repeat the cleanup, not the frame that failed before it.

    A checkpoint would do, were it not forbidden between the create and the save of an interrupted frame.
    """
    if (yield Msg("rewindable", None, None)):
        yield Msg("rewindable", None, False)
        yield Msg("rewindable", None, True)
