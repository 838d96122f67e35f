"""Is this map a probability, and if not, what to do about it (book chapter *Is the map a probability?*).

`check` compares maps with their labels and says whether to use t, to recalibrate first, or to keep 1/2. `fit` makes a
`Calibration` of held-out maps. `optimal_dice_or_empty` is for structures that may be absent.
"""

from noisyseg.calibration.checking import Report, check
from noisyseg.calibration.fitting import KINDS, Calibration, fit
from noisyseg.calibration.presence import optimal_dice_or_empty

__all__ = ["KINDS", "Calibration", "Report", "check", "fit", "optimal_dice_or_empty"]
