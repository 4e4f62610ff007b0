"""What each command of `nimco` takes: its options and their help.

The work is imported when a command runs, so that help and mistyped options cost no time.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

# Options that several commands have.
_Edges = Annotated[str, typer.Option(help="Edges to scan: Ni, Ni_K or Ni,Mn,Co.")]
_DataDir = Annotated[Path, typer.Option(help="Where the Tiled server keeps its catalogue, frames and maps.")]
_Tiled = Annotated[str | None, typer.Option(help="Tiled server that is running: http://127.0.0.1:8710.")]
_ApiKeyFile = Annotated[Path | None, typer.Option(help="File with the key of that server.")]
_ServedMeanwhile = Annotated[
    Path, typer.Option(help="Data directory to serve meanwhile, where no running server is named.")
]
_Sample = Annotated[list[str] | None, typer.Option(help="All runs of a sample of that name; repeat it.")]
_PlotRange = Annotated[
    str | None, typer.Option(help="Colours of --plot from LOW,HIGH such as 0,1, so that pictures compare.")
]
_Size = Annotated[int, typer.Option(min=32, max=4096, help="Rows and columns of the camera.")]
_Seed = Annotated[int, typer.Option(help="Seed of the simulated sample and its noise.")]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="Port of the Tiled server; 0: any free.")]
_Hold = Annotated[bool, typer.Option("--hold", help="Keep the server up at the end, until Enter or Ctrl-C.")]
_Register = Annotated[
    Literal["on", "off", "auto"],
    typer.Option(
        help="Move frames back by the drift of the sample: always, never, or when it is found to drift."
    ),
]
_SocRange = Annotated[
    str | None,
    typer.Option(help="Colours of the picture from LOW,HIGH such as 0,1, so that pictures compare."),
]
_LeaveOut = Annotated[
    list[str] | None,
    typer.Option(help="Energies to leave out: 8347, 8340-8343 or frame:12 (number from 0); repeat it."),
]
_NoDark = Annotated[
    bool, typer.Option("--no-dark", help="Subtract no dark frames: the detector counts photons.")
]
_Root = Annotated[
    list[str] | None,
    typer.Option(help="OLD=NEW: folder of detector files as recorded, and where it is now; repeat it."),
]
_AxisOffset = Annotated[
    str,
    typer.Option(
        help="Offset between the energy axes of scan and references: report it, fit it, or take out so many eV."
    ),
]


def demo(
    technique: Annotated[
        Literal["full_field", "xas", "soft_xas", "xrf", "stxm", "tomography", "xpeem"],
        typer.Option(help="What to measure."),
    ] = "full_field",
    edges: _Edges = "Ni",
    data_dir: _DataDir = Path("nimco-data"),
    size: _Size = 256,
    seed: _Seed = 1,
    port: _Port = 0,
    hold: Annotated[
        bool | None,
        typer.Option(
            help="Keep the server and the page in the browser up at the end, until Enter or Ctrl-C; by default "
            "where the command runs in a terminal."
        ),
    ] = None,
    register: _Register = "auto",
    soc_range: _SocRange = None,
) -> None:
    """Run a simulated XANES scan with a live state-of-charge map, published to Tiled."""
    from nimco._demos import run_demo

    run_demo(
        technique,
        edges=edges,
        data_dir=data_dir,
        size=size,
        seed=seed,
        port=port,
        hold=hold,
        register=register,
        soc_range=soc_range,
    )


def replay(
    file: Annotated[Path, typer.Argument(help="HDF5 file: nimco, DataExchange or FXI export layout.")],
    reference: Annotated[
        list[str] | None,
        typer.Option(
            help="Reference spectrum FILE, FILE=SOC (text, CSV, XDI; eV or keV) or library:NAME; repeat it."
        ),
    ] = None,
    edge: Annotated[
        str | None, typer.Option(help="Edge scanned; found from the energies if not given.")
    ] = None,
    leave_out: _LeaveOut = None,
    no_dark: _NoDark = False,
    root: _Root = None,
    axis_offset: _AxisOffset = "report",
    register: _Register = "auto",
    data_dir: _DataDir = Path("nimco-data"),
    port: _Port = 0,
    hold: _Hold = False,
    soc_range: _SocRange = None,
) -> None:
    """Feed a recorded scan through the live analysis and publish its maps to Tiled."""
    from nimco._cmd_replay import replay

    replay(
        file=file,
        reference=reference,
        edge=edge,
        leave_out=leave_out,
        no_dark=no_dark,
        root=root,
        data_dir=data_dir,
        port=port,
        hold=hold,
        axis_offset=axis_offset,
        register=register,
        soc_range=soc_range,
    )


def dry_run(
    edges: _Edges = "Ni",
    grid: Annotated[
        str, typer.Option(help="Name of a preset for every edge, or a file with energy_ev,exposure_s.")
    ] = "default",
    exposure_s: Annotated[float, typer.Option(help="Exposure of each frame of a preset.")] = 0.5,
    order: Annotated[
        Literal["ascending", "descending", "interleaved", "informative"] | None,
        typer.Option(help="Order of the energies; informative goes by --reference."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Frames per energy.")] = 1,
    n_flats: Annotated[int, typer.Option(help="Flats per energy, or in all with before_all.")] = 1,
    n_darks: Annotated[int, typer.Option(help="Darks per exposure.")] = 5,
    flat_order: Annotated[
        Literal["per_energy", "every_n", "after_all", "before_all", "none"],
        typer.Option(help="When flats are taken."),
    ] = "per_energy",
    flat_every: Annotated[int, typer.Option(help="Energies between flats with every_n.")] = 10,
    size: Annotated[int, typer.Option(min=32, max=16384, help="Rows and columns of the camera.")] = 2048,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Reference spectrum FILE=SOC or library:NAME; repeat it, for sigma."),
    ] = None,
    jump: Annotated[
        float, typer.Option(help="Edge jump the sigma is predicted for, in optical depth.")
    ] = 0.5,
    counts_per_s: Annotated[
        float, typer.Option(help="Photons per pixel and second in the open beam.")
    ] = 20000.0,
    data_dir: Annotated[
        Path, typer.Option(help="Data directory: its disk, and the durations learnt from its past scans.")
    ] = Path("nimco-data"),
    max_minutes: Annotated[float | None, typer.Option(help="Refuse a scan that takes longer.")] = None,
    max_sample_exposure_s: Annotated[
        float | None, typer.Option(help="Refuse a scan that exposes the sample for longer.")
    ] = None,
) -> None:
    """Say what a scan would take: frames, time, dose, disk and expected sigma; nothing moves."""
    from nimco._cmd_dry_run import dry_run_command

    dry_run_command(
        edges=edges,
        grid=grid,
        exposure_s=exposure_s,
        order=order,
        repeats=repeats,
        n_flats=n_flats,
        n_darks=n_darks,
        flat_order=flat_order,
        flat_every=flat_every,
        size=size,
        reference=reference,
        jump=jump,
        counts_per_s=counts_per_s,
        data_dir=data_dir,
        max_minutes=max_minutes,
        max_sample_exposure_s=max_sample_exposure_s,
    )


def serve(
    data_dir: Annotated[
        Path, typer.Option(help="Where the server keeps its catalogue, frames and maps; kept when it ends.")
    ] = Path("nimco-data"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free.")] = 8710,
    host: Annotated[
        str,
        typer.Option(help="Interface to listen on; by default only programs on this machine can connect."),
    ] = "127.0.0.1",
    readable: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with files of detectors that the server may read; may be repeated."),
    ] = None,
) -> None:
    """Serve raw runs and maps with Tiled, until Ctrl-C."""
    from nimco._cmd_serve import serve

    serve(
        data_dir=data_dir,
        port=port,
        host=host,
        readable=readable,
    )


def monitor(
    tiled: Annotated[
        str | None,
        typer.Argument(
            metavar="[TILED_URL]",
            help="Tiled server to show, such as http://127.0.0.1:8710; by default that of --data-dir.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key of that server, for the link; otherwise the variable TILED_API_KEY, or the page "
            "asks for one."
        ),
    ] = None,
    data_dir: _DataDir = Path("nimco-data"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0: any free.")] = 8720,
    host: Annotated[
        str,
        typer.Option(help="Interface to listen on; by default only programs on this machine can connect."),
    ] = "127.0.0.1",
) -> None:
    """Show running and past measurements in the browser, and the spectrum of any region, until Ctrl-C."""
    from nimco._cmd_monitor import monitor

    monitor(tiled=tiled, api_key_file=api_key_file, data_dir=data_dir, port=port, host=host)


def analyse(
    source: Annotated[
        str,
        typer.Option("--from", help="Documents to follow: zmq://HOST:PORT or kafka://HOST:PORT/TOPIC."),
    ],
    tiled: Annotated[
        str | None,
        typer.Option(help="Tiled server with the raw runs, where maps are published: http://127.0.0.1:8710."),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key of that server; otherwise the variable TILED_API_KEY."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            help="Reference FILE, FILE=SOC or library:NAME instead of those in the runs; repeat it."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Estimator: series, half_jump, inflection, white_line.")
    ] = "series",
    axis_offset: _AxisOffset = "report",
    register: _Register = "auto",
    leave_out: _LeaveOut = None,
    no_dark: _NoDark = False,
    root: _Root = None,
    layout: Annotated[
        Path | None,
        typer.Option(help="TOML file that says how runs of other plans are to be understood."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG that is refreshed with the map.")] = None,
    soc_range: _PlotRange = None,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="Take pickles of bluesky's own publishers too: everybody who can send to that "
            "stream can then run any program with your rights.",
        ),
    ] = False,
) -> None:
    """Analyse scans in a process of its own, as they are published."""
    from nimco._cmd_analyse import analyse

    analyse(
        source=source,
        tiled=tiled,
        api_key_file=api_key_file,
        reference=reference,
        method=method,
        leave_out=leave_out,
        no_dark=no_dark,
        root=root,
        plot=plot,
        axis_offset=axis_offset,
        register=register,
        soc_range=soc_range,
        trust_pickle=trust_pickle,
        layout=layout,
    )


def reanalyse(
    uids: Annotated[
        list[str],
        typer.Argument(metavar="UID...", help="Stored runs: their uids, or the beginnings of them."),
    ],
    tiled: Annotated[
        str | None,
        typer.Option(
            help="Tiled server with the raw runs, where maps are published: http://127.0.0.1:8710; by default that of "
            "--data-dir."
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key of that server; otherwise the variable TILED_API_KEY."),
    ] = None,
    references: Annotated[
        list[str] | None,
        typer.Option(
            help="A set of references instead of those in the runs: FILE, FILE=SOC and library:NAME with commas "
            "between them; repeat it for several sets."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Estimator: series, lcf, half_jump, inflection, white_line, arctan_gauss.")
    ] = "series",
    axis_offset: Annotated[
        list[str] | None,
        typer.Option(
            help="Offset between the energy axes of scan and references: report (the default), fit, or so many eV to "
            "take out; repeat it for several."
        ),
    ] = None,
    register: _Register = "auto",
    leave_out: _LeaveOut = None,
    no_dark: _NoDark = False,
    root: _Root = None,
    layout: Annotated[
        Path | None,
        typer.Option(help="TOML file that says how runs of other plans are to be understood."),
    ] = None,
    flat_run: Annotated[
        str | None, typer.Option(help="With --layout: uid of the run that holds the flats.")
    ] = None,
    dark_run: Annotated[
        str | None, typer.Option(help="With --layout: uid of the run that holds the darks.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Work in so many processes of this machine; by default in this one."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Work on the cluster of a dask.distributed scheduler: tcp://HOST:PORT."),
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Data directory that keeps what is done until it is published.")
    ] = Path("nimco-data"),
    plot: Annotated[
        Path | None, typer.Option(help="PNG of the map; of several analyses, of all beside each other.")
    ] = None,
    soc_range: _PlotRange = None,
) -> None:
    """Analyse stored runs anew, with other parameters: a new version of their maps, beside the former."""
    from nimco._cmd_reanalyse import reanalyse

    reanalyse(
        uids=uids,
        tiled=tiled,
        api_key_file=api_key_file,
        references=references,
        method=method,
        axis_offset=axis_offset,
        register=register,
        leave_out=leave_out,
        no_dark=no_dark,
        root=root,
        layout=layout,
        flat_run=flat_run,
        dark_run=dark_run,
        workers=workers,
        scheduler=scheduler,
        data_dir=data_dir,
        plot=plot,
        soc_range=soc_range,
    )


def export(
    run: Annotated[str, typer.Argument(help="Uid of the raw run, or its beginning.")],
    to: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
    layout: Annotated[
        Literal["nexus", "tiff", "both"], typer.Option("--format", help="What to write.")
    ] = "both",
    edge: Annotated[str | None, typer.Option(help="Edge, where the run has maps of several.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Which version of the maps, where they were analysed anew.")
    ] = None,
    tiled: _Tiled = None,
    api_key_file: _ApiKeyFile = None,
    data_dir: _ServedMeanwhile = Path("nimco-data"),
) -> None:
    """Write the maps of a run to HDF5 (NeXus) and TIFF."""
    from nimco._cmd_export import export

    export(
        run=run,
        to=to,
        layout=layout,
        edge=edge,
        version=version,
        tiled=tiled,
        api_key_file=api_key_file,
        data_dir=data_dir,
    )


def report(
    measurement: Annotated[
        str, typer.Argument(help="The scan_group of a measurement, or a run of it (uid or its beginning).")
    ],
    to: Annotated[
        Path | None, typer.Option(help="HTML file to write; by default report-<scan_group>.html here.")
    ] = None,
    tiled: _Tiled = None,
    api_key_file: _ApiKeyFile = None,
    data_dir: _ServedMeanwhile = Path("nimco-data"),
) -> None:
    """Write one HTML file on a measurement: maps, spectra, particles, parameters, references, warnings."""
    from nimco._cmd_report import report

    report(measurement=measurement, to=to, tiled=tiled, api_key_file=api_key_file, data_dir=data_dir)


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[UID]...",
            help="Stored runs (uids or their beginnings), a scan_group or a series_group.",
        ),
    ] = None,
    sample: _Sample = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="What tells groups: sample (the default), cycle, part, voltage_v, composition, field, place or run; "
            "repeat it for groups by several."
        ),
    ] = None,
    edge: Annotated[str | None, typer.Option(help="Edge, where there are maps of several.")] = None,
    quantity: Annotated[
        Literal["soc", "edge_energy_ev"] | None,
        typer.Option(help="What to compare; by default the state of charge where all have one."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of distributions and means.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV with all figures.")] = None,
    bulk: Annotated[
        str | None,
        typer.Option(
            help="Spectrum of the whole sample (a file, or the uid of an xas_scan), beside the mean of each group."
        ),
    ] = None,
    bulk_plot: Annotated[Path | None, typer.Option(help="PNG of both spectra and their difference.")] = None,
    soc_range: Annotated[
        str | None, typer.Option(help="Range of --plot from LOW,HIGH such as 0,1, so that pictures compare.")
    ] = None,
    tiled: _Tiled = None,
    api_key_file: _ApiKeyFile = None,
    data_dir: _ServedMeanwhile = Path("nimco-data"),
) -> None:
    """Pool the fields of view of each sample (or cycle, part, ...) and compare them on one scale."""
    from nimco._cmd_compare import compare

    compare(
        runs=runs or [],
        sample=sample or [],
        by=by or ["sample"],
        edge=edge,
        quantity=quantity,
        plot=plot,
        table=table,
        bulk=bulk,
        bulk_plot=bulk_plot,
        soc_range=soc_range,
        tiled=tiled,
        api_key_file=api_key_file,
        data_dir=data_dir,
    )


def series(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[UID]...", help="A series_group, a scan_group, or stored runs by their uids."
        ),
    ] = None,
    sample: _Sample = None,
    edge: Annotated[str | None, typer.Option(help="Edge, where there are maps of several.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of the maps and tracks.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV: a line a map and particle or region.")] = None,
    soc_range: Annotated[
        str | None, typer.Option(help="Range of --plot from LOW,HIGH such as 0,1, so that pictures compare.")
    ] = None,
    cycler: Annotated[
        Path | None,
        typer.Option(
            help="Text export of the battery cycler: the state of charge against the charge passed."
        ),
    ] = None,
    cycler_start: Annotated[
        str | None,
        typer.Option(
            help="When its test began, such as 2026-11-28T10:00:00, where the file does not say (time of this machine "
            "unless +00:00 follows)."
        ),
    ] = None,
    clock_offset: Annotated[float, typer.Option(help="Seconds to add to the time of the cycler.")] = 0.0,
    clock_drift: Annotated[float, typer.Option(help="Seconds to add for every hour after its start.")] = 0.0,
    capacity_mah: Annotated[
        float | None,
        typer.Option(
            help="Charge from SOC 0 to 1: calibrates the axis of the state of charge by the coulomb count."
        ),
    ] = None,
    capacity_sigma_mah: Annotated[float, typer.Option(help="Its standard deviation.")] = 0.0,
    initial_soc: Annotated[
        float, typer.Option(help="State of charge at the first line of the cycler's file.")
    ] = 0.0,
    initial_soc_sigma: Annotated[float, typer.Option(help="Its standard deviation.")] = 0.0,
    discharge_positive: Annotated[
        bool, typer.Option("--discharge-positive", help="The file counts discharging positive.")
    ] = False,
    charge_plot: Annotated[
        Path | None, typer.Option(help="PNG of the state of charge against the charge passed.")
    ] = None,
    publish: Annotated[
        bool, typer.Option(help="Publish the stack of maps with its tracks to Tiled, as series/NAME/EDGE.")
    ] = True,
    tiled: _Tiled = None,
    api_key_file: _ApiKeyFile = None,
    data_dir: _ServedMeanwhile = Path("nimco-data"),
) -> None:
    """Put the maps of each place on each other, and follow particles and regions over time."""
    from nimco._charging import Charging
    from nimco._cmd_series import series

    series(
        runs=runs or [],
        sample=sample or [],
        edge=edge,
        plot=plot,
        table=table,
        soc_range=soc_range,
        charging=Charging(
            file=cycler,
            start=cycler_start,
            offset_s=clock_offset,
            drift_s_per_h=clock_drift,
            capacity_mah=capacity_mah,
            capacity_sigma_mah=capacity_sigma_mah,
            initial_soc=initial_soc,
            initial_soc_sigma=initial_soc_sigma,
            plot=charge_plot,
            discharge_positive=discharge_positive,
        ),
        publish=publish,
        tiled=tiled,
        api_key_file=api_key_file,
        data_dir=data_dir,
    )


def mosaic(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="UID...", help="A mosaic_group, or stored runs of tiles by their uids."),
    ],
    edge: Annotated[str | None, typer.Option(help="Edge, where there are maps of several.")] = None,
    reach: Annotated[
        float | None,
        typer.Option(
            help="How far in um tiles may lie from where the motors put them; by default 1/8 of a field."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of the mosaic and its sigma.")] = None,
    soc_range: _PlotRange = None,
    publish: Annotated[
        bool, typer.Option(help="Publish the map of all tiles to Tiled, as mosaics/NAME/EDGE.")
    ] = True,
    tiled: _Tiled = None,
    api_key_file: _ApiKeyFile = None,
    data_dir: _ServedMeanwhile = Path("nimco-data"),
) -> None:
    """Put the tiles of a mosaic on each other where they overlap, and join them into one map."""
    from nimco._cmd_mosaic import mosaic

    mosaic(
        runs=runs,
        edge=edge,
        reach=reach,
        plot=plot,
        soc_range=soc_range,
        publish=publish,
        tiled=tiled,
        api_key_file=api_key_file,
        data_dir=data_dir,
    )


def volume(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Volumes: HDF5, TIFF stack, folder of TIFF planes or Zarr; FILE::NAME names the dataset.",
        ),
    ],
    soc: Annotated[
        str | None, typer.Option(help="Volume of the state of charge, where FILE has none.")
    ] = None,
    soc_sigma: Annotated[str | None, typer.Option(help="Volume of its standard deviation.")] = None,
    mask: Annotated[str | None, typer.Option(help="Volume that is 0 where FILE cannot be used.")] = None,
    voxel_size_nm: Annotated[
        float | None,
        typer.Option(help="Edge of a voxel in nm, before what FILE says; needed where it says none."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Density from which on there is material; by default found.")
    ] = None,
    min_diameter: Annotated[
        float | None, typer.Option(help="Smallest particle in um; by default eight voxels.")
    ] = None,
    widest_crack: Annotated[
        float | None,
        typer.Option(help="Widest crack in um that opens to a surface; by default eight voxels."),
    ] = None,
    damage: Annotated[
        str | None,
        typer.Option(help="Crack shares MILD,SEVERE from which on a particle is so; by default 0.02,0.08."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of rendering, slices, depths and damage.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV of particles; beside it depths and damage.")] = None,
    to: Annotated[
        Path | None, typer.Option(help="Volume with particles and cracks: .h5, .zarr or .tif.")
    ] = None,
    soc_range: _PlotRange = None,
) -> None:
    """Tell particles of reconstructed volumes apart; cracks, damage, state of charge at cracks and by depth."""
    from nimco._cmd_volume import volume

    volume(
        files=files,
        others={"soc": soc, "soc_sigma": soc_sigma, "mask": mask},
        voxel_size_nm=voxel_size_nm,
        threshold=threshold,
        min_diameter_um=min_diameter,
        widest_crack_um=widest_crack,
        damage=damage,
        plot=plot,
        table=table,
        to=to,
        soc_range=soc_range,
    )


def ioc(
    prefix: Annotated[str, typer.Option(help="In front of every PV name.")] = "SIM:",
    size: _Size = 256,
    seed: _Seed = 1,
    port: Annotated[
        int, typer.Option(min=1024, max=65535, help="Port of Channel Access on this machine.")
    ] = 5064,
    time_scale: Annotated[
        float, typer.Option(min=0.0, help="Real seconds per simulated second; 0 does everything at once.")
    ] = 1.0,
) -> None:
    """Serve the simulated beamline over EPICS Channel Access, on loopback only, until Ctrl-C."""
    from nimco._cmd_ioc import ioc

    ioc(
        prefix=prefix,
        size=size,
        seed=seed,
        port=port,
        time_scale=time_scale,
    )
