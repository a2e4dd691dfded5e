"""Write reports/compare.html: what differs between experiments in parameters, accuracies, curves and verdicts."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages import cli

if TYPE_CHECKING:
    from dvc.scm import Git

    from robacc.report.comparison import Revision

PAGE = Path("reports/compare.html")
WORKSPACE = "workspace"
HOW = 'name them: make compare EXP="name1 name2" (`dvc exp list --all-commits` has the names)'


def must_have_git() -> "Git":
    """Return git as DVC sees it; raise OSError, with what to do, if this folder is no clone."""
    from dvc.repo import Repo
    from dvc.scm import Git

    with Repo() as repo:
        if not isinstance(repo.scm, Git):
            raise OSError("expected a git clone, as experiments are kept in git; this folder is none")
        return repo.scm


def commit_of(name: str, git: "Git") -> str:
    """Return the commit of an experiment, branch, tag or commit by its name; "" of the workspace."""
    from dvc.scm import RevError, resolve_rev

    try:
        return "" if name == WORKSPACE else resolve_rev(git, name)
    except RevError:
        raise ValueError(
            f"expected {WORKSPACE}, an experiment or a revision of git, got {name!r}; "
            "`dvc exp list --all-commits` has the experiments"
        ) from None


def of_head(git: "Git") -> dict[str, str]:
    """Return HEAD, its experiments from old to new, and the workspace: name -> commit."""
    from dvc.repo.experiments.utils import exp_refs_by_baseline

    head = commit_of("HEAD", git)
    refs = exp_refs_by_baseline(git, {head}).get(head, [])
    found = {ref.name: git.get_ref(str(ref)) for ref in refs}
    by_age = sorted(found, key=lambda name: (git.resolve_commit(found[name]).commit_time, name))
    return {"HEAD": head, **{name: found[name] for name in by_age}, WORKSPACE: ""}


def files_of(commit: str) -> tuple[dict, dict[str, str]]:
    """Return the parameters and the texts of the result files of a commit, or of the workspace for "", as DVC has them.

    Raises FileNotFoundError if one is missing.
    """
    from dvc.api import DVCFileSystem
    from ruamel.yaml import YAML

    files = DVCFileSystem(rev=commit or None)
    params = YAML(typ="safe").load(files.read_text("params.yaml", encoding="utf-8"))
    run = [name for names in params["run"].values() for name in names]
    of_run = [f"{name}/{file}" for name in run for file in ("accuracy.csv", "sizes.csv", "ledger.json")]
    results = ["exact/ledger.json", *of_run]
    return params, {file: files.read_text(f"results/{file}", encoding="utf-8") for file in results}


def revision(name: str, commit: str) -> "Revision":
    """Return the parameters and results of a revision.

    Raises ValueError, with what to do, unless it has results, and of the balls in its params.yaml.
    """
    from ruamel.yaml import YAMLError

    from robacc.report import comparison

    try:
        return comparison.read(name, commit, *files_of(commit))
    except FileNotFoundError as error:
        raise ValueError(f"{name}: expected {error.filename}, found none; run dvc repro") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{name}: expected parameters and results of this version: {error.args[0]}") from None
    except (ValueError, YAMLError) as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from None


def same(one: "Revision", other: "Revision") -> bool:
    """Return whether two revisions have the same parameters and results."""
    return (one.params, one.texts) == (other.params, other.texts)


def revisions(names: list[str]) -> list["Revision"]:
    """Return the named revisions, or HEAD with its experiments and a workspace that differs from all of them.

    Raises ValueError for fewer than two, and for more than the page has colours. Without names, what has no results is
    left out with a line.
    """
    from robacc.report.comparison import MOST

    git = must_have_git()
    found: list[Revision] = []
    for name, commit in ({name: commit_of(name, git) for name in names} or of_head(git)).items():
        try:
            read = revision(name, commit)
        except ValueError as error:
            if names:
                raise
            print(f"compare: left out: {error}", file=sys.stderr)
            continue
        if names or commit or not any(same(read, other) for other in found):
            found.append(read)
    if len(found) < 2 or len(found) > MOST:
        said = ", ".join(each.name for each in found) or "none"
        raise ValueError(f"expected 2 to {MOST} revisions, got {len(found)} ({said}); {HOW}")
    return found


def main(args: argparse.Namespace) -> None:
    """Write the page and say where it is."""
    from robacc.files import write_text
    from robacc.report import comparison

    write_text(comparison.render(Path("stages"), revisions(args.names)), PAGE)
    print(f"The comparison: {PAGE.resolve()}")


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument(
        "names", nargs="*", help="experiments, other revisions of git, or workspace; else all of HEAD"
    )
    cli.run(main, arguments)
