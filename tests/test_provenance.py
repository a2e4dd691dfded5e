"""Which modules a module is made of, and a hash that changes with the code and with nothing else."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robacc import provenance
from robacc.provenance import DECIDING, closure, code_hash, libraries

ROOT = Path(__file__).parent.parent
SOURCES = [file for package in provenance.PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
MODULES = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in SOURCES if file.stem != "__init__"]

FILES = {
    "robacc/a.py": "from robacc import b\n",
    "robacc/b.py": "def f():\n    from robacc.c import g\n    return g\n",
    "robacc/c.py": '''"""Words."""
from functools import lru_cache
import numpy.linalg
import pandas

UNITS = {'m': 1_000, 'none': None}


class C:
    """Words of a class."""

    exact = True


@lru_cache
def g(x, scale=2.0):
    """Words of a function."""
    return scale * x + UNITS['m'] if x < 1 else 0
''',
    "robacc/params.py": "from robacc import other\n",
    "robacc/other.py": "x = 1\n",
    "stages/s.py": "import robacc.a\nfrom robacc.params import Params\nfrom stages import cli\n",
    "stages/cli.py": "",
    "requirements.lock": """numpy==2.4
numpy-financial==1.0
pandas==3.0
scikit-learn==1.9 ; python_version > '3'
torch==2.14
""",
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A small project: s -> a -> b -> (inside a function) c, and s -> params -> other."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


# ---- Which modules ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_imports_are_followed_also_inside_functions():
    # trap 37
    assert closure("robacc.a") == ["robacc.a", "robacc.b", "robacc.c"]
    assert closure("robacc.b", "robacc.other") == ["robacc.b", "robacc.c", "robacc.other"]


@pytest.mark.usefixtures("project")
def test_what_passes_settings_on_is_left_out_with_all_that_it_alone_imports():
    assert closure("stages.s") == ["robacc.a", "robacc.b", "robacc.c", "stages.s"]


def test_imports_for_type_checkers_do_not_count(project):
    before = code_hash("robacc.a")
    change(project / "robacc/b.py", "def f", "if TYPE_CHECKING:\n    from robacc.other import x\n\ndef f")
    assert closure("robacc.a") == ["robacc.a", "robacc.b", "robacc.c"]
    assert code_hash("robacc.a") == before


@pytest.mark.usefixtures("project")
def test_a_module_that_is_not_there_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"robacc/nowhere\.py"):
        closure("robacc.nowhere")


def test_the_closure_is_what_python_loads():
    """The modules of training against a fresh interpreter; what `params` alone imports is loaded, and left out."""
    script = "import sys, robacc.training.store; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(filter(provenance.is_module, done.stdout.split()))
    found = set(closure("robacc.training.store"))
    assert found <= loaded
    assert loaded - found == set(closure("robacc.params", "robacc.machine")) - found


def test_packages_hold_nothing_but_words():
    """What stands in an `__init__.py` is in no closure. That of stages calls `stages.environment`, which is in all."""
    for file in SOURCES:
        if file.stem == "__init__" and file.parent.name != "stages":
            assert [type(node) for node in ast.parse(file.read_text()).body] == [ast.Expr], file


def test_no_import_is_relative():
    """The closure would not follow it."""
    nodes = [node for file in SOURCES for node in ast.walk(ast.parse(file.read_text()))]
    assert not any(node.level for node in nodes if isinstance(node, ast.ImportFrom))


# ---- The hash -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_hash_changes_with_any_file_of_the_closure(name, project):
    # trap 37
    before, file = code_hash("robacc.a"), project / "robacc" / f"{name}.py"
    file.write_text(file.read_text() + "\ny = 2\n")
    assert code_hash("robacc.a") != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Words."""', '"""Other words."""'),
        ('"""Words."""', ""),
        ("Words of a class", "Other words"),
        ("Words of a function", "Other words"),
        ("import pandas\n", "import pandas  # a comment\n\n\n# and another\n"),
        (
            "scale * x + UNITS['m'] if x < 1 else 0",
            "(\n        ((scale * x) + UNITS['m'])\n        if x < 1 else 0\n    )",
        ),
        ("{'m': 1_000, 'none': None}", '{\n    "m": 1000,\n    "none": None,\n}'),
    ],
)
def test_the_hash_does_not_change_with_words_and_layout(old, new, project):
    before = code_hash("robacc.a")
    change(project / "robacc/c.py", old, new)
    assert code_hash("robacc.a") == before


def test_the_hash_does_not_change_with_other_files(project):
    before = code_hash("robacc.a")
    change(project / "robacc/other.py", "x = 1", "x = 2")
    assert code_hash("robacc.a") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1_000", "1_001"),
        ("else 0", "else 0.0"),
        ("else 0", "else '0'"),
        ("else 0", "else None"),
        ("'m': ", "'mm': "),
        ("None", "0"),
        ("exact = True", "exact = False"),
        ("exact = True", "exact = 1"),
        ("x + UNITS", "x - UNITS"),
        ("x < 1", "x <= 1"),
        ("x < 1", "not x < 1"),
        ("scale=2.0", "scale=3.0"),
        ("scale=2.0", "*, scale=2.0"),
        ("scale=2.0", "scale"),
        ("@lru_cache\n", ""),
        ("@lru_cache\n", "@lru_cache(maxsize=1)\n"),
        ("import numpy.linalg\nimport pandas\n", "import pandas\nimport numpy.linalg\n"),
        ("return scale", "yield scale"),
    ],
)
def test_the_hash_changes_with_what_runs(old, new, project):
    before = code_hash("robacc.a")
    change(project / "robacc/c.py", old, new)
    assert code_hash("robacc.a") != before


@pytest.mark.parametrize("version", sorted({"3.11", "3.12", "3.13"} - {"{}.{}".format(*sys.version_info)}))
def test_other_versions_of_python_give_the_same_hash(version):
    """All of this project's code, under a Python that need have no library."""
    script = (
        "import sys; from robacc.provenance import code_hash; print(sys.version.split()[0], code_hash(*sys.argv[1:]))"
    )
    places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for place in filter(None, places):
        command = [place, "-B", "-c", script, *MODULES]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    else:
        pytest.skip(f"no Python {version} runs here")
    found, there = done.stdout.split()
    assert found.startswith(version)
    assert there == code_hash(*MODULES)


# ---- Libraries ----------------------------------------------------------------------------------------------------


def test_libraries_are_the_lines_of_the_lock_for_what_is_imported_and_decides(project):
    assert libraries("robacc.a") == ["numpy==2.4"]  # not pandas, which carries numbers and decides none
    change(project / "robacc/b.py", "    from", "    from sklearn.svm import SVC\n    from")
    assert libraries("robacc.a") == ["numpy==2.4", "scikit-learn==1.9 ; python_version > '3'"]
    assert libraries("robacc.other") == []


def test_the_lock_of_this_project_has_every_library_that_decides():
    assert {line.split("==")[0] for line in libraries(*MODULES)} == set(DECIDING.values())
