"""The admin console: who gets in, every SHOW beside pg_stat_activity and /proc, every command with its effect and tag, by
psql, psycopg 3 in both protocols and the bare protocol."""
import os
import random
import re
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from conftest import Listener
from pg import unprivileged
from pooler import PASSWORD, SLOW, USER, Clock, wait_until
from wire import Refused, Wire, cancel_request, query, startup

ADMIN, STATS = (USER, PASSWORD), ("bob", "bobpassword")
TABLES = ["ACTIVE_SOCKETS", "CLIENTS", "CONFIG", "DATABASES", "DNS_HOSTS", "DNS_ZONES", "FDS", "LISTS", "MEM",
          "PEER_POOLS", "PEERS", "POOLS", "SERVERS", "SOCKETS", "STATE", "STATS", "STATS_AVERAGES", "STATS_TOTALS",
          "TOTALS", "USERS", "VERSION", "WHY"]


@pytest.fixture
def pooler(make_pooler):
    return make_pooler({"admin_users": USER, "stats_users": "bob"})


def console(pooler, login=ADMIN, database="pgbouncer"):
    return pooler.wire(*login, database=database)


def show(wire, what):
    """Rows as dictionaries, text as it came."""
    reply = wire.query("SHOW " + what)
    described = [it.body for it in reply if it.type == "T"][0]
    names, at = [], 2
    for _ in range(int.from_bytes(described[:2], "big")):
        end = described.index(0, at)
        names.append(described[at:end].decode())
        at = end + 19
    return [dict(zip(names, row)) for row in reply.rows]


def one(rows, **where):
    found = [row for row in rows if all(row[key] == value for key, value in where.items())]
    assert len(found) == 1, (where, rows)
    return found[0]


def tag(wire, command):
    return wire.query(command).tags[0]


def error(wire, command):
    with pytest.raises(Refused) as no:
        wire.query(command)
    assert no.value.severity == "ERROR" and no.value.messages[-1].type == "Z"
    return no.value


def version():
    printed = subprocess.run([os.environ["PGSLUICE_BIN"], "--version"], stdout=subprocess.PIPE, check=True, text=True)
    return printed.stdout.split("\n")[0]


# ---- getting in ----

def test_who_gets_in(pooler):
    for database in ("pgbouncer", "pgsluice"):
        assert show(console(pooler, ADMIN, database), "VERSION")[0]["version"] == version()
        assert show(console(pooler, STATS, database), "VERSION")
    for login, text in ((("md5user", "md5password"), "not allowed"), ((USER, "wrong"), "SASL authentication failed"),
                        (("pgbouncer", ""), "SASL authentication failed")):
        with pytest.raises(Refused) as no:
            console(pooler, login)
        assert (no.value.severity, no.value.text) == ("FATAL", text)


