"""The admin console: who gets in, every SHOW beside pg_stat_activity and /proc, every command with its effect and tag, by
psql, psycopg 3 in both protocols and the bare protocol."""
import os
import random
import re
import signal
import subprocess
import threading

import psycopg
import pytest

from pg import unprivileged
from pooler import PASSWORD, SLOW, USER, Clock, wait_until
from wire import Refused, Wire, cancel_request, query

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
                    "RECONNECT", "WAIT_CLOSE", "DISABLE app", "ENABLE app", "SHUTDOWN"):
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
    assert list(rows) == sorted(rows)


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
                    attempt(wire, "RESUME")
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
    attempt(console(pooler), "RESUME")
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
    assert "auth_hba_file" in error(wire, "SET auth_type = hba").detail, "what it would come to is checked"
    assert "restart" in error(wire, "SET listen_port = 1").detail
    assert tag(wire, "RELOAD") == "RELOAD"


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
        return
    assert wire.ready().tags == ["SHUTDOWN"]
    with pytest.raises((Refused, OSError)):
        pooler.wire()
    assert client.value("select 1") == "1"
    assert error(wire, "PAUSE").text == "pooler is shutting down"
    client.query("commit")
    if command.endswith("CLIENTS"):
        assert client.value("select 2") == "2"
        client.close()
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
