"""Runs one computation that nobody vouches for; `sandbox.run` starts it as a script: `python -I -S jail.py`.

Standard input: JSON {"code", "language", "root", "cpu", "memory", "parent"}. Standard output: what the computation
prints. Exit code: 0, or 1 with one line on standard error that says why; the computation's own end, by code or by
signal, is passed on as it is. With "probe" for its code: JSON of the guards.

Two walls, independent of each other:
- the language "arithmetic" (`restrict`): a subset of Python without imports, attributes (but for some harmless ones),
  names with underscores, and any builtin that reaches the system. It holds everywhere.
- the kernel, on Linux and where the machine allows it: another user than root, no capabilities, no network (an empty
  network namespace), no files (an empty root), no keys (of the kernel's keyrings), no new processes, and limits of CPU
  time and memory. When who started it is gone, however it ended, all of it is.
"""

import ast
import contextlib
import ctypes
import json
import math
import os
import random
import select
import signal
import statistics
import sys
from types import SimpleNamespace

try:  # now: where there are no files, nothing can be imported
    import resource
except ImportError:  # not a Unix
    resource = None

MODULES = {"math": math, "random": random, "statistics": statistics}
BUILTINS = (
    abs, all, any, bool, dict, divmod, enumerate, filter, float, int, len, list, map, max, min, pow, print, range,
    reversed, round, set, sorted, str, sum, tuple, zip,
)  # fmt: skip
METHODS = {
    "add", "append", "count", "extend", "get", "index", "items", "join", "keys", "pop", "sort", "split", "strip",
    "update", "values",
}  # fmt: skip
NODES = (
    ast.Module, ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For, ast.While, ast.If, ast.Break, ast.Continue,
    ast.Pass, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.List, ast.Tuple,
    ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.Subscript,
    ast.Slice, ast.IfExp, ast.JoinedStr, ast.FormattedValue, ast.FunctionDef, ast.Return, ast.Lambda, ast.arguments,
    ast.arg, ast.keyword, ast.Starred, ast.Attribute, ast.Import, ast.ImportFrom, ast.alias, ast.expr_context,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
CLONE = {"user": 0x10000000, "network": 0x40000000, "processes": 0x20000000, "messages": 0x08000000}
NOBODY = 65534
KEYS = {  # architecture -> its number for seccomp, and those of add_key, request_key, keyctl
    "x86_64": (0xC000003E, (248, 249, 250)), "aarch64": (0xC00000B7, (217, 218, 219)),
}  # fmt: skip


class Refused(Exception):
    """The computation is not in the language "arithmetic"; says what is in the way."""


def restrict(code: str) -> ast.Module:
    """The program, if it is in the language "arithmetic". Raises `Refused`."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"it is no program: {error}") from error
    for node in ast.walk(tree):
        line = f"line {getattr(node, 'lineno', 0)}"
        if not isinstance(node, NODES):
            raise Refused(f"{line}: {type(node).__name__} is not allowed")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _imports(node, line)
        elif isinstance(node, ast.Attribute):
            of_module = isinstance(node.value, ast.Name) and node.value.id in MODULES
            allowed = _public(MODULES[node.value.id]) if of_module else METHODS
            if node.attr not in allowed or not isinstance(node.ctx, ast.Load):
                raise Refused(f"{line}: the attribute {node.attr!r} is not allowed")
        for name in _names(node):
            if name.startswith("_"):
                raise Refused(f"{line}: the name {name!r} is not allowed")
            if name in MODULES and not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
                raise Refused(f"{line}: {name!r} must stay the module")
        if getattr(node, "decorator_list", None):
            raise Refused(f"{line}: decorators are not allowed")
    return ast.fix_missing_locations(_Imports().visit(tree))


def _public(module) -> list[str]:
    return list(getattr(module, "__all__", ())) or [name for name in dir(module) if not name.startswith("_")]


def _names(node: ast.AST) -> list[str]:
    """The names that a node reads or binds; module names in imports are checked elsewhere."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    return []


def _imports(node: ast.Import | ast.ImportFrom, line: str) -> None:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
    for module in modules:
        if module not in MODULES:
            raise Refused(f"{line}: importing {module!r} is not allowed; there are {', '.join(MODULES)}")
    for alias in node.names:
        if alias.asname is not None:
            raise Refused(f"{line}: import {alias.name!r} under its own name")
        if isinstance(node, ast.ImportFrom) and alias.name not in _public(MODULES[node.module]):
            raise Refused(f"{line}: importing {alias.name!r} is not allowed")


class _Imports(ast.NodeTransformer):
    """`import math` is there already; `from math import pi` becomes `pi = math.pi`."""

    def visit_Import(self, node: ast.Import) -> ast.AST:
        return ast.copy_location(ast.Pass(), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.AST]:
        return [
            ast.copy_location(ast.parse(f"{alias.name} = {node.module}.{alias.name}").body[0], node)
            for alias in node.names
        ]


def restricted_globals() -> dict:
    """What the language "arithmetic" knows: builtins that compute, and the public functions of three modules."""
    known = {function.__name__: function for function in BUILTINS}
    space = {
        name: SimpleNamespace(**{public: getattr(module, public) for public in _public(module)})
        for name, module in MODULES.items()
    }
    return {"__builtins__": known, **space}


# --- the kernel's wall -------------------------------------------------------------------------------


def confine(root: str, parent: int) -> dict[str, bool]:
    """Give up every right that the kernel lets us give up; returns which guards hold. Goes on in a new process."""
    guards = dict.fromkeys(("user", "network", "files", "processes", "capabilities", "keys"), False)
    if not sys.platform.startswith("linux"):
        return guards
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if os.geteuid() == 0:  # root is exempt from the limit on processes
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    guards["user"] = os.geteuid() != 0
    every = sum(CLONE.values())
    apart = libc.unshare(every) == 0
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG; now: who changes what it may loses it
    if os.getppid() != parent:  # it ended before that
        os._exit(1)
    if apart:
        guards["network"] = True
        _leave_to_child(libc)
        try:
            os.chroot(root)
            os.chdir("/")
            guards["files"] = True
        except OSError:
            pass
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody may look into this process
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    guards["capabilities"] = libc.capset(header, (ctypes.c_uint32 * 6)()) == 0
    guards["keys"] = _without_keys(libc)
    return guards


def _leave_to_child(libc) -> None:
    """Go on as the first process of the new process namespace; the old one only waits, and passes the end on."""
    alive, held = os.pipe()  # ends when the old one does
    child = os.fork()
    if child:
        os.close(0)
        if resource is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [os.WTERMSIG(status)])
            with contextlib.suppress(OSError):  # what may not be ignored has no handler
                signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
            os.kill(os.getpid(), os.WTERMSIG(status))
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)
    os.close(held)
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: when the old one is killed, all of them are
    if select.select([alive], [], [], 0)[0]:  # it was, before that
        os._exit(1)
    os.close(alive)


