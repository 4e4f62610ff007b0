import threading

import numpy as np
import pytest

from callbacks import CallbackError, LiveSOC, LiveSpectrum, has_value
from nimco.testing import play, wait_until


def error_of(update, scan):
    return float(np.sqrt(np.nanmean((update["soc"].values - scan.soc) ** 2)))


def analyse(documents, **options):
    with LiveSOC(**options) as live:
        play(live, documents)
        live.wait(240)
        return live.latest(documents[0][1]["uid"]), live


def test_the_map_is_the_truth(scan_documents):
    scan = scan_documents()
    update, live = analyse(scan.run())
    assert live.errors == []
    assert update.attrs["final"]
    assert update.attrs["complete"]
    assert update.attrs["n_frames"] == scan.energies_ev.size
    assert has_value(update).all()
    assert error_of(update, scan) < 0.01
    assert update.attrs["exit_status"] == "success"
    assert np.allclose(update["energy_ev"].values, scan.energies_ev)
    expected = 0.3 - 1e-4 * (8340 - 8340) + np.mean(scan.jump * scan.spectrum(8340.0, scan.soc))
    assert np.interp(8340, update["energy_ev"].values, update["mean_optical_depth"].values) == pytest.approx(
        expected, abs=0.05
    )


def test_maps_come_while_the_frames_arrive_and_a_final_one_after_the_stop(scan_documents):
    documents = scan_documents().run()
    updates = []
    seen = threading.Event()

    def subscriber(update):
        updates.append(update)
        seen.set()

    with LiveSOC(subscribers=[subscriber], update_period_s=0.0) as live:
        play(live, documents[: len(documents) // 2])
        assert seen.wait(240)
        assert not updates[-1].final
        play(live, documents[len(documents) // 2 :])
        live.wait(240)
    assert [update.attrs["final"] for update in updates] == [False] * (len(updates) - 1) + [True]
    done = [update.attrs["n_frames"] for update in updates]
    assert done == sorted(done)
    assert updates[-1]["history_sigma"].dims == ("history",)


def test_replayed_documents_change_nothing(scan_documents):
    scan = scan_documents()
    documents = scan.run()
    doubled = [document for document in documents[:-1] for _ in range(2)] + [documents[-1]]
    once, _ = analyse(documents)
    twice, live = analyse(doubled)
    assert live.errors == []
    assert twice.attrs["n_frames"] == once.attrs["n_frames"]
    assert np.array_equal(twice["soc"].values, once["soc"].values, equal_nan=True)


def test_a_frame_taken_again_replaces_the_first(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    spoiled = scan.frame(18) // 3  # the beam went away during the exposure
    place = next(place for place, step in enumerate(steps) if step[:2] == ("primary", 18))
    again = [
        *steps[:place],
        ("primary", 18, spoiled),
        (*steps[place], {"xanes_attempt": 1}),
        *steps[place + 1 :],
    ]
    update, live = analyse(scan.run(again))
    clean, _ = analyse(scan.run(steps))
    assert live.errors == []
    assert update.attrs["n_frames"] == scan.energies_ev.size
    assert np.allclose(update["soc"].values, clean["soc"].values, atol=1e-5, equal_nan=True)
    assert update["frame_attempt"].values[update["frame_energy_index"].values == 18].tolist() == [1]


def test_an_earlier_attempt_that_comes_late_is_ignored(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    steps = [(*step, {"xanes_attempt": 1}) if step[:2] == ("primary", 5) else step for step in steps]
    steps.append(("primary", 5, scan.frame(5) // 3))
    update, _ = analyse(scan.run(steps))
    assert error_of(update, scan) < 0.01


def test_flats_taken_again_after_their_frames_count(scan_documents):
    scan = scan_documents()
    steps = [*scan.steps(), ("flat", 12, scan.flat(), {"xanes_attempt": 1})]
    spoiled = [
        ("flat", 12, (scan.flat() // 2)) if step[:2] == ("flat", 12) and len(step) == 3 else step
        for step in steps
    ]
    update, _ = analyse(scan.run(spoiled))
    assert error_of(update, scan) < 0.01


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_the_order_of_the_frames_does_not_matter(scan_documents, order):
    scan = scan_documents()
    steps = scan.steps()
    mixed = (
        steps[::-1]
        if order == "reversed"
        else [steps[i] for i in np.random.default_rng(1).permutation(len(steps))]
    )
    update, live = analyse(scan.run(mixed))
    assert live.errors == []
    assert update.attrs["n_frames"] == scan.energies_ev.size
    assert error_of(update, scan) < 0.01


def test_an_aborted_scan_gives_a_partial_map(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    update, _ = analyse(scan.run(steps[: int(len(steps) * 0.7)], exit_status="abort"))
    assert update.attrs["final"]
    assert not update.attrs["complete"]
    assert update.attrs["exit_status"] == "abort"
    assert any("frames are missing" in warning for warning in update.attrs["warnings"])


def test_a_frame_that_cannot_be_used_costs_only_itself(scan_documents, caplog):
    scan = scan_documents()
    steps = [
        ("primary", 5, np.zeros((3, 3), np.uint16)) if step[:2] == ("primary", 5) else step
        for step in scan.steps()
    ]
    update, live = analyse(scan.run(steps))
    assert update.attrs["n_frames"] == scan.energies_ev.size - 1
    assert error_of(update, scan) < 0.01
    assert [type(error).__name__ for error in live.errors] == ["FrameError"]
    assert sum("shape (3, 3)" in record.message for record in caplog.records) == 1


def test_a_frame_the_camera_gave_twice_is_left_out(scan_documents, caplog):
    scan = scan_documents()
    steps = scan.steps()
    place = next(place for place, step in enumerate(steps) if step[:2] == ("primary", 20))
    steps[place] = ("primary", 20, scan.frame(19))
    update, live = analyse(scan.run(steps))
    assert update.attrs["n_frames"] == scan.energies_ev.size - 1
    assert error_of(update, scan) < 0.01
    assert ["count for count" in str(error) for error in live.errors] == [True]


@pytest.mark.parametrize("spoiled", [{"i0": 0.0}, {"i0": float("nan")}, {"energy": float("nan")}])
def test_a_frame_without_beam_or_energy_is_left_out(scan_documents, spoiled, caplog):
    scan = scan_documents()
    steps = [(*step, spoiled) if step[:2] == ("primary", 7) else step for step in scan.steps()]
    update, live = analyse(scan.run(steps))
    assert update.attrs["n_frames"] == scan.energies_ev.size - 1
    assert error_of(update, scan) < 0.01
    assert len(live.errors) == 1


def test_dead_and_saturated_pixels_cost_only_themselves(scan_documents):
    scan = scan_documents()

    def spoil(step):
        if step[0] != "primary":
            return step
        image = step[2].copy()
        image[0, 0] = 0
        image[1, 1] = 65535
        return (step[0], step[1], image)

    update, _ = analyse(scan.run([spoil(step) for step in scan.steps()]))
    assert not has_value(update)[0, 0]
    assert not has_value(update)[1, 1]
    assert np.isnan(update["soc"].values[0, 0])
    assert has_value(update).sum() == update["soc"].values.size - 2


def test_frames_of_floating_point_numbers(scan_documents):
    scan = scan_documents()
    steps = [(stream, index, image.astype(np.float32), *rest) for stream, index, image, *rest in scan.steps()]
    update, _ = analyse(scan.run(steps))
    assert error_of(update, scan) < 0.01


def test_a_failing_subscriber_harms_nobody(scan_documents, caplog):
    got = []

    def failing(update):
        raise ValueError("no")

    update, _ = analyse(scan_documents().run(), subscribers=[failing, got.append])
    assert update.attrs["final"]
    assert got[-1].final
    assert sum("failed" in record.message for record in caplog.records) == 1


def test_a_slow_viewer_holds_nobody_up(scan_documents):
    documents = scan_documents().run()
    gate = threading.Event()
    slow, fast = [], []

    def slow_viewer(update):
        gate.wait(240)
        slow.append(update)

    with LiveSOC(subscribers=[slow_viewer, fast.append], update_period_s=0.0) as live:
        for name, doc in documents:
            live(name, doc)
        wait_until(lambda: fast and fast[-1].final)
        with pytest.raises(CallbackError, match="has not returned"):
            live.wait(2)
        gate.set()
        live.wait(240)
    assert slow[-1].final
    assert len(slow) <= len(fast)


def test_two_runs_at_once(scan_documents):
    scans = [scan_documents(seed=seed) for seed in (1, 2)]
    runs = [scan.run() for scan in scans]
    with LiveSOC() as live:
        for pair in zip(*runs, strict=True):
            for name, doc in pair:
                live(name, doc)
        live.wait(240)
        for scan, documents in zip(scans, runs, strict=True):
            assert error_of(live.latest(documents[0][1]["uid"]), scan) < 0.01
        assert live.errors == []


def test_references_given_beat_those_of_the_start_document(scan_documents):
    scan = scan_documents()
    documents = scan.run()
    documents[0][1]["xanes"] = {**scan.xanes, "references": None}
    update, _ = analyse(documents, references={"Ni_K": scan.references})
    assert error_of(update, scan) < 0.01


def test_without_references_there_is_an_edge_energy_and_no_state_of_charge(scan_documents):
    scan = scan_documents()
    update, live = analyse(scan_documents(references=None).run())
    assert live.errors == []
    assert "own mean spectrum" in update.attrs["definition"]
    assert np.isnan(update["soc"].values).all()
    edge = update["edge_energy_ev"].values
    assert np.isfinite(edge).all()
    assert np.corrcoef(edge.ravel(), scan.soc.ravel())[0, 1] > 0.99


def test_other_runs_are_left_alone(scan_documents):
    documents = scan_documents().run()
    del documents[0][1]["xanes"]
    with LiveSOC() as live:
        play(live, documents)
        live.wait(240)
        assert live.errors == []
        with pytest.raises(CallbackError, match="no maps of any run"):
            live.latest()


def test_a_run_without_flats_says_so(scan_documents):
    scan = scan_documents()
    with LiveSOC() as live:
        play(live, scan.run([step for step in scan.steps() if step[0] != "flat"]))
        live.wait(240)
        assert any("no sample frame with a flat field" in str(error) for error in live.errors)


def test_the_mean_spectrum_of_a_standard(scan_documents):
    scan = scan_documents()
    documents = scan.run(standard={"name": "pellet", "soc": 0.0})
    with LiveSpectrum() as spectra:
        play(spectra, documents)
        spectra.wait(240)
        energy, depth, sigma = spectra.spectrum(documents[0][1]["uid"])
    assert np.allclose(energy, np.sort(scan.energies_ev))
    truth = [
        np.mean(0.3 - 1e-4 * (value - 8340) + scan.jump * scan.spectrum(value, scan.soc)) for value in energy
    ]
    assert np.abs(depth - truth).max() < 1e-3
    assert (sigma > 0).all()
    with pytest.raises(CallbackError, match="no frame of run"):
        spectra.spectrum("unknown")


@pytest.mark.parametrize("flat_is_missing", [False, True])
def test_a_resumed_run_goes_on_with_the_frames_of_the_interrupted_one(scan_documents, flat_is_missing):
    scan = scan_documents()
    steps = scan.steps()
    # Interrupted after a sample frame, whose flat was perhaps never taken.
    cut = next(place for place, step in enumerate(steps) if step[:2] == ("flat", 17))
    begun = [*steps[:cut], steps[cut + 1]] if flat_is_missing else steps[: cut + 2]
    interrupted = scan.run(begun, exit_status="abort")
    first_uid = interrupted[0][1]["uid"]
    scan.xanes = {
        **scan.xanes,
        "resumes": first_uid,
        "take": {
            "primary": list(range(18, scan.energies_ev.size)),
            "flat": list(range(17 if flat_is_missing else 18, scan.energies_ev.size)),
        },
    }
    missing_flat = [steps[cut]] if flat_is_missing else []
    resumed = scan.run([*steps[:2], *missing_flat, *steps[cut + 2 :]])
    with LiveSOC() as live:
        play(live, interrupted)
        live.wait(240)
        assert live.latest().attrs["n_frames"] == 18
        assert not live.latest().complete
        play(live, resumed)
        live.wait(240)
        update = live.latest(resumed[0][1]["uid"])
        assert live.errors == []
    whole, _ = analyse(scan_documents().run(steps))
    assert update.attrs["complete"]
    assert update.attrs["final"]
    assert (update.attrs["n_frames"], update.attrs["frames_expected"]) == (
        scan.energies_ev.size,
        scan.energies_ev.size,
    )
    assert update.attrs["raw_uids"] == [first_uid, resumed[0][1]["uid"]]
    assert np.allclose(update["soc"].values, whole["soc"].values, atol=1e-5)


def test_a_resumed_run_whose_beginning_is_not_here_says_so(scan_documents):
    scan = scan_documents(resumes="an-older-run", take={"primary": list(range(10)), "flat": list(range(10))})
    with LiveSOC() as live:
        play(live, scan.run())
        live.wait(240)
        assert [str(error) for error in live.errors if "nimco reanalyse" in str(error)]


def test_sigma_is_the_scatter_where_light_and_exposure_vary(scan_documents):
    scan = scan_documents((48, 64), counts=4000, noise=True)
    scan.jump *= 1.6  # behind the edge a third of the light is left
    steps = []
    for step in scan.steps():
        if step[0] == "primary" and step[1] % 3 == 0:
            image = scan.frame(step[1], exposure_s=4.0)
            step = ("primary", step[1], image, {"xanes_exposure_s": 4.0})
        steps.append(step)
    scan.xanes["n_flats"] = 1
    update, live = analyse(scan.run(steps))
    assert live.errors == []
    pull = (update["soc"].values - scan.soc) / update["soc_sigma"].values
    assert np.sqrt(np.nanmean(pull**2)) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(
    "xanes",
    [
        "Ni K, first try",
        True,
        ["a"],
        {"edge": 5},
        {"schema_version": 1, "edge": 5},
        {"energies_ev": "abc"},
        {"energies_ev": []},
        {"exposure_s": None},
        {"devices": "camera"},
        {"devices": {"camera": 3}},
        {"take": "all"},
        {"take": {"primary": ["a"]}},
        {"repeats": "many"},
        {"references": {"x": 1}},
        {"max_frames": "all"},
    ],
)
def test_metadata_of_strangers_costs_no_later_run(scan_documents, xanes):
    strange, good = scan_documents().run(), scan_documents(seed=2).run()
    start = strange[0][1]
    changed = isinstance(xanes, dict) and not {"schema_version", "edge"} & xanes.keys()
    start["xanes"] = {**start["xanes"], **xanes} if changed else xanes
    start |= {"data": "/path", "hints": 3, "scan_group": ["a"]}
    with LiveSOC() as live:
        for name, doc in strange:
            live(name, doc)
        for name, doc in ((None, None), ("event", None), ("event", {"data": None}), ("unknown", 3)):
            live(name, doc)
        for name, doc in good:
            live(name, doc)
        live.wait(120)
        assert all(isinstance(error, CallbackError) for error in live.errors), live.errors
        assert live.latest(good[0][1]["uid"]).final
