"""Make the cases in this folder with nnU-Net's own reading, cropping, resampling and export (see README.md here)."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

HERE = Path(__file__).parent
SHAPE = (14, 12, 9)
CONFIGURATION: dict[str, Any] = {
    "architecture": {"network_class_name": "x", "arch_kwargs": {}, "_kw_requires_import": []},
    "data_identifier": "x",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 1,
    "patch_size": [8, 8, 8],
    "median_image_size_in_voxels": [9, 12, 14],
    "spacing": [2.5, 2.5, 2.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
}
EXCLUSIVE = {"background": 0, "tumour": 2, "kidney": 1, "ignore": 3}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


def image() -> nib.Nifti1Image:
    """An image with an empty margin, which is cropped, turned by 20 degrees, its axes flipped and exchanged."""
    cos, sin = np.cos(np.pi / 9), np.sin(np.pi / 9)
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]) @ np.diag([1.5, 2.0, 3.0])
    affine[:3, 3] = 30, -20, 7
    voxels = np.zeros(SHAPE, np.float32)
    voxels[2:12, 1:11, 1:8] = 1 + np.random.default_rng(0).random((10, 10, 7))
    return nib.Nifti1Image(voxels, affine)


def logits(shape: tuple[int, ...], classes: int) -> np.ndarray:
    """Blobs in different places, sharper with every class."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    centres = [(0.4 * k - 0.4, 0.3 - 0.3 * k, 0.1 * k) for k in range(classes)]
    parts = [
        (3 + k) * (0.7 - sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True)))
        for k, centre in enumerate(centres)
    ]
    return np.stack(parts).astype(np.float32)


def version_2(name: str, reader: str, labels: dict, classes: int, transpose: list[int]) -> None:
    """Export a case as ``nnUNetv2_predict --save_probabilities`` does."""
    from nnunetv2.inference.export_prediction import export_prediction_from_logits
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = HERE / name
    folder.mkdir(exist_ok=True)
    nib.save(image(), folder / "case_0000.nii.gz")
    dataset = {"labels": labels, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}, "regions_class_order": [1, 2]}
    plans = PlansManager(
        {
            "dataset_name": "Dataset001_x",
            "plans_name": "x",
            "image_reader_writer": reader,
            "transpose_forward": transpose,
            "transpose_backward": [int(k) for k in np.argsort(transpose)],
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {"0": {}},
            "configurations": {"x": CONFIGURATION},
        }
    )
    configuration = plans.get_configuration("x")
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case(
        [str(folder / "case_0000.nii.gz")], None, plans, configuration, dataset
    )
    output = logits(data.shape[1:], classes)
    export_prediction_from_logits(output, properties, configuration, plans, dataset, str(folder / "case"), True, 1)
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n")
    (folder / "case_0000.nii.gz").unlink()


def version_1() -> None:
    """Export a case as ``nnUNet_predict --save_npz`` does; its properties are those that its cropping writes."""
    from nnunet.inference.segmentation_export import save_segmentation_nifti_from_softmax
    from nnunet.preprocessing.cropping import ImageCropper

    folder = HERE / "version_1"
    folder.mkdir(exist_ok=True)
    nib.save(image(), folder / "case_0000.nii.gz")
    data, _, properties = ImageCropper.crop_from_list_of_files([str(folder / "case_0000.nii.gz")])
    properties["list_of_data_files"] = ["case_0000.nii.gz"]
    properties["spacing_after_resampling"] = properties["original_spacing"]
    output = np.exp(logits(tuple(n - 1 for n in data.shape[1:]), 3))
    save_segmentation_nifti_from_softmax(
        output / output.sum(axis=0),
        str(folder / "case.nii.gz"),
        properties,
        1,
        None,
        None,
        None,
        str(folder / "case.npz"),
    )
    (folder / "case_0000.nii.gz").unlink()


if __name__ == "__main__":
    if sys.argv[1:] == ["1"]:
        version_1()
    else:
        version_2("exclusive", "SimpleITKIO", EXCLUSIVE, 3, [1, 0, 2])
        version_2("regions", "NibabelIO", REGIONS, 2, [0, 1, 2])
        version_2("reoriented", "NibabelIOWithReorient", EXCLUSIVE, 3, [2, 0, 1])
        version_2("reoriented_itk", "SimpleITKIOWithReorient", EXCLUSIVE, 3, [0, 1, 2])
    for path in sorted(HERE.glob("*/*.pkl")):
        print(path.relative_to(HERE), sorted(pickle.loads(path.read_bytes())))