def test_the_own_system_user_needs_no_password_over_the_unix_socket(make_pooler):
    pooler = make_pooler()
    command = ["psql", "-X", "-w", "-At", "-h", pooler.directory, "-p", str(pooler.port), "-U", "pgbouncer", "-d",
               "pgbouncer", "-c", "SHOW VERSION"]
    mine = subprocess.run(unprivileged() + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert mine.stdout.strip() == version(), mine.stderr
    if unprivileged():  # and we are another one, which is asked for a password
        other = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert other.returncode != 0 and "password" in other.stderr, other.stderr


def test_max_client_conn_is_not_for_admins(make_pooler):
    pooler = make_pooler({"admin_users": USER, "max_client_conn": 1, "max_user_client_connections": 1})
    client = pooler.wire()
    with pytest.raises(Refused):
        pooler.wire()
    admins = [console(pooler) for _ in range(3)]
    pool = one(show(admins[0], "POOLS"), database="pgbouncer")
    assert (pool["cl_active"], pool["pool_mode"]) == ("3", "statement")
    assert client.value("select 1") == "1"


def test_what_drivers_are_told(pooler):
    wire = console(pooler)
    with psycopg.connect(host="127.0.0.1", port=pooler.port, user=USER, password=PASSWORD, dbname="pgbouncer",
                         autocommit=True, application_name="seen") as it:
        told = {name: it.info.parameter_status(name) for name in
                ("server_version", "client_encoding", "server_encoding", "DateStyle", "TimeZone",
                 "standard_conforming_strings", "is_superuser")}
        assert told == {"server_version": "1.25.2/bouncer", "client_encoding": "UTF8", "server_encoding": "UTF8",
                        "DateStyle": "ISO", "TimeZone": "GMT", "standard_conforming_strings": "on",
                        "is_superuser": "on"}
        assert one(show(wire, "CLIENTS"), application_name="seen")["database"] == "pgbouncer"
    for name, value in (("client_encoding", "UTF-8"), ("default_transaction_isolation", "read committed"),
                        ("standard_conforming_strings", "on"), ("datestyle", "ISO"), ("timezone", "GMT")):
        assert show(wire, name) == [{name: value}]
        reply = wire.query("SET %s TO 'x'" % name)
        assert reply.tags == ["SET"] and [it["M"] for it in reply.notices] == ["SET ignored"]
    assert wire.query("SELECT version").rows == [[version()]]


def test_errors(pooler):
    wire = console(pooler)
    for command, text in (("FOO", "invalid command 'FOO', use SHOW HELP;"),
                          ("SHOW nosuch", "invalid command 'SHOW nosuch', use SHOW HELP;"),
                          ("PAUSE nodb", "no such database: nodb"), ("RESUME", "pooler is not paused/suspended"),
                          ("RESUME app", "database app is not paused"), ("DISABLE", "a database is required"),
                          ("PAUSE pgbouncer", "cannot pause admin db: pgbouncer"),
                          ("RECONNECT pgbouncer", "cannot reconnect admin db: pgbouncer"),
                          ("DISABLE pgbouncer", "cannot disable admin db: pgbouncer"),
                          ("ENABLE pgbouncer", "cannot enable admin db: pgbouncer"),
                          ("KILL pgbouncer", "cannot kill admin db: pgbouncer"),
                          ("WAIT_CLOSE pgbouncer", "cannot wait in admin db: pgbouncer"),
                          ("KILL_CLIENT zz", "invalid client pointer supplied"), ("KILL_CLIENT 99999", "client not found"),
                          ("SET nosuch = 1", "SET failed"), ("SET max_client_conn = abc", "SET failed"),
                          ("SET listen_port = 1", "SET failed")):
        it = error(wire, command)
        assert (it.text, it.sqlstate) == (text, "08P01"), command
    assert show(wire, "VERSION"), "and it goes on"


def test_stats_users_may_only_show(pooler):
    wire = console(pooler, STATS)
    for table in TABLES:
        if table != "FDS":
            assert wire.query("SHOW " + table).tags == ["SHOW"], table
    for command in ("SHOW FDS", "PAUSE", "RESUME", "RELOAD", "SET verbose = 1", "KILL app", "KILL_CLIENT 1", "SUSPEND",
                    "RECONNECT", "WAIT_CLOSE", "DISABLE app", "ENABLE app", "DISABLE", "ENABLE", "SHUTDOWN"):
        assert error(wire, command).text == "admin access needed", command
    assert show(wire, "STATE") == [{"key": "active", "value": "yes"}, {"key": "paused", "value": "no"},
                                   {"key": "suspended", "value": "no"}]


# ---- both protocols, real tools ----

def test_psql(pooler):
    environment = dict(os.environ, PGPASSWORD=PASSWORD)
    for table in TABLES + ["HELP"]:
        done = subprocess.run(["psql", "-X", "-h", "127.0.0.1", "-p", str(pooler.port), "-U", USER, "pgbouncer", "-c",
                               "SHOW " + table], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0 and "ERROR" not in done.stderr, (table, done.stderr)
        if table == "HELP":
            assert "Console usage" in done.stderr and "WAIT_CLOSE [<db>]" in done.stderr


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_extended_protocol_by_psycopg(pooler, binary):
    """Parse, Bind, Describe and Execute: what libpq's PQexecParams sends, as JDBC and pgx do by themselves."""
    simple = console(pooler)
    with psycopg.connect(host="127.0.0.1", port=pooler.port, user=USER, password=PASSWORD, dbname="pgbouncer",
                         autocommit=True) as it:
        for table in TABLES:
            got = it.pgconn.exec_params(b"SHOW " + table.encode(), None, result_format=int(binary))
            assert got.status == psycopg.pq.ExecStatus.TUPLES_OK, (table, got.error_message)
        config = it.cursor(binary=binary).execute("SHOW LISTS", ()).fetchall()
        assert {name: str(value) for name, value in config} == {
            row["list"]: row["items"] for row in show(simple, "LISTS")}
        totals = it.cursor(binary=binary).execute("SHOW TOTALS", ()).fetchall()
        assert dict(totals)["total_query_count"] > len(TABLES)
        it.prepare_threshold = 0
        for _ in range(3):
            assert it.execute("SHOW VERSION", prepare=True).fetchone() == (version(),)
        with pytest.raises(psycopg.errors.Error, match="invalid command 'NO'"):
            it.execute("NO", ())
        assert it.execute("RELOAD", ()).statusmessage == "RELOAD"


# ---- figures ----

def test_figures_are_those_of_postgresql_and_of_the_kernel(pooler, activity):
    wire = console(pooler)
    clients = [pooler.wire(parameters={"application_name": "c%d" % i}) for i in range(4)]
    for client in clients[:3]:
        client.query("begin")
    rows = show(wire, "SERVERS")
    active = [row for row in rows if row["state"] == "active"]
    assert len(active) == 3
    backends = activity.backends()
    assert sorted(int(row["remote_pid"]) for row in rows) == sorted(row[0] for row in backends)
    pool = one(show(wire, "POOLS"), database="app", user=USER)
    assert (pool["cl_active"], pool["cl_waiting"], pool["sv_active"]) == ("4", "0", "3")
    assert int(pool["sv_idle"]) == len(backends) - 3
    listed = show(wire, "CLIENTS")
    assert [row["state"] for row in sorted(listed, key=lambda row: row["application_name"]) if row["application_name"]
            .startswith("c")] == ["active"] * 3 + ["idle"]
    linked = one(listed, application_name="c0")
    assert one(rows, ptr=linked["link"])["link"] == linked["ptr"]
    assert linked["addr"] == "127.0.0.1" and int(linked["port"]) == clients[0].socket.getsockname()[1]
    assert int(linked["local_port"]) == pooler.port
    sockets = [name for name in (os.readlink("/proc/%d/fd/%s" % (pooler.process.pid, fd))
                                 for fd in os.listdir("/proc/%d/fd" % pooler.process.pid)) if name.startswith("socket:")]
    assert len(show(wire, "SOCKETS")) <= len(sockets)
    lists = {row["list"]: int(row["items"]) for row in show(wire, "LISTS")}
    assert (lists["used_clients"], lists["used_servers"], lists["login_clients"]) == (5, len(backends), 0)
    database = one(show(wire, "DATABASES"), name="app")
    assert (database["current_connections"], database["current_client_connections"]) == (str(len(backends)), "4")
    user = one(show(wire, "USERS"), name=USER)
    assert (user["current_connections"], user["current_client_connections"]) == (str(len(backends)), "4")
    for client in clients[:3]:
        client.query("commit")
    pool = one(show(wire, "POOLS"), database="app", user=USER)
    assert (pool["sv_active"], int(pool["sv_idle"])) == ("0", len(backends))


def test_counts_of_traffic(make_pooler):
    pooler = make_pooler({"admin_users": USER, "stats_period": 1})
    wire = console(pooler)
    clients = [pooler.wire() for _ in range(3)]
    before = one(show(wire, "STATS"), database="app")
    for client in clients:
        for _ in range(10):
            client.query("select 1")
        client.query("begin")
        client.query("select pg_sleep(0.1)")
        client.query("commit")
        client.send(b"".join(query("select 2") for _ in range(5)))
        for _ in range(5):
            client.ready()
    after = one(show(wire, "STATS"), database="app")
    more = {key: int(after[key]) - int(before[key]) for key in after if key.startswith("total_")}
    assert more["total_query_count"] == 3 * 18
    assert more["total_xact_count"] == 3 * 16
    assert more["total_server_assignment_count"] <= 3 * 16
    assert more["total_xact_time"] >= 300_000 and more["total_query_time"] >= 300_000
    assert more["total_xact_time"] < 5_000_000 and more["total_query_time"] < 5_000_000
    assert more["total_received"] > 3 * 18 * 9 and more["total_sent"] > more["total_received"]
    totals = {row["name"]: int(row["value"]) for row in show(wire, "TOTALS")}
    assert totals["total_query_count"] > int(after["total_query_count"]), "the console counts too"
    assert int(one(show(wire, "STATS_TOTALS"), database="app")["client_login_count"]) == 3
    wait_until(lambda: re.search(r"LOG stats: \d+ xacts/s, \d+ queries/s, \d+ client parses/s, \d+ server parses/s, \d+ "
                                 r"binds/s, \d+ client logins/s, in \d+ B/s, out \d+ B/s, xact \d+ us, query \d+ us, "
                                 r"wait \d+ us", pooler.log()), 5, "the line of log_stats")


def test_config_says_where_from(pooler):
    wire = console(pooler)
    rows = {row["key"]: row for row in show(wire, "CONFIG")}
    lines = open(pooler.ini).read().split("\n")
    assert rows["admin_users"]["file"] == pooler.ini
    assert lines[int(rows["admin_users"]["line"]) - 1].startswith("admin_users")
    assert rows["max_client_conn"] == {"key": "max_client_conn", "value": "100", "default": "100", "changeable": "yes",
                                       "file": None, "line": None}
    assert (rows["listen_port"]["changeable"], rows["unix_socket_mode"]["value"]) == ("no", "511")
    assert list(rows) == sorted(rows, key=lambda name: name.replace("pool_idle_timeout", "pool_modf"))


def test_config_shows_lists_and_switches_as_they_were_written(pooler):
    """And everything else by what it means."""
    pooler.settings.update({"server_tls_protocols": "tlsv1.2,tlsv1.3", "tcp_defer_accept": "45", "log_stats": "0x2",
                            "syslog_facility": "LOCAL3", "admin_users": "x ,  app", "pool_mode": "Transaction",
                            "server_lifetime": "0x10", "query_timeout": "1min"})
    pooler.reload()
    wire = console(pooler)
    values = lambda: {row["key"]: row["value"] for row in show(wire, "CONFIG")}  # noqa: E731
    seen = values()
    assert seen["server_tls_protocols"] == "tlsv1.2,tlsv1.3" and seen["client_tls_protocols"] == "secure"
    assert (seen["tcp_defer_accept"], seen["log_stats"], seen["tcp_keepalive"]) == ("45", "2", "1")
    assert (seen["syslog_facility"], seen["admin_users"]) == ("LOCAL3", "x ,  app")
    assert (seen["pool_mode"], seen["server_lifetime"], seen["query_timeout"]) == ("transaction", "16", "60")
    wire.query("SET log_stats = 3")
    assert values()["log_stats"] == "3"
    pooler.settings["listen_addr"] = "127.0.0.1, 127.0.0.2"  # needs a restart: what runs is what is shown
    pooler.reload()
    row = one(show(wire, "CONFIG"), key="listen_addr")
    assert (row["value"], row["file"]) == ("127.0.0.1", pooler.ini)


def test_active_sockets_are_those_with_something_to_do(make_pooler):
    """As PgBouncer: who asks and who waits, not who merely has a server."""
    pooler = make_pooler({"admin_users": USER, "default_pool_size": 1, "pool_mode": "session"})
    wire, idle = console(pooler), console(pooler)
    holder, waits = pooler.wire(), pooler.wire()
    holder.query("select 1")
    waits.send(query("select 1"))
    port = lambda it: str(it.socket.getsockname()[1])  # noqa: E731
    wait_until(lambda: one(show(wire, "POOLS"), database="app")["cl_waiting"] == "1")
    rows = show(wire, "ACTIVE_SOCKETS")
    assert sorted((row["port"], row["state"]) for row in rows) == sorted(
        [(port(wire), "cl_active"), (port(waits), "cl_waiting")])
    assert {row["port"] for row in show(wire, "SOCKETS")} > {port(it) for it in (wire, idle, holder, waits)}
    holder.close()
    waits.ready()


def test_pools_without_clients_or_min_pool_size_are_not_there(make_pooler):
    pooler = make_pooler({"admin_users": USER}, databases={"app": "user=app password=" + PASSWORD})
    wire = console(pooler)
    assert [row["database"] for row in show(wire, "POOLS")] == ["pgbouncer"]
    assert [row["database"] for row in show(wire, "STATS")] == ["pgbouncer"]
    pooler.wire().query("select 1")
    assert [row["database"] for row in show(wire, "POOLS")] == ["app", "pgbouncer"]


def test_the_wait_for_the_first_server_counts(make_pooler):
    pooler = make_pooler({"admin_users": USER}, databases={"app": "connect_query='select pg_sleep(0.2)'"})
    wire = console(pooler)
    pooler.wire()
    assert int(one(show(wire, "STATS"), database="app")["total_wait_time"]) >= 200000


def test_a_long_table_comes_in_slices(pooler):
    pooler.settings["max_client_conn"] = 1000
    pooler.reload()
    for _ in range(350):
        pooler.wire()
    for _ in range(3):
        rows = show(console(pooler), "CLIENTS")
        ids = [row["id"] for row in rows if row["database"] == "app"]
        assert len(ids) == len(set(ids)) == 350


# ---- commands ----

def in_background(wire, command):
    """Gives a command; the answer is waited for by the caller."""
    wire.send(query(command))


def is_answered(wire, seconds):
    wire.socket.settimeout(seconds)
    try:
        wire.fill()
        return True
    except OSError:
        return False
    finally:
        wire.socket.settimeout(20)


def test_pause_and_resume_of_one_database(pooler, activity):
    wire, other = console(pooler), console(pooler)
    client = pooler.wire()
    client.query("begin")
    neighbour = pooler.wire(database="other")
    in_background(wire, "PAUSE app")
    assert not is_answered(wire, 0.3), "a transaction still runs"
    assert one(show(other, "DATABASES"), name="app")["paused"] == "1"
    assert neighbour.value("select 1") == "1", "the other database goes on"
    client.query("commit")
    assert wire.ready().tags == ["PAUSE"]
    assert activity.count("datname = 'app'") == 0, "PAUSE is answered when PostgreSQL has ended them"
    client.send(query("select 7"))
    wait_until(lambda: one(show(wire, "POOLS"), database="app")["cl_waiting"] == "1")
    why = one(show(wire, "WHY"), database="app")
    assert why["limit"] == "PAUSE" and why["place"] == "1"
    assert tag(wire, "RESUME app") == "RESUME"
    assert client.ready().rows == [["7"]]


def test_pause_of_all_and_its_cancel(pooler):
    wire = console(pooler)
    client = pooler.wire()
    client.query("begin")
    in_background(wire, "PAUSE")
    assert not is_answered(wire, 0.3)
    with Wire(pooler.address) as canceling:
        canceling.send(cancel_request(wire.pid, wire.secret))
    assert wire.ready().tags == ["PAUSE"], "a cancel is RESUME"
    assert one(show(wire, "STATE"), key="paused")["value"] == "no"
    client.query("commit")
    assert tag(wire, "PAUSE") == "PAUSE"
    assert error(wire, "PAUSE").text == "already suspended/paused"
    assert one(show(wire, "STATE"), key="paused")["value"] == "yes"
    pooler.signal(signal.SIGUSR2)
    wait_until(lambda: one(show(wire, "STATE"), key="paused")["value"] == "no")


def test_pause_with_a_timeout(pooler):
    wire = console(pooler)
    client = pooler.wire()
    client.query("begin")
    clock = Clock()
    it = error(wire, "PAUSE app TIMEOUT '300ms'")
    clock.assert_at(0.3, 1.0)
    assert it.text == "PAUSE took too long" and "works on" in it.detail
    assert client.value("select 3") == "3"
    client.query("commit")
    assert client.value("select 4") == "4", "it is not paused"
    assert tag(wire, "PAUSE app TIMEOUT '5s'") == "PAUSE"
    assert tag(wire, "RESUME app") == "RESUME"


def test_pause_does_not_wait_for_a_login_under_way(make_pooler):
    """A server that takes the connection and says nothing is just when operators pause."""
    silent = Listener(lambda connection: connection.recv(1) and time.sleep(60))
    pooler = make_pooler({"admin_users": USER, "auth_type": "trust", "server_connect_timeout": 30},
                         databases={"dead": "host=127.0.0.1 port=%d" % silent.port})
    waiting = pooler.socket()
    waiting.send(startup({"user": USER, "database": "dead"}))
    wait_until(lambda: silent.came, 5, "the server's login")
    wire = console(pooler)
    clock = Clock()
    assert tag(wire, "PAUSE dead") == "PAUSE"
    clock.assert_at(0, 1.0)
    pooler.wait_log("S-.* closing because: pause mode")
    assert "server login failed" not in pooler.log()
    pooler.signal(signal.SIGINT)
    assert pooler.exited(5) == 0


def test_pause_waits_for_a_backend_that_works_for_a_login(make_pooler, pg, activity):
    """Its slot is free when PostgreSQL has ended it, not before."""
    pooler = make_pooler({"admin_users": USER, "auth_type": "trust"},
                         databases={"app": "connect_query='select pg_sleep(60), 4711'"})
    waiting = pooler.socket()
    waiting.send(startup({"user": USER, "database": "app"}))
    def working():
        return pg.sql("select count(*) from pg_stat_activity where state = 'active' and query like '%60), 4711'")
    wait_until(lambda: working() == "1", 5, "connect_query")
    wire = console(pooler)
    assert tag(wire, "PAUSE") == "PAUSE"
    assert working() == "0", "it was cancelled"


def attempt(wire, command):
    """Whether it may be done now or not."""
    try:
        wire.query(command)
    except Refused as no:
        assert no.severity == "ERROR", no


def test_pauses_and_resumes_that_race(pooler):
    """None hangs, whatever comes between; traffic goes on at the end."""
    seed = int(os.environ.get("PGSLUICE_SEED", random.randrange(1 << 32)))
    print("seed", seed)
    stop, failures = threading.Event(), []

    def traffic():
        try:
            wire = pooler.wire()
            while not stop.is_set():
                assert wire.value("select 5") == "5"
            wire.close()
        except Exception as failure:
            failures.append(failure)

    def admin(number):
        try:
            dice = random.Random(seed + number)
            wire = pooler.wire(*ADMIN, database="pgbouncer")
            for _ in range(40 if SLOW else 100):
                command = dice.choice(["PAUSE", "RESUME", "PAUSE app", "RESUME app", "RECONNECT", "PAUSE app TIMEOUT '1s'",
                                       "SHOW POOLS", "WAIT_CLOSE"])
                attempt(wire, command)
                if command.startswith("PAUSE"):
                    attempt(wire, "RESUME app" if "app" in command else "RESUME")
            wire.close()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=traffic) for _ in range(4)]
    admins = [threading.Thread(target=admin, args=(i,)) for i in range(2)]
    for thread in threads + admins:
        thread.start()
    for thread in admins:
        thread.join(120)
        assert not thread.is_alive(), "an admin hangs"
    for command in ("RESUME", "RESUME app"):
        attempt(console(pooler), command)
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a client hangs"
    assert not failures, failures