def _without_keys(libc) -> bool:
    """No keyring of who started us: a new one for this session, and then the calls themselves are refused, where the
    kernel filters calls (seccomp). Whether they are, or were never there."""
    machine = os.uname().machine
    if machine not in KEYS:
        return False
    number, (add_key, request_key, keyctl) = KEYS[machine]
    libc.syscall(keyctl, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
    load, equal, above, give = 0x20, 0x15, 0x35, 0x06
    refuse, allow = 0x00050000 | 1, 0x7FFF0000  # SECCOMP_RET_ERRNO with EPERM, SECCOMP_RET_ALLOW
    calls = [
        (load, 0, 0, 4), (equal, 1, 0, number), (give, 0, 0, refuse),  # another architecture's, whose numbers differ
        (load, 0, 0, 0), (above, 3, 0, 0x40000000),  # x32's
        (equal, 2, 0, add_key), (equal, 1, 0, request_key), (equal, 0, 1, keyctl),
        (give, 0, 0, refuse), (give, 0, 0, allow),
    ]  # fmt: skip

    class Filter(ctypes.Structure):
        _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Filter)))

    program = Program(len(calls), (Filter * len(calls))(*calls))
    libc.prctl(22, 2, ctypes.byref(program), 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    return libc.syscall(add_key, b"user", b"rrm", b"x", ctypes.c_size_t(1), ctypes.c_int(-3)) < 0


def limit(cpu: int, memory: int) -> dict[str, bool]:
    """Limit CPU time (s), memory (bytes), files and processes; returns which limits hold."""
    if resource is None:
        return {"cpu": False, "memory": False}
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    done = {"cpu": True, "memory": True}
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (OSError, ValueError):  # macOS has none
        done["memory"] = False
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return done


def probe_processes() -> bool:
    """Whether new processes are refused."""
    try:
        child = os.fork()
    except OSError:
        return True
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return False


def main() -> None:
    """Run the one computation, behind the walls, or print which walls there are ("probe"). Raises `Refused`."""
    asked = json.loads(sys.stdin.buffer.read())
    code = asked["code"]
    if sys.version_info < (3, 12):
        sys.setrecursionlimit(500)
    guards = confine(asked["root"], asked["parent"])
    guards |= limit(asked["cpu"], asked["memory"])
    guards["processes"] = probe_processes()
    if code == "probe":
        print(json.dumps(guards))
        return
    sys.excepthook = _say
    if asked["language"] == "arithmetic":
        program, space = compile(restrict(code), "computation", "exec"), restricted_globals()
    elif all(guards.values()):
        program, space = compile(code, "computation", "exec"), {"__name__": "__main__"}
    else:
        missing = ", ".join(name for name, holds in guards.items() if not holds)
        raise Refused(f"this machine does not confine {missing}; only the language 'arithmetic' is safe here")
    exec(program, space)


def _say(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """How an exception ends this process: its name and words are what is told, in one line."""
    why = {Refused: f"refused: {error}", MemoryError: "it needs more memory than it may"}
    os.write(2, " ".join(why.get(kind, f"{kind.__name__}: {error}").split())[:500].encode(errors="replace"))


if __name__ == "__main__":
    main()
