"""Logins, both legs: who gets in, with which secret stored in which form, and what the others are told."""
import hashlib
import re
import socket
import statistics
import struct
import threading
import time

import psycopg
import pytest

from pooler import PASSWORD, SLOW, USER, wait_until
from wire import GSSENC_REQUEST, SSL_REQUEST, Gone, Refused, Wire, cstring, fields_of, message, packet, query, startup, verifier

MD5_OF_APP = "md5" + hashlib.md5((PASSWORD + USER).encode()).hexdigest()


def secret_of(pg, form):
    return {"plain": PASSWORD, "md5": MD5_OF_APP, "scram": pg.verifier(USER)}[form]


# ---- clients ----

REFUSAL = {  # of a wrong password
    "password": ("28P01", "password authentication failed"),
    "sasl": ("28P01", "SASL authentication failed"),
    "trust": ("28000", '"trust" authentication failed'),
}


@pytest.mark.parametrize("form", ["plain", "md5", "scram"])
@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5", "plain", "trust", "any"])
def test_client_authentication(pg, make_pooler, auth_type, form):
    forced = "user=app" if auth_type == "any" else ""
    pooler = make_pooler({"auth_type": auth_type}, databases={"app": "dbname=trustdb " + forced},
                         auth={USER: secret_of(pg, form)})
    by_sasl = auth_type == "scram-sha-256" or (auth_type == "md5" and form == "scram")
    refusal = REFUSAL["trust" if auth_type == "trust" else "sasl" if by_sasl else "password"]

    def attempt(user, password):
        with Wire(pooler.address) as wire:
            try:
                wire.login(user, password, "app")
                assert wire.value("select current_user") == USER
                return "in"
            except Refused as no:
                assert no.severity == "FATAL"
                assert wire.read() is None, "the connection goes on after FATAL"
                return no.sqlstate, no.text

    right = attempt(USER, PASSWORD)
    if (auth_type, form) == ("scram-sha-256", "md5"):  # no proof can be checked against an md5 hash
        assert right == refusal
    else:
        assert right == "in"
    if auth_type == "any":
        assert attempt(USER, "wrong") == attempt("nobody", "wrong") == attempt(USER, "") == "in"
    elif auth_type == "trust":
        assert attempt(USER, "wrong") == attempt(USER, "") == "in"
        assert attempt("nobody", PASSWORD) == refusal
    else:
        assert attempt(USER, "wrong") == refusal
        assert attempt("nobody", PASSWORD) == refusal
        empty = attempt(USER, "")
        assert empty == refusal or empty == ("28P01", "empty password returned by client")


def test_a_user_of_the_users_section_alone_is_known(make_pooler):
    """As in PgBouncer: trust wants a user that there is, by either list."""
    pooler = make_pooler({"auth_type": "trust"}, databases={"app": "user=app dbname=trustdb"}, auth={USER: PASSWORD},
                         users={"onlyuser": "pool_mode=session"})
    assert pooler.wire("onlyuser", "", "app").value("select 1") == "1"
    with pytest.raises(Refused) as no:
        pooler.wire("nobody", "", "app")
    assert no.value.text == '"trust" authentication failed'


def test_empty_secret_lets_nobody_in(make_pooler):
    for auth_type in ("scram-sha-256", "md5", "plain"):
        pooler = make_pooler({"auth_type": auth_type}, auth={USER: ""})
        for password in ("", "x"):
            with pytest.raises(Refused) as no:
                pooler.wire(password=password)
            assert no.value.sqlstate == "28P01"


def shape(pooler, user, password):
    """What an attacker sees of a refused login: types, lengths and every byte that may not differ by chance."""
    with Wire(pooler.address) as wire:
        with pytest.raises(Refused) as no:
            wire.login(user, password, "app")
        seen = []
        for got in no.value.messages:
            kind = struct.unpack("!i", got.body[:4])[0] if got.type == "R" else None
            seen.append((got.type, kind, len(got.body), b"" if kind in (5, 11) else got.body))
        return seen, wire.salts


@pytest.mark.parametrize("auth_type,form", [("scram-sha-256", "plain"), ("scram-sha-256", "scram"), ("md5", "plain"),
                                            ("md5", "md5"), ("md5", "scram"), ("plain", "plain")])