def test_disable_and_enable(pooler):
    wire = console(pooler)
    client = pooler.wire()
    assert tag(wire, "DISABLE app") == "DISABLE"
    with pytest.raises(Refused) as no:
        pooler.wire()
    assert no.value.text == 'database "app" is disabled' and "ENABLE" in no.value.hint
    assert client.value("select 1") == "1", "who is in goes on"
    assert one(show(wire, "DATABASES"), name="app")["disabled"] == "1"
    assert tag(wire, "ENABLE app") == "ENABLE"
    assert pooler.wire().value("select 1") == "1"


def test_reconnect_and_wait_close(pooler, activity):
    wire = console(pooler)
    client, busy = pooler.wire(), pooler.wire()
    busy.query("begin")
    client.query("select 1")
    before = {row[0] for row in activity.backends()}
    assert tag(wire, "RECONNECT app") == "RECONNECT"
    in_background(wire, "WAIT_CLOSE app")
    assert not is_answered(wire, 0.3), "one is in a transaction"
    assert one(show(console(pooler), "SERVERS"), state="active")["close_needed"] == "1"
    assert busy.value("select 2") == "2"
    busy.query("commit")
    assert wire.ready().tags == ["WAIT_CLOSE"]
    assert client.value("select 3") == "3"
    assert not before & {row[0] for row in activity.backends()}


