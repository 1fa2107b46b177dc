"""A throw-away PostgreSQL for tests and the bench: its own temporary directory, port and socket, ended by its pid.

Not for real data (fsync is off). PostgreSQL refuses to run as root, so root runs it as the system user `postgres`.
Import it by path:  sys.path.insert(0, ".../tests/support"); from pg import Postgres

    with Postgres({"max_connections": 300}) as pg:
        pg.create_user("app", "secret")
        pg.create_database("app", owner="app")
        print(pg.sql("select 1"))              # as superuser, over the Unix socket
        pg.url("app", "secret", "app")         # over TCP, with SCRAM
"""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse


def unprivileged():
    """What to put before a command that must not run as root. setpriv execs, so the pid is the command's own."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]


def temporary_directory(prefix="pgsluice-"):
    """A new private directory that belongs to the user unprivileged() runs as. The caller removes it."""
    path = tempfile.mkdtemp(prefix=prefix)
    give_away(path)
    return path


def give_away(*paths):
    """Makes files belong to the user unprivileged() runs as."""
    if os.geteuid() == 0:
        for path in paths:
            shutil.chown(path, "postgres", "postgres")


def free_port():
    """A TCP port of 127.0.0.1 that nobody listens on, never the same twice. Below the range the kernel takes for outgoing
    connections, so that none of those has it by the time it is bound; and of a block of ports that is this process's, so
    that no test that runs beside it has."""
    with _one_at_a_time:
        for port in _ports:
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    pass
    raise RuntimeError("no free port")


def _ports_of_this_process():
    """Block after block; the name of an abstract socket is held until the process ends, however it does (unix(7))."""
    width = 200
    for first in range(20000, 32000, width):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind("\0pgsluice-tests-%d" % first)
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        yield from range(first, first + width)


_claims, _one_at_a_time = [], threading.Lock()
_ports = _ports_of_this_process()


def bin_directory():
    """The newest PostgreSQL of this machine; PG_BINDIR chooses another."""
    if "PG_BINDIR" in os.environ:
        return os.environ["PG_BINDIR"]
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if not found:
        raise RuntimeError("no PostgreSQL in /usr/lib/postgresql: run scripts/install-deps")
    return os.path.dirname(max(found, key=lambda path: int(re.search(r"/(\d+)/", path).group(1))))


def stop_process(process, sig=signal.SIGTERM, seconds=10):
    """Ends a child by its pid: asks, waits, then insists."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


class Postgres:
    """One server; listens on 127.0.0.1:port (SCRAM) and in socket_directory (trust; the directory is private)."""

    def __init__(self, conf=None, hba=None, port=None, primary=None):
        """conf: settings on top of the ones below. hba: lines of pg_hba.conf that replace those for TCP. primary: a
        running Postgres of which this one becomes a hot standby; its wal_level must be replica."""
        self.bin = bin_directory()
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.process = None
        self.directory = temporary_directory("pgsluice-pg-")
        self.data = os.path.join(self.directory, "data")
        self.socket_directory = self.directory
        self.log = os.path.join(self.directory, "log")
        try:
            self._initdb(conf or {}, hba, primary)
        except BaseException:
            self.remove()
            raise

    def _initdb(self, conf, hba, primary):
        if primary is None:
            self._run([os.path.join(self.bin, "initdb"), "--no-sync", "--username=postgres", "--encoding=UTF8",
                       "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256", "--pgdata=" + self.data])
        else:
            self._run([os.path.join(self.bin, "pg_basebackup"), "--no-sync", "--checkpoint=fast", "--username=postgres",
                       "--host=" + primary.socket_directory, "--port=%d" % primary.port, "--pgdata=" + self.data,
                       "--write-recovery-conf"])
        settings = {
            "listen_addresses": self.host, "port": self.port, "unix_socket_directories": self.socket_directory,
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB",
            "max_connections": 100, "autovacuum": "off", "max_wal_size": "4GB", "logging_collector": "off", **conf}
        with open(os.path.join(self.data, "postgresql.conf"), "a") as file:
            for key, value in settings.items():
                file.write("%s = '%s'\n" % (key, str(value).replace("'", "''")))
        if hba is not None:
            with open(os.path.join(self.data, "pg_hba.conf"), "w") as file:
                file.write("local all all trust\n" + "".join(line + "\n" for line in hba))

    @staticmethod
    def _run(command):
        done = subprocess.run(unprivileged() + command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError("%s failed:\n%s" % (command[0], done.stdout))

    def start(self):
        """Returns when connections are accepted."""
        with open(self.log, "ab") as log:
            # A session of its own, so that Ctrl-C in a terminal reaches the caller only, and the caller decides.
            self.process = subprocess.Popen(unprivileged() + [os.path.join(self.bin, "postgres"), "-D", self.data],
                                            cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        give_up = time.monotonic() + 60
        while True:
            if self.process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError("PostgreSQL did not start:\n" + self.log_text())
            if subprocess.run([os.path.join(self.bin, "pg_isready"), "-q", "-h", self.socket_directory,
                               "-p", str(self.port)]).returncode == 0:
                return self
            time.sleep(0.05)

    def stop(self, mode="fast"):
        """mode: smart (waits for clients), fast or immediate. The data stays; start() goes on with it."""
        if self.process is not None:
            sig = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
            try:
                stop_process(self.process, sig, 30)
            finally:
                self.process = None

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def remove(self):
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_):
        self.remove()

    def log_text(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def psql(self, sql, database="postgres", user="postgres", check=True):
        """Runs SQL by psql over the Unix socket; returns the CompletedProcess (text; rows without header, '|')."""
        done = subprocess.run(
            [os.path.join(self.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.socket_directory,
             "-p", str(self.port), "-U", user, "-d", database], input=sql, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        if check and done.returncode != 0:
            raise RuntimeError("psql: " + done.stderr)
        return done

    def sql(self, sql, database="postgres", user="postgres"):
        """What psql prints for the statements, without the last newline."""
        return self.psql(sql, database, user).stdout.rstrip("\n")

    def create_user(self, name, password=None, options=""):
        secret = "" if password is None else " password '%s'" % password.replace("'", "''")
        self.sql('create role "%s" login%s %s' % (name.replace('"', '""'), secret, options))

    def create_database(self, name, owner="postgres"):
        self.sql('create database "%s" owner "%s"' % (name.replace('"', '""'), owner.replace('"', '""')))

    def verifier(self, user):
        """The stored form of a password, SCRAM-SHA-256$..., as an auth_file may hold it."""
        return self.sql("select rolpassword from pg_authid where rolname = '%s'" % user.replace("'", "''"))

    def url(self, user, password, database, host=None, port=None):
        quote = lambda text: urllib.parse.quote(text, safe="")  # noqa: E731
        return "postgres://%s:%s@%s:%d/%s" % (quote(user), quote(password), host or self.host, port or self.port,
                                              quote(database))
