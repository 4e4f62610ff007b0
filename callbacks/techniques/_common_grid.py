"""Where the maps of the runs of one measurement lie against each other."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fitting import EdgeMaps, ImagePlace, register_image
from scan_contract import RunContract

_MOST_BYTES = 2**28
# Maps that lie closer together can be compared pixel by pixel.
_LEAST_SAID_PX = 0.5


@dataclass(frozen=True)
class GridPlace:
    """Where the maps of a run lie on the grid of the first run of its measurement.

    Attributes
    ----------
    raw_uid, edge : str
        The first run, whose pixels are the grid.
    place : ImagePlace
        Displacement of these maps against those of the first run.
    """

    raw_uid: str
    edge: str
    place: ImagePlace

    def to_dict(self) -> dict[str, Any]:
        """Return it as the metadata of a result keep it."""
        place = self.place
        return {
            "raw_uid": self.raw_uid,
            "edge": self.edge,
            "found": place.found,
            "shift_px": list(place.shift_px),
            "sigma_px": list(place.sigma_px) if place.found else [None, None],
            "magnification": place.magnification,
            "rotation_deg": place.rotation_deg,
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the maps should know who compares them with those of the first run.

        That no place was found is no matter of these maps alone: `open_soc_group` says it.
        """
        first = f"those of {self.edge.replace('_', ' ')} (run {self.raw_uid[:8]})"
        place = self.place
        if not place.found:
            return ()
        said = []
        if math.hypot(*place.shift_px) > _LEAST_SAID_PX or place.magnification != 1.0 or place.rotation_deg:
            turned = (
                f", magnified by {100 * (place.magnification - 1):+.2f} % and turned by {place.rotation_deg:+.2f} "
                "degrees"
                if place.magnification != 1.0 or place.rotation_deg
                else ""
            )
            said.append(
                f"these maps lie ({place.shift_px[0]:+.2f}, {place.shift_px[1]:+.2f}) px off {first}{turned}: read "
                "them together with open_soc_group, which lays all maps of a measurement on one grid"
            )
        return (*said, *place.warnings)


class CommonGrid:
    """Finds how the sample moved from one run of a measurement to the next.

    The maps of a run lie on the pixels of its first frame. Of the first run of a measurement, of a place of a series
    where it says so, a picture of the sample is kept; the others are compared with it once they are over.
    """

    def __init__(self) -> None:
        self._first: OrderedDict[tuple[object, ...], tuple[str, str, npt.NDArray[np.float32]]] = OrderedDict()

    def place(self, contract: RunContract, maps: EdgeMaps) -> GridPlace | None:
        """Return where the maps of a run that is over lie; None for the first one of its measurement.

        Parameters
        ----------
        contract : RunContract
            Of the run.
        maps : EdgeMaps
            Its last maps.
        """
        key = (_measurement(contract), maps.shape)
        first = self._first.get(key)
        if first is None or first[0] == contract.raw_uid:
            if maps.has_value.any():
                self._keep(key, (contract.raw_uid, contract.scan.edge, np.array(maps.optical_depth)))
            return None
        if not maps.has_value.any():
            return None
        self._first.move_to_end(key)
        uid, edge, picture = first
        return GridPlace(uid, edge, register_image(maps.optical_depth, picture))

    def _keep(self, key: tuple[object, ...], first: tuple[str, str, npt.NDArray[np.float32]]) -> None:
        self._first[key] = first
        while len(self._first) > 1 and sum(kept[2].nbytes for kept in self._first.values()) > _MOST_BYTES:
            self._first.popitem(last=False)


def _measurement(contract: RunContract) -> tuple[str, ...]:
    """Return what the runs have in common whose maps show the same field of the same sample."""
    start, scan = contract.start, contract.scan
    sample = "" if scan.sample is None else scan.sample.name or ""
    field = scan.field_of_view and (
        scan.field_of_view.name,
        scan.field_of_view.row_um,
        scan.field_of_view.column_um,
    )
    series, group = start.get("series"), start.get("series_group")
    if isinstance(group, str) and isinstance(series, Mapping):
        return group, repr(series.get("place")), sample, repr(field)
    return contract.scan_group, sample, repr(field)
