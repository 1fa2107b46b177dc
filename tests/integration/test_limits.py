"""Limits of clients and servers, counted in pg_stat_activity, with one worker and with two."""
import time

import pytest

from conftest import Sampler
from pooler import Clock, wait_until
from wire import Refused, query, startup

BOB = ("bob", "bobpassword")


@pytest.fixture(params=[1, 2], ids=["1worker", "2workers"])
def workers(request):
    return {"worker_threads": request.param}


def begin(wire):
    wire.send(query("begin"))
    return wire


def answered(wires):
    """Those that have their server by now."""
    found = []
    for wire in wires:
        wire.socket.setblocking(False)
        try:
            while wire.fill():
                pass
        except BlockingIOError:
            pass
        wire.socket.settimeout(20)
        if wire.buffer:
            found.append(wire)
    return found


def commit(wire):
    """Ends the transaction that begin() asked for."""
    wire.ready()
    wire.query("commit")


def steady(activity, count, where="true", seconds=0.4):
    """So many servers come, and no more."""
    activity.wait_count(count, where)
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        assert activity.count(where) == count, activity.backends(where)
        time.sleep(0.02)


def refused(connect, setting, text):
    with pytest.raises(Refused) as no:
        connect()
    assert (no.value.severity, no.value.sqlstate, no.value.text) == ("FATAL", "53300", text)
    assert setting in no.value.detail and setting in no.value.hint


# ---- clients ----

def test_max_client_conn(make_pooler, workers):
    pooler = make_pooler({"max_client_conn": 3, **workers})
    held = [pooler.wire() for _ in range(3)]
    for _ in range(3):
        refused(pooler.wire, "max_client_conn", "no more connections allowed (max_client_conn)")
    assert [wire.value("select 1") for wire in held] == ["1"] * 3
    held.pop().close()
    wait_until(lambda: accepted(pooler), 2, "the place of the client that left")
    refused(pooler.wire, "max_client_conn", "no more connections allowed (max_client_conn)")


def accepted(pooler, *login):
    try:
        return pooler.wire(*login)
    except Refused:
        return None


def test_max_client_conn_and_logins_under_way(make_pooler, workers):
    """Who only begins to log in takes a place, but keeps nobody out: the oldest of them goes."""
    pooler = make_pooler({"max_client_conn": 2, "auth_type": "plain", **workers})
    half = [pooler.socket() for _ in range(2)]
    for wire in half:
        wire.send(startup({"user": "app", "database": "app"}))
        assert wire.read().type == "R"
    text = "no more connections allowed (max_client_conn)"
    held = [pooler.wire()]
    assert half[0].refusal().text == text
    held.append(pooler.wire())
    assert half[1].refusal().text == text
    refused(pooler.wire, "max_client_conn", text)
    held[0].close()
    wait_until(lambda: accepted(pooler), 2, "the place of the client that left")


def test_max_db_client_connections(make_pooler, workers):
    pooler = make_pooler({"max_db_client_connections": 3, **workers},
                         databases={"app": "max_db_client_connections=2", "other": ""})
    held = [pooler.wire(), pooler.wire(*BOB, "app")]
    text = "client connections exceeded (max_db_client_connections)"
    refused(pooler.wire, "max_db_client_connections", text)
    refused(lambda: pooler.wire(*BOB, "app"), "max_db_client_connections", text)
    others = [pooler.wire(database="other") for _ in range(3)]
    refused(lambda: pooler.wire(database="other"), "max_db_client_connections", text)
    held[0].close()
    wait_until(lambda: accepted(pooler), 2, "the place of the client that left")
    assert [wire.value("select 1") for wire in others] == ["1"] * 3


def test_max_user_client_connections(make_pooler, workers):
    pooler = make_pooler({"max_user_client_connections": 3, **workers}, users={"bob": "max_user_client_connections=2"})
    text = "client connections exceeded (max_user_client_connections)"
    held = [pooler.wire(*BOB, "app"), pooler.wire(*BOB, "other")]
    refused(lambda: pooler.wire(*BOB, "app"), "max_user_client_connections", text)
    mine = [pooler.wire(), pooler.wire(), pooler.wire(database="other")]
    refused(pooler.wire, "max_user_client_connections", text)
    held[1].close()
    wait_until(lambda: accepted(pooler, *BOB, "app"), 2, "the place of the client that left")
    assert [wire.value("select 1") for wire in mine] == ["1"] * 3


