"""The stages of dvc.yaml: each parses its arguments, loads, calls `robacc`, and saves."""

import sys

from stages import environment

# Python imports a package before its modules, so `python -m stages.train` has loaded no library yet.
if sys.argv[:1] == ["-m"]:
    environment.enter()
