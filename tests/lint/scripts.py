#!/usr/bin/env python3
"""Checks that what Dockerfile and README.md name is there: scripts exist and can be run, linked files exist; and that
every Python program can be read as such.

scripts.py ROOT checks a tree; scripts.py --self-test shows that each rule catches a violation.
"""
import ast
import os
import re
import sys
import tempfile


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def programs(root):
    """Python's: by their names or their first lines; what is built or hidden aside."""
    for folder, inner, files in os.walk(root):
        inner[:] = [it for it in inner if it[0] != "." and not (folder == root and it == "build")]
        for path in (os.path.join(folder, it) for it in files):
            with open(path, "rb") as file:
                head = file.readline()
            if path.endswith(".py") or (head.startswith(b"#!") and b"python" in head):
                yield path


def check(root):
    complaints = []
    for path in programs(root):
        try:
            ast.parse(read(path))
        except SyntaxError as error:
            complaints.append("%s:%s: %s" % (os.path.relpath(path, root), error.lineno, error.msg))
    for page in ("Dockerfile", "README.md", ".ci/run"):
        for script in sorted(set(re.findall(r"(?<![\w./-])(?:scripts|bench)/[a-z][a-z-]*(?![\w./*-])", read(os.path.join(root, page))))):
            if not os.access(os.path.join(root, script), os.X_OK):
                complaints.append("%s: %s is not there or cannot be run" % (page, script))
    for link in re.findall(r"\]\(([^):#]+)", read(os.path.join(root, "README.md"))):
        if not os.path.exists(os.path.join(root, link)):
            complaints.append("README.md: no file %s" % link)
    for script in sorted(os.listdir(os.path.join(root, "scripts"))):
        if not os.access(os.path.join(root, "scripts", script), os.X_OK):
            complaints.append("scripts/%s cannot be run" % script)
    return complaints


def self_test():
    clean = {"Dockerfile": "RUN scripts/build release\nCOPY scripts/build /x\n", "README.md": "[a](Dockerfile) scripts/build\n",
             ".ci/run": "scripts/build dev\n", "scripts/build": "#!/bin/sh\n"}
    bad = [{"Dockerfile": "RUN scripts/other\n"}, {"README.md": "[a](docs/none.md)\n"}, {"README.md": "run `scripts/other`\n"},
           {".ci/run": "scripts/other\n"}, {"scripts/plain": ""}, {"tests/x.py": "if\n"}, {"bench/run": "#!/usr/bin/python3\nno comment\n"}]
    for change in [{}] + bad:
        with tempfile.TemporaryDirectory() as root:
            for name, text in {**clean, **change}.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            os.chmod(os.path.join(root, "scripts/build"), 0o755)
            found = check(root)
            assert len(found) == (1 if change else 0), (change, found)
    print("scripts.py: %d violations caught" % len(bad))


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        sys.exit(0)
    found = check(sys.argv[1])
    print("\n".join(found) or "scripts: clean")
    sys.exit(1 if found else 0)
