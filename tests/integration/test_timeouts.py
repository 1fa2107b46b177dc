"""Every timeout acts at its value: not earlier, not more than 0.2 s later. Measured at the client or the server."""
import os
import re
import signal
import socket
import threading
import time

import pytest

from pooler import PASSWORD, SLOW, USER, Clock, wait_until
from wire import Gone, Refused, extended, query, startup, sync

BOB = ("bob", "bobpassword")
SHARED = "user=app password=" + PASSWORD  # one pool for all users


def refusal_at(wire, clock, seconds, sqlstate, text):
    """The connection ends at that time, with this error and nothing behind it."""
    no = wire.refusal()
    clock.assert_at(seconds)
    assert (no.severity, no.sqlstate, no.text) == ("FATAL", sqlstate, text)
    assert no.detail and no.hint
    return no


def quiet(wire, seconds):
    """Nothing comes for that long."""
    wire.socket.settimeout(seconds)
    with pytest.raises(socket.timeout):
        got = wire.read()
        raise AssertionError("came: %s" % (got,))
    wire.socket.settimeout(20)


# ---- clients that wait ----

def blocked(make_pooler, settings, **more):
    """A pooler whose only server is busy."""
    pooler = make_pooler({"default_pool_size": 1, **settings}, databases={"app": SHARED + more.pop("options", "")}, **more)
    holder = pooler.wire()
    holder.query("begin")
    return pooler, holder


@pytest.mark.parametrize("request_", [query("select 1"), extended("select 1") + sync()], ids=["simple", "extended"])
def test_query_wait_timeout(make_pooler, request_):
    pooler, holder = blocked(make_pooler, {"query_wait_timeout": 0.8})
    wire = pooler.wire()
    time.sleep(0.3)  # idle time does not count
    clock = Clock()
    wire.send(request_)
    refusal_at(wire, clock, 0.8, "57014", "query_wait_timeout")
    assert holder.query("commit").status == "I"


def test_query_wait_timeout_of_a_database(make_pooler):
    pooler, _ = blocked(make_pooler, {"query_wait_timeout": 5}, options=" query_wait_timeout=0.5")
    wire = pooler.wire()
    clock = Clock()
    wire.send(query("select 1"))
    refusal_at(wire, clock, 0.5, "57014", "query_wait_timeout")


def test_query_wait_timeout_of_a_user(make_pooler):
    pooler, holder = blocked(make_pooler, {"query_wait_timeout": 0}, users={"bob": "query_wait_timeout=0.5"})
    bob, other = pooler.wire(*BOB, "app"), pooler.wire()
    clock = Clock()
    other.send(query("select 2"))
    bob.send(query("select 1"))
    refusal_at(bob, clock, 0.5, "57014", "query_wait_timeout")
    quiet(other, 0.5)
    holder.query("commit")
    assert other.ready().rows == [["2"]]


def test_query_timeout_while_waiting(make_pooler):
    pooler, _ = blocked(make_pooler, {"query_timeout": 0.6})
    wire = pooler.wire()
    clock = Clock()
    wire.send(query("select 1"))
    refusal_at(wire, clock, 0.6, "57014", "query_timeout")


def test_query_wait_notify(make_pooler):
    pooler, holder = blocked(make_pooler, {"query_wait_notify": 0.6})
    wire, patient = pooler.wire(), pooler.wire()
    clock = Clock()
    wire.send(query("select 7"))
    found = wire.until("N")
    clock.assert_at(0.6)
    notice = found.notices[0]
    assert (notice["S"], notice["C"]) == ("NOTICE", "00000")
    assert notice["M"] == "No server connection available in postgres backend, client being queued"
    quiet(wire, 0.8)  # once
    holder.query("commit")
    assert wire.ready().rows == [["7"]]
    assert patient.query("select 8").types == "TDCZ"  # no notice without a wait


def test_waiters_are_served_when_a_waiter_gives_up(make_pooler):
    pooler, holder = blocked(make_pooler, {"query_wait_timeout": 0.5})
    first = pooler.wire()
    first.send(query("select 1"))
    time.sleep(0.3)
    second = pooler.wire()
    second.send(query("select 2"))
    first.refusal()
    holder.query("commit")
    assert second.ready().rows == [["2"]]


# ---- queries and transactions ----

