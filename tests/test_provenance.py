"""Which files a module is made of, and a hash that changes with the code and with nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from robacc import provenance
from robacc.provenance import code_hash, import_closure

FILES = {
    "robacc/a.py": "from robacc import b\n",
    "robacc/b.py": "def f():\n    from robacc.c import g\n    return g\n",
    "robacc/c.py": '"""Words."""\nimport os\n\n\ndef g():\n    """More words."""\n    return 1\n',
    "robacc/other.py": "x = 1\n",
    "stages/s.py": "import robacc.a\nfrom stages import cli\n",
    "stages/cli.py": "",
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A small project: s -> a -> b -> (inside a function) c."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def closure(root: Path, *modules: str) -> list[str]:
    return [file.relative_to(root).as_posix() for file in import_closure(*modules)]


def test_imports_are_followed_also_inside_functions(project):
    # trap 37
    assert closure(project, "robacc.a") == ["robacc/a.py", "robacc/b.py", "robacc/c.py"]
    assert closure(project, "robacc.other") == ["robacc/other.py"]
    assert closure(project, "stages.s") == ["robacc/a.py", "robacc/b.py", "robacc/c.py", "stages/cli.py", "stages/s.py"]


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_hash_changes_with_any_file_of_the_closure(name, project):
    # trap 37
    before, file = code_hash("robacc.a"), project / "robacc" / f"{name}.py"
    file.write_text(file.read_text() + "\ny = 2\n")
    assert code_hash("robacc.a") != before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("other", lambda text: "x = 2\n"),
        ("c", lambda text: text.replace("Words", "Other words")),
        ("c", lambda text: text.replace("More words", "Fewer words")),
        ("c", lambda text: f"{text}\n\n# a comment\n"),
    ],
    ids=["another file", "module docstring", "function docstring", "comment"],
)
def test_the_hash_does_not_change_with_words_or_other_files(name, change, project):
    before, file = code_hash("robacc.a"), project / "robacc" / f"{name}.py"
    after = change(file.read_text())
    assert after != file.read_text()
    file.write_text(after)
    assert code_hash("robacc.a") == before


def test_a_changed_number_changes_the_hash(project):
    before, file = code_hash("robacc.a"), project / "robacc" / "c.py"
    file.write_text(file.read_text().replace("return 1", "return 2"))
    assert code_hash("robacc.a") != before


def test_the_closure_is_what_python_loads():
    """The list of robacc.training against a fresh interpreter."""
    script = "import sys, robacc.training; print(*sorted(m for m in sys.modules if m.startswith('robacc.')))"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"robacc.{file.stem}" for file in import_closure("robacc.training")]
