"""A log that takes nothing (a full disk, a pipe that nobody reads, one that nobody has opened) holds up no traffic and no
end; what was lost is counted. Descriptors: raised as far as they may be, and what is said when they will not do."""
import os
import re
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from conservation import Console, rows
from pooler import PASSWORD, SLACK, SLOW, USER, Clock, wait_until
from wire import SSL_REQUEST, Gone, Refused, Wire, message, query, startup

LOST = re.compile(r"WARNING (\d+) log lines were dropped")


def p99(wire, count=300):
    """Of the round trips of a query, in seconds."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        wire.query("select 1")
        took.append(time.monotonic() - began)
    return sorted(took)[int(count * 0.99)]


class Chatter:
    """Connections that come and go, each of which is several lines in the log."""

    def __init__(self, pooler):
        self.pooler, self.count, self.failure = pooler, 0, None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.is_set():
                wire = self.pooler.wire()
                wire.close()
                self.pooler.clients.remove(wire)
                self.count += 1
        except Exception as failure:  # told by __exit__
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        assert self.failure is None, self.failure


def traffic_goes_on(pooler, connects=150):
    """While the log takes nothing: many logins, and queries that take no longer than a log would be waited for."""
    wire = pooler.wire()
    with Chatter(pooler) as chatter:
        worst = p99(wire)
        wait_until(lambda: chatter.count >= connects, 60, "logins")
    assert worst < (0.5 if SLOW else 0.1), worst
    time.sleep(0.3)  # the log waits for a moment
    with Chatter(pooler) as chatter:
        wait_until(lambda: chatter.count >= 50, 60, "logins")


def test_log_on_a_fifo_that_nobody_reads(make_pooler):
    """Opened by somebody who then reads nothing; and read at last."""
    pooler = make_pooler(start=False)
    fifo = os.path.join(pooler.directory, "log.fifo")
    os.mkfifo(fifo)
    os.chmod(fifo, 0o666)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        pooler.settings["logfile"] = fifo
        pooler.arguments = ["-v"]
        pooler.write()
        pooler.start()
        traffic_goes_on(pooler, 400)
        text = b""

        def dropped():
            nonlocal text
            try:
                text += os.read(reader, 1 << 20)
            except BlockingIOError:
                pass
            pooler.wire().close()  # something to say
            return LOST.search(text.decode())
        assert int(wait_until(dropped, 10, "that lines are told to be lost").group(1)) > 10
        assert all(line.startswith("20") for line in text.decode().split("\n")[:-1]), "no line is torn"
    finally:
        os.close(reader)


def test_log_on_a_fifo_that_nobody_has_opened(make_pooler):
    """Neither the start nor a reload waits for a reader; when one comes it gets what is said from then on."""
    pooler = make_pooler(start=False)
    fifo = os.path.join(pooler.directory, "log.fifo")
    os.mkfifo(fifo)
    os.chmod(fifo, 0o666)
    pooler.settings["logfile"] = fifo
    pooler.write()
    pooler.start()
    traffic_goes_on(pooler)
    pooler.hang_up()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        text = b""

        def comes():
            nonlocal text
            pooler.wire().close()
            try:
                text += os.read(reader, 1 << 20)
            except BlockingIOError:
                pass
            return b"login attempt" in text
        wait_until(comes, 10, "lines")
    finally:
        os.close(reader)


def test_standard_error_that_nobody_reads(make_pooler):
    """Its end comes in time too: what is queued is not waited for."""
    pooler = make_pooler(start=False)
    reader, writer = os.pipe()
    quiet = os.path.join(pooler.directory, "log")
    pooler.settings["logfile"] = quiet
    pooler.write()
    spawn = subprocess.Popen

    def with_pipe(*arguments, **more):
        return spawn(*arguments, **{**more, "stderr": writer, "stdout": writer})
    subprocess.Popen = with_pipe
    try:
        pooler.spawn()
    finally:
        subprocess.Popen = spawn
        os.close(writer)
    pooler.stderr = quiet
    wait_until(lambda: os.path.exists(quiet) and "process up" in pooler.log(), 10, "its start")
    traffic_goes_on(pooler, 400)
    clock = Clock()
    pooler.signal(signal.SIGINT)
    assert pooler.exited(20) == 0
    assert clock.seconds() < (20 if SLOW else 3)
    os.close(reader)


def test_a_server_that_does_not_read_costs_no_cpu(make_pooler):
    """Its backend waits for a lock in the middle of a COPY, and the client sends more than all buffers take."""
    pooler = make_pooler()
    with pooler.wire() as holder:
        holder.query("create table held (line text)")
        holder.query("create function wait_for_lock() returns trigger language plpgsql as "
                     "$$ begin perform pg_advisory_xact_lock(4711); return new; end $$")
        holder.query("create trigger waits before insert on held for each row execute function wait_for_lock()")
        holder.query("begin")
        holder.query("select pg_advisory_xact_lock(4711)")
        copies = pooler.wire()
        copies.send(query("copy held from stdin"))
        copies.until("G")
        small = message("d", b"x" * 9000 + b"\n")
        copies.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(20000):
                copies.socket.sendall(small)
                time.sleep(0.001)  # each is a piece of its own
        before = cpu_seconds(pooler)
        time.sleep(1)
        used = cpu_seconds(pooler) - before
        copies.reset()
        holder.query("commit")
        holder.query("drop table held; drop function wait_for_lock")
        assert used < (0.5 if SLOW else 0.1), "%.2f s of CPU in 1 s" % used


def test_log_on_a_full_disk(make_pooler):
    """A tmpfs of 64 KiB; when there is room again lines come again, whole ones."""
    pooler = make_pooler(start=False)
    small = os.path.join(pooler.directory, "small")
    os.mkdir(small)
    as_root = os.geteuid() == 0
    own_user = [] if as_root else ["unshare", "--map-user=%d" % os.geteuid(), "--map-group=%d" % os.getegid()]
    pooler.within = ["unshare", "--mount", *([] if as_root else ["-r"]), "sh", "-c",
                     'mount -t tmpfs -o size=64k,mode=1777 none "$0" && exec "$@"', small, *own_user]
    pooler.settings["logfile"] = os.path.join(small, "log")
    pooler.arguments = ["-v"]
    pooler.write()
    pooler.start()
    inside = "/proc/%d/root%s" % (pooler.process.pid, os.path.join(small, "log"))
    with Chatter(pooler):
        wait_until(lambda: os.path.getsize(inside) >= 60000, 60, "the disk is full")
    traffic_goes_on(pooler)
    with open(inside, "r+") as file:
        file.truncate(0)

    def told():
        pooler.wire().close()
        text = open(inside, errors="replace").read()
        return "login attempt" in text and LOST.search(text) and text
    text = wait_until(told, 10, "lines, and how many were lost")
    assert all(line == "" or line.startswith("20") for line in text.split("\n")), text[:500]


# ---- descriptors ----

def test_descriptors_are_raised(make_pooler):
    """From the soft limit to the hard one; the line in the log is PgBouncer's."""
    pooler = make_pooler({"max_client_conn": 300}, start=False)
    pooler.within = ["prlimit", "--nofile=256:4000"]
    pooler.start()
    said = re.search(r"LOG kernel file descriptor limit: (\d+) \(hard: (\d+)\); max_client_conn: 300, max expected fd use: (\d+)",
                     pooler.log())
    assert said and said.group(1) == said.group(2) == "4000" and 1300 < int(said.group(3)) < 4000, pooler.log()
    with open("/proc/%d/limits" % pooler.process.pid) as file:
        assert re.search(r"Max open files\s+4000\s+4000", file.read())
    assert "may be open" not in pooler.log()


