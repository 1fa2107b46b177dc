"""What goes wrong on either side: the other side sees as little of it as can be, and nothing leaks."""
import random
import socket
import struct
import threading
import time

import pytest

from pooler import PASSWORD, SLOW, USER, Clock, wait_until
from wire import (Gone, Message, Refused, Wire, bind, cstring, describe, execute, extended,
                  fields_of, flush, message, packet, parse,
                  query, startup, sync)

ONE = {"default_pool_size": 1}
PID = "select pg_backend_pid()"
SEED = 20260721


def nothing_leaks(activity, pooler):
    """Within a second no server is at work for nobody, and the only place of the pool is free."""
    wait_until(lambda: activity.count("state <> 'idle'") == 0, 1, "no server active or in a transaction: %s"
               % activity.backends())
    wire = pooler.wire(timeout=5)
    assert wire.value("select 1") == "1"
    wire.close()
    assert activity.count() <= 1


# ---- servers that can not be logged in to ----

def then_hangs_up(answer=b""):
    return lambda connection: (connection.recv(1000), connection.sendall(answer), connection.shutdown(socket.SHUT_RDWR))


@pytest.mark.parametrize("behave,reason,detail,settings", [
    (None, "connect failed", "Connection refused", {}),
    (lambda connection: None, "connect timeout", None, {"server_connect_timeout": 0.3}),
    (then_hangs_up(), r"server conn crashed\?", "server closed the connection during login", {}),
    (then_hangs_up(b"N"), "server refused SSL", None, {"server_tls_sslmode": "require"}),
    (then_hangs_up(b"X"), "bad sslreq answer", None, {"server_tls_sslmode": "require"}),
    (then_hangs_up(message("R", struct.pack("!i", 99))), "failed to answer authreq",
     "server asks for a login method that we do not speak", {}),
    (then_hangs_up(b"R" + struct.pack("!i", 2)), "bad pkt header", None, {}),
    (then_hangs_up(message("Q", b"\0")), "unknown pkt from server", "unexpected message during login", {}),
    (then_hangs_up(message("E", b"SFATAL\0C3D000\0Mno such place\0\0")), "login failed", None, {}),
], ids=lambda value: value if isinstance(value, str) else "")
def test_why_a_server_connection_failed(make_pooler, listen, behave, reason, detail, settings):
    """PgBouncer's reason in the log, and what more is known in a line of its own."""
    server = listen() if behave is None else listen(behave, True)
    if behave is None:
        server.close()
        server.close = lambda: None
    pooler = make_pooler({"client_login_timeout": 1, "server_login_retry": 30, "server_tls_sslmode": "disable", **settings},
                         databases={"app": "host=127.0.0.1 port=%d" % server.port})
    with pytest.raises(Refused):
        pooler.wire()
    pooler.wait_log(r"LOG S-0x[0-9a-f]+: app/app@127.0.0.1:%d closing because: %s \(age=" % (server.port, reason))
    if detail:
        pooler.wait_log("WARNING S-.* server login failed: %s: %s" % (reason, detail))


def test_the_cached_error_is_the_reason_alone(make_pooler, listen):
    server = listen()
    server.close()
    server.close = lambda: None
    pooler = make_pooler({"client_login_timeout": 0.5, "server_login_retry": 30},
                         databases={"app": "host=127.0.0.1 port=%d" % server.port})
    with pytest.raises(Refused):
        pooler.wire()
    with pytest.raises(Refused) as no:
        pooler.wire()
    assert no.value.text == "server login has been failing, cached error: connect failed (server_login_retry)"
    assert no.value.detail == "Connection refused"


# ---- servers that go ----

def test_idle_server_that_is_killed_is_never_seen(make_pooler, activity):
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.connect()
    pids = set()
    for _ in range(20):
        pids.add(wire.value(PID))
        assert other.execute("select 1").fetchone() == (1,)
        activity.kill()
        time.sleep(0.02)
    assert len(pids) == 20