def test_kill(pooler, activity):
    wire = console(pooler)
    client, busy, neighbour = pooler.wire(), pooler.wire(), pooler.wire(database="other")
    busy.query("begin")
    neighbour.query("begin")
    assert tag(wire, "KILL app") == "KILL"
    for it in (client, busy):
        refusal = it.refusal()
        assert (refusal.severity, refusal.text) == ("FATAL", "database removed")
    activity.wait_count(0, "datname = 'app'")
    assert neighbour.value("select 1") == "1"
    assert one(show(wire, "DATABASES"), name="app")["paused"] == "1", "until RESUME"
    assert tag(wire, "RESUME app") == "RESUME"
    assert pooler.wire().value("select 1") == "1"


def test_kill_client(pooler):
    wire = console(pooler)
    client, other = pooler.wire(parameters={"application_name": "this"}), pooler.wire()
    it = one(show(wire, "CLIENTS"), application_name="this")
    assert tag(wire, "KILL_CLIENT " + it["id"]) == "KILL_CLIENT"
    refusal = client.refusal()
    assert (refusal.severity, refusal.text) == ("FATAL", "admin forced disconnect")
    assert other.value("select 1") == "1"
    assert error(wire, "KILL_CLIENT " + it["id"]).text == "client not found"


def test_suspend(pooler):
    wire = console(pooler)
    client = pooler.wire()
    assert tag(wire, "SUSPEND") == "SUSPEND"
    assert error(wire, "SUSPEND").text == "already suspended/paused"
    client.send(query("select 1"))
    assert not is_answered(client, 0.3)
    assert tag(wire, "RESUME") == "RESUME"
    assert client.ready().rows == [["1"]]
    assert tag(wire, "SUSPEND") == "SUSPEND"
    client.send(query("select 2"))
    wire.close()
    assert client.ready().rows == [["2"]], "it ends with the admin who gave it"