# ---- servers of one pool ----

def test_default_pool_size(make_pooler, activity, workers):
    pooler = make_pooler({"default_pool_size": 3, **workers})
    wires = [begin(pooler.wire()) for _ in range(8)]
    steady(activity, 3)
    assert len(answered(wires)) == 3
    others = [begin(pooler.wire(database="other")) for _ in range(4)]
    steady(activity, 6)
    waiting = list(wires)
    while waiting:
        ready = wait_until(lambda: answered(waiting), 5, "the next in turn")
        for wire in ready:
            commit(wire)
            waiting.remove(wire)
        assert activity.count("datname = 'app'") == 3
    for wire in others:
        commit(wire)


@pytest.mark.parametrize("database,user,most", [
    ("pool_size=2", "", 2), ("", "pool_size=1", 1), ("pool_size=2", "pool_size=4", 4), ("pool_size=2", "pool_size=-1", 2)])
def test_pool_size_of_database_and_user(make_pooler, activity, database, user, most):
    pooler = make_pooler({"default_pool_size": 3}, databases={"app": database, "other": ""},
                         users={"app": user} if user else {})
    for _ in range(6):
        begin(pooler.wire())
    steady(activity, most)


def test_default_pool_size_0_is_no_limit(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 0})
    for wire in [begin(pooler.wire()) for _ in range(25)]:
        wire.ready()
    assert activity.count() == 25


def test_min_pool_size(make_pooler, activity, workers):
    pooler = make_pooler({"min_pool_size": 3, **workers},
                         databases={"app": "", "other": "user=app password=strongpassword min_pool_size=2"})
    steady(activity, 2)  # a forced user needs no client
    assert activity.count("datname = 'other'") == 2
    wire = pooler.wire()
    activity.wait_count(3, "datname = 'app'")
    activity.kill("datname = 'app'")
    activity.wait_count(3, "datname = 'app'")
    wire.close()
    steady(activity, 5)


def test_min_pool_size_survives_the_idle_timeout(make_pooler, activity):
    pooler = make_pooler({"min_pool_size": 2, "server_idle_timeout": 0.3})
    pooler.wire()
    activity.wait_count(2)
    stop = time.monotonic() + 1.5
    while time.monotonic() < stop:
        assert activity.count() <= 2
        time.sleep(0.02)
    activity.wait_count(2)


def test_reserve_pool(make_pooler, activity, workers):
    pooler = make_pooler({"default_pool_size": 2, "reserve_pool_size": 2, "reserve_pool_timeout": 0.8, **workers})
    held = [begin(pooler.wire()) for _ in range(2)]
    for wire in held:
        wire.ready()
    waiting = [pooler.wire() for _ in range(3)]
    with Sampler(activity) as seen:
        clock = Clock()
        for wire in waiting:
            begin(wire)
        assert activity.count() == 2
        served = wait_until(lambda: answered(waiting), 5, "the reserve")
        clock.assert_at(0.8)
        wait_until(lambda: len(answered(waiting)) == 2, 5, "the second of the reserve")
        clock.assert_at(0.8)
        steady(activity, 4)
        assert len(answered(waiting)) == 2
        commit(served[0])
        wait_until(lambda: len(answered([wire for wire in waiting if wire is not served[0]])) == 2, 5, "the third")
    assert seen.most == 4
    pooler.wait_log(r"WARNING C-\S+ app/app@\S+ taking connection from reserve_pool")


@pytest.mark.parametrize("where", ["database", "user"])
def test_reserve_pool_size_of_database_and_user(make_pooler, activity, where):
    pooler = make_pooler({"default_pool_size": 1, "reserve_pool_timeout": 0.2, "reserve_pool_size": 3},
                         databases={"app": "reserve_pool_size=1" if where == "database" else ""},
                         users={"app": "reserve_pool_size=1"} if where == "user" else {})
    for _ in range(6):
        begin(pooler.wire())
    activity.wait_count(2)
    steady(activity, 2)


def test_reserve_pool_timeout_0_turns_it_off(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 1, "reserve_pool_size": 3, "reserve_pool_timeout": 0})
    for _ in range(4):
        begin(pooler.wire())
    activity.wait_count(1)
    steady(activity, 1, seconds=0.8)


# ---- servers over several pools ----

