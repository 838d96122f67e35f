"""The sums that all scores are made of."""

from __future__ import annotations

import math

import numpy as np

from noisyseg._core.arrays import Array, blocks, check_binary, check_unit, is_tensor


def sums(first: str, s: Array, m: Array, binary: bool) -> tuple[float, float, float, int]:
    """Give (sum of s m, sum of s, sum of m, number of voxels) of one image, after checking both arrays."""
    (check_binary if binary else check_unit)(first, s)
    check_unit("m", m)
    boolean = not is_tensor(s) and s.dtype.kind == "b"
    both, ones, soft = [], [float(np.count_nonzero(s))] if boolean else [], []
    for s_block, m_block in blocks(s, m):
        both.append(float((s_block * m_block).sum()))
        if not boolean:
            ones.append(float(s_block.sum()))
        soft.append(float(m_block.sum()))
    return math.fsum(both), math.fsum(ones), math.fsum(soft), math.prod(s.shape)
