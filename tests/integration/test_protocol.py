"""Protocol versions and cancel keys, towards clients as PostgreSQL 18 and towards servers of every age."""
import struct
import threading

import pytest

from pooler import PASSWORD, USER, wait_until
from wire import Refused, Wire, cancel_request, cstring, message, query, startup

V30, V31, V32 = 0x30000, 0x30001, 0x30002
GREASE = 0x30000 + 9999


# ---- clients ----

@pytest.mark.parametrize("asked,options,told,key_bytes", [
    (V30, [], None, 4),
    (V31, [], None, 4),
    (V32, [], None, 32),
    (0x30003, [], V32, 32),
    (GREASE, ["_pq_.test_protocol_negotiation"], V32, 32),
    (V30, ["_pq_.one", "_pq_.two"], V30, 4),
    (V32, ["_pq_.one"], V32, 32)])
@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5", "plain", "trust"])
def test_versions(make_pooler, asked, options, told, key_bytes, auth_type):
    wire = make_pooler({"auth_type": auth_type}).socket()
    wire.login(USER, PASSWORD, "app", {name: "x" for name in options}, asked)
    said = [m.body for m in wire.welcome if m.type == "v"]
    names = b"".join(cstring(name) for name in options)
    assert said == ([] if told is None else [struct.pack("!II", told, len(options)) + names])
    if told is not None:
        assert wire.welcome[0].type == "v", "before the authentication"
    assert len(wire.secret) == key_bytes and 0 < wire.pid < 1 << 31
    assert wire.value("select 1") == "1"


@pytest.mark.parametrize("asked", [0x20000, 0x40000, 0x10000, 0xFFFF0000])
def test_versions_that_are_refused(make_pooler, asked):
    wire = make_pooler().socket()
    wire.send(startup({"user": USER}, asked))
    assert wire.refusal().sqlstate == "0A000"


@pytest.mark.parametrize("workers", [1, 2])
def test_cancel_by_a_long_key(make_pooler, activity, workers):
    pooler = make_pooler({"worker_threads": workers})
    for _ in range(3):
        wire = pooler.socket().login(USER, PASSWORD, "app", protocol=V32)
        wire.send(query("select pg_sleep(30)"))
        wait_until(lambda: activity.count("state = 'active' and query like '%pg_sleep%'") == 1, 5, "it runs")
        for wrong in (wire.secret[:-1], wire.secret + b"x", wire.secret[:4], b"\0" * 32, b"x" * 256,
                      wire.secret[:-1] + bytes([wire.secret[-1] ^ 1])):
            with Wire(pooler.address) as other:
                other.send(cancel_request(wire.pid, wrong))
                assert other.read() is None
        with Wire(pooler.address) as other:
            other.send(cancel_request(wire.pid, wire.secret) + b"X and anything else" * 100)
            assert other.read() is None
        assert wire.ready().errors[0].sqlstate == "57014"


