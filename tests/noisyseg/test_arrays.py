import subprocess
import sys

import numpy as np
import pytest
from kinds import KINDS, needs_torch, torch

import noisyseg
from noisyseg._core import arrays as _checks

PROMISED = {  # the design's: others rely on them
    "GaussianDeformation",
    "accuracy",
    "accuracy_volume_bounds",
    "cross_entropy",
    "dice",
    "dice_threshold",
    "dice_volume_bounds",
    "gaussian_field",
    "optimal_accuracy",
    "optimal_at_volume",
    "optimal_dice",
    "soft_dice",
}


def test_public_names():
    assert set(noisyseg.__all__) >= PROMISED
    assert noisyseg.__all__ == sorted(noisyseg.__all__)
    assert all(callable(getattr(noisyseg, name)) for name in noisyseg.__all__)


def test_the_import_loads_numpy_alone():
    code = (
        "import sys; before = set(sys.modules); import noisyseg\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["noisyseg", "numpy"]


def test_numpy_use_never_imports_torch_or_scipy():
    code = (
        "import sys, numpy as np, noisyseg as n\n"
        "l = np.zeros((8, 8)); l[2:6, 2:6] = 1\n"
        "g = n.GaussianDeformation(0.05); m = g.marginal(l)\n"
        "n.dice(n.optimal_dice(m), g.sample(l, 0)); n.cross_entropy(m, l); n.gaussian_field((4,), 0.1, 0.1, 0)\n"
        "heavy = {'torch', 'scipy', 'nibabel', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (np.zeros((0, 3)), r"x: expected at least one voxel, got an empty array of shape \(0, 3\)"),
        (np.float64(0.5), r"x: expected an array with at least one axis"),
        (np.array(["a"]), r"x: expected an array of booleans or real numbers, got dtype <U1"),
        (np.array([1j]), r"x: .* got dtype complex128"),
        (None, r"x: .* got dtype object"),
        ([[1, 2], [3]], r"x: expected an array of numbers"),
    ],
)
def test_check_array_refuses(x, found):
    with pytest.raises(ValueError, match=found):
        _checks.check_array("x", x)


@needs_torch
def test_check_array_refuses_tensors():
    for x, found in (
        (torch.zeros(2, 0), r"x: expected at least one voxel, got an empty array of shape \(2, 0\)"),
        (torch.tensor(0.5), r"x: expected an array with at least one axis"),
        (torch.tensor([1j]), r"x: .* got dtype torch.complex64"),
    ):
        with pytest.raises(ValueError, match=found):
            _checks.check_array("x", x)
    with pytest.raises(ValueError, match="x and y: expected two NumPy arrays or two torch tensors, got ndarray"):
        _checks.check_same("x", np.zeros(2), "y", torch.zeros(2))
    with pytest.raises(ValueError, match=r"x and y: expected the same device, got cpu and meta"):
        _checks.check_same("x", torch.zeros(2), "y", torch.zeros(2, device="meta"))


def test_check_array_takes_lists():
    np.testing.assert_array_equal(_checks.check_array("x", [[0, 1]]), np.array([[0, 1]]))


@pytest.mark.parametrize(
    ("x", "y", "found"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), r"x and y: expected the same shape, got \(2, 3\) and \(3, 2\)"),
    ],
)
def test_check_same_refuses(x, y, found):
    with pytest.raises(ValueError, match=found):
        _checks.check_same("x", x, "y", y)


@pytest.mark.parametrize(
    ("value", "n", "positive", "found"),
    [
        (-0.1, None, False, "a: expected finite non-negative numbers, got -0.1"),
        (0, None, True, "a: expected finite positive numbers, got 0.0"),
        (float("nan"), None, False, "a: .* got nan"),
        ((0.1, float("inf")), 2, False, "a: .* got inf"),
        ((0.1, 0.2), 3, False, "a: expected one number or one for each of the 3 axes, got 2"),
        ((), None, False, "a: expected a non-negative number or one per axis, got none"),
        ("wide", None, False, "a: expected a number or one number per axis, got 'wide'"),
        ([[0.1], [0.1, 0.2]], None, False, "a: expected a number or one number per axis"),
        ([[0.1], [0.2]], 2, False, "a: expected a number or one number per axis"),
    ],
)
def test_per_axis_refuses(value, n, positive, found):
    with pytest.raises(ValueError, match=found):
        _checks.per_axis("a", value, n, positive=positive)


def test_per_axis_repeats_a_single_number():
    assert _checks.per_axis("a", 0.25, 3) == (0.25, 0.25, 0.25)
    assert _checks.per_axis("a", np.array([0.25, 0.5])) == (0.25, 0.5)
    assert _checks.per_axis("a", 0) == (0.0,)


@pytest.mark.parametrize("label", [np.array([0, 2]), np.array([0.0, 0.5]), np.array([-1, 1]), np.array([0, np.nan])])
@pytest.mark.parametrize("kind", KINDS)
def test_check_label_refuses_other_than_0_and_1(label, kind):
    with pytest.raises(ValueError, match=r"label \(shape \(2,\)\): expected a binary array of 0 and 1, found "):
        _checks.check_label("label", kind(label))


def test_blocks_visit_every_voxel_once_in_step():
    rng = np.random.default_rng(0)
    x = rng.random((2, 3 * _checks.BLOCK // 4), dtype=np.float32)
    y = np.asfortranarray(x.astype(np.float16).astype(">f4"))
    seen = [(a.copy(), b.copy()) for a, b in _checks.blocks(x, y)]
    assert len(seen) > 1
    assert all(a.dtype == b.dtype == np.float64 and a.ndim == 1 for a, b in seen)
    a, b = (np.concatenate(part) for part in zip(*seen, strict=True))
    np.testing.assert_array_equal(np.sort(a), np.sort(x.astype(np.float64).reshape(-1)))
    np.testing.assert_array_equal(a.astype(np.float16), b)


@needs_torch
def test_host_view_shares_memory():
    x = torch.zeros(3)
    _checks.host_view(x)[1] = 5
    assert x.tolist() == [0, 5, 0]
    assert _checks.host_view(torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True)).dtype == np.float32