def test_set(pooler):
    wire = console(pooler)
    assert tag(wire, "SET default_pool_size = 1") == "SET default_pool_size=1"
    row = one(show(wire, "CONFIG"), key="default_pool_size")
    assert (row["value"], row["file"], row["line"]) == ("1", "SET", None)
    first, second = pooler.wire(), pooler.wire()
    first.query("begin")
    second.send(query("select 1"))
    wait_until(lambda: one(show(wire, "POOLS"), database="app")["cl_waiting"] == "1")
    assert tag(wire, "SET default_pool_size TO '5'") == "SET default_pool_size=5"
    assert second.ready().rows == [["1"]], "it takes effect at once"
    assert "auth_ldap_options" in error(wire, "SET auth_type = ldap").detail, "what it would come to is checked"
    assert tag(wire, "SET auth_type = hba") == "SET auth_type=hba"
    with pytest.raises(Refused):
        pooler.wire()  # there are no rules yet
    assert "restart" in error(wire, "SET listen_port = 1").detail
    assert tag(wire, "RELOAD") == "RELOAD"


# Those that PgBouncer has no default of; it shows NULL.
NULL_BY_DEFAULT = {"auth_dbname", "auth_file", "auth_ident_file", "auth_ldap_options", "auth_user", "conffile",
                   "client_tls13_ciphers", "server_tls13_ciphers", "user", "verbose"}


