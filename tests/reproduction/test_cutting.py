"""Tests of cutting on small subjects: damage, what is missing, replacement, and what a stop leaves."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ct_subjects import CLASSES, as_folder, as_zip, ball_subjects, nifti
from reproduction.data.cases import in_order, read_case, write_case
from reproduction.data.nifti import read_image
from reproduction.data.totalsegmentator import cutting
from reproduction.data.totalsegmentator.cutting import Cutting
from reproduction.data.totalsegmentator.selection import Criteria
from reproduction.data.totalsegmentator.subjects import CT, Folder, LocalZip

ORGANS = dict(zip(("kidney", "aorta", "oesophagus"), CLASSES, strict=True))
CRITERIA = {
    "kidney": Criteria("LRPAIS", 100, 1, 0.9),
    "aorta": Criteria("LRPA", 100, 20, 0.0),
    "oesophagus": Criteria("LRPA", 100, 20, 0.0),
}
FILES = ball_subjects(8, 24)
ORDER = in_order(f"s{k:04d}" for k in range(8))


class Watched(Folder):
    """Remembers what was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, CLASSES)
        self.log: list[tuple[str, str]] = []
        self.closed = False

    def read(self, key: tuple[str, str]) -> bytes:
        self.log.append(key)
        return super().read(key)

    def close(self) -> None:
        self.closed = True


def unpacked(content: bytes) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)


def cut(
    folder: Path, source: Path, cases: int = 6, partial: bool = False, workers: int = 1
) -> tuple[Cutting, list[str]]:
    lines: list[str] = []
    made = Cutting(folder, Watched(source), ORGANS, CRITERIA, cases, workers, lines.append)
    made.read_masks()
    made.read_cts(partial)
    return made, lines


def change(files: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: content for name, content in {**FILES, **files}.items() if content is not None}


@pytest.fixture
def source(tmp_path) -> Path:
    return as_folder(tmp_path / "source", FILES)


def test_masks_first_then_the_cts_of_the_selected_alone(tmp_path, source):
    made, lines = cut(tmp_path / "out", source)
    log = made.source.log  # type: ignore[attr-defined]
    assert [key[1] for key in log[:24]] == list(CLASSES) * 8 and [key[0] for key in log[:24:3]] == ORDER
    assert [key for key in log[24:]] == [(subject, CT) for subject in ORDER[:6]], "one CT serves three organs"
    assert lines == ["8 subjects, 24 masks to read", "6 CTs to read for 18 cases, at most 0.02 GB on disk"]
    for organ in ORGANS:
        assert list(made.entries[organ]) == ORDER[:6]
        assert made.left_out[organ] == {subject: "not needed: 6 come before it" for subject in ORDER[6:]}
        case = read_case(tmp_path / "out" / organ / f"{ORDER[0]}.npz")
        assert case.digest() == made.entries[organ][case.id]["sha256"]
        assert case.image.shape == (64, 64, 64) and case.spacing_mm.tolist() == [3, 3, 3]


def test_a_patch_by_hand(tmp_path, source):
    """Voxels of 3 mm: the patch is the scan itself, moved so that the structure is in the middle, in air."""
    cut(tmp_path / "out", source)
    case = read_case(tmp_path / "out" / "kidney" / "s0000.npz")
    scan, _ = read_image(FILES["s0000/ct.nii.gz"])
    # The ball's centre, voxel (8, 12, 11), is at 8.5, 12.5, 11.5: the patch begins at 8.5 - 32 = -23.5, even -24.
    start = np.array([24, 20, 20])
    inside = tuple(slice(s, s + 24) for s in start)
    assert np.array_equal(case.image[inside], scan)
    assert np.count_nonzero(case.image == -1024) == 64**3 - 24**3
    x, y, z = np.indices((24, 24, 24))
    assert np.array_equal(case.label[inside], (x - 8) ** 2 + (y - 12) ** 2 + (z - 11) ** 2 <= 36)


def test_many_workers_make_the_same(tmp_path, source):
    one, _ = cut(tmp_path / "one", source)
    four, _ = cut(tmp_path / "four", source, workers=4)
    assert four.entries == one.entries and four.left_out == one.left_out


TOO_BIG = nifti(np.zeros((24, 24, 25), np.int16) + np.arange(25, dtype=np.int16), np.diag([3.0, 3, 3, 1]))
MOVED = nifti(np.arange(24**3, dtype=np.int16).reshape(24, 24, 24), np.diag([3.0, 3, 3, 1]) + np.eye(4, k=3))
NAN = nifti(np.where(np.arange(24**3) % 99, 1, np.nan).reshape(24, 24, 24).astype(np.float32), np.diag([3.0, 3, 3, 1]))
FIRST, SECOND = ORDER[:2]


