#!/usr/bin/env python3
"""Holds docs/migrating-from-pgbouncer.md to its word: each line of its tables names tests, and they are there.

documents.py ROOT checks a tree; documents.py --self-test shows that each rule catches a violation.
"""
import os
import re
import sys
import tempfile

PAGE = "docs/migrating-from-pgbouncer.md"


def is_there(root, name):
    """A test file, or one test of it: test_x.py::test_a, tests/unit/x.cpp::a_test."""
    path, _, test = name.partition("::")
    path = os.path.join(root, path if "/" in path else os.path.join("tests/integration", path))
    if not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return not test or re.search(r"^def %s\(|^TEST\(\w+, %s\)" % (re.escape(test), re.escape(test)), text, re.MULTILINE) is not None


def check(root):
    complaints = []
    with open(os.path.join(root, PAGE), encoding="utf-8") as file:
        lines = file.read().split("\n")
    rows = 0
    for number, line in enumerate(lines, 1):
        if not line.startswith("| ") or line.startswith("| what ") or set(line) <= set("|- "):
            continue
        rows += 1
        cell = re.split(r"(?<!\\)\|", line.rstrip().rstrip("|"))[-1]
        names = re.findall(r"`([^`]+)`", cell)
        if not names:
            complaints.append("%s:%d: no test is named" % (PAGE, number))
        complaints += ["%s:%d: there is no test %s" % (PAGE, number, name) for name in names if not is_there(root, name)]
    if rows == 0:
        complaints.append("%s: no tables" % PAGE)
    return complaints


def self_test():
    head = "| what | test |\n|---|---|\n"
    for text, good in ((head + "| a | `test_x.py::test_a` |\n", True), (head + "| a | `tests/unit/x.cpp::b` |\n", True),
                       (head + "| `c` | `test_x.py` |\n", True), (head + "| a | `test_x.py::test_b` |\n", False),
                       (head + "| a | `test_y.py` |\n", False), (head + "| `test_x.py` | none |\n", False), (head, False),
                       (head + "| a | `tests/unit/x.cpp::c` |\n", False)):
        with tempfile.TemporaryDirectory() as root:
            for name, content in ((PAGE, text), ("tests/integration/test_x.py", "def test_a(it):\n"),
                                  ("tests/unit/x.cpp", "TEST(a, b) {}\n")):
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                    file.write(content)
            assert (not check(root)) == good, (text, check(root))
    print("documents.py: its rules hold")


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        sys.exit(0)
    found = check(sys.argv[1])
    print("\n".join(found) or "documents: clean")
    sys.exit(1 if found else 0)