def test_unknown_user_looks_like_a_wrong_password(pg, make_pooler, auth_type, form):
    pooler = make_pooler({"auth_type": auth_type}, auth={USER: secret_of(pg, form)})
    known, _ = shape(pooler, USER, "wrong")
    unknown, _ = shape(pooler, "nob", "wrong")
    assert unknown == known
    assert shape(pooler, "nob", PASSWORD)[0] == known


def test_unknown_user_takes_as_long_as_a_wrong_password(make_pooler):
    pooler = make_pooler()
    times = {USER: [], "nobody": []}
    for _ in range(31):
        for user, seen in times.items():
            start = time.perf_counter()
            shape(pooler, user, "wrong")
            seen.append(time.perf_counter() - start)
    medians = {user: statistics.median(seen) for user, seen in times.items()}
    assert abs(medians[USER] - medians["nobody"]) < (0.010 if SLOW else 0.001), medians


def test_salt_of_an_unknown_user_stays_the_same(make_pooler):
    pooler = make_pooler()
    salts = {user: [shape(pooler, user, "wrong")[1][0] for _ in range(3)] for user in ("nobody", "someone", USER)}
    assert all(len(set(shown)) == 1 for shown in salts.values()), salts
    assert len({shown[0] for shown in salts.values()}) == 3
    assert {len(shown[0]) for shown in salts.values()} == {16}


def test_long_and_odd_passwords(pg, make_pooler):
    pg.create_user("odd", "p w'\"\\\u00e4\u20ac")
    pg.create_user("long", "x" * 900)
    pooler = make_pooler(auth={"odd": "p w'\"\\\u00e4\u20ac", "long": "x" * 900, "longer": "y" * 60000})
    assert pooler.wire("odd", "p w'\"\\\u00e4\u20ac", "app").value("select current_user") == "odd"
    assert pooler.wire("long", "x" * 900, "app").value("select current_user") == "long"
    plain = make_pooler({"auth_type": "plain"}, databases={"app": "user=app"}, auth={USER: PASSWORD, "longer": "y" * 60000})
    assert plain.wire("longer", "y" * 60000).value("select current_user") == USER
    with pytest.raises((Refused, Gone)):
        plain.wire("longer", "y" * 70000)
    plain.wait_log("password too long")


# ---- servers ----

@pytest.mark.parametrize("database,user,password", [
    ("app", USER, PASSWORD), ("md5db", "md5user", "md5password"), ("passworddb", USER, PASSWORD),
    ("trustdb", USER, PASSWORD), ("passworddb", "md5user", "md5password")])
def test_server_authentication(make_pooler, database, user, password):
    pooler = make_pooler(databases={database: ""})
    assert pooler.wire(user, password, database).value("select current_user || '@' || current_database()") \
        == user + "@" + database


def test_server_md5_from_a_stored_hash(pg, make_pooler):
    stored = pg.verifier("md5user")
    assert stored.startswith("md5")
    pooler = make_pooler({"auth_type": "md5"}, databases={"md5db": ""}, auth={"md5user": stored})
    assert pooler.wire("md5user", "md5password", "md5db").value("select 1") == "1"


def test_server_refuses_the_password(make_pooler):
    pooler = make_pooler(auth={USER: "another"})
    with pytest.raises(Refused) as no:
        pooler.wire(password="another")
    assert (no.value.severity, no.value.sqlstate) == ("FATAL", "28P01")
    assert no.value.text == 'password authentication failed for user "app"'


def test_server_by_unix_socket(pg, make_pooler):
    pooler = make_pooler(databases={"app": "host=%s port=%d" % (pg.socket_directory, pg.port)})
    wire = pooler.wire()
    assert wire.value("select 1") == "1"
    assert wire.query("select inet_server_addr()").rows == [[None]]


def test_list_of_hosts_is_used_in_turn(pg, make_pooler):
    pooler = make_pooler({"server_login_retry": 0.1, "default_pool_size": 4},
                         databases={"app": "host=127.0.0.1,%s port=%d" % (pg.socket_directory, pg.port)})
    held = [pooler.wire() for _ in range(4)]
    for wire in held:
        wire.query("begin")
    assert sorted(str(wire.query("select inet_server_addr()").rows[0][0]) for wire in held) \
        == ["127.0.0.1", "127.0.0.1", "None", "None"]


