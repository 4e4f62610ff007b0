import os
import subprocess
import sys
import textwrap
import threading
from datetime import datetime

import numpy as np
import pytest
from matplotlib.image import imread

from callbacks import CallbackError, LiveSOC, LiveSOCPlot
from callbacks.views._map_panel import scale_bar_um
from callbacks.views._quantity import quantity_of, value_range
from edge_fitting import FitStatus


@pytest.fixture
def updates(scan_documents):
    """A state in the middle of a scan, and the final one."""
    scan = scan_documents()
    documents = scan.run(sample="NMC622")
    with LiveSOC() as live:
        for name, doc in documents[:60]:
            live(name, doc)
        live.wait(240)
        middle = live.latest()
        for name, doc in documents[60:]:
            live(name, doc)
        live.wait(240)
        return middle, live.latest()


def words(figure):
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        texts += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        texts += [text.get_text() for text in axes.texts]
        texts += [child.txt_label.get_text() for child in axes.artists if hasattr(child, "txt_label")]
        legend = axes.get_legend()
        if legend is not None:
            texts += [text.get_text() for text in legend.get_texts()]
    return "\n".join(texts)


def test_the_picture_says_what_it_shows(updates, tmp_path):
    _, final = updates
    plot = LiveSOCPlot(tmp_path / "map.png", show=False)
    figure = plot.render(final)
    text = words(figure)
    assert "state of charge" in text
    assert "standard deviation of the state of charge" in text
    assert "36 of 36 frames, complete" in text
    assert final.attrs["definition"] in text
    assert "photon energy (eV)" in text
    assert "fit, series" in text
    assert f"run {final.attrs['raw_uid'][:8]}" in text
    shown = figure.axes[0].images[0]
    assert shown.get_cmap().name == "viridis"
    assert np.array_equal(np.ma.getmaskarray(shown.get_array()), np.isnan(final["soc"].values))
    plot.close()


def with_status(final, **marks):
    """The same result with rows of its maps without a value, for the reasons named."""
    status, material = final["status"].values.copy(), final["material"].values.copy()
    for row, (name, optical_depth) in enumerate(marks.values()):
        status[row], material[row] = FitStatus[name], optical_depth > 0.5
    where = final["status"].copy(data=status <= FitStatus.ABOVE_RANGE)
    return final.assign(
        status=final["status"].copy(data=status),
        material=final["material"].copy(data=material),
        soc=final["soc"].where(where),
        edge_energy_ev=final["edge_energy_ev"].where(where),
    )


@pytest.mark.parametrize("shown", ["soc", "edge_energy"])
def test_pixels_without_material_without_an_edge_and_failed_ones_differ(updates, tmp_path, shown):
    final = with_status(
        updates[1],
        nothing=("NO_EDGE", 0.01),
        binder=("NO_EDGE", 3.0),
        failed=("UNCERTAIN", 3.0),
        early=("TOO_FEW_FRAMES", 3.0),
    )
    plot = LiveSOCPlot(tmp_path / "map.png", show=False, shown=shown)
    axes = plot.render(final).axes[0]
    background = axes.images[1].get_array()
    assert axes.images[1].get_zorder() < axes.images[0].get_zorder()
    colours = {tuple(np.round(background[row, 0], 3)) for row in range(4)}
    assert len(colours) == 4
    legend = {
        text.get_text(): tuple(np.round(patch.get_facecolor()[:3], 3))
        for text, patch in zip(axes.get_legend().get_texts(), axes.get_legend().get_patches(), strict=True)
    }
    for row, reason in enumerate(("no material", "no edge", "failed", "not yet")):
        np.testing.assert_allclose(background[row, 0], legend[reason], atol=2e-3)
    plot.close()


def test_the_spread_is_no_error_the_counts_have_an_axis_and_what_lies_beyond_is_marked(updates, tmp_path):
    final = updates[1]
    values = final["soc"].values[np.isfinite(final["soc"].values)]
    low, high = (float(v) for v in np.percentile(values, (20, 70)))
    plot = LiveSOCPlot(tmp_path / "map.png", show=False, soc_range=(low, high))
    figure = plot.render(final)
    text = words(figure)
    assert "±" not in text
    central = np.percentile(values, (15.87, 84.13))
    assert f"median {np.median(values):.3f}, central 68 % {central[0]:.3f}–{central[1]:.3f}" in text
    assert "pixels" in text.splitlines()
    assert f"◂ {(values < low).sum()} beyond" in text
    assert f"{(values > high).sum()} beyond ▸" in text
    bars = next(axes for axes in figure.axes if axes.get_ylabel() == "pixels").patches
    assert [bool(bar.get_hatch()) for bar in (bars[0], bars[1], bars[-1])] == [True, False, True]
    when = datetime.fromtimestamp(final.attrs["time"]).astimezone()
    assert f"last frame {when:%Y-%m-%d %H:%M:%S}" in text
    plot.close()


