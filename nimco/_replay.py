"""A recorded scan as bluesky documents: the same streams and keys as a live scan writes."""

import logging
import time
import uuid
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from event_model import compose_run

from edge_fitting import ReferenceSeries
from nimco._hdf5_file import READING_ERRORS, FrameStack
from nimco._recordings import Recording

_LOG = logging.getLogger("nimco")
_ALL_ENERGIES = -1
_CAMERA, _ENERGY, _I0, _POINT = "camera", "energy", "i0", "xanes"


def replay_documents(
    recording: Recording, *, references: ReferenceSeries | None = None, md: dict[str, Any] | None = None
) -> Generator[tuple[str, Any], None, None]:
    """Tell a recording as the documents of `beamline_plans.xanes_scan`.

    Darks first, then at each energy its flat and its sample frame, in the order recorded. Flats that belong to
    no single energy come once, before the first sample frame. Frames are read from the file one at a time; one that
    cannot be read is left out and said.

    Parameters
    ----------
    recording : Recording
        An open recording.
    references : ReferenceSeries, optional
        Written into the start document; by default those stored in the recording.
    md : dict, optional
        Further metadata of the start document.

    Notes
    -----
    A `KeyboardInterrupt`, raised while a frame is read or thrown in, ends the run with exit status 'abort'.

    Yields
    ------
    name : str
        'start', 'descriptor', 'event' or 'stop'.
    doc : dict
        The document.
    """
    series = references if references is not None else recording.references
    n = recording.energies_ev.size
    xanes = {
        "schema_version": 1,
        "edge": recording.edge,
        "energies_ev": recording.energies_ev.tolist(),
        "exposure_s": [recording.exposure_s] * n,
        "repeats": 1,
        "technique": "txm_transmission",
        "flat_order": "per_energy" if recording.flats_per_energy else "before_all",
        "n_flats": 1 if recording.flats_per_energy else len(recording.flats),
        "n_darks": len(recording.darks),
        "pixel_size_nm": recording.pixel_size_nm,
        "references": None if series is None else series.to_dict(),
        "devices": {
            "camera": _CAMERA,
            "energy": _ENERGY,
            "i0": None if recording.i0 is None else _I0,
        },
    }
    if recording.left_out:
        xanes["take"] = {"primary": list(recording.taken)}
        xanes["left_out_ev"] = [float(recording.energies_ev[index]) for index in recording.left_out]
    run = compose_run(
        metadata={
            "plan_name": "replay",
            "scan_group": str(uuid.uuid4()),
            "recording": {"file": recording.path.name, "layout": recording.layout},
            "xanes": xanes,
            **(md or {}),
        }
    )
    streams: dict[str, Any] = {}
    try:
        yield "start", run.start_doc
        for stream, index, repeat, frame in _frames(recording):
            if stream not in streams:
                streams[stream] = run.compose_descriptor(
                    **_descriptor(stream, frame, recording.i0 is not None)
                )
                yield "descriptor", streams[stream].descriptor_doc
            data = _event_data(recording, stream, index, repeat, frame)
            yield (
                "event",
                streams[stream].compose_event(data=data, timestamps=dict.fromkeys(data, time.time())),
            )
    except KeyboardInterrupt:
        yield "stop", run.compose_stop(exit_status="abort", reason="interrupted by the user")
    else:
        yield "stop", run.compose_stop()


def _frames(recording: Recording) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Stream, energy index, repeat and frame, in the order they are told."""
    for stream, index, repeat, stack, number in _order(recording):
        try:
            frame = stack[number]
        except READING_ERRORS as error:
            energy = "" if index == _ALL_ENERGIES else f" at {recording.energies_ev[index]:.2f} eV"
            _LOG.warning(
                "%s: %s frame %d%s cannot be read (%s); it is left out",
                recording.path.name,
                {"primary": "sample"}.get(stream, stream),
                number,
                energy,
                error,
            )
        else:
            yield stream, index, repeat, frame


def _order(recording: Recording) -> Iterator[tuple[str, int, int, FrameStack, int]]:
    """Stream, energy index and repeat of each frame, the stack it is in and its number there."""
    for repeat in range(len(recording.darks)):
        yield "dark", _ALL_ENERGIES, repeat, recording.darks, repeat
    if not recording.flats_per_energy:
        for repeat in range(len(recording.flats)):
            yield "flat", _ALL_ENERGIES, repeat, recording.flats, repeat
    for index in recording.taken:
        if recording.flats_per_energy:
            yield "flat", index, 0, recording.flats, index
        yield "primary", index, 0, recording.frames, index


def _event_data(
    recording: Recording, stream: str, index: int, repeat: int, frame: np.ndarray
) -> dict[str, Any]:
    # A frame for all energies is filed under the first; its index says that it belongs to none.
    energy_ev = float(recording.energies_ev[max(index, 0)])
    data: dict[str, Any] = {
        f"{_CAMERA}_image": frame,
        _ENERGY: energy_ev,
        f"{_POINT}_energy_index": index,
        f"{_POINT}_energy_setpoint_ev": energy_ev,
        f"{_POINT}_exposure_s": recording.flat_exposure_s if stream == "flat" else recording.exposure_s,
        f"{_POINT}_repeat": repeat,
        f"{_POINT}_attempt": 0,
    }
    if recording.i0 is not None:
        data[_I0] = float(recording.i0[max(index, 0)])
    return data


def _descriptor(stream: str, frame: np.ndarray, has_i0: bool) -> dict[str, Any]:
    """Arguments of the descriptor of a stream, from its first frame."""
    number = {"dtype": "number", "shape": [], "dtype_numpy": "<f8"}
    integer = {"dtype": "integer", "shape": [], "dtype_numpy": "<i8"}
    source = "recording"
    point = {
        f"{_POINT}_energy_index": {**integer, "source": source},
        f"{_POINT}_energy_setpoint_ev": {**number, "source": source, "units": "eV"},
        f"{_POINT}_exposure_s": {**number, "source": source, "units": "s"},
        f"{_POINT}_repeat": {**integer, "source": source},
        f"{_POINT}_attempt": {**integer, "source": source},
    }
    keys: dict[str, dict[str, Any]] = {
        f"{_CAMERA}_image": {
            "dtype": "array",
            "shape": list(frame.shape),
            "dtype_numpy": frame.dtype.newbyteorder("<").str,
            "source": source,
            "units": "counts",
        },
        _ENERGY: {**number, "source": source, "units": "eV"},
        **point,
    }
    object_keys = {_CAMERA: [f"{_CAMERA}_image"], _ENERGY: [_ENERGY], _POINT: list(point)}
    hints: dict[str, Any] = {
        _CAMERA: {"fields": []},
        _ENERGY: {"fields": [_ENERGY]},
        _POINT: {"fields": []},
    }
    if has_i0:
        keys[_I0] = {**number, "source": source, "units": "arbitrary"}
        object_keys[_I0] = [_I0]
        hints[_I0] = {"fields": [_I0]}
    return {"name": stream, "data_keys": keys, "object_keys": object_keys, "hints": hints}
