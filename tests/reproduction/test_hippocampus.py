"""Tests of reproduction.data.hippocampus: cutting by hand, damaged sources, interruption, and the 260 real cases."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from range_server import serve
from reproduction.data import hippocampus
from reproduction.data.cases import CaseSet, write_case, write_manifest
from reproduction.data.hippocampus import ORGAN, make_hippocampus, patch

COUNT = 6
NAMES = [f"hippocampus_{k:03d}" for k in range(0, 2 * COUNT, 2)]  # one side of each person
REAL_DIGEST = "d8b066b25683b5ced74c141b72db13aecc39932ddaa8795949d6766416f09822"


def nifti(array: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    image = nib.Nifti1Image(array, np.diag([1.0, 1, 1, 1]) if affine is None else affine)
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def arrays(k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(k)
    image = rng.integers(0, 2000, size=(9, 12, 7)).astype(np.int16)
    label = np.zeros(image.shape, np.uint8)
    label[2:7, 2:6, 2:5] = 1
    label[2:7, 6:10, 2:5] = 2
    return image, label


def source_files() -> dict[str, bytes]:
    """A data set of six tiny cases in the official layout: path to content."""
    files = {"dataset.json": b"{}"}
    for k, name in enumerate(NAMES):
        image, label = arrays(k)
        files[f"imagesTr/{name}.nii.gz"] = nifti(image)
        files[f"labelsTr/{name}.nii.gz"] = nifti(label)
    files["imagesTs/hippocampus_900.nii.gz"] = nifti(arrays(9)[0])  # unlabelled
    files["imagesTr/._hippocampus_000.nii.gz"] = b"macOS"
    files["labelsTr/._hippocampus_000.nii.gz"] = b"macOS"
    return {f"Task04_Hippocampus/{path}": content for path, content in files.items()}


def as_folder(root: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def quiet(line: str) -> None:
    """Report to nobody."""


def make(folder: Path, source: Path | None, expected: int = COUNT) -> CaseSet:
    return make_hippocampus(folder, source, expected, quiet)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file: what is written anew gets others."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return source_files()


@pytest.fixture
def source(tmp_path, files) -> Path:
    return as_folder(tmp_path / "source", files)


# ---- one case, by hand ----


def test_a_patch_by_hand():
    """4^3 voxels at 1 mm are 2^3 at 2 mm in the middle of 32^3, voxels 15 and 16; both labels count."""
    image = np.full((4, 4, 4), 10.0)
    image[2:] = 30.0  # mean 20, standard deviation 10
    label = np.zeros((4, 4, 4), np.uint8)
    label[0, 0, :2] = 1  # 2 of the 8 voxels of block (0, 0, 0)
    label[2, :2, 2:], label[3, 0, 2] = 2, 1  # 5 of the 8 voxels of block (1, 0, 1)
    case = patch("x", image, label, np.eye(4), np.eye(4))
    assert case.id == "x" and case.spacing_mm.tolist() == [2, 2, 2]
    assert case.image.shape == case.label.shape == (32, 32, 32)
    assert np.all(case.image[15, 15:17, 15:17] == -1) and np.all(case.image[16, 15:17, 15:17] == 1)
    assert np.count_nonzero(case.image) == 8, "0, the mean, outside the volume"
    assert np.argwhere(case.label).tolist() == [[16, 15, 16]]


def test_an_odd_axis_has_one_more_voxel_after_it():
    image = np.repeat([1.0, 2.0, 3.0], 16).reshape(3, 4, 4)
    label = (image == 3).astype(np.uint8)  # half of the second block: a tie, which counts
    case = patch("x", image, label, np.eye(4), np.eye(4))
    one = np.sqrt(1.5)  # 1 over the standard deviation of 1, 2, 3
    np.testing.assert_allclose(case.image[14:18, 15, 15], [0, -one / 2, one / 2, 0], atol=1e-7)
    assert np.argwhere(case.label).tolist() == [[16, j, k] for j in (15, 16) for k in (15, 16)]


def test_intensities_lose_offset_and_scale_and_nothing_else():
    image, label = arrays(0)
    case = patch("x", image, label, np.eye(4), np.eye(4))
    other = patch("x", 1e4 * image.astype(float) - 3e6, label, np.eye(4), np.eye(4))
    np.testing.assert_allclose(other.image, case.image, atol=1e-5)
    assert case.image.sum(dtype=np.float64) == pytest.approx(0, abs=1e-4), (
        "the sum over the patch is that of the volume"
    )


def test_the_labels_are_merged():
    image, label = arrays(0)
    one, two = np.minimum(label, 1), 2 * np.minimum(label, 1)
    digests = {
        patch("x", image, each, np.eye(4), np.eye(4)).digest() for each in (label, one, two, label.astype(float))
    }
    assert len(digests) == 1


def test_storage_order_does_not_matter(tmp_path, files):
    """A volume stored right to left, with an affine that says so, is the same patch."""
    flipped = {**files}
    for k, name in enumerate(NAMES):
        affine = np.diag([-1.0, 1, 1, 1])
        affine[0, 3] = 8
        for folder, array in zip(("imagesTr", "labelsTr"), arrays(k), strict=True):
            flipped[f"Task04_Hippocampus/{folder}/{name}.nii.gz"] = nifti(array[::-1], affine)
    assert make(tmp_path / "a", as_folder(tmp_path / "s", flipped)).digest == (
        make(tmp_path / "b", as_folder(tmp_path / "t", files)).digest
    )


IMAGE, LABEL = arrays(0)
SHIFTED = np.eye(4)
SHIFTED[0, 3] = 0.5


@pytest.mark.parametrize(
    ("image", "label", "affine", "label_affine", "message"),
    [
        (IMAGE, LABEL[1:], np.eye(4), np.eye(4), r"does not match its image: shapes \(8, 12, 7\) and \(9, 12, 7\)"),
        (IMAGE, LABEL, np.eye(4), SHIFTED, r"does not match its image: .* affines \[\[1.0, 0.0, 0.0, 0.5\]"),
        (IMAGE, LABEL, np.eye(4), np.diag([1.0, 1, 2, 1]), r"does not match its image: .*\[0.0, 0.0, 2.0, 0.0\]"),
        (IMAGE, LABEL, np.diag([2.0, 2, 2, 1]), np.diag([2.0, 2, 2, 1]), r"voxels of \[2.0, 2.0, 2.0\] mm; expected 1"),
        (IMAGE, 0 * LABEL, np.eye(4), np.eye(4), "the label is empty"),
        (
            np.zeros((65, 2, 2)),
            np.zeros((65, 2, 2)),
            np.eye(4),
            np.eye(4),
            r"shape \(65, 2, 2\); expected three axes of at",
        ),
        (
            IMAGE[..., None],
            LABEL[..., None],
            np.eye(4),
            np.eye(4),
            r"shape \(9, 12, 7, 1\); expected three axes of at most 64",
        ),
    ],
)
def test_bad_arrays(image, label, affine, label_affine, message):
    with pytest.raises(ValueError, match=f"^case x: .*{message}"):
        patch("x", image, label, affine, label_affine)


# ---- a whole source ----


def test_folder_its_parent_and_tar_give_the_same_set(tmp_path, files, source):
    made = make(tmp_path / "a", source)
    assert list(made.entries(ORGAN)) == NAMES
    for k, case in enumerate(made.load(ORGAN)):
        assert case.digest() == patch("", *arrays(k), np.eye(4), np.eye(4)).digest()
        assert made.entries(ORGAN)[case.id]["voxels"] == case.label.sum()
    assert make(tmp_path / "b", source / "Task04_Hippocampus").manifest == made.manifest
    assert make(tmp_path / "c", as_tar(tmp_path / "t.tar", files)).manifest == made.manifest
    packed = tmp_path / "t.tar.gz"
    packed.write_bytes(gzip.compress((tmp_path / "t.tar").read_bytes()))
    assert make(tmp_path / "d", packed).manifest == made.manifest
    assert sorted(path.name for path in (tmp_path / "c").rglob("*")) == sorted(
        [ORGAN, "manifest.json", *(f"{name}.npz" for name in NAMES)]
    )


def test_a_second_call_writes_nothing_and_needs_no_source(tmp_path, source):
    first = make(tmp_path / "a", source)
    before = stamps(tmp_path / "a")
    second = make(tmp_path / "a", tmp_path / "gone")
    assert second.manifest == first.manifest and stamps(tmp_path / "a") == before
    (tmp_path / "a" / "manifest.json").unlink()
    assert make(tmp_path / "a", source).digest == first.digest
    after = stamps(tmp_path / "a")
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}, "cases are kept"


def test_progress_is_reported(tmp_path, source):
    lines: list[str] = []
    make_hippocampus(tmp_path / "a", source, COUNT, lines.append)
    assert lines == ["hippocampus: 6 of 6 cases"]


def test_a_deleted_case_is_made_again(tmp_path, source):
    first = make(tmp_path / "a", source)
    before = stamps(tmp_path / "a")
    (tmp_path / "a" / ORGAN / f"{NAMES[2]}.npz").unlink()
    assert make(tmp_path / "a", source).digest == first.digest
    after = stamps(tmp_path / "a")
    assert set(after) == set(before)
    assert {name for name in before if before[name] != after[name]} == {f"{ORGAN}/{NAMES[2]}.npz"}
    first.load(ORGAN)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "disk full"]
)
@pytest.mark.parametrize("done", [0, 1, 4])
def test_an_interrupted_preparation_goes_on(tmp_path, monkeypatch, source, done, error):
    whole = make(tmp_path / "whole", source)
    written: list[Path] = []

    def write(path, case):
        if len(written) == done:
            raise error
        written.append(write_case(path, case))

    with monkeypatch.context() as patched:
        patched.setattr(hippocampus, "write_case", write)
        with pytest.raises(type(error)):
            make(tmp_path / "a", source)
    assert not (tmp_path / "a" / "manifest.json").exists(), "a folder with a manifest is complete"
    before = stamps(tmp_path / "a")
    assert len(before) == done
    assert make(tmp_path / "a", source).manifest == whole.manifest
    after = stamps(tmp_path / "a")
    assert len(after) == COUNT + 1 and {name: after[name] for name in before} == before


Change = Callable[[dict[str, bytes]], dict[str, bytes | None]]
IMAGE_2 = f"Task04_Hippocampus/imagesTr/{NAMES[2]}.nii.gz"
LABEL_2 = f"Task04_Hippocampus/labelsTr/{NAMES[2]}.nii.gz"


def flip(content: bytes, place: int) -> bytes:
    damaged = bytearray(content)
    damaged[place] ^= 0xFF
    return bytes(damaged)


DAMAGE = rf"{NAMES[2]}\.nii\.gz: no usable NIfTI volume: .*; fetch it again"
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
BAD_SOURCES: dict[str, tuple[Change, str]] = {
    "truncated image": (lambda f: {IMAGE_2: f[IMAGE_2][:-40]}, f"^imagesTr/{DAMAGE}"),
    "truncated label": (lambda f: {LABEL_2: f[LABEL_2][: len(f[LABEL_2]) // 2]}, f"^labelsTr/{DAMAGE}"),
    "empty file": (lambda f: {IMAGE_2: b""}, f"^imagesTr/{DAMAGE}"),
    "corrupted gzip": (lambda f: {IMAGE_2: flip(f[IMAGE_2], len(f[IMAGE_2]) // 2)}, f"^imagesTr/{DAMAGE}"),
    "wrong checksum": (lambda f: {IMAGE_2: flip(f[IMAGE_2], -6)}, f"^imagesTr/{DAMAGE}"),
    "no gzip": (lambda f: {IMAGE_2: gzip.decompress(f[IMAGE_2])}, f"^imagesTr/{DAMAGE}"),
    "no NIfTI": (lambda f: {IMAGE_2: gzip.compress(b"hello")}, f"^imagesTr/{DAMAGE}"),
    "header only": (lambda f: {IMAGE_2: gzip.compress(gzip.decompress(f[IMAGE_2])[:352])}, f"^imagesTr/{DAMAGE}"),
    "half a header": (lambda f: {IMAGE_2: gzip.compress(gzip.decompress(f[IMAGE_2])[:200])}, f"^imagesTr/{DAMAGE}"),
    "unknown data type": (
        lambda f: {IMAGE_2: gzip.compress(flip(gzip.decompress(f[IMAGE_2]), 70))},
        f"^imagesTr/{DAMAGE}",
    ),
    "other shape": (
        lambda f: {LABEL_2: nifti(LABEL[:, :, 1:])},
        f"^case {NAMES[2]}: the label does not match its image",
    ),
    "other place": (
        lambda f: {LABEL_2: nifti(LABEL, SHIFTED)},
        f"^case {NAMES[2]}: the label does not match its image",
    ),
    "value 3": (
        lambda f: {LABEL_2: nifti(LABEL + 1)},
        rf"^labelsTr/{NAMES[2]}\.nii\.gz: a label with 60 voxels of 3; expected 0, 1, 2",
    ),
    "NaN": (
        lambda f: {IMAGE_2: nifti(IMAGE * np.float32("nan"))},
        rf"^imagesTr/{NAMES[2]}\.nii\.gz: an image with 756 voxels of NaN or infinity",
    ),
    "constant": (
        lambda f: {IMAGE_2: nifti(0 * IMAGE)},
        rf"^imagesTr/{NAMES[2]}\.nii\.gz: an image with one value only",
    ),
    "colours": (lambda f: {LABEL_2: nifti(np.zeros((9, 12, 7), RGB))}, f"^labelsTr/{DAMAGE}"),
    "empty label": (lambda f: {LABEL_2: nifti(0 * LABEL)}, f"^case {NAMES[2]}: the label is empty"),
    "2 mm": (
        lambda f: {IMAGE_2: nifti(IMAGE, np.diag([2.0, 2, 2, 1])), LABEL_2: nifti(LABEL, np.diag([2.0, 2, 2, 1]))},
        rf"^case {NAMES[2]}: voxels of \[2\.0, 2\.0, 2\.0\] mm; expected 1 mm",
    ),
    "no label": (
        lambda f: {LABEL_2: None},
        rf": 1 cases have an image or a label only, the first is {NAMES[2]}\.nii\.gz",
    ),
    "no image": (
        lambda f: {IMAGE_2: None},
        rf": 1 cases have an image or a label only, the first is {NAMES[2]}\.nii\.gz",
    ),
    "one less": (
        lambda f: {LABEL_2: None, IMAGE_2: None},
        "found 5 labelled cases below imagesTr and labelsTr; expected 6",
    ),
    "one more": (
        lambda f: {p.replace("004", "777"): f[p] for p in (IMAGE_2, LABEL_2)},
        "found 7 labelled cases below imagesTr and labelsTr; expected 6",
    ),
}


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("name", BAD_SOURCES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:nibabel")
def test_bad_sources(tmp_path, files, kind, name):
    change, message = BAD_SOURCES[name]
    changed = {path: content for path, content in {**files, **change(files)}.items() if content is not None}
    bad = as_folder(tmp_path / "s", changed) if kind == "folder" else as_tar(tmp_path / "s.tar", changed)
    with pytest.raises(ValueError, match=message) as caught:
        make(tmp_path / "a", bad)
    assert "\n" not in str(caught.value), "one line"
    assert not (tmp_path / "a" / "manifest.json").exists()
    # Nothing is lost: with the source mended, the cases before the damaged one are kept and the rest is made.
    before = stamps(tmp_path / "a") if (tmp_path / "a").exists() else {}
    assert len(before) == (2 if "case" in message[:6] or "Tr/" in message[:12] else 0)
    mended = make(tmp_path / "a", as_folder(tmp_path / "mended", files))
    after = stamps(tmp_path / "a")
    assert {path: after[path] for path in before} == before and len(mended.load(ORGAN)) == COUNT


@pytest.mark.parametrize(
    "member", [f"imagesTr/{NAMES[0]}.nii.gz", f"imagesTr/{NAMES[3]}.nii.gz", f"labelsTr/{NAMES[-1]}.nii.gz"]
)
@pytest.mark.parametrize("place", ["before header", "in header", "before data", "in data", "one byte short"])
def test_a_truncated_tar(tmp_path, files, member, place):
    path = as_tar(tmp_path / "t.tar", files)
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        info = archive.getmember(f"Task04_Hippocampus/{member}")
    length = {
        "before header": info.offset,
        "in header": info.offset + 300,
        "before data": info.offset_data,
        "in data": info.offset_data + info.size // 2,
        "one byte short": info.offset_data + info.size - 1,
    }[place]
    path.write_bytes(whole[:length])
    with pytest.raises(
        ValueError, match=r"t\.tar(: .*cases| is damaged or no tar \(.*\); delete it and fetch it again)"
    ):
        make(tmp_path / "a", path)
    path.write_bytes(whole)
    assert len(make(tmp_path / "a", path).load(ORGAN)) == COUNT


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 3000, b"<html>404</html>" * 100, b"\x1f\x8b\x08 no gzip"])
def test_a_tar_that_is_none(tmp_path, content):
    (tmp_path / "t.tar").write_bytes(content)
    with pytest.raises(
        (ValueError, OSError), match=r"t\.tar is damaged or no tar \(|t\.tar: found 0 labelled cases"
    ) as caught:
        make(tmp_path / "a", tmp_path / "t.tar")
    assert "\n" not in str(caught.value)


def test_members_that_climb_or_link_are_harmless(tmp_path, files):
    good = make(tmp_path / "good", as_folder(tmp_path / "s", files))
    evil = nifti(arrays(99)[0])
    (tmp_path / "inner").mkdir()
    path = as_tar(
        tmp_path / "inner" / "t.tar",
        {
            **files,
            "../../imagesTr/evil.nii.gz": evil,
            "Task04_Hippocampus/../imagesTr/hippocampus_000.nii.gz": evil,
            "/imagesTr/../imagesTr/evil.nii.gz": evil,
            "../evil.nii.gz": evil,
            "Task04_Hippocampus/imagesTr/._evil.nii.gz": evil,
        },
    )
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("Task04_Hippocampus/labelsTr/evil.nii.gz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        folder = tarfile.TarInfo("Task04_Hippocampus/imagesTr/folder.nii.gz")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    before = {path for path in tmp_path.rglob("*") if "good" not in path.parts}
    made = make(tmp_path / "inner" / "a", path)
    assert made.manifest == good.manifest
    new = {path for path in tmp_path.rglob("*") if "good" not in path.parts} - before
    assert all(tmp_path / "inner" / "a" in (path, *path.parents) for path in new)


@pytest.mark.parametrize("name", ["none", "none.tar"])
def test_a_source_that_does_not_exist(tmp_path, name):
    message = rf"source .*{name} does not exist; expected a folder with Task04_Hippocampus, or its tar"
    with pytest.raises(FileNotFoundError, match=message):
        make(tmp_path / "a", tmp_path / name)
    assert not (tmp_path / "a").exists()


def test_an_empty_folder(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(ValueError, match=r"s: found 0 labelled cases below imagesTr and labelsTr; expected 6"):
        make(tmp_path / "a", tmp_path / "s")


def test_damaged_results_are_named_and_made_again_once_deleted(tmp_path, source):
    first = make(tmp_path / "a", source)
    manifest, case = tmp_path / "a" / "manifest.json", tmp_path / "a" / ORGAN / f"{NAMES[3]}.npz"
    whole = case.read_bytes()
    manifest.write_text(manifest.read_text()[:-100])
    with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
        make(tmp_path / "a", source)
    manifest.unlink()
    case.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{NAMES[3]}\.npz is no readable case .*; delete it and run its data script"):
        make(tmp_path / "a", source)
    case.unlink()
    assert make(tmp_path / "a", source).digest == first.digest


# ---- the download ----


@pytest.fixture
def host(tmp_path, files, monkeypatch):
    """The archive on a server of our own, in place of the public one."""
    (tmp_path / "www").mkdir()
    path = as_tar(tmp_path / "www" / "Task04_Hippocampus.tar", files)
    monkeypatch.setenv("NO_PROXY", "*")
    with serve(path.parent) as server:
        monkeypatch.setattr(hippocampus, "URL", f"{server.url}/{path.name}")
        monkeypatch.setattr(hippocampus, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
        yield path


def test_without_source_the_archive_is_fetched(tmp_path, host, source):
    made = make(tmp_path / "data" / "hippocampus", None)
    assert made.digest == make(tmp_path / "b", source).digest
    kept = tmp_path / "data" / "downloads" / "Task04_Hippocampus.tar"
    assert kept.read_bytes() == host.read_bytes()
    host.unlink()
    make(tmp_path / "data" / "other", None)  # from the archive that is there


def test_an_archive_with_another_checksum_is_not_used(tmp_path, host):
    host.write_bytes(host.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"the download has MD5 .*; it was removed, run it again"):
        make(tmp_path / "data" / "hippocampus", None)
    assert not (tmp_path / "data" / "hippocampus").exists()


# ---- the real data ----


@pytest.fixture(scope="module")
def real(tmp_path_factory, hippocampus_source) -> CaseSet:
    """All 260 cases."""
    return make_hippocampus(tmp_path_factory.mktemp("real") / "hippocampus", hippocampus_source, report=quiet)


def test_the_real_set(real):
    entries = real.entries(ORGAN)
    assert len(entries) == hippocampus.CASES == 260
    folds = [entry["fold"] for entry in entries.values()]
    assert sorted(folds.count(fold) for fold in range(5)) == [50, 50, 51, 53, 56]
    assert real.manifest["source"]["md5"] == "9d24dba78a72977dbd1d2e110310f31b"
    cases = real.load(ORGAN)
    for case in cases:
        assert case.image.shape == (32, 32, 32) and case.spacing_mm.tolist() == [2, 2, 2]
        assert case.image.sum(dtype=np.float64) == pytest.approx(0, abs=0.01)
        assert case.label.sum() == entries[case.id]["voxels"]
    assert len({case.digest() for case in cases}) == 260, "no case twice"


def test_the_real_set_is_the_one_that_results_were_computed_from(real):
    """The results are of the first edition, which dealt the cases to the folds one by one: the cases are the same."""
    text = "".join(f"{ORGAN}/{name}:{entry['sha256']}\n" for name, entry in real.entries(ORGAN).items())
    assert hashlib.sha256(text.encode()).hexdigest() == REAL_DIGEST


def test_real_volumes_and_places_survive_the_cutting(real, hippocampus_source):
    """Against the labels at 1 mm, read here and not by the code that cut them."""
    ratios, shifts = [], []
    for name, case in zip(real.entries(ORGAN), real.load(ORGAN), strict=True):
        stored = nib.load(hippocampus_source / "Task04_Hippocampus" / "labelsTr" / f"{name}.nii.gz")  # type: ignore[attr-defined]
        label = np.asarray(nib.as_closest_canonical(stored).dataobj) > 0
        ratios.append(8 * case.label.sum() / label.sum())
        before = np.array([(64 - n) // 2 for n in label.shape])
        centre = (np.argwhere(label) + before + 0.5).mean(axis=0)
        shifts.append(np.linalg.norm(2 * (np.argwhere(case.label) + 0.5).mean(axis=0) - centre))
    # A tie is foreground, so volumes grow: by 5.4 % on average, by 10.4 % at most.
    assert 1.0 < min(ratios) and max(ratios) < 1.105
    assert np.mean(ratios) == pytest.approx(1.0536, abs=1e-4)
    assert max(shifts) < 0.5, "mm"


def test_a_second_preparation_gives_the_same_bits_and_a_second_call_writes_nothing(real, tmp_path, hippocampus_source):
    again = make_hippocampus(tmp_path / "again", hippocampus_source, report=quiet)
    assert again.manifest == real.manifest
    before = stamps(real.folder)
    assert make_hippocampus(real.folder, hippocampus_source, report=quiet).digest == real.digest
    assert stamps(real.folder) == before


def test_both_sides_of_a_person_are_in_one_fold(tmp_path):
    """Also in a set that an earlier version dealt to the folds case by case: its cases are kept."""
    files = {}
    names = [f"hippocampus_{k:03d}" for k in (1, 2, 3, 5, 6, 7, 8, 10, 11, 12)]  # of 4 and 9 there is one side
    for k, name in enumerate(names):
        image, label = arrays(k)
        files[f"Task04_Hippocampus/imagesTr/{name}.nii.gz"] = nifti(image)
        files[f"Task04_Hippocampus/labelsTr/{name}.nii.gz"] = nifti(label)
    source = as_folder(tmp_path / "source", files)
    made = make_hippocampus(tmp_path / "set", source, expected=10)
    fold = {name: entry["fold"] for name, entry in made.entries(ORGAN).items()}
    pairs = [(1, 2), (5, 6), (7, 8), (11, 12)]
    assert all(fold[f"hippocampus_{i:03d}"] == fold[f"hippocampus_{j:03d}"] for i, j in pairs)
    assert set(fold.values()) == {0, 1, 2, 3, 4}
    rule = {name: value for name, value in made.manifest["patch"].items() if name != "folds_by"}
    entries = {name: {"voxels": e["voxels"], "sha256": e["sha256"]} for name, e in made.entries(ORGAN).items()}
    old = write_manifest(tmp_path / "set", ORGAN, {ORGAN: entries}, made.manifest["source"], rule)
    assert {name: entry["fold"] for name, entry in old.entries(ORGAN).items()} != fold and old.digest != made.digest
    again = make_hippocampus(tmp_path / "set", tmp_path / "nowhere", expected=10)
    assert again.manifest == made.manifest
