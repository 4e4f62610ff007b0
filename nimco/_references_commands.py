"""What the commands of `nimco references` take: their options and their help."""

from pathlib import Path
from typing import Annotated

import typer

_TILED = typer.Option(help="Tiled server that is running: http://127.0.0.1:8710.")
_KEY = typer.Option(help="File with the key of that server.")
_DATA_DIR = typer.Option(help="Data directory to serve meanwhile, where no running server is named.")


def build_references_app() -> typer.Typer:
    """Build the group of commands `nimco references`."""
    app = typer.Typer(help="The library of reference spectra in Tiled.", no_args_is_help=True)
    app.command()(add)
    app.command(name="list")(list_entries)
    return app


def add(
    files: Annotated[list[Path], typer.Argument(help="Spectra (text, CSV or XDI; eV or keV).")],
    edge: Annotated[str, typer.Option(help="Edge of the spectra, such as Ni.")],
    composition: Annotated[str, typer.Option(help="Formula or family, such as NMC622.")],
    state: Annotated[
        list[str] | None,
        typer.Option(help="soc=0.5, valence=2 or soc=0.5,valence=3.2; once a file, in their order."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name in the library; once a file, in their order. By default the file's."),
    ] = None,
    foil: Annotated[
        str | None, typer.Option(help="Metal of the foil that the energies were calibrated with.")
    ] = None,
    foil_scan: Annotated[
        Path | None, typer.Option(help="Scan of a foil on the axis of the files: calibrates them here.")
    ] = None,
    definition: Annotated[
        str | None, typer.Option(help="With --foil: what its energy stands for, if not its first inflection.")
    ] = None,
    shift_ev: Annotated[
        float, typer.Option(help="With --foil: what is to be added to the energies of the files.")
    ] = 0.0,
    tiled: Annotated[str | None, _TILED] = None,
    api_key_file: Annotated[Path | None, _KEY] = None,
    data_dir: Annotated[Path, _DATA_DIR] = Path("nimco-data"),
) -> None:
    """Add spectra; a name that is there already gets a new version."""
    from nimco._cmd_references import add

    add(
        files=files,
        edge=edge,
        composition=composition,
        state=state,
        name=name,
        foil=foil,
        foil_scan=foil_scan,
        definition=definition,
        shift_ev=shift_ev,
        tiled=tiled,
        api_key_file=api_key_file,
        data_dir=data_dir,
    )


def list_entries(
    edge: Annotated[str | None, typer.Option(help="Only those of this edge.")] = None,
    composition: Annotated[str | None, typer.Option(help="Only those of this formula or family.")] = None,
    tiled: Annotated[str | None, _TILED] = None,
    api_key_file: Annotated[Path | None, _KEY] = None,
    data_dir: Annotated[Path, _DATA_DIR] = Path("nimco-data"),
) -> None:
    """List the current version of every spectrum."""
    from nimco._cmd_references import list_entries

    list_entries(
        edge=edge, composition=composition, tiled=tiled, api_key_file=api_key_file, data_dir=data_dir
    )
