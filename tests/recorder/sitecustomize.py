"""Records which parameters and modules a stage uses, while it runs. Python imports this first, from PYTHONPATH.

With ROBACC_RECORD naming a folder, each process of a stage adds lines to a file there, named as the stage's file in
code/: `param datasets.mnist.n_seeds`, `module robacc.files`.
"""

import atexit
import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path

FOLDER = os.environ.get("ROBACC_RECORD")


def note(kind: str, what: str, seen: set = set()) -> None:  # noqa: B006 (one for the process)
    if (kind, what) not in seen:
        seen.add((kind, what))
        arguments = sys.argv[1:]
        dataset = arguments[arguments.index("--dataset") + 1] if "--dataset" in arguments else ""
        name = f"{Path(sys.argv[0]).stem}-{dataset}".removesuffix("-")
        with (Path(FOLDER) / name).open("a") as file:
            file.write(f"{kind} {what}\n")


def record_reads(params) -> None:
    """Make every section of params.yaml note what is read of it; where it stands travels with it to workers."""
    section, load = params.Section, params.load
    places: dict[int, tuple] = {}
    get, dump, give, take = section.__getattribute__, section.model_dump, section.__getstate__, section.__setstate__
    loads = []

    class Keyed(dict):
        def __init__(self, content, place):
            super().__init__(content)
            self.place = place

        def __getitem__(self, key):
            value = super().__getitem__(key)
            if not isinstance(value, section):
                note("param", ".".join((*self.place, key)))
            return value

    def getattribute(self, name):
        value = get(self, name)
        place = places.get(id(self))
        if place is None or name not in type(self).model_fields or isinstance(value, section):
            return value
        if isinstance(value, dict) and place == ():
            return Keyed(value, (name,))
        note("param", ".".join((*place, name)))
        return value

    def model_dump(self, **options):
        if id(self) in places:
            note("param", ".".join(places[id(self)]))
        return dump(self, **options)

    def locate(self, place):
        places[id(self)] = place
        for name in type(self).model_fields:
            value = get(self, name)
            parts = value.items() if isinstance(value, dict) else [(None, value)]
            for key, part in parts:
                if isinstance(part, section):
                    locate(part, (*place, name) if key is None else (*place, name, key))

    def recorded(*arguments):
        loaded = load(*arguments)
        loads.append(loaded)  # kept, as a place is known by the identity of a section
        if len(loads) > 1:  # the first only checks the stage's code
            locate(loaded, ())
        return loaded

    def getstate(self):
        return {**give(self), "place": places.get(id(self))}

    def setstate(self, state):
        place = state.pop("place")
        take(self, state)
        if place is not None:
            loads.append(self)
            locate(self, place)

    params.load = recorded
    section.__getattribute__, section.model_dump = getattribute, model_dump
    section.__getstate__, section.__setstate__ = getstate, setstate


class Loader(importlib.abc.Loader):
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        record_reads(module)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "robacc.params":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = Loader(spec.loader)
        return spec


def record_modules() -> None:
    if "stages" in sys.modules:
        for name in list(sys.modules):
            if name.split(".")[0] in ("robacc", "stages"):
                note("module", name)


if FOLDER:
    sys.meta_path.insert(0, Finder())
    atexit.register(record_modules)
