"""Runs: one training, its folder and record, and grids of them."""