def test_scram_pass_through(pg, make_pooler, activity):
    """A verifier on both sides: the client's proof yields the keys, and they serve for later servers too."""
    pooler = make_pooler(auth={USER: pg.verifier(USER)})
    with pytest.raises(Refused):
        pooler.wire(password="wrong")
    wire = pooler.wire()
    assert wire.value("select current_user") == USER
    activity.kill()
    assert pooler.wire().value("select current_user") == USER
    pg.restart()
    assert pooler.wire().value("select current_user") == USER
    assert pooler.connect().execute("select 1").fetchone() == (1,)


def test_scram_pass_through_needs_the_same_verifier(pg, make_pooler):
    """Another salt than the server's: our keys are worth nothing there, and the server says so."""
    pg.create_user("twin", PASSWORD)
    pooler = make_pooler(auth={USER: pg.verifier("twin")})
    with pytest.raises(Refused) as no:
        pooler.wire()
    assert no.value.sqlstate == "28P01"


# ---- ways in ----

def test_unix_socket_and_tcp(make_pooler):
    pooler = make_pooler()
    assert Wire(pooler.socket_path).login(USER, PASSWORD, "app").value("select 1") == "1"
    assert pooler.connect(host=pooler.directory).execute("select 1").fetchone() == (1,)
    assert pooler.connect().execute("select 1").fetchone() == (1,)
    assert psycopg.connect(pooler.url()).execute("select current_user").fetchone() == (USER,)


def test_encryption_requests_are_answered_with_no(make_pooler):
    pooler = make_pooler()
    for requests in ([SSL_REQUEST], [GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST], [SSL_REQUEST, GSSENC_REQUEST]):
        wire = pooler.socket()
        for request in requests:
            wire.send(request)
            assert wire.byte() == b"N"
        assert wire.login(USER, PASSWORD, "app").value("select 1") == "1"
    assert pooler.connect(sslmode="prefer").execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        pooler.connect(sslmode="require")


@pytest.mark.parametrize("request_,text", [
    (SSL_REQUEST, "received unencrypted data after SSL request"),
    (GSSENC_REQUEST, "received unencrypted data after GSSAPI encryption request")], ids=["ssl", "gssenc"])
def test_bytes_behind_an_encryption_request_are_refused(make_pooler, request_, text):
    wire = make_pooler().socket()
    wire.send(request_ + startup({"user": USER, "database": "app"}))
    first = wire.byte()
    if first == b"N":
        first = wire.byte()
    wire.buffer[:0] = first
    no = wire.refusal()
    assert (no.severity, no.sqlstate, no.text) == ("FATAL", "08P01", text)


def test_second_encryption_request_is_refused(make_pooler):
    pooler = make_pooler()
    for request in (SSL_REQUEST, GSSENC_REQUEST):
        wire = pooler.socket()
        wire.send(request)
        assert wire.byte() == b"N"
        wire.send(request)
        assert wire.refusal().sqlstate == "08P01"


# ---- startup packets ----

STARTUP_ERRORS = {
    "protocol 2": (startup({"user": USER}, 0x20000), "0A000", "old V2 protocol not supported"),
    "protocol 4": (startup({"user": USER}, 0x40000), "0A000", "bad packet header: '"),
    "no user": (startup({"database": "app"}), "28000", "no username supplied"),
    "empty": (startup({}), "28000", "no username supplied"),
    "long user": (startup({"user": "x" * 128}), "28000", "username too long"),
    "options": (startup({"user": USER, "options": "-W 5"}), "0A000",
                "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"),
    "options without a value": (startup({"user": USER, "options": "-c"}), "0A000",
                                "unsupported options startup parameter: "),
    "replication": (startup({"user": USER, "replication": "maybe"}), "22023",
                    'invalid value for parameter "replication": "maybe"'),
    "no terminator": (packet(struct.pack("!I", 0x30000) + b"user\0app\0"), "08P01",
                      "invalid startup packet layout: expected terminator as last byte"),
    "bytes behind the terminator": (packet(struct.pack("!I", 0x30000) + b"user\0app\0\0x"), "08P01",
                                    "invalid startup packet layout: expected terminator as last byte"),
    "startup again": (startup({"user": USER, "database": USER}) * 2, "08P01", "client re-sent startup pkt"),
    "header": (struct.pack("!ii", 7, 0x30000), "08P01", "bad packet header: '0000000700030000'"),
    "length 0": (struct.pack("!ii", 0, 0x30000), "08P01", "bad packet header: '"),
    "length 7": (struct.pack("!ii", 7, 0x30000), "08P01", "bad packet header: '"),
    "length 2^31-1": (struct.pack("!ii", 2**31 - 1, 0x30000), "08P01", "bad packet header: '"),
    "length -1": (struct.pack("!ii", -1, 0x30000), "08P01", "bad packet header: '"),
}


