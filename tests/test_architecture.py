"""The architecture as assertions: who imports whom, what dvc.yaml says of the stages, and form."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from robacc import params, provenance
from stages import identity
from tests import graph

ROOT = Path(__file__).parent.parent
LIBRARY = sorted(file for file in (ROOT / "robacc").rglob("*.py") if file.name != "__init__.py")
STAGES = sorted(file for file in (ROOT / "stages").glob("*.py") if file.name != "__init__.py")
PARTS = [ROOT / "stages" / name for name in ("cli.py", "environment.py", "identity.py", "install.py", "repro.py")]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# Which room of the house imports which: a file of robacc/, or a folder. A new room has to be entered here.
IMPORTS: dict[str, set[str]] = {
    "files": set(),
    "seeding": set(),
    "balls": set(),
    "provenance": set(),
    "machine": set(),
    "parallel": {"machine"},
    "datasets": set(),
    "params": {"balls", "datasets", "nets"},
    "nets": {"files", "seeding"},
    "images": {"files", "parallel", "seeding"},
    "sources": {"datasets", "files", "images"},
    "attack": {"images", "nets", "params", "seeding"},
    "training": {"attack", "balls", "files", "images", "nets", "parallel", "params", "provenance", "seeding"},
    "plan": {"balls", "params", "training"},
    "paper": {"attack", "datasets", "images", "nets", "params", "seeding"},
    "report": {"balls", "datasets", "files", "paper", "params", "provenance"},
}
# Modules that are imported by a name in a variable, which no reading of the code finds. `stages.identity` knows them.
BY_NAME = {
    "robacc/datasets/facts.py",
    "robacc/images/loading.py",
    "robacc/nets/model.py",
    "robacc/training/store.py",
    "stages/fetch.py",
    "stages/identity.py",
}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imported(code: ast.AST) -> set[str]:
    """Return the dotted names that `code` imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports: provenance does not follow them"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(file: Path) -> str:
    return file.relative_to(ROOT / "robacc").parts[0].removesuffix(".py")


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def each(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=[name_of(file) for file in files])


# ---- Imports ------------------------------------------------------------------------------------------------------


def test_the_rooms_import_what_the_table_says():
    found: dict[str, set[str]] = {room(file): set() for file in LIBRARY}
    for file in LIBRARY:
        names = {name.split(".")[1] for name in imported(tree(file)) if name.startswith("robacc.")}
        found[room(file)] |= names - {room(file)}
    assert found == IMPORTS


def test_there_are_no_circles():
    """Neither among the rooms nor among the files of one."""
    for needs in (IMPORTS, {name_of(file): own_files(file) for file in LIBRARY}):
        left = dict(needs)
        while left:
            free = {name for name, others in left.items() if not others & left.keys()}
            assert free, f"a circle among {sorted(left)}"
            left = {name: others for name, others in left.items() if name not in free}


def own_files(file: Path) -> set[str]:
    names = {f"{name.replace('.', '/')}.py" for name in imported(tree(file))}
    return {name for name in names if (ROOT / name).exists()} - {name_of(file)}


@each(LIBRARY)
def test_the_library_imports_no_stage(file):
    assert not any(name.split(".")[0] in ("stages", "tests", "benchmarks") for name in imported(tree(file)))


@each(STAGES)
def test_stages_import_no_other_stage(file):
    others = {name for name in imported(tree(file)) if name.startswith("stages.")}
    assert others <= {f"stages.{part.stem}" for part in PARTS}


@each([*LIBRARY, *STAGES])
def test_modules_are_imported_by_a_variable_only_where_identity_knows_it(file):
    text = file.read_text()
    assert ("import_module(" in text) == (name_of(file) in BY_NAME)
    assert "__import__" not in text


@each([file for file in LIBRARY if name_of(file) != "robacc/report/plotting.py"])
def test_matplotlib_is_for_plotting_alone(file):
    assert not any(name.split(".")[0] == "matplotlib" for name in imported(tree(file)))


