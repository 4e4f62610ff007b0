"""The live plot: a window where there is a display, a picture file that is refreshed where there is none."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.errors import CallbackError
from callbacks.results import Sink

from ._picture import FIGURE_SIZE_IN, draw
from ._quantity import Shown, check_range

_CLOSE_TIMEOUT_S = 10.0
_DPI = 110
_WINDOW_PERIOD_MS = 500


class LiveSOCPlot(Sink):
    """Draws each result: state of charge, its sigma, histogram, mean spectrum with its fit, and progress.

    A result of another technique is drawn by its schema: maps of its signal, or lines where that has one dimension.

    Subscribe it to a `LiveSOC`. Nothing is drawn on the RunEngine's thread: the window is drawn by a timer
    of the display's event loop, the file on a thread of its own, and both skip what a newer result has
    overtaken.

    Parameters
    ----------
    path : Path, optional
        PNG that is replaced as a whole with each result, so that a viewer never sees half of one. The final
        picture of each edge of a measurement of several edges is kept beside it, as ``<name>-<edge>.png``.
    show : bool, optional
        Whether to open a window; by default where one can be opened. Create the plot in the main thread
        then.
    shown : {"soc", "edge_energy", "edge_energy_recentred"}
        What the large map shows. The edge energy is drawn from blue (reduced) to red (oxidised), over the
        window in which the edge is looked for, or 1.5 eV to either side of the peak of its histogram.
    soc_range : (float, float), optional
        Range of the colours of the state of charge, so that the pictures of several scans compare; by default that of
        the values.

    Raises
    ------
    CallbackError
        A range that is none; neither a path nor a display with something to open windows with; a folder that
        cannot be written.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        show: bool | None = None,
        shown: Shown = "soc",
        soc_range: tuple[float, float] | None = None,
    ) -> None:
        self.path = None if path is None else Path(path)
        show = can_open_window() if show is None else show
        if self.path is None and not show:
            raise CallbackError(
                "there is no display to draw on, or matplotlib has no toolkit for windows (PySide6 is one); "
                "give the path of a PNG to be written instead"
            )
        if self.path is not None:
            _check_folder(self.path.parent)
        self._shown: Shown = shown
        self._soc_range = check_range(soc_range)
        self._window = _Window(shown, self._soc_range) if show else None
        super().__init__("SOC plot")

    def render(self, result: xr.Dataset) -> Figure:
        """Draw a result on a figure of its own and return it."""
        figure = Figure(figsize=FIGURE_SIZE_IN, dpi=_DPI)
        FigureCanvasAgg(figure)
        draw(figure, result, self._shown, self._soc_range)
        return figure

    def close(self) -> None:
        """Draw what was handed over, then stop; drawing that hangs is left behind. A window stays open."""
        self._worker.close(_CLOSE_TIMEOUT_S)

    def _take(self, result: xr.Dataset) -> None:
        if self._window is not None:
            self._window.latest = result
        if self.path is None:
            return
        figure = self.render(result)
        _write(figure, self.path)
        if result.attrs.get("final") and len(result.attrs.get("edges", ())) > 1:
            _write(figure, self.path.with_stem(f"{self.path.stem}-{result.attrs['edge']}"))


class _Window:
    """A figure of pyplot that a timer of its event loop redraws when there is something new."""

    def __init__(self, shown: Shown, soc_range: tuple[float, float] | None) -> None:
        import matplotlib.pyplot as plt  # chooses a backend, which only a window needs

        self._shown: Shown = shown
        self._soc_range = soc_range
        self.latest: xr.Dataset | None = None
        self._drawn: xr.Dataset | None = None
        self._figure = plt.figure("state of charge", figsize=FIGURE_SIZE_IN)
        self._timer: Any = self._figure.canvas.new_timer(interval=_WINDOW_PERIOD_MS)
        self._timer.add_callback(self.refresh)
        self._timer.start()
        plt.show(block=False)

    def refresh(self) -> None:
        """Draw the latest result if it is not what is shown."""
        result = self.latest
        if result is not None and result is not self._drawn:
            draw(self._figure, result, self._shown, self._soc_range)
            self._figure.canvas.draw_idle()
            self._drawn = result


def can_open_window() -> bool:
    """Return whether there is a display, and matplotlib has a toolkit to open a window with."""
    if not has_display():
        return False
    import matplotlib.pyplot as plt  # chooses a backend, which only a window needs

    probe = plt.figure()
    toolkit = getattr(probe.canvas, "required_interactive_framework", None)
    plt.close(probe)
    return toolkit is not None


def has_display() -> bool:
    """Return whether a window can be opened."""
    needs_server = sys.platform.startswith("linux")
    return not needs_server or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CallbackError(
            f"cannot write the picture into {folder} ({error.strerror}); choose another folder"
        ) from error


def _write(figure: Figure, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format="png")
    unfinished.replace(path)
