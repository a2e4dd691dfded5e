"""Look at the images that ROBACC_IMAGES names, set params.yaml to them, and run `dvc repro`; `make own` calls this."""

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import cast

from robacc import params
from robacc.datasets import own
from stages import cli, repro

FORM = "{train,test}/<class>/ of PNG or JPEG, a .zip or .tar.gz of them, or the four IDX files"
RAW = Path("data/incoming/own")


def look(size: int | str) -> dict:
    """Keep the images that ROBACC_IMAGES names in `RAW`, and return the content of own.json for them.

    Raises OSError or ValueError, with its name, if they cannot be used.
    """
    from robacc.images.fetching import users_choice
    from robacc.sources import own as source

    given = os.environ.get("ROBACC_IMAGES")
    if not given:
        raise ValueError(f"expected ROBACC_IMAGES to name your images, got nothing; set it to a folder: {FORM}")
    with users_choice(f"ROBACC_IMAGES={given}", "docs/own-images.md has the forms"):
        report = partial(print, flush=True)
        found, said = source.read(Path(given).expanduser(), size, n_workers=cli.n_workers(), report=report)
        source.keep(found, said["name"], RAW)
    return said


def settings(said: dict, content: dict) -> list[str]:
    """Return the values to set in params.yaml, whose `content` is given, each as in run.own=[own].

    Of images that own.json already describes it is only that one. A user's changes in the sections of `own` then stay.
    """
    values = {"run.own": ["own"]}
    try:
        params.load()
        known = said == own.read()
    except (ValueError, OSError):  # own.json is of other images, or a run was killed between its files
        known = False
    if not known:
        values |= own.parameters(said, content)
    words = {key: json.dumps(value).replace('"', "") for key, value in values.items()}  # no quotes, as they stand there
    return [f"{key}={word}" for key, word in words.items()]


def main(_: argparse.Namespace) -> None:
    """Run the pipeline on the user's images, and say where the report is."""
    with repro.alone() as checkout:
        before, read = params.read(repro.PARAMS.read_bytes())
        content = cast(dict, read)  # a TypeError below if it is none
        try:
            said = look(content["own"]["size"])
            text = repro.with_values(before, settings(said, content))
        except (KeyError, TypeError):  # of a section that is missing or no section
            params.load()
            raise
        about = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
        with repro.contents({own.FILE: about, repro.PARAMS: text}):
            checkout.dvc("repro")
    print(f"The report: {Path('reports/index.html').resolve()}")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
