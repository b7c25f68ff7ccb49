"""The rules of the code base that reading alone would not keep (docs: DESIGN.md, sections 4, 5, 7, 9)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("rrm", "assistants", "tasks", "scripts", "tests")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Everything a file imports, with dots: "rrm.task.unseal". No file uses relative imports."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import; name the module in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_there_are_files() -> None:
    assert {"rrm/task.py", "assistants/steps.py", "tasks/paper.py"} <= {name(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_run_one_way(path: Path) -> None:
    barred = {"rrm": ("tasks", "assistants", "scripts", "tests"), "assistants": ("tasks", "scripts", "tests")}
    barred["tasks"] = ("scripts", "tests")
    for module in imports(path):
        assert not inside(module, *barred.get(name(path).split("/")[0], ())), f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_truth_is_opened_only_where_it_is_paid_for_or_measured(path: Path) -> None:
    where = name(path)
    if where in ("rrm/task.py", "rrm/user.py") or where.startswith(("rrm/measure/", "tests/")):
        return
    for node in ast.walk(tree(path)):
        used = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        assert used != "unseal", f"{where}:{getattr(node, 'lineno', 0)} opens a sealed truth"
    assert "rrm.task.unseal" not in imports(path), f"{where} imports unseal"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_measurements_and_their_scripts_import_the_oracle(path: Path) -> None:
    if name(path).startswith(("rrm/measure/", "scripts/", "tests/")):
        return
    for module in imports(path):
        command = name(path) == "rrm/cli.py" and module == "rrm.measure.command"
        assert command or not inside(module, "rrm.measure"), f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_error_is_swallowed_whole(path: Path) -> None:
    """No bare `except`, no `except Exception`; `except BaseException` only to clean up and raise again."""
    for handler in (node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)):
        at = f"{name(path)}:{handler.lineno}"
        assert handler.type is not None, f"{at}: a bare except"
        caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
        assert "Exception" not in caught, f"{at}: except Exception"
        if "BaseException" in caught:
            last = handler.body[-1]
            assert isinstance(last, ast.Raise) and last.exc is None, (
                f"{at}: BaseException is not raised again"
            )


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_that_is_read_can_run_code(path: Path) -> None:
    """No pickle in any form, and no code from model repositories."""
    for module in imports(path):
        assert not inside(
            module, "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"
        ), module
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            at = f"{name(path)}:{node.lineno}"
            assert ast.unparse(node.func) not in ("torch.load", "torch.save"), f"{at}: use safetensors"
            for keyword in node.keywords:
                if keyword.arg in ("trust_remote_code", "allow_pickle"):
                    value = keyword.value
                    assert isinstance(value, ast.Constant) and value.value is False, f"{at}: {keyword.arg}"
