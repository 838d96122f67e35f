"""The sums that all scores are made of."""

from __future__ import annotations

import math

from noisyseg._core.arrays import (
    Array,
    blocks,
    check_array,
    check_binary_block,
    check_same,
    check_unit_block,
    host_view,
)


def sums(first: str, s: Array, m: Array, binary: bool) -> tuple[float, float, float, int]:
    """Give (sum of s m, sum of s, sum of m, number of voxels), checking both arrays in the same walk."""
    s, m = check_array(first, s), check_array("m", m)
    check_same(first, s, "m", m)
    shape, voxels = tuple(s.shape), math.prod(s.shape)
    both, ones, soft = [], [], []
    for s_block, m_block in blocks(host_view(s), host_view(m)):
        (check_binary_block if binary else check_unit_block)(first, s_block, shape)
        check_unit_block("m", m_block, shape)
        both.append(float((s_block * m_block).sum()))
        ones.append(float(s_block.sum()))
        soft.append(float(m_block.sum()))
    return math.fsum(both), math.fsum(ones), math.fsum(soft), voxels