def test_maps_of_one_range_compare(updates, tmp_path):
    plot = LiveSOCPlot(tmp_path / "map.png", show=False, soc_range=(-0.5, 1.5))
    limits = {plot.render(update).axes[0].images[0].get_clim() for update in updates}
    assert limits == {(-0.5, 1.5)}
    plot.close()
    for bad in ((1, 0), (0, float("nan")), (0,), "0,1", ("a", 1)):
        with pytest.raises(CallbackError, match="soc_range must"):
            LiveSOCPlot(tmp_path / "map.png", show=False, soc_range=bad)


def test_a_scan_that_goes_on_says_so(updates, tmp_path):
    middle, _ = updates
    plot = LiveSOCPlot(tmp_path / "map.png", show=False)
    assert f"{middle.attrs['n_frames']} of 36 frames, running" in words(plot.render(middle))
    plot.close()


def test_the_file_is_replaced_as_a_whole_and_read_at_any_moment(updates, tmp_path):
    path = tmp_path / "map.png"
    plot = LiveSOCPlot(path, show=False)
    plot(updates[0])
    plot.wait(240)
    problems, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                imread(path)
            except Exception as error:
                problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for update in (*updates, *updates):
        plot(update)
        plot.wait(240)
    stop.set()
    reader.join()
    plot.close()
    assert problems == []
    assert plot.errors == []
    assert [file.name for file in tmp_path.iterdir()] == ["map.png"]


@pytest.mark.parametrize("shown", ["edge_energy", "edge_energy_recentred"])
def test_the_blue_to_red_map_of_the_edge_energy(updates, tmp_path, shown):
    _, final = updates
    plot = LiveSOCPlot(tmp_path / "map.png", show=False, shown=shown)
    image = plot.render(final).axes[0].images[0]
    assert image.get_cmap().name == "coolwarm"
    if shown == "edge_energy":
        assert image.get_clim()[0] > 8300
    else:
        assert image.get_clim() == (-1.5, 1.5)
    plot.close()


def test_ranges_and_scale_bars_are_round(updates):
    _, final = updates
    low, high = value_range(quantity_of(final))
    assert low < np.nanmin(final["soc"].values) + 0.05
    assert high > np.nanmax(final["soc"].values) - 0.05
    assert [scale_bar_um(width) for width in (1.0, 10.0, 40.0, 81.0)] == [0.2, 2.0, 10.0, 20.0]


def test_no_display_and_no_path(monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(CallbackError, match="no display"):
        LiveSOCPlot()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CallbackError, match="choose another folder"):
        LiveSOCPlot(tmp_path / "file" / "map.png", show=False)


def test_the_window_in_ipython_is_drawn_by_the_timer_of_its_event_loop(tmp_path):
    """``%matplotlib`` picks the backend; the figure changes when the timer fires, never in the RunEngine's thread."""
    pytest.importorskip("IPython")
    code = """
        %matplotlib agg
        import sys, threading
        from nimco.testing import ScanDocuments
        from callbacks import LiveSOC, LiveSOCPlot
        from callbacks.views import _live_plot
        drawn_in = []
        draw = _live_plot.draw
        _live_plot.draw = lambda *arguments: (drawn_in.append(threading.current_thread()), draw(*arguments))
        plot = LiveSOCPlot(show=True)
        live = LiveSOC(subscribers=[plot])
        feeder = threading.Thread(target=lambda: [live(name, doc) for name, doc in ScanDocuments().run()])
        feeder.start(); feeder.join(); live.wait(240); plot.wait(240)
        import matplotlib.pyplot as plt
        figure = plt.figure("state of charge")
        assert not drawn_in and not figure.axes
        plot._window._timer._on_timer()
        plot._window._timer._on_timer()
        assert drawn_in == [threading.main_thread()], drawn_in
        assert len(figure.axes) > 5
        live.close(); plot.close()
        print("drawn once")
        """
    script = textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "IPython", "--no-banner", "--quick", "-c", script],
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "drawn once" in done.stdout, done.stdout + done.stderr
