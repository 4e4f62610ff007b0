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


class RoughScan(Scan):
    """A sample that changes from pixel to pixel, such as particles of one pixel in an empty field."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        rows, cols = np.indices(SHAPE)
        random = np.random.default_rng(13)
        self.pre_edge = 0.3
        if kind == "chequered":
            self.jump = np.where((rows + cols) % 2, 1.5, 0.2)
        elif kind == "any":
            self.jump, self.soc = random.uniform(0.05, 1.5, SHAPE), random.uniform(0, 1, SHAPE)
        else:
            self.jump, self.pre_edge = random.uniform(0.5, 2.0, SHAPE) * (random.random(SHAPE) < 0.003), 0.0

    def frame(self, index: int, **options: float) -> Any:
        energy = self.energies_ev[index]
        depth = self.pre_edge + self.jump * self.spectrum(energy, self.soc)
        return self._shot(self.open_beam * np.exp(-depth))


def in_any_order(steps: list[Any]) -> list[Any]:
    order = np.random.default_rng(4).permutation(1 + max(step[1] for step in steps))
    place = {int(index): number for number, index in enumerate(order)} | {-1: -1}
    return sorted(steps, key=lambda step: place[step[1]])


@pytest.mark.parametrize("arranged", [list, in_any_order])
@pytest.mark.parametrize("kind", ["particles of one pixel", "chequered", "any"])
def test_what_changes_from_pixel_to_pixel_is_no_zinger(kind: str, arranged: Any) -> None:
    """Nothing of a clean scan is dropped, in whatever order its energies come; zingers in it are."""
    scan = RoughScan(kind)
    steps = arranged(scan.steps())
    sound = analysed(scan.run(steps), register="off")
    assert not any("stick out" in said for said in sound.attrs["warnings"])
    result = analysed(scan.run(with_zingers(steps)), register="off")
    assert any("stick out" in said for said in result.attrs["warnings"])
    if kind != "particles of one pixel":
        error, of_sound = (one["soc"].values - scan.soc for one in (result, sound))
        assert abs(np.nanmean(error)) <= 0.01
        within, of_sound_within = (
            np.nanmean(np.abs(one["soc"].values - scan.soc) < one["soc_sigma"].values)
            for one in (result, sound)
        )
        assert within == pytest.approx(of_sound_within, abs=0.05)
        assert np.nanstd(error) < 1.2 * np.nanstd(of_sound)


@pytest.mark.parametrize("flats", ["one an energy", "two", "one"])
def test_a_zinger_of_the_first_flat_is_missing(flats: str) -> None:
    """By the next flat; where there is none, since it stands out of the flat and of no frame."""
    scan = Scan()
    scan.open_beam = scan.open_beam * (1.0 + 0.05 * np.random.default_rng(6).standard_normal(SHAPE))
    scan.open_beam[20, 11] *= 1.6  # a pixel of another gain is none
    scan.jump[40, 50] = 0.05  # and neither is one of the sample
    steps = scan.steps()
    if flats != "one an energy":
        scan.xanes |= {"flat_order": "before_all", "n_flats": 2 if flats == "two" else 1}
        of_flats = [("flat", -1, scan.flat(), {"xanes_repeat": k}) for k in range(scan.xanes["n_flats"])]
        steps = [*steps[:2], *of_flats, *(step for step in steps if step[0] == "primary")]
    sound = analysed(scan.run(steps), register="off")
    assert not any("stick out" in said for said in sound.attrs["warnings"])
    first = next(k for k, step in enumerate(steps) if step[0] == "flat")
    spoilt = steps[first][2].copy()
    spoilt[30, 40] = 60000
    steps[first] = (*steps[first][:2], spoilt, *steps[first][3:])
    result = analysed(scan.run(steps), register="off")
    n_missing = {"one an energy": 1, "two": 0, "one": scan.energies_ev.size}[flats]
    said = [text.partition(" ")[0] for text in result.attrs["warnings"] if "stick out" in text]
    assert said == ([str(n_missing)] if n_missing else [])
    jump, of_sound = result["edge_jump"].values, sound["edge_jump"].values
    others = np.ones(SHAPE, bool)
    others[30, 40] = False
    np.testing.assert_allclose(jump[others], of_sound[others], rtol=1e-5)
    if flats == "one":
        assert np.isnan(jump[30, 40])
    else:
        assert jump[30, 40] == pytest.approx(of_sound[30, 40], rel=0.03)
