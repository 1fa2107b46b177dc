"""TLS on both legs: the modes as tables of outcomes, what comes before and around a handshake, channel binding,
certificates that change. The certificates are made here; see tests/support/certificates.py."""
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

import psycopg
import pytest

from certificates import Certificates, Pair
from dns_server import DnsServer
from pg import Postgres, bin_directory
from pooler import PASSWORD, SLOW, USER, wait_until
from wire import (GSSENC_REQUEST, SSL_REQUEST, Gone, Refused, Wire, anything, cancel_request, cstring, message, query,
                  startup)

LONG = os.environ.get("PGSLUICE_LONG", "0") not in ("", "0")
MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@pytest.fixture(scope="module")
def certificates():
    made = Certificates()
    made.authority("ca")
    made.authority("stranger")  # a CA that nobody here trusts
    made.make("good", "ca")
    made.make("other", "ca")
    made.make("selfsigned", None)
    made.make("wrongname", "ca", "other.example", ["DNS:other.example"])
    made.make("expired", "ca", days=-1)
    made.make("untrusted", "stranger")
    made.make("app", "ca", USER, [])
    made.make("nameless", "ca", "", ["URI:spiffe://shop/app"])
    made.make("appexpired", "ca", USER, [], days=-1)
    made.make("appstranger", "stranger", USER, [])
    made.make("appself", None, USER, [])
    made.make("revoked", "ca")
    made.make("apprevoked", "ca", USER, [])
    made.authority("between", signer="ca")
    made.make("appbetween", "between", USER, [])
    whole = made.bundle("appchain.crt", made.made["appbetween"].cert, made.made["between"].cert)
    made.made["appchain"] = Pair(whole, made.made["appbetween"].key)
    # What the poolers trust: the CA, and its list and the other's of what is revoked.
    made.list = made.revocations("ca", ["revoked", "apprevoked"])
    made.trusted = made.bundle("trusted.crt", made.made["ca"].cert, made.list, made.revocations("between"))
    yield made
    made.remove()


@pytest.fixture(scope="module")
def tls_pg(certificates):
    """A PostgreSQL with TLS, whose certificate is that of `server`; databases app, onlytls, onlyplain, certdb."""
    server = Pair(certificates.path("server.crt"), certificates.path("server.key"))
    certificates.install(certificates.made["good"], server)
    hba = ["hostssl onlytls all 127.0.0.1/32 scram-sha-256", "hostnossl onlyplain all 127.0.0.1/32 scram-sha-256",
           "hostssl certdb all 127.0.0.1/32 cert", "host app all 127.0.0.1/32 scram-sha-256"]
    conf = {"ssl": "on", "ssl_cert_file": server.cert, "ssl_key_file": server.key,
            "ssl_ca_file": certificates.path("ca.crt"), "max_connections": 60}
    with Postgres(conf, hba) as pg:
        pg.create_user(USER, PASSWORD)
        for name in ("app", "onlytls", "onlyplain", "certdb"):
            pg.create_database(name, owner=USER)
        pg.server = server
        yield pg


@pytest.fixture
def front(make_pooler, certificates):
    """front(settings): a pooler that offers TLS to clients."""
    def make(settings=None, cert="good", **more):
        pair = Pair(certificates.path("front.crt"), certificates.path("front.key"))
        certificates.install(certificates.made[cert], pair)
        made = make_pooler({"client_tls_sslmode": "prefer", "client_tls_key_file": pair.key,
                            "client_tls_cert_file": pair.cert, "client_tls_ca_file": certificates.trusted,
                            **(settings or {})}, **more)
        made.pair = pair
        return made
    return make


