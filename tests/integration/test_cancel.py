"""CancelRequest: hits the query that was meant, at once, and never another one."""
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import psycopg
import pytest

from pooler import PASSWORD, USER, Clock, wait_until
from test_console import one as one_row
from test_console import show
from wire import Refused, Wire, bind, cancel_request, execute, extended, parse, query, sync

ONE = {"default_pool_size": 1}
CANCELED = "canceling statement due to user request"


def cancel(pooler, pid, secret):
    """Sends it and waits for the close that is the only answer."""
    with Wire(pooler.address) as wire:
        wire.send(cancel_request(pid, secret))
        assert wire.read() is None


def asleep(activity, count=1):
    wait_until(lambda: activity.count("state = 'active' and query like '%pg_sleep%'") == count, 5, "a query that runs")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("request_", [query("select pg_sleep(30)"), extended("select pg_sleep(30)") + sync()],
                         ids=["simple", "extended"])
def test_running_query(make_pooler, activity, request_, workers):
    pooler = make_pooler({"worker_threads": workers, **ONE})
    for _ in range(4):  # on every worker
        wire = pooler.wire()
        wire.send(request_)
        asleep(activity)
        clock = Clock()
        cancel(pooler, wire.pid, wire.secret)
        found = wire.ready()
        clock.assert_at(0)
        assert [(e.severity, e.sqlstate, e.text) for e in found.errors] == [("ERROR", "57014", CANCELED)]
        assert wire.value("select 1") == "1"
    assert activity.count() == 1
    for of in (r"C-0x[0-9a-f]+: \(nodb\)/\(nouser\)", r"S-0x[0-9a-f]+: app/app"):
        pooler.wait_log("LOG " + of + r"@127.0.0.1:\d+ closing because: successfully sent cancel request \(age=")


def test_running_query_by_psycopg(make_pooler, activity):
    client = make_pooler().connect()
    timer = threading.Timer(0.3, client.cancel)
    timer.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        client.execute("select pg_sleep(30)")
    timer.join()
    assert client.execute("select 1").fetchone() == (1,)


