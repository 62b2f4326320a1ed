"""The habits a machine can check: sizes, imports, documentation, and that importing does nothing."""

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILES = sorted((SOURCE / "sightline").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_BODY_LINES = 60
MAX_NESTING = 3
LONG_FILES: dict[str, str] = {}
"""Tables that may be longer, by path below `src/sightline`, each with its reason."""
BANNED_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}
TORCH_FREE = ("core", "ops", "data", "evaluate", "track", "report", "monitor")
Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)


def short(path: Path) -> str:
    return path.relative_to(SOURCE / "sightline").as_posix()


def module_name(path: Path) -> str:
    parts = list(path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [module_name(path) for path in FILES if path.name != "__main__.py"]
TREES = {short(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def functions() -> Iterator[tuple[str, Function]]:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{name}:{node.lineno} {node.name}", node


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body


def test_there_is_something_to_check():
    assert len(FILES) > 10
    assert "sightline.core.dataset" in MODULES


def test_files_are_short():
    lengths = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {name: count for name, count in lengths.items() if count > MAX_FILE_LINES and name not in LONG_FILES}
    assert not long, f"over {MAX_FILE_LINES} lines: {long}"
    needless = [name for name in LONG_FILES if lengths.get(name, 0) <= MAX_FILE_LINES]
    assert not needless, f"in LONG_FILES without need: {needless}"


def test_function_bodies_are_short():
    long = {}
    for place, node in functions():
        body = without_docstring(node.body)
        if body and (count := (body[-1].end_lineno or 0) - body[0].lineno + 1) > MAX_BODY_LINES:
            long[place] = count
    assert not long, f"bodies over {MAX_BODY_LINES} lines: {long}"


def nesting(body: list[ast.stmt]) -> int:
    """How deep the blocks of a function stand in each other; `elif` and the arms of a match count once."""
    return max((_depth(statement) for statement in body), default=0)


def _depth(statement: ast.stmt, is_elif: bool = False) -> int:
    if not isinstance(statement, BLOCKS):
        return 0
    inner = [getattr(statement, part, []) for part in ("body", "finalbody")]
    inner += [arm.body for arm in (*getattr(statement, "handlers", []), *getattr(statement, "cases", []))]
    deepest = max(nesting(body) for body in inner)
    other = getattr(statement, "orelse", [])
    if isinstance(statement, ast.If) and len(other) == 1 and isinstance(other[0], ast.If):
        chained = _depth(other[0], is_elif=True) - 1
    else:
        chained = nesting(other)
    return 1 + max(deepest, chained)


def test_functions_are_flat():
    deep = {place: depth for place, node in functions() if (depth := nesting(node.body)) > MAX_NESTING}
    assert not deep, f"blocks nested deeper than {MAX_NESTING}: {deep}"


def test_nesting_is_counted_as_meant():
    flat = ast.parse("if a:\n  pass\nelif b:\n  pass\nelif c:\n  for x in y:\n    pass\n")
    deep = ast.parse("for a in b:\n  if c:\n    with d:\n      try:\n        e()\n      finally:\n        f()\n")
    assert nesting(flat.body) == 2
    assert nesting(deep.body) == 4


def test_own_imports_stand_at_the_top():
    found = []
    for place, node in functions():
        for inner in ast.walk(node):
            names = [alias.name for alias in inner.names] if isinstance(inner, ast.Import) else []
            if isinstance(inner, ast.ImportFrom):
                names = ["sightline" if inner.level else inner.module or ""]
            found += [f"{place} imports {name}" for name in names if name.split(".")[0] == "sightline"]
    assert not found


def test_own_imports_are_absolute():
    relative = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_no_module_is_a_drawer_for_everything():
    parts = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert not parts & BANNED_NAMES


def test_nothing_is_left_to_do():
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{short(path)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not found


def is_protocol(node: ast.ClassDef) -> bool:
    return any("Protocol" in ast.unparse(base) for base in node.bases)


def is_hollow(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return "NotImplementedError" in ast.unparse(statement)
    is_dots = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or is_dots


def test_no_function_is_a_stub():
    declared = {
        inner
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and is_protocol(node)
        for inner in node.body
    }
    # The bodies of overloads stand for the one behind them.
    declared |= {n for _, n in functions() if any("overload" in ast.unparse(d) for d in n.decorator_list)}
    hollow = [place for place, node in functions() if node not in declared and all(map(is_hollow, node.body))]
    assert not hollow


def test_everything_public_is_documented():
    missing = []
    for name, tree in TREES.items():
        if name.split("/")[-1] != "__init__.py" and not ast.get_docstring(tree):
            missing.append(name)
        holders = [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_"))]
        for holder in holders:
            for node in holder.body:
                is_public = isinstance(node, (*Function.__args__, ast.ClassDef)) and not node.name.startswith("_")
                if is_public and not ast.get_docstring(node) and not is_overload(node):
                    missing.append(f"{name}:{node.lineno} {node.name}")
    assert not missing


def is_overload(node: ast.AST) -> bool:
    return any("overload" in ast.unparse(d) or ".setter" in ast.unparse(d) for d in getattr(node, "decorator_list", []))


def run_python(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter whose home, temporary and working folders are empty."""
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "PYTEST_"))}
    environment |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"NUMBA_CACHE_DIR": str(folder / "numba"), "PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_importing_the_package_is_light(tmp_path):
    done = run_python("import sightline, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sightline" in done.stdout.split()
    assert not {"torch", "cv2", "matplotlib", "onnxruntime", "altair"} & set(done.stdout.split())


IMPORT_WITHOUT_TORCH = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"{name} loads torch")
"""


def test_measuring_loads_no_torch(tmp_path):
    names = [m for m in MODULES if m == "sightline" or m.split(".")[1] in TORCH_FREE]
    done = run_python(IMPORT_WITHOUT_TORCH, tmp_path, json.dumps(names))
    assert done.returncode == 0, done.stderr


# What other packages do while loading is theirs: they come first, then the state is noted, then ours are imported.
IMPORT_AND_COMPARE = """
import importlib, json, logging, os, pathlib, random, signal, socket, sys, threading, warnings

others, ours, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), pathlib.Path(sys.argv[3])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name in others:
        importlib.import_module(name)
import cv2, numpy as np
torch = sys.modules.get("torch")

def written():
    # numba makes its (empty) cache folders when a kernel is declared; a file in them would mean it was compiled.
    return sorted(str(p) for p in folder.rglob("*") if p.is_file() or "numba" not in p.relative_to(folder).parts)

def state():
    found = {
        "files": written(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "root logger": (logging.root.level, len(logging.root.handlers), logging.root.manager.disable),
        "warning filters": len(warnings.filters),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "threads": threading.active_count(),
        "random": hash(random.getstate()),
        "numpy random": hash(np.random.get_state()[1].tobytes()),
        "numpy": (tuple(np.geterr().items()), str(np.get_printoptions())),
        "OpenCV": (cv2.getNumThreads(), cv2.useOptimized()),
        "recursion limit": sys.getrecursionlimit(),
    }
    if torch is not None:
        found["torch"] = (
            torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype(),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(), torch.initial_seed(),
            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(),
            torch.multiprocessing.get_sharing_strategy(),
        )
    return found

def refuse(*_):
    raise OSError("an import must not open a connection")

socket.socket.connect = refuse
before = state()
warnings.simplefilter("error")
before["warning filters"] = len(warnings.filters)
for name in ours:
    importlib.import_module(name)
    after = state()
    changed = [key for key in before if before[key] != after[key]]
    if changed:
        new = [(k, [v for v in after[k] if v not in before[k]] if k == "files" else after[k]) for k in changed]
        sys.exit(f"importing {name} changes: {new}")
"""


def other_packages() -> list[str]:
    """Every module of somebody else that ours import anywhere at the top of a file."""
    names = set()
    for tree in TREES.values():
        for node in tree.body:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return sorted(name for name in names if name.split(".")[0] not in ("sightline", "__future__"))


def test_importing_does_nothing(tmp_path):
    names = json.dumps(other_packages()), json.dumps(MODULES)
    done = run_python(IMPORT_AND_COMPARE, tmp_path, *names, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("print('hello')", "printed"),
        ("import numpy; numpy.seterr(all='ignore')", "numpy"),
        ("open('left-behind.txt', 'w').close()", "files"),
        ("import os; os.environ['X_SET'] = '1'", "environment"),
        ("import warnings; warnings.warn('careful')", "careful"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "must not open a connection"),
    ],
)
def test_the_import_check_sees_what_it_should(tmp_path, body, expected):
    (tmp_path / "guilty.py").write_text(body)
    code = IMPORT_AND_COMPARE.replace(
        "import importlib,", f"import sys; sys.path.append({str(tmp_path)!r})\nimport importlib,"
    )
    done = run_python(code, tmp_path, "[]", '["guilty"]', str(tmp_path))
    if expected == "printed":
        assert done.stdout == "hello\n"
    else:
        assert done.returncode != 0
        assert expected in done.stderr


BY_MODULE = {"core", "ops"}
"""Packages without a door that loads everything: each of their modules is one contract or one computation."""
BY_PATH = {"sightline.infer.torch_predictor", "sightline.infer.onnx_predictor"}
"""Backends, which are imported by path so that torch stays optional (docs/adr/0002)."""


def imports_from_other_packages() -> Iterator[tuple[str, str, str, bool]]:
    """(place, module, name, whether the module is a package) of every import from another top-level package."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if not module.startswith("sightline.") or module.split(".")[1] == file.split("/")[0]:
                continue
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                yield f"{file}:{node.lineno}", module, alias.name, SOURCE.joinpath(*module.split(".")).is_dir()


def test_packages_are_entered_by_their_doors():
    past = [
        f"{place} imports {name} from {module}"
        for place, module, name, is_package in imports_from_other_packages()
        if not is_package and module.split(".")[1] not in BY_MODULE and module not in BY_PATH
        if not place.startswith("__main__.py")
    ]
    assert not past


def test_doors_name_what_they_give():
    missing = [
        f"{place} imports {name} from {module}"
        for place, module, name, is_package in imports_from_other_packages()
        if is_package and name not in getattr(importlib.import_module(module), "__all__", ())
        if module.split(".")[1] not in BY_MODULE
    ]
    assert not missing


def test_benchmarks_import_what_there_is():
    missing = []
    for file in sorted((SOURCE.parent / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sightline"):
                module = importlib.import_module(str(node.module))
                missing += [f"{file.name}: {node.module}.{a.name}" for a in node.names if not _holds(module, a.name)]
    assert not missing


def _holds(module, name: str) -> bool:
    return hasattr(module, name) or importlib.util.find_spec(f"{module.__name__}.{name}") is not None
