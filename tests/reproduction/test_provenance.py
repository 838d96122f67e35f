"""Tests of provenance: what a result says of where it came from, with and without git."""

import noisyseg
from reproduction import provenance


def test_it_names_version_packages_and_machine():
    found = provenance.provenance()
    assert found["version"] == noisyseg.__version__ and set(found["packages"]) == set(provenance.PACKAGES)
    assert found["machine"]["cores"] >= 1 and found["machine"]["python"].startswith("3.")


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "project_root", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.provenance()["commit"] == "unknown"
