"""A file that is damaged or made to harm ends in one sentence: no crash, no hang, no memory, no stray exception."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_survpgc.core import packed
from napari_survpgc.core.bounded import BoundError, parse_json, parse_toml
from napari_survpgc.core.errors import (
    BundleError,
    ClinicalError,
    CohortError,
    ExpressionError,
    FeatureError,
    SeveralSlidesError,
    SlideError,
    SurvPGCError,
    TissueError,
)
from napari_survpgc.core.slide import guard, helper
from napari_survpgc.core.slide.backends import open_handle
from napari_survpgc.core.slide.guard import open_guarded
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.slide.structure import Trust, declared_px, structure_of
from tests.formats import slides
from tests.formats.dicom_files import element
from tests.trust.mutate import _tiff_entries
from tests.trust.readers import KINDS, SLIDE_KINDS, bag

SHARED = Path(os.environ.get("SURVPGC_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
CASES = sorted(p for p in (SHARED / "cases" / "files").glob("*/*") if p.is_dir()) or [None]


@pytest.mark.parametrize("case", CASES, ids=lambda p: "none" if p is None else f"{p.parent.name}-{p.name}")
def test_a_reported_input_is_read_or_refused_in_a_sentence(case: Path | None) -> None:
    if case is None:
        pytest.skip("no shared cases: set SURVPGC_SHARED to the folder that has cases/files")
    begun = time.monotonic()
    with contextlib.suppress(SurvPGCError):
        KINDS[case.parent.name].read(next(iter(sorted(case.iterdir()))))
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_input_of_every_kind_is_read(kind: str, tmp_path: Path) -> None:
    KINDS[kind].read(KINDS[kind].make(tmp_path))


# --- slides --------------------------------------------------------------------------------------------------


def _set_entry(path: Path, tag: int, *, kind: int | None = None, value: int | None = None) -> None:
    """Change kind or value of an entry of the first directory of a TIFF."""
    data = bytearray(path.read_bytes())
    found = _tiff_entries(bytes(data))
    assert found is not None
    order, big, entries, _ = found
    at = next(e for e in entries if struct.unpack_from(order + "H", data, e)[0] == tag)
    if kind is not None:
        struct.pack_into(order + "H", data, at + 2, kind)
    if value is not None:
        struct.pack_into(order + ("Q" if big else "I"), data, at + (12 if big else 8), value)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", SLIDE_KINDS)
def test_a_sound_slide_is_plausible_and_looked_at_in_little_time(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind].make(tmp_path)
    begun = time.perf_counter()
    found = structure_of(path)
    assert time.perf_counter() - begun < 0.5  # 0.4 ms on a quiet machine
    assert found.trust is (Trust.UNKNOWN if kind == "ome" else Trust.PLAUSIBLE)
    assert structure_of(path) is found  # remembered


@pytest.mark.parametrize(
    ("tag", "change", "trust"),
    [
        (
            325,
            {"kind": 12},
            Trust.IMPLAUSIBLE,
        ),  # the byte of crash_one_byte.svs: sizes as floating-point numbers
        (325, {"value": 1 << 31}, Trust.IMPLAUSIBLE),
        (324, {"value": 1 << 31}, Trust.IMPLAUSIBLE),
        (270, {"value": (1 << 32) - 2}, Trust.IMPLAUSIBLE),
        (322, {"value": 1 << 20}, Trust.IMPLAUSIBLE),
        (322, {"value": 0}, Trust.IMPLAUSIBLE),
        (256, {"value": 1 << 31}, Trust.IMPOSSIBLE),
        (257, {"value": 0}, Trust.IMPOSSIBLE),
    ],
)
def test_a_size_that_cannot_be_right_is_found(
    tag: int, change: dict[str, int], trust: Trust, tmp_path: Path
) -> None:
    path = KINDS["svs"].make(tmp_path)
    _set_entry(path, tag, **change)
    assert structure_of(path).trust is trust


def _circle(path: Path) -> Path:
    """Let the last directory lead to the first."""
    data = bytearray(path.read_bytes())
    order, _, _, nexts = _tiff_entries(bytes(data)) or ("", False, [], [])
    struct.pack_into(order + "I", data, nexts[-1], struct.unpack_from(order + "I", data, 4)[0])
    path.write_bytes(data)
    return path


def test_directories_that_run_in_a_circle_are_refused_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(SlideError, match="circle"):
        open_slide(_circle(KINDS["svs"].make(tmp_path)))
    assert time.monotonic() - begun < 5


def test_sides_of_billions_of_pixels_are_refused(tmp_path: Path) -> None:
    path = KINDS["svs"].make(tmp_path)
    _set_entry(path, 256, value=(1 << 31) - 1)
    with pytest.raises(SlideError, match="2147483647"):
        open_slide(path)


def test_a_slide_that_is_cut_short_is_called_damaged_not_another_kind_of_file(tmp_path: Path) -> None:
    path = KINDS["svs"].make(tmp_path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(SlideError, match=r"a\.svs is damaged: .*\. Copy or download it again"):
        open_slide(path)


def test_what_would_end_the_process_costs_a_tile_and_no_more(tmp_path: Path) -> None:
    path = KINDS["svs"].make(tmp_path)
    _set_entry(path, 325, kind=12)  # OpenSlide then allocates a TB and aborts
    with open_slide(path) as slide:
        assert slide.isolated
        with pytest.raises(SlideError, match=r"a\.svs is damaged at x=0, y=0"):
            slide.read_region(0, 0, 0, (64, 64))
    with open_slide(KINDS["tif"].make(tmp_path)) as sound:
        assert sound.read_region(0, 0, 0, (64, 64)).shape == (64, 64, 3)


def test_a_helper_that_hangs_or_ends_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = KINDS["tif"].make(tmp_path)
    begin = helper._CODE.replace("import json, sys;", "import json, os, sys, time;")
    monkeypatch.setattr(helper, "_pool", helper._Pool())
    ready = "print('{\"ready\": true}', flush=True); sys.stdin.readline();"
    monkeypatch.setattr(helper, "_CODE", f"{begin.partition('from')[0]}{ready} os.abort()")
    with pytest.raises(SlideError, match="ended the process that read it"):
        helper.HelperSlide(path)
    monkeypatch.setattr(helper, "OPEN_S", 1.5)
    monkeypatch.setattr(helper, "_CODE", f"{begin.partition('from')[0]}{ready} time.sleep(60)")
    begun = time.monotonic()
    with pytest.raises(SlideError, match="does not end"):
        helper.HelperSlide(path)
    assert time.monotonic() - begun < 10
    helper._pool.end()


def test_without_a_helper_only_what_is_implausible_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "_pool", helper._Pool())
    monkeypatch.setattr(helper.sys, "executable", str(tmp_path / "no-python"))
    guard._tried.clear()
    (tmp_path / "ome").mkdir()
    handle = open_guarded(KINDS["ome"].make(tmp_path / "ome"))
    assert not handle.isolated
    handle.slide.close()
    path = KINDS["svs"].make(tmp_path)
    _set_entry(path, 325, kind=12)
    with pytest.raises(SlideError, match="whole number"):
        open_slide(path)


def test_a_slide_in_a_helper_has_the_pixels_that_it_has_here(tmp_path: Path) -> None:
    path = KINDS["svs"].make(tmp_path)
    here, there = open_handle(path), helper.HelperSlide(path, tried=True)
    assert there.level_dimensions == here.slide.level_dimensions
    assert there.properties["openslide.vendor"] == "aperio"
    assert there.pages == here.pages
    for level in range(there.level_count):
        for x, y in ((0, 0), (200, 100), (590, 490)):
            for ours, theirs in ((there.read, here.read), (there.read_level, here.read_level)):
                parts = [np.asarray(read(x, y, level, (70, 50)).convert("RGBA")) for read in (ours, theirs)]
                assert np.array_equal(*parts)
    here.slide.close()
    there.close()


def _said(call: Callable[[], object]) -> tuple[type[SlideError], str]:
    with pytest.raises(SlideError) as error:
        call()
    return error.type, str(error.value)


def test_a_helper_refuses_with_the_same_error_and_sentence(tmp_path: Path) -> None:
    refused = [case for case in slides.CASES if case.refused and case.write is not None]
    for number, case in enumerate(refused):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert case.write is not None
        path = case.write(folder)
        if not path.is_dir():  # looked through before a helper is asked
            there = _said(lambda path=path: helper.HelperSlide(path, tried=True))
            assert there == _said(lambda path=path: open_handle(path)), case.name
        assert _said(lambda path=path: open_guarded(path)) == _said(lambda path=path: open_handle(path))
    assert len(refused) > 20


def test_several_slides_are_the_same_choice_by_way_of_a_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = slides.dicom_folder(tmp_path, slides=2)
    index = element(2, 2, "UI", "1.2.840.10008.1.3.10") + element(2, 16, "UI", "1.2.840.10008.1.2.1")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + index)
    monkeypatch.chdir(tmp_path)
    for path in (folder / "DICOMDIR", folder.relative_to(tmp_path) / "DICOMDIR"):
        errors = []
        for opener in (open_handle, helper.HelperSlide):
            with pytest.raises(SeveralSlidesError) as error:
                opener(path)
            errors.append(error.value)
        here, there = errors
        assert (there.folder, there.choices, str(there)) == (here.folder, here.choices, str(here))
        assert [file.parent for file, _ in there.choices] == [path.parent] * 2


def test_a_container_that_cannot_be_checked_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = KINDS["ome"].make(tmp_path)
    opened = []
    original = guard.HelperSlide
    monkeypatch.setattr(
        guard, "HelperSlide", lambda path, **options: opened.append(options) or original(path, **options)
    )
    guard._tried.clear()
    for _ in range(2):
        open_slide(path, mpp=0.5).close()
    assert [bool(options.get("tried")) for options in opened] == [True, False]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.svs", "a.dcm", "a.mrxs"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SlideError, match="no file but a pipe"):
            open_slide(tmp_path / name)
    with pytest.raises(SlideError, match="no DICOM slide"):
        open_slide(tmp_path)


def test_a_helper_loads_neither_torch_nor_qt() -> None:
    code = (
        "import sys, napari_survpgc.core.slide.helper_process\n"
        "print([m for m in ('torch', 'qtpy', 'napari', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_tile_says_its_size_before_it_is_decoded(tmp_path: Path) -> None:
    import imagecodecs

    image = np.zeros((48, 64, 3), np.uint8)
    assert declared_px(imagecodecs.jpeg_encode(image)) == (64, 48)
    assert declared_px(imagecodecs.jpeg2k_encode(image)) == (64, 48)
    assert declared_px(b"\xff\xd8\xff") is None
    assert declared_px(b"anything else") is None


# --- limits --------------------------------------------------------------------------------------------------


def test_a_header_that_declares_what_its_file_has_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (1 << 20, 1024), "f4", chunks=(64, 1024))  # 4 GB of fill values
        file.create_dataset("coords", (1 << 20, 2), "i4", chunks=(64, 2))
    with pytest.raises(FeatureError, match=r"claims 4,295 MB and has 0\.0"):
        KINDS["h5"].read(path)


def test_a_piece_that_unpacks_to_more_than_it_claims_is_refused(tmp_path: Path) -> None:
    import zlib

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("features", (8, 16), "f4", chunks=(8, 16), compression="gzip")
        noise = np.random.default_rng(0).bytes(3 << 20)  # a piece of less than 2 MB is not looked at
        rows.id.write_direct_chunk((0, 0), zlib.compress(noise, 1))
        file["coords"] = bag(16, 8).grid.coords
    with pytest.raises(FeatureError, match="unpacks to more"):
        KINDS["h5"].read(path)


def test_texts_that_share_one_long_text_are_refused(tmp_path: Path) -> None:
    path = KINDS["case"].make(tmp_path)
    with h5py.File(path, "a") as file:
        del file["document"]
        file.create_dataset("document", data=np.array(["x" * 1000] * 20000, dtype=h5py.string_dtype()))
    with pytest.raises(SurvPGCError, match="not a readable case file"):
        KINDS["case"].read(path)


@pytest.mark.parametrize("where", ["external", "soft"])
def test_a_case_file_follows_no_link_out_of_it(where: str, tmp_path: Path) -> None:
    path = KINDS["case"].make(tmp_path)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["rows"] = np.zeros((40, 1280), np.float32)
    with h5py.File(path, "a") as file:
        del file["features/rows"]
        file["features/rows"] = (
            h5py.ExternalLink("other.h5", "/rows")
            if where == "external"
            else h5py.SoftLink("/prediction/coords")
        )
    with pytest.raises(SurvPGCError, match="case"):
        KINDS["case"].read(path)


def test_an_expression_file_that_is_a_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_TRUSTED", 4 << 20)
    path = tmp_path / "counts.tsv.gz"
    path.write_bytes(gzip.compress(b"gene,a\n" + b"0,0\n" * (2 << 20)))
    with pytest.raises(ExpressionError, match=r"unpacks to more than 200 times"):
        KINDS["expr"].read(path)


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, '{"a":' * 400 + "1" + "}" * 400])
def test_json_that_is_nested_too_deeply_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BoundError, match="nested too deeply"):
        parse_json(text, float)
    for name, kind, error in (("t.geojson", "geo", TissueError), ("c.json", "clinical_json", ClinicalError)):
        (tmp_path / name).write_text(text)
        with pytest.raises(error):
            KINDS[kind].read(tmp_path / name)


def test_json_of_more_parts_than_memory_is_refused_before_it_is_read() -> None:
    begun = time.monotonic()
    with pytest.raises(BoundError, match="more parts"):
        parse_json("[" + "[]," * (15 << 20) + "[]]", float)  # 45 MB that would be 2 GB
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("text", ["a = " + "[" * 3000 + "]" * 3000, "a = 1\n" * 300_000, "a = " + "9" * 5000])
def test_settings_and_templates_that_are_no_settings_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        parse_toml(text)
    for name, error in (("settings.toml", CohortError), ("templates.toml", ClinicalError)):
        (tmp_path / name).write_text(text)
        with pytest.raises(error):
            KINDS["toml"].read(tmp_path / name)


def test_a_tensor_that_repeats_one_row_without_end_is_refused(tmp_path: Path) -> None:
    import torch

    path = KINDS["pt"].make(tmp_path)
    torch.save(torch.zeros(1, 16).expand(1 << 30, 16), path)  # 64 GB in 1 KB
    with pytest.raises(FeatureError, match="not a tensor file"):
        KINDS["pt"].read(path)


def test_a_bundle_that_asks_for_more_weights_than_it_has_is_refused_before_they_are_made(
    tmp_path: Path,
) -> None:
    path = KINDS["bundle"].make(tmp_path)
    document = json.loads((path / "bundle.json").read_text())
    document["model"]["config"]["dim"] = 1 << 17  # 200 GB
    (path / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="larger sizes"):
        KINDS["bundle"].read(path)


@pytest.mark.parametrize("value", ["=1+1", "", "inf", "1.0nuhl"])
def test_a_bundle_with_a_word_for_a_number_is_refused(value: str, tmp_path: Path) -> None:
    from tests.trust.mutate import _hash_again

    path = KINDS["bundle"].make(tmp_path)
    lines = (path / "genes.csv").read_text().splitlines()
    lines[1] = f"{lines[1].split(',')[0]},{value},1.0"
    (path / "genes.csv").write_text("\n".join(lines))
    _hash_again(path)
    with pytest.raises(BundleError, match=r"genes\.csv of bundle b has values in mean"):
        KINDS["bundle"].read(path)
