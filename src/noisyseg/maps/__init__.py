"""Files of probability maps in, masks in the same geometry out: NIfTI, ``.npy``, ``.npz`` and nnU-Net's folders.

``noisyseg threshold`` does this from a command line; `noisyseg.maps.thresholding.threshold_case` does it for one file.
Needs NumPy and nibabel, and matplotlib for figures alone.
"""