def test_startup_errors(make_pooler):
    pooler = make_pooler()
    for name, (sent, sqlstate, text) in STARTUP_ERRORS.items():
        wire = pooler.socket()
        wire.send(sent)
        no = wire.refusal()
        assert (no.severity, no.sqlstate) == ("FATAL", sqlstate), (name, no.fields)
        assert no.text.startswith(text), (name, no.text)
        assert no.fields["V"] == "FATAL"
    assert pooler.wire().value("select 1") == "1"


def test_ignored_startup_parameters(make_pooler):
    pooler = make_pooler({"ignore_startup_parameters": "extra_float_digits, geqo"})
    wire = pooler.wire(parameters={"extra_float_digits": "2", "options": "-c geqo=off"})
    assert wire.query("show geqo").rows == [["on"]]


def test_options_are_read_as_postgresql_does(make_pooler):
    wire = make_pooler().wire(parameters={
        "options": "-c timezone=Asia/Tokyo -capplication_name=a\\ b\\\\c --DateStyle=SQL,DMY  --client-encoding=LATIN1"})
    assert wire.value("show timezone") == "Asia/Tokyo"
    assert wire.value("show application_name") == "a b\\c"
    assert wire.value("show datestyle") == "SQL, DMY"
    assert wire.value("show client_encoding") == "LATIN1"
    assert wire.parameters["TimeZone"] == "Asia/Tokyo" and wire.parameters["client_encoding"] == "LATIN1"


def test_welcome(pg, make_pooler):
    """The parameters that a server tells, ours told with them, a key of our own, ReadyForQuery."""
    pooler = make_pooler()
    wire = pooler.wire(parameters={"application_name": "me"})
    direct = Wire(("127.0.0.1", pg.port)).login(USER, PASSWORD, "app", {"application_name": "me"})
    assert wire.parameters == direct.parameters
    assert wire.welcome[-1].body == b"I" and wire.welcome[-2].type == "K"
    assert len(wire.secret) == 4 and (wire.pid, wire.secret) != (pooler.wire().pid, pooler.wire().secret)
    assert wire.pid != int(wire.value("select pg_backend_pid()"))
    direct.close()


def test_startup_packet_in_pieces(make_pooler):
    pooler = make_pooler()
    wire = pooler.socket()
    for byte in startup({"user": USER, "database": "app"}):
        wire.send(bytes([byte]))
        time.sleep(0.002)
    wire.authenticate(USER, PASSWORD)
    assert wire.value("select 1") == "1"


# ---- databases ----

def test_a_database_name_that_is_too_long_is_none_and_cut(make_pooler):
    """As PgBouncer: also where one of its first 63 bytes is there, or *; and the log has no more of it."""
    pooler = make_pooler(databases={"app": "", "x" * 63: "", "*": ""})
    with pytest.raises(Refused) as no:
        pooler.wire(database="x" * 3000)
    assert (no.value.sqlstate, no.value.text) == ("3D000", "no such database: " + "x" * 63)
    with pytest.raises(Refused) as no:
        pooler.wire(database="x" * 64, password="wrong")
    assert no.value.sqlstate == "28P01"
    pooler.wait_log("pooler error: no such database: x{63}\n")
    assert "x" * 64 not in pooler.log()


def test_no_such_database_is_told_only_after_the_password(make_pooler):
    pooler = make_pooler()
    with pytest.raises(Refused) as no:
        pooler.wire(database="nodb")
    assert (no.value.sqlstate, no.value.text) == ("3D000", "no such database: nodb")
    assert no.value.detail and no.value.hint
    with pytest.raises(Refused) as no:
        pooler.wire(database="nodb", password="wrong")
    assert no.value.text == "SASL authentication failed"


