"""Cases: how data sets become patches on disk, and how patches come back (book chapter *Data*).

One module a data set (:mod:`~noisyseg.data.hippocampus`, :mod:`~noisyseg.data.phantom_set`,
:mod:`~noisyseg.data.totalsegmentator`) over one format (:mod:`~noisyseg.data.cases`).
"""

from noisyseg.data.cases import Case, CaseSet, assign_folds, read_case, write_case

__all__ = ["Case", "CaseSet", "assign_folds", "read_case", "write_case"]