@pytest.mark.parametrize("request_", [query("select pg_sleep(30)"), extended("select pg_sleep(30)") + sync()],
                         ids=["simple", "extended"])
def test_server_killed_in_a_query(make_pooler, activity, request_):
    """Its own words are relayed, once; nothing of ours behind them."""
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    wire.send(request_)
    wait_until(lambda: activity.count("state = 'active'"), 5, "a query that runs")
    activity.kill()
    no = wire.refusal()
    assert (no.severity, no.sqlstate) == ("FATAL", "57P01")
    assert no.text == "terminating connection due to administrator command"
    assert [m.type for m in no.messages].count("E") == 1
    assert other.value("select 1") == "1"
    pooler.wait_log(r"LOG C-.* closing because: server conn crashed\? \(")
    pooler.wait_log(r"WARNING C-.* pooler error: server conn crashed\?\n")


def test_server_killed_in_a_transaction(make_pooler, activity):
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    wire.query("begin")
    activity.kill()
    no = wire.refusal()
    assert (no.severity, no.sqlstate) == ("FATAL", "57P01")
    assert other.value("select 1") == "1"


def test_server_killed_while_others_wait(make_pooler, activity):
    pooler = make_pooler(ONE)
    wire, waiting = pooler.wire(), [pooler.wire() for _ in range(5)]
    wire.query("begin")
    for other in waiting:
        other.send(query("select 1"))
    time.sleep(0.1)
    activity.kill()
    for other in waiting:
        assert other.ready().rows == [["1"]]


def test_session_mode_server_killed(make_pooler, activity):
    pooler = make_pooler({"pool_mode": "session"})
    wire = pooler.wire()
    wire.query("select 1")
    activity.kill()
    assert wire.refusal().sqlstate == "57P01"
    assert pooler.wire().value("select 1") == "1"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_restart(pg, make_pooler, activity, mode):
    pooler = make_pooler({"server_login_retry": 0.2})
    idle = [pooler.wire() for _ in range(5)]
    for wire in idle:
        wire.query("select 1")
    busy = pooler.wire()
    busy.query("begin")
    pg.restart(mode)
    busy.refusal()
    for wire in idle:
        assert wire.value("select 1") == "1"
    assert pooler.wire().value("select 1") == "1"


def test_server_down_at_start(pg, make_pooler, activity):
    """The login waits, and goes on once the server is there, after more failures than the pool has places."""
    pg.stop()
    try:
        pooler = make_pooler({"server_login_retry": 0.2, "default_pool_size": 1})
        found = []
        wire = pooler.socket()
        thread = threading.Thread(target=lambda: found.append(wire.login(USER, PASSWORD, "app")))
        thread.start()
        time.sleep(0.6)
        assert not found
    finally:
        pg.start()
    thread.join(5)
    assert found and wire.value("select 1") == "1"


def test_server_down_with_clients(pg, make_pooler, activity):
    """A query waits for the server to come back."""
    pooler = make_pooler({"server_login_retry": 0.2})
    wire = pooler.wire()
    wire.query("select 1")
    pg.stop()
    try:
        time.sleep(0.1)
        wire.send(query("select 2"))
        time.sleep(0.5)
    finally:
        pg.start()
    assert wire.ready().rows == [["2"]]


def test_first_host_of_a_list_is_down(pg, make_pooler):
    pooler = make_pooler({"server_login_retry": 0.1},
                         databases={"app": "host=%s,127.0.0.1 port=%d" % ("/nonexistent", pg.port)})
    clock = Clock()
    assert pooler.wire().value("select 1") == "1"
    assert clock.seconds() < 3


# ---- clients that go ----

def idle(wire):
    wire.query("select 1")


def waiting(wire):
    wire.send(query("select 1"))
    time.sleep(0.1)


def active(wire):
    wire.send(query("select pg_sleep(30)"))
    time.sleep(0.1)


def in_transaction(wire):
    wire.query("begin")
    wire.query("select 1")


def failed_transaction(wire):
    wire.query("begin")
    with pytest.raises(Refused):
        wire.query("selec")


