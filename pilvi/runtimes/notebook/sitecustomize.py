"""Python reads this at its start, in kernels, terminals and scripts alike: further packages, behind those that are there anyway.

PyTorch is an environment of its own; notebooks have it without a second copy.
"""

import os
import site

if _place := os.environ.get("PILVI_PACKAGES_BEHIND"):
    site.addsitedir(_place)
