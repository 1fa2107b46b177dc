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
    made.make("appexpired", "ca", USER, [], days=-1)
    made.make("appstranger", "stranger", USER, [])
    made.make("appself", None, USER, [])
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
                            "client_tls_cert_file": pair.cert, "client_tls_ca_file": certificates.path("ca.crt"),
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
    "good":       ["plain", "plain", "tls",   "tls",   "tls",    "tls"],
}


@pytest.mark.parametrize("shown", BACK_OF_PSQL)
def test_every_mode_of_libpq(front, certificates, shown):
    pooler = front({"client_tls_sslmode": "disable"} if shown == "off" else None, "good" if shown == "off" else shown)
    for mode, expected in zip(MODES, BACK_OF_PSQL[shown]):
        root = {} if mode in ("allow", "prefer") else {"sslrootcert": certificates.path("ca.crt")}
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


def behind(make_pooler, tls_pg, certificates, mode, options="", database="app", **settings):
    return make_pooler({"server_tls_sslmode": mode, "server_tls_ca_file": certificates.path("ca.crt"),
                        "server_login_retry": 0.2, "client_login_timeout": 3 if SLOW else 1, **settings},
                       databases={database: "host=127.0.0.1 port=%d %s" % (tls_pg.port, options)})


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
