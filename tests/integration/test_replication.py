"""Replication through pgsluice in transaction mode: PostgreSQL's own tools, a standby, and the bare protocol. Each such
client has a server of its own, counted like any other and never given to another client."""
import os
import shutil
import signal
import struct
import subprocess
import threading
import time

import pytest

from pg import Postgres, stop_process, temporary_directory, unprivileged
from pooler import SLOW, USER, Clock, wait_until
from wire import Refused, cancel_request, extended, message, query, startup, sync

REPL = {"user": "repl", "password": "replpassword"}
PHYSICAL, LOGICAL = {"replication": "true"}, {"replication": "database"}


def databases(**more):
    return {"app": "", "replication": "", "logged": "", **more}


def replica(pooler, parameters=PHYSICAL, database="app", **more):
    return pooler.wire("repl", "replpassword", database, parameters, **more)


def walsenders(activity, where="true"):
    return [row[0] for row in activity.rows(
        "select pid from pg_stat_activity where backend_type = 'walsender' and (%s) order by 1" % where)]


def no_walsender(activity):
    wait_until(lambda: walsenders(activity) == [], 10, "no walsender left")


@pytest.fixture(autouse=True)
def clean(pg):
    """Slots do not outlive their test, nor do walsenders."""
    yield
    wait_until(lambda: pg.sql("select count(*) from pg_stat_activity where backend_type = 'walsender'") == "0", 10)
    pg.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots")