def over_pools(pooler, activity, most, logins):
    """Two pools that together may have `most` servers: clients of both, more than that, in turn."""
    with Sampler(activity) as seen:
        # Logged in first: the welcome of a pool's first client waits for a server of that pool.
        first, second = [[pooler.wire(*login) for _ in range(most)] for login in logins]
        for wire in first:
            begin(wire)
        for wire in first:
            wire.ready()
        for wire in second:
            begin(wire)
        steady(activity, most)
        assert answered(second) == []
        first.pop().query("rollback")  # the server is idle now and makes room: one is evicted, one opened
        wait_until(lambda: len(answered(second)) == 1, 5, "a server for the other pool")
        steady(activity, most)
        for wire in first:
            wire.query("rollback")
        for wire in second:
            wire.ready()
        steady(activity, most)
        for wire in second:
            wire.query("rollback")
        # Back again: all of the other pool's are idle, so the whole room changes hands.
        third = [begin(pooler.wire(*logins[0])) for _ in range(most)]
        for wire in third:
            wire.ready()
            wire.query("rollback")
    assert seen.most == most and seen.samples > 10
    pooler.wait_log("evicted")


def test_max_db_connections(make_pooler, activity, workers):
    pooler = make_pooler({"default_pool_size": 5, "max_db_connections": 3, **workers})
    over_pools(pooler, activity, 3, [("app", "strongpassword", "app"), (*BOB, "app")])


def test_max_db_connections_of_one_database(make_pooler, activity):
    pooler = make_pooler({"max_db_connections": 4}, databases={"app": "max_db_connections=2", "other": ""})
    over_pools(pooler, activity, 2, [("app", "strongpassword", "app"), (*BOB, "app")])
    for _ in range(5):
        begin(pooler.wire(*BOB, "other"))
    activity.wait_count(4, "datname = 'other'")
    steady(activity, 4, "datname = 'other'")


def test_max_user_connections(make_pooler, activity, workers):
    pooler = make_pooler({"default_pool_size": 5, "max_user_connections": 3, **workers})
    over_pools(pooler, activity, 3, [("app", "strongpassword", "app"), ("app", "strongpassword", "other")])


def test_max_user_connections_of_one_user(make_pooler, activity):
    pooler = make_pooler({"max_user_connections": 4}, users={"bob": "max_user_connections=2"})
    over_pools(pooler, activity, 2, [(*BOB, "app"), (*BOB, "other")])
    for _ in range(3):
        begin(pooler.wire())
        begin(pooler.wire(database="other"))
    activity.wait_count(4, "usename = 'app'")
    steady(activity, 4, "usename = 'app'")


def test_the_longest_idle_server_is_evicted(make_pooler, activity):
    pooler = make_pooler({"max_db_connections": 3})
    held = [begin(pooler.wire()) for _ in range(3)]
    pids = []
    for wire in held:
        wire.ready()
        pids.append(int(wire.value("select pg_backend_pid()")))
    for wire in held:  # the first one is released first, so it is idle for the longest
        wire.query("commit")
        time.sleep(0.05)
    assert pooler.wire(*BOB, "app").value("select 1") == "1"
    left = {row[0] for row in activity.backends("usename = 'app'")}  # pids need not grow in the order of their logins
    assert left == set(pids[1:])


def test_idle_servers_last_in_first_out(make_pooler):
    pooler = make_pooler()
    held = [begin(pooler.wire()) for _ in range(3)]
    pids = []
    for wire in held:
        wire.ready()
        pids.append(wire.value("select pg_backend_pid()"))
    for wire in held:
        wire.query("commit")
        time.sleep(0.02)
    assert [held[0].value("select pg_backend_pid()") for _ in range(5)] == [pids[-1]] * 5


def test_server_round_robin(make_pooler):
    pooler = make_pooler({"server_round_robin": 1, "worker_threads": 1})
    held = [begin(pooler.wire()) for _ in range(3)]
    for wire in held:
        wire.ready()
    for wire in held:
        wire.query("commit")
    pids = [held[0].value("select pg_backend_pid()") for _ in range(6)]
    assert len(set(pids)) == 3 and pids[:3] == pids[3:]


def test_many_clients_on_few_servers_with_many_workers(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 4, "worker_threads": 4, "max_client_conn": 200})
    wires = [pooler.wire() for _ in range(80)]
    with Sampler(activity) as seen:
        for _ in range(10):
            for wire in wires:
                wire.send(query("select pg_sleep(0.001)"))
            for wire in wires:
                assert wire.ready().status == "I"
    assert seen.most == 4
