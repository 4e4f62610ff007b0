"""What of a run or a recording is analysed: energies to leave out, darks to do without, folders that moved."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from event_model import unpack_event_page

from nimco.errors import NimcoError
from scan_contract import CONTRACT_KEY, LABEL_DEVICE, ContractError, FullFieldContract, read_contract

_LOG = logging.getLogger("nimco")
_KEV_BELOW = 100.0
_ONE_ENERGY_EV = 0.5  # how near a number must be where a scan has one energy only
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_RANGE = re.compile(rf"(frame:)?({_NUMBER})(?:\s*(?:-|:|\.\.)\s*({_NUMBER}))?")
_MOST_NAMED = 200

Consumer = Callable[[str, dict[str, Any]], object]


class LeaveOut:
    """Energies or frames that are not to be analysed, as given on the command line.

    Parameters
    ----------
    texts : sequence of str
        Each one or more of ``8347``, ``8340-8343`` (eV, or keV by their size) and ``frame:12``, ``frame:12-15``
        (numbers of energies in the order taken, from 0), joined by commas.

    Raises
    ------
    NimcoError
        If a text is none of these.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._wanted: list[tuple[str, bool, float, float]] = []
        for text in texts:
            for part in filter(None, (part.strip() for part in re.split(r"[,;]", text))):
                found = _RANGE.fullmatch(part.removesuffix("eV").strip())
                if found is None:
                    raise NimcoError(
                        f"--leave-out {part}: write an energy (8347), a range (8340-8343) or numbers of frames "
                        "(frame:12, frame:12-15)."
                    )
                low = float(found[2])
                high = low if found[3] is None else float(found[3])
                self._wanted.append((part, found[1] is not None, min(low, high), max(low, high)))

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def indices(self, energies_ev: Iterable[float]) -> list[int]:
        """Return the indices of the energies of a scan that are meant.

        A single energy means the nearest one within half a step, with all its repeats.

        Raises
        ------
        NimcoError
            If one of the texts means no energy, or all of them mean every energy.
        """
        energies = np.asarray(list(energies_ev), dtype=float)
        meant: set[int] = set()
        for part, is_number, low, high in self._wanted:
            if is_number:
                found = [index for index in range(energies.size) if low <= index <= high]
            else:
                factor = 1000.0 if high < _KEV_BELOW else 1.0
                found = _near(energies, low * factor, high * factor)
            if not found:
                named = ", ".join(f"{energy:g}" for energy in energies[:_MOST_NAMED])
                raise NimcoError(
                    f"--leave-out {part}: there is no such energy among those of the scan: {named} eV."
                )
            meant.update(found)
        if len(meant) == energies.size and meant:
            raise NimcoError("--leave-out leaves nothing to analyse; leave out less.")
        return sorted(meant)


def _near(energies: np.ndarray, low: float, high: float) -> list[int]:
    if low < high:
        return np.flatnonzero((energies >= low - 1e-6) & (energies <= high + 1e-6)).tolist()
    distinct = np.unique(energies)
    nearest = int(np.argmin(np.abs(distinct - low)))
    steps = np.diff(distinct)[max(nearest - 1, 0) : nearest + 1]
    reach = float(steps.min()) / 2 if steps.size else _ONE_ENERGY_EV
    if abs(distinct[nearest] - low) > reach + 1e-6:
        return []
    return np.flatnonzero(energies == distinct[nearest]).tolist()


class SelectedDocuments:
    """Passes on the documents of energy scans without what is left out.

    The contract in the start document says what is left out: fewer energies in ``take``, the energies in
    ``left_out_ev``, and no darks.

    Parameters
    ----------
    consumer : callable
        Takes the documents.
    leave_out : LeaveOut
        Energies whose frames and flats are left out.
    no_dark : bool
        Whether dark frames are left out.
    """

    def __init__(self, consumer: Consumer, leave_out: LeaveOut, *, no_dark: bool) -> None:
        self._consumer = consumer
        self._leave_out = leave_out
        self._no_dark = no_dark
        self._left_out: dict[str, set[int]] = {}
        self._streams: dict[str, tuple[str, str]] = {}

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document."""
        if name == "event_page":
            for event in unpack_event_page(cast(Any, doc)):
                self("event", cast(dict[str, Any], event))
            return
        if name == "start":
            doc = self._start(doc)
        elif name == "descriptor":
            self._streams[doc["uid"]] = (doc["run_start"], doc.get("name", "primary"))
        elif name == "event" and self._is_left_out(doc):
            return
        self._consumer(name, doc)
        if name == "stop":
            run = doc["run_start"]
            self._left_out.pop(run, None)
            self._streams = {uid: held for uid, held in self._streams.items() if held[0] != run}

    def _start(self, doc: dict[str, Any]) -> dict[str, Any]:
        try:
            scan = read_contract(doc).scan
        except ContractError as error:
            _LOG.debug("nothing is left out of a run: %s", error)
            return doc
        changes: dict[str, Any] = {}
        if self._no_dark and isinstance(scan, FullFieldContract):
            changes["n_darks"] = 0
        try:
            left_out = self._leave_out.indices(scan.energies_ev)
        except NimcoError as error:
            _LOG.warning("run %s is analysed whole: %s", doc["uid"][:8], error)
            left_out = []
        self._left_out[doc["uid"]] = set(left_out)
        if left_out:
            every = range(len(scan.energies_ev))
            taken = {
                "primary": scan.taken_indices,
                "flat": every if scan.take.flat is None else scan.take.flat,
            }
            changes["take"] = {
                stream: [index for index in indices if index not in left_out]
                for stream, indices in taken.items()
            }
            changes["left_out_ev"] = [scan.energies_ev[index] for index in left_out]
        if not changes:
            return doc
        return {**doc, CONTRACT_KEY: type(scan).model_validate({**scan.to_dict(), **changes}).to_dict()}

    def _is_left_out(self, event: dict[str, Any]) -> bool:
        run, stream = self._streams.get(event["descriptor"], ("", ""))
        if run not in self._left_out:
            return False
        if stream == "dark":
            return self._no_dark
        return event["data"].get(f"{LABEL_DEVICE}_energy_index") in self._left_out[run]


def parse_roots(texts: Sequence[str]) -> dict[str, Path]:
    """Split ``OLD=NEW`` as given on the command line.

    Raises
    ------
    NimcoError
        If a text is not of this form, or the new folder is not there.
    """
    roots = {}
    for text in texts:
        old, equals, new = text.rpartition("=")
        if not equals or not old.strip() or not new.strip():
            raise NimcoError(
                f"--root {text}: write OLD=NEW, for example --root 'C:\\data=/mnt/beamline' or --root /old=/new."
            )
        folder = Path(new.strip()).expanduser()
        if not folder.is_dir():
            raise NimcoError(f"--root {text}: there is no folder {folder} here; check the path.")
        roots[old.strip()] = folder
    return roots
