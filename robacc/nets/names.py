"""List the names of the nets.

A net is a module of its name in this folder, with a function `net(n_classes)`.
"""

from pathlib import Path

_OTHERS = ("layers", "model", "names")
NAMES = tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py") if file.stem not in _OTHERS))
