"""The architecture as assertions: who imports whom, what dvc.yaml says against what the code does, and size."""

import ast
import itertools
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from robacc.models import modules_of
from robacc.provenance import import_closure

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "robacc").glob("*.py"))
STAGES = sorted((ROOT / "stages").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# These two check the parameters and the command line and pass them on unchanged: what they pass on is tracked as
# `params:` and `cmd:`. As dependencies they would train every model again for each new key of params.yaml.
PASS_ON = {"robacc/params.py", "stages/cli.py"}

# Which module may import which. A new module has to be entered here.
MAY_IMPORT: dict[str, set[str]] = {
    "norms": set(),
    "seeding": set(),
    "intervals": set(),
    "provenance": set(),
    "files": set(),
    "params": set(),
    "plotting": set(),
    "theory": set(),
    "theory_samples": {"theory"},
    "fetching": set(),
    "image_trees": {"seeding"},
    "cifar10": {"fetching", "image_trees"},
    "restricted_imagenet": {"files", "image_trees"},
    "image_files": {"data", "files", "provenance", "seeding"},
    "claims": {"ledger"},
    "claims_exact": {"ledger"},
    "ledger": set(),
    "tables": {"intervals"},
    "panels": set(),
    "reporting": {"claims", "files", "ledger", "panels", "provenance"},
    "augment": set(),
    "world": {"files"},
    "hardware": set(),
    "distributed": {"world"},
    "models": {"files", "seeding"},
    "resnets": {"models"},
    "data": {"augment", "files", "seeding"},
    "attacks": {"models", "norms"},
    "saliency": {"attacks", "models", "norms"},
    "linear": {"data", "files", "norms", "seeding"},
    "training": {"attacks", "data", "files", "hardware", "models", "norms", "seeding", "world"},
    "sweep": {"data", "files", "models", "provenance", "training", "world"},
    "adversary": {"attacks", "models", "norms", "seeding"},
    "diagnostics": {"adversary", "attacks", "models", "norms"},
    "evaluation": {"adversary", "diagnostics", "models"},
    "autoattack": {"models", "norms"},
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
            assert node.level == 0, "relative imports are invisible to import_closure"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_modules(code: ast.AST) -> set[str]:
    """Return the modules of robacc that `code` imports: {"norms"}."""
    parts = [name.split(".") for name in imported(code)]
    known = {file.stem for file in LIBRARY}
    return {part[1] for part in parts if part[0] == "robacc" and len(part) > 1 and part[1] in known}


def by_name(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=[file.stem for file in files])


modules = by_name([file for file in LIBRARY if file.stem != "__init__"])


# ---- Imports ------------------------------------------------------------------------------------------------------


@modules
def test_a_module_imports_only_what_it_may(file):
    assert file.stem in MAY_IMPORT, f"enter robacc/{file.name} in MAY_IMPORT"
    assert own_modules(tree(file)) <= MAY_IMPORT[file.stem]
    assert not any(name.split(".")[0] in ("stages", "tests") for name in imported(tree(file)))


def test_the_list_has_no_modules_that_are_gone():
    assert set(MAY_IMPORT) == {file.stem for file in LIBRARY} - {"__init__"}


def test_there_are_no_cycles():
    left = dict(MAY_IMPORT)
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


@by_name([file for file in STAGES if file.stem != "__init__"])
def test_stages_import_no_other_stage_but_cli(file):
    others = {name for name in imported(tree(file)) if name.startswith("stages.")}
    assert others <= {"stages.cli"}


@modules
def test_matplotlib_is_for_plotting_alone(file):
    uses = any(name.split(".")[0] == "matplotlib" for name in imported(tree(file)))
    assert uses == (file.stem == "plotting")


def test_the_package_holds_a_docstring_and_nothing_else():
    (statement,) = tree(ROOT / "robacc" / "__init__.py").body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Constant)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import robacc"],
        *(["-m", f"stages.{file.stem}", "--help"] for file in STAGES if file.stem not in ("__init__", "cli")),
    ],
    ids=lambda arguments: arguments[1],
)
def test_help_answers_without_torch(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "robacc" in loaded  # the listing is what it should be
    assert not loaded & {"torch", "torchvision", "pandas", "scipy", "matplotlib", "papermill"}


# ---- dvc.yaml: files ----------------------------------------------------------------------------------------------


PARAMS = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
PARAMS["run"] = {dataset: [dataset] for dataset in PARAMS["run"]}  # the stages of every data set, run or not
GRAPH = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]


