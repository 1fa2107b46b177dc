"""Clients are logged in by the lobby's thread and go to the worker that serves them with their first request: what others
do to them (KILL_CLIENT, RELOAD, cancels) reaches them before, after and on the way."""
import os
import random
import threading

import pytest

from pooler import SLOW, USER, wait_until
from test_console import show
from wire import Answers, Gone, Wire, cancel_request, extended, query, startup, sync

ROUNDS = 20 if SLOW else 60


@pytest.fixture
def pooler(make_pooler):
    return make_pooler({"admin_users": USER, "worker_threads": 2, "max_client_conn": 500})


def threads_of(pooler):
    """Name: CPU time in clock ticks, and nice value."""
    found = {}
    for task in os.listdir("/proc/%d/task" % pooler.process.pid):
        with open("/proc/%d/task/%s/stat" % (pooler.process.pid, task)) as file:
            name, rest = file.read().split(" (", 1)[1].rsplit(") ", 1)
        fields = rest.split()
        found[name] = {"ticks": int(fields[11]) + int(fields[12]), "nice": int(fields[16])}
    return found


def rows_of(admin):
    """SHOW CLIENTS without the admin: application_name to its row."""
    return {row["application_name"]: row for row in show(admin, "CLIENTS") if row["database"] == "app"}


def test_logins_take_no_time_from_those_who_serve(pooler):
    wait_until(lambda: {"lobby", "worker 0", "worker 1"} <= set(threads_of(pooler)), 10, "all threads under their names")
    before = threads_of(pooler)
    assert before["lobby"]["nice"] > before["worker 0"]["nice"] == before["worker 1"]["nice"]
    pooler.wire().value("select 1")  # the pool's first server
    serving = {name: it["ticks"] for name, it in threads_of(pooler).items() if name.startswith("worker")}
    for _ in range(300):
        pooler.wire().close()
    after = threads_of(pooler)
    assert all(after[name]["ticks"] - ticks <= 5 for name, ticks in serving.items()), "they had nothing to do"


def test_a_request_that_comes_with_the_startup_packet_goes_with_its_client(make_pooler):
    pooler = make_pooler({"auth_type": "trust"})
    for length in (1, 70000):
        wire = Wire(pooler.address)
        wire.send(startup({"user": USER, "database": "app"}) + query("select repeat('x', %d)" % length))
        assert wire.ready().rows == [] and wire.ready().rows == [["x" * length]]
        wire.close()


def test_killed_reloaded_and_canceled_in_the_lobby_and_at_home(pooler):
    admin = pooler.wire(database="pgbouncer")
    quiet = pooler.wire(parameters={"application_name": "quiet"})
    busy = pooler.wire(parameters={"application_name": "busy"})
    assert busy.value("select 1") == "1"
    assert set(rows_of(admin)) == {"quiet", "busy"}
    for wire in (quiet, busy):
        canceling = Wire(pooler.address)
        canceling.send(cancel_request(wire.pid, wire.secret))
        assert canceling.read() is None, "closed when it has had its effect"
    assert quiet.value("select 2") == "2" and busy.value("select 2") == "2", "there was nothing to cancel"
    fresh = pooler.wire(parameters={"application_name": "fresh"})
    for name, wire in (("fresh", fresh), ("busy", busy)):
        admin.query("KILL_CLIENT " + rows_of(admin)[name]["id"])
        assert wire.refusal().text == "admin forced disconnect"
    assert quiet.value("select 3") == "3"


def test_kills_that_meet_the_first_request(pooler):
    """Each of these clients is killed while it goes home: it has its answer, or is told why not, and none stays."""
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    luck = random.Random(seed)
    admin = pooler.wire(database="pgbouncer")
    answered = 0
    for number in range(ROUNDS):
        wires = {"c%d.%d" % (number, i): pooler.wire(parameters={"application_name": "c%d.%d" % (number, i)})
                 for i in range(4)}
        ids = {name: row["id"] for name, row in rows_of(admin).items()}
        names = list(wires)
        luck.shuffle(names)

        def kill():
            for name in names:
                admin.query("KILL_CLIENT " + ids[name])

        killer = threading.Thread(target=kill)
        killer.start()
        for name, wire in wires.items():
            try:
                wire.send(query("select 5") if luck.random() < 0.5 else extended("select 5") + sync())
            except OSError:
                pass  # killed before
        killer.join()
        for wire in wires.values():
            try:
                answered += wire.ready().rows == [["5"]]
                assert wire.refusal().text == "admin forced disconnect"
            except Gone as gone:
                assert Answers(gone.messages).errors[-1].text == "admin forced disconnect"
    print("answered first:", answered)
    wait_until(lambda: not rows_of(admin))
    assert pooler.wire().value("select 1") == "1"


def test_reloads_that_meet_the_first_request(pooler):
    """RELOAD gives every client its route anew, wherever it is."""
    admin = pooler.wire(database="pgbouncer")
    over = threading.Event()

    def reload():
        other = pooler.wire(database="pgbouncer")
        while not over.is_set():
            other.query("SET server_idle_timeout = %d" % random.randrange(100, 200))

    changer = threading.Thread(target=reload)
    changer.start()
    try:
        for _ in range(ROUNDS * 2):
            wire = pooler.wire()
            assert wire.value("select 6") == "6"
            wire.close()
    finally:
        over.set()
        changer.join()
    wait_until(lambda: not rows_of(admin))
