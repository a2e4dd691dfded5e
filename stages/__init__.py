"""The stages of dvc.yaml: each parses its arguments, loads, calls `robacc`, and saves."""

import sys

from stages import environment

# Python imports a package before its modules, so `python -m stages.train` has loaded no library yet.
# An older Python than 3.11 starts `stages.install` alone, which says so.
if sys.argv[:1] == ["-m"] and sys.version_info >= (3, 11):
    environment.enter()