def look_up(path: str, variables: dict) -> object:
    value: object = {**PARAMS, **variables}
    for name in path.split("."):
        value = value[name]  # type: ignore[index]
    return value


def expand(value: object, variables: dict) -> object:
    """Return `value` with every ${...} replaced, as DVC does it."""
    if isinstance(value, dict):
        return {expand(key, variables): expand(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, variables) for item in value]
    if not isinstance(value, str):
        return value
    if whole := re.fullmatch(r"\$\{([^}]*)\}", value):
        return look_up(whole[1], variables)
    return re.sub(r"\$\{([^}]*)\}", lambda match: str(look_up(match[1], variables)), value)


def instances(name: str) -> dict[str, dict]:
    """Return the stages that dvc.yaml makes of the entry `name`, one for each item of its matrix."""
    entry = GRAPH[name]
    variables = {key: value for part in entry.get("vars", []) for key, value in part.items()}
    body = {key: value for key, value in entry.items() if key not in ("matrix", "vars")}
    if "matrix" not in entry:
        return {name: expand(body, variables)}  # type: ignore[dict-item]
    axes = expand(entry["matrix"], variables)
    items = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]  # type: ignore[attr-defined]
    return {
        f"{name}@{'-'.join(map(str, item.values()))}": expand(body, {**variables, "item": item})  # type: ignore[misc]
        for item in items
    }


STAGE_OF = {key: stage for name in GRAPH for key, stage in instances(name).items()}


def module_of(stage: dict) -> str | None:
    """Return X of a command `python -m stages.X ...`."""
    found = re.match(r"python -m stages\.(\w+)", stage["cmd"])
    return found[1] if found else None


def notebooks_of(stage: dict) -> list[Path]:
    found = re.search(r"--notebooks (.+)", stage["cmd"])
    return [ROOT / "notebooks" / f"{name}.ipynb" for name in found[1].split()] if found else []


