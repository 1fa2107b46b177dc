"""[peers]: cancels that arrive at another process than the one whose client they are for. Two and three processes behind
one so_reuseport port. PGSLUICE_LONG=1: 1 000 cancels instead of 60."""
import os
import random
import re
import socket
import struct
import threading
import time

import psycopg
import pytest

from certificates import Certificates
from pg import free_port
from pooler import PASSWORD, SLOW, USER, Clock, Pooler, wait_until
from test_console import one, show
from wire import Wire, cancel_request, query

LONG = os.environ.get("PGSLUICE_LONG", "0") not in ("", "0")
V32 = 0x30002


@pytest.fixture
def cluster(pg, activity, end_poolers):
    """cluster(count, settings): processes with the peer_ids 1 to count behind one port, each with a socket of its own."""
    started = []

    def make(count, settings=None, each=None, databases=None):
        port = free_port()
        for i in range(count):
            pooler = Pooler(databases or {"app": "host=127.0.0.1 port=%d" % pg.port}, {
                "so_reuseport": 1, "peer_id": i + 1, "admin_users": USER, "default_pool_size": 20, "verbose": 1,
                "max_client_conn": 500, **(settings or {}), **((each or {}).get(i + 1, {}))})
            if not pooler.settings["so_reuseport"]:
                port = free_port()
            pooler.port, pooler.address = port, ("127.0.0.1", port)
            pooler.settings["listen_port"] = port
            started.append(pooler)
        for pooler in started:
            # The list is the same for all, ourselves included.
            pooler.peers = {i + 1: "host=%s port=%d" % (it.directory, it.port) for i, it in enumerate(started)}
            pooler.write()
            os.chmod(pooler.directory, 0o755)
            pooler.start()
        return started
    yield make
    end_poolers(started)


@pytest.fixture(scope="module")
def certificates():
    made = Certificates()
    made.authority("ca")
    made.make("peer", "ca")
    yield made
    made.remove()


def login(pooler, **more):
    """To this very process, by its Unix socket."""
    wire = Wire(pooler.socket_path).login(USER, PASSWORD, "app", **more)
    pooler.clients.append(wire)
    return wire


def cancel_at(address, wire, seconds=20):
    """Sends it there; returns when the connection is closed, and how long that took."""
    clock = Clock()
    with Wire(address) as other:
        other.socket.settimeout(seconds)
        other.send(cancel_request(wire.pid, wire.secret))
        assert other.read() is None
    return clock.seconds()


def sleeping(activity, count=1):
    wait_until(lambda: activity.count("state = 'active' and query like '%pg_sleep%'") == count, 10, "queries that run")


def is_canceled(wire):
    found = wire.ready()
    return [it.sqlstate for it in found.errors] == ["57014"]


def handed_on(pooler):
    return len(re.findall("handing a cancel request to peer", pooler.log()))


def peer_pool(pooler, peer):
    with Wire(pooler.socket_path).login(USER, PASSWORD, "pgbouncer") as wire:
        return {name: int(value) for name, value in one(show(wire, "PEER_POOLS"), peer_id=str(peer)).items()}


