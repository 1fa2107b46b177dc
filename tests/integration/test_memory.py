"""Bounded memory: however much passes through, and however slowly it is taken, pgsluice stays as small as it was.

A sanitizer build (PGSLUICE_SLOW=1) has its own ideas of memory: there less passes through, and only completion counts.
"""
import subprocess
import threading

import pytest

from pooler import SLOW, wait_until
from wire import bind, execute, message, parse, query, sync

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MUCH = 64 * MIB if SLOW else GIB
LONG = 8 * MIB if SLOW else 64 * MIB
ROW_BYTES = 64 * KIB


class Growth:
    """KiB that the process had more, at its highest, than when this was entered."""

    def __init__(self, pooler):
        self.pooler = pooler

    def __enter__(self):
        wire = self.pooler.wire()  # what only the first use of everything allocates is no growth
        for _ in range(20):
            wire.query("select repeat('x', 100000)")
            wire.query("select length('%s')" % ("x" * 100000))
        with open("/proc/%d/clear_refs" % self.pooler.process.pid, "w") as file:
            file.write("5")  # VmHWM starts again
        self.before = self.pooler.memory()
        return self

    def __exit__(self, *_):
        self.kib = self.pooler.memory("VmHWM") - self.before
        print("grew by %d KiB from %d KiB" % (self.kib, self.before))

    def assert_below(self, kib):
        assert SLOW or self.kib < kib, "grew by %d KiB, from %d KiB" % (self.kib, self.before)