def test_database_that_the_server_does_not_have(make_pooler):
    pooler = make_pooler(databases={"gone": ""})
    with pytest.raises(Refused) as no:
        pooler.wire(database="gone")
    assert (no.value.sqlstate, no.value.text) == ("3D000", 'database "gone" does not exist')


def test_wildcard(make_pooler):
    pooler = make_pooler(databases={"*": "", "app": "dbname=other"})
    assert pooler.wire(database="trustdb").value("select current_database()") == "trustdb"
    assert pooler.wire(database="app").value("select current_database()") == "other"


def test_forced_user_is_one_pool_for_everybody(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 1}, databases={"app": "user=app password=" + PASSWORD},
                         auth={USER: "x", "bob": "bobpassword"})
    seen = {tuple(pooler.wire(user, password).query("select current_user, pg_backend_pid()").rows[0])
            for user, password in ((USER, "x"), ("bob", "bobpassword"))}
    assert len(seen) == 1 and seen.pop()[0] == USER
    assert activity.count() == 1


def test_connect_query(make_pooler):
    pooler = make_pooler(databases={"app": "connect_query='select set_config(''my.mark'', ''a b'', false)'"})
    assert pooler.wire().value("select current_setting('my.mark')") == "a b"


def test_connect_query_that_fails(make_pooler):
    pooler = make_pooler({"client_login_timeout": 1}, databases={"app": "connect_query='select 1/0'"})
    with pytest.raises(Refused) as no:
        pooler.wire()
    assert no.value.severity == "FATAL"
    pooler.wait_log("exec_on_connect query failed")


def test_parameters_of_a_database(make_pooler):
    pooler = make_pooler(databases={
        "app": "client_encoding=LATIN1 timezone='Asia/Tokyo' datestyle='SQL, DMY' application_name='from the pooler'"})
    wire = pooler.wire()
    assert [wire.value("show " + name) for name in ("client_encoding", "timezone", "datestyle", "application_name")] \
        == ["LATIN1", "Asia/Tokyo", "SQL, DMY", "from the pooler"]
    assert wire.parameters["TimeZone"] == "Asia/Tokyo" and wire.parameters["client_encoding"] == "LATIN1"
    assert pooler.wire(parameters={"timezone": "UTC"}).value("show timezone") == "UTC"


# ---- what applications document today ----

DOCUMENTED = """
[databases]
app = host=127.0.0.1 port=%d dbname=app

[pgbouncer]
listen_port = {port}
listen_addr = 127.0.0.1
unix_socket_dir = {directory}
auth_type = scram-sha-256
auth_file = {auth_file}
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
"""


class ClientPool:
    """A client-side pool as applications have it: closes connections by lifetime and by idle time."""

    def __init__(self, url, size, lifetime, idle):
        self.url, self.size, self.lifetime, self.idle = url, size, lifetime, idle
        self.lock, self.slots = threading.Lock(), threading.Semaphore(size)
        self.free, self.opened = [], 0

    def run(self, work):
        with self.slots:
            now, entry = time.monotonic(), None
            with self.lock:
                while self.free and entry is None:
                    entry = self.free.pop()
                    if now - entry[1] > self.lifetime or now - entry[2] > self.idle:
                        entry[0].close()
                        entry = None
            if entry is None:
                connection = psycopg.connect(self.url, prepare_threshold=None)
                entry = [connection, now, now]
                with self.lock:
                    self.opened += 1
            with entry[0].transaction():
                work(entry[0])
            entry[2] = time.monotonic()
            with self.lock:
                self.free.append(entry)

    def close(self):
        for connection, _, _ in self.free:
            connection.close()


def test_documented_application_configuration(pg, make_pooler, activity):
    pooler = make_pooler(text=DOCUMENTED % pg.port, auth={"app": "strongpassword"})
    url = "postgres://app:strongpassword@127.0.0.1:%d/app?sslmode=disable" % pooler.port
    pg.sql("create table if not exists counted(n int); truncate counted; insert into counted values (0);"
           "grant all on counted to app", "app")
    pool = ClientPool(url, size=40, lifetime=0.3, idle=0.05)
    done, failures = [], []

    def worker(number):
        try:
            stop = time.monotonic() + 2
            while time.monotonic() < stop:
                pool.run(lambda connection: connection.execute("update counted set n = n + 1"))
                done.append(number)
                if len(done) % 7 == 0:
                    time.sleep(0.06)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()
    assert not failures, failures[:3]
    assert pool.opened > 40 and len(done) > 40
    assert pg.sql("select n from counted", "app") == str(len(done))
    assert activity.count() <= 20