def notebook_code(file: Path) -> ast.Module:
    cells = json.loads(file.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = [line for cell in code for line in cell.splitlines() if not line.lstrip().startswith(("%", "!"))]
    return ast.parse("\n".join(lines))


OURS = {name: stage for name, stage in STAGE_OF.items() if module_of(stage)}
every_stage = pytest.mark.parametrize("name", OURS)


def test_the_expansion_is_that_of_the_grid():
    trained = {name for name in STAGE_OF if name.startswith(("train_standard", "train_robust"))}
    assert len(trained) == sum(1 + len(grid["l2"]) + len(grid["linf"]) for grid in PARAMS["grid"].values())
    assert not any("${" in json.dumps(stage) for stage in STAGE_OF.values())


def test_the_lock_names_no_stage_that_is_gone():
    """DVC keeps what it once locked, and reads and writes all of it at every stage."""
    locked = YAML(typ="safe", pure=True).load(ROOT / "dvc.lock")["stages"]
    assert sorted(set(locked) - set(STAGE_OF)) == []


def dataset_of(stage: dict) -> str:
    """Return the data set in a stage's command; MNIST's is not always named."""
    found = re.search(r"--dataset (\S+)", stage["cmd"])
    return found[1] if found else "mnist"


def net_files(stage: dict) -> set[Path]:
    """Return the files of the net that the stage's data set uses, which `models` imports by name."""
    recipe = PARAMS["recipes"][PARAMS["datasets"][dataset_of(stage)]["recipe"]]
    return set(import_closure(*modules_of(recipe["arch"])))


@every_stage
def test_a_stage_depends_on_exactly_the_code_it_imports(name):
    # trap 37
    stage = OURS[name]
    expected = set(import_closure(f"stages.{module_of(stage)}"))
    if ROOT / "robacc" / "models.py" in expected:
        expected |= net_files(stage)
    for notebook in notebooks_of(stage):
        expected |= set(import_closure(*(f"robacc.{module}" for module in own_modules(notebook_code(notebook)))))
    deps = stage["deps"]
    declared = {dep for dep in deps if dep.endswith(".py")}
    wanted = {file.relative_to(ROOT).as_posix() for file in expected} - PASS_ON
    if {"robacc", "stages"} & set(deps) or module_of(stage) == "report":
        folders = tuple(f"{folder}/" for folder in {"robacc", "stages"} & set(deps))
        assert {file for file in wanted - declared if not file.startswith(folders)} == set()
    else:
        assert declared == wanted


@every_stage
def test_the_files_of_code_that_a_stage_names_exist(name):
    for dep in OURS[name]["deps"]:
        if dep.endswith((".py", ".ipynb")):
            assert (ROOT / dep).exists(), dep


def test_every_stage_script_is_in_the_graph():
    used = {module_of(stage) for stage in OURS.values()}
    assert {file.stem for file in STAGES} - used <= {"__init__", "cli", "check", "train_distributed"}


@pytest.mark.parametrize("name", [name for name in STAGE_OF if name.startswith("train_")])
def test_training_sees_no_test_data(name):
    # trap 29
    stage = STAGE_OF[name]
    assert any("train.safetensors" in dep for dep in stage["deps"])
    assert [
        dep for dep in stage["deps"] if "test" in dep or dep.rstrip("/").endswith(("data", f"data/{dataset_of(stage)}"))
    ] == []
    assert "test" not in (ROOT / "stages" / f"{module_of(stage)}.py").read_text()


def test_models_come_from_training_stages_alone():
    # trap 29
    makers = {
        name for name, stage in STAGE_OF.items() for out in stage.get("outs", []) if str(out).startswith("models/")
    }
    assert makers
    assert all(name.startswith("train_") for name in makers)


@every_stage
def test_no_two_stages_write_the_same_file(name):
    def outputs(stage: dict) -> set[str]:
        entries = [*stage.get("outs", []), *stage.get("plots", []), *stage.get("metrics", [])]
        return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}

    mine = outputs(OURS[name])
    assert mine
    for other, stage in STAGE_OF.items():
        assert other == name or not mine & outputs(stage), other


# ---- dvc.yaml: parameters -----------------------------------------------------------------------------------------

Key = tuple[str, ...]  # ("datasets", "mnist", "n_seeds")