@pytest.fixture
def directory():
    path = temporary_directory("pgsluice-wal-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Tool:
    """A program of PostgreSQL's that runs on; `text` is what it has printed."""

    def __init__(self, pg, pooler, name, *arguments, database="app"):
        self.file = os.path.join(pooler.directory, name + ".out")
        with open(self.file, "wb") as out:
            self.process = subprocess.Popen(
                unprivileged() + [os.path.join(pg.bin, name), *arguments], cwd="/", stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, env=pooler.environment("repl", "replpassword", database), start_new_session=True)

    @property
    def text(self):
        with open(self.file, errors="replace") as file:
            return file.read()

    def stop(self):
        """Asks it to end as a user does; its status."""
        return stop_process(self.process, signal.SIGINT)

    def finish(self, seconds=60):
        status = self.process.wait(seconds)
        assert status == 0, self.text
        return self.text


def run(pg, pooler, name, *arguments, **more):
    """One that ends by itself: to its end."""
    return Tool(pg, pooler, name, *arguments, **more).finish()


def some_wal(pg):
    """Writes some; the place up to which it is flushed."""
    pg.sql("select pg_switch_wal()")
    pg.sql("create table if not exists wal(t text); set synchronous_commit = on; "
           "insert into wal select repeat('x', 100) from generate_series(1, 99)", "app")
    return pg.sql("select pg_current_wal_flush_lsn()")


# ---- the bare protocol ----

def until_data(wire):
    """Messages up to the first CopyData of a stream."""
    return wire.until("d")


def start(wire, pg, slot=""):
    """START_REPLICATION from what is there now, up to CopyBothResponse."""
    wire.send(query("START_REPLICATION %s %s" % (slot, pg.sql("select pg_current_wal_flush_lsn()"))))
    return wire.until("W")


def end_stream(wire):
    """CopyDone, and everything up to ReadyForQuery but the data."""
    wire.send(message("c"))
    return [it for it in wire.ready() if it.type != "d"]


STATUS = message("d", b"r" + struct.pack("!QQQQ?", 0, 0, 0, 0, True))  # standby status update; wants an answer


@pytest.mark.parametrize("parameters", [PHYSICAL, {"replication": "ON"}, {"replication": "1"}, {"replication": "y"},
                                        LOGICAL], ids=lambda it: it["replication"])
def test_stream_and_go_on(pg, make_pooler, activity, parameters):
    pooler = make_pooler({"default_pool_size": 1})
    wire = replica(pooler, {"application_name": "me", **parameters})
    assert wire.parameters["application_name"] == "me" and wire.parameters["server_version"].startswith("1")
    pids = walsenders(activity)
    assert len(pids) == 1
    assert len(wire.query("IDENTIFY_SYSTEM").rows[0]) == 4
    for _ in range(3):
        assert start(wire, pg).types == "W"
        assert activity.rows("select pid, application_name, usename from pg_stat_replication") == [
            (pids[0], "me", "repl")]
        some_wal(pg)
        until_data(wire)
        wire.send(STATUS)
        until_data(wire)
        ended = end_stream(wire)
        assert [it.type for it in ended] in (["c", "C", "C", "Z"], ["c", "C", "Z"]), ended
    assert walsenders(activity) == pids
    with pytest.raises(Refused) as no:
        wire.query("TIMELINE_HISTORY 77")
    assert no.value.sqlstate == "58P01"
    assert wire.query("IDENTIFY_SYSTEM").status == "I"
    wire.close()
    no_walsender(activity)


def test_value_of_replication(make_pooler, activity):
    pooler = make_pooler()
    for value in ("false", "off", "0", "no", "F"):
        wire = pooler.wire(parameters={"replication": value})
        assert wire.value("select 1") == "1"
    assert walsenders(activity) == []
    for value in ("maybe", "", "o", "2", "Database", "true "):
        wire = pooler.socket()
        wire.send(startup({"user": "repl", "replication": value}))
        no = wire.refusal()
        assert (no.severity, no.sqlstate) == ("FATAL", "22023")
        assert no.text == 'invalid value for parameter "replication": "%s"' % value
    pooler.wire("repl", "replpassword", "app", PHYSICAL)
    pooler.wire("repl", "replpassword", "app", LOGICAL)
    for word in ("no", "yes", "database"):
        pooler.wait_log(r"login attempt: db=app user=\w+ tls=no replication=%s\n" % word)


def test_startup_parameters_are_the_clients(make_pooler, activity):
    """Whatever PostgreSQL takes; what the entry says beside it holds where the client says nothing."""
    pooler = make_pooler(databases={"app": "application_name=entry timezone=Asia/Tokyo"})
    wire = replica(pooler, {**LOGICAL, "options": "-e -c geqo=off", "work_mem": "3MB"})
    assert wire.value("show geqo") == "off" and wire.value("show work_mem") == "3MB"
    assert wire.parameters["DateStyle"] == "ISO, DMY" and wire.parameters["TimeZone"] == "Asia/Tokyo"
    assert wire.parameters["application_name"] == "entry"
    wire = replica(pooler, {**LOGICAL, "application_name": "mine"})
    assert wire.parameters["application_name"] == "mine" and wire.value("show work_mem") == "4MB"
    with pytest.raises(Refused) as no:
        replica(pooler, {**LOGICAL, "nonsense": "1"})
    assert no.value.sqlstate == "42704" and "nonsense" in no.value.text


def test_servers_refusals_are_the_clients(make_pooler, activity):
    """As with a direct connection; and they mean nothing for the pool."""
    pooler = make_pooler({"default_pool_size": 20}, databases(nowhere="dbname=nowhere", trustdb=""))
    for parameters in (PHYSICAL, LOGICAL):
        with pytest.raises(Refused) as no:
            pooler.wire(parameters=parameters)
        assert no.value.severity == "FATAL" and no.value.sqlstate == "42501", no.value.fields
        assert "replication" in no.value.text
    with pytest.raises(Refused) as no:
        replica(pooler, LOGICAL, "nowhere")
    assert no.value.sqlstate == "3D000"
    assert replica(pooler, PHYSICAL, "nowhere").query("IDENTIFY_SYSTEM").status == "I"  # needs no database
    assert pooler.wire().value("select 1") == "1"
    most = int(activity.rows("show max_wal_senders")[0][0])
    for _ in range(most - 1):
        replica(pooler)
    with pytest.raises(Refused) as no:
        replica(pooler)
    assert no.value.sqlstate == "53300" and "max_wal_senders" in no.value.text
    assert len(walsenders(activity)) == most


def test_server_is_told_nothing_of_ours(pg, make_pooler, activity):
    pooler = make_pooler({"server_reset_query_always": 1, "server_check_delay": 0, "client_disconnect_action": "cancel"},
                         {"logged": "connect_query='select 4711'"})
    wire = replica(pooler, LOGICAL, "logged")
    (pid,) = walsenders(activity)
    wire.query("begin")
    wire.query("set work_mem = '5MB'")
    wire.query("copy (select 1) to stdout")
    with pytest.raises(Refused):
        wire.query("select 1/0")
    wire.close()
    no_walsender(activity)
    said = [line.split("statement: ")[1] for line in pg.log_text().splitlines()
            if "[%d]" % pid in line and "LOG:  statement: " in line]
    assert said == ["begin", "set work_mem = '5MB'", "copy (select 1) to stdout", "select 1/0"]


def test_extended_protocol_is_the_servers_business(make_pooler, activity):
    wire = replica(make_pooler(), LOGICAL)
    wire.send(extended("select 1", statement="mine") + sync())
    assert [it.sqlstate for it in wire.ready().errors] == ["08P01"]
    assert wire.value("select 2") == "2"


def test_never_reused(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 3, "server_lifetime": 3600})
    ordinary = pooler.wire("repl", "replpassword")
    server = ordinary.value("select pg_backend_pid()")
    seen = set()
    for parameters in (PHYSICAL, LOGICAL, PHYSICAL, LOGICAL):
        wire = replica(pooler, parameters)
        seen.update(walsenders(activity))
        assert ordinary.value("select pg_backend_pid()") == server
        wire.close()
        no_walsender(activity)
    assert len(seen) == 4
    assert activity.backends("usename = 'repl'")[0][0] == int(server)
    assert activity.count() == 1


