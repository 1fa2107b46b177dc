"""A pgsluice for one test: its own directory, ini, port and Unix socket; watched from start to end.

PGSLUICE_BIN names the program. Root runs it as the system user `postgres`, as pg.py does. close() asserts that the
process was still there, that it ends with status 0 and that no sanitizer had anything to say.

    with Pooler({"app": "host=127.0.0.1 port=5432"}, {"default_pool_size": 5}) as pooler:
        pooler.connect().execute("select 1")     # psycopg
        pooler.wire().value("select 1")          # the bare protocol
"""
import os
import re
import shutil
import signal
import subprocess
import time

import psycopg

from pg import free_port, give_away, temporary_directory, unprivileged
from wire import Wire

SLOW = os.environ.get("PGSLUICE_SLOW", "0") not in ("", "0")  # a sanitizer build
SLACK = 1.0 if SLOW else 0.2  # how late something may be, in seconds; nothing may be early
REPORTS = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer|Assertion .* failed")
USER, PASSWORD = "app", "strongpassword"

_program = None


def program():
    """PGSLUICE_BIN, or a copy of it where the unprivileged user may run it."""
    global _program
    if _program is None:
        path = os.path.abspath(os.environ["PGSLUICE_BIN"])
        if subprocess.run(unprivileged() + ["test", "-x", path]).returncode != 0:
            copy = os.path.join(temporary_directory("pgsluice-bin-"), os.path.basename(path))
            helper = os.path.join(os.path.dirname(path), "pgsluice-check-password")
            for it in (path, helper) if os.path.exists(helper) else (path,):
                give_away(shutil.copy(it, os.path.join(os.path.dirname(copy), os.path.basename(it))))
            path = copy
        _program = path
    return _program


def wait_until(condition, seconds=10, what="what was expected"):
    """Polls until condition() is true and returns what it gave; the time it may take is a limit, not a measure."""
    give_up = time.monotonic() + seconds * (3 if SLOW else 1)
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < give_up, "did not happen in %s s: %s" % (seconds, what)
        time.sleep(0.01)


class Clock:
    """How long something took, by the monotonic clock; started before what is measured."""

    def __init__(self):
        self.start = time.monotonic()

    def seconds(self):
        return time.monotonic() - self.start

    def assert_at(self, value, slack=None):
        """Now is `value` seconds after the start: not earlier, not more than the slack later."""
        took = self.seconds()
        limit = value + (SLACK if slack is None else slack)
        assert value <= took <= limit, "acted after %.3f s; wanted %.3f to %.3f s" % (took, value, limit)


