"""What a file says of the sample, of the beam time, and of the analysis that made the result."""

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import h5py
import xarray as xr

from callbacks.results import VERSION, sample_name

from ._containers import analysed_s

_SAID = ("sample", "field_of_view", "proposal", "reference_sources")
_UNITS = {"voltage_v": "V", "row_um": "um", "column_um": "um", "z_um": "um", "cycle": "1"}


def who_and_what(maps: xr.Dataset) -> dict[str, Any]:
    """Return what is known of the measurement and the analysis of a result; empty where nothing is said."""
    about = maps.attrs
    said = {key: about[key] for key in _SAID if about.get(key)}
    if analysis := about.get("analysis"):
        said["analysis"] = analysis
        if began_s := analysed_s(about):
            said["analysed"] = datetime.fromtimestamp(began_s, UTC).isoformat()
        said["versions"] = about.get("versions")
    if VERSION in maps.encoding:
        said["version"] = maps.encoding[VERSION]
    return said


def write_who_and_what(entry: h5py.Group, maps: xr.Dataset, taken: Collection[str]) -> None:
    """Write sample, field of view and beam time into an ``NXentry``.

    A sample is an ``NXsample``, what happened to it its ``NXhistory``, and who answers for the beam time an ``NXuser``;
    what these classes have no field for stands beside as it is called here. A name that is ``taken`` by an array of the
    result gets an underscore.
    """
    about = maps.attrs
    proposal, view = _mapping(about, "proposal"), _mapping(about, "field_of_view")
    group = str(about.get("scan_group") or "")
    text_in(entry, "experiment_identifier", str(proposal.get("number") or group))
    if group:
        text_in(entry, "collection_identifier", group)
    if proposal.get("title"):
        text_in(entry, "experiment_description", str(proposal["title"]))
    if proposal:
        _write_parts(group_in(entry, _free("proposal", taken), "NXcollection"), proposal)
    if who := proposal.get("principal_investigator"):
        user = group_in(entry, _free("user", taken), "NXuser")
        text_in(user, "name", str(who))
        text_in(user, "role", "principal_investigator")
    sample = _mapping(about, "sample")
    if name := sample_name({"sample": about.get("sample")}):
        sample = {"name": name, **sample}
    if not sample and not view:
        return
    written = group_in(entry, _free("sample", taken), "NXsample")
    history = sample.pop("history", None)
    if sample:
        told = (f"{key.replace('_', ' ')} {value}" for key, value in sample.items() if key != "name")
        text_in(written, "description", ", ".join(told) or str(sample.get("name", "")))
    _write_parts(written, sample)
    if history:
        write_note(group_in(written, "history", "NXhistory"), "notes", str(history), "text/plain")
    if view:
        _write_parts(group_in(written, "field_of_view", "NXcollection"), view)


def write_note(parent: h5py.Group, name: str, text: str, kind: str = "application/json") -> None:
    """Write a text as an ``NXnote``."""
    note = group_in(parent, name, "NXnote")
    text_in(note, "type", kind)
    text_in(note, "data", text)


def group_in(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    """Make a group of a class of NeXus."""
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def text_in(group: h5py.Group, name: str, text: str) -> None:
    """Write a text; HDF5 ends one at a zero character, which is left out."""
    group.create_dataset(name, data=text.replace("\0", ""), dtype=h5py.string_dtype())


def json_of(value: Any) -> str:
    """Return metadata as JSON."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _write_parts(group: h5py.Group, parts: Mapping[str, Any]) -> None:
    for key, value in parts.items():
        name = key.replace("/", "_").strip(". ") or "unnamed"
        if name in group:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            group.create_dataset(name, data=value).attrs["units"] = _UNITS.get(key, "1")
        else:
            text_in(group, name, value if isinstance(value, str) else json_of(value))


def _free(name: str, taken: Collection[str]) -> str:
    return f"{name}_" if name in taken else name


def _mapping(about: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = about.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)
