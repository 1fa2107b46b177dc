"""What every integration test starts from: one PostgreSQL for the run, an eye on its pg_stat_activity, poolers.

PGSLUICE_BIN: the program under test. PGSLUICE_SLOW=1: a sanitizer build, more time for everything. PGSLUICE_LONG=1:
longer runs. By ctest one file at a time; by hand:
    PGSLUICE_BIN=build/release/pgsluice /usr/bin/python3 -m pytest tests/integration
"""
import os
import socket
import sys
import threading
import time

import psycopg
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
from conservation import Conservation  # noqa: E402
from pg import Postgres  # noqa: E402
from pooler import PASSWORD, USER, Pooler, wait_until  # noqa: E402
from wire import SSL_REQUEST, cancel_request  # noqa: E402

HBA = [
    "host md5db      all 127.0.0.1/32 md5",
    "host passworddb all 127.0.0.1/32 password",
    "host trustdb    all 127.0.0.1/32 trust",
    "host all        all 127.0.0.1/32 scram-sha-256",
    "host replication all 127.0.0.1/32 scram-sha-256",
]


@pytest.fixture(scope="session")
def pg():
    """Users app (strongpassword), bob (bobpassword), md5user (md5password, stored as md5), repl (replpassword; may
    replicate); databases app, other, logged (every statement in the log), and those of HBA."""
    with Postgres({"listen_addresses": "127.0.0.1,127.0.0.2,127.0.0.3", "max_connections": 250,
                   "log_line_prefix": "%m [%p] %d ", "wal_level": "logical"}, HBA) as server:
        server.create_user(USER, PASSWORD)
        server.create_user("bob", "bobpassword")
        server.create_user("repl", "replpassword", "replication")
        server.sql("set password_encryption = 'md5'; create role md5user login password 'md5password'")
        for name in ("app", "other", "logged", "md5db", "passworddb", "trustdb"):
            server.create_database(name, owner=USER)
        server.sql("alter database logged set log_statement = 'all'")
        yield server


class Activity:
    """pg_stat_activity by a connection of its own, past the pooler; made again after a restart of the server."""

    def __init__(self, pg):
        self.pg, self.connection, self.lock = pg, None, threading.Lock()

    def rows(self, sql):
        with self.lock:
            for last in (False, True):
                try:
                    if self.connection is None:
                        self.connection = psycopg.connect(host=self.pg.socket_directory, port=self.pg.port,
                                                          user="postgres", dbname="postgres", autocommit=True)
                    return self.connection.execute(sql).fetchall()
                except psycopg.OperationalError:
                    self.connection = None
                    if last:
                        raise

    def backends(self, where="true"):
        """Server processes that are not ours: [(pid, user, database, state, query)]."""
        return self.rows("select pid, usename, datname, state, query from pg_stat_activity where backend_type = "
                         "'client backend' and usename <> 'postgres' and (%s) order by backend_start" % where)

    def count(self, where="true"):
        return len(self.backends(where))

    def kill(self, where="true"):
        """Ends the backends by pg_terminate_backend; returns when they are gone."""
        pids = [row[0] for row in self.backends(where)]
        for pid in pids:
            self.rows("select pg_terminate_backend(%d, 5000)" % pid)
        return pids

    def wait_count(self, count, where="true", seconds=5):
        wait_until(lambda: self.count(where) == count, seconds, "%d servers, not %s" % (count, self.backends(where)))


class Sampler:
    """Counts servers 50 times a second while it is entered; `most` is the maximum seen."""

    def __init__(self, activity, where="true"):
        self.activity, self.where = activity, where
        self.most, self.samples = 0, 0
        self.failure = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self._stop.wait(0.02):
                self.most = max(self.most, self.activity.count(self.where))
                self.samples += 1
        except Exception as failure:  # told by __exit__
            self.failure = failure

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        if self.failure:
            raise self.failure


@pytest.fixture(scope="session")
def _activity(pg):
    return Activity(pg)


@pytest.fixture
def activity(_activity):
    """Starts with no servers left over from the test before."""
    wait_until(lambda: _activity.count() == 0, 10, "a PostgreSQL without clients")
    return _activity


_books = []


@pytest.fixture(scope="session")
def _conservation(pg, _activity):
    _books.append(Conservation(_activity, pg))
    return _books[-1]


def pytest_terminal_summary(terminalreporter):
    for book in _books:
        terminalreporter.write_line(book.summary())


@pytest.fixture
def end_poolers(_conservation):
    """end_poolers(list): what each shows is held against what the system shows, and it ends as it should; every failure is
    told, after the last."""
    def end(poolers):
        failures = []
        for pooler in poolers:
            for step in (lambda: _conservation.check(pooler), pooler.close):  # noqa: B023
                try:
                    step()
                except AssertionError as failure:
                    failures.append(str(failure))
        assert not failures, "\n".join(failures)
    return end


@pytest.fixture
def make_pooler(pg, activity, end_poolers):
    """make_pooler(settings, databases=..., users=..., auth=...): a running Pooler in front of pg, checked at the end.

    Databases may be written as {"name": "options"}; host and port are put before. Without any: app and other."""
    poolers = []

    def make(settings=None, databases=None, start=True, **more):
        place = "host=127.0.0.1 port=%d " % pg.port
        databases = {"app": "", "other": ""} if databases is None else databases
        databases = {name: options if "host=" in options else place + options for name, options in databases.items()}
        auth = more.pop("auth", {USER: PASSWORD, "bob": "bobpassword", "md5user": "md5password",
                                 "repl": "replpassword"})
        pooler = Pooler(databases, settings, auth=auth, **more)
        poolers.append(pooler)
        return pooler.start() if start else pooler

    yield make
    end_poolers(poolers[::-1])


class Listener:
    """A server that is none: notes when connections come and how long they stay. behave(connection) may answer. It has no
    TLS, and says so first, and closes a CancelRequest as PostgreSQL does, unless behave does that too (sees_tls) or
    notes them in its `cancels`."""

    def __init__(self, behave=lambda connection: None, sees_tls=False):
        self.sees_tls = sees_tls
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.behave, self.came, self.stayed = behave, [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.came.append(time.monotonic())
            threading.Thread(target=self._serve, args=(connection, self.came[-1]), daemon=True).start()

    def _serve(self, connection, came):
        with connection:
            try:
                first = b"" if self.sees_tls else connection.recv(8, socket.MSG_PEEK)
                if first == SSL_REQUEST:
                    connection.recv(8)
                    connection.sendall(b"N")
                if first == cancel_request(0, b"\0" * 4)[:8] and not hasattr(self.behave, "cancels"):
                    return
                self.behave(connection)
                while connection.recv(1000):
                    pass
            except OSError:
                pass
        self.stayed.append(time.monotonic() - came)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def listen():
    made = []

    def make(*arguments):
        made.append(Listener(*arguments))
        return made[-1]
    yield make
    for listener in made:
        listener.close()


@pytest.fixture(scope="session", autouse=True)
def _fast_switching():
    # Threads of the tests must not wait for one another when they measure time.
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    yield
    sys.setswitchinterval(before)
