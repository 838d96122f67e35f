"""Phantoms: images with a known segmentation, drawn from seeds."""