def test_config_shows_defaults_as_pgbouncer_does(pooler):
    rows = {row["key"]: row for row in show(console(pooler), "CONFIG")}
    assert {name for name, row in rows.items() if row["default"] is None} == NULL_BY_DEFAULT
    assert {name for name, row in rows.items() if row["value"] is None} == NULL_BY_DEFAULT - {"auth_file", "conffile", "verbose"}
    assert (rows["verbose"]["value"], rows["pidfile"]["value"]) == ("0", "")
    assert rows["job_name"]["default"] == rows["syslog_ident"]["default"] == "pgbouncer"
    assert (rows["unix_socket_mode"]["value"], rows["unix_socket_mode"]["default"]) == ("511", "0777")
    assert rows["tcp_defer_accept"]["changeable"] == "yes" and rows["listen_port"]["changeable"] == "no"


def test_pause_of_all_stands_above_the_others(pooler):
    wire = console(pooler)
    assert tag(wire, "PAUSE app") == "PAUSE"
    assert error(wire, "SUSPEND").text == "cannot suspend with paused databases"
    assert tag(wire, "PAUSE") == "PAUSE"
    for command in ("PAUSE", "PAUSE app", "PAUSE other", "SUSPEND", "KILL", "KILL other"):
        assert error(wire, command).text == "already suspended/paused", command
    paused = lambda: {row["name"] for row in show(wire, "DATABASES") if row["paused"] == "1"}  # noqa: E731
    assert paused() == {"app"}, "PAUSE of all is in SHOW STATE"
    assert tag(wire, "RESUME") == "RESUME"
    assert paused() == {"app"}, "as PgBouncer: it was paused by its name"
    assert error(wire, "RESUME").text == "pooler is not paused/suspended"
    before = len(pooler.log())
    pooler.signal(signal.SIGUSR2)
    wait_until(lambda: "got SIGUSR2, but not paused/suspended" in pooler.log()[before:])
    assert paused() == {"app"}
    assert tag(wire, "RESUME app") == "RESUME"
    for text in ("pausing all activity", "but already paused/suspended"):
        pooler.signal(signal.SIGUSR1)
        wait_until(lambda: "got SIGUSR1, " + text in pooler.log()[before:])
    pooler.signal(signal.SIGUSR2)
    wait_until(lambda: "got SIGUSR2, continuing from PAUSE" in pooler.log()[before:])
    assert tag(wire, "SUSPEND") == "SUSPEND"
    assert error(wire, "KILL other").text == "already suspended/paused"
    pooler.signal(signal.SIGUSR2)
    wait_until(lambda: "got SIGUSR2, continuing from SUSPEND" in pooler.log()[before:])