def test_query_timeout(make_pooler, activity):
    pooler = make_pooler({"query_timeout": 0.8})
    wire = pooler.wire()
    wire.query("select pg_sleep(0.3)")
    clock = Clock()
    wire.send(query("select pg_sleep(30)"))
    refusal_at(wire, clock, 0.8, "57014", "query timeout")
    activity.wait_count(0, seconds=2)  # the query does not go on in the server
    assert pooler.wire().value("select 1") == "1"


def test_query_timeout_counts_each_query(make_pooler):
    wire = make_pooler({"query_timeout": 0.8}).wire()
    wire.query("begin")
    for _ in range(4):
        wire.query("select pg_sleep(0.3)")
    time.sleep(1)  # idle in a transaction is no query
    assert wire.query("commit").status == "I"
    clock = Clock()
    wire.send(extended("select pg_sleep(30)") + sync())
    refusal_at(wire, clock, 0.8, "57014", "query timeout")


def test_query_timeout_with_part_of_the_answer_sent(make_pooler):
    """Between two messages of the server the text can still be said; inside one the connection just ends."""
    wire = make_pooler({"query_timeout": 0.6}).wire()
    clock = Clock()
    wire.send(query("select 1; select pg_sleep(30)"))
    no = wire.refusal()
    clock.assert_at(0.6)
    assert no.text == "query timeout"


@pytest.mark.parametrize("last", ["select 1", "select 1/0"], ids=["open", "failed"])
def test_idle_transaction_timeout(make_pooler, activity, last):
    pooler = make_pooler({"idle_transaction_timeout": 0.7})
    idle = pooler.wire()
    wire = pooler.wire()
    wire.query("begin")
    time.sleep(0.4)
    clock = Clock()
    wire.send(query(last))
    assert wire.ready().status in "TE"
    refusal_at(wire, clock, 0.7, "25P03", "idle transaction timeout")
    activity.wait_count(0, seconds=2)
    assert idle.value("select 1") == "1"


def test_idle_transaction_timeout_leaves_queries_alone(make_pooler):
    wire = make_pooler({"idle_transaction_timeout": 0.4}).wire()
    wire.query("begin")
    wire.query("select pg_sleep(1)")
    assert wire.query("commit").status == "I"
    time.sleep(0.8)
    assert wire.value("select 1") == "1"


def test_transaction_timeout(make_pooler, activity):
    pooler = make_pooler({"transaction_timeout": 0.8})
    wire = pooler.wire()
    for _ in range(3):
        wire.query("select pg_sleep(0.35)")  # each a transaction of its own
    clock = Clock()
    wire.query("begin")
    for _ in range(3):
        time.sleep(0.2)
        wire.query("select 1")
    refusal_at(wire, clock, 0.8, "25P04", "transaction timeout")
    activity.wait_count(0, seconds=2)


def test_transaction_timeout_in_a_query(make_pooler, activity):
    wire = make_pooler({"transaction_timeout": 0.6}).wire()
    clock = Clock()
    wire.send(query("select pg_sleep(30)"))
    refusal_at(wire, clock, 0.6, "25P04", "transaction timeout")
    activity.wait_count(0, seconds=2)


# ---- idle clients and logins ----

@pytest.mark.parametrize("used", [False, True])
def test_client_idle_timeout(make_pooler, used):
    pooler = make_pooler({"client_idle_timeout": 0.7})
    clock = Clock()
    wire = pooler.wire()
    if used:
        time.sleep(0.4)
        clock = Clock()
        wire.query("select 1")
    refusal_at(wire, clock, 0.7, "57P05", "client_idle_timeout")


def test_client_idle_timeout_leaves_the_busy_alone(make_pooler):
    pooler, holder = blocked(make_pooler, {"client_idle_timeout": 0.5})
    waiting = pooler.wire()
    waiting.send(query("select 1"))
    time.sleep(1)  # one idle in a transaction, one waiting
    assert holder.query("commit").status == "I"
    assert waiting.ready().rows == [["1"]]


def test_client_idle_timeout_in_session_mode(make_pooler):
    pooler = make_pooler({"client_idle_timeout": 0.7, "pool_mode": "session"})
    wire = pooler.wire()
    clock = Clock()
    wire.query("select 1")
    refusal_at(wire, clock, 0.7, "57P05", "client_idle_timeout")


def test_client_login_timeout(make_pooler):
    pooler = make_pooler({"client_login_timeout": 0.7, "tcp_defer_accept": 0})
    silent = Clock()
    wire = pooler.socket()
    refusal_at_login(wire, silent)
    clock = Clock()
    wire = pooler.socket()
    wire.send(startup({"user": USER, "database": "app"}))
    assert wire.read().type == "R"
    time.sleep(0.3)
    refusal_at_login(wire, clock)
    steady = pooler.wire()
    time.sleep(1)
    assert steady.value("select 1") == "1"