def psql(pooler, sql="select 1", check=True, **options):
    """By libpq, with its connection options; returns what was printed, or with check=False (status, errors)."""
    options = {"host": "127.0.0.1", "port": pooler.port, "user": USER, "password": PASSWORD, "dbname": "app",
               "connect_timeout": 20, **options}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run([os.path.join(bin_directory(), "psql"), "-X", "-q", "-A", "-t", "-c", sql,
                           " ".join("%s='%s'" % pair for pair in options.items())],
                          env={**environment, "HOME": "/nonexistent"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    if check:
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
    return done.returncode, done.stderr


def in_by_wire(pooler, tls=True, direct=False, context=None, database="app"):
    wire = pooler.socket()
    if tls:
        wire.secure(context, direct)
    return wire.login(USER, PASSWORD, database)


# ---- clients: the modes ----

# What becomes of a client that shows this, under each client_tls_sslmode. plain, tls: it is in, so or so.
FRONT = {
    #                disable  allow    prefer   require  verify-ca verify-full
    "no TLS":       ["plain", "plain", "plain", "no",    "no",     "no"],
    "none":         ["plain", "tls",   "tls",   "tls",   "no",     "no"],
    "appself":      ["plain", "tls",   "tls",   "tls",   "no",     "no"],
    "appexpired":   ["plain", "tls",   "tls",   "tls",   "no",     "no"],
    "appstranger":  ["plain", "tls",   "tls",   "tls",   "no",     "no"],
    "apprevoked":   ["plain", "tls",   "tls",   "tls",   "no",     "no"],
    "appbetween":   ["plain", "tls",   "tls",   "tls",   "no",     "no"],  # without the one between
    "appchain":     ["plain", "tls",   "tls",   "tls",   "tls",    "tls"],
    "wrongname":    ["plain", "tls",   "tls",   "tls",   "tls",    "tls"],
    "app":          ["plain", "tls",   "tls",   "tls",   "tls",    "tls"],
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_towards_clients(front, certificates, mode):
    pooler = front({"client_tls_sslmode": mode})
    for shown, outcomes in FRONT.items():
        expected = outcomes[MODES.index(mode)]
        wire = pooler.socket()
        try:
            if shown != "no TLS":
                wire.send(SSL_REQUEST)
                assert wire.byte() == (b"N" if mode == "disable" else b"S")
                if mode != "disable":
                    cert = None if shown == "none" else certificates.made[shown]
                    wire.socket = anything(cert=cert).wrap_socket(wire.socket, server_hostname="localhost")
            wire.login(USER, PASSWORD, "app")
            outcome = "tls" if isinstance(wire.socket, ssl.SSLSocket) else "plain"
            assert wire.value("select 1") == "1"
        except (Refused, Gone, ssl.SSLError, ConnectionError) as no:
            outcome = "no"
            if shown == "no TLS":
                assert (no.severity, no.sqlstate, no.text) == ("FATAL", "08P01", "SSL required")
        assert outcome == expected, (mode, shown)


# What becomes of a psql with this sslmode (and our CA), by the certificate it is shown.
BACK_OF_PSQL = {
    #              disable  allow    prefer   require  verify-ca verify-full
    "off":        ["plain", "plain", "plain", "no",    "no",     "no"],
    "selfsigned": ["plain", "plain", "tls",   "no",    "no",     "no"],
    "wrongname":  ["plain", "plain", "tls",   "tls",   "tls",    "no"],
    "expired":    ["plain", "plain", "tls",   "no",    "no",     "no"],
    "untrusted":  ["plain", "plain", "tls",   "no",    "no",     "no"],
    "revoked":    ["plain", "plain", "tls",   "no",    "no",     "no"],
    "good":       ["plain", "plain", "tls",   "tls",   "tls",    "tls"],
}


@pytest.mark.parametrize("shown", BACK_OF_PSQL)
def test_every_mode_of_libpq(front, certificates, shown):
    pooler = front({"client_tls_sslmode": "disable"} if shown == "off" else None, "good" if shown == "off" else shown)
    for mode, expected in zip(MODES, BACK_OF_PSQL[shown]):
        root = {} if mode in ("allow", "prefer") else {"sslrootcert": certificates.path("ca.crt"), "sslcrl": certificates.list}
        status, errors = psql(pooler, check=False, sslmode=mode, **root)
        how = "no" if status else "in"
        assert how == ("no" if expected == "no" else "in"), (shown, mode, errors)
    tls = sum("tls=TLSv1.3/" in line for line in pooler.log().splitlines() if "login attempt" in line)
    assert tls == BACK_OF_PSQL[shown].count("tls")


# ---- servers: the modes ----

# What becomes of a login to a server that shows this, under each server_tls_sslmode.
BACK = {
    #              disable  allow    prefer   require  verify-ca verify-full
    "off":        ["plain", "plain", "plain", "no",    "no",     "no"],
    "selfsigned": ["plain", "plain", "tls",   "tls",   "no",     "no"],
    "wrongname":  ["plain", "plain", "tls",   "tls",   "tls",    "no"],
    "expired":    ["plain", "plain", "tls",   "tls",   "no",     "no"],
    "untrusted":  ["plain", "plain", "tls",   "tls",   "no",     "no"],
    "revoked":    ["plain", "plain", "tls",   "tls",   "no",     "no"],
    "good":       ["plain", "plain", "tls",   "tls",   "tls",    "tls"],
}
HOW = "select case when ssl then 'tls' else 'plain' end from pg_stat_ssl where pid = pg_backend_pid()"


def show(tls_pg, certificates, name):
    """The server shows this certificate from now on; off: it has no TLS."""
    tls_pg.sql("alter system set ssl = '%s'" % ("off" if name == "off" else "on"))
    if name != "off":
        certificates.install(certificates.made[name], tls_pg.server)
    before = tls_pg.sql("select pg_conf_load_time()")
    tls_pg.sql("select pg_reload_conf()")
    wait_until(lambda: tls_pg.sql("select pg_conf_load_time()") != before, what="the reload of PostgreSQL")


def behind(make_pooler, tls_pg, certificates, mode, options="", database="app", host="127.0.0.1", **settings):
    return make_pooler({"server_tls_sslmode": mode, "server_tls_ca_file": certificates.trusted,
                        "server_login_retry": 0.2, "client_login_timeout": 3 if SLOW else 1, **settings},
                       databases={database: "host=%s port=%d %s" % (host, tls_pg.port, options)})


@pytest.mark.parametrize("shown", BACK)
def test_every_mode_towards_servers(make_pooler, tls_pg, certificates, shown):
    show(tls_pg, certificates, shown)
    for mode, expected in zip(MODES, BACK[shown]):
        pooler = behind(make_pooler, tls_pg, certificates, mode)
        try:
            outcome = Wire(pooler.address).login(USER, PASSWORD, "app").value(HOW)
        except Refused as no:
            outcome = "no"
            assert no.text == "client_login_timeout (server down)"
            pooler.wait_log("server login failed: (TLS startup failed: certificate verify failed|server refused SSL)")
        assert outcome == expected, (shown, mode)
    show(tls_pg, certificates, "good")


# Common name, names of subjectAltName, host, whether verify-full takes it.
NAMED = {
    "by-name": ("localhost", ["DNS:localhost"], "localhost", True),
    "only-name": ("other", ["DNS:localhost"], "127.0.0.1", False),
    "only-address": ("other", ["IP:127.0.0.1"], "localhost", False),
    "cn": ("localhost", None, "localhost", True),
    "cn-beside-address": ("localhost", ["IP:10.0.0.1"], "localhost", True),
    "cn-beside-name": ("localhost", ["DNS:other"], "localhost", False),
    "address-as-cn": ("127.0.0.1", None, "127.0.0.1", True),
    "address-as-cn-beside-address": ("127.0.0.1", ["IP:10.0.0.1"], "127.0.0.1", False),
    "address-as-name": ("other", ["DNS:127.0.0.1"], "127.0.0.1", True),
    "wildcard": ("other", ["DNS:*.internal"], "pg.internal", True),
    "wildcard-as-cn": ("*.internal", None, "pg.internal", True),
    "wildcard-of-two": ("other", ["DNS:*.internal"], "pg.db.internal", False),
    "part-of-a-label": ("other", ["DNS:p*.internal"], "pg.internal", False),
}


def test_tls_to_a_server_by_its_name(make_pooler, tls_pg, certificates):
    """verify-full goes by host=, as a name or as an address, by the rules of libpq, which is asked too."""
    with DnsServer() as dns:
        for name in ("pg.internal", "pg.db.internal"):
            dns.answer(name, ["127.0.0.1"])
        resolv_conf = dns.resolv_conf(certificates.directory)
        for made, (common_name, names, host, fits) in NAMED.items():
            if made not in certificates.made:
                certificates.make(made, "ca", common_name, names)
            show(tls_pg, certificates, made)
            status, errors = psql(tls_pg, check=False, host=host, hostaddr="127.0.0.1", sslmode="verify-full",
                                  sslrootcert=certificates.path("ca.crt"))
            assert (status == 0) == fits, (made, errors)
            pooler = behind(make_pooler, tls_pg, certificates, "verify-full", resolv_conf=resolv_conf, host=host)
            try:
                Wire(pooler.address).login(USER, PASSWORD, "app").value("select 1")
                outcome = True
            except Refused:
                outcome = False
            assert outcome == fits, made
    show(tls_pg, certificates, "good")


def test_the_other_way(make_pooler, tls_pg, certificates):
    """allow and prefer come to a server that wants, or does not want, TLS for this database; as libpq."""
    for database, modes in (("onlytls", {"disable": "no", "allow": "tls", "prefer": "tls", "require": "tls"}),
                            ("onlyplain", {"disable": "plain", "allow": "plain", "prefer": "plain", "require": "no"})):
        for mode, expected in modes.items():
            pooler = behind(make_pooler, tls_pg, certificates, mode, database=database)
            try:
                outcome = Wire(pooler.address).login(USER, PASSWORD, database).value(HOW)
            except Refused as no:
                outcome = "no"
                assert no.sqlstate == "28000", no
            assert outcome == expected, (database, mode)
            again = {("onlytls", "allow"): "with", ("onlyplain", "prefer"): "without"}.get((database, mode))
            if again:
                pooler.wait_log("trying again %s TLS" % again)
            else:
                assert "trying again" not in pooler.log()


def test_our_certificate_lets_us_in(make_pooler, tls_pg, certificates):
    """server_tls_cert_file is shown to a server that asks: pg_hba's cert."""
    app = certificates.made["app"]
    pooler = behind(make_pooler, tls_pg, certificates, "verify-full", database="certdb",
                    server_tls_key_file=app.key, server_tls_cert_file=app.cert)
    assert Wire(pooler.address).login(USER, PASSWORD, "certdb").value(HOW) == "tls"
    without = behind(make_pooler, tls_pg, certificates, "verify-full", database="certdb")
    with pytest.raises(Refused) as no:
        Wire(without.address).login(USER, PASSWORD, "certdb")
    assert no.value.sqlstate == "28000"


@pytest.mark.parametrize("how", ["auth_type", "hba", "subject"])
def test_a_certificate_is_enough_to_log_in(front, certificates, tmp_path_factory, how):
    """auth_type = cert, and cert lines of HBA: the name in a verified certificate is the user's."""
    settings = {"client_tls_sslmode": "verify-full", "auth_type": "cert"}
    if how != "auth_type":
        rules, names = certificates.path("hba.conf"), certificates.path("ident.conf")
        for path, line in ((rules, "hostssl app all 127.0.0.1/32 cert" + (" clientname=DN map=m" if how == "subject" else "")),
                           (names, "m CN=%s %s" % (USER, USER))):
            with open(path, "w") as file:
                file.write(line + "\n")
            os.chmod(path, 0o644)
        settings = {"client_tls_sslmode": "verify-ca", "auth_type": "hba", "auth_hba_file": rules, "auth_ident_file": names}
    pooler = front(settings)

    def shown(name, **more):
        certificate = certificates.made[name]
        return psql(pooler, "select session_user", check=False, sslmode="require", sslcert=certificate.cert,
                    sslkey=certificate.key, password="", **more)
    app = certificates.made["app"]
    assert psql(pooler, "select session_user", sslmode="require", sslcert=app.cert, sslkey=app.key, password="") == USER
    for status, errors in (shown("app", user="bob"), shown("wrongname"), shown("appexpired"), shown("appstranger"),
                           psql(pooler, check=False, sslmode="require"), psql(pooler, check=False, sslmode="disable")):
        assert status, errors


@pytest.mark.parametrize("option, good, bad", [("verify-ca", "nameless app wrongname", "appexpired"),
                                               ("verify-full", "app", "nameless wrongname appstranger")])
def test_a_certificate_beside_the_password(front, certificates, option, good, bad):
    """clientcert= of HBA: what a trusted CA has signed is good, whatever names are in it; verify-full wants the user's."""
    rules = certificates.path("clientcert.conf")
    with open(rules, "w") as file:
        file.write("hostssl app all 127.0.0.1/32 scram-sha-256 clientcert=%s\n" % option)
    os.chmod(rules, 0o644)
    pooler = front({"client_tls_sslmode": "verify-ca", "auth_type": "hba", "auth_hba_file": rules})
    for name in (good + " " + bad).split():
        certificate = certificates.made[name]
        status, errors = psql(pooler, check=False, sslmode="require", sslcert=certificate.cert, sslkey=certificate.key)
        assert (status == 0) == (name in good.split()), (name, errors)


# ---- around the handshake ----

def test_direct_tls_wants_alpn(front):
    pooler = front()
    for alpn, comes_in in ((["postgresql"], True), (["h2", "postgresql"], True), ([], False), (["http/1.1"], False)):
        wire = pooler.socket()
        try:
            wire.secure(anything(alpn), direct=True)
            wire.login(USER, PASSWORD, "app")
            outcome = wire.value("select 1") == "1"
        except (Gone, ssl.SSLError, ConnectionError):
            outcome = False
        assert outcome == comes_in, alpn
        # Begun by SSLRequest, ALPN may be left out, but what is offered must have it.
        wire = pooler.socket()
        if alpn != ["http/1.1"]:
            wire.secure(anything(alpn)).login(USER, PASSWORD, "app")
        else:
            with pytest.raises(ssl.SSLError):
                wire.secure(anything(alpn))


def test_bytes_in_the_clear_are_refused(front):
    pooler = front()
    login = startup({"user": USER, "database": "app"})
    for more in (b"x", login, SSL_REQUEST, b"\x16\x03\x01\x00\x10"):
        with pooler.socket() as wire:
            wire.send(SSL_REQUEST + more)
            assert wire.refusal().text == "received unencrypted data after SSL request"
    # Sent before our S could be known, but as a segment of its own: it is no TLS, and nothing of it is taken for a login.
    with pooler.socket() as wire:
        wire.send(SSL_REQUEST)
        assert wire.byte() == b"S"
        wire.send(login)
        assert b"R" not in wire.socket.recv(1000)
    with pooler.socket() as wire:
        wire.secure()
        wire.send(SSL_REQUEST)
        assert wire.refusal().text == "SSL req inside SSL"
    with pooler.socket() as wire:
        wire.send(GSSENC_REQUEST)
        assert wire.byte() == b"N"
        wire.secure().login(USER, PASSWORD, "app")
        assert wire.value("select 1") == "1"


def test_a_unix_socket_has_no_tls(front):
    pooler = front({"client_tls_sslmode": "require"})
    with Wire(pooler.socket_path) as wire:
        wire.send(SSL_REQUEST)
        assert wire.byte() == b"N"
        wire.login(USER, PASSWORD, "app")
        assert wire.value("select 1") == "1"


def test_startup_in_one_segment_with_the_end_of_the_handshake(front):
    """The last flight of TLS and the startup packet come together; and everything after it byte by byte."""
    pooler = front()
    near, far = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = anything().wrap_bio(near, far, server_hostname="localhost")
    raw = pooler.socket().socket
    raw.sendall(SSL_REQUEST)
    assert raw.recv(1) == b"S"
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.sendall(far.read())
            near.write(raw.recv(1 << 16))
    tls.write(startup({"user": USER, "database": "app"}))
    raw.sendall(far.read())

    def read():
        while True:
            try:
                return tls.read(1 << 16)
            except ssl.SSLWantReadError:
                near.write(raw.recv(1 << 16))
    assert read().startswith(b"R")
    tls.write(message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 4) + b"y,,n"))
    for byte in far.read():
        raw.sendall(bytes([byte]))
    assert b"SASL authentication failed" in read()


def hello_of(context=None):
    near, far = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = (context or anything()).wrap_bio(near, far, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return far.read()


def test_a_handshake_cut_at_every_byte(front):
    """Clients that go in the middle of a handshake leave nothing behind, and others are not held up."""
    pooler = front({"max_client_conn": 2000})
    hello = hello_of()
    cuts = [(direct, length) for direct in (False, True) for length in range(0, len(hello) + 1, 1 if LONG else 7)]

    def run():
        for number, (direct, length) in enumerate(cuts):
            wire = Wire(pooler.address)
            if not direct:
                wire.send(SSL_REQUEST)
                assert wire.byte() == b"S"
            wire.send(hello[:length])
            wire.reset() if number % 3 == 0 else wire.socket.close()
            if number % 50 == 49:  # how many are under way at once shall not depend on how busy the machine is
                wait_until(lambda: pooler.open_files() < 40, what="the descriptors given back")
    # What the allocator needs for as many at once as ever are under way comes early, and then stays.
    for _ in range(20 if LONG else 1):
        run()
    psql(pooler, sslmode="require")
    wait_until(lambda: pooler.open_files() < 60, what="the descriptors given back")
    files, memory = pooler.open_files(), pooler.memory()
    for _ in range(20 if LONG else 4):
        run()
    psql(pooler, sslmode="require")
    wait_until(lambda: pooler.open_files() <= files + 2, what="the descriptors given back")
    print("%d handshakes cut: RSS %d kB before, %d kB after; %d and %d files" % (
        len(cuts) * (20 if LONG else 4), memory, pooler.memory(), files, pooler.open_files()))
    assert SLOW or pooler.memory() < memory * 1.1 + 2048


def test_handshakes_of_those_who_have_gone_are_not_computed(front, certificates):
    certificates.make("slow", "ca", kind="rsa4096")
    pooler = front(cert="slow")
    hello = hello_of()
    honest, began = in_by_wire(pooler), time.monotonic()
    for _ in range(3):
        in_by_wire(pooler)
    one = (time.monotonic() - began) / 3
    for _ in range(1200):
        with socket.create_connection(pooler.address) as gone:
            gone.sendall(hello)
    began = time.monotonic()
    in_by_wire(pooler)
    took = time.monotonic() - began
    print("one login %.3f s, after the storm %.3f s" % (one, took))
    assert took < (5 if SLOW else 1)
    assert honest.value("select 1") == "1"


def test_login_timeout_covers_the_handshake(front):
    pooler = front({"client_login_timeout": 1})
    hello = hello_of()
    for sent in (b"", hello[:5], hello[:100], hello):
        wire = pooler.socket()
        wire.send(SSL_REQUEST)
        assert wire.byte() == b"S"
        start = time.monotonic()
        wire.send(sent)
        try:
            while wire.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        assert 0.5 < time.monotonic() - start < (4 if SLOW else 2)


def test_a_refusal_in_the_middle_of_a_handshake_says_nothing_in_the_clear(front):
    pooler = front({"client_tls_sslmode": "require", "max_unauthenticated_conn": 3, "worker_threads": 1})
    wire = pooler.socket(timeout=10)
    wire.send(SSL_REQUEST)
    assert wire.byte() == b"S"
    others = [pooler.socket() for _ in range(5)]
    for it in others:
        it.send(b"\0")  # it is here
    assert wire.socket.recv(100) == b"", "it is the oldest, and goes"
    pooler.wait_log("too many connections that have not logged in")


class InPieces:
    """A TLS socket whose every record arrives in two pieces, so that the first of them is not enough."""

    def __init__(self, raw):
        self.raw, self.near, self.far = raw, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = anything().wrap_bio(self.near, self.far, server_hostname="localhost")
        self._go(self.tls.do_handshake)
        self.close = raw.close

    def _go(self, step, *arguments):
        while True:
            try:
                result = step(*arguments)
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                got = self.raw.recv(1 << 16)
                self.near.write(got) if got else self.near.write_eof()
            except ssl.SSLEOFError:
                return b""

    def _flush(self):
        out = self.far.read()
        self.raw.sendall(out[:7])
        time.sleep(0.002)
        self.raw.sendall(out[7:])

    def sendall(self, data):
        self._go(self.tls.write, data)

    def recv(self, count):
        return self._go(self.tls.read, count)


def test_bad_ones_do_no_harm_to_good_ones(front):
    """OpenSSL keeps errors by thread: those of one connection must not end another."""
    pooler = front({"worker_threads": 1})
    good = [in_by_wire(pooler) for _ in range(5)]
    for _ in range(2):
        wire = pooler.socket()
        wire.send(SSL_REQUEST)
        assert wire.byte() == b"S"
        wire.socket = InPieces(wire.socket)
        good.append(wire.login(USER, PASSWORD, "app"))
    stop, harm = threading.Event(), []

    def bad():
        while not stop.is_set():
            with Wire(pooler.address) as wire:  # no TLS at all
                wire.send(SSL_REQUEST)
                wire.byte()
                wire.send(b"\x16\x03\x01\x00\x04junk")
                wire.socket.recv(100)
            early = Wire(pooler.address).secure()  # broken after the handshake
            late = in_by_wire(pooler)  # and where the good ones are served
            assert late.value("select 'in'") == "in"
            for broken in (early, late):
                os.write(broken.socket.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
                broken.socket.close()
    thread = threading.Thread(target=bad)
    thread.start()
    try:
        give_up = time.monotonic() + (20 if LONG else 2)
        while time.monotonic() < give_up:
            for wire in good:
                assert wire.value("select 'still here'") == "still here"
            in_by_wire(pooler).close()
    except (Gone, Refused, OSError) as failure:
        harm.append(failure)
    finally:
        stop.set()
        thread.join()
    assert not harm


# ---- what goes through ----

@pytest.mark.parametrize("size", [1, 8191, 8192, 8193, 16384, 65536, 1_000_000, 10_000_000])
def test_rows_of_every_size(make_pooler, tls_pg, certificates, size):
    """Both legs, both directions; by libpq's blocking and by its asynchronous interface."""
    pair = certificates.made["good"]
    pooler = behind(make_pooler, tls_pg, certificates, "verify-full", client_tls_sslmode="require",
                    client_tls_key_file=pair.key, client_tls_cert_file=pair.cert, client_login_timeout=20)
    text = "é" * (size // 2) + "x" * (size % 2)
    for _ in range(3):
        client = pooler.connect(sslmode="verify-full", sslrootcert=certificates.path("ca.crt"))
        assert client.pgconn.ssl_in_use
        assert client.execute("select %s", [text]).fetchone()[0] == text
        assert len(client.execute("select repeat('a', %s), repeat('b', 5)", [size]).fetchone()[0]) == size
        rows = client.execute("select repeat('r', 1 + i %% 40) from generate_series(1, 2000) i", []).fetchall()
        assert len(rows) == 2000
        with client.cursor() as cursor:
            with cursor.copy("copy (select repeat('c', %d) from generate_series(1, 3)) to stdout" % min(size, 100000)) as out:
                assert sum(len(bytes(part)) for part in out) == 3 * (min(size, 100000) + 1)
        client.close()


def test_both_directions_full(make_pooler, tls_pg, certificates):
    """A client that sends long pipelines and reads late."""
    pair = certificates.made["good"]
    pooler = behind(make_pooler, tls_pg, certificates, "require", client_tls_sslmode="require",
                    client_tls_key_file=pair.key, client_tls_cert_file=pair.cert, client_login_timeout=20)
    wire = in_by_wire(pooler)
    count, size = 300, 20000
    sender = threading.Thread(target=lambda: wire.socket.sendall(
        query("select repeat('y', %d), '%s'" % (size, "z" * size)) * count))
    raw = wire.socket
    sender.start()
    time.sleep(0.5)
    for _ in range(count):
        assert [len(cell) for cell in wire.ready().rows[0]] == [size, size]
    sender.join()
    assert raw.version() == "TLSv1.3"


def test_versions_and_ciphers(front):
    pooler = front({"client_tls_protocols": "tlsv1.2", "client_tls_ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"})
    wire = in_by_wire(pooler)
    assert wire.socket.version() == "TLSv1.2" and wire.socket.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    pooler.wait_log(r"login attempt: .* tls=TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/ECDH=\w+ ")
    pooler.settings.update(client_tls_protocols="tlsv1.3", client_tls13_ciphers="TLS_CHACHA20_POLY1305_SHA256",
                           client_tls_ciphers="default", client_tls_ecdhcurve="P-384")
    pooler.reload()
    assert wire.value("select 1") == "1", "those that are in stay in"
    after = in_by_wire(pooler)
    assert after.socket.version() == "TLSv1.3" and after.socket.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    pooler.wait_log("login attempt: .* tls=TLSv1.3/TLS_CHACHA20_POLY1305_SHA256 ")
    old = anything()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        pooler.socket().secure(old)
    # PgBouncer's word for what OpenSSL has beside its default.
    pooler.settings.update(client_tls_protocols="tlsv1.2", client_tls_ciphers="legacy", client_tls_ecdhcurve="auto")
    pooler.reload()
    old.set_ciphers("ECDHE-ECDSA-CAMELLIA256-SHA384")
    assert in_by_wire(pooler, context=old).socket.cipher()[0] == "ECDHE-ECDSA-CAMELLIA256-SHA384"


def test_sessions_are_resumed(front):
    pooler = front()
    context = anything()
    first = in_by_wire(pooler, context=context)
    first.value("select 1")
    again = pooler.socket()
    again.send(SSL_REQUEST)
    assert again.byte() == b"S"
    again.socket = context.wrap_socket(again.socket, server_hostname="localhost", session=first.socket.session)
    again.login(USER, PASSWORD, "app")
    assert again.socket.session_reused and again.value("select 1") == "1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_outlives_its_certificate(front, certificates, version):
    """Where certificates count, each connection shows its own: one that has expired meanwhile must not be resumed."""
    pooler = front({"client_tls_sslmode": "verify-full"})
    context = anything(cert=certificates.made["app"])
    context.minimum_version = context.maximum_version = version
    session = None
    for _ in range(3):
        wire = pooler.socket()
        wire.send(SSL_REQUEST)
        assert wire.byte() == b"S"
        wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost", session=session)
        wire.login(USER, PASSWORD, "app")
        assert wire.value("select 1") == "1" and not wire.socket.session_reused
        session = wire.socket.session
        assert session is None or not session.has_ticket


# ---- cancels ----

def test_cancel_through_tls(make_pooler, tls_pg, certificates):
    """From a client with TLS or without, to a server whose own connection has TLS: nothing in the clear there."""
    pair = certificates.made["good"]
    pooler = behind(make_pooler, tls_pg, certificates, "verify-full", client_tls_sslmode="prefer",
                    client_tls_key_file=pair.key, client_tls_cert_file=pair.cert, client_login_timeout=20)
    wire = in_by_wire(pooler)
    tls_pg.sql("alter system set log_connections = on")
    tls_pg.sql("select pg_reload_conf()")
    for direct in (None, False, True):
        wire.send(query("select pg_sleep(20)"))
        time.sleep(0.3)
        with pooler.socket() as cancel:
            if direct is not None:
                cancel.secure(direct=direct)
            cancel.send(cancel_request(wire.pid, wire.secret))
            assert cancel.read() is None
        answer = wire.ready()
        assert answer.errors[0].sqlstate == "57014", answer
        assert wire.value("select 'on'") == "on"
    tls_pg.sql("alter system reset log_connections")
    tls_pg.sql("select pg_reload_conf()")


# ---- servers that are none ----

@pytest.mark.parametrize("answer,why", [
    (b"S" + b"R\0\0\0\x08\0\0\0\0", "received unencrypted data after SSL response"),
    (b"N" + b"R\0\0\0\x08\0\0\0\0", "received unencrypted data after SSL response"),
    (b"Sx", "received unencrypted data after SSL response"),
    (b"E\0\0\0\x10SFATAL\0C28000\0\0", "bad sslreq answer"),
    (b"R\0\0\0\x08\0\0\0\0", "bad sslreq answer"),
    (b"", r"server conn crashed\?: server closed the connection during login"),
])
def test_a_server_that_says_more_than_it_may(make_pooler, listen, certificates, answer, why):
    server = listen(lambda connection: (connection.recv(8), connection.sendall(answer),
                                        None if answer else connection.shutdown(socket.SHUT_RDWR)), True)
    for mode in ("prefer", "require"):
        pooler = make_pooler({"server_tls_sslmode": mode, "client_login_timeout": 1, "server_login_retry": 20},
                             databases={"app": "host=127.0.0.1 port=%d" % server.port})
        with pytest.raises(Refused):
            Wire(pooler.address).login(USER, PASSWORD, "app")
        pooler.wait_log(r"login failed(: | \()" + why)


# ---- channel binding ----

def test_channel_binding_towards_clients(pg, front, certificates):
    """libpq takes SCRAM-SHA-256-PLUS where it is offered; channel_binding=require takes nothing else."""
    certificates.make("rsa512", "ca", kind="rsa", digest="sha512")
    certificates.make("ed", None, kind="ed25519")  # names no hash: there is no channel binding
    pooler = front(cert="ed")
    assert psql(pooler, sslmode="require") == "1"
    status, errors = psql(pooler, check=False, sslmode="require", channel_binding="require")
    assert status and "channel binding" in errors
    for cert in ("good", "rsa512"):
        pooler = front(cert=cert)
        assert psql(pooler, sslmode="require", channel_binding="require") == "1"
        assert psql(pooler, sslmode="require", channel_binding="disable") == "1"
        status, errors = psql(pooler, check=False, sslmode="require", channel_binding="require", password="wrong")
        assert status and "SASL authentication failed" in errors
        status, errors = psql(pooler, check=False, sslmode="disable", channel_binding="require")
        assert status and "channel binding" in errors
    # The stored verifier serves as well, and lets us in at the server with the client's proof.
    pooler = front(auth={USER: pg.verifier(USER)})
    assert psql(pooler, sslmode="require", channel_binding="require") == "1"


def test_channel_binding_towards_servers(make_pooler, tls_pg, certificates):
    """A proxy that ends our TLS and begins its own is found out by the binding, even if nobody verifies certificates."""
    pooler = behind(make_pooler, tls_pg, certificates, "require")
    assert Wire(pooler.address).login(USER, PASSWORD, "app").value(HOW) == "tls"

    middle = socket.create_server(("127.0.0.1", 0))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certificates.made["selfsigned"])

    def pipe(source, target):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass
        for it in (source, target):
            try:
                it.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            try:
                near, _ = middle.accept()
            except OSError:
                return
            near.recv(8)
            near.sendall(b"S")
            near = theirs.wrap_socket(near, server_side=True)
            far = Wire((tls_pg.host, tls_pg.port)).secure().socket
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pipe, args=pair, daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    try:
        caught = behind(make_pooler, tls_pg, certificates, "require")
        caught.databases = {"app": "host=127.0.0.1 port=%d" % middle.getsockname()[1]}
        caught.reload()
        with pytest.raises(Refused) as no:
            Wire(caught.address).login(USER, PASSWORD, "app")
        assert "channel binding" in no.value.text
    finally:
        middle.close()


# ---- certificates that change ----

def test_certificates_change_under_load(front, certificates):
    """Clients come, go and stay while the certificate is replaced again and again, by RELOAD and by the files alone."""
    pooler = front({"max_client_conn": 500})
    rounds = 1000 if LONG else 50
    stop, errors, logins = threading.Event(), [], []
    context = ssl.create_default_context(cafile=certificates.path("ca.crt"))

    def come_and_go():
        try:
            while not stop.is_set():
                wire = in_by_wire(pooler, context=context)
                assert wire.value("select 42") == "42"
                wire.close()
                logins.append(1)
        except Exception as failure:  # told below
            errors.append(failure)

    def stay():
        try:
            wire = in_by_wire(pooler, context=context)
            while not stop.is_set():
                assert wire.value("select 43") == "43"
        except Exception as failure:  # told below
            errors.append(failure)
    threads = [threading.Thread(target=run) for run in (come_and_go, come_and_go, stay, stay)]
    for thread in threads:
        thread.start()
    try:
        for number in range(rounds):
            certificates.install(certificates.made[("good", "other")[number % 2]], pooler.pair)
            if number % 10 == 9:
                time.sleep(1.2)  # seen without a RELOAD
            else:
                assert "configuration reloaded" in pooler.hang_up()
            if errors:
                break
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print("%d rotations, %d logins and two who stayed, %d errors" % (rounds, len(logins), len(errors)))
    assert not errors
    assert len(logins) > rounds
    assert "files of TLS have changed, and are in use" in pooler.log()


def serial(pooler):
    with pooler.socket() as wire:
        return ssl.DER_cert_to_PEM_cert(wire.secure().socket.getpeercert(binary_form=True))


def test_what_does_not_fit_is_not_used(front, certificates):
    pooler = front()
    staying = in_by_wire(pooler)
    before = serial(pooler)
    good, other, pair = certificates.made["good"], certificates.made["other"], pooler.pair
    bad = [("key of another", lambda: certificates.install(Pair(good.cert, other.key), pair), "does not belong"),
           ("cert of another", lambda: certificates.install(Pair(other.cert, good.key), pair), "does not belong"),
           ("not a key", lambda: certificates.install(Pair(good.cert, good.cert), pair), "no private key"),
           ("not a cert", lambda: certificates.install(Pair(good.key, good.key), pair), "no certificate in it"),
           ("gone", lambda: os.unlink(pair.cert), "No such file")]
    for name, spoil, words in bad:
        spoil()
        told = pooler.hang_up()
        assert "reload failed, nothing was changed" in told and words in told, (name, told)
        assert serial(pooler) == before, name
    # Without a RELOAD too: the log tells once, and what is there stays.
    time.sleep(1.5)
    pooler.wait_log("files of TLS have changed, but those read before stay in use")
    assert serial(pooler) == before
    certificates.install(other, pair)
    wait_until(lambda: serial(pooler) != before, what="the new certificate, without a reload")
    assert staying.value("select 1") == "1"


def test_an_authority_that_is_not_trusted_any_more(front, certificates):
    """Another CA, a list of what is revoked, one that has expired, one that is broken: by RELOAD and by the file alone."""
    ca, stranger, app = (certificates.made[name] for name in ("ca", "stranger", "app"))
    file = certificates.bundle("changing.crt", ca.cert)
    pooler = front({"client_tls_sslmode": "verify-ca", "client_tls_ca_file": file})

    def lets_in(pair):
        try:
            with Wire(pooler.address) as wire:
                wire.secure(anything(cert=pair)).login(USER, PASSWORD, "app")
                return wire.value("select 1") == "1"
        except (Gone, ssl.SSLError, ConnectionError):
            return False
    both = lambda: (lets_in(app), lets_in(certificates.made["apprevoked"]), lets_in(certificates.made["appstranger"]))  # noqa
    assert both() == (True, True, False)
    certificates.bundle("changing.crt", ca.cert, certificates.list)
    pooler.hang_up()
    assert both() == (True, False, False)
    certificates.bundle("changing.crt", ca.cert, certificates.list, stranger.cert)
    pooler.hang_up()
    assert both() == (True, False, False), "with lists, an authority without one vouches for nobody, as in PostgreSQL"
    certificates.bundle("changing.crt", stranger.cert)
    wait_until(lambda: both() == (False, False, True), what="another authority, without a RELOAD")
    certificates.bundle("changing.crt", ca.cert, certificates.revocations("ca", days=-1))
    pooler.hang_up()
    assert both() == (False, False, False), "an expired list vouches for nobody"
    with open(certificates.bundle("changing.crt", ca.cert), "a") as broken:
        broken.write("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n")
    told = pooler.hang_up()
    assert "reload failed, nothing was changed" in told and "client_tls_ca_file" in told
    certificates.revocations("ca", ["revoked", "apprevoked"])


NOT_YET = "TLS settings could not be applied, still using old configuration"


def test_set_one_by_one(make_pooler, tls_pg, certificates):
    """As PgBouncer: what goes together is SET in any order. Until it fits, both legs stay as they were; nobody is let in,
    and no server is taken, by half of it."""
    good, other, app = (certificates.made[name] for name in ("good", "other", "app"))
    pooler = behind(make_pooler, tls_pg, certificates, "verify-ca", admin_users=USER)
    admin = pooler.wire(database="pgbouncer")

    def set_to(name, value):
        reply = admin.query("SET %s = '%s'" % (name, value))
        assert reply.tags == ["SET %s=%s" % (name, value)]
        assert {row[0]: row[1] for row in admin.query("SHOW CONFIG").rows}[name] == value, "shown as it was given"
        return [it["M"] for it in reply.notices]

    def both_ways():
        """How a client gets in, by TLS if that is offered, and what comes of a new server."""
        admin.query("RECONNECT")
        with pooler.socket() as wire:
            wire.send(SSL_REQUEST)
            offered = wire.byte() == b"S"
        return "tls" if offered else "plain", in_by_wire(pooler, tls=offered).value(HOW)

    assert both_ways() == ("plain", "tls")
    for name, value in (("client_tls_sslmode", "require"), ("client_tls_key_file", good.key)):
        assert set_to(name, value) == [NOT_YET]
        assert both_ways() == ("plain", "tls"), name
    assert set_to("client_tls_cert_file", other.cert) == [NOT_YET], "it is another's"
    assert both_ways() == ("plain", "tls")
    assert set_to("client_tls_cert_file", good.cert) == []
    assert both_ways() == ("tls", "tls")
    with pytest.raises(Refused):
        in_by_wire(pooler, tls=False)
    # Another pair: between the two the old one is shown.
    before = serial(pooler)
    assert set_to("client_tls_key_file", other.key) == [NOT_YET] and serial(pooler) == before
    assert set_to("client_tls_cert_file", other.cert) == [] and serial(pooler) != before
    # Servers: half a pair, and verify-ca without a CA, which would let any public CA vouch.
    for name, value in (("server_tls_key_file", app.key), ("server_tls_cert_file", app.cert)):
        told = set_to(name, value)
    assert told == [] and both_ways() == ("tls", "tls")
    assert set_to("server_tls_ca_file", "") == [NOT_YET]
    show(tls_pg, certificates, "untrusted")
    with pytest.raises(Refused):
        admin.query("RECONNECT")
        in_by_wire(pooler)
    show(tls_pg, certificates, "good")
    assert set_to("server_tls_ca_file", certificates.trusted) == []
    # A reload is of the file, which is whole.
    assert set_to("client_tls_key_file", "/nonexistent") == [NOT_YET]
    pooler.reload()
    assert both_ways() == ("plain", "tls")


def test_it_does_not_start_with_what_does_not_fit(make_pooler, certificates):
    good, other = certificates.made["good"], certificates.made["other"]
    pooler = make_pooler({"client_tls_sslmode": "require", "client_tls_key_file": other.key,
                          "client_tls_cert_file": good.cert}, start=False)
    status, printed = pooler.run()
    assert status == 1 and "client_tls_key_file" in printed and "does not belong" in printed
    pooler.expect_exit = True
    pooler.process = None


def test_a_reload_leaves_connections_alone(make_pooler, tls_pg, certificates):
    """Servers are closed when the settings of their TLS change, and not otherwise."""
    pooler = behind(make_pooler, tls_pg, certificates, "require")
    wire = Wire(pooler.address).login(USER, PASSWORD, "app")
    first = wire.value("select pg_backend_pid()")
    for _ in range(3):
        pooler.reload()
    assert wire.value("select pg_backend_pid()") == first
    pooler.settings["server_tls_sslmode"] = "verify-full"
    pooler.reload()
    wait_until(lambda: wire.value("select pg_backend_pid()") != first, what="a server by the new settings")
    wire.close()


def test_a_server_moves_with_its_tls(make_pooler, tls_pg, certificates):
    """Clients of two workers share one server connection."""
    pooler = behind(make_pooler, tls_pg, certificates, "require", default_pool_size=1, worker_threads=2,
                    client_login_timeout=20)
    clients = [Wire(pooler.address).login(USER, PASSWORD, "app") for _ in range(8)]
    seen = set()
    for number in range(400):
        seen.add(clients[number % 8].value("select pg_backend_pid() || repeat('m', %d)" % (number * 50))[:4])
    assert len(seen) == 1
    for client in clients:
        client.close()


def test_sslscan_finds_nothing(front):
    pooler = front({"client_tls_sslmode": "require"})
    found = subprocess.run(["sslscan", "--no-colour", "--starttls-psql", "127.0.0.1:%d" % pooler.port],
                           stdout=subprocess.PIPE, text=True, timeout=120).stdout
    for line in ("TLSv1.0   disabled", "TLSv1.1   disabled", "TLSv1.2   enabled", "TLSv1.3   enabled",
                 "Session renegotiation not supported", "TLSv1.2 not vulnerable to heartbleed"):
        assert line in found, found


def test_the_end_is_said_by_tls_too(front):
    """A client that is refused reads why and then an end that was meant (close_notify), not a connection that was cut."""
    pooler = front()
    for words in (startup({"user": USER, "database": "nowhere"}), startup({"database": "app"})):
        with Wire(pooler.address) as wire:
            wire.send(SSL_REQUEST)
            assert wire.byte() == b"S"
            strict = anything()
            strict.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
            wire.socket = strict.wrap_socket(wire.socket, server_hostname="localhost", suppress_ragged_eofs=False)
            wire.send(words)
            came = b""
            while more := wire.socket.recv(8192):
                came += more
                if came[:1] == b"R":  # it is asked for a password, which is wrong
                    wire.send(message("p", b"nonsense"))
                    came = b""
            assert came[:1] == b"E", came
