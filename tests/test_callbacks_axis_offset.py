"""An offset between the axes of a live scan and its references: said in every result, or taken out."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from callbacks import AlarmWatch, LiveSOC, SOCPublisher, open_soc
from callbacks.views._picture import draw
from edge_fitting import EdgeFittingError
from nimco.errors import NimcoError
from nimco.testing import ScanDocuments
from tests.test_edge_fitting_axis_offset import series, spectrum


class MovingEdge(ScanDocuments):
    """A scan whose spectra change their shape as well, so that a state is no shift of the axis."""

    @staticmethod
    def spectrum(energy_ev: Any, soc: Any) -> Any:
        if np.ndim(energy_ev):
            return spectrum(np.asarray(energy_ev), np.asarray(soc))
        return spectrum(np.array([energy_ev]), np.asarray(soc))[..., 0]


def analysed(offset_ev: float, **options: Any) -> Any:
    scan = MovingEdge((24, 24), noise=True)
    with LiveSOC(series(offset_ev=offset_ev), update_period_s=1e9, **options) as live:
        for document in scan.run():
            live(*document)
        live.wait(120)
        return scan, live.latest()


def test_by_default_the_offset_is_told_with_the_bias_it_means() -> None:
    scan, result = analysed(0.5)
    about = result.attrs
    assert about["axis_offset_ev"] == pytest.approx(0.5, abs=0.04)
    assert 0 < about["axis_offset_sigma_ev"] < 0.05
    bias = float(np.nanmedian(result["soc"].values - scan.soc))
    assert about["soc_systematic"] == pytest.approx(abs(bias), rel=0.15)
    assert any(
        f"{about['axis_offset_ev']:+.2f}" in said and "biased by" in said for said in about["warnings"]
    )
    with AlarmWatch(lambda alarm: None) as watch:
        watch(result)
        watch.wait(60)
        assert [alarm.kind for alarm in watch.standing] == ["axis"]
    figure = Figure()
    draw(figure, result)
    assert any("axis offset +0.5" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("choice", ["fit", 0.5])
def test_asked_for_it_is_taken_out(choice: Any, tiled_server: Any) -> None:
    scan = MovingEdge((24, 24), noise=True)
    client = tiled_server.client()
    with SOCPublisher(client["maps"]) as publisher:
        with LiveSOC(series(offset_ev=0.5), axis_offset=choice, subscribers=[publisher]) as live:
            for document in scan.run():
                live(*document)
            live.wait(120)
            made = live.latest()
        publisher.wait(60)
    assert abs(np.nanmedian(made["soc"].values - scan.soc)) < 0.03
    assert made.attrs["axis_offset_ev"] == pytest.approx(0.5, abs=0.04)
    assert not made.attrs["warnings"]
    found = open_soc(client, made.attrs["raw_uid"])
    for key in ("axis_offset_ev", "axis_offset_sigma_ev", "soc_systematic", "parameters"):
        assert found.attrs[key] == made.attrs[key]
    assert found.attrs["parameters"]["axis_offset"] == choice


def test_references_that_tell_no_offset_are_named_and_no_frame_is_lost(scan_documents: Any) -> None:
    for choice, warned in (("report", False), ("fit", True)):
        scan = scan_documents()
        with LiveSOC(axis_offset=choice, update_period_s=1e9) as live:
            for document in scan.run():
                live(*document)
            live.wait(120)
            about = live.latest().attrs
        assert about["axis_offset_ev"] is None
        assert "cannot be told" in about["axis_offset_reason"]
        assert any("cannot be told" in said for said in about["warnings"]) == warned
        assert about["n_frames"] == about["frames_expected"]


def test_an_offset_that_cannot_be_fitted_is_said_and_no_frame_is_lost(scan_documents: Any) -> None:
    scan = scan_documents(references=None)
    with LiveSOC(axis_offset="fit", update_period_s=1e9) as live:
        for document in scan.run():
            live(*document)
        live.wait(120)
        about = live.latest().attrs
    assert about["n_frames"] == about["frames_expected"]
    assert any("nothing is taken out" in said for said in about["warnings"])


def test_what_is_no_choice_is_refused() -> None:
    from nimco._axis_offset import parse_axis_offset

    assert [parse_axis_offset(text) for text in ("report", "fit", "-0.3")] == ["report", "fit", -0.3]
    for text in ("", "nan", "inf", "guess", "0,3"):
        with pytest.raises(NimcoError, match="--axis-offset"):
            parse_axis_offset(text)
    with pytest.raises(EdgeFittingError, match="axis_offset must be"):
        LiveSOC(axis_offset="guess")  # type: ignore[arg-type]