# ---- hanging about ----

def test_client_that_leaves_during_login(make_pooler):
    pooler = make_pooler({"max_client_conn": 2})
    for _ in range(10):
        wire = pooler.socket()
        wire.send(startup({"user": USER, "database": "app"}))
        assert wire.read().type == "R"
        wire.reset()
    first = pooler.socket()
    first.send(SSL_REQUEST[:5])
    first.close()
    time.sleep(0.1)
    assert pooler.wire().value("select 1") == "1" and pooler.wire().value("select 1") == "1"


def test_login_in_one_go_is_not_required_to_be_patient(make_pooler):
    """A password sent along with the startup packet is read when its time has come."""
    pooler = make_pooler({"auth_type": "plain"})
    wire = pooler.socket()
    wire.send(startup({"user": USER, "database": "app"}) + message("p", cstring(PASSWORD)))
    found = wire.ready()
    assert found.types.startswith("RR") and found.status == "I"


def test_half_closed_client_is_let_go(make_pooler):
    pooler = make_pooler()
    wire = pooler.wire()
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.read() is None


def test_error_fields_of_the_pooler(make_pooler):
    wire = make_pooler().socket()
    wire.send(startup({"user": USER, "database": "app", "options": "nonsense"}))
    fields = fields_of(wire.until("E")[-1].body)
    assert set(fields) >= {"S", "V", "C", "M", "D", "H"}
    with pytest.raises(Gone):
        wire.until("Z")


def test_verifiers_are_made_beside_the_work(pg, make_pooler):
    """A RELOAD that makes many SCRAM verifiers of plain passwords, or a SET, holds up no login that needs a server."""
    users = {USER: PASSWORD, "bob": "bobpassword", **{"user%d" % n: "password%d" % n for n in range(10)}}
    pooler = make_pooler({"auth_type": "scram-sha-256", "admin_users": USER}, auth=users)
    pooler.settings["scram_iterations"] = 1000000  # some 0.3 s each
    pooler.write()
    admin, other = (pooler.wire(USER, PASSWORD, "pgbouncer", timeout=60) for _ in range(2))
    began = time.monotonic()
    admin.send(query("RELOAD"))
    pooler.wait_log("RELOAD command issued")
    other.send(query("SET log_stats = 0"))  # in its turn
    pooler.wait_log("SET 'log_stats' command issued")
    pooler.wire("bob", "bobpassword", "app").value("select 1")
    assert pooler.wire(USER, PASSWORD, "pgbouncer").value("SHOW VERSION").startswith("pgsluice ")
    took = time.monotonic() - began
    assert "configuration reloaded" not in pooler.log() and took < 1.5 * (5 if SLOW else 1), took
    assert admin.ready().tags == ["RELOAD"] and other.ready().tags == ["SET log_stats=0"]
    assert pooler.log().count("configuration reloaded") == 2
    pooler.wire("bob", "bobpassword", "app").value("select 1")


# ---- those that cost much ----

def test_a_dear_verifier_holds_up_its_own_user(make_pooler, pg):
    """Users set the iterations of their own verifiers. Whoever waits for many of those is not in the way of others."""
    pooler = make_pooler({"auth_type": "plain", "login_failure_max_delay": 0, "worker_threads": 1},
                         auth={USER: pg.verifier(USER), "bob": verifier("bobpassword", 300_000),
                               "mallory": verifier("mallory", 1_000_000)})

    def seconds(user, password):
        began = time.monotonic()
        with Wire(pooler.address, 60) as wire:
            wire.send(startup({"user": user, "database": "app"}) + message("p", cstring(password)))
            while (wire.read().type, user == USER) not in (("E", False), ("Z", True)):
                pass
        return time.monotonic() - began
    one = seconds("mallory", "wrong")
    for _ in range(30):  # they stay
        pooler.socket().send(startup({"user": "mallory", "database": "app"}) + message("p", cstring("wrong")))
    time.sleep(0.2)
    took = seconds(USER, PASSWORD), seconds("bob", "wrong")
    print("one costs %.2f s; 30 of them wait: others' %.2f s, a dear one of another user's %.2f s" % (one, *took))
    assert took[0] < 5 * one and took[1] < 8 * one, "in turn"
    pooler.close_clients()
    time.sleep(0.2)
    assert seconds("mallory", "wrong") < 8 * one, "those that have gone are not computed"


