"""What an operator does: reloads and what they tell, SUSPEND, connections that have to go, pools that come to an end, and
systemd. Settings are changed by file, by SET and with units."""
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from pg import give_away, unprivileged
from pooler import PASSWORD, USER, Clock, program, wait_until
from test_console import console, error, is_answered, one, show, tag
from test_tls import certificates  # noqa: F401  a fixture
from wire import Gone, Refused, message, query

ADMIN = {"admin_users": USER}
PID = "select pg_backend_pid()"


def notices(reply):
    return [it["M"] for it in reply.notices]


# ---- reload ----

def test_reload_tells_what_has_changed(make_pooler):
    """Settings, options of entries and secrets; to RELOAD and to the log; no secret among it."""
    pooler = make_pooler(ADMIN, users={"bob": "pool_size=3"})
    wire = console(pooler)
    assert notices(wire.query("RELOAD")) == [], "nothing has"
    pooler.settings.update(default_pool_size=7, query_timeout="2min", listen_backlog=99)
    pooler.databases["other"] += " pool_mode=session password=s3cret"
    pooler.databases["third"] = pooler.databases["app"]
    pooler.users["bob"] = "pool_size=4 query_timeout=10s"
    pooler.auth["new"] = "secret"
    pooler.write()
    reply = wire.query("RELOAD")
    assert reply.tags == ["RELOAD"]
    told = notices(reply)
    assert told == ["listen_backlog was changed in the file; it takes effect at the next start",
                    "changed: default_pool_size = 7 (was 5)", "changed: query_timeout = 120 (was 0)",
                    "changed: database other: password, pool_mode = session (was none)", "added: database third",
                    "changed: user bob: pool_size = 4 (was 3), query_timeout = 10 (was none)",
                    "changed: users of auth_file: 1 added, 0 removed, 0 with another secret"]
    for line in told:
        pooler.wait_log(re.escape(line))
    assert "s3cret" not in pooler.log()


def test_reload_recycles_only_what_has_changed(make_pooler, activity):
    """20 reloads in which everything but a connection's place changes: the same backends, no client notices."""
    pooler = make_pooler(ADMIN)
    clients = [pooler.wire(database=name) for name in ("app", "other")]
    pids = [wire.value(PID) for wire in clients]
    for i in range(20):
        pooler.settings.update(default_pool_size=5 + i % 2, server_lifetime="%dmin" % (60 + i), query_timeout=100 + i)
        pooler.databases["third%d" % i] = pooler.databases["app"]
        pooler.databases["other"] = re.sub(r" pool_size=\d+", "", pooler.databases["other"]) + " pool_size=%d" % (5 + i)
        if i % 3 == 2:
            pooler.write_ini(open(pooler.ini).read() + "nonsense\n")
            assert "reload failed" in pooler.hang_up()
        pooler.reload()
        assert [wire.value(PID) for wire in clients] == pids
    pooler.databases["other"] += " application_name=elsewhere"
    pooler.reload()
    assert clients[0].value(PID) == pids[0]
    assert clients[1].value(PID) != pids[1]