def in_copy_in(wire):
    wire.send(query("create temp table t(a text) on commit drop; copy t from stdin"))
    wire.until("G")
    wire.send(message("d", b"row\n"))
    time.sleep(0.05)


def in_copy_out(wire):
    wire.send(query("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout"))
    wire.until("H")
    time.sleep(0.05)


def unread_result(wire):
    wire.send(query("select repeat('x', 1000) from generate_series(1, 100000)"))
    time.sleep(0.1)


def batch_without_sync(wire):
    wire.send(extended("select 1") + flush())
    wire.until("C")


def half_a_header(wire):
    wire.send(query("select 1")[:3])
    time.sleep(0.05)


def half_a_message(wire):
    wire.send(query("select '" + "x" * 100000 + "'")[:50000])
    time.sleep(0.05)


def half_a_message_in_a_transaction(wire):
    wire.query("begin")
    half_a_message(wire)


def half_a_parse(wire):
    wire.send(parse("select '" + "x" * 100000 + "'")[:30])
    time.sleep(0.05)


STATES = [idle, active, in_transaction, failed_transaction, in_copy_in, in_copy_out, unread_result, batch_without_sync,
          half_a_header, half_a_message, half_a_message_in_a_transaction, half_a_parse]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_client_goes(make_pooler, activity, state):
    """By RST, by a plain close and by Terminate, with one server for all."""
    pooler = make_pooler(ONE)
    for end in ("reset", "plain", "terminate"):
        wire = pooler.wire()
        state(wire)
        if end == "reset":
            wire.reset()
        elif end == "plain":
            wire.socket.close()
        else:
            wire.close()
        nothing_leaks(activity, pooler)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_waiting_client_goes(make_pooler, activity, mode):
    pooler = make_pooler({"pool_mode": mode, **ONE})
    holder = pooler.wire()
    holder.query("begin")
    for end in ("reset", "close"):
        for _ in range(5):
            wire = pooler.wire()
            waiting(wire)
            getattr(wire, end)()
    last = pooler.wire()
    last.send(query("select 7"))
    holder.query("commit")
    holder.close()
    assert last.ready().rows == [["7"]]
    last.close()
    nothing_leaks(activity, pooler)


def test_clients_go_in_session_mode(make_pooler, activity):
    pooler = make_pooler({"pool_mode": "session", **ONE})
    for state in (idle, active, in_transaction, in_copy_in, unread_result, half_a_message):
        wire = pooler.wire()
        state(wire)
        wire.reset()
        nothing_leaks(activity, pooler)


def test_uncommitted_work_of_a_client_that_goes_is_undone(make_pooler, activity):
    pooler = make_pooler(ONE)
    pooler.wire().query("drop table if exists kept; create table kept(n int)")
    for end in ("reset", "close"):
        wire = pooler.wire()
        wire.query("begin; insert into kept values (1)")
        getattr(wire, end)()
    wire = pooler.wire()
    wire.send(extended("insert into kept values (2)"))  # no Sync: not committed
    time.sleep(0.1)
    wire.reset()
    assert pooler.wire().value("select count(*) from kept") == "0"


# ---- hostile bytes ----

BAD_FRAMES = {
    "length 0": b"Q" + struct.pack("!i", 0), "length 3": b"Q" + struct.pack("!i", 3),
    "length -1": b"Q" + struct.pack("!i", -1), "length INT_MIN": b"P" + struct.pack("!i", -2**31),
    "type 0": message("\0"), "type z": message("z", b"abc"), "type R": message("R", b"\0\0\0\0"),
    "type 0xff": b"\xff" + packet(b"abc"), "startup again": startup({"user": USER}),
    "password": message("p", b"secret\0"),
}


def broken(wire, sent, name):
    """The connection ends, with a FATAL 08P01 or an error of the server's, or without a word."""
    wire.send(sent)
    try:
        found = []
        while True:
            got = wire.read()
            if got is None:
                break
            found.append(got)
    except socket.timeout:
        raise AssertionError("nothing happened: " + name)
    return [error for error in map(as_error, found) if error]


