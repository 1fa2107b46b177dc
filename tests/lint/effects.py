#!/usr/bin/env python3
"""Holds tests/lint/effects.txt against the program and the tests: every setting, option, table, command, signal, flag and
variable has a test of its effect, that test is there and names it, and nothing is listed that the program does not know.
The columns of each table are in tests/unit/console_test.cpp, which must have a row for every table of PgBouncer's.

effects.py ROOT checks a tree; effects.py --self-test shows that each rule catches a violation.
"""
import ast
import os
import re
import sys
import tempfile

LIST, TESTS = "tests/lint/effects.txt", "tests/integration"
# kind: (file, pattern); the first group is the name
SOURCES = {
    "setting": ("src/config/settings_rows.cpp", r"\{group::\w+, \"(\w+)\""),
    "database": ("src/config/entries.cpp", r"^    \{\"(\w+)\", &database::"),
    "user": ("src/config/entries.cpp", r"^    \{\"(\w+)\", &user::"),
    "show": ("src/core/console_command.cpp", r"^    \{\"(\w+)\", console_table::"),
    "command": ("src/core/console_command.cpp", r"^    \{\"(\w+)\", verb::"),
    "signal": ("src/net/process.cpp", r"^        case (SIG\w+):"),
    "flag": ("src/main.cpp", r"\{\"(\w+)\", (?:no|required|optional)_argument"),
    "environment": ("src/net", r"(?:getenv|variable)\(\"(\w+)\"\)"),
}
UPPER = ("show", "command")
WITHOUT_A_ROW = {"command": ["SET", "SHOW"]}  # words of the grammar itself
NOT_OF_OPERATORS = {"environment": ["PATH"]}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def text_of(root, path):
    """Of a file, or of all sources in a folder."""
    path = os.path.join(root, path)
    if os.path.isdir(path):
        return "\n".join(read(os.path.join(path, name)) for name in sorted(os.listdir(path)) if name.endswith(".cpp"))
    return read(path)


def functions(root):
    """{file::test: its text, and what the module says outside of tests, where its tables and fixtures are}."""
    found = {}
    for name in sorted(os.listdir(os.path.join(root, TESTS))):
        if not (name.startswith("test_") and name.endswith(".py")):
            continue
        text = read(os.path.join(root, TESTS, name))
        lines, tests, common = text.split("\n"), {}, []
        for node in ast.parse(text).body:
            first = min([node.lineno] + [it.lineno for it in getattr(node, "decorator_list", [])])
            own = "\n".join(lines[first - 1:node.end_lineno])
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                tests[node.name] = own
            else:
                common.append(own)
        for test, own in tests.items():
            found["%s::%s" % (name, test)] = own + "\n" + "\n".join(common)
    return found


def names(kind, name):
    """What a test must say; a flag may be the short one, its first letter."""
    short = r"|-[%s%s](?!\w)" % (name[0], name[0].upper()) if kind == "flag" else ""
    return r"(?<!\w)%s(?!\w)" % re.escape(name) + short


def check(root):
    complaints, listed = [], {kind: set() for kind in SOURCES}
    tests = functions(root)
    for number, line in enumerate(read(os.path.join(root, LIST)).split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        place, parts = "%s:%d: " % (LIST, number), line.split()
        if len(parts) != 3 or parts[0] not in SOURCES:
            complaints.append(place + "a line is a kind, a name and file::test")
            continue
        kind, name, test = parts
        listed[kind].add(name)
        if test not in tests:
            complaints.append(place + "there is no test " + test)
        elif not re.search(names(kind, name), tests[test]):
            complaints.append(place + "%s does not name %s" % (test, name))
    for kind, (path, pattern) in SOURCES.items():
        known = set(re.findall(pattern, text_of(root, path), re.MULTILINE)) - set(NOT_OF_OPERATORS.get(kind, []))
        known = {name.upper() for name in known} if kind in UPPER else known
        known |= set(WITHOUT_A_ROW.get(kind, []))
        complaints += ["%s: %s %s of %s has no test of its effect" % (LIST, kind, name, path) for name in sorted(known - listed[kind])]
        complaints += ["%s: %s %s is not known to %s" % (LIST, kind, name, path) for name in sorted(listed[kind] - known)]
    columns = read(os.path.join(root, "tests/unit/console_test.cpp"))
    complaints += ["tests/unit/console_test.cpp: no columns of SHOW %s" % name for name in sorted(listed["show"])
                   if name not in ("HELP", "WHY") and '{"%s",' % name not in columns]
    return complaints


def self_test():
    clean = {
        LIST: "# c\nsetting a test_x.py::test_a\ndatabase d test_x.py::test_a\nuser u test_x.py::test_a\nshow T test_x.py::test_a\n"
              "command SET test_x.py::test_a\ncommand SHOW test_x.py::test_a\ncommand GO test_x.py::test_a\n"
              "signal SIGHUP test_x.py::test_a\nflag f test_x.py::test_a\nenvironment E test_x.py::test_a\n",
        TESTS + "/test_x.py": "TABLE = 'T SET SHOW GO'\n@mark('d u')\ndef test_a():\n    'a SIGHUP f E'\n",
        "src/config/settings_rows.cpp": '    {group::x, "a", 1},\n',
        "src/config/entries.cpp": '    {"d", &database::d},\n    {"u", &user::u},\n',
        "src/core/console_command.cpp": '    {"t", console_table::t},\n    {"go", verb::go},\n',
        "src/net/process.cpp": '        case SIGHUP:\n    getenv("E")\n',
        "src/main.cpp": '{"f", no_argument}\n',
        "tests/unit/console_test.cpp": '{"T", "a s"},\n',
    }
    bad = [
        {"src/config/settings_rows.cpp": '    {group::x, "a", 1},\n    {group::x, "b", 1},\n'},
        {"src/config/entries.cpp": '    {"d", &database::d},\n    {"u", &user::u},\n    {"v", &user::u},\n'},
        {"src/main.cpp": '{"f", no_argument}, {"g", no_argument}\n'},
        {"src/net/process.cpp": '        case SIGHUP:\n        case SIGINT:\n    getenv("E")\n'},
        {LIST: clean[LIST] + "setting gone test_x.py::test_a\n"},
        {LIST: clean[LIST] + "setting a test_x.py::test_b\n"},
        {LIST: clean[LIST] + "nonsense\n"},
        {TESTS + "/test_x.py": clean[TESTS + "/test_x.py"].replace("SIGHUP", "")},
        {"tests/unit/console_test.cpp": ""},
    ]
    for change in [{}] + bad:
        with tempfile.TemporaryDirectory() as root:
            for name, text in {**clean, **change}.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            found = check(root)
            assert bool(found) == bool(change), (change, found)
    print("effects.py: %d violations caught" % len(bad))


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        sys.exit(0)
    found = check(sys.argv[1])
    print("\n".join(found) or "effects: clean")
    sys.exit(1 if found else 0)
