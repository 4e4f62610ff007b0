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
from nimco._recording import Recording
from nimco.errors import RecordingError
from scan_contract import (
    ALL_ENERGIES,
    CONTRACT_KEY,
    LABEL_DEVICE,
    ContractError,
    FullFieldContract,
    Shot,
    label_data_keys,
    make_contract,
    shot_values,
)

_LOG = logging.getLogger("nimco")
_CAMERA, _ENERGY, _I0 = "camera", "energy", "i0"


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
    try:
        contract = _contract(recording, series)
    except ContractError as error:
        raise RecordingError(f"{recording.path.name} cannot be told as a scan: {error}") from error
    run = compose_run(
        metadata={
            "plan_name": "replay",
            "scan_group": str(uuid.uuid4()),
            "recording": {"file": recording.path.name, "layout": recording.layout},
            CONTRACT_KEY: contract.to_dict(),
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


def _contract(recording: Recording, series: ReferenceSeries | None) -> FullFieldContract:
    """Return what the start document says of the recording.

    Raises
    ------
    ContractError
        The recording holds something that cannot be.
    """
    said: dict[str, Any] = {}
    if recording.left_out:
        flats = {"flat": list(recording.taken)} if recording.flats_per_energy else {}
        said["take"] = {"primary": list(recording.taken), **flats}
        said["left_out_ev"] = [float(recording.energies_ev[index]) for index in recording.left_out]
    return make_contract(
        FullFieldContract,
        edge=recording.edge,
        energies_ev=recording.energies_ev.tolist(),
        exposure_s=[recording.exposure_s] * recording.energies_ev.size,
        flat_order="per_energy" if recording.flats_per_energy else "before_all",
        n_flats=1 if recording.flats_per_energy else len(recording.flats),
        n_darks=len(recording.darks),
        pixel_size_nm=recording.pixel_size_nm,
        references=None if series is None else series.to_dict(),
        reference_sources=() if series is None else series.sources,
        devices={"camera": _CAMERA, "energy": _ENERGY, "i0": None if recording.i0 is None else _I0},
        **said,
    )


def _frames(recording: Recording) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Stream, energy index, repeat and frame, in the order they are told."""
    for stream, index, repeat, stack, number in _order(recording):
        try:
            frame = stack[number]
        except READING_ERRORS as error:
            energy = "" if index == ALL_ENERGIES else f" at {recording.energies_ev[index]:.2f} eV"
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
        yield "dark", ALL_ENERGIES, repeat, recording.darks, repeat
    if not recording.flats_per_energy:
        for repeat in range(len(recording.flats)):
            yield "flat", ALL_ENERGIES, repeat, recording.flats, repeat
    for index in recording.taken:
        if recording.flats_per_energy:
            yield "flat", index, 0, recording.flats, index
        yield "primary", index, 0, recording.frames, index


def _event_data(
    recording: Recording, stream: str, index: int, repeat: int, frame: np.ndarray
) -> dict[str, Any]:
    # A frame for all energies is filed under the first; its index says that it belongs to none.
    energy_ev = float(recording.energies_ev[max(index, 0)])
    exposure_s = recording.flat_exposure_s if stream == "flat" else recording.exposure_s
    data: dict[str, Any] = {
        f"{_CAMERA}_image": frame,
        _ENERGY: energy_ev,
        **shot_values(Shot(stream, index, energy_ev, exposure_s, repeat), 0),
    }
    if recording.i0 is not None:
        data[_I0] = float(recording.i0[max(index, 0)])
    return data


def _descriptor(stream: str, frame: np.ndarray, has_i0: bool) -> dict[str, Any]:
    """Arguments of the descriptor of a stream, from its first frame."""
    number = {"dtype": "number", "shape": [], "dtype_numpy": "<f8"}
    source = "recording"
    label = label_data_keys(source=source)
    keys: dict[str, dict[str, Any]] = {
        f"{_CAMERA}_image": {
            "dtype": "array",
            "shape": list(frame.shape),
            "dtype_numpy": frame.dtype.newbyteorder("<").str,
            "source": source,
            "units": "counts",
        },
        _ENERGY: {**number, "source": source, "units": "eV"},
        **label,
    }
    object_keys = {_CAMERA: [f"{_CAMERA}_image"], _ENERGY: [_ENERGY], LABEL_DEVICE: list(label)}
    hints: dict[str, Any] = {
        _CAMERA: {"fields": []},
        _ENERGY: {"fields": [_ENERGY]},
        LABEL_DEVICE: {"fields": []},
    }
    if has_i0:
        keys[_I0] = {**number, "source": source, "units": "arbitrary"}
        object_keys[_I0] = [_I0]
        hints[_I0] = {"fields": [_I0]}
    return {"name": stream, "data_keys": keys, "object_keys": object_keys, "hints": hints}
