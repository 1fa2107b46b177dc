"""What the three Python drivers' programs share: the lines that `run` reads, and the values that every driver sends.

Not a test framework: a check is a function that returns, raises Absent, or raises anything else. Each driver's own file
does everything else in that driver's idiom, at its defaults.
"""
import datetime
import decimal
import itertools
import os
import threading
import time
import traceback

WORKERS, SECONDS = int(os.environ["WORKERS"]), float(os.environ["SECONDS"])
TEXT = "grüße ☃ 😀 'quoted' \\ \t\n"
STAMP = datetime.datetime(2024, 2, 29, 12, 34, 56, 789012)
STAMP_UTC = STAMP.replace(tzinfo=datetime.timezone.utc)
NUMERIC = decimal.Decimal("12345678901234567890.123456789")
BYTES = bytes(range(256))
JSON = {"name": "grüße", "list": [1, 2.5, None, True]}
LARGE = 8 << 20
SLEEPING = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'"


class Absent(Exception):
    """The driver has no such thing."""


def equal(got, expected):
    if got != expected or type(got) is not type(expected):
        raise AssertionError("got %.200r, not %.200r" % (got, expected))


def report(name, failure=None, words=""):
    if failure is None:
        print(("ok %s %s" % (name, words)).rstrip(), flush=True)
    elif isinstance(failure, Absent):
        print("n/a " + name, flush=True)
    else:
        if os.environ.get("TRACE"):
            traceback.print_exception(failure)
        line = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename.endswith("_driver.py")][-1]
        print("fail %s line %d: %s: %s" % (name, line, type(failure).__name__, " ".join(str(failure).split())), flush=True)


def run(checks):
    """checks: functions named check_NAME, in order."""
    for function in checks:
        try:
            words = function()
            report(function.__name__.replace("check_", ""), words=words or "")
        except Exception as failure:
            report(function.__name__.replace("check_", ""), failure)


def large_text():
    return ("0123456789abcdef" * (LARGE // 16 + 1))[:LARGE - 7] + "the end"


def load_in_threads(work):
    """work(token, more) for each of WORKERS. more() is true while there is time, and once at least, however busy the machine
    is. Returns the sum of what they return."""
    deadline, results, failures = time.monotonic() + SECONDS, [], []

    def one(number):
        rounds = itertools.count()
        try:
            results.append(work("w%d-%s" % (number, os.urandom(6).hex()), lambda: next(rounds) == 0 or time.monotonic() < deadline))
        except Exception as failure:
            failures.append(failure)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return str(sum(results))