def as_error(got):
    return Refused(fields_of(got.body)) if got.type == "E" else None


def test_a_bad_header_is_shown_as_pgbouncer_shows_it(make_pooler):
    pooler = make_pooler({"admin_users": USER})
    for database in ("app", "pgbouncer"):
        for sent, shown in ((b"Q" + struct.pack("!i", 2), "5100000002"),
                            (b"P" + struct.pack("!i", -1) + b"abcd", "50ffffffff616263")):
            errors = broken(pooler.wire(database=database, timeout=5), sent, shown)
            assert [(no.severity, no.text) for no in errors] == [("FATAL", "bad packet header: '%s'" % shown)]
            assert errors[0].detail == "The message has an impossible length."
            pooler.wait_log("pooler error: bad packet header: '%s'" % shown)


@pytest.mark.parametrize("where", ["idle", "in a transaction", "behind a query", "in a batch"])
def test_bad_frames_after_login(make_pooler, activity, where):
    pooler = make_pooler({"default_pool_size": 2})
    bystander = pooler.wire()
    bystander.query("begin")
    for name, sent in BAD_FRAMES.items():
        wire = pooler.wire(timeout=5)
        if where == "in a transaction":
            wire.query("begin")
        elif where == "behind a query":
            sent = query("select 1") + sent
        elif where == "in a batch":
            sent = extended("select 1") + sent
        errors = broken(wire, sent, name)
        assert errors and errors[-1].severity == "FATAL" and errors[-1].sqlstate == "08P01", (name, errors)
        assert bystander.value("select 1") == "1"
    bystander.query("commit")
    wait_until(lambda: activity.count("state <> 'idle'") == 0, 1, "no server at work")


def test_messages_that_only_the_server_finds_bad(make_pooler, activity):
    """Well framed, so they pass, and PostgreSQL answers; the client lives as it would without us."""
    pooler = make_pooler(ONE)
    for sent in (message("Q", b"no end"), message("P", b"\0select 1\0\0\5") + sync(),
                 message("P", b"no end") + sync(), message("B", b"p\0no end") + sync(), message("D", b"Sno end") + sync(),
                 message("C", b"Sno end") + sync(), message("C", b"") + sync(),
                 message("B", b"\0\0\0\1\0\5\0\1\0\0\0\1x\0\0") + sync(), message("E", b"\0") + sync(),
                 parse("select $1::int") + bind(["x"]) + execute() + sync(), bind(portal="p", statement="") + sync(),
                 describe("X") + sync(), message("F", b"\0\0") + query("select 1")):
        wire = pooler.wire(timeout=5)
        wire.send(sent)
        try:
            wire.until("E")
        except Gone:
            raise AssertionError("no answer to %r" % sent)
        wire.reset()
        nothing_leaks(activity, pooler)