# ---- limits ----

LIMITS = [({"default_pool_size": 1}, {}), ({"default_pool_size": 9, "max_db_connections": 1}, {}),
          ({"default_pool_size": 9, "max_user_connections": 1}, {}), ({}, {"app": "pool_size=1"})]


@pytest.mark.parametrize("settings, entries", LIMITS, ids=["pool_size", "db", "user", "entry"])
def test_an_idle_server_makes_room(make_pooler, activity, settings, entries):
    pooler = make_pooler({"query_wait_timeout": 10, **settings}, {**databases(), **entries})
    ordinary = pooler.wire("repl", "replpassword")
    for _ in range(3):
        assert ordinary.value("select 1") == "1"
        assert activity.count() == 1
        clock = Clock()
        wire = replica(pooler)
        clock.assert_at(0, 3 if SLOW else 1)
        assert (activity.count(), len(walsenders(activity))) == (0, 1)
        ordinary.send(query("select 2"))
        assert wire.query("IDENTIFY_SYSTEM").status == "I"
        wire.close()
        assert ordinary.ready().rows == [["2"]]
        assert (activity.count(), len(walsenders(activity))) == (1, 0)


@pytest.mark.parametrize("settings, entries", LIMITS, ids=["pool_size", "db", "user", "entry"])
def test_it_waits_in_line(make_pooler, activity, settings, entries):
    """Behind who came before, ahead of who comes later; and no longer than query_wait_timeout."""
    pooler = make_pooler({"query_wait_timeout": 1, "admin_users": USER, **settings}, {**databases(), **entries})
    busy, later = pooler.wire("repl", "replpassword"), pooler.wire("repl", "replpassword")
    busy.query("begin")
    clock = Clock()
    with pytest.raises(Refused) as no:
        replica(pooler)
    assert no.value.text == "query_wait_timeout"
    clock.assert_at(1)
    wire = pooler.socket()
    wire.send(startup({"user": "repl", "database": "app", **PHYSICAL}))
    got = []
    thread = threading.Thread(target=lambda: got.append(wire.authenticate("repl", "replpassword")))
    thread.start()
    console = pooler.wire(database="pgbouncer")
    wait_until(lambda: sum(int(row[3]) for row in console.query("SHOW POOLS").rows) == 1, 5, "it is in the line")
    later.send(query("select 'later'"))
    busy.query("commit")
    thread.join()
    assert got and wire.query("IDENTIFY_SYSTEM").status == "I"
    assert (activity.count(), len(walsenders(activity))) == (0, 1)
    wire.close()
    assert later.ready().rows == [["later"]]


