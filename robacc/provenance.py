"""Which code, data and machine a result comes from."""

import ast
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "dvc", "papermill", "matplotlib")


def _imports(file: Path) -> set[Path]:
    """Return the files of this project that `file` imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    own = (name for name in names if name.split(".")[0] in ("robacc", "stages"))
    return {path for name in own if (path := ROOT / f"{name.replace('.', '/')}.py").exists()}


def import_closure(*modules: str) -> list[Path]:
    """Return the project files that `modules` ("robacc.training") are made of, themselves included."""
    found = {ROOT / f"{module.replace('.', '/')}.py" for module in modules}
    frontier = set(found)
    while frontier:
        frontier = set().union(*(_imports(file) for file in frontier)) - found
        found |= frontier
    return sorted(found)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree


def code_hash(*modules: str) -> str:
    """Return the SHA-256 of all the project's code that `modules` depend on.

    Comments, docstrings and layout do not count.
    """
    digest = hashlib.sha256()
    for file in import_closure(*modules):
        tree = _without_docstrings(ast.parse(file.read_text()))
        digest.update(f"{file.relative_to(ROOT).as_posix()}\0{ast.unparse(tree)}\0".encode())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    return {name: version(name) for name in LIBRARIES}


def device_kind() -> str:
    """Return the kind of machine, such as "x86_64 CPU": results repeat bit by bit only within one."""
    return f"{platform.machine()} CPU"
