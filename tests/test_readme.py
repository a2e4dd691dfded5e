"""The README and the pages in docs/: they say what results/ holds, and their commands and examples run."""

import json
import re
import subprocess
import tomllib
from itertools import product
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

from robacc.report import verdicts
from stages import readme
from tests import documented, graph

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CLAIM = {"id": "C2", "statement": "a |b|", "verdict": "l2: equal; linf: opposite", "readings": [{"verdict": "equal"}]}

pages = pytest.mark.parametrize("page", documented.PAGES, ids=lambda page: page.name)


def test_the_example_runs_on_any_model(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.rand(30, 3, 4, 4)
    names = {"model": net, "x": x, "y": net(x).argmax(1)}
    exec(compile(example, "README.md", "exec"), names)
    assert "'n_correct': 30" in capsys.readouterr().out
    assert [row["eps"] for row in names["outcomes"].counts()] == [0.0, 0.0, 2 / 255, 8 / 255]


# ---- The tables of verdicts ---------------------------------------------------------------------------------------


def test_the_readme_says_what_the_results_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert readme.filled() == README, "run `python -m stages.readme`"


def test_each_data_set_has_a_column_and_each_claim_a_row():
    other = {**CLAIM, "id": "C10"}
    text = verdicts.tables([other], {"A": [other, CLAIM], "B": [CLAIM]}, ["D", "E"])
    nets, exact = (part.splitlines() for part in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE))
    assert nets[0] == "| claim | the paper says of nets | A | B |"
    assert nets[2:] == [
        r"| C2 | a \|b\| | l2: equal<br>linf: opposite | l2: equal<br>linf: opposite |",
        r"| C10 | a \|b\| | l2: equal<br>linf: opposite |  |",
    ]
    assert exact[2:] == [r"| C10 | a \|b\| | l2: equal<br>linf: opposite |"]
    assert "Not run in this clone: D, E." in text
    assert "A. Verdicts on 2 claims, by norm and place: 2 equal." in text


def test_without_a_set_left_out_no_line_says_so():
    assert "Not run" not in verdicts.tables([CLAIM], {"A": [CLAIM]}, [])


def test_filling_changes_nothing_outside_the_marks_and_twice_is_once():
    text = f"before\n{verdicts.BEGIN}\nold\n{verdicts.END}\nafter\n"
    once = verdicts.fill(text, "new")
    assert once == f"before\n{verdicts.BEGIN}\n\nnew\n\n{verdicts.END}\nafter\n"
    assert verdicts.fill(once, "new") == once


@pytest.mark.parametrize(
    "text", ["", verdicts.BEGIN, f"{verdicts.END}\n{verdicts.BEGIN}", 2 * f"{verdicts.BEGIN}{verdicts.END}"]
)
def test_a_readme_without_its_marks_is_refused(text):
    with pytest.raises(ValueError, match="each once"):
        verdicts.fill(text, "new")


def test_only_data_sets_with_results_have_a_column(tmp_path, monkeypatch):
    for name in ("exact", "cifar10"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "ledger.json").write_text(json.dumps({"claims": [CLAIM]}))
    (tmp_path / "README.md").write_text(f"{verdicts.BEGIN}\n{verdicts.END}\n")
    monkeypatch.chdir(tmp_path)
    text = readme.filled()
    assert "| claim | the paper says of nets | CIFAR-10 |" in text
    assert "Not run in this clone: MNIST, Restricted ImageNet (64 px), Restricted ImageNet." in text


# ---- The graph ----------------------------------------------------------------------------------------------------