def test_hostile_logins(make_pooler, activity):
    pooler = make_pooler({"max_client_conn": 20})
    hello = startup({"user": USER, "database": "app"})
    sasl = lambda body: message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", len(body)) + body)  # noqa: E731
    first = sasl(b"n,,n=,r=abcdefgh")
    attempts = {
        "garbage": [b"GET / HTTP/1.1\r\n\r\n"], "tls": [bytes.fromhex("16030100ee010000ea0303") + b"x" * 200],
        "query instead": [hello, query("select 1")], "terminate": [hello, message("X")],
        "length -1": [hello, b"p" + struct.pack("!i", -1)], "length INT_MAX": [hello, b"p" + struct.pack("!i", 2**31 - 1)],
        "empty": [hello, message("p")], "mechanism": [hello, message("p", cstring("PLAIN") + struct.pack("!i", -1))],
        "mechanism without an end": [hello, message("p", b"SCRAM-SHA-256")],
        "sasl length 0": [hello, message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 0))],
        "sasl length 2^31-1": [hello, message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 2**31 - 1) + b"n,,")],
        "sasl length -2": [hello, message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", -2) + b"n,,")],
        "sasl length one more": [hello, message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 4) + b"n,,")],
        "no nonce": [hello, sasl(b"n,,n=,")], "channel binding": [hello, sasl(b"p=tls-unique,,n=,r=abc")],
        "nothing": [hello, sasl(b"")], "nul bytes": [hello, sasl(b"n,,n=,r=ab\0cd")], "long": [hello, sasl(b"n,,n=,r=" + b"a" * 9000)],
        "no proof": [hello, first, message("p", b"c=biws,r=abcdefgh")], "empty final": [hello, first, message("p")],
        "bad base64": [hello, first, message("p", b"c=biws,r=abcdefgh,p=!!!!")],
        "other nonce": [hello, first, message("p", b"c=biws,r=xxxx,p=" + b"A" * 43 + b"=")],
        "first twice": [hello, first, first],
    }
    for name, sent in attempts.items():
        wire = pooler.socket(timeout=5)
        for part in sent:
            wire.send(part)
            time.sleep(0.005)
        try:
            while wire.read() is not None:
                pass
        except socket.timeout:
            raise AssertionError("nothing happened: " + name)
        except AssertionError:
            pass
    assert pooler.wire().value("select 1") == "1"
    assert activity.count() == 1


def test_random_bytes_at_every_stage(make_pooler, activity):
    print("seed", SEED)
    rng = random.Random(SEED)
    pooler = make_pooler({"default_pool_size": 2, "max_client_conn": 1000})
    bystander = pooler.wire()
    files = None
    for turn in range(200):
        stage = turn % 4
        wire = pooler.socket(timeout=5)
        if stage == 1:
            wire.send(startup({"user": USER, "database": "app"}))
            wire.read()
        elif stage > 1:
            wire.login(USER, PASSWORD, "app")
            if stage == 3:
                wire.query("begin")
        garbage = bytearray(rng.randbytes(rng.choice([1, 4, 5, 8, 50, 5000])))
        if rng.random() < 0.5 and len(garbage) > 4:  # looks like a message
            garbage[0] = rng.choice(b"QPBDECHSFdcfXp\0z")
            garbage[1:5] = struct.pack("!i", rng.choice([len(garbage) - 1, 4, 5, 1000, 2**20]))
        wire.send(bytes(garbage))
        time.sleep(0.002)
        wire.reset()
        if turn % 10 == 0:
            assert bystander.value("select %d" % turn) == str(turn)
        if turn == 20:
            files = pooler.open_files()
    wait_until(lambda: activity.count("state <> 'idle'") == 0, 2, "no server at work")
    wait_until(lambda: pooler.open_files() <= files + 4, 2, "no socket left over")
    assert bystander.value("select 1") == "1"


# ---- hostile servers ----