@pytest.mark.parametrize("workers", [1, 2])
def test_result_of_a_gibibyte(make_pooler, workers):
    pooler = make_pooler({"worker_threads": workers})
    sql = "copy (select repeat('x', %d) from generate_series(1, %d)) to stdout" % (ROW_BYTES, MUCH // ROW_BYTES)
    with Growth(pooler) as growth:
        psql = subprocess.Popen(["psql", "-X", "-q", "-c", sql], env=pooler.environment(), stdout=subprocess.PIPE)
        got = 0
        while True:
            piece = psql.stdout.read1(MIB)
            if not piece:
                break
            got += len(piece)
        assert psql.wait() == 0
    assert got == MUCH // ROW_BYTES * (ROW_BYTES + 1)
    growth.assert_below(1024)


def test_rows_of_a_gibibyte_by_select(make_pooler):
    """DataRow messages, each of several buffers."""
    pooler = make_pooler()
    with Growth(pooler) as growth:
        wire = pooler.wire(timeout=120)
        wire.send(query("select repeat('x', %d) from generate_series(1, %d)" % (MIB, MUCH // 4 // MIB)))
        got, tail = 0, b""
        while not tail.endswith(b"Z\0\0\0\5I"):
            piece = wire.socket.recv(MIB)
            assert piece
            got += len(piece)
            tail = (tail + piece)[-6:]
    assert got > MUCH // 4
    growth.assert_below(1024)


@pytest.mark.parametrize("workers", [1, 2])
def test_copy_in_of_a_gibibyte(make_pooler, workers):
    pooler = make_pooler({"worker_threads": workers})
    pooler.wire().query("drop table if exists sink; create unlogged table sink(line text)")
    line = b"x" * (ROW_BYTES - 1) + b"\n"
    piece = message("d", line) * (MIB // ROW_BYTES)
    with Growth(pooler) as growth:
        wire = pooler.wire(timeout=120)
        wire.send(query("copy sink from stdin where false"))
        wire.until("G")
        for _ in range(MUCH // MIB):
            wire.send(piece)
        wire.send(message("c"))
        found = wire.ready()
    assert found.tags == ["COPY 0"]
    growth.assert_below(1024)


def test_long_query(make_pooler):
    pooler = make_pooler()
    with Growth(pooler) as growth:
        wire = pooler.wire(timeout=120)
        assert wire.value("select length('%s')" % ("x" * LONG)) == str(LONG)
    growth.assert_below(1024)


def test_long_bind_value_and_long_parse(make_pooler):
    pooler = make_pooler()
    with Growth(pooler) as growth:
        wire = pooler.wire(timeout=120)
        wire.send(parse("select length($1)") + bind([b"x" * LONG]) + execute() + sync())
        assert wire.ready().rows == [[str(LONG)]]
        wire.send(parse("select length('%s')" % ("y" * LONG)) + bind() + execute() + sync())
        assert wire.ready().rows == [[str(LONG)]]
        wire.send(query("select repeat('x', %d)" % LONG))
        assert len(wire.ready().rows[0][0]) == LONG
    growth.assert_below(1024)


def test_long_query_of_a_waiting_client(make_pooler):
    """It waits for a server: what it has sent is held, what it has not stays with it."""
    pooler = make_pooler({"default_pool_size": 1})
    holder = pooler.wire()
    with Growth(pooler) as growth:
        holder.query("begin")
        waiting = [pooler.wire(timeout=120) for _ in range(10)]
        sent = query("select length('%s')" % ("x" * (LONG // 8)))
        threads = [threading.Thread(target=wire.send, args=(sent,)) for wire in waiting]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.2)
        holder.query("commit")
        for wire, thread in zip(waiting, threads):
            assert wire.ready().rows == [[str(LONG // 8)]]
            thread.join()
    growth.assert_below(10 * 128)


def test_clients_that_do_not_read(make_pooler, activity):
    """Each stops its server, not the pooler, and holds two buffers at most; then they read after all, or go."""
    count = 20 if SLOW else 100
    pooler = make_pooler({"default_pool_size": count, "max_client_conn": 300})
    wires = [pooler.wire(timeout=60) for _ in range(count)]
    with Growth(pooler) as growth:
        for wire in wires:
            wire.send(query("select repeat('x', 65536) from generate_series(1, 1000)"))
        wait_until(lambda: activity.count("state = 'active' and wait_event = 'ClientWrite'") == count, 60,
                   "servers that all wait for us")
    growth.assert_below(count * 128)
    for wire in wires[:3]:
        found = wire.ready()
        assert len(found.rows) == 1000 and found.status == "I"
    for wire in wires[3:]:
        wire.reset()
    wait_until(lambda: activity.count("state = 'active'") == 0, 10, "all servers released or gone")
    assert pooler.wire().value("select 1") == "1"


def test_servers_that_do_not_read(make_pooler, activity):
    """The other way: COPY data for a server that is stopped stays with the clients."""
    pooler = make_pooler({"default_pool_size": 20})
    pooler.wire().query("drop table if exists sink; create unlogged table sink(line text);"
                        "drop table if exists gate; create table gate()")
    lock = pooler.wire()
    wires = [pooler.wire(timeout=60) for _ in range(10)]
    with Growth(pooler) as growth:
        lock.query("begin; lock table gate")
        for wire in wires:  # the server reads nothing before it has the lock
            wire.send(query("select from gate"))
        sent = query("select length('%s')" % ("x" * (8 * MIB)))
        threads = [threading.Thread(target=wire.send, args=(sent,)) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.1)
        lock.query("commit")
        for wire, thread in zip(wires, threads):
            wire.ready()
            assert wire.ready().rows == [[str(8 * MIB)]]
            thread.join()
    growth.assert_below(10 * 128 + 1024)


def test_claims_of_two_gibibytes(make_pooler):
    """A length field alone makes nothing grow."""
    pooler = make_pooler({"max_client_conn": 400, "default_pool_size": 5})
    with Growth(pooler) as growth:
        wires = [pooler.wire() for _ in range(200)]
        for wire in wires:
            wire.send(b"Q\x7f\xff\xff\xff" + b"select 1")
        halves = [pooler.socket() for _ in range(100)]
        for wire in halves:
            wire.send(b"\0\0\x27\x10\0\3\0\0user\0")
        assert pooler.wire(database="other").value("select 1") == "1"
    growth.assert_below(300 * 16 + 1024)


def test_idle_clients_are_small(make_pooler):
    pooler = make_pooler({"max_client_conn": 2000})
    few = [pooler.wire() for _ in range(100)]
    for wire in few:
        wire.query("select repeat('x', 20000)")
    before = pooler.memory()
    for wire in [pooler.wire() for _ in range(800)]:
        wire.query("select repeat('x', 20000)")
    each = (pooler.memory() - before) * 1024 / 800
    print("%d bytes for each idle client" % each)
    assert SLOW or each < 4096


def test_long_messages_leave_nothing_behind_in_their_clients(make_pooler):
    """Clients that wait for the one server with the beginning of a long query in hand, and then rest. What they held is
    free for the next ones; whether the C library gives it back to the system in between is its own affair."""
    pooler = make_pooler({"default_pool_size": 1, "max_client_conn": 300})
    waves = [[pooler.wire(timeout=120) for _ in range(40)] for _ in range(5)]
    before = pooler.memory()
    for clients in waves:
        for wire in clients:
            wire.send(query("select length('%s')" % ("x" * 200 * KIB)))
        for wire in clients:
            assert wire.ready().rows == [[str(200 * KIB)]]
    held_at_once = 40 * 64
    assert SLOW or pooler.memory() - before < 2 * held_at_once, "%d KiB after %d KiB" % (pooler.memory(), before)
