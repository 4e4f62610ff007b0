"""`nimco replay`: a recorded scan through the same documents, analysis and publisher as a live one."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console

from callbacks import LiveSOC, RegisterChoice, RootMap
from edge_fitting import ReferenceSeries, edge_name
from nimco._axis_offset import parse_axis_offset
from nimco._progress import ScanProgress
from nimco._recording import Recording
from nimco._recordings import RecordingFile
from nimco._reference_options import ReferenceOption, parse_reference_option, reference_series, uses_library
from nimco._replay import replay_documents
from nimco._report import TruthError, particle_table, print_warnings, summary_table, truth_error
from nimco._selection import LeaveOut, parse_roots
from nimco._server import TiledServer
from nimco._session import Session
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco._where import print_where, stored_and_waiting
from nimco.errors import NimcoError

# Ranges of edge jump in which the error is told apart: thick pixels, and thin ones where noise counts.
_JUMP_RANGES = ((0.4, float("inf")), (0.2, 0.4))


def replay(
    *,
    file: Path,
    reference: list[str] | None,
    edge: str | None,
    leave_out: list[str] | None,
    no_dark: bool,
    root: list[str] | None,
    data_dir: Path,
    port: int,
    hold: bool,
    soc_range: str | None,
    axis_offset: str,
    register: RegisterChoice,
) -> None:
    """Feed a recorded scan through the live analysis and publish its maps to Tiled."""
    console = Console()
    colours = parse_soc_range(soc_range)
    offset = parse_axis_offset(axis_offset)
    name = None if edge is None else edge_name(edge)
    wanted = LeaveOut(leave_out or [])
    roots = RootMap(parse_roots(root or []))
    sessions: list[Session] = []
    with (
        ended_by_signal(lambda: stored_and_waiting(data_dir, sessions)),
        RecordingFile(file, edge=name, no_dark=no_dark, roots=roots) as whole,
    ):
        recording = whole.without(wanted.indices(whole.energies_ev), "as asked")
        console.print(
            f"{file.name}: {recording.layout} layout, {recording.energies_ev.size} energies "
            f"{recording.energies_ev.min():.1f} to {recording.energies_ev.max():.1f} eV, "
            f"{recording.shape[0]} x {recording.shape[1]} px, {recording.edge.replace('_', ' ')} edge"
        )
        for note in recording.notes:
            console.print(f"  {note}")
        options = [parse_reference_option(text) for text in reference or []]
        # Mistakes in files are found before a server starts.
        references = None if uses_library(options) else _references(console, recording, options, None)
        picture = data_dir / "replay.png"
        with TiledServer(data_dir, port=port) as server:
            if references is None:
                references = _references(console, recording, options, server)
            compared = [
                LiveSOC(
                    references,
                    method="half_jump",
                    axis_offset="report" if offset == "fit" else offset,
                    register=register,
                )
            ]
            if recording.truth is not None and register != "off":
                compared.append(LiveSOC(references, axis_offset=offset, register="off"))
            with (
                ExitStack() as closing,
                ScanProgress(console) as progress,
                Session(
                    server,
                    references=references,
                    axis_offset=offset,
                    register=register,
                    plot_path=picture,
                    observers=[progress, *compared],
                    soc_range=colours,
                ) as session,
            ):
                for live in compared:
                    closing.callback(live.close)
                sessions.append(session)
                interrupted = _feed(session, recording, references)
                session.wait()
                for live in compared:
                    live.wait()
                updates = session.updates()
                errors = {
                    update.attrs["raw_uid"]: _errors(
                        recording,
                        update,
                        *(live.latest(update.attrs["raw_uid"])["soc"].values for live in compared),
                    )
                    for update in updates
                }
            console.print(summary_table(updates, errors))
            print_warnings(console, updates)
            for update in updates:
                if (particles := particle_table(update)) is not None:
                    console.print(particles)
            print_where(console, server, updates, picture, held=hold and not interrupted)
            if hold and not interrupted:
                server.hold(console, until_enter=True)


def _references(
    console: Console, recording: Recording, options: list[ReferenceOption], server: TiledServer | None
) -> ReferenceSeries:
    """Take the references asked for, else those in the recording."""
    if options:
        library = None if server is None else lambda: server.library
        series, notes = reference_series(options, library=library, edge=recording.edge)
        for note in notes:
            console.print(f"  reference {note}")
        return series
    if recording.references is None:
        raise NimcoError(
            f"{recording.path} holds no reference spectra; give two or more with "
            "--reference discharged.txt=0 --reference charged.txt=1."
        )
    return recording.references


def _feed(session: Session, recording: Recording, references: ReferenceSeries) -> bool:
    """Send all documents; on Ctrl-C close the run as aborted. True if the user stopped it."""
    documents = replay_documents(recording, references=references)
    ended: Any = None
    try:
        for name, doc in documents:
            session(name, doc)
            ended = doc.get("exit_status")
    except KeyboardInterrupt:
        session(*documents.throw(KeyboardInterrupt()))
        return True
    return bool(ended == "abort")  # it hit the reading of a frame, which ends the run by itself


def _errors(
    recording: Recording,
    result: xr.Dataset,
    half_jump_soc: np.ndarray,
    unregistered_soc: np.ndarray | None = None,
) -> list[tuple[str, TruthError | str]]:
    truth = recording.truth
    if truth is None:
        return []
    compared = [("series fit", result["soc"].values), ("half-jump", half_jump_soc)]
    if unregistered_soc is not None:
        compared.insert(1, ("series fit without registration", unregistered_soc))
    found: list[tuple[str, TruthError | str]] = []
    for low, high in _JUMP_RANGES:
        inside = (truth.edge_jump > low) & (truth.edge_jump <= high)
        where = f"jump > {low:g}" if high == float("inf") else f"jump {low:g} to {high:g}"
        for name, soc in compared:
            found.append((f"SOC error (RMS), {name}, {where}", truth_error(soc, truth.soc, inside)))
    if truth.drift_px is not None:
        found.append(("shift error (RMS), common offset taken out", _shift_error(result, truth.drift_px)))
    return found


def _shift_error(result: xr.Dataset, drift_px: np.ndarray) -> str:
    """Compare the shifts with the true drift, along both axes together."""
    shifts = np.stack([result["frame_shift_row_px"].values, result["frame_shift_column_px"].values], axis=1)
    wrong = shifts - drift_px[result["frame_energy_index"].values]
    known = wrong[np.isfinite(wrong).all(axis=1)]
    if not known.size:
        return "not registered"
    rms = float(np.sqrt(np.mean((known - known.mean(axis=0)) ** 2)))
    return f"{rms:.3f} px\n({len(known)} of {len(drift_px)} frames)"
