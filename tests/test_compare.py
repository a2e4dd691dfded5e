"""The comparison of experiments: a repository with results that never were, and experiments as DVC keeps them."""

import json
import os
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from robacc.report import comparison, curves
from stages import claims, compare
from tests import results_made_up, test_report

ROOT = Path(__file__).parent.parent
RESULTS = Path("results/mnist")
L2, LINF = curves.NAMES["l2"], curves.NAMES["linf"]
browser = test_report.browser


def git(*words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True).stdout.strip()


def experiment(name: str, minutes: int) -> None:
    """Keep the workspace as an experiment of HEAD, and take the workspace back."""
    head = git("rev-parse", "HEAD")
    git("add", "--all")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_COMMITTER_DATE", f"2030-01-01T00:{minutes:02}:00Z")
        commit = git("commit-tree", git("write-tree"), "-p", head, "-m", name)
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", commit)
    git("reset", "--quiet", "--hard")


def replaced(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def one_more_eps() -> None:
    replaced(Path("params.yaml"), "l2-2.5, linf-0.1", "l2-2.5, l2-3.5, linf-0.1")
    for name in ("accuracy", "sizes"):
        table = pd.read_csv(RESULTS / f"{name}.csv")
        more = table[table.model == "mnist-l2-2.5"].assign(model="mnist-l2-3.5", eps_train=3.5)
        pd.concat([table, more]).to_csv(RESULTS / f"{name}.csv", index=False)


def worse_in_linf() -> None:
    replaced(Path("params.yaml"), "eps_warmup: 0.2 ", "eps_warmup: 0.4 ")
    for name in ("accuracy", "sizes"):
        table = pd.read_csv(RESULTS / f"{name}.csv")
        table.loc[table.norm_train == "linf", ["accuracy", "low", "high"]] -= 0.05
        table.to_csv(RESULTS / f"{name}.csv", index=False)
    ledger = json.loads((RESULTS / "ledger.json").read_text())
    first, second = ledger["claims"][0], ledger["claims"][1]
    first["verdict"] = first["verdict"].partition("; linf: ")[0] + "; linf: opposite"
    next(effect for effect in second["effects"] if effect["norm"] == "linf")["value"] = 0.5
    (RESULTS / "ledger.json").write_text(json.dumps(ledger))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A commit with the experiments one-more-eps and, an hour later, a-linf."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("Makefile", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("robacc", "stages"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / ".dvc/.gitignore").write_text("/tmp\n/cache\n")
    (folder / ".gitignore").write_text("/reports\n")
    results_made_up.write(folder, "mnist")
    results_made_up.write_exact(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        claims.main(Namespace(dataset="mnist"))
        git("init", "--quiet")
        git("add", "--all")
        git("commit", "--quiet", "-m", "results")
        one_more_eps()
        experiment("one-more-eps", 1)
        worse_in_linf()
        experiment("a-linf", 2)
    return folder


@pytest.fixture(autouse=True)
def _inside(repository, monkeypatch):
    monkeypatch.chdir(repository)
    yield
    git("-C", str(repository), "reset", "--quiet", "--hard")


@pytest.fixture(scope="module")
def three(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        return compare.revisions([])


def said(rows: list[comparison.Row]) -> dict[str, str]:
    return {row.name: row.said for row in rows if row.said != comparison.SAME}


def cells(rows: list[comparison.Row], name: str) -> list[tuple[str, ...]]:
    (found,) = (row for row in rows if row.name == name)
    return [cell and (cell.verdict, *cell.lines) for cell in found.cells]


# ---- Which revisions ----------------------------------------------------------------------------------------------


def test_without_names_head_and_its_experiments_are_compared_by_age(three):
    assert [revision.name for revision in three] == ["HEAD", "one-more-eps", "a-linf"]
    assert three[0].commit == git("rev-parse", "HEAD")


def test_a_workspace_with_other_results_is_one_more():
    worse_in_linf()
    replaced(Path("params.yaml"), "eps_warmup: 0.4 ", "eps_warmup: 0.5 ")
    assert [revision.name for revision in compare.revisions([])][-1] == "workspace"
    assert said(comparison.parameters(compare.revisions(["a-linf", "workspace"]))) == {
        "recipes.mnist-laptop.eps_warmup": "differs"
    }


def test_names_are_experiments_and_whatever_git_knows():
    git("branch", "--force", "older")
    commit = git("rev-parse", "HEAD")
    names = ["older", "a-linf", commit[:8]]
    assert [revision.name for revision in compare.revisions(names)] == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a-linf", "no-such"], "expected workspace, an experiment or a revision of git, got 'no-such'"),
        (["a-linf"], r"expected 2 to 7 revisions, got 1 \(a-linf\); name them: make compare"),
        (["a-linf", "a-linf"], r"expected 2 to 7 revisions, got 1 \(a-linf\)"),
        (["HEAD", "without"], "without: expected results/mnist/sizes.csv, found none"),
        (["HEAD", "older-tables"], "older-tables: expected parameters and results of this version: .*images"),
        (["HEAD", "broken"], "broken: "),
        (["HEAD", "empty"], "empty: expected parameters and results of this version: "),
        (["HEAD", "not-run"], "not-run: expected results of the balls in params.yaml.* for mnist-l2-3.5$"),
    ],
)
def test_what_cannot_be_compared_is_one_line(names, message):
    def of(name: str) -> None:
        git("add", "--all")
        git("branch", "--force", name, git("commit-tree", git("write-tree"), "-p", "HEAD", "-m", name))
        git("reset", "--quiet", "--hard")

    (RESULTS / "sizes.csv").unlink()
    of("without")
    pd.read_csv(RESULTS / "accuracy.csv").drop(columns="images").to_csv(RESULTS / "accuracy.csv", index=False)
    of("older-tables")
    (RESULTS / "ledger.json").write_text("{")
    of("broken")
    replaced(Path("params.yaml"), "l2-2.5, linf-0.1", "l2-2.5, l2-3.5, linf-0.1")
    of("not-run")
    Path("params.yaml").write_text("run:\n")
    of("empty")
    with pytest.raises(ValueError, match=message) as refused:
        compare.revisions(names)
    assert len(str(refused.value).splitlines()) == 1


def test_without_names_what_has_no_results_is_left_out_with_a_line(capsys):
    replaced(Path("params.yaml"), "l2-2.5, linf-0.1", "l2-2.5, l2-3.5, linf-0.1")
    assert [revision.name for revision in compare.revisions([])] == ["HEAD", "one-more-eps", "a-linf"]
    assert capsys.readouterr().err.startswith("compare: left out: workspace: expected results of the balls")


def test_more_revisions_than_colours_are_refused():
    for number in range(8):
        git("branch", "--force", f"b{number}")
    with pytest.raises(ValueError, match="expected 2 to 7 revisions, got 8"):
        compare.revisions([f"b{number}" for number in range(8)])


def test_a_folder_that_is_no_clone_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    with pytest.raises(OSError, match="expected a git clone"):
        compare.revisions(["a", "b"])


# ---- What differs -------------------------------------------------------------------------------------------------


def test_the_parameters_that_differ_are_named(three):
    rows = comparison.parameters(three)
    assert said(rows) == {"balls.mnist": "differs", "recipes.mnist-laptop.eps_warmup": "differs"}
    assert cells(rows, "recipes.mnist-laptop.eps_warmup") == [("", "0.2"), ("", "0.2"), ("", "0.4")]
    assert "l2-3.5" in cells(rows, "balls.mnist")[1][1]


def test_standard_accuracy_is_a_mean_with_its_interval(three):
    rows = comparison.standard_accuracy(three, "mnist")
    differs = {f"{LINF} {eps}": "differs" for eps in (0.1, 0.2, 0.3)}
    assert said(rows) == {**differs, f"{L2} 3.5": "only in one-more-eps"}
    table = pd.read_csv(RESULTS / "accuracy.csv").query("model == 'mnist-linf-0.3' and images == 'all'")
    own = table[table.natural_fraction == 0].accuracy
    assert len(own) == 3
    expected = []
    for mean in (own.mean(), own.mean() - 0.05):
        low, high = stats.t.interval(0.95, 2, mean, own.std() / 3**0.5)
        expected.append(("", f"{100 * mean:.2f} [{100 * low:.2f}, {100 * high:.2f}], 3 seeds"))
    assert cells(rows, f"{LINF} 0.3") == [expected[0], *expected]
    assert cells(rows, f"{L2} 3.5")[::2] == [None, None]


def test_each_claim_and_norm_has_its_verdicts_and_what_differs_is_named(three):
    rows = comparison.ledger(three, "mnist")
    assert said(rows) == {"C1 linf": "other verdict", "C2 linf": "other numbers"}
    ledger = json.loads((RESULTS / "ledger.json").read_text())["claims"]
    claims_read = {(claim["id"], reading["norm"]) for claim in ledger for reading in claim["readings"]}
    assert {tuple(row.name.split()) for row in rows} == claims_read
    assert [cell[0] for cell in cells(rows, "C1 linf")[1:]] == [cells(rows, "C1 linf")[0][0], "opposite"]
    assert cells(rows, "C2 linf")[2][1].split(":")[1].startswith(" +50.00 [")
    assert comparison.counted(rows) == f"{len(rows)} rows: 1 other verdict, 1 other numbers"
    assert said(comparison.ledger(three)) == {}
    assert comparison.counted(comparison.ledger(three)) == "1 row: all the same"


def values(charts: str) -> dict[str, list[dict]]:
    """Return what the charts tell at each x, by their titles."""
    found = re.findall(r'data-values="([^"]*)"><p class="title">([^<]*), %<', charts)
    return {unescape(title): json.loads(unescape(text)) for text, title in found}


def test_curves_that_differ_lie_on_each_other_and_the_others_are_named(three):
    by_training, by_test, by_size = comparison.overlays(three, "mnist")
    table = pd.read_csv(RESULTS / "accuracy.csv").query("natural_fraction == 0")
    assert by_training.same == []
    point = values(by_training.charts)[f"training in {LINF}"][-1]
    mean = table.query("images == 'all' and norm_train == 'linf' and eps_train == 0.3").accuracy.mean()
    here, worse = (f"{100 * value:.2f} %" for value in (mean, mean - 0.05))
    assert point["values"] == [["s0", "HEAD", here], ["s1", "one-more-eps", here], ["s2", "a-linf", worse]]
    assert values(by_training.charts)[f"training in {L2}"][-1]["values"][0][:2] == ["s1", "one-more-eps"]
    linf = [f"{LINF} {eps}" for eps in (0.1, 0.2, 0.3)]
    assert values(by_size.charts).keys() == {*linf, f"{L2} 3.5"}
    assert values(by_test.charts).keys() == {
        *(f"{ball}, under PGD in {LINF}" for ball in linf),
        f"{L2} 3.5, under PGD in {L2}",
    }
    mean = table.query("norm_train == 'linf' and eps_train == 0.3 and norm_test == 'linf' and eps_test == 0.1").accuracy
    assert [at["x"] for at in values(by_test.charts)[f"{LINF} 0.3, under PGD in {LINF}"]][1] == "eps of the attack: 0.1"
    shown = values(by_test.charts)[f"{LINF} 0.3, under PGD in {LINF}"][1]["values"]
    assert [text for _, _, text in shown] == [
        f"{100 * value:.2f} %" for value in (mean.mean(),) * 2 + (mean.mean() - 0.05,)
    ]
    assert by_size.same == ["standard", f"{L2} 0.5", f"{L2} 1.5", f"{L2} 2.5"]
    assert "HEAD: none" in by_size.charts


def test_a_data_set_that_only_one_revision_runs_is_named(three):
    without = comparison.Revision("none", "", three[0].params, 0.95, three[0].exact, {}, {})
    assert set(said(comparison.ledger([three[0], without], "mnist")).values()) == {"only in HEAD"}
    assert "<p>Not run in none.</p>" in comparison.render(ROOT / "stages", [three[0], without])


# ---- The page -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(repository):
    """The page that make compare writes."""
    done = run(repository, "")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"The comparison: {repository / compare.PAGE}\n"
    return repository / compare.PAGE


def run(folder: Path, names: str) -> subprocess.CompletedProcess[str]:
    """Run make compare; PYTHON is what would set up the environment, which is there."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["make", "compare", "PYTHON=true"],
        cwd=folder, env=kept | {"PATH": path, "EXP": names}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_unknown_name_is_one_line_and_the_page_stays(page):
    before = page.read_bytes()
    done = run(page.parent.parent, "HEAD  no-such")
    assert done.returncode != 0
    assert re.match(r"compare: expected .* got 'no-such'.*\nmake: ", done.stderr)
    assert page.read_bytes() == before


def test_the_page_needs_no_other_file_and_says_what_differs_in_words(page):
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    rows = re.findall(r'<tr class="differs"><td class="name">([^<]*)</td><td class="said">([^<]*)</td>', text)
    assert ("C1 linf", "other verdict") in rows
    assert (f"{L2} 3.5", "only in one-more-eps") in rows
    assert "same" not in dict(rows).values()
    assert "1 other verdict, 1 other numbers." in text


@pytest.mark.parametrize(("width", "scheme", "scripts"), [(360, "dark", True), (1600, "light", False)])
def test_a_reader_sees_the_page_on_every_screen_and_without_scripts(page, browser, width, scheme, scripts):
    errors = []
    window = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
    )
    window.on("pageerror", lambda error: errors.append(str(error)))
    window.goto(page.as_uri())
    assert window.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert window.locator(".chart .lines .line").first.is_visible()
    assert window.locator("td.said", has_text="other verdict").is_visible()
    assert errors == []
    window.close()