def test_packages_hold_a_docstring_and_nothing_else():
    """Provenance does not read them, and importing a package must cost nothing."""
    for file in (ROOT / "robacc").rglob("__init__.py"):
        (statement,) = tree(file).body
        assert isinstance(statement, ast.Expr), file
        assert isinstance(statement.value, ast.Constant), file


def test_the_dependencies_are_what_the_library_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>= ]", name)[0] for name in project["dependencies"]}
    names = {name.split(".")[0] for file in LIBRARY for name in imported(tree(file))}
    outside = names - set(sys.stdlib_module_names) - {"robacc"}
    distributions = {"PIL": "pillow", "pydantic_core": "pydantic", "sklearn": "scikit-learn", "ruamel": "ruamel.yaml"}
    assert {distributions.get(name, name) for name in outside} == wanted
    extra = {name for group in project["optional-dependencies"].values() for name in group}
    locked = {re.split(r"[=;]", line)[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert wanted | extra <= locked


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import robacc"],
        *(["-m", f"stages.{file.stem}", "--help"] for file in STAGES if "__main__" in file.read_text()),
    ],
    ids=lambda arguments: arguments[1],
)
def test_help_answers_without_torch(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert loaded & {"robacc", "stages"}  # the listing is what it should be
    assert not loaded & {"torch", "torchvision", "pandas", "scipy", "matplotlib", "papermill"}


# ---- dvc.yaml -----------------------------------------------------------------------------------------------------


def identity_of(cmd: str) -> tuple[str, str | None]:
    """Return stage and data set of a command `python -m stages.<stage> [--dataset <data set>] ...`."""
    found = re.fullmatch(r"python -m stages\.(\w+)(?: --dataset (\w+))?(?: --ball \S+)?", cmd)
    assert found, cmd
    return found[1], found[2]


def test_every_stage_depends_on_the_hash_of_its_code():
    # trap 37
    for name, stage in graph.stages().items():
        made_of, dataset = identity_of(stage["cmd"])
        if made_of == "code":
            assert sorted(stage["deps"]) == ["notebooks", "params.yaml", "requirements.lock", "robacc", "stages"]
        else:
            code = {dep for dep in stage["deps"] if dep.split("/")[0] == "code"}
            assert code == ({"code"} if made_of == "report" else {f"code/{identity.name(made_of, dataset)}"}), name


def test_every_stage_has_a_hash_and_every_hash_a_stage():
    in_graph = {identity_of(stage["cmd"]) for stage in graph.stages().values()} - {("code", None)}
    assert set(identity.every_stage()) - in_graph == set(), "dvc.yaml lacks these stages"
    assert in_graph - set(identity.every_stage()) == set(), "stages.identity does not know these stages"
    assert {file.stem for file in STAGES} - {stage for stage, _ in in_graph} == {
        "audit", "check", "cli", "code", "compare", "environment", "identity", "install", "own", "readme", "repro",
        "share", "train_distributed",
    }  # fmt: skip


def test_the_graph_has_a_stage_for_each_ball_of_params():
    balls = YAML(typ="safe").load(ROOT / "params.yaml")["balls"]
    models = {f"{dataset}-{ball}" for dataset, words in balls.items() for ball in words}
    for kind in ("train", "size_sweep", "evaluate", "autoattack", "visualize"):
        names = {name for name, stage in graph.stages().items() if f"stages.{kind} " in stage["cmd"]}
        assert {name.split("@")[1] for name in names} == models


def test_the_committed_hashes_are_those_of_the_code():
    """Else a clone would begin by making results again."""
    p = params.load(ROOT / "params.yaml")
    for stage, dataset in identity.every_stage():
        committed = (ROOT / "code" / identity.name(stage, dataset)).read_text().strip()
        assert committed == identity.stage_hash(stage, dataset, p), "run `dvc repro code`"


def test_the_lock_names_no_stage_that_is_gone():
    """DVC keeps what it once locked, and reads and writes all of it at every stage."""
    locked = YAML(typ="safe", pure=True).load(ROOT / "dvc.lock")["stages"]
    assert sorted(set(locked) - set(graph.stages())) == []


def test_training_sees_no_test_data():
    # trap 29
    stages = {name: stage for name, stage in graph.stages().items() if name.startswith("train")}
    assert stages
    for name, stage in stages.items():
        dataset = identity_of(stage["cmd"])[1]
        data = [dep for dep in stage["deps"] if not dep.startswith("code/")]
        assert data == [f"data/{dataset}/train.safetensors"], name
    assert "test" not in "".join((ROOT / f"stages/{name}.py").read_text() for name in ("train", "train_judges"))


def test_models_come_from_training_stages_alone():
    # trap 29
    makers = {name for name, stage in graph.stages().items() if any(out.startswith("models/") for out in stage["outs"])}
    assert makers
    assert all(name.startswith("train") for name in makers)


@each([file for file in LIBRARY if name_of(file) != "robacc/params.py"])
def test_only_params_reads_params_yaml(file):
    # trap 37
    constants = {node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant)}
    assert "params.yaml" not in constants
    assert not {"ruamel", "yaml"} & {name.split(".")[0] for name in imported(tree(file))}


