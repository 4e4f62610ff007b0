"""Frames that cannot be used: each costs itself, is named by its energy, and never bends the map quietly."""

import h5py
import numpy as np
import pytest

from callbacks import LiveSOC, has_value
from edge_fitting import FitStatus

WAIT_S = 240  # a cold machine compiles the kernels meanwhile


def analyse(documents):
    with LiveSOC(file_timeout_s=0.3) as live:
        for name, doc in documents:
            live(name, doc)
        live.wait(WAIT_S)
        try:
            update = live.latest()
        except RuntimeError:
            update = None
        return update, [str(error) for error in live.errors]


def changed(scan, change):
    """Steps of a plain scan, each image and its data as ``change`` makes them."""
    steps = []
    for stream, index, image, *data in scan.steps():
        image, more = change(stream, index, image)
        steps.append((stream, index, image, {**(data[0] if data else {}), **more}))
    return steps


def bias(scan, update):
    return np.nanmax(np.abs(update["soc"].values - scan.soc))


@pytest.mark.parametrize("level", ["zero", "dark"])
@pytest.mark.parametrize("which", [[0], [34, 35], list(range(0, 36, 2))])
def test_black_frames_are_left_out_and_named(scan_documents, which, level):
    scan = scan_documents()
    black = np.full(scan.shape, 0 if level == "zero" else 100, np.uint16)
    update, _ = analyse(
        scan.run(
            changed(scan, lambda stream, i, im: (black if stream == "primary" and i in which else im, {}))
        )
    )
    assert update.attrs["n_frames"] == 36 - len(which)
    assert has_value(update).all()
    assert bias(scan, update) < 0.01
    (said,) = [warning for warning in update.attrs["warnings"] if "no light above the dark" in warning]
    assert all(f"{scan.energies_ev[index]:.1f}" in said for index in which)


def test_flats_without_light_and_darks_with_light_are_left_out(scan_documents):
    scan = scan_documents()

    def change(stream, index, image):
        if stream == "flat" and index in (3, 20):
            return np.zeros_like(image), {}
        return image, {}

    steps = changed(scan, change)
    steps[0] = (*steps[0][:2], np.full(scan.shape, 15000, np.uint16), steps[0][3])
    update, _ = analyse(scan.run(steps))
    assert update.attrs["complete"]
    assert bias(scan, update) < 0.01
    said = " | ".join(update.attrs["warnings"])
    assert f"flat fields at {scan.energies_ev[3]:.1f}, {scan.energies_ev[20]:.1f} eV are left out" in said
    assert "darks of 1 s are left out: light in it" in said


@pytest.mark.parametrize("where", [("primary",), ("flat",), ("primary", "flat")])
@pytest.mark.parametrize("i0", [1e-9, 1e9])
def test_an_i0_that_the_light_does_not_show_costs_its_own_frames(scan_documents, i0, where):
    scan = scan_documents()

    def change(stream, index, image):
        return image, {"i0": i0} if index in (0, 12) and stream in where else {}

    update, _ = analyse(scan.run(changed(scan, change)))
    assert update.attrs["n_frames"] >= 34
    assert has_value(update).all()
    assert bias(scan, update) < 0.01
    said = " | ".join(update.attrs["warnings"])
    assert f"{scan.energies_ev[0]:.1f}, {scan.energies_ev[12]:.1f} eV" in said


@pytest.mark.parametrize("value", [np.inf, 65535.0])
def test_frames_saturated_in_every_pixel_cost_themselves(scan_documents, value):
    scan = scan_documents()
    which = (14, 15, 16, 17, 18, 19)

    def change(stream, index, image):
        lost = stream == "primary" and index in which
        return (np.full(scan.shape, value) if lost else image.astype(float)), {}

    update, _ = analyse(scan.run(changed(scan, change)))
    assert update.attrs["n_frames"] == 30
    assert has_value(update).all()
    assert bias(scan, update) < 0.01
    (said,) = [text for text in update.attrs["warnings"] if "saturated in every pixel" in text]
    assert all(f"{scan.energies_ev[index]:.1f}" in said for index in which)