def test_keys_are_random(make_pooler):
    pooler = make_pooler({"max_client_conn": 1000})
    wires = [pooler.socket().login(USER, PASSWORD, "app", protocol=V32 if n % 2 else V30) for n in range(100)]
    for secrets in ([w.secret for w in wires[0::2]], [w.secret for w in wires[1::2]]):
        assert len(set(secrets)) == 50
        for bit in range(8 * len(secrets[0])):
            ones = sum(secret[bit // 8] >> bit % 8 & 1 for secret in secrets)
            assert 5 <= ones <= 45, "bit %d is set in %d of 50 keys" % (bit, ones)
    assert len({w.pid for w in wires}) == 100


# ---- servers ----

class Server:
    """Enough of a server to log in to and to ask one thing of. `versions`: what it speaks; what it is told otherwise
    is answered by `otherwise` (the bytes, or None to hang up)."""

    def __init__(self, newest=V30, key=b"abcd", otherwise=None):
        self.newest, self.key, self.otherwise = newest, key, otherwise
        self.asked, self.cancels = [], []
        self.sleeping = threading.Event()
        self.canceled = threading.Event()

    def __call__(self, connection):
        read = connection.makefile("rb").read
        size, code = struct.unpack("!II", read(8))
        rest = read(size - 8)
        if code == 80877102:
            self.cancels.append(rest)
            self.canceled.set()
            return connection.shutdown(2)
        self.asked.append(code)
        if code > self.newest and self.otherwise != "negotiate":
            if self.otherwise:
                connection.sendall(self.otherwise)
            return connection.shutdown(2)
        hello = b""
        if code > self.newest:
            hello += message("v", struct.pack("!II", self.newest, 0))
        hello += message("R", struct.pack("!I", 0)) + message("S", cstring("server_version") + cstring("18.0"))
        if self.key is not None:
            hello += message("K", struct.pack("!I", 7) + self.key)
        connection.sendall(hello + message("Z", b"I"))
        while True:
            kind = read(1)
            if not kind or kind == b"X":
                return
            body = read(struct.unpack("!I", read(4))[0] - 4)
            if kind == b"Q" and b"sleep" in body:
                self.sleeping.set()
                self.canceled.wait(10)
                self.canceled.clear()
                connection.sendall(message("E", b"SERROR\0C57014\0Mcanceled\0\0") + message("Z", b"I"))
            elif kind == b"Q":
                connection.sendall(message("C", cstring("OK")) + message("Z", b"I"))


def in_front_of(make_pooler, listen, server, **settings):
    place = {"app": "host=127.0.0.1 port=%d" % listen(server).port}
    return make_pooler({"default_pool_size": 1, "server_login_retry": 0.2, **settings}, databases=place)


def refused(sqlstate, text):
    return message("E", b"SFATAL\0VFATAL\0C%s\0M%s\0\0" % (sqlstate.encode(), text.encode()))


@pytest.mark.parametrize("server,asked", [
    (Server(V32, b"k" * 32), [V32]),
    (Server(V32, b"k" * 256), [V32]),
    (Server(V32, b"abcd"), [V32]),
    (Server(V30, b"abcd", "negotiate"), [V32]),
    (Server(V30, b"abcd", refused("0A000", "unsupported frontend protocol 3.2: server supports 1.0 to 3.0")), [V32, V30]),
    (Server(V30, b"abcd", refused("08P01", "unsupported")), [V32, V30]),
    (Server(V30, b"abcd", None), [V32, V30]),
    (Server(V30, None, "negotiate"), [V32])],
    ids=["18", "256", "4", "15", "9.2", "proxy", "hangup", "no key"])
def test_servers(make_pooler, listen, server, asked):
    """The newest version first, then what the server speaks; and its own key, of any length, cancels."""
    server.asked.clear()
    pooler = in_front_of(make_pooler, listen, server)
    wire = pooler.wire()
    wire.query("select 1")
    assert server.asked == asked
    wire.send(query("select sleep"))
    assert server.sleeping.wait(5)
    with Wire(pooler.address) as other:
        other.send(cancel_request(wire.pid, wire.secret))
        assert other.read() is None
    if server.key is None:
        assert server.cancels == []
        server.canceled.set()
    else:
        assert server.cancels == [struct.pack("!I", 7) + server.key]
    wire.ready()
    # What was learnt holds for the next connection.
    pooler.databases["app"] += " pool_size=3"
    pooler.reload()
    first = len(server.asked)
    others = [pooler.wire() for _ in range(2)]
    server.sleeping.clear()
    wire.send(query("select sleep"))
    assert server.sleeping.wait(5)
    others[0].query("select 1")
    server.canceled.set()
    wire.ready()
    assert set(server.asked[first:]) == {asked[-1]}


def test_server_protocol_3_0(make_pooler, listen):
    server = Server(V32, b"abcd")
    pooler = in_front_of(make_pooler, listen, server, server_protocol="3.0")
    pooler.wire().query("select 1")
    assert server.asked == [V30]


def test_other_refusals_are_told_at_once(make_pooler, listen):
    server = Server(V30, b"abcd", refused("28000", "no pg_hba.conf entry"))
    pooler = in_front_of(make_pooler, listen, server)
    with pytest.raises(Refused) as no:
        pooler.wire()
    assert no.value.sqlstate == "28000"
    assert server.asked == [V32]


def test_a_server_that_says_more_than_it_may(make_pooler, listen):
    for bad in (struct.pack("!II", V32 + 1, 0), struct.pack("!II", V30, 1) + b"_pq_.x\0", struct.pack("!I", V30)):
        asked = []

        def server(connection):
            asked.append(struct.unpack("!II", connection.recv(1000)[:8])[1])
            connection.sendall(message("v", bad) + message("R", struct.pack("!I", 0)) + message("Z", b"I"))
        pooler = in_front_of(make_pooler, listen, server, client_login_timeout=1.5)
        with pytest.raises(Refused):
            pooler.wire()
        assert asked[0] == V32 and set(asked[1:]) <= {V30}


def test_the_real_one_negotiates(pg):
    """What PostgreSQL before 18 makes of 3.2, measured: it comes down to 3.0 and goes on."""
    wire = Wire((pg.host, pg.port)).login(USER, PASSWORD, "app", protocol=V32)
    said = [m.body for m in wire.welcome if m.type == "v"]
    version = int(wire.value("show server_version_num"))
    assert said == ([struct.pack("!II", V30, 0)] if version < 180000 else [])
    assert len(wire.secret) == (4 if version < 180000 else 32)
    wire.close()


def test_pids_differ_from_the_servers(make_pooler, activity):
    """A client's key says nothing of its server's."""
    pooler = make_pooler()
    wire = pooler.wire()
    pid = int(wire.value("select pg_backend_pid()"))
    assert wire.pid != pid
