"""Thresholding rules and the scores of their masks."""
