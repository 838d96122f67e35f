"""Private parts of the library: checks of arrays, blocks, the search for a threshold, voxels."""