@each([*LIBRARY, *STAGES])
def test_no_number_comes_from_what_params_offers_to_users(file):
    """`params` is under no hash of code: what the pipeline does stands in params.yaml."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree(file)) if isinstance(node, ast.Call)}
    assert "Attack.standard" not in calls


# ---- Form ---------------------------------------------------------------------------------------------------------


@each(LIBRARY)
def test_the_library_has_no_command_line(file):
    assert "argparse" not in imported(tree(file))
    calls = {ast.unparse(node.func) for node in ast.walk(tree(file)) if isinstance(node, ast.Call)}
    assert not calls & {"input", "sys.exit", "exit"}
    assert name_of(file) in ("robacc/parallel.py", "robacc/training/store.py") or "print" not in calls


@each([*LIBRARY, *STAGES])
def test_no_absolute_paths(file):
    inner = {part for node in ast.walk(tree(file)) if isinstance(node, ast.JoinedStr) for part in node.values[1:]}
    constants = [node for node in ast.walk(tree(file)) if isinstance(node, ast.Constant) and node not in inner]
    strings = [node.value for node in constants if isinstance(node.value, str)]
    assert [text for text in strings if re.match(r"/\w|[A-Za-z]:\\|~|file:/", text)] == []


# Functions named `open` that open no text.
OPEN_OTHERS = {"Image", "os", "tarfile", "zipfile"}


# fault: locale ISO-8859-1, ASCII locale
@each([*LIBRARY, *STAGES, *sorted((ROOT / "benchmarks").glob("*.py"))])
def test_text_files_are_read_and_written_in_utf_8(file):
    for call in (node for node in ast.walk(tree(file)) if isinstance(node, ast.Call)):
        of, _, name = ast.unparse(call.func).rpartition(".")
        binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in call.args)
        by_path = name in ("read_text", "write_text") and of not in ("", "files")
        text = by_path or (name == "open" and of not in OPEN_OTHERS and not binary)
        assert not text or "encoding" in {keyword.arg for keyword in call.keywords}, ast.unparse(call)


@each([*LIBRARY, *STAGES])
def test_functions_fit_on_a_screen(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 50, node.name


@each(LIBRARY)
def test_what_is_public_says_what_it_is(file):
    assert ast.get_docstring(tree(file))
    scopes = [tree(file), *(node for node in tree(file).body if isinstance(node, ast.ClassDef))]
    for scope in scopes:
        for node in scope.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), node.name


def sentences(file: Path) -> list[str]:
    """Return the sentences of docstrings and comments, tables and indented blocks left out."""
    blocks = [
        ast.get_docstring(node) or ""
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    comments = re.sub(r"^(?!\s*#).*$", "\n", file.read_text(), flags=re.MULTILINE)
    blocks += re.sub(r"^\s*# ?", "", comments, flags=re.MULTILINE).split("\n\n")
    lines = ["\n".join(line for line in block.splitlines() if not re.match(r"\s*\||    ", line)) for block in blocks]
    return [" ".join(part.split()) for block in lines for part in re.split(r"(?<=[.:;?])\s|\n\n", block)]


@each([*LIBRARY, *STAGES])
def test_sentences_are_short(file):
    assert [text for text in sentences(file) if len(text.split()) > 25] == []


# ---- Notebooks ----------------------------------------------------------------------------------------------------

notebooks = each(NOTEBOOKS)


@notebooks
def test_notebooks_are_committed_without_outputs(file):
    # trap 38
    for cell in json.loads(file.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each([file for file in NOTEBOOKS if name_of(file) != str(identity.EXPLORE)])
def test_notebooks_draw_and_do_not_compute(file):
    names = provenance.imports("\n".join(identity.code(file)))
    assert not {name.split(".")[0] for name in names} & {"torch", "torchvision", "sklearn"}
    found = provenance.closure(*filter(provenance.is_module, names))
    own = {name.split(".")[1] for name in found} - {"paper"} | {
        name for name in found if name.startswith("robacc.paper.")
    }
    words = {"robacc.paper.ledger", "robacc.paper.intervals"}  # of verdicts, which sentences follow
    assert own <= {"balls", "datasets", "files", "report", *words}


READ = ("results/", "models/", "data/")


def texts(code: ast.Module) -> list[str]:
    """Return the strings of `code`, in f-strings mnist as the data set and any other value as a star."""
    inner = {part for node in ast.walk(code) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(code):
        if isinstance(node, ast.JoinedStr):
            values = [ast.unparse(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
            named = iter("mnist" if value == "dataset" else "*" for value in values)
            found.append("".join(p.value if isinstance(p, ast.Constant) else next(named) for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            found.append(node.value)
    return found


@pytest.mark.parametrize(("name", "dataset"), [("figures@mnist", "mnist"), ("figures_exact", None)])
def test_notebooks_read_what_their_stage_depends_on(name, dataset):
    # trap 37
    deps = {dep for dep in graph.stages()[name]["deps"] if dep.startswith(READ)}
    code = [ast.parse("\n".join(identity.code(ROOT / file))) for file in identity.notebooks(dataset)]
    paths = {text for part in code for text in texts(part) if text.startswith(READ)}
    used = {dep for dep in deps for path in paths if path == dep or path.startswith(f"{dep}/")}
    assert used == deps
    assert all(any(path == dep or path.startswith(f"{dep}/") for dep in used) for path in paths)


# ---- Tests --------------------------------------------------------------------------------------------------------


def guards() -> set[tuple[int, str, str]]:
    """Return (row, file, test) for every comment `trap <row>` in a test."""
    found = set()
    for file in (ROOT / "tests").glob("test_*.py"):
        name = ""
        for line in file.read_text().splitlines():
            if match := re.match(r"\s*def (test_\w+)", line):
                name = match[1]
            if "# " in line:
                rows = re.findall(r"\btrap (\d+)", line.split("# ", 1)[1])
                found |= {(int(row), file.stem.removeprefix("test_"), name) for row in rows}
    return found


def test_the_table_of_mistakes_is_what_the_tests_say():
    table = set()
    for row, cells in re.findall(r"^\| (\d+) \|.*\| (.*) \|$", (ROOT / "tests/README.md").read_text(), re.MULTILINE):
        for part in cells.split("; "):
            file, names = part.split(": ")
            table |= {(int(row), file, name.strip("`")) for name in names.split(", ")}
    assert table == guards()
    assert {row for row, _, _ in table} == set(range(1, 41))


def faults() -> set[tuple[str, str, str]]:
    """Return (trouble, file, test) for every comment `fault: <trouble>` in or above a test."""
    found = set()
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        lines = file.read_text(encoding="utf-8").splitlines()
        tests = [
            node for node in tree(file).body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        ]
        for number, line in enumerate(lines, start=1):
            if trouble := re.match(r"\s*# fault: (.*)", line):
                test = next(node for node in tests if node.end_lineno >= number)
                found.add((trouble[1], file.stem.removeprefix("test_"), test.name))
    return found


def test_the_table_of_troubles_is_what_the_tests_say():
    text = (ROOT / "tests/faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*) \| (\w+): `(\w+)` \|$", text, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == faults()
