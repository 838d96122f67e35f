"""Cases: how data sets become patches on disk, and how patches come back.

One module a data set (:mod:`~reproduction.data.hippocampus`, :mod:`~reproduction.data.phantoms.cases`,
:mod:`~reproduction.data.totalsegmentator.patches`) over one format (:mod:`~reproduction.data.cases`).
"""

from reproduction.data.cases import Case, CaseSet, assign_folds, read_case, write_case

__all__ = ["Case", "CaseSet", "assign_folds", "read_case", "write_case"]