def test_a_cancel_ends_the_pause_that_is_waited_for(pooler):
    wire = console(pooler)
    client = pooler.wire()
    client.query("begin")
    assert tag(wire, "PAUSE other") == "PAUSE"
    in_background(wire, "PAUSE app")
    assert not is_answered(wire, 0.3)
    with Wire(pooler.address) as canceling:
        canceling.send(cancel_request(wire.pid, wire.secret))
    assert wire.ready().tags == ["PAUSE"]
    assert {row["name"] for row in show(wire, "DATABASES") if row["paused"] == "1"} == {"other"}
    assert tag(wire, "RESUME other") == "RESUME"


@pytest.mark.parametrize("settings", [{"stats_users": "bob"}, {"auth_type": "any"}], ids=["of stats_users", "anybody"])
def test_a_cancel_ends_no_command_of_an_admins(make_pooler, settings):
    pooler = make_pooler({"admin_users": USER, **settings}, databases={"app": "user=%s password=%s" % (USER, PASSWORD)})
    wire, other, client = console(pooler), console(pooler, STATS), pooler.wire()

    def cancels():
        before = len(re.findall("closing because: cancel request for idle client", pooler.log()))
        with Wire(pooler.address) as canceling:
            canceling.send(cancel_request(other.pid, other.secret))
            assert canceling.read() is None, "as a cancel of nothing"
        wait_until(lambda: len(re.findall("closing because: cancel request for idle client", pooler.log())) > before)

    client.query("begin")
    in_background(wire, "PAUSE")
    cancels()
    assert not is_answered(wire, 0.3), "nobody has ended it"
    client.query("commit")
    assert wire.ready().tags == ["PAUSE"]
    cancels()
    assert one(show(wire, "STATE"), key="paused")["value"] == "yes"
    assert tag(wire, "RESUME") == "RESUME"
    assert show(other, "VERSION"), "and it works on"


def test_a_cancel_of_an_admin_that_waits_for_nothing_is_resume(pooler):
    wire = console(pooler)
    assert tag(wire, "PAUSE") == "PAUSE"
    with Wire(pooler.address) as canceling:
        canceling.send(cancel_request(wire.pid, wire.secret))
    wait_until(lambda: one(show(wire, "STATE"), key="paused")["value"] == "no", 5, "the RESUME")


def test_names_that_only_the_wildcard_stands_for(make_pooler):
    """As PgBouncer: to end a command one must name what there is; the others make it be."""
    pooler = make_pooler({"admin_users": USER}, {"*": ""})
    wire = console(pooler)
    for command in ("RESUME nodb", "ENABLE nodb"):
        assert error(wire, command).text == "no such database: nodb"
        assert [row["name"] for row in show(wire, "DATABASES")] == ["pgbouncer"], "and it leaves nothing behind"
    assert tag(wire, "DISABLE nodb") == "DISABLE"
    assert error(wire, "RESUME nodb").text == "database nodb is not paused"
    assert tag(wire, "ENABLE nodb") == "ENABLE"


def test_pause_and_disable_go_with_their_entry(make_pooler, pg):
    """As PgBouncer: a database that a reload takes out and another puts back is a new one."""
    entries = {name: "host=127.0.0.1 port=%d dbname=app" % pg.port for name in ("one", "two", "stays")}
    pooler = make_pooler({"admin_users": USER}, entries)
    wire = console(pooler)
    assert tag(wire, "PAUSE one") == "PAUSE"
    for name in ("two", "stays"):
        assert tag(wire, "DISABLE " + name) == "DISABLE"
    pooler.databases = {"stays": entries["stays"]}
    pooler.reload()
    assert error(wire, "RESUME one").text == "no such database: one"
    pooler.databases = entries
    pooler.reload()
    for name in ("one", "two"):
        assert pooler.wire(database=name).value("select 1") == "1"
    with pytest.raises(Refused, match="disabled"):
        pooler.wire(database="stays")


def test_averages_include_the_period_under_way(make_pooler):
    """As PgBouncer: since the end of the period before the last one, so never only of what is over."""
    pooler = make_pooler({"admin_users": USER, "stats_period": 2})
    client, wire = pooler.wire(), console(pooler)
    pooler.wait_log("stats: ", 10)
    for _ in range(200):
        client.query("select 1")

    def average():
        return int(one(show(wire, "STATS_AVERAGES"), database="app")["query_count"])

    assert average() >= 200 // 4 // 2, "of four seconds at most"
    wait_until(lambda: average() == 0, 10, "both periods over")


