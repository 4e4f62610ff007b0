"""Frames that do not belong, in a live scan: named, left out, and put back once they belong."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from callbacks import LiveSOC, SOCPublisher, open_soc
from callbacks.views._picture import draw
from nimco.testing import ScanDocuments

SHAPE = (64, 72)
BAD = 18


class Scan(ScanDocuments):
    """A sample that fills most of the field."""

    def __init__(self) -> None:
        super().__init__(SHAPE, noise=True, counts=2e4)

    def spoilt(self, kind: str) -> Any:
        image = self.frame(BAD).astype(float) - self.dark
        rows, cols = np.indices(SHAPE)
        if kind == "0.2 of optical depth":
            image *= np.exp(-0.2)
        elif kind == "three times too bright":
            image *= 3.0
        elif kind == "3 eV off":
            depth = 0.3 + self.jump * self.spectrum(self.energies_ev[BAD] - 3.0, self.soc)
            image = self.open_beam * np.exp(-depth)
        elif kind == "without sample":
            image = self.open_beam
        elif kind == "flat of another position":
            image *= 1.0 + 0.15 * np.sin(rows / 9.0)
        elif kind == "stripes":
            image *= 1.0 + 0.1 * (cols % 2)
        return self._shot(image)


def analysed(documents: Any, **options: Any) -> Any:
    with LiveSOC(update_period_s=1e9, **options) as live:
        for document in documents:
            live(*document)
        live.wait(120)
        assert not live.errors
        return live.latest()


def with_frame(steps: list[Any], image: Any) -> list[Any]:
    return [(*step[:2], image, *step[3:]) if step[:2] == ("primary", BAD) else step for step in steps]


@pytest.mark.parametrize(
    "kind",
    [
        "0.2 of optical depth",
        "three times too bright",
        "3 eV off",
        "without sample",
        "flat of another position",
        "stripes",
    ],
)
def test_a_frame_that_does_not_belong_is_named_and_left_out(kind: str) -> None:
    scan = Scan()
    result = analysed(scan.run(with_frame(scan.steps(), scan.spoilt(kind))))
    said = [text for text in result.attrs["warnings"] if "is left out" in text]
    assert len(said) == 1
    assert f"{scan.energies_ev[BAD]:.1f} eV is left out" in said[0]
    assert result.attrs["n_frames"] == scan.energies_ev.size - 1
    assert not np.isclose(result["frame_energy_ev"].values, scan.energies_ev[BAD]).any()
    error = result["soc"].values - scan.soc
    assert abs(np.nanmean(error)) <= 0.01
    assert np.nanmean(np.abs(error / result["soc_sigma"].values) < 1) == pytest.approx(0.683, abs=0.05)
    assert result.attrs["chi2"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("register", ["off", "auto"])
def test_nothing_is_left_out_of_a_clean_scan_or_said_of_it(register: Any, tiled_server: Any) -> None:
    scan = Scan()
    client = tiled_server.client()
    documents = scan.run()
    with SOCPublisher(client["maps"]) as publisher:
        result = analysed(documents, register=register, subscribers=[publisher])
    assert result.attrs["warnings"] in ((), [])
    assert result.attrs["n_frames"] == scan.energies_ev.size
    assert result.attrs["chi2"] == pytest.approx(1.0, abs=0.1)
    assert np.nanmedian(result["reduced_chi2"]) == pytest.approx(1.0, abs=0.15)
    assert np.nanmedian(result["frame_chi2"]) == pytest.approx(1.0, abs=0.2)
    assert np.nanmax(np.abs(result["frame_residual_od"])) < 0.02
    stored = open_soc(client, result.attrs["raw_uid"])
    np.testing.assert_array_equal(stored["reduced_chi2"], result["reduced_chi2"])
    np.testing.assert_array_equal(stored["frame_chi2"], result["frame_chi2"])
    assert stored.attrs["chi2"] == result.attrs["chi2"]
    figure = Figure()
    draw(figure, result)
    assert any("χ²" in text.get_text() for text in figure.texts)


def test_a_sample_that_changes_during_the_scan_is_told() -> None:
    scan = Scan()
    steps = scan.steps()
    scan.soc = scan.soc + 0.2
    later = [("primary", k, scan.frame(k), {"xanes_repeat": 1}) for k in range(10, 26, 3)]
    result = analysed(scan.run([*steps, *later]))
    assert any("changed during the scan" in said for said in result.attrs["warnings"])
    assert not any("left out" in said for said in result.attrs["warnings"])


def test_a_frame_that_is_taken_again_is_in_the_map() -> None:
    scan = Scan()
    steps = with_frame(scan.steps(), scan.spoilt("without sample"))
    again = [*steps, ("primary", BAD, scan.frame(BAD), {"xanes_attempt": 1})]
    result = analysed(scan.run(again))
    assert result.attrs["n_frames"] == scan.energies_ev.size
    assert not result.attrs["warnings"]
    assert np.isclose(result["frame_energy_ev"].values, scan.energies_ev[BAD]).sum() == 1


def test_frames_of_a_clean_scan_in_any_order_are_all_in_the_map() -> None:
    """What looks odd for lack of neighbours is put back once they have come."""
    scan = Scan()
    steps = scan.steps()
    order = np.random.default_rng(4).permutation(scan.energies_ev.size)
    mixed = [step for step in steps if step[0] == "dark"]
    for k in order:
        mixed += [step for step in steps if step[0] != "dark" and step[1] == k]
    result = analysed(scan.run(mixed))
    assert result.attrs["n_frames"] == scan.energies_ev.size
    assert not result.attrs["warnings"]


def with_zingers(steps: list[Any], seed: int = 8, share: float = 1e-3) -> list[Any]:
    """Add counts to single pixels of darks, flats and frames, to some as many as the camera can hold."""
    random = np.random.default_rng(seed)
    spoilt = []
    for stream, index, image, *changes in steps:
        hit = random.random(SHAPE) < share
        added = np.where(random.random(SHAPE) < 0.1, 65535, random.integers(3000, 20000, SHAPE))
        image = np.clip(image.astype(np.int64) + hit * added, 0, 65535).astype(np.uint16)
        spoilt.append((stream, index, image, *changes))
    return spoilt


class DriftingScan(Scan):
    """A texture that is seen below the edge too, and moves by three pixels."""

    def __init__(self) -> None:
        super().__init__()
        texture = gaussian_filter(np.random.default_rng(2).standard_normal(SHAPE), 2.0, mode="wrap")
        self.jump = np.clip(0.8 + 0.3 * texture / texture.std(), 0.1, 1.5)
        self.soc = np.full(SHAPE, 0.4)

    @staticmethod
    def spectrum(energy_ev: Any, soc: Any) -> Any:
        return 0.15 + ScanDocuments.spectrum(energy_ev, soc)

    def frame(self, index: int, **options: float) -> Any:
        still, self.jump = self.jump, np.roll(self.jump, index // 9, axis=0)
        try:
            return super().frame(index, **options)
        finally:
            self.jump = still


@pytest.mark.parametrize(("sample", "register"), [(Scan, "off"), (DriftingScan, "on")])
def test_zingers_become_missing_values_before_the_sums(sample: type[Scan], register: Any) -> None:
    scan = sample()
    steps = scan.steps()
    sound = analysed(scan.run(steps), register=register)
    result = analysed(scan.run(with_zingers(steps)), register=register)
    assert result.attrs["n_frames"] == scan.energies_ev.size
    assert any("stick out" in said for said in result.attrs["warnings"])
    assert not any("stick out" in said for said in sound.attrs["warnings"])
    error, of_sound = (one["soc"].values - scan.soc for one in (result, sound))
    assert np.isfinite(error).sum() > 0.97 * np.isfinite(of_sound).sum()
    assert abs(np.nanmean(error)) <= 0.01
    within, of_sound_within = (
        np.nanmean(np.abs(one["soc"].values - scan.soc) < one["soc_sigma"].values) for one in (result, sound)
    )
    assert within == pytest.approx(of_sound_within, abs=0.05)
    assert np.nanstd(error) < 1.1 * np.nanstd(of_sound)


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_light_beside_thick_pixels_is_taken_out_of_all_frames_at_the_end(share: float) -> None:
    scan = Scan()
    scan.jump = np.linspace(0.4, 3.0, SHAPE[0])[:, None] * np.ones(SHAPE)

    def veiled(index: int) -> Any:
        depth = 0.3 + scan.jump * scan.spectrum(scan.energies_ev[index], scan.soc)
        return scan._shot(scan.open_beam * ((1.0 - share) * np.exp(-depth) + share))

    steps = [
        (*step[:2], veiled(step[1]), *step[3:]) if step[0] == "primary" else step for step in scan.steps()
    ]
    result = analysed(scan.run(steps), register="off")
    about = result.attrs
    assert about["stray_light"] == pytest.approx(share, abs=3.0 * about["stray_light_sigma"] + 2e-4)
    assert about["stray_light_taken_out"] == (share > 0.0)
    assert any("is taken out of the frames" in said for said in about["warnings"]) == (share > 0.0)
    assert about["n_frames"] == scan.energies_ev.size
    error = result["soc"].values - scan.soc
    thick = scan.jump > 2.0
    assert np.isfinite(error[thick]).mean() > 0.8
    assert abs(np.nanmean(error[thick])) < 0.02
