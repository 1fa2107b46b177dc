"""CancelRequest: hits the query that was meant, at once, and never another one."""
import os
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from pooler import Clock, wait_until
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