@pytest.mark.parametrize("count", [2, 3])
def test_every_cancel_reaches_its_query(cluster, activity, count):
    """Logins and cancels by the port that all share. Each query would run for a minute; each must end as cancelled, and
    what its client asks next must not."""
    poolers = cluster(count)
    total, outcomes, lock = 1000 if LONG else 60, [], threading.Lock()

    def work(thread):
        for i in range(total // 10):
            mark = "/* %d.%d. */" % (thread, i)
            with Wire(poolers[0].address).login(USER, PASSWORD, "app", protocol=V32 if i % 2 else 0x30000) as wire:
                wire.socket.settimeout(30)
                wire.send(query("select pg_sleep(60) " + mark))
                # A query that has not begun yet PostgreSQL would not cancel, and rightly so.
                wait_until(lambda: activity.count("state = 'active' and query like '%%%s%%'" % mark) == 1, 30, mark)
                cancel_at(poolers[0].address, wire, 30)
                good = is_canceled(wire) and wire.value("select 7") == "7"
                with lock:
                    outcomes.append(good)
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(10)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    forwarded = sum(handed_on(it) for it in poolers)
    print("\n%d processes: %d of %d cancels reached their query, %d of them through a peer" % (
        count, outcomes.count(True), total, forwarded))
    assert outcomes == [True] * total
    assert total // 10 < forwarded < total, "about one in %d is found at once" % count
    for pooler in poolers:
        for peer in range(1, count + 1):
            if str(peer) != str(pooler.settings["peer_id"]):
                wait_until(lambda: set(list(peer_pool(pooler, peer).values())[1:]) == {0}, 5, "no cancel left over")


@pytest.mark.parametrize("protocol", [0x30000, V32], ids=["3.0", "3.2"])
def test_the_connection_is_closed_after_the_effect(cluster, activity, protocol):
    first, second = cluster(2)
    wire = login(first, protocol=protocol)
    assert len(wire.secret) == (32 if protocol == V32 else 4)
    wire.send(query("select pg_sleep(30)"))
    sleeping(activity)
    assert cancel_at(second.socket_path, wire) < (5 if SLOW else 1)
    assert is_canceled(wire)
    assert handed_on(second) == 1 and handed_on(first) == 0
    assert wire.value("select 1") == "1"


def test_keys(cluster):
    """The peer's id and the hops are where PgBouncer has them; the rest is random."""
    first, second = cluster(2)
    numbers = set()
    for pooler in (first, second):
        for _ in range(20):
            wire = login(pooler)
            key = struct.pack("!I", wire.pid) + bytes(wire.secret)
            assert key[0] < 128 and key[1] + 256 * key[2] == pooler.settings["peer_id"] and key[7] & 3 == 3
            numbers.add(key)
    assert len(numbers) == 40


def test_a_waiting_query(cluster):
    first, second = cluster(2, {"default_pool_size": 1})
    holder, waiter = login(first), login(first)
    holder.query("begin")
    waiter.send(query("select 1"))
    time.sleep(0.1)
    cancel_at(second.socket_path, waiter)
    assert is_canceled(waiter)


def test_idle_clients_and_wrong_keys(cluster, activity):
    """What is forwarded can hit nobody else: the whole key is compared where it arrives."""
    first, second = cluster(2)
    busy, idle = login(first), login(first)
    busy.send(query("select pg_sleep(2), 'whole'"))
    sleeping(activity)
    cancel_at(second.socket_path, idle)
    luck = random.Random(7)
    for i in range(200):
        wrong = bytearray(struct.pack("!I", busy.pid) + bytes(busy.secret))
        if i % 2:
            wrong[4 + luck.randrange(4)] ^= 1 << luck.randrange(2, 8)
        else:
            wrong = bytearray(luck.randbytes(8))
            wrong[0] &= 127
            wrong[1:3] = bytes(struct.pack("!I", busy.pid)[1:3])
        with Wire(second.socket_path) as other:
            other.send(cancel_request(struct.unpack("!I", wrong[:4])[0], bytes(wrong[4:])))
            assert other.read() is None
    assert busy.ready().rows == [["", "whole"]]
    assert idle.value("select 1") == "1"


def test_no_loop(cluster):
    """Each takes the other for number 9."""
    first, second = cluster(2)
    first.peers[9], second.peers[9] = first.peers[2], second.peers[1]
    for pooler in (first, second):
        pooler.reload()
    clock = Clock()
    with Wire(first.socket_path) as other:
        other.send(cancel_request(9 << 16 | 5, b"abc\xff"))
        assert other.read() is None
    clock.assert_at(0, 1)
    assert handed_on(first) + handed_on(second) == 3


def test_a_peer_that_says_nothing(cluster):
    """No more than pool_size connections to it; each request is given up after cancel_wait_timeout."""
    (pooler,) = cluster(1, {"cancel_wait_timeout": 1})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pooler.peers[2] = "host=127.0.0.1 port=%d pool_size=2" % silent.getsockname()[1]
        pooler.settings["server_tls_sslmode"] = "disable"
        pooler.reload()
        before = pooler.open_files()
        clock = Clock()
        asking = [Wire(pooler.socket_path) for _ in range(5)]
        for i, other in enumerate(asking):
            other.send(cancel_request(2 << 16 | i, b"abc\xff"))
        wait_until(lambda: peer_pool(pooler, 2) == {"peer_id": 2, "cl_active_cancel_req": 2, "cl_waiting_cancel_req": 3,
                                                    "sv_active_cancel": 2, "sv_login": 0}, 0.9, "two sent, three waiting")
        with Wire(pooler.socket_path).login(USER, PASSWORD, "pgbouncer") as wire:
            states = sorted(row["state"] for row in show(wire, "CLIENTS") if row["database"] == "(nodb)")
        assert states == ["active_cancel_req"] * 2 + ["waiting_cancel_req"] * 3
        for other in asking:
            assert other.read() is None
        clock.assert_at(1, 1.5)
        pooler.wait_log("peer 2 has not answered a cancel request within cancel_wait_timeout")
        wait_until(lambda: pooler.open_files() <= before, 5, "no descriptor left behind")
        for other in asking:
            other.socket.close()


def test_a_peer_that_is_not_there(cluster):
    (pooler,) = cluster(1)
    pooler.peers[2] = "host=127.0.0.1 port=%d" % free_port()
    pooler.reload()
    clock = Clock()
    with Wire(pooler.socket_path) as other:
        other.send(cancel_request(2 << 16, b"abc\xff"))
        assert other.read() is None
    clock.assert_at(0, 1)
    pooler.wait_log("no cancel request can be handed to 127.0.0.1: connect failed")


@pytest.mark.parametrize("theirs,ours,works", [
    ("disable", "disable", True), ("disable", "prefer", True), ("disable", "require", False), ("require", "prefer", True),
    ("require", "require", True), ("allow", "verify-full", True)])
def test_tls(pg, cluster, activity, certificates, theirs, ours, works):
    """Over TCP as server_tls_sslmode says; PostgreSQL itself is reached by its Unix socket here."""
    pair = certificates.made["peer"]
    place = {"app": "host=%s port=%d" % (pg.socket_directory, pg.port)}
    first, second = cluster(2, {"so_reuseport": 0}, databases=place, each={
        1: {"client_tls_sslmode": theirs, "client_tls_cert_file": pair.cert, "client_tls_key_file": pair.key},
        2: {"server_tls_sslmode": ours, "server_tls_ca_file": certificates.path("ca.crt")}})
    second.peers[1] = "host=localhost port=%d" % first.port
    second.reload()
    busy = login(first)
    busy.send(query("select pg_sleep(%d)" % (30 if works else 2)))
    sleeping(activity)
    cancel_at(second.socket_path, busy)
    assert is_canceled(busy) == works


def test_reload_and_show(cluster, activity):
    first, second = cluster(2)
    with Wire(first.socket_path).login(USER, PASSWORD, "pgbouncer") as wire:
        assert [list(row.values()) for row in show(wire, "PEERS")] == [["2", second.directory, str(first.port), "20"]]
        lists = {row["list"]: row["items"] for row in show(wire, "LISTS")}
        assert (lists["peers"], lists["peer_pools"]) == ("1", "1")
        kept = first.peers
        first.peers = {7: "host=a.test,b.test port=7 pool_size=3"}
        assert "added: peer 7" in first.reload()
        assert [list(row.values()) for row in show(wire, "PEERS")] == [["7", "a.test,b.test", "7", "3"]]
    busy = login(second)
    busy.send(query("select pg_sleep(30)"))
    sleeping(activity)
    cancel_at(first.socket_path, busy)
    assert activity.count("query like '%pg_sleep%'") == 1, "nobody knows that peer any more"
    first.peers = kept
    first.reload()
    cancel_at(first.socket_path, busy)
    assert is_canceled(busy)


def test_without_peer_id(cluster, activity):
    first, second = cluster(2, {"peer_id": 0})
    first.wait_log(r"\[peers\] has no effect without peer_id")
    busy = login(first)
    busy.send(query("select pg_sleep(1)"))
    sleeping(activity)
    cancel_at(second.socket_path, busy)
    assert not busy.ready().errors


def test_by_psycopg_through_the_shared_port(cluster, activity):
    poolers = cluster(3)
    for _ in range(6):
        client = poolers[0].connect()
        timer = threading.Timer(0.3, client.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(30)")
        timer.join()
        client.close()
