"""Identify the code, the library versions and the machine behind a result."""

import ast
import hashlib
import platform
import re
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("robacc", "stages")
# These modules check and pass on values of params.yaml and the command line. DVC tracks those as `params:` and `cmd:`.
# `machine` passes on what the operating system says, on which no result depends.
PASS_ON = {"robacc.machine", "robacc.params", "stages.cli", "stages.identity"}
# The libraries that decide numbers and figures, by their import name. Others, such as pandas, only carry numbers.
DECIDING = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "numba": "numba",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pyautoattack": "pyautoattack",
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "papermill": "papermill",
}
REPORTED = ("torch", "torchvision", "numpy", "numba", "scipy", "scikit-learn", "dvc", "papermill", "matplotlib")


def _file(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def _source(module: str) -> str:
    return _file(module).read_text(encoding="utf-8")


def is_module(name: str) -> bool:
    """Return whether the dotted `name` is a module of this project, not a package or function."""
    return name.split(".", maxsplit=1)[0] in PACKAGES and _file(name).exists()


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class _WhatRuns(ast.NodeTransformer):
    """Removes what does not run: docstrings, and imports for type checkers."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Remove the docstring of `node`."""
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            del node.body[: bool(node.body) and _is_docstring(node.body[0])]
        return super().generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Replace `if TYPE_CHECKING:` by what stands in its else."""
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING" else node


def _names(tree: ast.AST) -> set[str]:
    """Return the dotted names that code imports, at the top or inside a function.

    `from a import b` gives a and a.b.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _normal(node: object) -> object:
    """Return a syntax tree as nested tuples without empty fields.

    Empty fields differ between versions of Python.
    """
    if isinstance(node, ast.AST):
        fields = ((name, _normal(value)) for name, value in ast.iter_fields(node) if value not in (None, []))
        return (type(node).__name__, *fields)
    return tuple(map(_normal, node)) if isinstance(node, list) else repr(node)


@lru_cache(maxsize=512)
def _parsed(source: str) -> tuple[frozenset[str], str]:
    """Return what `source` imports, and the hash of all that it runs."""
    tree = _WhatRuns().visit(ast.parse(source))
    return frozenset(_names(tree)), hashlib.sha256(repr(_normal(tree)).encode()).hexdigest()


def imports(source: str) -> frozenset[str]:
    """Return the dotted names that `source` imports."""
    return _parsed(source)[0]


def closure(*modules: str) -> list[str]:
    """Return `modules` and all modules of the project that they import, directly or not, except `PASS_ON`.

    An import inside a function counts. An import by a variable's name does not, so such a module must be in `modules`.
    Raises FileNotFoundError for a module that does not exist.
    """
    found: set[str] = set()
    frontier = set(modules)
    while frontier:
        found |= frontier
        names = set().union(*(imports(_source(module)) for module in frontier))
        frontier = {name for name in names if is_module(name)} - found - PASS_ON
    return sorted(found)


def code_hash(*modules: str) -> str:
    """Return the SHA-256 of all the project's code that `modules` run.

    Comments, docstrings, layout and the version of Python do not count.
    """
    digest = hashlib.sha256()
    for module in closure(*modules):
        digest.update(f"{module}\0{_parsed(_source(module))[1]}\0".encode())
    return digest.hexdigest()


def libraries(*modules: str) -> list[str]:
    """Return the lines of requirements.lock for the libraries of `DECIDING` that `modules` import.

    The lock is used because installed versions have local names. Examples are torch 2.14.1+cpu and 2.14.1+cu130.
    """
    names = set().union(*(imports(_source(module)) for module in closure(*modules)))
    wanted = {DECIDING[top] for name in names if (top := name.split(".")[0]) in DECIDING}
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return sorted(line for line in lines if re.split(r"[=<>~! ;\[]", line)[0] in wanted)


def library_versions() -> dict[str, str]:
    """Return the versions of the installed libraries that results depend on."""
    return {name: version(name) for name in REPORTED}


def device_kind() -> str:
    """Return the kind of machine, such as "x86_64 CPU".

    Results repeat bit by bit only on machines of one kind.
    """
    return f"{platform.machine()} CPU"