def test_client_limits(make_pooler, activity):
    pooler = make_pooler({"max_db_client_connections": 1})
    first = replica(pooler)
    with pytest.raises(Refused) as no:
        replica(pooler)
    assert no.value.text == "client connections exceeded (max_db_client_connections)"
    first.close()
    no_walsender(activity)
    replica(pooler)


def test_gone_while_waiting_or_connecting(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 1, "worker_threads": 2})
    ordinary = pooler.wire("repl", "replpassword")
    for _ in range(20):
        wire = pooler.socket()
        wire.send(startup({"user": "repl", "database": "app", **PHYSICAL}))
        wire.read()
        wire.reset()
        assert ordinary.value("select 1") == "1"
    assert activity.count() <= 1
    no_walsender(activity)


# ---- ends ----

def endless(wire, pg):
    start(wire, pg)


def backup(wire, pg):
    """Not read, so that it does not end."""
    wire.send(query("BASE_BACKUP ( CHECKPOINT 'fast' )"))
    wire.until("d")


@pytest.mark.parametrize("action", ["cancel", "close"])
@pytest.mark.parametrize("work", [endless, backup], ids=["stream", "backup"])
def test_client_goes(pg, make_pooler, activity, work, action):
    pooler = make_pooler({"default_pool_size": 1, "client_disconnect_action": action})
    for way in (lambda wire: wire.socket.close(), lambda wire: wire.reset(), lambda wire: wire.close()):
        wire = replica(pooler)
        work(wire, pg)
        assert len(walsenders(activity)) == 1
        clock = Clock()
        way(wire)
        no_walsender(activity)
        clock.assert_at(0, 6 if SLOW else 2)


@pytest.mark.parametrize("work", [endless, backup], ids=["stream", "backup"])
def test_cancel(pg, make_pooler, activity, work):
    pooler = make_pooler()
    wire = replica(pooler)
    work(wire, pg)
    canceling = pooler.socket()
    canceling.send(cancel_request(wire.pid, wire.secret))
    answers = wire.ready()
    assert [it.sqlstate for it in answers.errors] == ["57014"]
    assert wire.query("IDENTIFY_SYSTEM").status == "I"
    assert len(walsenders(activity)) == 1


def test_server_goes(pg, make_pooler, activity):
    pooler = make_pooler()
    wire = replica(pooler)
    endless(wire, pg)
    activity.rows("select pg_terminate_backend(%d)" % walsenders(activity)[0])
    assert wire.refusal().sqlstate == "57P01"
    assert replica(pooler).query("IDENTIFY_SYSTEM").status == "I"


def test_reload_that_moves_the_database(pg, make_pooler, activity):
    pooler = make_pooler(databases={"app": ""})
    wire, ordinary = replica(pooler), pooler.wire("repl", "replpassword")
    endless(wire, pg)
    pooler.reload()
    wire.send(STATUS)
    until_data(wire)  # nothing has changed for it
    pooler.databases["app"] += " application_name=moved"
    pooler.reload()
    wire.refusal()
    no_walsender(activity)
    assert replica(pooler).parameters["application_name"] == "moved"
    assert ordinary.value("select 1") == "1"


def test_timeouts(pg, make_pooler, activity):
    """None ends a stream or a long command; a client that asks nothing is idle."""
    pooler = make_pooler({"query_timeout": 0.3, "idle_transaction_timeout": 0.3, "transaction_timeout": 0.3,
                          "client_idle_timeout": 0.6, "server_idle_timeout": 0.3, "server_lifetime": 0.3})
    stream, logical = replica(pooler), replica(pooler, LOGICAL)
    endless(stream, pg)
    logical.query("begin")
    time.sleep(1)
    stream.send(STATUS)
    until_data(stream)
    assert logical.query("select pg_sleep(0.5)").status == "T"
    logical.query("commit")
    clock = Clock()
    assert logical.refusal().text == "client_idle_timeout"
    clock.assert_at(0.55)
    stream.send(STATUS)
    until_data(stream)


# ---- PostgreSQL's own clients ----

