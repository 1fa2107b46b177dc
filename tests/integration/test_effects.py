"""Settings whose effect shows nowhere else: options of sockets (read off the process's own descriptors), the leg of TLS to
servers, and a few more. tests/lint/effects.txt names for each setting the test of its effect."""
import ctypes
import grp
import os
import pwd
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest

from pg import Postgres
from pooler import PASSWORD, USER, wait_until
from test_console import console, show
from test_tls import HOW, behind, certificates, front, tls_pg  # noqa: F401  fixtures
from wire import Gone, Refused, Scram, Wire, anything, cstring, message, query, startup

PIDFD_OPEN, PIDFD_GETFD = 434, 438  # of every architecture


def sockets_of(pooler):
    """Copies of its TCP sockets: [(socket, local port, remote port or None)]."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = libc.syscall(PIDFD_OPEN, pooler.process.pid, 0)
    assert own >= 0, os.strerror(ctypes.get_errno())
    found = []
    for name in os.listdir("/proc/%d/fd" % pooler.process.pid):
        try:
            if not os.readlink("/proc/%d/fd/%s" % (pooler.process.pid, name)).startswith("socket:"):
                continue
        except OSError:
            continue
        fd = libc.syscall(PIDFD_GETFD, own, int(name), 0)
        if fd < 0:
            continue
        it = socket.socket(fileno=fd)
        if it.family != socket.AF_INET or it.type != socket.SOCK_STREAM:
            it.close()
            continue
        try:
            remote = it.getpeername()[1]
        except OSError:
            remote = None
        found.append((it, it.getsockname()[1], remote))
    os.close(own)
    return found


def options_of(pooler, pg):
    """(client's, server's) {option: value} of the one client and the one server."""
    wanted = {"keepalive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE), "cnt": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
              "idle": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), "intvl": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
              "user_timeout": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
              "rcvbuf": (socket.SOL_SOCKET, socket.SO_RCVBUF), "sndbuf": (socket.SOL_SOCKET, socket.SO_SNDBUF)}
    legs = {}
    for it, local, remote in sockets_of(pooler):
        with it:
            if remote is not None:
                legs["server" if remote == pg.port else "client"] = {name: it.getsockopt(*at) for name, at in wanted.items()}
    return legs["client"], legs["server"]


def test_tcp_options(make_pooler, pg):
    """tcp_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl, tcp_user_timeout, tcp_socket_buffer: on both legs."""
    pooler = make_pooler({"tcp_keepcnt": 7, "tcp_keepidle": "2min", "tcp_keepintvl": 11, "tcp_user_timeout": "30s",
                          "tcp_socket_buffer": "48kB"})
    wire = pooler.wire()
    wire.query("select 1")
    for leg in options_of(pooler, pg):
        assert leg["keepalive"] == 1
        assert (leg["cnt"], leg["idle"], leg["intvl"], leg["user_timeout"]) == (7, 120, 11, 30000)
        assert leg["rcvbuf"] == leg["sndbuf"] == 2 * 49152, "the kernel doubles it"


def test_tcp_options_by_default(make_pooler, pg):
    """tcp_keepalive = 1 with the system's times; and 0 after a reload, for new connections."""
    pooler = make_pooler()
    wire = pooler.wire()
    wire.query("select 1")
    for leg in options_of(pooler, pg):
        assert (leg["keepalive"], leg["user_timeout"]) == (1, 0)
        assert leg["idle"] == int(open("/proc/sys/net/ipv4/tcp_keepalive_time").read())
        assert leg["rcvbuf"] != 2 * 49152
    wire.close()
    pooler.settings["tcp_keepalive"] = 0
    pooler.databases["app"] += " application_name=other"
    pooler.reload()
    wire = pooler.wire()
    wire.query("select 1")
    for leg in options_of(pooler, pg):
        assert leg["keepalive"] == 0


