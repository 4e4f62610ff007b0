"""Frames that the disk does not give back: each costs itself, is named, and the others are corrected as ever."""

import os

import numpy as np
import pytest

from callbacks import LiveSOC
from nimco.testing import play

WAIT_S = 240  # a cold machine compiles the kernels meanwhile


@pytest.fixture
def damage(monkeypatch):
    """Every frame goes to the disk at once; what is returned changes a byte of the frame of a number there."""
    written = []
    pwrite = os.pwrite

    def noted_pwrite(file, data, at):
        written.append((file, at, len(data)))
        return pwrite(file, data, at)

    monkeypatch.setattr("os.pwrite", noted_pwrite)
    monkeypatch.setattr("callbacks.reduce._image_store.ImageStore.__init__.__defaults__", (0,))

    def change(number):
        file, at, length = [place for place in written if place[2] > 300][number]
        place = at + length // 2
        (before,) = os.pread(file, 1, place)
        pwrite(file, bytes([before ^ 0x10]), place)

    return change


def analyse(documents, until, harm):
    """Analyse a run, with some harm done to what it has held after so many documents."""
    with LiveSOC(update_period_s=0.0) as live:
        play(live, documents[:until])
        live.wait(WAIT_S)
        harm()
        play(live, documents[until:])
        live.wait(WAIT_S)
        assert live.errors == []
        return live.latest()


def bias(scan, update):
    return np.nanmax(np.abs(update["soc"].values - scan.soc))


def test_a_frame_that_is_lost_when_all_are_corrected_anew_costs_itself(scan_documents, damage):
    scan = scan_documents()
    steps = scan.steps()
    wrong = [(*step[:2], step[2] + np.uint16(500)) if step[0] == "dark" else step for step in steps]
    again = [("dark", step[1], step[2], {"xanes_attempt": 1}) for step in steps if step[0] == "dark"]
    documents = scan.run([*wrong, *again])
    where = [number for number, step in enumerate(steps) if step[0] == "primary"]
    update = analyse(documents, len(documents) - 1 - len(again), lambda: damage(where[5]))
    assert update.attrs["n_frames"] == 36
    (said,) = [text for text in update.attrs["warnings"] if "as first corrected" in text]
    assert f"the frame at {scan.energies_ev[5]:.1f} eV is in the map" in said
    assert bias(scan, update) < 0.02  # of 36 frames, one has a dark that is off by 1 % of the light


def test_a_frame_that_is_lost_while_it_waits_is_left_out_and_named(scan_documents, damage):
    scan = scan_documents(flat_order="after_all")
    darks = scan.steps()[:2]
    frames = [("primary", index, scan.frame(index)) for index in range(36)]
    flats = [("flat", index, scan.flat()) for index in range(36)]
    documents = scan.run([*darks, *frames, *flats])
    update = analyse(documents, len(documents) - 1 - len(flats), lambda: damage(len(darks) + 7))
    assert update.attrs["n_frames"] == 35
    (said,) = [text for text in update.attrs["warnings"] if "read back" in text]
    assert (
        said == f"the frame at {scan.energies_ev[7]:.1f} eV is left out: it cannot be read back from the disk"
    )
    assert bias(scan, update) < 0.01


@pytest.mark.parametrize("stream", ["flat", "dark"])
def test_a_flat_or_dark_that_is_lost_before_it_is_averaged_costs_itself(scan_documents, damage, stream):
    scan = scan_documents(n_flats=3, flat_order="before_all", n_darks=3)
    darks = [("dark", -1, scan.dark.astype(np.uint16), {"xanes_repeat": repeat}) for repeat in range(3)]
    flats = [("flat", -1, scan.flat(), {"xanes_repeat": repeat}) for repeat in range(3)]
    frames = [("primary", index, scan.frame(index)) for index in range(36)]
    documents = scan.run([*darks, *flats, *frames])
    n_descriptors = 2
    # Before the last flat no flat is averaged yet; darks are as soon as two flats can be compared.
    until = 1 + n_descriptors + len(darks) + (2 if stream == "flat" else 0)
    update = analyse(documents, until, lambda: damage(1 if stream == "dark" else len(darks) + 1))
    assert update.attrs["n_frames"] == 36
    said = " ".join(update.attrs["warnings"])
    assert "cannot be read back from the disk" in said
    assert ("darks of" if stream == "dark" else "flat field") in said
    assert bias(scan, update) < 0.01
