"""What the programs of bench/ share: pgsluice and PgBouncer with the settings they have in common, as a user that is not root; their
CPU and memory; the programs of bench/clients, load, nothing and floor; the words about the machine. Imported by its folder.
Whoever imports it ends by SIGTERM as by an interrupt, so that what it has started is taken down."""
import base64
import contextlib
import glob
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import pg as support  # noqa: E402
from certificates import Certificates  # noqa: E402

USER, PASSWORD, DATABASE = "bench", "bench-password", "bench"
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def on(cores):
    """What Popen's preexec_fn is to be, for a process of its own that keeps to these cores; None: to no cores."""
    return cores and (lambda: os.sched_setaffinity(0, cores))


class Measured:
    """A process whose CPU and memory are looked at."""

    process = None

    def cpu_ns(self):
        """User and system, all threads that there are."""
        total = 0
        for path in glob.glob("/proc/%d/task/*/schedstat" % self.process.pid):
            with open(path) as file:
                total += int(file.read().split()[0])
        return total

    def memory_bytes(self):
        """Its own pages that are in memory now."""
        with open("/proc/%d/smaps_rollup" % self.process.pid) as file:
            return sum(int(kib) << 10 for kib in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", file.read(), re.M))

    def stop(self, seconds=2):
        """At once: PgBouncer by SIGTERM, for before 1.23 it does not handle SIGQUIT, which a script in the background has ignored."""
        at_once = signal.SIGTERM if (self.version or "").startswith("PgBouncer") else signal.SIGQUIT
        support.stop_process(self.process, at_once, seconds)


class Pooler(Measured):
    """pgsluice or PgBouncer with the settings they share, as a user that is not root. users: auth_file's; settings: on
    top of the shared ones; own: of pgsluice alone; any_database: every name is a database of its own; under: a command
    that runs it; patience: seconds until its port must answer."""

    def __init__(self, name, binary, server, directory, settings, own=None, users=None, any_database=False,
                 cores=None, under=(), patience=10):
        self.port = support.free_port()
        self.version = version(binary)
        base = os.path.join(directory, name.replace(" ", "-"))
        os.mkdir(base)
        copy, ini, auth_file, self.log = (os.path.join(base, file) for file in ("program", "pooler.ini", "userlist.txt", "log"))
        shutil.copy(binary, copy)  # the tree it was built in may not be readable for that user
        with open(auth_file, "w") as file:
            file.writelines('"%s" "%s"\n' % row for row in (users or {USER: PASSWORD}).items())
        with open(ini, "w") as file:
            file.write("[databases]\n%s = host=127.0.0.1 port=%d%s\n[pgbouncer]\n" % (
                "*" if any_database else DATABASE, server.port, "" if any_database else " dbname=" + DATABASE))
            shared = {"listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "pool_mode": "transaction",
                      "auth_type": "scram-sha-256", "auth_file": auth_file, "max_client_conn": 5000,
                      "log_connections": 0, "log_disconnections": 0, **settings}
            if self.version.startswith("pgsluice"):
                shared.update(own or {})
            file.writelines("%s = %s\n" % item for item in shared.items())
        support.give_away(base, copy, ini, auth_file)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(support.unprivileged() + [*under, copy, ini], cwd="/", stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True, preexec_fn=on(cores))
        give_up = time.monotonic() + patience
        try:
            while not answers(self.port):
                if self.process.poll() is not None or time.monotonic() > give_up:
                    with open(self.log, errors="replace") as log:
                        sys.exit("%s did not start:\n%s" % (name, log.read()))
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise

    def can(self, mode):
        return can(self.version, mode)


def can(of, mode):
    """Whether the pooler of this version does it. Named prepared statements in transaction mode: PgBouncer since 1.21."""
    pgbouncer = re.match(r"PgBouncer (\d+)\.(\d+)", of)
    return mode not in ("prepared", "pipeline") or not pgbouncer or (int(pgbouncer[1]), int(pgbouncer[2])) >= (1, 21)


class Tool(Measured):
    """bench_nothing or bench_floor; it says when it is ready."""

    version = None

    def __init__(self, name, *arguments, cores=None):
        self.port = support.free_port()
        self.process = subprocess.Popen([tool(name), "--port", str(self.port), *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=on(cores))
        try:
            if self.process.stdout.readline().strip() != "ready":
                sys.exit("bench_%s did not start" % name)
        except BaseException:
            self.stop()
            raise

    def descriptors(self):
        """How many it has open: they grow and shrink with its connections."""
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def stop(self):
        support.stop_process(self.process)
        self.process.stdout.close()


def nothing(pair=None, lie=0, cores=None):
    """A PostgreSQL that does nothing, at once; pair: its certificate and key."""
    return Tool("nothing", *(["--certificate", pair.cert, "--key", pair.key] if pair else []), "--lie", lie, cores=cores)


def floor(server, pool, cores=None):
    return Tool("floor", "--server-port", server.port, "--pool", pool, "--user", USER, "--database", DATABASE, cores=cores)


class Load:
    """bench_load, logged in and waiting for orders."""

    def __init__(self, port, scenario, clients, *arguments, size=100, tls=False, cores=None):
        command = [tool("load"), "--port", port, "--user", USER, "--password", PASSWORD, "--database", DATABASE, "--scenario",
                   scenario, "--clients", clients, "--size", size, *arguments, *(["--tls"] if tls else [])]
        self.process = subprocess.Popen([str(it) for it in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=on(cores))

    def ready(self):
        if self.process.stdout.readline().strip() != "ready":
            self.stop()
            sys.exit("the load did not get in")
        return self

    def order(self, *words):
        """run SECONDS | open SECONDS RATE | each N | report: what bench_load says of it."""
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            if status != 1:
                sys.exit("the load has ended with status %d" % status)
            raise WrongAnswer("the load has said what")
        return json.loads(line)

    def stop(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        support.stop_process(self.process)
        self.process.stdout.close()


class WrongAnswer(SystemExit):
    """What was received was not what had been asked for. Ends the bench with these words unless it is caught."""


class Clients:
    """A program of bench/clients under way; kind: --storm, --ask or --hold and what belongs to it; rank: of it on the
    CPU, a command that goes before it."""

    def __init__(self, port, clients, kind, seconds=1, tls=False, user=USER, password=PASSWORD, rank=(), cores=None):
        command = list(rank) + [
                   tool("clients"), "--port", str(port), "--user", user, "--password", password,
                   "--database", DATABASE, "--clients", str(clients), "--seconds", str(seconds), *kind]
        self.process = subprocess.Popen(command + (["--tls"] if tls else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=on(cores))

    def ready(self):
        """Waits until all have logged in (--ask, --hold)."""
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            self.stop()
            sys.exit("the clients did not get in")
        return self

    def result(self):
        """Waits for the end: count, in_time, failures, p50_us, p99_us, max_us, said: of the last failure."""
        self.process.stdin.close()
        lines = self.process.stdout.read().split("\n")
        if self.process.wait() != 0:
            raise WrongAnswer("the clients have said what")
        return json.loads(lines[-2])

    def stop(self):
        support.stop_process(self.process)


def tool(name):
    """The path of bench_<name>; PGSLUICE_BENCH_TOOLS: another folder of them."""
    return os.path.join(os.environ.get("PGSLUICE_BENCH_TOOLS", os.path.join(ROOT, "build", "release", "bench")), "bench_" + name)


def built(*targets):
    """The path of pgsluice, after these targets were built; PGSLUICE_BIN: that one, and nothing is built."""
    subprocess.run([os.path.join(ROOT, "scripts", "install-deps"), "--run", "--bench"], check=True)
    if "PGSLUICE_BIN" in os.environ:
        return os.environ["PGSLUICE_BIN"]
    subprocess.run([os.path.join(ROOT, "scripts", "build"), "release", "--target", *targets], check=True, stdout=sys.stderr)
    return os.path.join(ROOT, "build", "release", "pgsluice")


def own_certificate(kind):
    """One that signed itself, for both legs; .directory is to be removed."""
    made = Certificates()
    return made, made.make("bench", None, kind=kind)


def verifier():
    """The stored form of PASSWORD, as PostgreSQL makes it. Source: RFC 5803; PostgreSQL manual, pg_authid."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, 4096)
    client_key, server_key = (hmac.digest(salted, what, "sha256") for what in (b"Client Key", b"Server Key"))
    text = [base64.b64encode(it).decode() for it in (salt, hashlib.sha256(client_key).digest(), server_key)]
    return "SCRAM-SHA-256$4096:%s$%s:%s" % tuple(text)


def version(binary):
    """What it says of itself, without the PgBouncer it takes after; with the commit where it was built in this tree."""
    said = first_line([binary, "-V"]).split(" (")[0]
    if not os.path.realpath(binary).startswith(os.path.realpath(ROOT) + os.sep):
        return said
    commit, changes = (subprocess.run(["git", "-C", ROOT, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                       .stdout.strip() for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain")))
    return "%s, commit %s%s" % (said, commit, "+changes" if changes else "") if commit else said


def first_line(command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[0].strip()


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    return "%s, %d cores, Linux %s" % (model.group(1) if model else os.uname().machine, len(os.sched_getaffinity(0)),
                                       os.uname().release)
