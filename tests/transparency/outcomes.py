"""Runs tests of CPython's own suite: outcomes.py FILE NAME. Writes one line a test to FILE, its name and its outcome."""

import sys
import unittest

import test.support


class Outcomes(unittest.TestResult):
    """Tells of each test when it is over, so that what came before a hang is known."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def tell(self, case, outcome):
        self.file.write(f"{case.id()} {outcome}\n")
        self.file.flush()

    def addSuccess(self, case):
        self.tell(case, "ok")

    def addError(self, case, error):
        self.tell(case, f"error:{error[0].__name__}")

    def addFailure(self, case, error):
        self.tell(case, "failure")

    def addSkip(self, case, reason):
        self.tell(case, "skipped")

    def addExpectedFailure(self, case, error):
        self.tell(case, "expected-failure")

    def addUnexpectedSuccess(self, case):
        self.tell(case, "unexpected-success")

    def addSubTest(self, case, subtest, error):
        if error is not None:
            self.tell(case, "failure-of-a-part")


def main():
    path, name = sys.argv[1:]
    test.support.verbose = 0
    with open(path, "w", encoding="utf-8") as file:
        unittest.defaultTestLoader.loadTestsFromName(f"test.{name}").run(Outcomes(file))


main()