def test_too_few_descriptors_are_warned_of(make_pooler):
    """At the start, and when a reload asks for more."""
    pooler = make_pooler({"max_client_conn": 100, "max_unauthenticated_conn": 100}, start=False)
    pooler.limit_files = 800
    pooler.start()
    assert "may be open" not in pooler.log()
    pooler.settings["max_client_conn"] = 5000
    pooler.reload()
    pooler.wait_log(r"WARNING only 800 files may be open, and \d+ would be .*LimitNOFILE")


def cpu_seconds(pooler):
    with open("/proc/%d/stat" % pooler.process.pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_out_of_descriptors(make_pooler):
    """40 clients too many wait in line: next to no CPU, a line a second in the log, an admin gets in over the Unix socket, and
    when descriptors are free the next one is in within 0.1 s."""
    pooler = make_pooler({"max_client_conn": 1000, "tcp_defer_accept": 0, "admin_users": USER}, start=False)
    pooler.limit_files = 64
    pooler.start()
    working = pooler.wire()
    working.query("select 1")
    crowd = [Wire(pooler.address) for _ in range(100)]
    pooler.wait_log("accept on .* failed: Too many open files")
    before, lines = cpu_seconds(pooler), pooler.log().count("Too many open files")
    time.sleep(3)
    used, told = cpu_seconds(pooler) - before, pooler.log().count("Too many open files") - lines
    assert working.value("select 2") == "2"
    assert used < 0.06 or SLOW, "%.2f s of CPU in 3 s" % used
    assert 1 <= told <= 4, told
    admin = psycopg.connect(host=pooler.directory, port=pooler.port, user=USER, password=PASSWORD, dbname="pgbouncer",
                            autocommit=True, connect_timeout=10)
    assert admin.execute("SHOW VERSION").fetchone()
    admin.close()
    waits = crowd[-1]
    waits.send(startup({"user": USER, "database": USER}))
    with pytest.raises(OSError):
        waits.socket.settimeout(0.2)
        waits.fill()
    for one in crowd[:60]:
        one.socket.close()
    clock = Clock()
    waits.socket.settimeout(10)
    waits.fill()
    assert clock.seconds() < 0.1 + SLACK, "accepting and answering took %.3f s" % clock.seconds()
    for one in crowd[60:]:
        one.socket.close()
    assert pooler.wire().value("select 3") == "3"


def test_out_of_descriptors_for_a_server(make_pooler, pg):
    """It is not the server that is down: who needs one waits and is told why, the log says it once a second, and when a
    descriptor is free it goes on, by address and by name, without server_login_retry."""
    pooler = make_pooler({"max_client_conn": 1000, "tcp_defer_accept": 0, "server_login_retry": 30, "dns_nxdomain_ttl": 30},
                         databases={"app": "", "other": "host=localhost port=%d" % pg.port}, start=False)
    pooler.limit_files = 64
    pooler.start()
    clients = [pooler.wire(), pooler.wire(database="other")]
    admin = Console(pooler.process.pid)
    admin.tables()
    pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
    wait_until(lambda: admin.tables()["SERVERS"] == [], 5, "no servers")
    crowd = [Wire(pooler.address) for _ in range(100)]
    pooler.wait_log("accept on .* failed: Too many open files")
    for client in clients:
        client.send(query("select 7"))

    def waits():
        return sorted((row["database"], row["limit"], row["reason"]) for row in rows(admin.wire.query("SHOW WHY")))
    reason = "no connection to a server can be opened: no socket: Too many open files"
    wait_until(lambda: waits() == [(name, "open files", reason) for name in ("app", "other")], 5, "the reason")
    before, lines = cpu_seconds(pooler), pooler.log().count("cannot open a connection to ")
    time.sleep(2)
    used, told = cpu_seconds(pooler) - before, pooler.log().count("cannot open a connection to ") - lines
    assert used < 0.08 or SLOW, "%.2f s of CPU in 2 s" % used
    assert 1 <= told <= 3, told
    for one in crowd:
        one.socket.close()
    clock = Clock()
    for client in clients:
        assert client.ready().rows == [["7"]]
    assert clock.seconds() < 0.5 + SLACK, "%.3f s" % clock.seconds()
    assert "server login failed" not in pooler.log() and "DNS lookup of" not in pooler.log(), pooler.log()[-3000:]
    admin.leave()


def test_out_of_descriptors_at_a_login(make_pooler):
    """The pool has had no server yet: client_login_timeout says why."""
    pooler = make_pooler({"max_client_conn": 1000, "tcp_defer_accept": 0, "client_login_timeout": "700ms"}, start=False)
    pooler.limit_files = 64
    pooler.start()
    late = pooler.socket()
    late.send(SSL_REQUEST)
    assert late.byte() == b"N"
    crowd = [Wire(pooler.address) for _ in range(100)]
    pooler.wait_log("accept on .* failed: Too many open files")
    with pytest.raises(Refused) as no:
        late.login(USER, PASSWORD, "app")
    assert no.value.text == "client_login_timeout (server down)"
    assert "client_login_timeout: no connection to a server can be opened: no socket: Too many open files" in no.value.detail
    for one in crowd:
        one.socket.close()


# ---- leaving a port to another process ----

def test_rolling_restarts(make_pooler):
    """Connections all the while, each of which asks a query: what was in the queue of the old process is taken in first."""
    rounds = int(os.environ.get("PGSLUICE_LONG", "0")) and 200 or 6
    settings = {"so_reuseport": 1, "tcp_defer_accept": 0}
    now = make_pooler(settings)
    port, counts, stop = now.port, {"good": 0, "refused": 0, "reset": 0}, threading.Event()

    def connects():
        while not stop.is_set():
            try:
                with Wire(("127.0.0.1", port)) as wire:
                    wire.login(USER, PASSWORD, USER)
                    wire.query("select 1")
                counts["good"] += 1
            except Refused:
                counts["refused"] += 1
            except (Gone, OSError):
                counts["reset"] += 1
    threads = [threading.Thread(target=connects) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(rounds):
            fresh = make_pooler({**settings, "listen_port": port}, start=False)
            fresh.port, fresh.address = port, ("127.0.0.1", port)
            fresh.spawn()
            fresh.wait_log("process up", 10)
            now.signal(signal.SIGTERM)
            assert now.exited(20) == 0
            now = fresh
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print("%d rolling restarts: %s" % (rounds, counts))
    assert counts["refused"] == 0 and counts["good"] > 10 * rounds, counts
    assert counts["reset"] <= rounds, counts