@pytest.mark.parametrize(
    ("ct", "reason"),
    [
        (FILES[f"{FIRST}/ct.nii.gz"][:-100], "no usable NIfTI volume"),
        (b"", "no usable NIfTI volume"),
        (gzip.compress(b"text", mtime=0), "no usable NIfTI volume"),
        (TOO_BIG, r"its shape \(24, 24, 25\) or place is not that of its mask \(24, 24, 24\)"),
        (MOVED, r"its shape \(24, 24, 24\) or place is not that of its mask"),
        (NAN, "an image with 140 voxels of NaN or infinity"),
    ],
    ids=["cut", "empty", "text", "other shape", "other place", "nan"],
)
def test_a_damaged_ct_is_reported_and_the_next_subject_takes_its_place(tmp_path, ct, reason):
    bad = as_folder(tmp_path / "source", change({f"{FIRST}/ct.nii.gz": ct}))
    made, lines = cut(tmp_path / "out", bad)
    (line,) = [line for line in lines if "skipped" in line]
    assert line.startswith(f"{FIRST}: skipped, damaged CT (")
    for organ in ORGANS:
        assert list(made.entries[organ]) == ORDER[1:7]
        assert made.left_out[organ][FIRST].startswith("damaged CT (")
        assert not (tmp_path / "out" / organ / f"{FIRST}.npz").exists()
    assert re.search(reason, line)


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
MASK = unpacked(FILES[f"{FIRST}/segmentations/aorta.nii.gz"])


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (nifti(np.zeros((24, 24, 24), RGB), np.diag([3.0, 3, 3, 1])), "its voxels are RGB colours"),
        (nifti(MASK.astype(np.complex64), np.diag([3.0, 3, 3, 1])), "its voxels are complex64"),
        (nifti(np.where(MASK, np.nan, 0), np.diag([3.0, 3, 3, 1])), "voxels of nan; expected 0, 1"),
        (nifti(MASK[..., None], np.diag([3.0, 3, 3, 1])), "4 axes, shape (24, 24, 24, 1); expected three"),
        (FILES[f"{FIRST}/segmentations/aorta.nii.gz"][:-9], "no usable NIfTI volume"),
        (FILES[f"{FIRST}/ct.nii.gz"], "a label with"),
        (b"\x1f\x8b", "no usable NIfTI volume"),
    ],
    ids=["rgb", "complex", "nan", "four axes", "cut", "a ct", "half a header"],
)
def test_a_damaged_mask_costs_its_organ_alone_and_is_read_again_next_time(tmp_path, mask, reason):
    bad = as_folder(tmp_path / "source", change({f"{FIRST}/segmentations/aorta.nii.gz": mask}))
    made, lines = cut(tmp_path / "out", bad)
    (line,) = [line for line in lines if "skipped" in line]
    assert line.startswith(f"{FIRST}: skipped for aorta, damaged mask aorta (") and reason in line
    assert list(made.entries["aorta"]) == ORDER[1:7] and list(made.entries["kidney"]) == ORDER[:6]
    assert made.left_out["aorta"][FIRST] == line.split("skipped for aorta, ")[1]
    mended, lines = cut(tmp_path / "out", as_folder(tmp_path / "source", FILES))
    assert mended.source.log == [(FIRST, "aorta"), (FIRST, CT)]  # type: ignore[attr-defined]
    assert list(mended.entries["aorta"]) == ORDER[:6]


def test_masks_and_cts_in_metres_and_masks_with_a_slope_give_the_same_cases(tmp_path, source):
    """A mask of 0 and 255 with the slope 1/255, a float32, reads 1.0000000591."""
    whole, _ = cut(tmp_path / "whole", source)
    changed = {}
    for name, content in FILES.items():
        voxels = unpacked(content)
        image = nib.Nifti1Image(voxels if name.endswith("ct.nii.gz") else 255 * voxels, np.diag([0.003] * 3 + [1]))
        image.header.set_xyzt_units("meter")
        if not name.endswith("ct.nii.gz"):
            image.header.set_slope_inter(1 / 255, 0)
        raw = bytearray(image.to_bytes())
        if not name.endswith("ct.nii.gz"):
            struct.pack_into("<2f", raw, 112, 1 / 255, 0)  # scl_slope, scl_inter
        changed[name] = gzip.compress(raw, 1)
    made, lines = cut(tmp_path / "made", as_folder(tmp_path / "metres", changed))
    assert made.entries == whole.entries and not [line for line in lines if "skipped" in line]


def test_what_a_subject_lacks_is_reported(tmp_path):
    bad = as_folder(
        tmp_path / "source",
        change({f"{FIRST}/segmentations/esophagus.nii.gz": None, f"{SECOND}/ct.nii.gz": None}),
    )
    made, lines = cut(tmp_path / "out", bad)
    assert (
        lines[:2]
        == [f"{FIRST}: skipped, no mask esophagus", f"{SECOND}: skipped, no CT"][:: 1 if FIRST < SECOND else -1]
    )
    assert made.left_out["oesophagus"][FIRST] == "no mask esophagus"
    assert all(made.left_out[organ][SECOND] == "no CT" for organ in ORGANS)
    assert not [key for key in made.source.log if key[0] == SECOND], "its masks are of no use"  # type: ignore[attr-defined]
    assert list(made.entries["kidney"]) == [ORDER[0], *ORDER[2:7]]