def test_darks_above_everything_are_said(scan_documents):
    scan = scan_documents(counts=300)
    update, errors = analyse(
        scan.run(changed(scan, lambda stream, i, im: (im * np.uint16(5 if stream == "dark" else 1), {})))
    )
    assert update is None
    assert "no light above the dark" in errors[-1]


@pytest.mark.parametrize("dtype", ["<u2", "<i4", "<f4"])
def test_pixels_whose_dark_exceeds_everything_have_no_value(scan_documents, dtype):
    scan = scan_documents()

    def change(stream, index, image):
        image = image.astype(dtype)
        if stream == "dark":
            image[:4] = 60000
        return image, {}

    update, _ = analyse(scan.run(changed(scan, change)))
    assert (update["status"].values[:4] == FitStatus.NO_DATA).all()
    assert has_value(update)[4:].all()
    assert any(
        "33.3 % of the pixels the flat field holds no light" in said for said in update.attrs["warnings"]
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_of_i0_is_that_of_the_run(scan_documents, sign):
    scan = scan_documents()
    odd = {12: 0.0, 20: np.nan, 25: -sign * 1e-7, 30: np.inf}
    update, _ = analyse(scan.run(changed(scan, lambda stream, i, im: (im, {"i0": odd.get(i, sign * 1e-7)}))))
    assert update.attrs["n_frames"] == 32
    assert bias(scan, update) < 0.01
    said = " | ".join(update.attrs["warnings"])
    for index, reason in zip(
        odd, ("is zero", "is not a number", "unlike that of the others", "infinite"), strict=True
    ):
        assert f"the frame at {scan.energies_ev[index]:.1f} eV is left out: the incident intensity" in said
        assert reason in said


@pytest.mark.parametrize("factor", ["all", "mixed"])
def test_energies_in_kev_are_converted_and_said_once(scan_documents, factor):
    scan = scan_documents()

    def change(stream, index, image):
        in_kev = factor == "all" or index % 2
        return image, {"energy": scan.energies_ev[max(index, 0)] * (1e-3 if in_kev else 1)}

    update, errors = analyse(scan.run(changed(scan, change)))
    assert update.attrs["complete"]
    assert bias(scan, update) < 0.01
    assert sum("keV" in said for said in update.attrs["warnings"]) == 1
    assert not errors


def test_an_angle_for_an_energy_is_refused_once(scan_documents, caplog):
    scan = scan_documents()
    update, _ = analyse(scan.run(changed(scan, lambda s, i, im: (im, {"energy": 14.2 + i / 100}))))
    assert update is None
    assert (
        sum("neither eV nor keV" in r.getMessage() and "ended" not in r.getMessage() for r in caplog.records)
        == 1
    )


@pytest.mark.parametrize("dtype", ["<u2", "<i2", "<f4"])
@pytest.mark.parametrize(
    ("limit", "offset", "times"), [(4095, 0, 1), (4095, 96, 1), (4095, 0, 3), (4000, 0, 1)]
)
def test_clipped_counts_are_noticed_where_nobody_says(scan_documents, dtype, limit, offset, times):
    scan = scan_documents((24, 24), counts=6000, noise=True)
    scan.open_beam[:, 12:] *= 0.5

    def change(stream, index, image):
        clipped = np.minimum(image, limit).astype(np.int64)
        return ((clipped - offset) * times).astype(dtype), {}

    update, _ = analyse(scan.run(changed(scan, change)))
    assert (update["status"].values[:, :12] == FitStatus.SATURATED).all()
    assert has_value(update)[:, 12:].all()
    (said,) = update.attrs["warnings"]
    assert f"{(limit - offset) * times} counts (found in the frames)" in said


@pytest.mark.parametrize("counts", [300, 6000, 4e4])
@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
def test_clean_counts_are_not_taken_for_clipped(scan_documents, counts, noise, dtype):
    scan = scan_documents((24, 24), counts=counts, noise=noise)
    update, _ = analyse(scan.run(changed(scan, lambda s, i, im: (im.astype(dtype), {}))))
    assert not update.attrs["warnings"]
    assert not (update["status"].values == FitStatus.SATURATED).any()


@pytest.mark.parametrize("clips", [False, True])
def test_flats_of_one_value_are_clipped_only_where_other_frames_are(scan_documents, clips):
    scan = scan_documents((24, 24), counts=6000, noise=True)
    scan.open_beam[:, 12:] *= 0.5

    def change(stream, index, image):
        if clips:
            image = np.minimum(image, 4000)
        return (np.full_like(image, 4000) if stream == "flat" else image), {}

    update, _ = analyse(scan.run(changed(scan, change)))
    (said,) = update.attrs["warnings"]
    assert ("found in the frames" if clips else "4000 counts in every pixel") in said, said
    assert has_value(update).mean() == (0.0 if clips else 1.0)


@pytest.mark.parametrize("where", ["contract", "counts", "bits"])
def test_the_limit_that_is_stated_counts(scan_documents, where):
    # Few pixels at the limit: nothing in the frames would tell.
    xanes = {"saturation_counts": 2**14 - 1} if where == "contract" else {}
    scan = scan_documents(counts=1e4, **xanes)
    scan.open_beam[5, 6] = 3e4
    steps = changed(scan, lambda s, i, im: (np.minimum(im, 2**14 - 1), {}))
    documents = scan.run(steps)
    config = {"counts": {"camera_saturation_counts": 2**14 - 1}, "bits": {"camera_cam_bit_depth": 14}}
    for name, doc in documents:
        if name == "descriptor" and where != "contract":
            doc["configuration"] = {"camera": {"data": config[where], "timestamps": {}, "data_keys": {}}}
    update, _ = analyse(documents)
    assert update["status"].values[5, 6] == FitStatus.SATURATED
    assert (update["status"].values == FitStatus.SATURATED).sum() == 1


def test_a_stated_limit_that_counts_exceed_is_not_believed(scan_documents):
    scan = scan_documents(saturation_counts=4095)
    update, _ = analyse(scan.run())
    assert has_value(update).all()
    (said,) = update.attrs["warnings"]
    assert "said to saturate at 4095 counts" in said


def in_file(documents, path):
    """Documents whose sample frames are in one file that is announced after all events."""
    told, primary = [], None
    for name, doc in documents:
        if name == "descriptor" and doc["name"] == "primary":
            primary = doc["uid"]
            image = {**doc["data_keys"]["camera_image"], "external": "STREAM:"}
            doc = {**doc, "data_keys": {**doc["data_keys"], "camera_image": image}}
        if name == "event" and doc["descriptor"] == primary:
            doc = {**doc, "data": {key: value for key, value in doc["data"].items() if key != "camera_image"}}
        if name == "stop":
            n = sum(told_name == "event" and event["descriptor"] == primary for told_name, event in told)
            resource = {
                "uid": "r", "run_start": doc["run_start"], "data_key": "camera_image",
                "mimetype": "application/x-hdf5", "uri": f"file://localhost{path}",
                "parameters": {"dataset": "/entry/data/data", "chunk_shape": [1]},
            }  # fmt: skip
            datum = {
                "uid": "r/0", "stream_resource": "r", "descriptor": primary,
                "indices": {"start": 0, "stop": n}, "seq_nums": {"start": 1, "stop": n + 1},
            }  # fmt: skip
            told += [("stream_resource", resource), ("stream_datum", datum)]
        told.append((name, doc))
    return told


@pytest.mark.parametrize("fault", ["corrupt", "missing chunk", "short"])
def test_one_bad_frame_of_a_file_costs_one_frame(scan_documents, tmp_path, fault):
    scan = scan_documents((32, 32), noise=True)
    path, bad = tmp_path / "frames.h5", 35 if fault == "short" else 3
    n = bad if fault == "short" else 36
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "entry/data/data", (n, 32, 32), "u2", chunks=(1, 32, 32), compression="gzip", fletcher32=True
        )
        for index in range(n):
            if fault != "missing chunk" or index != bad:
                data[index] = scan.frame(index)
        if fault == "corrupt":
            chunk = data.id.get_chunk_info(bad)
    if fault == "corrupt":
        with path.open("r+b") as raw:
            raw.seek(chunk.byte_offset + chunk.size // 2)
            raw.write(b"\xde\xad\xbe\xef")
    update, _ = analyse(in_file(scan.run(), path))
    assert update.attrs["n_frames"] == 35
    assert has_value(update).all()
    assert any(
        f"the frame at {scan.energies_ev[bad]:.1f} eV is left out" in said
        for said in update.attrs["warnings"]
    )


def resuming(scan, first, rest, exit_status="abort"):
    """Documents of a run that ended before its time and of the one that takes the rest."""
    begun = scan.run(first, exit_status=exit_status)
    uid = begun[0][1]["uid"]
    take = {stream: sorted({step[1] for step in rest if step[0] == stream}) for stream in ("primary", "flat")}
    return begun, scan.run(rest, xanes={**scan.xanes, "resumes": uid, "take": take})


@pytest.mark.parametrize("exit_status", ["abort", "success"])  # RE.stop() ends a run in success
@pytest.mark.parametrize("n_first", [5, 36])
def test_frames_that_had_no_flat_yet_are_in_the_map_of_the_run_that_resumes(
    scan_documents, n_first, exit_status
):
    scan = scan_documents(flat_order="after_all")
    darks = scan.steps()[:2]
    frames = [("primary", index, scan.frame(index)) for index in range(36)]
    flats = [("flat", index, scan.flat()) for index in range(36)]
    begun, rest = resuming(
        scan, [*darks, *frames[:n_first]], [*darks, *frames[n_first:], *flats], exit_status
    )
    update, _ = analyse([*begun, *rest])
    assert update.attrs["n_frames"] == update.attrs["frames_expected"] == 36
    assert len(update.raw_uids) == 2
    assert not update.attrs["warnings"]  # nor one that held for the first run only
    assert bias(scan, update) < 0.01


def test_a_warning_of_the_interrupted_run_goes_with_its_cause(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    cut = 2 + 2 * 17
    begun, rest = resuming(scan, [*steps[:cut], steps[cut + 1]], [*steps[:2], steps[cut], *steps[cut + 2 :]])
    first, _ = analyse(begun)
    assert any("no flat field of its own" in said for said in first.attrs["warnings"])
    update, _ = analyse([*begun, *rest])
    assert update.attrs["complete"]
    assert not update.attrs["warnings"]


def test_a_resumed_map_without_the_first_frames_is_partial(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    _, rest = resuming(scan, steps[:12], [*steps[:2], *steps[12:]])
    update, _ = analyse(rest)
    assert update.attrs["n_frames"] == 31
    assert update.attrs["frames_expected"] == 36
    assert not update.attrs["complete"]
    said = " | ".join(update.attrs["warnings"])
    assert "whose frames are not held here" in said
    assert f"5 of 36 frames are missing, at {scan.energies_ev[0]:.1f}, " in said


def test_counts_of_every_status_are_published(scan_documents):
    update, _ = analyse(scan_documents().run())
    assert set(update.attrs["pixels"]) == {code.name for code in FitStatus}


def test_a_run_that_was_stopped_goes_on_in_the_run_that_resumes(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    begun, rest = resuming(scan, steps[:12], [*steps[:2], *steps[12:]], "success")
    update, _ = analyse([*begun, *rest])
    assert update.attrs["complete"]
    assert len(update.raw_uids) == 2


def test_a_camera_states_its_limit_in_the_descriptor(scan_documents):
    from bluesky import RunEngine
    from bluesky.plans import count

    from callbacks.documents._saturation import stated_saturation
    from sim_devices import CameraSettings, SimBeamline, TwinSettings

    beamline = SimBeamline((16, 16), settings=TwinSettings(camera=CameraSettings(full_well=4095)))
    descriptors = []
    RunEngine()(count([beamline.camera]), lambda name, doc: name == "descriptor" and descriptors.append(doc))
    assert stated_saturation({}, descriptors[0], "camera") == 4095