AUTH_OK = message("R", b"\0\0\0\0")
READY = message("Z", b"I")
SASL = message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")
SERVERS = {
    "says nothing and closes": [b""], "garbage": [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
    "length -1": [b"R" + struct.pack("!i", -1)], "length INT_MAX": [b"R" + struct.pack("!i", 2**31 - 1) + b"x" * 100],
    "error without fields": [message("E", b"\0")], "error without an end": [message("E", b"SFATAL")],
    "ready at once": [READY], "ready with a transaction": [AUTH_OK + message("Z", b"T")],
    "unknown authentication": [message("R", struct.pack("!i", 77))], "no mechanisms": [message("R", struct.pack("!i", 10) + b"\0")],
    "sasl, then ok without proof": [SASL, AUTH_OK + READY],
    "sasl with a foreign nonce": [SASL, message("R", struct.pack("!i", 11) + b"r=foreign,s=c2FsdA==,i=4096")],
    "sasl with no salt": [SASL, message("R", struct.pack("!i", 11) + b"r=")],
    "row before login": [message("D", b"\0\0")], "broken ParameterStatus": [AUTH_OK + message("S", b"name") + READY],
    "short BackendKeyData": [AUTH_OK + message("K", b"\0") + READY],
}


@pytest.mark.parametrize("behaviour", SERVERS, ids=lambda name: name.replace(" ", "-"))
def test_hostile_server_at_login(make_pooler, listen, behaviour):
    def behave(connection):
        connection.settimeout(3)
        connection.recv(1000)
        for number, part in enumerate(SERVERS[behaviour]):
            if number:
                connection.recv(1000)
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
    pooler = make_pooler({"client_login_timeout": 0.4, "server_login_retry": 0.1},
                         databases={"app": "host=127.0.0.1 port=%d" % listen(behave).port, "other": ""})
    with pytest.raises(Refused) as no:
        pooler.wire()
    assert no.value.severity == "FATAL"
    assert pooler.wire(database="other").value("select 1") == "1"


def hangs_up(connection):
    connection.shutdown(socket.SHUT_RDWR)


def is_starting_up(connection):
    connection.recv(1000)
    connection.sendall(message("E", b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"))
    connection.shutdown(socket.SHUT_RDWR)


def says_nothing(_):
    pass


@pytest.mark.parametrize("failure", [hangs_up, is_starting_up, says_nothing], ids=lambda it: it.__name__)
def test_logins_that_fail_give_their_places_back(make_pooler, listen, failure):
    """Many more of them than the pool has places; then the server is well, and there is room for it."""
    def behave(connection):
        failure(connection) if len(server.came) <= 5 else scripted(b"")(connection)
    server = listen(behave)
    pooler = make_pooler({"default_pool_size": 1, "max_db_connections": 2, "max_user_connections": 2,
                          "server_connect_timeout": 0.2, "server_login_retry": 0.05, "client_login_timeout": 10},
                         databases={"app": "host=127.0.0.1 port=%d" % server.port})
    pooler.wire()
    assert len(server.came) == 6


def scram_server(iterations):
    def behave(connection):
        connection.settimeout(3)
        connection.recv(1000)
        connection.sendall(SASL)
        nonce = connection.recv(1000).split(b"r=")[1]
        connection.sendall(message("R", struct.pack("!i", 11) + b"r=" + nonce + b"abc,s=c2FsdA==,i=%d" % iterations))
        connection.recv(1000)
        connection.sendall(message("R", struct.pack("!i", 12) + b"v=" + b"A" * 43 + b"=") + AUTH_OK + READY)
    return behave


@pytest.mark.parametrize("iterations", [4096, 2**31 - 1, 0])
def test_server_that_does_not_know_the_password(make_pooler, listen, iterations):
    """Its signature is checked, and a count of iterations that would keep us busy for hours is refused."""
    pooler = make_pooler({"client_login_timeout": 0.4, "server_login_retry": 5},
                         databases={"app": "host=127.0.0.1 port=%d" % listen(scram_server(iterations)).port, "other": ""})
    with pytest.raises(Refused):
        pooler.wire()
    clock = Clock()
    assert pooler.wire(database="other").value("select 1") == "1"
    assert clock.seconds() < 2


def scripted(answer):
    """Logs everybody in, then answers the first request so."""
    def behave(connection):
        connection.recv(1000)
        connection.sendall(AUTH_OK + message("S", b"client_encoding\0UTF8\0") + message("K", b"\0\0\0\1\0\0\0\2") + READY)
        connection.recv(1000)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
    return behave


ROW = message("D", struct.pack("!hi", 1, 3) + b"abc")


@pytest.mark.parametrize("answer,types", [
    (ROW[:8], ""), (ROW + ROW[:3], "D"), (ROW + b"D" + struct.pack("!i", 2), "D"), (b"", ""), (b"\xff\xff\xff\xff\xff", ""),
    (ROW + message("E", b"SERROR\0C22000\0Mlast words\0\0"), "DE")],
    ids=["half a row", "half a header", "bad length", "nothing", "garbage", "an error"])
def test_server_breaks_off_its_answer(make_pooler, listen, answer, types):
    """What is whole arrives; an error of ours follows only where the client's stream stands between two messages."""
    pooler = make_pooler(databases={"app": "host=127.0.0.1 port=%d" % listen(scripted(answer)).port, "other": ""})
    wire = pooler.socket(timeout=5).login(USER, PASSWORD, "app")
    wire.send(query("select 1"))
    found = []
    try:
        while True:
            got = wire.read()
            if got is None:
                break
            found.append(got)
    except AssertionError:
        pass  # ends inside a message, as the server's did
    seen = "".join(m.type for m in found)
    assert seen in (types, types + "E"), seen
    if wire.buffer:
        assert wire.buffer == ROW[:len(wire.buffer)], "something was said inside a message"
    assert pooler.wire(database="other").value("select 1") == "1"


def test_idle_server_that_gets_dirty(make_pooler, listen):
    """What a server says unasked reaches no client: it is closed."""
    served = []

    def behave(connection):
        served.append(connection)
        connection.recv(1000)
        connection.sendall(AUTH_OK + message("S", b"client_encoding\0UTF8\0") + message("K", b"\0\0\0\1\0\0\0\2") + READY)
        while True:
            got = connection.recv(1000)
            if not got:
                return
            connection.sendall(message("C", b"SELECT 0\0") + READY)
            if len(served) == 1:
                time.sleep(0.1)
                connection.sendall(ROW)
    pooler = make_pooler({"server_check_delay": 100}, databases={"app": "host=127.0.0.1 port=%d" % listen(behave).port})
    wire = pooler.wire()
    assert wire.query("select 1").types == "CZ"
    time.sleep(0.3)
    assert wire.query("select 1").types == "CZ"
    assert len(served) == 2
    pooler.wait_log("idle server got dirty")


def test_more_than_was_asked(make_pooler, listen):
    """A second ReadyForQuery in the same packet: the server is not given to anybody."""
    extra = message("C", b"SELECT 0\0") + READY + ROW + READY
    pooler = make_pooler(ONE, databases={"app": "host=127.0.0.1 port=%d" % listen(scripted(extra)).port})
    a, b = pooler.wire(), pooler.wire()
    a.send(query("select 1"))
    assert a.ready().types == "CZ"
    b.send(query("select 2"))
    assert "D" not in b.ready().types


# ---- the whole ----

def test_memory_and_descriptors_stay_flat(make_pooler, activity):
    pooler = make_pooler({"max_client_conn": 500})

    def churn(rounds):
        for number in range(rounds):
            wires = [pooler.socket() for _ in range(10)]
            for wire in wires[:8]:
                wire.login(USER, PASSWORD, "app")
                wire.query("select 1")
            wires[8].send(startup({"user": "nobody", "database": "app"}))
            wires[0].send(query("select repeat('x', 100000)"))
            for wire in wires:
                wire.reset() if number % 2 else wire.close()
            pooler.clients.clear()
    churn(40)
    time.sleep(0.2)
    before, files = pooler.memory(), pooler.open_files()
    churn(150)
    wait_until(lambda: pooler.open_files() <= files + 2, 5, "no socket left over")
    grown = pooler.memory() - before
    assert SLOW or grown < 1024, "grew by %d KiB" % grown
    assert activity.count() <= 5


def test_crowd_comes_and_goes(make_pooler, activity):
    """Hundreds at once, gone at once, and the next hundreds find everything as it was."""
    pooler = make_pooler({"max_client_conn": 300, "default_pool_size": 3})
    for end in ("reset", "close", "reset"):
        wires = [pooler.wire() for _ in range(250)]
        for wire in wires:
            wire.send(query("select pg_sleep(0.01)"))
        for wire in wires[::2]:
            assert wire.ready().status == "I"
        for wire in wires:
            getattr(wire, end)()
        pooler.clients.clear()
        wait_until(lambda: activity.count("state <> 'idle'") == 0, 3, "no server at work")
    assert isinstance(Wire(pooler.address).login(USER, PASSWORD, "app").query("select 1")[0], Message)
