"""TotalSegmentator: patches of real CT, cut while the data set is read."""
