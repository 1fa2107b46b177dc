#!/usr/bin/env python3
"""Checks what each floor of src/ may include and use: its own floor and those below, never above.

floors.py ROOT checks a tree; floors.py --self-test shows that each rule catches a violation. Prints file:line: what.
"""
import os
import re
import sys
import tempfile

# What a file of each floor may include. The order of docs/architecture.md: base < wire, auth, config < core < net < main.
FLOORS = {
    "base": {"base"},
    "wire": {"wire", "base"},
    "auth": {"auth", "base"},
    "config": {"config", "auth", "base"},
    "core": {"core", "config", "auth", "wire", "base"},
    "net": {"net", "core", "config", "auth", "wire", "base"},
    "helper": {"helper", "auth", "base"},  # a program of its own
    "main.cpp": {"net", "core", "config", "auth", "wire", "base"},
}
PURE = {"base", "wire", "auth", "config", "core"}

# No sockets, threads, locks, clocks, randomness, files or logging in the pure floors: these are passed in, or are net's.
IMPURE_INCLUDE = re.compile(
    r"boost/asio|spdlog/|sys/|netinet/|arpa/|(?:unistd|netdb|poll|fcntl|pthread|signal|csignal|syslog|ctime|time)\b|openssl/rand|"
    r"(?:thread|stop_token|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|atomic|random|iostream|"
    r"fstream|filesystem)$")
IMPURE_USE = re.compile(r"::now\s*\(|\brandom_device\b|\bRAND_bytes\b|\b(?:std::)?(?:getenv|printf|fopen|abort|exit)\s*\(|\bthread_local\b")
# config alone reads files: the ini, its %include and auth_file.
FILE_READING = re.compile(r"fstream$|filesystem$")
# Compiled only into the build that tests the tests: the one that asks the environment.
TEST_ONLY = "base/seeded_bug.hpp"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def without_comments(text):
    """Comments and string literals blanked; lines keep their numbers."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group()) if match.group()[0] == "/" else '""'
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def check_file(floor, text):
    """Yields (line number, complaint)."""
    code = without_comments(text).split("\n")
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        if match:
            style, name = match.groups()
            if style == '"':
                target = name.split("/")[0]
                if "/" not in name or target not in FLOORS:
                    yield number, 'include "%s" from the root of src/: "floor/name.hpp"' % name
                elif target not in FLOORS[floor]:
                    yield number, "%s may not include %s/" % (floor, target)
            if name == "boost/asio.hpp":
                yield number, "include single Asio headers, not the umbrella"
            elif floor in PURE and IMPURE_INCLUDE.match(name) and not (floor == "config" and FILE_READING.match(name)):
                yield number, "<%s> has no place in the pure floor %s" % (name, floor)
        elif floor in PURE and IMPURE_USE.search(code[number - 1]):
            yield number, "'%s' has no place in the pure floor %s" % (IMPURE_USE.search(code[number - 1]).group(), floor)


def check(root):
    complaints = []
    src = os.path.join(root, "src")
    for directory, _, files in sorted(os.walk(src)):
        for name in sorted(files):
            if not name.endswith((".hpp", ".cpp", ".h")):
                continue
            path = os.path.join(directory, name)
            if os.path.relpath(path, src) == TEST_ONLY:
                continue
            floor = os.path.relpath(path, src).split(os.sep)[0]
            if floor not in FLOORS:
                complaints.append("src/%s: not a floor" % os.path.relpath(path, src))
                continue
            with open(path, encoding="utf-8") as file:
                complaints += ["%s:%d: %s" % (os.path.relpath(path, root), number, what)
                               for number, what in check_file(floor, file.read())]
    return complaints


def self_test():
    bad = [
        ("base/a.hpp", '#include "wire/frame.hpp"'),
        ("wire/a.hpp", '#include "auth/scram.hpp"'),
        ("auth/a.hpp", '#include "config/settings.hpp"'),
        ("config/a.hpp", '#include "core/pool.hpp"'),
        ("core/a.cpp", '#include "net/worker.hpp"'),
        ("core/a.cpp", '#include "pool.hpp"'),
        ("core/a.cpp", "#include <boost/asio/ip/tcp.hpp>"),
        ("core/a.cpp", "#  include <spdlog/spdlog.h>"),
        ("core/a.cpp", "#include <mutex>"),
        ("auth/a.cpp", "#include <openssl/rand.h>"),
        ("wire/a.cpp", "#include <sys/socket.h>"),
        ("core/a.cpp", "auto t = std::chrono::steady_clock::now();"),
        ("core/a.cpp", "#include <fstream>"),
        ("net/a.cpp", "#include <boost/asio.hpp>"),
        ("else/a.cpp", ""),
    ]
    good = [
        ("base/a.hpp", "#include <vector>\n// not steady_clock::now() here\n"),
        ("config/a.cpp", '#include <fstream>\n#include "auth/userlist.hpp"'),
        ("core/a.cpp", '#include "wire/frame.hpp"\n#include <boost/system/result.hpp>\nauto s = "x::now()";'),
        ("net/a.cpp", '#include <boost/asio/ip/tcp.hpp>\n#include "core/pool.hpp"\nauto t = clock::now();'),
        ("main.cpp", '#include "net/server.hpp"'),
    ]
    for cases, expected in ((bad, 1), (good, 0)):
        for name, text in cases:
            with tempfile.TemporaryDirectory() as root:
                path = os.path.join(root, "src", name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                found = check(root)
                assert len(found) == expected, (name, text, found)
    print("floors.py: %d violations caught, %d clean files passed" % (len(bad), len(good)))


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        sys.exit(0)
    found = check(sys.argv[1])
    print("\n".join(found) or "floors: clean")
    sys.exit(1 if found else 0)
