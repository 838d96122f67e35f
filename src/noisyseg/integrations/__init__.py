"""Transforms for MONAI and TorchIO; each module imports its library, and nothing else imports the module."""