class Reads(ast.NodeVisitor):
    """Which parameters a script reads, found by following the value of `params.load()` through its names.

    A name bound to a section, `settings = p.evaluate[...]`, stands for that section, also as the
    argument of a function of the same script. What is used in any other way counts as read whole,
    so that nothing escapes: `p` itself handed on is a read of everything.
    """

    def __init__(self, code: ast.Module, dataset: str = "mnist") -> None:
        self.dataset = dataset
        self.functions = {node.name: node for node in code.body if isinstance(node, ast.FunctionDef)}
        self.names: dict[str, Key] = {}
        self.reads: set[Key] = set()
        self.loads = 0
        for statement in code.body:
            if not isinstance(statement, ast.FunctionDef):
                self.visit(statement)
        if "main" in self.functions:
            for statement in self.functions["main"].body:
                self.visit(statement)

    def key(self, node: ast.AST) -> Key | None:  # noqa: PLR0911 (one return a kind of expression)
        """Return the section or value that an expression stands for, None if it is no parameter."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.key(node.value)
            return None if base is None else (*base, node.attr)
        if isinstance(node, ast.Subscript):
            base = self.key(node.value)
            return None if base is None else (*base, self.dataset if len(base) == 1 else "[]")
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in ("params.load", "load_params"):
                self.loads += 1
                return ()
            called = self.key(node.func)
            if called == ("recipe",):
                return ("recipes", PARAMS["datasets"][self.dataset]["recipe"])
            if called == ("trained",):
                return ("grid", self.dataset)
            if called == ("datasets_run",):
                return ("run",)
            if called and called[-1] in ("model_dump", "at", "on"):
                return called[:-1]
        return None

    def visit(self, node: ast.AST) -> None:
        key = self.key(node)
        if key is not None:
            if key or not isinstance(node, ast.Call):  # `params.load()` alone only checks the file
                self.reads.add(key)
            return
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = self.key(node.value)
            if value is not None:
                self.names[node.targets[0].id] = value
                return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.functions:
            self.follow(node)
            return
        self.generic_visit(node)

    def follow(self, call: ast.Call) -> None:
        """Visit the body of a function of the script, its parameters bound to the arguments."""
        function = self.functions[call.func.id]  # type: ignore[attr-defined]
        names = [argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]]
        given = dict(zip(names, call.args, strict=False)) | {word.arg: word.value for word in call.keywords if word.arg}
        bound = {name: key for name, node in given.items() if (key := self.key(node)) is not None}
        for node in given.values():
            if self.key(node) is None:
                self.visit(node)
        if bound:
            outer, self.names = self.names, bound
            for statement in function.body:
                self.visit(statement)
            self.names = outer


def flat(section: object, prefix: Key = ()) -> set[Key]:
    """Return every key of params.yaml that holds a value."""
    if not isinstance(section, dict):
        return {prefix}
    return set().union(*(flat(value, (*prefix, name)) for name, value in section.items()))


def declared_params(stage: dict) -> set[Key]:
    return {tuple(entry.split(".")) for entry in stage.get("params", [])}


def reads_of(stage: dict) -> set[Key]:
    code = [tree(ROOT / "stages" / f"{module_of(stage)}.py")]
    code += [notebook_code(notebook) for notebook in notebooks_of(stage)]
    return set().union(*(Reads(part, dataset_of(stage)).reads for part in code))


def begins(key: Key, prefix: Key) -> bool:
    return key[: len(prefix)] == prefix


@every_stage
def test_a_stage_declares_every_parameter_it_reads(name):
    # trap 37: a parameter that is read and not declared gives stale results
    declared = declared_params(OURS[name])
    for key in reads_of(OURS[name]):
        assert any(begins(key, entry) for entry in declared), f"{'.'.join(key) or 'all of params.yaml'} is read"


@every_stage
def test_a_stage_reads_every_parameter_it_declares(name):
    # trap 37: a parameter that is declared and not read repeats work for nothing
    stage = OURS[name]
    reads = reads_of(stage)
    for entry in declared_params(stage):
        assert any(begins(leaf, entry) for leaf in flat(PARAMS)), f"{'.'.join(entry)} is not in params.yaml"
        assert any(begins(key, entry) or begins(entry, key) for key in reads), f"{'.'.join(entry)} is never read"


def test_the_reading_of_parameters_is_followed_everywhere():
    """The analysis itself, on a script with all that stages do."""
    script = """
from robacc import params
from x import f
def plan(a, section, *, last):
    return section.n_images + last.z
def main(args):
    p = params.load()
    settings = p.evaluate[args.dataset]
    work = f(settings=settings.attack.model_dump())
    plan(args, settings, last=p.report)
    for norm in ("l2", "linf"):
        getattr(settings.eps, norm)
    f(**p.recipe(args.dataset).model_dump(), g=[c for c in p.trained("mnist")], h=p.datasets["mnist"].sizes[0])
