"""The rules of the code base that reading alone would not keep. A failure names every place that breaks the rule."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator

from tests.layout import FILES, ROOT, arrows, circle, imports, inside, module, name, room_arrows, tree

OWN = [path for path in FILES if name(path).startswith("rrm/")]


def test_there_are_files() -> None:
    assert {"rrm/core/task.py", "assistants/steps.py", "tasks/paper.py"} <= {name(path) for path in FILES}


def test_imports_run_one_way() -> None:
    above = ("rrm_tasks", "scripts", "tests")
    barred = {"rrm": (*above, "rrm_assistants"), "assistants": above, "tasks": above[1:]}
    old = ("tasks", "assistants")  # the folders' names: found on a contributor's path, and nowhere else
    wrong = [
        f"{name(path)} imports {dotted}" for path in FILES for dotted in imports(path)
        if inside(dotted, *barred.get(name(path).split("/")[0], ()), *old)
    ]  # fmt: skip
    assert not wrong


def test_no_circle_of_imports() -> None:
    """Of modules, nor of rooms; what is imported late or for type checking only counts."""
    assert not circle({one: targets - {"rrm"} for one, targets in arrows().items() if one != "rrm"})
    assert not circle(room_arrows())


def test_nothing_within_imports_the_names_gathered_for_users() -> None:
    assert not [one for one, targets in arrows().items() if "rrm" in targets]


def test_there_are_few_rooms() -> None:
    entries = {path.name for path in (ROOT / "rrm").iterdir() if not path.name.startswith("__")} - {"py.typed"}
    assert len(entries) <= 15, sorted(entries)


def test_no_two_things_have_one_name() -> None:
    """No module has the name of something in its package or of its own, no class the name of another, no file that of
    another file. Worlds are alike on purpose: what one calls its corpus, another may."""
    wrong, classes, files = [], defaultdict(list), defaultdict(list)
    for path in OWN:
        dotted = module(path)
        if path.stem not in ("__init__", "__main__"):
            files[path.stem].append(dotted)
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                if node.name == path.stem:
                    wrong.append(f"{dotted} defines {node.name}")
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    classes[node.name].append(dotted)
        if path.stem == "__init__":
            package = importlib.import_module(dotted)
            below = {sub.stem for sub in path.parent.iterdir()} - {"__init__"}
            shadowed = [one for one in below & vars(package).keys() if not hasattr(vars(package)[one], "__path__")
                        and not hasattr(vars(package)[one], "__spec__")]  # fmt: skip
            wrong += [f"{dotted}.{one} is not the module" for one in shadowed]
    for kind, found in (("class", classes), ("file", files)):
        wrong += [
            f"{kind} {one}: {', '.join(where)}" for one, where in found.items()
            if len(where) > 1 and not all(inside(dotted, "rrm.worlds") for dotted in where)
        ]  # fmt: skip
    assert not wrong


def test_the_truth_is_opened_only_where_it_is_paid_for_or_measured() -> None:
    wrong = []
    for path in FILES:
        where = name(path)
        if where in ("rrm/core/records.py", "rrm/users/bounded.py") or where.startswith(("rrm/measure/", "tests/")):
            continue
        for node in ast.walk(tree(path)):
            used = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if used == "unseal":
                wrong.append(f"{where}:{getattr(node, 'lineno', 0)}")
            inner = node.value if isinstance(node, ast.Attribute) and node.attr == "_value" else None
            if isinstance(inner, ast.Attribute | ast.Name) and "truth" in named(inner):
                wrong.append(f"{where}:{node.lineno}")
        wrong += [where for dotted in imports(path) if dotted == "rrm.core.records.unseal"]
    assert not wrong


def test_only_measurements_and_their_scripts_import_the_oracle() -> None:
    free = ("rrm/measure/", "rrm/command/", "scripts/", "tests/")
    wrong = [
        f"{name(path)} imports {dotted}" for path in FILES for dotted in imports(path)
        if inside(dotted, "rrm.measure") and not name(path).startswith(free)
    ]  # fmt: skip
    assert not wrong


def test_no_file_is_too_long() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: length for path, length in lengths.items() if length > 500}


def test_no_error_is_swallowed_whole() -> None:
    """No bare `except`, no `except Exception`; `except BaseException` only to clean up and raise again."""
    wrong = []
    for path in FILES:
        for handler in (node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)):
            caught = [] if handler.type is None else [*named(handler.type)]
            last = handler.body[-1]
            again = isinstance(last, ast.Raise) and last.exc is None
            if handler.type is None or "Exception" in caught or ("BaseException" in caught and not again):
                wrong.append(f"{name(path)}:{handler.lineno}")
        for call in (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)):
            if "suppress" in named(call.func) and {"Exception", "BaseException"} & {*named(*call.args)}:
                wrong.append(f"{name(path)}:{call.lineno}")
    assert not wrong


def named(*nodes: ast.AST) -> Iterator[str]:
    """The names and attributes in expressions."""
    for node in (inner for one in nodes for inner in ast.walk(one)):
        if isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else node.attr


DOCUMENTED = ("rrm/", "assistants/", "tasks/", "scripts/")
"""Where every public definition has a docstring."""


def test_every_public_definition_has_a_docstring() -> None:
    """Modules, classes, functions and methods without a leading underscore in their name or in one around them; but not
    what a function defines within itself, nor setters and overloads, which are described elsewhere."""

    def without(parent: ast.Module | ast.ClassDef, within: str) -> list[str]:
        found = []
        for node in parent.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
            if ast.get_docstring(node) is None and not marks & {"setter", "deleter", "overload"}:
                found.append(f"{within}{node.name}, line {node.lineno}")
            if isinstance(node, ast.ClassDef):
                found += without(node, f"{within}{node.name}.")
        return found

    wrong = []
    for path in (path for path in FILES if name(path).startswith(DOCUMENTED)):
        missing = without(tree(path), "") if not path.stem.startswith("_") or path.stem.startswith("__") else []
        whole = [] if ast.get_docstring(tree(path)) else ["the module"]
        wrong += [f"{name(path)}: {one}" for one in (*whole, *missing)]
    assert not wrong, "\n".join(["without a docstring:", *wrong])


def test_nothing_that_is_read_can_run_code() -> None:
    """No pickle in any form, and no code from model repositories. Ray's own is between the processes of one program."""
    modules = ("pickle", "cPickle", "dill", "cloudpickle", "ray.cloudpickle", "joblib", "shelve", "marshal")
    wrong = []
    for path in FILES:
        barred = (*modules, "torch.load", "torch.save")
        free = ("ray.cloudpickle",) if name(path) == "rrm/loop/on_ray.py" else ()
        wrong += [
            f"{name(path)} imports {dotted}" for dotted in imports(path)
            if inside(dotted, *barred) and dotted not in free
        ]  # fmt: skip
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                bad = ast.unparse(node.func) in ("torch.load", "torch.save")
                for keyword in node.keywords:
                    if keyword.arg in ("trust_remote_code", "allow_pickle"):
                        value = keyword.value
                        bad |= not (isinstance(value, ast.Constant) and value.value is False)
                if bad:
                    wrong.append(f"{name(path)}:{node.lineno}")
    assert not wrong


def test_the_finder_of_circles_finds_them() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
