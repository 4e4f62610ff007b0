"""Durations learnt from the scans of a data directory, kept in a small file beside the data."""

import json
import logging
from pathlib import Path
from typing import Any

from beamline_plans import PlanError, TimeModel, learn_times
from callbacks import DocumentWorker
from nimco.errors import NimcoError
from scan_contract import LABEL_DEVICE, ContractError, is_energy_scan, read_contract

__all__ = ["LearnedTimes", "read_times"]

_LOG = logging.getLogger("nimco")
_NAME = "learned-times.json"
# Documents without their images; a run of many thousand frames is more than enough to learn from.
_EVENTS_KEPT = 20_000


def read_times(data_dir: Path) -> TimeModel | None:
    """Return the durations learnt so far in a data directory; None where there are none.

    Raises
    ------
    NimcoError
        If the file is there but cannot be understood.
    """
    path = data_dir / _NAME
    if not path.exists():
        return None
    try:
        return TimeModel.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise NimcoError(
            f"The learnt durations in {path} cannot be read ({error}); delete the file."
        ) from error


class LearnedTimes(DocumentWorker):
    """Consumer of documents that keeps what each finished scan taught about durations, on a thread of its own.

    Parameters
    ----------
    data_dir : Path
        Where the file is kept.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._documents: list[tuple[str, dict[str, Any]]] = []
        super().__init__("durations")

    def _handle(self, name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            self._documents = [(name, {"uid": doc["uid"]})] if _has_camera(doc) else []
        elif self._documents and name == "descriptor":
            self._documents.append((name, {"uid": doc["uid"], "name": doc.get("name", "primary")}))
        elif self._documents and name == "event" and len(self._documents) < _EVENTS_KEPT:
            words = {key: value for key, value in doc["data"].items() if key.startswith(f"{LABEL_DEVICE}_")}
            if words:
                event = {"descriptor": doc["descriptor"], "time": doc["time"], "data": words}
                self._documents.append((name, event))
        elif self._documents and name == "stop":
            documents, self._documents = self._documents, []
            self._learn(documents)

    def _learn(self, documents: list[tuple[str, dict[str, Any]]]) -> None:
        try:
            learnt = learn_times(documents, read_times(self._data_dir))
            path = self._data_dir / _NAME
            part = path.with_suffix(".part")
            part.write_text(json.dumps(learnt.to_dict(), indent=1), encoding="utf-8")
            part.replace(path)
        except (OSError, NimcoError, PlanError) as error:
            _LOG.warning("what this scan taught about durations is not kept: %s", error)


def _has_camera(start: dict[str, Any]) -> bool:
    """Say whether a run is a scan whose frames, with their read-out and moves, are those of the plans with a camera."""
    try:
        return is_energy_scan(start) and read_contract(start).scan.technique == "full_field"
    except ContractError:
        return False