def test_running_query_by_psql_and_ctrl_c(make_pooler, activity):
    pooler = make_pooler()
    psql = subprocess.Popen(["psql", "-X", "-A", "-t", "-c", "select pg_sleep(30)", "-c", "select 'after'"],
                            env=pooler.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    asleep(activity)
    os.kill(psql.pid, signal.SIGINT)
    out, err = psql.communicate(timeout=20)
    assert CANCELED in err
    activity.wait_count(0, "state = 'active'")


def test_by_unix_socket(make_pooler, activity):
    pooler = make_pooler()
    wire = pooler.wire()
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    with Wire(pooler.socket_path) as other:
        other.send(cancel_request(wire.pid, wire.secret))
        assert other.read() is None
    assert wire.ready().errors[0].sqlstate == "57014"


def test_in_a_transaction(make_pooler, activity):
    wire = make_pooler(ONE).wire()
    wire.query("begin")
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    cancel_of(wire, activity)
    found = wire.ready()
    assert found.errors[0].sqlstate == "57014" and found.status == "E"
    assert wire.query("rollback").status == "I"


def cancel_of(wire, _):
    with Wire(wire.socket.getpeername()) as other:
        other.send(cancel_request(wire.pid, wire.secret))
        assert other.read() is None


@pytest.mark.parametrize("request_,types", [(query("select 1"), "EZ"), (extended("select 1") + sync(), "EZ")],
                         ids=["simple", "extended"])
def test_waiting_query(make_pooler, request_, types):
    """Answered at once, nothing of it is sent, and the client goes on."""
    pooler = make_pooler({"worker_threads": 2, **ONE})
    holder = pooler.wire()
    holder.query("begin")
    for _ in range(4):
        wire = pooler.wire()
        wire.send(request_)
        time.sleep(0.1)
        clock = Clock()
        cancel(pooler, wire.pid, wire.secret)
        found = wire.ready()
        clock.assert_at(0)
        assert found.types == types and found.status == "I"
        assert (found.errors[0].severity, found.errors[0].sqlstate) == ("ERROR", "57014")
        wire.send(query("select 2"))
    holder.query("commit")
    for wire in pooler.clients[1:]:
        assert wire.ready().rows == [["2"]]


def test_waiting_query_is_never_run(make_pooler):
    pooler = make_pooler(ONE)
    holder = pooler.wire()
    holder.query("drop table if exists run; create table run(n int)")
    holder.query("begin")
    wire = pooler.wire()
    wire.send(query("insert into run values (1)"))
    time.sleep(0.1)
    cancel(pooler, wire.pid, wire.secret)
    wire.ready()
    holder.query("commit")
    assert wire.value("select count(*) from run") == "0"


def test_idle_client(make_pooler, activity):
    """Nothing happens: not to the client, not to the server that was its last, not to who has it now."""
    pooler = make_pooler(ONE)
    idle, other = pooler.wire(), pooler.wire()
    idle.value("select 1")
    other.send(query("select pg_sleep(0.6), 7"))
    asleep(activity)
    for _ in range(5):
        cancel(pooler, idle.pid, idle.secret)
    assert other.ready().rows == [["", "7"]]
    assert idle.value("select 1") == "1"
    idle.query("begin")
    cancel(pooler, idle.pid, idle.secret)
    assert idle.query("commit").status == "I"
    assert pooler.log().count("closing because: cancel request for idle client") == 6


def test_wrong_key(make_pooler, activity):
    pooler = make_pooler()
    wire = pooler.wire()
    wire.send(query("select pg_sleep(0.6), 7"))
    asleep(activity)
    server = activity.backends()[0][0]
    wrong = bytes([wire.secret[0] ^ 1]) + wire.secret[1:]
    for pid, secret in ((wire.pid, wrong), (wire.pid ^ 1, wire.secret), (server, wire.secret), (0, b"\0\0\0\0"),
                        (wire.pid, wire.secret + b"\0"), (wire.pid, b"\0" * 32)):
        with Wire(pooler.address) as other:
            other.send(cancel_request(pid, secret))
            got = other.read()
            assert got is None or got.type == "E"
    assert wire.ready().rows == [["", "7"]]
    pooler.wait_log("closing because: failed cancel request")


def test_next_query_on_the_server_is_not_hit(make_pooler):
    """Cancels that come late, again and again: only the one who was meant may be hit."""
    pooler = make_pooler({"worker_threads": 2, **ONE})
    victim, bystander = pooler.wire(), pooler.wire()
    hit = 0
    for turn in range(200):
        victim.send(query("select pg_sleep(0.0005)"))
        bystander.send(query("select %d" % turn))
        with Wire(pooler.address) as other:
            other.send(cancel_request(victim.pid, victim.secret))
            hit += len(victim.ready().errors)
            found = bystander.ready()
            assert found.rows == [[str(turn)]] and not found.errors
            assert other.read() is None
        assert victim.value("select %d" % turn) == str(turn), "the client's own next query was hit"
    print("%d of 200 hit" % hit)


def test_storm(make_pooler, activity):
    """Many clients, many cancels, each of which may hit its own client only."""
    pooler = make_pooler({"default_pool_size": 3, "worker_threads": 2})
    victims, bystanders = [pooler.wire() for _ in range(4)], [pooler.wire() for _ in range(4)]
    stop, failures = threading.Event(), []

    def run(wire, may_be_hit, number):
        try:
            turn = 0
            while not stop.is_set():
                turn += 1
                wire.send(query("select pg_sleep(0.002), %d" % (number * 100000 + turn)))
                found = wire.ready()
                if found.errors:
                    assert may_be_hit and found.errors[0].sqlstate == "57014", found.errors
                else:
                    assert found.rows == [["", str(number * 100000 + turn)]]
        except BaseException as failure:
            failures.append(failure)

    def shoot():
        try:
            while not stop.is_set():
                for wire in victims:
                    cancel(pooler, wire.pid, wire.secret)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(wire, wire in victims, n)) for n, wire in enumerate(victims + bystanders)]
    threads += [threading.Thread(target=shoot) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert activity.count() <= 3


def test_batch_that_goes_on_after_the_cancel(make_pooler, activity):
    """A pipeline: the canceled query's batch ends, the next one runs."""
    wire = make_pooler(ONE).wire()
    wire.send(parse("select pg_sleep(30)") + bind() + execute() + sync() + extended("select 1") + sync())
    asleep(activity)
    cancel_of(wire, activity)
    assert wire.ready().errors[0].sqlstate == "57014"
    assert wire.ready().rows == [["1"]]


def test_cancel_when_the_servers_are_at_their_limit(make_pooler, activity):
    """The connection that carries the cancel needs no place in the pool."""
    pooler = make_pooler({"max_db_connections": 1, "max_client_conn": 1, **ONE})
    wire = pooler.wire()
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    cancel(pooler, wire.pid, wire.secret)
    assert wire.ready().errors[0].sqlstate == "57014"
    with pytest.raises(Refused):
        pooler.wire()


class Relay:
    """Between the pooler and PostgreSQL: counts cancel connections, and holds them back as long as it is told."""

    def __init__(self, pg):
        self.pg, self.cancels, self.now, self.most, self.lock = pg, 0, 0, 0, threading.Lock()
        self.before, self.never_end, self.open = 0, False, threading.Event()
        self.open.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        first = client.recv(1 << 16)
        cancels = len(first) >= 8 and struct.unpack("!I", first[4:8])[0] == 80877102
        if cancels:
            with self.lock:
                self.cancels, self.now = self.cancels + 1, self.now + 1
                self.most = max(self.most, self.now)
            time.sleep(self.before)
            self.open.wait(30)
        with client, socket.create_connection((self.pg.host, self.pg.port)) as server:
            server.sendall(first)
            other = threading.Thread(target=self._copy, args=(client, server), daemon=True)
            other.start()
            while cancels and self.never_end:
                time.sleep(0.05)
            self._copy(server, client)
        if cancels:
            with self.lock:
                self.now -= 1

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.never_end = False
        self.open.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def relay(pg):
    it = Relay(pg)
    yield it
    it.close()


def behind(relay):
    return {"app": "host=127.0.0.1 port=%d" % relay.port}


def shoot(pooler, wire, count):
    """Sends `count` cancels at once; returns the open connections."""
    wires = [Wire(pooler.address) for _ in range(count)]
    for one in wires:
        one.send(cancel_request(wire.pid, wire.secret))
    return wires


def test_many_cancels_of_one_query_are_one(make_pooler, activity, relay):
    relay.before = 0.3
    pooler = make_pooler(ONE, databases=behind(relay))
    wire = pooler.wire()
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    shots = shoot(pooler, wire, 100)
    newcomer = pooler.wire()  # logins are not held up
    assert wire.ready().errors[0].sqlstate == "57014"
    for one in shots:
        assert one.read() is None
    assert relay.cancels == 1
    assert newcomer.value("select 1") == "1"


def test_full_pool_of_sleepers(make_pooler, activity):
    """All canceled at once: done in a moment, though no server is free."""
    pooler = make_pooler({"default_pool_size": 20, "worker_threads": 2})
    wires = [pooler.wire() for _ in range(20)]
    for wire in wires:
        wire.send(query("select pg_sleep(60)"))
    asleep(activity, 20)
    clock = Clock()
    shots = [shoot(pooler, wire, 5) for wire in wires]
    for wire in wires:
        assert wire.ready().errors[0].sqlstate == "57014"
    clock.assert_at(0, 1)
    for some in shots:
        for one in some:
            assert one.read() is None
    assert wires[0].value("select 1") == "1"


def test_cancel_connections_are_bounded(make_pooler, activity, relay):
    relay.before = 0.2
    pooler = make_pooler({"default_pool_size": 3}, databases=behind(relay))
    wires = [pooler.wire() for _ in range(10)]
    for _ in range(5):
        for wire in wires:
            wire.send(query("select pg_sleep(0.1)"))
        shots = [one for wire in wires for one in shoot(pooler, wire, 3)]
        for wire in wires:
            wire.ready()
        for one in shots:
            assert one.read() is None
    assert 0 < relay.most <= 6


def test_what_show_pools_tells_of_a_cancel(make_pooler, activity, relay, pg):
    """Its query ends before it arrives: the server waits for it alone."""
    relay.open.clear()
    pooler = make_pooler({"admin_users": USER, "default_pool_size": 2}, databases=behind(relay))
    admin = pooler.wire(database="pgbouncer")
    names = ["cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active", "sv_active_cancel",
             "sv_being_canceled", "sv_idle"]

    def come_to(*figures):
        row = {}

        def there():
            row.update(one_row(show(admin, "POOLS"), database="app"))
            return [int(row[name]) for name in names] == list(figures)
        wait_until(there, 5, (figures, row))
    with Wire((pg.host, pg.port)).login(USER, PASSWORD, "app") as other:
        other.query("begin")
        other.query("select pg_advisory_xact_lock(7)")
        wire = pooler.wire()
        wire.send(query("select pg_advisory_xact_lock(7) -- pg_sleep"))
        asleep(activity)
        come_to(1, 0, 0, 0, 1, 0, 0, 0)
        shots = shoot(pooler, wire, 3)
        come_to(1, 0, 3, 0, 1, 1, 0, 0)
        other.query("commit")
    assert wire.ready().errors == []
    come_to(1, 0, 3, 0, 0, 1, 1, 0)
    assert [row["state"] for row in show(admin, "SERVERS")] == ["being_canceled"]
    assert sorted(row["state"] for row in show(admin, "CLIENTS") if row["database"] == "(nodb)") == ["active_cancel_req"] * 3
    relay.open.set()
    for one in shots:
        assert one.read() is None
    come_to(1, 0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("delay", [0, 0.05, 0.3])
def test_late_cancel_hits_nobody_else(make_pooler, activity, relay, delay):
    """However long the request takes on its way: the server belongs to the one who canceled until it is there."""
    relay.before = delay
    pooler = make_pooler({"worker_threads": 2, **ONE}, databases=behind(relay))
    victim, bystander = pooler.wire(), pooler.wire()
    for turn in range(8):
        victim.send(query("select pg_sleep(%s)" % (delay * turn / 4)))
        time.sleep(0.005)
        shots = shoot(pooler, victim, 2)
        bystander.send(query("select pg_sleep(0.05), %d" % turn))
        victim.ready()
        assert bystander.ready().rows == [["", str(turn)]]
        for one in shots:
            assert one.read() is None


def test_a_cancel_that_never_ends(make_pooler, activity, relay):
    """PostgreSQL does not close the cancel connection: after cancel_wait_timeout the server is given up."""
    relay.never_end = True
    pooler = make_pooler({"cancel_wait_timeout": 0.7, **ONE}, databases=behind(relay))
    files = pooler.open_files()
    wire = pooler.wire()
    server = wire.value("select pg_backend_pid()")
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    clock = Clock()
    shots = shoot(pooler, wire, 3)
    assert wire.ready().errors[0].sqlstate == "57014"
    for one in shots:
        assert one.read() is None
    clock.assert_at(0.7)
    pooler.wait_log("closing because: cancel_wait_timeout")
    relay.never_end = False
    other = pooler.wire()
    assert other.value("select pg_backend_pid()") != server
    for client in (wire, other, *shots):
        client.close()
    wait_until(lambda: pooler.open_files() <= files + 1, 5, "all descriptors given back")


@pytest.mark.parametrize("behind_it", [b"", b"X\0\0\0\4"], ids=["nothing", "terminate"])
def test_who_has_said_all_still_waits_for_the_cancel(make_pooler, activity, relay, behind_it):
    """A half-closed connection stays open until the cancel has had its effect, like any other."""
    relay.before = 0.4
    pooler = make_pooler(ONE, databases=behind(relay))
    wire = pooler.wire()
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    clock = Clock()
    with Wire(pooler.address) as other:
        other.send(cancel_request(wire.pid, wire.secret) + behind_it)
        other.socket.shutdown(socket.SHUT_WR)
        assert other.read() is None
    clock.assert_at(0.4)
    assert wire.ready().errors[0].sqlstate == "57014"
    assert wire.value("select 1") == "1"


@pytest.mark.parametrize("behind_it", [b"X\0\0\0\4", b"\0" * 5000, b"\xff" * 300],
                         ids=["terminate", "zeros", "ones"])
@pytest.mark.parametrize("half_closed", [False, True])
def test_bytes_behind_the_request_are_ignored(make_pooler, activity, behind_it, half_closed):
    pooler = make_pooler(ONE)
    wire = pooler.wire()
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    with Wire(pooler.address) as other:
        other.send(cancel_request(wire.pid, wire.secret) + behind_it)
        if half_closed:
            other.socket.shutdown(socket.SHUT_WR)
        other.send(behind_it)
        assert wire.ready().errors[0].sqlstate == "57014"
        assert other.read() is None
    assert wire.value("select 1") == "1"


def test_cancel_in_pieces(make_pooler, activity):
    pooler = make_pooler(ONE)
    wire = pooler.wire()
    wire.send(query("select pg_sleep(30)"))
    asleep(activity)
    with Wire(pooler.address) as other:
        for byte in cancel_request(wire.pid, wire.secret):
            other.send(bytes([byte]))
            time.sleep(0.005)
        assert other.read() is None
    assert wire.ready().errors[0].sqlstate == "57014"


def test_cancel_of_a_prepared_statement_that_waits_for_a_lock(make_pooler, activity):
    """What hangs may be a Parse of ours, put before the client's Bind."""
    pooler = make_pooler({"default_pool_size": 3})
    activity.pg.sql("drop table if exists locked; create table locked(n int); grant all on locked to app", "app")
    wire, other, locker = pooler.wire(), pooler.wire(), pooler.wire()
    wire.send(parse("select * from locked", "s") + sync())
    wire.ready()
    other.query("begin")  # takes the server that knows the statement
    locker.query("begin")
    locker.query("lock table locked")
    wire.send(bind(statement="s") + execute() + sync())
    wait_until(lambda: activity.count("wait_event_type = 'Lock'") == 1, 5, "it waits for the lock")
    cancel(pooler, wire.pid, wire.secret)
    found = wire.ready()
    assert found.errors[0].sqlstate == "57014" and found.status == "I"
    locker.query("rollback")
    other.query("rollback")
    wire.send(bind(statement="s") + execute() + sync())
    assert wire.ready().types == "2CZ"


def test_ten_thousand_cancels(make_pooler, activity):
    """Rapid cancels under load: no 57014 at a client that did not ask, no slot lost. PGSLUICE_LONG=1: all ten thousand."""
    wanted = 10000 if os.environ.get("PGSLUICE_LONG") else 1500
    pooler = make_pooler({"default_pool_size": 4, "worker_threads": 2})
    victims, bystanders = [pooler.wire() for _ in range(6)], [pooler.wire() for _ in range(6)]
    stop, failures, hit, sent = threading.Event(), [], [], []

    def run(number, wire, may_be_hit):
        try:
            turn = 0
            while not stop.is_set():
                turn += 1
                value = str(number * 1000000 + turn)
                wire.send(query("select pg_sleep(0.001), " + value) if turn % 3 else
                          extended("select pg_sleep(0.001), " + value) + sync())
                found = wire.ready()
                if found.errors:
                    assert may_be_hit and found.errors[0].sqlstate == "57014", found.errors
                    hit.append(1)
                else:
                    assert found.rows == [["", value]]
        except BaseException as failure:
            failures.append(failure)
            stop.set()

    def fire():
        try:
            while len(sent) < wanted and not stop.is_set():
                for wire in victims:
                    cancel(pooler, wire.pid, wire.secret)
                    sent.append(1)
        except BaseException as failure:
            failures.append(failure)
            stop.set()

    runners = [threading.Thread(target=run, args=(n, wire, wire in victims))
               for n, wire in enumerate(victims + bystanders)]
    shooters = [threading.Thread(target=fire) for _ in range(4)]
    for thread in runners + shooters:
        thread.start()
    for thread in shooters:
        thread.join()
    stop.set()
    for thread in runners:
        thread.join()
    assert not failures, failures[:3]
    assert hit, "nobody was hit"
    assert activity.count() <= 4
    for wire in victims + bystanders:  # every server is still to be had
        assert wire.value("select 1") == "1"
    holders = [pooler.wire() for _ in range(4)]
    for wire in holders:
        wire.query("begin")
    print("%d cancels, %d hit" % (len(sent), len(hit)))