class Pooler:
    """databases, users, peers: entries of those sections. settings: of [pgbouncer]. auth: contents of auth_file.
    text: a whole ini instead of the three; {port}, {auth_file} and {directory} in it are filled in."""

    def __init__(self, databases=None, settings=None, users=None, auth=None, text=None, arguments=(),
                 peers=None):
        self.directory = temporary_directory("pgsluice-test-")
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.ini = os.path.join(self.directory, "pgsluice.ini")
        self.auth_file = os.path.join(self.directory, "userlist.txt")
        self.stderr = os.path.join(self.directory, "stderr")
        self.databases, self.users, self.text = databases or {}, users or {}, text
        self.peers = peers or {}
        self.settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": self.directory,
            "auth_type": "scram-sha-256", "auth_file": self.auth_file, "pool_mode": "transaction", "worker_threads": 2,
            "default_pool_size": 5,
            "login_failure_max_delay": 0,  # the tests fail to log in many times
            **(settings or {})}
        self.auth = {USER: PASSWORD} if auth is None else auth
        self.arguments = list(arguments)
        self.process = None
        self.limit_files = None  # of open ones, at most
        self.within = []  # a command that execs what comes after it
        self.expect_exit = False  # close() accepts that it has ended already, with status 0
        self.clients = []
        self.write()

    @property
    def socket_path(self):
        return os.path.join(self.directory, ".s.PGSQL.%d" % self.port)

    # ---- its files ----

    def write(self):
        """Writes the ini and the auth_file from the attributes (again)."""
        section = lambda name, rows: "[%s]\n%s\n" % (  # noqa: E731
            name, "".join("%s = %s\n" % row for row in rows.items() if row[1] is not None))
        text = self.text or (section("databases", self.databases) + section("users", self.users) +
                             section("peers", self.peers) + section("pgbouncer", self.settings))
        for name, value in (("port", self.port), ("auth_file", self.auth_file), ("directory", self.directory)):
            text = text.replace("{%s}" % name, str(value))
        self.write_ini(text)
        quoted = lambda text: '"%s"' % text.replace('"', '""')  # noqa: E731
        with open(self.auth_file, "w") as file:
            file.write("".join("%s %s\n" % (quoted(user), quoted(secret)) for user, secret in self.auth.items()))
        give_away(self.auth_file)

    def write_ini(self, text):
        with open(self.ini, "w") as file:
            file.write(text)
        give_away(self.ini)

    def reload(self, seconds=5):
        """write() and SIGHUP; returns when the log tells that it was read."""
        self.write()
        return self.hang_up(seconds)

    def hang_up(self, seconds=5):
        """SIGHUP; returns what the log says from there to the outcome."""
        before = len(self.log())
        self.signal(signal.SIGHUP)
        wait_until(lambda: re.search("configuration reloaded|reload failed", self.log()[before:]), seconds,
                   "the outcome of the reload in the log")
        return self.log()[before:]

    # ---- its life ----

    def spawn(self, arguments=None):
        """Starts it without waiting for anything."""
        with open(self.stderr, "ab") as log:
            command = [program()] + (self.arguments + [self.ini] if arguments is None else arguments)
            if self.limit_files:
                command = ["prlimit", "--nofile=%d" % self.limit_files] + command
            self.process = subprocess.Popen(self.within + unprivileged() + command, cwd=self.directory, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        return self

    def start(self, seconds=10):
        """Returns when it accepts connections and is ready for signals."""
        before = len(self.log()) if os.path.exists(self.stderr) else 0
        self.spawn()

        def accepts():
            assert self.process.poll() is None, "it did not start:\n" + self.log()
            try:
                Wire(self.address).socket.close()
                return True
            except ConnectionRefusedError:
                return False
        wait_until(accepts, seconds, "connections accepted")
        if "-q" not in self.arguments:
            wait_until(lambda: "process up" in self.log()[before:], seconds, "ready, by its log")
        return self

    def run(self, arguments=None, seconds=20):
        """Runs it to its end; returns (status, what it printed)."""
        self.spawn(arguments)
        status = self.process.wait(seconds * (3 if SLOW else 1))
        return status, self.log()

    def signal(self, sig):
        self.process.send_signal(sig)

    def exited(self, seconds=5):
        """Waits for the end; returns the status."""
        self.expect_exit = True
        return self.process.wait(seconds * (3 if SLOW else 1))

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close_clients(self):
        for client in self.clients:
            client.close()

    def close(self):
        """Ends it and checks how it was."""
        self.close_clients()
        try:
            if self.process is None:
                return
            status = self.process.poll()
            assert status is None or self.expect_exit, "it ended with %s:\n%s" % (status, self.log()[-5000:])
            if status is None:
                # Waits for clients; the second one says: enough.
                for seconds in (0.3, 10):
                    self.process.terminate()
                    try:
                        self.process.wait(seconds * (3 if SLOW else 1))
                        break
                    except subprocess.TimeoutExpired:
                        pass
            assert self.process.poll() == 0, "status %s:\n%s" % (self.process.poll(), self.log()[-5000:])
            report = REPORTS.search(self.log())
            assert report is None, self.log()[report.start():][:10000]
        finally:
            self.kill()
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def __exit__(self, *_):
        self.close()

    # ---- looking at it ----

    def log(self):
        """What is there a moment from now: a thread of its own writes it."""
        time.sleep(0.2 if SLOW else 0.05)
        with open(self.stderr, errors="replace") as file:
            return file.read()

    def wait_log(self, pattern, seconds=5):
        return wait_until(lambda: re.search(pattern, self.log()), seconds, "in the log: " + pattern)

    def memory(self, which="VmRSS"):
        """KiB."""
        with open("/proc/%d/status" % self.process.pid) as file:
            return int(re.search(which + r":\s+(\d+) kB", file.read()).group(1))

    def open_files(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    # ---- clients ----

    def url(self, user=USER, password=PASSWORD, database=USER):
        return "postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable" % (user, password, self.port, database)

    def connect(self, user=USER, password=PASSWORD, dbname=USER, autocommit=True, **more):
        """A psycopg connection without named statements; closed with the pooler."""
        client = psycopg.connect(host=more.pop("host", "127.0.0.1"), port=self.port, user=user, password=password,
                                 dbname=dbname, autocommit=autocommit, connect_timeout=20,
                                 prepare_threshold=more.pop("prepare_threshold", None), **more)
        self.clients.append(client)
        return client

    def wire(self, user=USER, password=PASSWORD, database=USER, parameters=None, **more):
        """A bare connection, logged in; closed with the pooler."""
        client = self.socket(**more)
        client.login(user, password, database, parameters)
        return client

    def socket(self, timeout=20, **more):
        """A bare connection without a login; closed with the pooler."""
        client = Wire(self.address, timeout * (3 if SLOW else 1), **more)
        self.clients.append(client)
        return client

    def environment(self, user=USER, password=PASSWORD, database=USER):
        """For libpq programs."""
        return {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": user, "PGPASSWORD": password,
                "PGDATABASE": database, "PGSSLMODE": "disable", "PGCONNECT_TIMEOUT": "30"}
