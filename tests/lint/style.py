#!/usr/bin/env python3
"""Checks the rules of the house that are not about floors: opening comments, sizes, leftovers, paths of one machine.

style.py ROOT checks a tree; style.py --self-test shows that each rule catches a violation. Prints file:line: what.
"""
import os
import re
import subprocess
import sys
import tempfile

HEADER_LINES, SOURCE_LINES, MOST_LINES, MAIN_LINES = 150, 400, 600, 150
# Written in two parts, so that this file does not catch itself.
LEFTOVERS = re.compile("|".join((r"\bTO" r"DO\b", r"\bFIX" r"ME\b", r"\bXX" r"X\b", r"GTEST_" r"SKIP", r"DISABLED" r"_\w",
                                 r"pytest\." r"skip", r"mark\." r"skip", r"mark\." r"xfail")))
MACHINE_PATHS = re.compile("|".join((r"(?<![\w.])/wor" r"k/", r"(?<![\w.])/hom" r"e/", r"(?<![\w.])/roo" r"t/")))
CODE = (".hpp", ".cpp", ".h", ".py", ".cmake", ".txt")


def tree(root):
    """Relative paths: what git tracks or would track, else every file."""
    try:
        listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
        return sorted(path for path in listed.split("\0") if os.path.isfile(os.path.join(root, path)))
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or a tree without its history
    found = []
    for directory, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not re.match(r"(\.git|build(-.*)?|__pycache__|\.pytest_cache)$", name)]
        found += [os.path.relpath(os.path.join(directory, name), root) for name in files]
    return sorted(found)


def check(root):
    """Returns (complaints, warnings)."""
    complaints, warnings = [], []
    for path in tree(root):
        try:
            with open(os.path.join(root, path), encoding="utf-8") as file:
                lines = file.read().split("\n")
        except UnicodeDecodeError:
            continue
        source = path.startswith("src/") and path.endswith((".hpp", ".cpp"))
        if source and not lines[0].startswith(("//", "/*")):
            complaints.append("%s:1: a file opens with a comment: what it is, what it is not, who calls it" % path)
        count = len(lines) - 1
        if path == "src/main.cpp" and count >= MAIN_LINES:
            complaints.append("%s: %d lines; wiring only, under %d" % (path, count, MAIN_LINES))
        if source and count > MOST_LINES:
            complaints.append("%s: %d lines; at most %d" % (path, count, MOST_LINES))
        elif source and count > (HEADER_LINES if path.endswith(".hpp") else SOURCE_LINES):
            warnings.append("%s: %d lines" % (path, count))
        for number, line in enumerate(lines, 1):
            if path.startswith(("src/", "tests/", "bench/", "scripts/", ".ci/", "cmake/")):
                match = LEFTOVERS.search(line)
                if match:
                    complaints.append("%s:%d: '%s'" % (path, number, match.group()))
            match = MACHINE_PATHS.search(line)
            if match:
                complaints.append("%s:%d: a path of one machine: '%s'" % (path, number, match.group()))
    return complaints, warnings


def self_test():
    bad = [
        ("src/core/a.cpp", "#include <vector>\n"),
        ("src/core/a.cpp", "// a\n" + "int x;\n" * MOST_LINES),
        ("src/main.cpp", "// a\n" + "int x;\n" * MAIN_LINES),
        ("src/core/a.cpp", "// a\n// TO" "DO: later\n"),
        ("tests/unit/a.cpp", "// FIX" "ME\n"),
        ("tests/unit/a.cpp", "TEST(a, DISABLED" "_b) {}\n"),
        ("tests/unit/a.cpp", "GTEST_" "SKIP();\n"),
        ("tests/integration/a.py", "@pytest.mark." "skip\n"),
        ("docs/a.md", "see /wor" "k/main\n"),
        ("etc/a.ini", "logfile = /hom" "e/me/log\n"),
    ]
    good = [
        ("src/core/a.cpp", "// a\nint x;\n"),
        ("src/core/a.hpp", "// a\n" + "int x;\n" * HEADER_LINES),
        ("docs/a.md", "src/wor" "k/x.cpp and ${dir}/wor" "k\n"),
    ]
    for cases, expected in ((bad, 1), (good, 0)):
        for name, text in cases:
            with tempfile.TemporaryDirectory() as root:
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path))
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                found = check(root)[0]
                assert len(found) == expected, (name, text[:60], found)
    print("style.py: %d violations caught, %d clean files passed" % (len(bad), len(good)))


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        sys.exit(0)
    complaints, warnings = check(sys.argv[1])
    for line in warnings:
        print("long: " + line)
    print("\n".join(complaints) or "style: clean")
    sys.exit(1 if complaints else 0)