# ---- those that do not log in ----

def test_the_oldest_that_has_not_logged_in_makes_room(make_pooler):
    pooler = make_pooler({"max_unauthenticated_conn": 20, "max_client_conn": 10, "tcp_defer_accept": 0,
                          "worker_threads": 1})  # so that they come in their order
    silent = [pooler.socket(timeout=5) for _ in range(60)]
    with pooler.connect() as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        fields = fields_of(silent[0].read().body)
        assert (fields["C"], "max_unauthenticated_conn" in fields["D"]) == ("53300", True)
        assert silent[0].read() is None
        silent[-1].socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent[-1].fill()


def test_a_storm_of_refusals_does_not_fill_the_log(make_pooler):
    """Of each kind the first of a second have PgBouncer's lines; the others are counted, and none is lost."""
    pooler, most, storm, few = make_pooler(), 100, 700, 20
    began = time.monotonic()
    for bytes_ in [startup({"database": "app"})] * storm + [startup({"user": USER}, 0x20000)] * few:
        with Wire(pooler.address) as wire:
            wire.send(bytes_)
    seconds = time.monotonic() - began

    def counted():
        return sum(map(int, re.findall(r'left out of the log within one second: .*?(\d+) of "no username', pooler.log())))
    told = lambda what: len(re.findall("%s: no username supplied" % what, pooler.log()))  # noqa: E731
    wait_until(lambda: told("closing because") + counted() == storm, what="all to be told or counted")
    assert told("pooler error") == told("closing because") <= most * (2 + int(seconds)), seconds
    assert counted() > 0
    assert len(re.findall("closing because: old V2 protocol", pooler.log())) == few, "another kind"
    pooler.wire().value("select 1")
    pooler.wait_log("app/app@.* login attempt: db=app user=app")


def test_guessing_is_slow_and_honest_clients_are_not(make_pooler):
    pooler = make_pooler({"login_failure_max_delay": 1, "worker_threads": 1})
    slack = 5 if SLOW else 1

    def seconds(user, password):
        began = time.monotonic()
        with Wire(pooler.address) as wire:
            try:
                wire.login(user, password, "app")
            except Refused as no:
                assert no.sqlstate == "28P01"
        return time.monotonic() - began
    waits = [seconds(USER, "guess") for _ in range(9)]
    assert [round(it, 1) for it in waits[5:]] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.15 * slack)
    assert max(waits[:5]) < 0.5
    assert seconds("bob", "bobpassword") < 0.5 and seconds("bob", "typo") < 0.5

    # Silence is no answer: who hangs up when none has come has learned nothing, whether right or wrong, and is in
    # nobody's way.
    def impatient(password):
        with pytest.raises(TimeoutError), Wire(pooler.address, 0.3) as wire:
            wire.login(USER, password, "app")
    for password in ("guess", PASSWORD, "guess", PASSWORD):
        impatient(password)
    # Many connections guess hardly faster than one: five a second.
    guesses = [pooler.socket() for _ in range(15)]
    took = []

    def guess(it):
        began = time.monotonic()
        with pytest.raises(Refused):
            it.login(USER, "guess", "app")
        took.append(time.monotonic() - began)
    threads = [threading.Thread(target=guess, args=(it,)) for it in guesses]
    for it in threads:
        it.start()
    time.sleep(0.2)
    assert seconds("bob", "bobpassword") < 0.5
    for it in threads:
        it.join()
    assert min(took) > 0.9 and max(took) > 3.5 and sorted(took)[9] > 2.5, took
    # Nobody is locked out: a right one is told in its turn, and begins the count anew.
    assert 0.9 < seconds(USER, PASSWORD) < 1 + 0.5 * slack
    assert seconds(USER, PASSWORD) < 0.5 and seconds(USER, "guess") < 0.5
    # The turn of one that has gone while it waits is free again.
    for _ in range(9):
        seconds(USER, "guess")
    threads = [threading.Thread(target=impatient, args=("guess",)) for _ in range(10)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert 0.9 < seconds(USER, PASSWORD) < 1 + 0.5 * slack