def refusal_at_login(wire, clock):
    no = wire.refusal()
    clock.assert_at(0.7)
    assert (no.severity, no.sqlstate, no.text) == ("FATAL", "57014", "client_login_timeout")


def test_client_login_timeout_covers_the_first_server(make_pooler, listen):
    pooler = make_pooler({"client_login_timeout": 0.8}, databases={"app": "host=127.0.0.1 port=%d" % listen().port})
    clock = Clock()
    with pytest.raises(Refused) as no:
        pooler.wire()
    clock.assert_at(0.8)
    assert (no.value.severity, no.value.text) == ("FATAL", "client_login_timeout (server down)")
    assert no.value.detail and no.value.hint


# ---- servers ----

def refuse_softly(connection):
    """No error, just the end."""
    connection.shutdown(socket.SHUT_RDWR)


def test_server_connect_timeout(make_pooler, listen):
    server = listen()
    pooler = make_pooler({"server_connect_timeout": 0.8, "server_login_retry": 0.3, "client_login_timeout": 2.5},
                         databases={"app": "host=127.0.0.1 port=%d" % server.port})
    with pytest.raises(Refused):
        pooler.wire()
    assert len(server.stayed) >= 2
    for seconds in server.stayed[:2]:
        assert 0.8 - 0.02 <= seconds <= 0.8 + (1 if SLOW else 0.2)


