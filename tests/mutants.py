"""How many small faults in a module its tests notice: `python tests/mutants.py metrics tests/test_metrics.py`.

A mutant is the module with one thing of its syntax tree changed: a comparison, an operator, a number, a condition; a
result, a call or a refusal left out. What messages and annotations say stays. The tests (those that are not slow) are
collected once; for each mutant a fork of that process runs them until one fails, those first that noticed the last
ones. A mutant that none notices has survived, and is printed. The module unchanged must survive, else nothing is told.
"""

import argparse
import ast
import copy
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CPU_S = 40  # of a mutant: beyond, it hangs, which is noticed
PAIRS = [
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Is, ast.IsNot)),
    *((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or), (ast.BitAnd, ast.BitOr)),
]
OTHER = {one: two for pair in PAIRS for one, two in (pair, pair[::-1])}
OTHER |= dict.fromkeys((ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult), ast.Mult)


UNCHANGED = ("annotation", "returns", "decorator_list", "bases")


def changed(node: ast.AST) -> tuple[str, ast.AST] | None:
    """What is made of a node, or None where it stays."""
    new: Any = copy.copy(node)
    match node:
        case ast.Raise():
            return "raise left out", ast.Pass()
        case ast.Compare(ops=[first, *others]) if type(first) in OTHER:
            new.ops = [OTHER[type(first)](), *others]
            return f"{type(first).__name__} -> {type(new.ops[0]).__name__}", new
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in OTHER:
            new.op = OTHER[type(op)]()
            return f"{type(op).__name__} -> {type(new.op).__name__}", new
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            return f"{type(node.op).__name__} left out", node.operand
        case ast.Constant(value=bool() | int() | float()):
            new.value = not node.value if isinstance(node.value, bool) else node.value + 1
            return f"{node.value} -> {new.value}", new
        case ast.If() | ast.IfExp() | ast.While():
            new.test = ast.UnaryOp(ast.Not(), node.test)
            return "condition negated", new
        case ast.Return(value=ast.expr() as value) if getattr(value, "value", value) is not None:
            return "result left out", ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()):
            return "call left out", ast.Pass()
    return None


class OneChange(ast.NodeTransformer):
    """Changes the node of a number, counted from 0; `what` says where and how, and is empty where there is none."""

    def __init__(self, number: int) -> None:
        self.left, self.what = number, ""

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, (ast.arg, ast.JoinedStr)):
            return node
        found = changed(node)
        if found is not None:
            self.left -= 1
            if self.left == -1:
                self.what = f"{getattr(node, 'lineno', 0)}: {found[0]}"
                return found[1]
        if isinstance(node, ast.Raise):
            return node
        kept = {name: getattr(node, name) for name in UNCHANGED if getattr(node, name, None)}
        for name, value in kept.items():
            setattr(node, name, [] if isinstance(value, list) else None)
        node = self.generic_visit(node)
        for name, value in kept.items():
            setattr(node, name, value)
        return node


def mutants(source: str) -> Iterator[tuple[str, CodeType]]:
    """What was changed in which line, and the module with it."""
    number = 0
    while True:
        one = OneChange(number)
        tree = ast.fix_missing_locations(one.visit(ast.parse(source)))
        if not one.what:
            return
        yield one.what, compile(tree, "mutant", "exec")
        number += 1


def install(code: CodeType, module: ModuleType) -> None:
    """Runs a mutant in place of its module; who has a name of it gets the new one."""
    old = dict(vars(module))
    exec(code, vars(module))
    shared = (bool, int, float, str, type(None))  # one object may have many meanings
    new = {id(value): vars(module)[name] for name, value in old.items() if not isinstance(value, shared)}
    for other in list(sys.modules.values()):
        if str(vars(other).get("__file__")).startswith(str(ROOT)):
            for name, value in list(vars(other).items()):
                if id(value) in new and other is not module:
                    setattr(other, name, new[id(value)])


class Mutants:
    """A plugin of pytest that runs the tests on each mutant, in a fork."""

    def __init__(self, module: str, sample: int | None) -> None:
        self.name, self.sample, self.failed = module, sample, ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        started, path = time.monotonic(), ROOT / "dino_speech" / f"{self.name}.py"
        source = path.read_text(encoding="utf-8")
        chosen = found = list(enumerate(mutants(source)))
        if self.sample is not None and self.sample < len(found):
            chosen = sorted(random.Random(0).sample(found, self.sample), key=lambda one: one[0])
        self.run(session.items)  # modules are imported by it
        if by := self.failed or self.noticed(compile(source, str(path), "exec"), session.items):
            raise pytest.UsageError(f"{self.name}: unchanged, it fails: {by}")
        survived, order, lines = 0, list(session.items), source.splitlines()
        for _, (what, code) in chosen:
            by = self.noticed(code, order)
            order.sort(key=lambda item, by=by: item.nodeid != by)
            if not by:
                survived += 1
                print(f"\nsurvived {self.name}:{what}: {lines[int(what.partition(':')[0]) - 1].strip()}", flush=True)
        took = f"{time.monotonic() - started:.0f} s"
        print(f"\n{self.name}: {len(chosen)} of {len(found)} mutants, {survived} survived, {took}", flush=True)
        return True

    def run(self, items: list[pytest.Item]) -> None:
        """Until one fails."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return

    def noticed(self, code: CodeType, items: list[pytest.Item]) -> str:
        """The test that failed, "-" where the module or the process did; "": none."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.setsid()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            limit = int(time.process_time()) + CPU_S
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            signal.alarm(15 * CPU_S)
            failed = "-"
            try:
                install(code, sys.modules["dino_speech." + self.name.replace("/", ".")])
                self.run(items)
                failed = self.failed
            except BaseException as error:
                failed = repr(error)
            finally:
                os.write(writing, failed.encode()[:4096])
                os._exit(bool(failed))
        os.close(writing)
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests began
        with os.fdopen(reading, "rb") as pipe:
            by = pipe.read().decode()
        return by if not status else by or "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="below dino_speech, as dino/loss")
    parser.add_argument("tests", nargs="+", help="files of tests")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random (seed 0); else all")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT))
    words = ["-q", "-s", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "-o", "addopts=", "-m"]
    plugins = [Mutants(options.module, options.sample)]
    return int(pytest.main([*words, "not slow", *options.tests], plugins=plugins))


if __name__ == "__main__":
    sys.exit(main())