def test_too_few_is_an_error_that_says_why_before_any_ct_is_read(tmp_path):
    small = nifti(np.pad(np.ones((1, 1, 1), np.uint8), ((3, 20), (3, 20), (3, 20))), np.diag([3.0, 3, 3, 1]))
    empty = nifti(np.zeros((24, 24, 24), np.uint8), np.diag([3.0, 3, 3, 1]))
    bad = as_folder(
        tmp_path / "source",
        change(
            {
                f"{FIRST}/segmentations/kidney_right.nii.gz": small,
                f"{SECOND}/segmentations/kidney_right.nii.gz": empty,
                f"{ORDER[2]}/segmentations/kidney_right.nii.gz": FILES[f"{ORDER[2]}/segmentations/aorta.nii.gz"],
            }
        ),
    )
    message = (
        r"^kidney: 5 of 8 subjects meet the criteria \(1 too few voxels in the patch, 1 empty, 1 cut off by the "
        r"volume's border\); wanted 6; ask for fewer \(--cases 5\), no mask is read again$"
    )
    with pytest.raises(ValueError, match=message):
        cut(tmp_path / "out", bad)
    assert not list((tmp_path / "out").rglob("*.npz"))
    made, lines = cut(tmp_path / "out", bad, partial=True)
    assert [len(made.entries[organ]) for organ in ORGANS] == [5, 6, 6]
    assert {key[1] for key in made.source.log} == {CT} and lines[0] == "8 subjects, 0 masks to read"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"kidney: 0 of 2 subjects meet .*; wanted 5$"):
        two = {name: FILES[name] for name in FILES if name[:5] in ORDER[:2]} | {
            f"{s}/segmentations/kidney_right.nii.gz": empty for s in ORDER[:2]
        }
        cut(tmp_path / "other", as_folder(tmp_path / "two", two), partial=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "disk"])
@pytest.mark.parametrize("stage", ["write_structure", "write_case"])
def test_a_stop_in_the_middle_goes_on_and_reads_nothing_twice(tmp_path, monkeypatch, source, stage, error):
    whole, _ = cut(tmp_path / "whole", source)
    original, written = getattr(cutting, stage), []

    def write(path, content):
        if len(written) == 7:
            raise error
        written.append(original(path, content))

    made = Cutting(tmp_path / "out", Watched(source), ORGANS, CRITERIA, 6, 1, lambda line: None)
    with monkeypatch.context() as patched:
        patched.setattr(cutting, stage, write)
        with pytest.raises(type(error)):
            made.read_masks()
            made.read_cts(False)
    assert made.source.closed  # type: ignore[attr-defined]
    again, _ = cut(tmp_path / "out", source)
    assert again.entries == whole.entries and again.left_out == whole.left_out
    first, second = made.source.log, again.source.log  # type: ignore[attr-defined]
    twice = set(first) & set(second)
    # What was on its way when it stopped, at most one file more, which the thread had taken before it was told.
    assert len(twice) <= 2 and len(set(first) | set(second)) == 24 + 6


def test_a_stop_calls_nothing_damaged(tmp_path, monkeypatch):
    """The archive is closed under the threads that still read: that is no fault of its files."""
    path = as_zip(tmp_path / "x.zip", FILES)
    for attempt in range(10):
        lines: list[str] = []
        source = LocalZip(path, ORGANS.values())
        made = Cutting(tmp_path / str(attempt), source, ORGANS, CRITERIA, 6, 4, lines.append)

        def write(path, content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cutting, "write_structure", write)
        with pytest.raises(OSError, match="No space left"):
            made.read_masks()
        assert lines == ["8 subjects, 24 masks to read"]


def test_a_case_that_is_not_of_this_selection_is_refused(tmp_path, source):
    cut(tmp_path / "out", source)
    path = tmp_path / "out" / "kidney" / f"{FIRST}.npz"
    case = read_case(path)
    write_case(path, type(case)(case.id, case.image, case.label[::-1].copy(), case.spacing_mm))
    with pytest.raises(ValueError, match=rf"kidney/{FIRST}.npz has another label than .*{FIRST}.json; delete both"):
        cut(tmp_path / "out", source)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{FIRST}.npz is no readable case"):
        cut(tmp_path / "out", source)
    path.unlink()
    made, _ = cut(tmp_path / "out", source)
    assert made.source.log == [(FIRST, CT)]  # type: ignore[attr-defined]