def test_server_connect_timeout_where_nothing_accepts(make_pooler):
    """A full backlog: the SYN is never answered."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        pooler = make_pooler({"server_connect_timeout": 0.7, "server_login_retry": 30, "verbose": 1},
                             databases={"app": "host=127.0.0.1 port=%d" % full.getsockname()[1]})
        wire = pooler.socket()
        clock = Clock()
        thread = threading.Thread(target=lambda: pytest.raises((Refused, Gone, OSError), wire.login, USER, PASSWORD, "app"))
        thread.start()
        wait_until(lambda: re.search("connect.*time|time.*connect", pooler.log().replace("server_connect_timeout", "")), 5,
                   "a connect timeout in the log")
        clock.assert_at(0.7)
        wire.socket.shutdown(socket.SHUT_RDWR)
        thread.join()
        for filler in fillers:
            filler.close()


def test_server_login_retry(make_pooler, listen):
    server = listen(refuse_softly)
    pooler = make_pooler({"server_login_retry": 0.6, "client_login_timeout": 2.2},
                         databases={"app": "host=127.0.0.1 port=%d" % server.port})
    with pytest.raises(Refused):
        pooler.wire()
    gaps = [after - before for before, after in zip(server.came, server.came[1:])]
    assert len(gaps) == 3, gaps
    assert all(0.6 <= gap <= 0.6 + (1 if SLOW else 0.2) for gap in gaps), gaps


def test_cached_login_error_within_server_login_retry(make_pooler, listen):
    server = listen(refuse_softly)
    pooler = make_pooler({"server_login_retry": 1.2, "client_login_timeout": 0.4},
                         databases={"app": "host=127.0.0.1 port=%d" % server.port})
    with pytest.raises(Refused):
        pooler.wire()
    clock = Clock()
    with pytest.raises(Refused) as no:
        pooler.wire()
    clock.assert_at(0)  # at once
    assert no.value.severity == "FATAL"
    assert re.fullmatch(r"server login has been failing, cached error: .+ \(server_login_retry\)", no.value.text)
    assert len(server.came) == 1


def gone_at(activity, pid, clock, seconds):
    wait_until(lambda: pid not in [row[0] for row in activity.backends()], seconds + 5, "the server closed")
    clock.assert_at(seconds)


def test_server_idle_timeout(make_pooler, activity):
    pooler = make_pooler({"server_idle_timeout": 0.9})
    wire = pooler.wire()
    time.sleep(0.5)
    clock = Clock()
    pid = int(wire.value("select pg_backend_pid()"))
    gone_at(activity, pid, clock, 0.9)
    assert wire.value("select 1") == "1"


def test_server_lifetime(make_pooler, activity):
    pooler = make_pooler({"server_lifetime": 0.9, "default_pool_size": 1})
    clock = Clock()
    wire = pooler.wire()
    pid = int(wire.value("select pg_backend_pid()"))
    gone_at(activity, pid, clock, 0.9)
    # One that is in use goes when it is released.
    wire.query("begin")
    pid = int(wire.value("select pg_backend_pid()"))
    time.sleep(1.3)
    assert int(wire.value("select pg_backend_pid()")) == pid
    clock = Clock()
    wire.query("commit")
    gone_at(activity, pid, clock, 0)
    pooler.wait_log("server lifetime over")


def test_server_lifetime_of_a_database(make_pooler, activity):
    pooler = make_pooler(databases={"app": "server_lifetime=0.6", "other": ""})
    clock = Clock()
    wire, other = pooler.wire(), pooler.wire(database="other")
    pid = int(wire.value("select pg_backend_pid()"))
    stays = int(other.value("select pg_backend_pid()"))
    gone_at(activity, pid, clock, 0.6)
    assert stays in [row[0] for row in activity.backends()]


def test_server_lifetime_is_spread(make_pooler, activity):
    """Four servers opened together end one by one, lifetime / pool_size apart."""
    lifetime, size = 1.2, 4
    pooler = make_pooler({"server_lifetime": lifetime, "default_pool_size": size})
    clock = Clock()
    wires = [pooler.wire() for _ in range(size)]
    for wire in wires:
        wire.query("begin")
    for wire in wires:
        wire.query("commit")
    ends, count = [], size
    while count:
        now = activity.count()
        if now < count:
            assert now == count - 1, "two at once"
            ends.append(clock.seconds())
            count = now
        time.sleep(0.01)
        assert clock.seconds() < 10
    assert ends[0] >= lifetime
    gaps = [after - before for before, after in zip(ends, ends[1:])]
    late = 1 if SLOW else 0.2
    assert all(lifetime / size - 0.06 <= gap <= lifetime / size + late for gap in gaps), (ends, gaps)


def test_server_lifetime_0_is_one_use(make_pooler, activity):
    pooler = make_pooler({"server_lifetime": 0})
    wire = pooler.wire()
    pids = [wire.value("select pg_backend_pid()") for _ in range(3)]
    assert len(set(pids)) == 3
    activity.wait_count(0)


EMPTY = r"LOG:  statement: ;?\s*\n"
CHECKED = r"LOG:  statement: select 'check'|LOG:  execute .*select 'check'"


def test_server_check_delay(pg, make_pooler):
    pooler = make_pooler({"server_check_delay": 0.7, "server_check_query": "select 'check'"}, databases={"logged": ""})
    wire = pooler.wire(database="logged")
    start = len(pg.log_text())
    checks = lambda: len(re.findall(CHECKED, pg.log_text()[start:]))  # noqa: E731
    wire.query("select 1")
    for pause in (0.2, 0.6):  # not idle for long enough
        time.sleep(pause)
        wire.query("select 1")
        assert checks() == 0
    time.sleep(0.75)
    assert wire.query("select 1").types == "TDCZ"
    assert checks() == 1
    wire.query("select 1")
    assert checks() == 1


def test_server_check_query_default_is_empty(pg, make_pooler):
    pooler = make_pooler({"server_check_delay": 0}, databases={"logged": ""})
    wire = pooler.wire(database="logged")
    wire.query("select 1")
    start = len(pg.log_text())
    assert wire.query("select 2").rows == [["2"]]
    assert re.search(EMPTY + r"(?s:.*)LOG:  statement: select 2", pg.log_text()[start:])
    silent = make_pooler({"server_check_delay": 0, "server_check_query": ""}, databases={"logged": ""})
    wire = silent.wire(database="logged")
    wire.query("select 1")
    start = len(pg.log_text())
    assert wire.query("select 2").rows == [["2"]]
    assert not re.search(EMPTY, pg.log_text()[start:])


def test_server_that_fails_its_check_is_replaced(make_pooler):
    pooler = make_pooler({"server_check_delay": 0.2, "server_check_query": "select 1/0"})
    wire = pooler.wire()
    first = wire.value("select pg_backend_pid()")
    time.sleep(0.3)
    assert wire.value("select pg_backend_pid()") != first
    pooler.wait_log("test query failed")


class Stopped:
    """While it is entered these backends say nothing more: to the pooler, a connection that a firewall has dropped."""

    def __init__(self, *pids):
        self.pids = pids

    def __enter__(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


def test_server_that_is_silent_when_checked_is_replaced(make_pooler, activity):
    """In server_connect_timeout, for one waiter and all of its host that have been idle for as long."""
    pooler = make_pooler({"server_check_delay": 0.2, "server_connect_timeout": 1})
    wires = [pooler.wire() for _ in range(3)]
    for wire in wires:
        wire.query("begin")
    pids = [int(wire.value("select pg_backend_pid()")) for wire in wires]
    for wire in wires:
        wire.query("commit")
    time.sleep(0.3)
    with Stopped(*pids):
        clock = Clock()
        assert int(wires[0].value("select pg_backend_pid()")) not in pids
        clock.assert_at(1, slack=1.5 if SLOW else 0.4)
        pooler.wait_log("S-.* closing because: test query timeout \\(")
        pooler.wait_log("S-.* closing because: test query timeout of another \\(")
    activity.wait_count(1)
    assert wires[0].value("select 1") == "1"  # its check is answered


def test_silent_server_in_a_full_pool_is_replaced(make_pooler):
    """Its slot is free when PostgreSQL has hung up, or closing_grace later."""
    pooler = make_pooler({"server_check_delay": 0.1, "server_connect_timeout": 0.5, "default_pool_size": 1})
    wire = pooler.wire()
    pid = int(wire.value("select pg_backend_pid()"))
    time.sleep(0.2)
    with Stopped(pid):
        clock = Clock()
        assert int(wire.value("select pg_backend_pid()")) != pid
        clock.assert_at(0.5 + 5, slack=3 if SLOW else 0.6)


def test_reset_query_without_an_answer(make_pooler, activity):
    pooler = make_pooler({"server_reset_query_always": 1, "server_reset_query": "select pg_sleep(30)",
                          "server_connect_timeout": 1})
    wire = pooler.wire()
    pid = int(wire.value("select pg_backend_pid()"))
    clock = Clock()
    pooler.wait_log("S-.* closing because: reset query timeout \\(")
    clock.assert_at(0.9, slack=1.5 if SLOW else 0.4)
    wait_until(lambda: pid not in [row[0] for row in activity.backends()], 5, "the server closed")
    assert int(wire.value("select pg_backend_pid()")) != pid


# ---- users ----

PER_USER = {
    "query_timeout": ("select pg_sleep(1.3)", None, "query timeout"),
    "idle_transaction_timeout": ("begin", 1.3, "idle transaction timeout"),
    "transaction_timeout": ("begin", 1.3, "transaction timeout"),
    "client_idle_timeout": ("select 1", 1.3, "client_idle_timeout"),
}


@pytest.mark.parametrize("setting", PER_USER)
def test_timeouts_of_one_user(make_pooler, setting):
    """They act on the client's user, and leave the others alone, also where both share servers of a third."""
    sql, pause, text = PER_USER[setting]
    pooler = make_pooler(databases={"app": SHARED}, users={"bob": setting + "=0.6"})
    bob, other = pooler.wire(*BOB, "app"), pooler.wire()
    clock = Clock()
    bob.send(query(sql))
    other.send(query(sql))
    if pause:
        bob.ready()
    assert bob.refusal().text == text
    clock.assert_at(0.6)
    assert other.ready().status in "IT"
    time.sleep(max(0, 1.3 - clock.seconds()))
    assert other.query("select 1").rows == [["1"]]


@pytest.mark.parametrize("setting", PER_USER)
def test_a_users_timeout_goes_before_the_global_one(make_pooler, setting):
    sql, pause, text = PER_USER[setting]
    pooler = make_pooler({setting: 0.5}, users={"bob": setting + "=1.0"})
    bob, other = pooler.wire(*BOB, "app"), pooler.wire()
    clock = Clock()
    bob.send(query(sql))
    other.send(query(sql))
    if pause:
        bob.ready()
        other.ready()
    assert other.refusal().text == text
    clock.assert_at(0.5)
    assert bob.refusal().text == text
    clock.assert_at(1.0)


def test_timeouts_hold_with_many_clients(make_pooler):
    """A crowd that times out together is told in time, each of them once."""
    pooler, _ = blocked(make_pooler, {"query_wait_timeout": 0.8, "max_client_conn": 400})
    wires = [pooler.wire() for _ in range(200)]
    clock = Clock()
    for wire in wires:
        wire.send(query("select 1"))
    sent = clock.seconds()
    for wire in wires:
        assert wire.refusal().text == "query_wait_timeout"
    clock.assert_at(0.8, slack=sent + (1 if SLOW else 0.3))