def reached(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return every pair of which the second is reached from the first."""
    further = arrows | {(one, last) for one, middle in arrows for other, last in arrows if other == middle}
    return further if further == arrows else reached(further)


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in DVC
def test_the_picture_is_the_graph_of_dvc_yaml(monkeypatch):
    """From a script to those that read what it writes, by the files that dvc.yaml names."""
    monkeypatch.chdir(ROOT)
    assert readme.drawn(README) == README, "run `python -m stages.readme`"
    (picture,) = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", README, re.DOTALL)
    arrows = set(re.findall(r"(\w+) --> (\w+)", picture))
    stages = [(of["cmd"].split()[2].split(".")[1], of) for of in graph.stages().values()]
    files = {
        (maker, reader)
        for (maker, made), (reader, needing) in product(stages, stages)
        if maker not in ("code", reader)
        and any(f"{out}/".startswith(f"{dep}/") for out in made["outs"] for dep in needing["deps"])
    }
    assert reached(arrows) == reached(files)
    assert all(reached(arrows - {arrow}) != reached(arrows) for arrow in arrows), "an arrow that others imply"
    of_balls = {name for name, of in stages if " --ball " in of["cmd"]}
    assert set(re.findall(r'(\w+)\[\["\1"\]\]', picture)) == of_balls


# ---- Commands -----------------------------------------------------------------------------------------------------


def test_commands_that_are_run_in_other_words_have_their_test():
    tests = (ROOT / "tests/test_pipeline.py").read_text("utf-8")
    said = {command.text for command in documented.commands() if command.reason is None}
    for text, test in documented.ELSEWHERE.items():
        assert text in said, "no page has it any more"
        assert f"def {test}(" in tests
    assert documented.to_run()


def test_commands_that_no_test_runs_are_few_and_have_a_reason():
    """That the others run, test_pipeline.py shows in a finished clone."""
    for command in documented.commands():
        assert command.text, command
        assert command.reason is None or len(command.reason.split()) > 1, command


def test_a_remote_names_the_package_that_it_needs_and_a_cluster_gives_each_task_its_clone():
    # fault: dvc remote add s3:// or ssh:// as printed, and four shares at once in one checkout
    lines = (ROOT / "docs/several-machines.md").read_text("utf-8").splitlines()
    remotes = {match[1]: line for line in lines if (match := re.search(r"remote add .*? (\w+)://", line))}
    assert remotes.keys() == {"s3", "ssh"}
    assert all(f"needs dvc-{kind}." in line for kind, line in remotes.items())
    pinned = (ROOT / "requirements-remotes.lock").read_text("utf-8")
    assert all(f"\ndvc-{kind}==" in pinned for kind in remotes)
    (cluster,) = (line for line in lines if line.startswith("sbatch"))
    assert "I=$SLURM_ARRAY_TASK_ID; { test -d part-$I || git clone " in cluster
    first, last, of = re.search(r"--array=(\d+)-(\d+) .* cd part-\$I && make share PART=\$I/(\d+)'", cluster).groups()
    assert (first, last) == ("1", of)


def test_one_more_eps_trains_that_ball_alone():
    """The list to copy is that of params.yaml and one ball more."""
    (command,) = (text for text in documented.ELSEWHERE if text.startswith("dvc exp run"))
    balls = re.search(r"\[(.*)\]", command)[1].split(",")
    own = YAML(typ="safe").load(ROOT / "params.yaml")["balls"]["mnist"]
    assert [ball for ball in balls if ball in own] == own
    assert len(balls) == len(own) + 1
    kinds = {name.split("@")[0] for name in graph.stages() if name.endswith("@mnist-l2-1.5")}
    (said,) = re.findall(r"You will see five stages run for `l2-3.5`: (.*)\.", README)
    assert set(re.findall(r"`(\w+)`", said)) == kinds


@pages
def test_targets_of_make_and_modules_that_a_page_names_exist(page):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = page.read_text("utf-8")
    for target in set(re.findall(r"(?:^|`|&& )(?:[A-Z_]+=\S+ )*make ([a-z][a-z0-9_-]*)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for module in set(re.findall(r"python -m ((?:stages|benchmarks)\.\w+)", text)):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


# ---- Form ---------------------------------------------------------------------------------------------------------


@pages
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]*)(?:#([\w-]*))?\)", page.read_text("utf-8"))
    for link, anchor in links:
        if not link.startswith("https://"):
            target = (page.parent / link).resolve() if link else page
            assert target.exists(), link
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


def test_every_page_is_linked_from_the_readme():
    assert [
        page.name for page in documented.PAGES if page.parent.name == "docs" and f"(docs/{page.name}" not in README
    ] == []


@pages
def test_sentences_of_pages_are_short(page):
    assert [text for text in documented.prose(page) if len(text.split()) > 25] == []


def test_what_nobody_tried_is_said_once():
    said = [page.name for page in documented.PAGES for _ in re.findall("(?i)untested", page.read_text("utf-8"))]
    assert said == ["limits.md"]


# ---- Conventions --------------------------------------------------------------------------------------------------


def test_the_workflow_runs_the_checks_and_the_tests():
    workflow = YAML(typ="safe").load(ROOT / ".github/workflows/ci.yml")
    assert workflow.keys() == {"name", "on", "permissions", "jobs"}
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make check", "make test"]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert f">={job['strategy']['matrix']['python'][0]}" == oldest


def test_the_image_sets_up_its_environment_and_runs_the_default():
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line.split()[0] for line in lines] == ["FROM", "RUN", "WORKDIR", "COPY", "RUN", "CMD"]
    assert lines[0].startswith("FROM python:3.11")
    assert lines[4].endswith(" make check")
    assert json.loads(lines[-1].removeprefix("CMD ")) == ["make", "repro"]


def test_nothing_that_git_has_stays_outside_the_image():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    held = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    tops = {name for name in ignored if not name.startswith(("!", "**"))} - {"data/*"}
    assert [name for name in held if any(f"{name}/".startswith(f"{top}/") for top in tops)] == []
    kept = {name for name in held if name.startswith("data/")}
    assert {Path(name).suffix for name in kept} <= {name.removeprefix("!data/*") for name in ignored}


def test_the_citation_has_what_its_format_asks_for():
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    assert all({"type", "title", "authors"} <= reference.keys() for reference in citation["references"])
    assert citation["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
