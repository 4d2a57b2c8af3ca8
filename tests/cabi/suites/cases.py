"""Runs unittest cases, each class in a process of its own: cases.py RESULTS NAME...

A name is that of a module, a class or a case, which runs with its class: others there may matter to it. With
a `-` before it, a class is skipped. RESULTS gets a line `outcome<TAB>case` for each case.
$JOBS processes run at a time, with $PRELOAD, if it is set, as their LD_PRELOAD.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 300  # seconds that a process may take
SLOW = re.compile(r"WithProcessesTestCondition|TestWait|ProcessesTestProcess|GeneralModuleTests")


class Result(unittest.TextTestResult):
    """Writes a line when a case starts and when its outcome is known, so that a case which takes the
    process with it is seen as well."""

    lines = None

    def write(self, outcome, test):
        self.lines.write(f"{outcome}\t{test.id()}\n".encode())

    def startTest(self, test):
        super().startTest(test)
        self.write("started", test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.write("passed", test)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.write("passed", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.write("skipped", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.write("failed", test)

    def addError(self, test, error):
        super().addError(test, error)
        self.write("failed", test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.write("failed", test)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.write("failed", test)


def run_here(lines, name):
    Result.lines = open(lines, "ab", buffering=0)
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def parts(name):
    """What of `name` runs in a process of its own: its classes. With their cases."""
    classes = {}
    for test in flat(unittest.defaultTestLoader.loadTestsFromName(name)):
        if isinstance(test, unittest.loader._FailedTest):
            sys.exit(f"{name}: {test._exception}")
        classes[test.id().rpartition(".")[0]] = []
    for name in classes:
        classes[name] = [test.id() for test in flat(unittest.defaultTestLoader.loadTestsFromName(name))]
    return classes


def outcomes(lines, cases, finished):
    """What a process wrote, as outcome by case. A case that it did not get to, because it died, has failed."""
    result = {}
    for line in open(lines):
        outcome, case = line.rstrip("\n").split("\t")
        # That of a class or module is "setUpClass (name)", that of a subtest "name (i=1)".
        case = re.sub(r"^\w+ \(([\w.]+)\)$", r"\1", case).partition(" ")[0]
        if result.get(case) != "failed":
            result[case] = outcome
    if not finished:
        result = {case: "failed" for case in cases} | result
    return {case: "failed" if outcome == "started" else outcome for case, outcome in result.items()}


def run_apart(name, cases, environment):
    with tempfile.TemporaryDirectory() as scratch:
        lines = os.path.join(scratch, "lines")
        open(lines, "w").close()
        log = os.path.join(scratch, "log")
        with open(log, "w") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", os.path.abspath(__file__), "--here", lines, name],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment, start_new_session=True, cwd=scratch,
            )
        try:
            finished = process.wait(PATIENCE) == 0
        except subprocess.TimeoutExpired:
            finished = False
        # Also children that it left.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        result = outcomes(lines, cases, finished)
        if "failed" in result.values():
            print(f"---- {name}: status {process.returncode}")
            print(open(log, errors="replace").read(), flush=True)
        return result


def main(results, names):
    environment = dict(os.environ)
    if os.environ.get("PRELOAD"):
        environment.update(LD_PRELOAD=os.environ["PRELOAD"], LINIPC_CABI_STATS=os.environ["STATS"])
    todo = {}
    for name in names:
        todo.update(parts(name.removeprefix("-")))
    skipped = [case for name in names if name.startswith("-") for case in todo.pop(name[1:])]
    first = sorted(todo, key=lambda name: not SLOW.search(name))
    with ThreadPoolExecutor(int(os.environ["JOBS"])) as pool, open(results, "a") as output:
        for result in pool.map(lambda name: run_apart(name, todo[name], environment), first):
            for case, outcome in result.items():
                output.write(f"{outcome}\t{case}\n")
        for case in skipped:
            output.write(f"skipped\t{case}\n")


# Also imported by the children of multiprocessing's tests, which start from the main module.
if __name__ == "__main__":
    if sys.argv[1] == "--here":
        run_here(*sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2:])