def test_the_wait_of_a_running_query(pooler):
    client, wire = pooler.wire(), console(pooler)
    client.send(query("select pg_sleep(1)"))
    time.sleep(0.3)
    row = one(show(wire, "CLIENTS"), database="app")
    assert 200_000 <= int(row["wait"]) * 1_000_000 + int(row["wait_us"]) <= 1_000_000 * (5 if SLOW else 1), row
    client.ready()
    row = one(show(wire, "CLIENTS"), database="app")
    assert (row["wait"], row["wait_us"]) == ("0", "0")


def test_averages_before_the_first_period_has_ended(pooler):
    """As PgBouncer: those since the start."""
    client, wire = pooler.wire(), console(pooler)
    for _ in range(200):
        client.query("select 1")
    row = one(show(wire, "STATS"), database="app")
    assert row["total_query_count"] == "200" and int(row["avg_query_count"]) > 0 and int(row["avg_query_time"]) > 0
    assert int(one(show(wire, "STATS_AVERAGES"), database="app")["bytes_sent"]) > 0


def test_reload(pooler):
    wire = console(pooler)
    pooler.settings["max_client_conn"] = 55
    pooler.settings["listen_backlog"] = 77
    pooler.write()
    reply = wire.query("RELOAD")
    assert reply.tags == ["RELOAD"]
    told = [it["M"] for it in reply.notices]
    assert "changed: max_client_conn = 55 (was 100)" in told
    assert any(text.startswith("listen_backlog was changed in the file") for text in told), told
    before = show(wire, "CONFIG"), show(wire, "DATABASES")
    pooler.write_ini(open(pooler.ini).read() + "\nmax_client_conn = many\n")
    lines = open(pooler.ini).read().split("\n")
    it = error(wire, "RELOAD")
    assert (it.text, it.sqlstate) == ("RELOAD failed, see logs for additional details", "F0000")
    assert "%s:%d: max_client_conn = many" % (pooler.ini, lines.index("max_client_conn = many") + 1) in it.detail
    assert (show(wire, "CONFIG"), show(wire, "DATABASES")) == before
    pooler.write()


@pytest.mark.parametrize("command", ["SHUTDOWN", "SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN WAIT_FOR_CLIENTS"])
def test_shutdown(pooler, command):
    wire = console(pooler)
    client = pooler.wire()
    client.query("begin")
    wire.send(query(command))
    if command == "SHUTDOWN":
        assert pooler.exited() == 0
        assert wire.read() is None, "no answer, as with PgBouncer"
        return
    assert wire.ready().tags == ["SHUTDOWN"]
    with pytest.raises((Refused, OSError)):
        pooler.wire()
    assert client.value("select 1") == "1"
    for again in ("PAUSE", "SUSPEND", "SHUTDOWN WAIT_FOR_CLIENTS", command):
        assert error(wire, again).text == "pooler is shutting down", again
    assert client.value("select 1") == "1", "none of them ends it at once"
    client.query("commit")
    if command.endswith("CLIENTS"):
        assert client.value("select 2") == "2"
        client.close()
    assert pooler.exited() == 0


def test_a_stricter_shutdown_takes_over(pooler):
    """None that waits is ever immediate, whatever came before."""
    wire = console(pooler)
    client, idle = pooler.wire(), pooler.wire()
    client.query("begin")
    pooler.signal(signal.SIGTERM)
    wait_until(lambda: "waiting for all clients" in pooler.log())
    assert idle.value("select 1") == "1"
    assert tag(wire, "SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
    idle.send(query("select 1"))
    assert idle.refusal().text == "server shutting down"
    for command in ("SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN WAIT_FOR_SERVERS"):
        assert error(wire, command).text == "pooler is shutting down", command
    assert client.value("select 2") == "2"
    client.query("commit")
    assert pooler.exited() == 0


# ---- SHOW WHY ----

def test_why(make_pooler):
    pooler = make_pooler({"admin_users": USER, "default_pool_size": 1})
    wire = console(pooler)
    assert show(wire, "WHY") == []
    holder = pooler.wire(parameters={"application_name": "nightly"})
    holder.query("begin")
    waiters = [pooler.wire(parameters={"application_name": "web%d" % i}) for i in range(2)]
    for i, waiter in enumerate(waiters):
        waiter.send(query("select 1"))
        wait_until(lambda: len(show(wire, "WHY")) == i + 1)
    rows = show(wire, "WHY")
    assert [(row["application_name"], row["place"], row["limit"]) for row in rows] == [
        ("web0", "1", "pool_size"), ("web1", "2", "pool_size")]
    ids = {row["application_name"]: row["id"] for row in show(wire, "CLIENTS")}
    for row in rows:
        assert row["reason"] == "all 1 servers of the pool are in use"
        assert (row["holder"], row["holder_application_name"], row["holder_user"], row["holder_state"]) == (
            ids["nightly"], "nightly", USER, "idle in transaction")
        assert int(row["held_us"]) >= int(row["waiting_us"]) > 0
    assert [row["application_name"] for row in show(wire, "WHY " + ids["web1"])] == ["web1"]
    holder.query("commit")
    for waiter in waiters:
        assert waiter.ready().rows == [["1"]]
    assert show(wire, "WHY") == []