def test_listen_backlog(make_pooler):
    """What ss shows as the length of the queue: listen_backlog, as far as the kernel allows."""
    pooler = make_pooler({"listen_backlog": 17})
    told = subprocess.run(["ss", "-Hltn", "sport = :%d" % pooler.port], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert told.split()[2] == "17", told


def test_unix_socket_group(make_pooler):
    """In a directory that gives its own group to what is made there."""
    pooler = make_pooler(start=False)
    os.chmod(pooler.directory, 0o2755)
    own = os.stat(pooler.directory).st_uid
    if os.geteuid() == 0:
        os.chown(pooler.directory, own, 1)
        os.chmod(pooler.directory, 0o2755)
    group = pwd.getpwuid(own).pw_gid
    pooler.settings["unix_socket_group"] = grp.getgrgid(group).gr_name
    pooler.write()
    pooler.start()
    assert os.stat(pooler.socket_path).st_gid == group
    bad = make_pooler({"unix_socket_group": "no-such-group"}, start=False)
    status, said = bad.run()
    bad.expect_exit, bad.process = True, None
    assert status == 1 and "unix_socket_group" in said


def test_worker_threads(make_pooler):
    """Two workers more are two threads more."""
    counts = []
    for workers in (1, 3):
        pooler = make_pooler({"worker_threads": workers})
        assert "%d workers" % workers in pooler.log()
        counts.append(len(os.listdir("/proc/%d/task" % pooler.process.pid)))
    assert counts[1] - counts[0] == 2


def test_io_uring(make_pooler):
    """Each worker and the lobby have a ring, where the kernel gives one; clients notice nothing either way."""
    for wanted in (1, 0):
        pooler = make_pooler({"io_uring": wanted, "worker_threads": 2})
        refused = "io_uring can not be had" in pooler.log()
        links = (os.readlink(it.path) for it in os.scandir("/proc/%d/fd" % pooler.process.pid) if os.path.islink(it.path))
        assert sum("io_uring" in it for it in links) == (3 if wanted and not refused else 0)
        wires = [pooler.wire() for _ in range(20)]
        for _ in range(20):
            for number, it in enumerate(wires):
                it.send(query("select %d" % number))
            for number, it in enumerate(wires):
                assert it.until("Z").rows == [[str(number)]]


def test_user(make_pooler):
    """The setting alone, as -u does; only root may name another."""
    pooler = make_pooler({"user": pwd.getpwuid(os.stat(make_pooler(start=False).directory).st_uid).pw_name})
    assert pooler.wire().value("select 1") == "1"
    other = make_pooler({"user": "daemon"}, start=False)
    status, said = other.run()
    other.expect_exit, other.process = True, None
    assert status == 1 and "daemon" in said


def test_tcp_defer_accept(make_pooler):
    """With it, who says nothing is not even accepted, and has no row in SHOW LISTS."""
    for on in (1, 0):
        pooler = make_pooler({"tcp_defer_accept": on, "admin_users": USER})
        with socket.create_connection(pooler.address):
            time.sleep(0.5)
            logging_in = [row["items"] for row in show(console(pooler), "LISTS") if row["list"] == "login_clients"]
            assert logging_in == ["0" if on else "1"]


def test_tcp_defer_accept_changes_live(make_pooler):
    pooler = make_pooler({"tcp_defer_accept": 1, "admin_users": USER})
    wire = console(pooler)
    for value, expected in (("0", "1"), ("1", "0")):
        assert wire.query("SET tcp_defer_accept = %s" % value).tags == ["SET tcp_defer_accept=%s" % value]
        with socket.create_connection(pooler.address):
            time.sleep(0.5)
            assert [row["items"] for row in show(wire, "LISTS") if row["list"] == "login_clients"] == [expected]
        wait_until(lambda: [row["items"] for row in show(wire, "LISTS") if row["list"] == "login_clients"] == ["0"])


def test_options_of_a_database(make_pooler, activity):
    """user, password, pool_size: one pool for all, logged in as somebody else, and as large as that."""
    pooler = make_pooler(databases={"app": "user=bob password=bobpassword pool_size=2"})
    wires = [pooler.wire() for _ in range(3)]
    for wire in wires[:2]:
        wire.send(query("begin"))
        wire.ready()
    assert wires[0].value("select session_user") == "bob"
    wires[2].send(query("select 1"))
    time.sleep(0.3)
    assert activity.count("usename = 'bob'") == 2
    wires[0].query("commit")
    assert wires[2].ready().rows == [["1"]]


def test_options_of_a_user(make_pooler, activity):
    """pool_size of [users] goes before that of the database."""
    pooler = make_pooler(databases={"app": "pool_size=3"}, users={"bob": "pool_size=1"})
    wires = [pooler.wire("bob", "bobpassword", "app") for _ in range(2)]
    wires[0].query("begin")
    wires[1].send(query("select 1"))
    time.sleep(0.3)
    assert activity.count("usename = 'bob'") == 1
    wires[0].query("commit")
    assert wires[1].ready().rows == [["1"]]


def test_load_balance_hosts(make_pooler):
    """Two addresses of one PostgreSQL: in turn, or the first one for as long as it works."""
    with Postgres({"listen_addresses": "127.0.0.1,127.0.0.2"}, ["host all all 127.0.0.0/8 scram-sha-256"]) as server:
        server.create_user(USER, PASSWORD)
        server.create_database("app", owner=USER)
        for how, seen in (("round-robin", {"127.0.0.1", "127.0.0.2"}), ("disable", {"127.0.0.1"})):
            options = "host=127.0.0.1,127.0.0.2 port=%d load_balance_hosts=%s" % (server.port, how)
            pooler = make_pooler(databases={"app": options})
            wires = [pooler.wire() for _ in range(4)]
            for wire in wires:
                wire.query("begin")
            assert {wire.value("select host(inet_server_addr())") for wire in wires} == seen
            for wire in wires:
                wire.query("commit")
                wire.close()
            pooler.signal(signal.SIGINT)
            assert pooler.exited() == 0


def test_track_extra_parameters(make_pooler):
    """What it names is kept for each client, though ignore_startup_parameters says to drop it."""
    for tracked, kept in (("IntervalStyle", "iso_8601"), ("TimeZone", "postgres")):
        pooler = make_pooler({"track_extra_parameters": tracked, "ignore_startup_parameters": "IntervalStyle"})
        wire = pooler.wire(parameters={"IntervalStyle": "iso_8601"})
        assert wire.value("show IntervalStyle") == kept


def test_scram_iterations(make_pooler):
    """The count that a client is told, of a password in the clear."""
    for count in (4096, 5000):
        pooler = make_pooler({"scram_iterations": count})
        wire = pooler.socket()
        wire.send(startup({"user": USER, "database": USER}))
        assert wire.read().type == "R"
        first = Scram(PASSWORD).first()
        wire.send(message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
        assert b",i=%d" % count in wire.read().body


def test_max_packet_size(make_pooler):
    pooler = make_pooler({"max_packet_size": "64kB"})
    wire = pooler.wire()
    assert len(wire.value("select '%s'" % ("x" * 65000))) == 65000
    with pytest.raises(Refused) as no:
        wire.query("select '%s'" % ("x" * 66000))
    assert no.value.text == "bad packet header: '51%08x73656c'" % (66000 + 14), "as PgBouncer, the first eight bytes"
    assert no.value.detail == "packet too long (max_packet_size)"
    pooler.settings["max_packet_size"] = "128kB"
    pooler.reload()
    assert len(pooler.wire().value("select '%s'" % ("x" * 66000))) == 66000


def test_show_fds_gives_nothing_away(make_pooler):
    """Rows, but no secret among them: the sockets that listen first, and none of the console's."""
    pooler = make_pooler({"admin_users": USER}, databases={"app": "user=app password=" + PASSWORD})
    client = pooler.wire()
    client.query("begin")
    rows = show(console(pooler), "FDS")
    assert [row["task"] for row in rows[:2]] == ["pooler", "pooler"]
    assert {(row["addr"], row["port"], row["user"]) for row in rows[:2]} == {
        ("127.0.0.1", str(pooler.port), None), ("unix", str(pooler.port), None)}
    ours, theirs = rows[2:]
    assert (ours["task"], theirs["task"], ours["link"], theirs["link"]) == ("client", "server", theirs["fd"], ours["fd"])
    assert (ours["client_encoding"], ours["std_strings"], ours["datestyle"]) == ("UTF8", "on", "ISO, MDY")
    assert ours["timezone"] and {row["cancel"] for row in rows} == {"0"}
    assert all(not row["password"] and not row["scram_client_key"] and not row["scram_server_key"] for row in rows)


# ---- TLS ----

SSL_OF = "select version || ' ' || cipher from pg_stat_ssl where pid = pg_backend_pid()"


def test_server_tls_versions_and_ciphers(make_pooler, tls_pg, certificates):  # noqa: F811
    """server_tls_protocols, server_tls_ciphers, server_tls13_ciphers: as PostgreSQL sees them."""
    ask = lambda **settings: Wire(behind(make_pooler, tls_pg, certificates, "require", **settings).address).login(  # noqa: E731
        USER, PASSWORD, "app").value(SSL_OF)
    assert ask(server_tls_protocols="tlsv1.2", server_tls_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") == \
        "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256"
    assert ask(server_tls_protocols="tlsv1.3", server_tls13_ciphers="TLS_CHACHA20_POLY1305_SHA256") == \
        "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256"


def test_server_tls_ca_file(make_pooler, tls_pg, certificates):  # noqa: F811
    """Of the CA that signed the server's certificate, and of another one."""
    good = behind(make_pooler, tls_pg, certificates, "verify-ca")
    assert Wire(good.address).login(USER, PASSWORD, "app").value(HOW) == "tls"
    stranger = behind(make_pooler, tls_pg, certificates, "verify-ca", server_tls_ca_file=certificates.path("stranger.crt"))
    with pytest.raises(Refused):
        Wire(stranger.address).login(USER, PASSWORD, "app")
    stranger.wait_log("certificate verify failed")


def test_server_tls_negotiation(make_pooler, listen):
    """direct: the first byte is that of a TLS record; postgres: it asks first."""
    for how, first in (("direct", b"\x16"), ("postgres", b"\0")):
        came = []
        server = listen(lambda connection: came.append(connection.recv(1)), True)  # noqa: B023
        pooler = make_pooler({"server_tls_sslmode": "require", "server_tls_negotiation": how, "client_login_timeout": 1},
                             databases={"app": "host=127.0.0.1 port=%d" % server.port})
        with pytest.raises((Refused, Gone)):
            pooler.wire()
        assert came[0] == first


def test_client_tls_dheparams(front, certificates):  # noqa: F811
    """none: no key exchange over a finite field, which is all that this client offers."""
    certificates.make("rsa", "ca", kind="rsa")

    def offer(pooler):
        context = anything()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
        return pooler.socket().secure(context)
    pooler = front({"client_tls_dheparams": "auto", "client_tls_ciphers": "DHE-RSA-AES256-GCM-SHA384"}, cert="rsa")
    offer(pooler)
    pooler.settings["client_tls_dheparams"] = "none"
    pooler.reload()
    with pytest.raises((ssl.SSLError, OSError)):
        offer(pooler)