"""
    recipe = PARAMS["datasets"]["mnist"]["recipe"]
    assert Reads(ast.parse(script)).reads == {
        ("evaluate", "mnist", "attack"),
        ("evaluate", "mnist", "n_images"),
        ("evaluate", "mnist", "eps"),
        ("report", "z"),
        ("recipes", recipe),
        ("grid", "mnist"),
        ("datasets", "mnist", "sizes", "[]"),
    }
    handed_on = "from robacc import params\ndef main(args):\n    p = params.load()\n    elsewhere(p)\n"
    assert Reads(ast.parse(handed_on)).reads == {()}


@by_name([file for file in STAGES if "params.load(" in file.read_text()])
def test_no_reading_of_parameters_is_overlooked(file):
    """Every `params.load()` of a stage stands where the analysis sees it: in `main` or what it calls."""
    calls = [
        node for node in ast.walk(tree(file)) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load")
    ]
    loads = [node for node in calls if ast.unparse(node.func) in ("params.load", "load")]
    seen = Reads(tree(file))
    assert len(loads) == 1
    assert seen.loads >= 1


@modules
def test_only_params_reads_params_yaml(file):
    # trap 37
    if file.stem != "params":
        constants = {node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant)}
        assert "params.yaml" not in constants
        assert not {"ruamel", "yaml"} & {name.split(".")[0] for name in imported(tree(file))}


# ---- Form ---------------------------------------------------------------------------------------------------------


@modules
def test_the_library_has_no_command_line(file):
    assert "argparse" not in imported(tree(file))
    calls = {ast.unparse(node.func) for node in ast.walk(tree(file)) if isinstance(node, ast.Call)}
    assert not calls & {"input", "sys.exit", "exit"}
    assert file.stem == "sweep" or "print" not in calls


@by_name([*LIBRARY, *STAGES])
def test_no_absolute_paths(file):
    inner = {part for node in ast.walk(tree(file)) if isinstance(node, ast.JoinedStr) for part in node.values[1:]}
    constants = [node for node in ast.walk(tree(file)) if isinstance(node, ast.Constant) and node not in inner]
    strings = [node.value for node in constants if isinstance(node.value, str)]
    assert [text for text in strings if re.match(r"/\w|[A-Za-z]:\\|~|file:/", text)] == []


@by_name([file for file in STAGES if file.stem != "__init__"])
def test_stages_are_thin(file):
    assert len(file.read_text().splitlines()) < 80


@by_name([*LIBRARY, *STAGES])
def test_functions_fit_on_a_screen(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 50, node.name


@by_name(LIBRARY)
def test_what_is_public_says_what_it_is(file):
    assert ast.get_docstring(tree(file))
    scopes = [tree(file), *(node for node in tree(file).body if isinstance(node, ast.ClassDef))]
    for scope in scopes:
        for node in scope.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), node.name


# ---- Notebooks ----------------------------------------------------------------------------------------------------

notebooks = by_name(NOTEBOOKS)


@notebooks
def test_notebooks_are_committed_without_outputs(file):
    # trap 38
    for cell in json.loads(file.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@notebooks
def test_notebooks_draw_and_do_not_compute(file):
    names = {name.split(".")[0] for name in imported(notebook_code(file))}
    assert not names & {"torch", "torchvision", "sklearn"}
    own = {Path(path).stem for path in import_closure(*(f"robacc.{name}" for name in own_modules(notebook_code(file))))}
    heavy = {"models", "attacks", "adversary", "training", "evaluation", "data", "norms", "sweep"}
    assert not own & heavy


@notebooks
def test_every_notebook_is_in_the_graph(file):
    assert f"notebooks/{file.name}" in {dep for stage in STAGE_OF.values() for dep in stage["deps"]}


READ = ("results/", "models/", "data/")


def texts(code: ast.Module, dataset: str) -> list[str]:
    """Return the strings of `code`, in f-strings the data set in its place and any other value as a star."""
    inner = {part for node in ast.walk(code) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(code):
        if isinstance(node, ast.JoinedStr):
            values = [ast.unparse(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
            named = iter(dataset if value == "dataset" else "*" for value in values)
            found.append("".join(p.value if isinstance(p, ast.Constant) else next(named) for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            found.append(node.value)
    return found


def test_the_strings_of_a_notebook_are_read_with_their_data_set():
    code = ast.parse("""a = f"results/{dataset}/x.csv"; b = f"results/{m}/{dataset}"; c = "data/x" """)
    assert texts(code, "cifar10") == ["results/cifar10/x.csv", "results/*/cifar10", "data/x"]


@pytest.mark.parametrize("name", [name for name, stage in OURS.items() if notebooks_of(stage)])
def test_notebooks_read_only_what_their_stage_depends_on(name):
    # trap 37
    stage, files = OURS[name], notebooks_of(OURS[name])
    deps = set(stage["deps"])
    assert {f"notebooks/{file.name}" for file in files} == {dep for dep in deps if dep.startswith("notebooks/")}
    paths = {text for file in files for text in texts(notebook_code(file), dataset_of(stage)) if text.startswith(READ)}
    used = {dep for dep in deps for path in paths if path == dep or path.startswith(f"{dep}/")}
    assert used == {dep for dep in deps if dep.startswith(READ)}
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