def test_reloads_with_a_line_corrupted_in_turn(make_pooler, activity):
    """Each line of a good file in turn, beside traffic: nothing changes, no client notices, the backends stay. With
    PGSLUICE_LONG=1 20 000 times."""
    count = 20000 if int(os.environ.get("PGSLUICE_LONG", "0")) else 150
    pooler = make_pooler(ADMIN, users={"bob": "pool_size=3 query_timeout=100"})
    admin, stop, failures = console(pooler), threading.Event(), []
    clients = [pooler.wire() for _ in range(3)]
    for wire in clients:
        wire.query("begin")
    pids = [wire.value(PID) for wire in clients]

    def work(wire, pid):
        try:
            while not stop.is_set():
                assert wire.value(PID) == pid
        except Exception as failure:  # told below
            failures.append(failure)
    threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, pids)]
    good = open(pooler.ini).read().split("\n")
    corruptible = [i for i, line in enumerate(good) if line.strip()]
    ways = (lambda line: "!" + line, lambda line: line.split("=")[0].rstrip("]"), lambda line: line + "\0",
            lambda line: line.replace("=", " ? ").replace("[", "(["))
    picture = lambda: (show(admin, "CONFIG"), [{**row, "current_connections": 0} for row in show(admin, "DATABASES")],  # noqa: E731
                       show(admin, "USERS"))
    before, began = picture(), time.monotonic()
    for thread in threads:
        thread.start()
    try:
        for i in range(count):
            at, way = corruptible[i % len(corruptible)], ways[i // len(corruptible) % len(ways)]
            with open(pooler.ini, "w") as file:
                file.write("\n".join(way(line) if n == at else line for n, line in enumerate(good)))
            no = error(admin, "RELOAD")
            assert (no.sqlstate, no.text) == ("F0000", "RELOAD failed, see logs for additional details")
            assert no.detail.startswith("%s:%d: " % (pooler.ini, at + 1)), (no.detail, at + 1)
            if i % 25 == 0:
                assert picture() == before
        assert picture() == before and not failures, failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print("%d reloads, %.0f a second" % (count, count / (time.monotonic() - began)))
    assert not failures
    assert [wire.query("commit").status for wire in clients] == ["I"] * 3


def test_conffile(make_pooler):
    pooler = make_pooler(ADMIN)
    wire = console(pooler)
    row = one(show(wire, "CONFIG"), key="conffile")
    assert (row["value"], row["default"], row["changeable"]) == (pooler.ini, None, "yes")
    other = os.path.join(pooler.directory, "other.ini")
    with open(other, "w") as file:
        file.write(open(pooler.ini).read().replace("default_pool_size = 5", "default_pool_size = 9"))
    give_away(other)
    assert tag(wire, "SET conffile = '%s'" % other) == "SET conffile=" + other
    assert one(show(wire, "CONFIG"), key="default_pool_size")["value"] == "5", "not before a reload"
    assert "changed: default_pool_size = 9 (was 5)" in notices(wire.query("RELOAD"))
    row = one(show(wire, "CONFIG"), key="default_pool_size")
    assert (row["value"], row["file"]) == ("9", other) and int(row["line"]) > 0
    assert tag(wire, "SET conffile = '/nonexistent/ini'") == "SET conffile=/nonexistent/ini"
    assert "/nonexistent/ini: No such file" in error(wire, "RELOAD").detail


def test_units(make_pooler):
    """In the file, in entries and in SET."""
    pooler = make_pooler({**ADMIN, "query_wait_timeout": "500ms", "server_idle_timeout": "1h", "max_packet_size": "64kB",
                          "tcp_user_timeout": "30s", "default_pool_size": 1},
                         users={"bob": "client_idle_timeout=700ms"})
    wire = console(pooler)
    value = lambda name: one(show(wire, "CONFIG"), key=name)["value"]  # noqa: E731
    assert [value(it) for it in ("query_wait_timeout", "server_idle_timeout", "max_packet_size", "tcp_user_timeout")] == \
        ["0.5", "3600", "65536", "30000"]
    bob = pooler.wire("bob", "bobpassword", "app")
    clock = Clock()
    assert bob.refusal().text == "client_idle_timeout"
    clock.assert_at(0.7)
    assert tag(wire, "SET query_timeout = '2min'") == "SET query_timeout=2min"
    assert value("query_timeout") == "120"
    assert "behind it" in error(wire, "SET query_timeout = '2 minutes'").detail
    with pytest.raises((Refused, Gone)):
        pooler.wire().query("select '%s'" % ("x" * 70000))


# ---- why a client waits, in its refusal ----

def test_query_wait_timeout_says_who_holds_the_servers(make_pooler):
    pooler = make_pooler({**ADMIN, "default_pool_size": 1, "query_wait_timeout": 0.5})
    holder, waiter = pooler.wire(), pooler.wire()
    holder.query("begin")
    own = [row for row in show(console(pooler), "CLIENTS") if row["state"] == "active" and row["database"] == "app"]
    waiter.send(query("select 1"))
    no = waiter.refusal()
    assert no.text == "query_wait_timeout"
    said = re.fullmatch(r"No server of the pool became free within query_wait_timeout: all 1 servers of the pool are in "
                        r"use \(pool_size\); the longest, for ([0-9.]+) s, by client (\d+) of user app "
                        r"\(SHOW WHY, SHOW CLIENTS\)\.", no.detail)
    assert said, no.detail
    assert float(said.group(1)) >= 0.5 and said.group(2) == one(own)["id"]


# ---- what has to go ----

@pytest.mark.parametrize("how", ["RECONNECT", "reload"])
def test_server_fast_close(make_pooler, activity, how):
    """In session mode: an idle client at once, one in a transaction after it, each with its reason."""
    pooler = make_pooler({**ADMIN, "server_fast_close": 1, "pool_mode": "session"})
    idle, busy, other = pooler.wire(), pooler.wire(), pooler.wire(database="other")
    idle.query("select 1")
    busy.query("begin")
    pid = other.value(PID)
    if how == "RECONNECT":
        assert tag(console(pooler), "RECONNECT app") == "RECONNECT"
    else:
        pooler.databases["app"] += " application_name=elsewhere"
        pooler.reload()
    no = idle.refusal()
    assert (no.severity, no.sqlstate, no.text) == ("FATAL", "57P01", "database configuration changed")
    assert "server_fast_close" in no.detail
    assert busy.value("select 2") == "2", "its transaction goes on"
    assert not is_answered(busy, 0.3)
    busy.query("commit")
    assert busy.refusal().text == "database configuration changed"
    activity.wait_count(1)
    assert other.value(PID) == pid
    assert pooler.wire().value("select 3") == "3"
    for of in "CS":
        assert len(re.findall(" %s-.*closing because: database configuration changed " % of, pooler.log())) == 2


def test_server_fast_close_does_not_wait_for_a_busy_client_to_pause(make_pooler, activity):
    """One that sends the next query before it has read the last answer."""
    pooler = make_pooler({**ADMIN, "server_fast_close": 1, "pool_mode": "session"})
    wire = pooler.wire()
    wire.query("select 1")
    assert tag(console(pooler), "RECONNECT") == "RECONNECT"
    with pytest.raises((Refused, Gone)):
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up:
            wire.query("select 1")
    activity.wait_count(0)


def test_without_server_fast_close_the_session_stays(make_pooler):
    pooler = make_pooler({**ADMIN, "pool_mode": "session"})
    wire = pooler.wire()
    pid = wire.value(PID)
    assert tag(console(pooler), "RECONNECT") == "RECONNECT"
    time.sleep(0.3)
    assert wire.value(PID) == pid


# ---- SUSPEND ----

def test_suspend_timeout(make_pooler):
    """Those in the middle of a message go: one that does not read, and one that does not finish what it sends."""
    pooler = make_pooler({**ADMIN, "suspend_timeout": "800ms"})
    admin, calm, busy = console(pooler), pooler.wire(), pooler.wire()
    calm.query("begin")
    busy.send(query("select 1, pg_sleep(1.5)"))
    deaf, half = pooler.wire(), pooler.wire()
    deaf.send(query("select repeat('x', 1000) from generate_series(1, 100000)"))
    half.send(query("select 1"))
    half.ready()
    whole = query("select '%s'" % ("x" * 200000))
    half.send(whole[:150000])
    time.sleep(0.5)
    clock = Clock()
    assert tag(admin, "SUSPEND") == "SUSPEND"
    clock.assert_at(0.8, 0.5)
    pooler.wait_log("closing because: suspend_timeout")
    no = half.refusal()
    assert (no.sqlstate, no.text) == ("57P01", "suspend_timeout")
    while deaf.socket.recv(1 << 20):  # what was on its way, and then the end
        pass
    calm.send(query("select 2"))
    assert not is_answered(calm, 0.3), "it is suspended"
    assert tag(admin, "RESUME") == "RESUME"
    assert calm.ready().rows == [["2"]]
    assert busy.ready().rows == [["1", ""]]
    assert len(re.findall(" C-.*closing because: suspend_timeout", pooler.log())) == 2


def test_suspend_answers_at_once_when_all_is_at_rest(make_pooler):
    pooler = make_pooler(ADMIN)
    admin, client = console(pooler), pooler.wire()
    client.query("begin")
    clock = Clock()
    assert tag(admin, "SUSPEND") == "SUSPEND"
    clock.assert_at(0, 0.5)
    assert tag(admin, "RESUME") == "RESUME"
    assert client.query("commit").status == "I"


# ---- pools that nobody uses ----

@pytest.mark.parametrize("setting", ["autodb_idle_timeout", "pool_idle_timeout"])
def test_unused_pools_are_forgotten(make_pooler, activity, setting):
    autodb = setting == "autodb_idle_timeout"
    pooler = make_pooler({**ADMIN, setting: "600ms", "server_idle_timeout": "300ms", "stats_period": 1},
                         databases={"app": "", "*": ""})
    admin = console(pooler)
    for database in ("app", "other"):
        wire = pooler.wire(database=database)
        wire.query("select 1")
        wire.close()
    names = lambda table: [row["database"] for row in show(admin, table)]  # noqa: E731
    assert names("POOLS") == ["app", "other", "pgbouncer"]
    gone, stays = ("other", "app") if autodb else ("app", "other")
    wait_until(lambda: names("POOLS") == sorted([stays, "pgbouncer"]), what="its end")
    if autodb:  # the statistics go too
        wait_until(lambda: "other" not in names("STATS"))
    else:
        assert one(show(admin, "STATS"), database="app")["total_query_count"] == "1"
    wire = pooler.wire(database=gone)
    assert wire.value("select current_database()") == gone
    assert one(show(admin, "STATS"), database=gone)["total_query_count"] == ("1" if autodb else "2")
    time.sleep(1)
    assert names("POOLS") == ["app", "other", "pgbouncer"] if not autodb else gone in names("POOLS"), "it is used"


def test_many_names_come_and_go(make_pooler, pg):
    """Databases that do not exist, made by *: what is forgotten leaves nothing behind."""
    pooler = make_pooler({**ADMIN, "autodb_idle_timeout": "200ms", "server_login_retry": "100ms", "stats_period": 1},
                         databases={"app": "", "*": ""})
    admin = console(pooler)
    for i in range(60):
        with pytest.raises(Refused):
            pooler.wire(database="nodb%d" % i)
    pools = lambda: [row["database"] for row in show(admin, "POOLS") if row["database"].startswith("nodb")]  # noqa: E731
    wait_until(lambda: not pools(), what="their end")
    wait_until(lambda: all(not row["database"].startswith("nodb") for row in show(admin, "STATS")))
    assert pooler.wire().value("select 1") == "1"


# ---- systemd ----

class Manager:
    """What systemd does for NOTIFY_SOCKET: collects datagrams."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.told = []

    def so_far(self):
        self.socket.setblocking(False)
        while True:
            try:
                self.told.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return self.told

    def wait(self, pattern):
        wait_until(lambda: any(re.fullmatch(pattern, it) for it in self.so_far()), 5, pattern)


def test_notify(make_pooler):
    """READY, a status line every stats_period, RELOADING with its time and READY again (also of one that fails), STOPPING."""
    pooler = make_pooler({**ADMIN, "stats_period": 1}, start=False)
    manager = Manager(pooler.directory)
    os.environ["NOTIFY_SOCKET"] = manager.path
    try:
        pooler.start()
    finally:
        del os.environ["NOTIFY_SOCKET"]
    manager.wait("READY=1")
    assert manager.told == ["READY=1"]
    for bad in (False, True):
        manager.told.clear()
        began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        if bad:
            pooler.write_ini("nonsense\n")
        pooler.hang_up()
        manager.wait("READY=1")
        told = [it for it in manager.told if not it.startswith("STATUS")]
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told[0]) and told[1:] == ["READY=1"], told
        assert began <= int(told[0].split("=")[-1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.wait(r"STATUS=stats: \d+ xacts/s, .* us")
    pooler.signal(signal.SIGTERM)
    assert pooler.exited() == 0
    assert "STOPPING=1" in manager.so_far()


PASS_SOCKETS = """import os, socket, sys
tcp, local = socket.create_server(("127.0.0.1", int(sys.argv[1]))), socket.socket(socket.AF_UNIX)
local.bind(sys.argv[2])
os.chmod(sys.argv[2], 0o777)
local.listen()
for at, it in enumerate((tcp, local)):
    os.dup2(it.fileno(), 20 + at)
for at in range(2):
    os.dup2(20 + at, 3 + at, inheritable=True)
os.closerange(5, 30)
os.environ.update(LISTEN_PID=sys.argv[3] or str(os.getpid()), LISTEN_FDS="2")
os.execvp(sys.argv[4], sys.argv[4:])
"""


def test_socket_activation(make_pooler):
    """It listens where systemd does, not where its settings say, and tells no child of it."""
    pooler = make_pooler({"listen_addr": "127.0.0.2"}, start=False)
    path = os.path.join(pooler.directory, "passed")
    pooler.within = [sys.executable, "-c", PASS_SOCKETS, str(pooler.port), path, ""]
    pooler.start()
    pooler.wait_log("WARNING listen_addr and unix_socket_dir are ignored: systemd has passed the sockets")
    assert pooler.wire().value("select 1") == "1"
    assert not os.path.exists(pooler.socket_path)
    with socket.socket(socket.AF_UNIX) as local:
        local.connect(path)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", pooler.port))
    pooler.signal(signal.SIGTERM)
    pooler.clients.pop().close()
    assert pooler.exited() == 0
    assert os.path.exists(path), "it is systemd's"


def test_sockets_of_another_process_are_not_taken(make_pooler):
    pooler = make_pooler(start=False)
    pooler.within = [sys.executable, "-c", PASS_SOCKETS, "0", os.path.join(pooler.directory, "passed"), "1"]
    pooler.start()
    assert os.path.exists(pooler.socket_path)
    assert pooler.wire().value("select 1") == "1"


# ---- --check ----

def check(pooler, *more):
    done = subprocess.run(unprivileged() + [program(), "--check", *more, pooler.ini], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, cwd=pooler.directory, timeout=60)
    assert not done.stderr, done.stderr
    lines = done.stdout.rstrip("\n").split("\n")
    counted = re.fullmatch(re.escape(pooler.ini) + r": (\d+) errors?, (\d+) warnings?", lines[-1])
    errors = [line for line in lines if ": error: " in line]
    warnings = [line for line in lines if ": warning: " in line]
    assert (int(counted.group(1)), int(counted.group(2))) == (len(errors), len(warnings)), done.stdout
    assert done.returncode == (1 if errors else 2 if warnings else 0)
    return done.returncode, errors, warnings, lines


def test_check_of_a_good_file(make_pooler):
    pooler = make_pooler(start=False)
    os.chmod(pooler.auth_file, 0o600)
    status, _, _, lines = check(pooler)
    assert (status, lines) == (0, [pooler.ini + ": 0 errors, 0 warnings"])


def test_check_names_every_problem(make_pooler):
    pooler = make_pooler(text="""[databases]
app = host=127.0.0.1 port=99999
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = many
nonsense = 1
auth_file = {auth_file}
client_tls_sslmode = require
client_tls_key_file = /nonexistent/key
just words
""", start=False)
    status, errors, _, _ = check(pooler)
    assert status == 1
    places = [int(re.match(re.escape(pooler.ini) + r":(\d+): ", line).group(1)) for line in errors]
    assert sorted(places) == [2, 5, 6, 8, 10], errors


WARNINGS = {
    "duplicated section": ("[databases]\n[pgbouncer]\n", r"section \[databases\] goes on"),
    "repeated setting": ("verbose = 0\nverbose = 0\n", "verbose is given again"),
    "repeated database": ("[databases]\napp = host=127.0.0.1\n", "app is given again"),
    "without effect": ("pkt_buf = 8192\n", "pkt_buf has no effect"),
    "only with TLS": ("client_tls_ciphers = HIGH\n", "client_tls_ciphers has no effect: client_tls_sslmode"),
    "weak ciphers": ("server_tls_ciphers = Compat\n", "server_tls_ciphers = Compat takes ciphers too that OpenSSL"),
    "old TLS alone": ("server_tls_protocols = !tlsv1.2,!tlsv1.3\nserver_tls_sslmode = require\n",
                      r"\.ini:\d+: warning: no handshake can succeed: server_tls_protocols = tlsv1.0,tlsv1.1 without"),
    "only in session mode": ("server_fast_close = 1\n", "server_fast_close has no effect: no pool_mode is session"),
    "pool larger than the database": ("max_db_connections = 3\n", "default_pool_size = 5 can not be reached"),
    "pool of an entry": ("[databases]\nbig = host=x pool_size=9 max_db_connections=3\n", 'database "big": pool_size = 9 can'),
    "minimum": ("min_pool_size = 30\n", "min_pool_size = 30 can not be reached"),
    "plain passwords": ("auth_type = plain\n", "weak authentication: auth_type = plain"),
    "nobody asked": ("auth_type = trust\nlisten_addr = *\n", "auth_type = trust asks for no password"),
}


@pytest.mark.parametrize("case", WARNINGS, ids=lambda name: name.replace(" ", "-"))
def test_check_warns(make_pooler, case):
    added, said = WARNINGS[case]
    pooler = make_pooler(start=False)
    os.chmod(pooler.auth_file, 0o600)
    pooler.write_ini(open(pooler.ini).read() + added)
    status, errors, warnings, _ = check(pooler)
    assert status == 2 and not errors
    assert any(re.search(said, line) for line in warnings), warnings


def test_check_warns_of_secrets_that_everybody_may_read(make_pooler):
    pooler = make_pooler(databases={"app": "user=app password=x"}, start=False)
    os.chmod(pooler.auth_file, 0o644)
    os.chmod(pooler.ini, 0o644)
    _, _, warnings, _ = check(pooler)
    assert [line.split(":")[0] for line in warnings] == [pooler.ini, pooler.auth_file], warnings
    assert all("chmod o-r" in line for line in warnings)
    os.chmod(pooler.auth_file, 0o640)
    os.chmod(pooler.ini, 0o600)
    assert check(pooler)[0] == 0


def test_check_reads_the_files_of_tls(make_pooler):
    pooler = make_pooler({"client_tls_sslmode": "require", "client_tls_key_file": "/nonexistent/key",
                          "client_tls_cert_file": "/nonexistent/cert"}, start=False)
    status, errors, _, _ = check(pooler)
    assert status == 1 and len(errors) == 1 and "/nonexistent/" in errors[0]


@pytest.mark.parametrize("setting, value, said", [
    ("client_tls_key_file", "{other.key}", "does not belong to the certificate"),
    ("client_tls_cert_file", "{other.key}", "no certificate in it"),
    ("client_tls_ciphers", "bogus", "no cipher match"),
    ("client_tls13_ciphers", "bogus", "no cipher match"),
    ("client_tls_ecdhcurve", "bogus", "no such curve"),
    ("server_tls_ca_file", "/nonexistent/ca", "No such file or directory"),
    ("server_tls13_ciphers", "bogus", "no cipher match"),
])
def test_the_line_of_what_tls_can_not_use(make_pooler, certificates, setting, value, said):  # noqa: F811
    """--check and the start name the setting, with its file and line."""
    good = certificates.made["good"]
    value = value.format(other=certificates.made["other"])
    pooler = make_pooler({"client_tls_sslmode": "require", "client_tls_key_file": good.key,
                          "client_tls_cert_file": good.cert, setting: value}, start=False)
    os.chmod(pooler.auth_file, 0o600)
    lines = open(pooler.ini).read().split("\n")
    place = "%s:%d: " % (pooler.ini, 1 + next(n for n, line in enumerate(lines) if line.startswith(setting + " ")))
    status, errors, _, _ = check(pooler)
    assert status == 1 and len(errors) == 1
    assert errors[0].startswith(place + "error: %s = %s: " % (setting, value)) and said in errors[0], errors
    status, printed = pooler.run()
    assert status == 1 and place + "%s = %s: " % (setting, value) in printed
    pooler.expect_exit = True
    pooler.process = None


def test_check_connect(make_pooler, pg, listen):
    """Each link of the chain, broken one at a time; the others are looked at all the same."""
    closed = socket.create_server(("127.0.0.1", 0))
    nobody = closed.getsockname()[1]
    closed.close()
    silent = listen(lambda connection: None)
    here = "host=127.0.0.1 port=%d " % pg.port
    pooler = make_pooler(databases={
        "good": here + "dbname=app",
        "name": "host=no-such-host.invalid",
        "port": "host=127.0.0.1 port=%d" % nobody,
        "password": here + "dbname=app user=app password=wrong",
        "nodb": here,
        "query": here + "dbname=app connect_query='select nothing'",
        "lookup": here + "dbname=app auth_user=app auth_query='select nothing from nowhere where $1 = 1'",
        "silent": "host=127.0.0.1 port=%d" % silent.port,
    }, settings={"server_connect_timeout": 1}, start=False)
    os.chmod(pooler.auth_file, 0o600)
    status, errors, _, lines = check(pooler, "--connect")
    assert status == 1
    told = {}
    for line in errors:
        found = re.search(r'error: (auth_query of )?database "(\w+)".*?: (\w+): ', line)
        told[found.group(2)] = (bool(found.group(1)), found.group(3) if not found.group(1) else line.split(": ")[3])
    assert {name: link for name, (_, link) in told.items()} == {
        "name": "name", "port": "port", "password": "password", "nodb": "database", "query": "connect_query",
        "lookup": "auth_query", "silent": "server"}, errors
    assert any(re.match(r'database "good" at 127.0.0.1 port \d+: good: 127.0.0.1:\d+, .*PostgreSQL 1\d', it) for it in lines)


def test_check_connect_adds_the_pools_up(make_pooler, pg):
    pooler = make_pooler({"default_pool_size": 200}, databases={"app": "user=app", "other": "user=app"}, start=False)
    os.chmod(pooler.auth_file, 0o600)
    status, errors, warnings, _ = check(pooler, "--connect")
    assert status == 2 and not errors
    assert re.search(r"may open 400 servers \(app: 200, other: 200\), and PostgreSQL there lets \d+ in", warnings[-1]), warnings
    pooler.settings["default_pool_size"] = 5
    pooler.write()
    os.chmod(pooler.auth_file, 0o600)
    assert check(pooler, "--connect")[0] == 0


def test_check_connect_over_tls(make_pooler, listen):
    """A server without TLS where it is wanted."""
    plain = listen()
    pooler = make_pooler({"server_tls_sslmode": "require"}, databases={"app": "host=127.0.0.1 port=%d" % plain.port},
                         start=False)
    os.chmod(pooler.auth_file, 0o600)
    _, errors, _, _ = check(pooler, "--connect")
    assert len(errors) == 1 and re.search(r'database "app".*: TLS: as user app: server refused SSL', errors[0]), errors