def test_pg_receivewal(pg, make_pooler, activity, directory):
    pooler = make_pooler({"default_pool_size": 1}, databases())
    run(pg, pooler, "pg_receivewal", "--create-slot", "-S", "wal")
    no_walsender(activity)
    tool = Tool(pg, pooler, "pg_receivewal", "-D", directory, "-S", "wal", "--synchronous", "--no-loop", "-v")
    wait_until(lambda: activity.rows("select 1 from pg_stat_replication where state = 'streaming'"), 10, tool.text)
    for _ in range(3):
        written = some_wal(pg)
        wait_until(lambda: activity.rows("select 1 from pg_stat_replication where flush_lsn >= '%s'" % written), 20,
                   "all of it flushed there: " + tool.text)
    assert len(walsenders(activity)) == 1
    assert tool.stop() == 0, tool.text
    no_walsender(activity)
    assert len([name for name in os.listdir(directory) if not name.endswith(".partial")]) >= 3
    run(pg, pooler, "pg_receivewal", "--drop-slot", "-S", "wal")


@pytest.mark.parametrize("how", ["stream", "fetch"])
def test_pg_basebackup(pg, make_pooler, activity, directory, how):
    pooler = make_pooler({"default_pool_size": 2 if how == "stream" else 1}, databases())
    for turn in range(2):
        target = os.path.join(directory, str(turn))
        run(pg, pooler, "pg_basebackup", "-D", target, "-X", how, "-c", "fast", "--no-sync")
        run(pg, pooler, "pg_verifybackup", target)
        no_walsender(activity)
    pooler.wait_log("replication=yes")


def test_pg_recvlogical(pg, make_pooler, activity, directory):
    pooler = make_pooler({"default_pool_size": 2}, databases())
    pg.sql("drop table if exists changes; create table changes(n int)", "app")
    run(pg, pooler, "pg_recvlogical", "-d", "app", "-S", "changes", "--create-slot", "-P", "test_decoding")
    out = os.path.join(directory, "out")
    tool = Tool(pg, pooler, "pg_recvlogical", "-d", "app", "-S", "changes", "--start", "-f", out, "--no-loop", "-F", "1")
    ordinary = pooler.wire("repl", "replpassword")

    def arrived():
        if not os.path.exists(out):
            return ""
        with open(out) as file:
            return file.read()
    for turn in range(100):
        pg.sql("insert into changes values (%d)" % turn, "app")
        assert ordinary.value("select 1") == "1"
        if turn % 10 == 9:
            wait_until(lambda: "INSERT: n[integer]:%d" % turn in arrived(), 10, tool.text)
    assert len(walsenders(activity)) == 1 and activity.count() == 1
    assert tool.stop() == 0, tool.text
    no_walsender(activity)
    assert sum("INSERT" in line for line in arrived().splitlines()) == 100
    run(pg, pooler, "pg_recvlogical", "-d", "app", "-S", "changes", "--drop-slot")


def test_standby(make_pooler, activity):
    """It follows its primary through the pooler, and again after the primary was restarted."""
    hba = ["host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256",
           "local replication all trust"]
    with Postgres(hba=hba) as primary:
        primary.create_user("repl", "replpassword", "replication")
        primary.sql("create table t(n int)")
        pooler = make_pooler({"default_pool_size": 1, "server_login_retry": 0.1},
                             {"replication": "host=127.0.0.1 port=%d" % primary.port})
        standby = Postgres({"wal_retrieve_retry_interval": "100ms"}, primary=primary)
        try:
            with open(os.path.join(standby.data, "postgresql.auto.conf"), "a") as file:
                file.write("primary_conninfo = 'host=127.0.0.1 port=%d user=repl password=replpassword sslmode=disable "
                           "application_name=follower'\n" % pooler.port)
            standby.start()
            for turn in (1, 2):
                primary.sql("insert into t values (%d)" % turn)
                wait_until(lambda: standby.sql("select max(n) from t") == str(turn), 20, standby.log_text()[-3000:])
                assert primary.sql("select application_name, state from pg_stat_replication") == "follower|streaming"
                if turn == 1:
                    primary.restart()  # it says goodbye to walsenders in a way of its own
            assert "unknown pkt" not in pooler.log()
        finally:
            standby.remove()
