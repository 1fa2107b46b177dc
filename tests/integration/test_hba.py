"""auth_type = hba: the same rules and the same clients given to PostgreSQL and to pgsluice, which must decide the same;
then what PostgreSQL can not show: reloads, the log, what the pooler itself refuses.

The differential: random pg_hba.conf and pg_ident.conf, random clients (address, database, user, replication). What
counts is what the client is asked first: nothing (trust, peer), a password in the clear, md5, SASL, or 28000. Servers
behind the pooler are a stub that lets everybody in. PGSLUICE_SEED repeats a run, PGSLUICE_LONG=1 makes it ten times longer.
"""
import concurrent.futures
import os
import random
import shutil
import signal
import socket
import struct
import threading
import time

import pytest

from dns_server import PTR, DnsServer
from pg import Postgres, give_away
from pooler import PASSWORD, Clock, Pooler, wait_until
from wire import cstring, fields_of, message, startup

FILES, CLIENTS = 60, 50
if os.environ.get("PGSLUICE_LONG", "0") not in ("", "0"):
    FILES *= 10
FIRST = "local postgres postgres trust"  # the test's own way in; no client of the test is called so

SCRAM_USERS = ["app", "bob", "all", "sameuser", "+staff", "o'neill", "Ann", "replication", "root", "a b", "x,y", "#z", "\\1"]
MD5_USERS = ["md5user", "samerole", "db1", "md5 two", "md5_three", "db2"]
USERS = SCRAM_USERS + MD5_USERS
DATABASES = ["app", "bob", "db1", "db2", "all", "replication", "sameuser", "samerole", "my db", "DB1", "a,b", "@list", "md5user"]
SOURCES = ["127.0.0.1", "127.0.0.2", "127.1.2.3", "127.1.2.4", "127.255.0.7", "127.9.255.1", "127.128.64.32",
           "127.85.170.85", "127.170.85.170", "127.254.253.251"]


# ---- one client ----

class Stub:
    """A server that lets everybody in and then says nothing."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        status = b"".join(message("S", cstring(name) + cstring(value)) for name, value in
                          (("server_version", "15.0"), ("client_encoding", "UTF8"), ("server_encoding", "UTF8"),
                           ("DateStyle", "ISO"), ("TimeZone", "UTC"), ("standard_conforming_strings", "on"),
                           ("integer_datetimes", "on"), ("application_name", "")))
        with connection:
            try:
                connection.recv(4096)
                connection.sendall(message("R", struct.pack("!i", 0)) + status +
                                   message("K", struct.pack("!ii", 1, 2)) + message("Z", b"I"))
                while connection.recv(4096):
                    pass
            except OSError:
                pass

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def connect(where, source):
    if isinstance(where, str):
        client = socket.socket(socket.AF_UNIX)
    else:
        client = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
        client.bind((source, 0))
        where = ("::1" if ":" in source else "127.0.0.1", where)
    client.settimeout(20)
    client.connect(where)
    return client


def first_answer(where, source, user, database, replication=None):
    """'trust', 'password', 'md5', 'sasl' or the SQLSTATE of a refusal."""
    parameters = {"user": user, "database": database}
    if replication:
        parameters["replication"] = replication
    with connect(where, source) as client:
        client.sendall(startup(parameters))
        data = b""
        while len(data) < 5 or len(data) < 1 + struct.unpack_from("!i", data, 1)[0]:
            more = client.recv(4096)
            assert more, "closed after %r" % data
            data += more
    if data[:1] == b"R":
        return {0: "trust", 3: "password", 5: "md5", 10: "sasl"}[struct.unpack_from("!i", data, 5)[0]]
    assert data[:1] == b"E", data
    return fields_of(data[5:])["C"]


# ---- random rules ----

class Writer:
    """Rules in every spelling that PostgreSQL 15 takes and that is not refused here by intent."""

    def __init__(self, dice):
        self.dice = dice
        self.maps = ["m1", "m2"]

    def quoted(self, name):
        return '"%s"' % name

    def name(self, name):
        plain = name.replace("_", "").isalnum() or name == "o'neill"
        keyword = name in ("all", "sameuser", "samerole", "replication")
        return name if plain and not keyword and self.dice.random() < 0.7 else self.quoted(name)

    def names(self, pool, keywords, file):
        words = []
        for _ in range(self.dice.choice([1, 1, 1, 2, 2, 3, 5])):
            roll = self.dice.random()
            if roll < 0.3:
                words.append(self.dice.choice(keywords))
            elif roll < 0.38:
                words.append("@" + file)
            else:
                words.append(self.name(self.dice.choice(pool)))
        return self.dice.choice([",", ", ", ",,", ",\t"]).join(words)

    def address(self, named):
        dice = self.dice
        if named and dice.random() < 0.4:
            return dice.choice(["localhost", "LocalHost", ".host", "localhos", ".localhost", "localhost.", "host"])
        # A client's own address but for one bit, and a prefix that ends near it.
        bit = dice.randrange(33)
        near = int.from_bytes(socket.inet_aton(dice.choice(SOURCES)), "big") ^ (1 << 32 >> bit & 0xffffffff)
        v4 = dice.choice([socket.inet_ntoa(near.to_bytes(4, "big"))] * 4 + ["10.0.0.1", "0.0.0.0", "127.0.0.1"])
        bits4 = max(0, min(32, bit + dice.choice([-2, -1, -1, 0, 0, 1])))
        v6 = dice.choice(["::1", "::", "fe80::1", "::2", "0:0:0:0:0:0:0:1", "::127.0.0.1"])
        bits6 = dice.choice([0, 1, 64, 126, 127, 128])
        masks = ["255.255.255.255", "255.0.0.0", "0.0.0.0", "255.0.0.255", "0.0.255.0", "255.255.255.254"]
        kind = dice.choice(["all", "samehost", "samenet", "cidr4", "cidr4", "cidr4", "cidr6", "mask4", "mask4", "mask6"])
        return {"cidr4": "%s/%d" % (v4, bits4), "cidr6": "%s/%d" % (v6, bits6),
                "mask4": "%s %s" % (v4, dice.choice(masks)),
                "mask6": "%s %s" % (v6, dice.choice(["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", "ffff::", "::ffff"])),
                }.get(kind, kind)

    def rule(self, named):
        dice = self.dice
        kind = dice.choice(["local"] * 5 + ["host"] * 8 + ["hostssl", "hostnossl", "hostnossl", "hostgssenc", "hostnogssenc"])
        databases = self.names(DATABASES, ["all", "all", "sameuser", "replication"], "dbs")
        users = self.names(USERS, ["all", "all", "all"], "users")
        methods = ["trust", "reject", "md5", "password", "scram-sha-256"]
        method = dice.choice(methods + (["peer", "ident", "peer map=none"] + ["peer map=m1", "peer map=m2"] * 4
                                        if kind == "local" else []))
        if "map" in method:  # more about the map than about the line
            databases, users = dice.choice(["all", databases]), dice.choice(["all", "all", users])
        fields = [kind, databases, users] + ([] if kind == "local" else [self.address(named)]) + [method]
        if dice.random() < 0.1:
            fields[0] = self.quoted(fields[0])
        line = dice.choice([" ", "\t", "   ", " \\\n ", " \\\n"]).join(fields)
        if kind != "local" and dice.random() < 0.05:
            return "# " + line.replace("\\\n", "")
        return dice.choice(["", "", " "]) + line + dice.choice(["", "", " # comment", "  ", "\r"])

    def hba(self, named):
        lines = [FIRST] + [self.rule(named) for _ in range(self.dice.randint(6, 16))]
        if self.dice.random() < 0.6:
            lines.append("local all all %s\nhost all all all %s" % (self.dice.choice(["scram-sha-256", "md5"]),
                                                                     self.dice.choice(["password", "md5", "md5"])))
        return "\n".join(lines) + self.dice.choice(["\n", "", "\n\n#end\n"])

    def ident(self):
        system = ["root", "nobody", '"root"', "/^ro+t$", "/^(r)oot$", "/oo", "/^x(.*)$", '"/^r(o|x)ot$"', "/^(ro|.*)t$"]
        lines = []
        for _ in range(self.dice.randint(0, 6)):
            who = self.dice.choice(system)
            # \1 without a group is refused here when it is read, there when somebody comes.
            users = [self.name(self.dice.choice([user for user in USERS if user != "\\1"]))] * 3
            if "(" in who:
                users += ["\\1oot", "\\1t", "db\\1", '"\\1"']
            elif "/" not in who:
                users.append("\\1")
            # all and + mean more from PostgreSQL 16 on; there and here.
            user = self.dice.choice(users)
            lines.append(" ".join([self.dice.choice(self.maps), who, user]))
        return "\n".join(lines) + "\n"

    def list_file(self, pool):
        words = [self.name(name) for name in self.dice.sample(pool, 3)]
        return self.dice.choice([" ", ",", "\n", "\n# comment\n"]).join(words) + "\n"

    def client(self, sources, named):
        # Other addresses may have no name, and asking for it may take as long as a name server likes.
        tcp = [source for source in sources if not named or source in ("127.0.0.1", "::1")]
        source = self.dice.choice(["local", "::1", self.dice.choice(tcp), self.dice.choice(tcp)])
        return (source, self.dice.choice(USERS), self.dice.choice(DATABASES),
                self.dice.choice([None, None, None, None, "true", "database"]))


# ---- the two that decide ----

@pytest.fixture(scope="module")
def judge():
    """A PostgreSQL of its own, whose rules change all the time."""
    with Postgres({"listen_addresses": "127.0.0.1,::1", "max_connections": 100}, []) as server:
        for user in SCRAM_USERS:
            server.sql("create role \"%s\" login password 'x'" % user)
        server.sql("set password_encryption = 'md5';" +
                   "".join("create role \"%s\" login password 'x';" % user for user in MD5_USERS))
        yield server


def write(path, text):
    with open(path, "w", newline="") as file:
        file.write(text)
    give_away(path)


def give_to(directory, files):
    for name, text in files.items():
        write(os.path.join(directory, name), text)


def reload_postgres(server):
    """Returns when the rules count; they must be good ones."""
    bad = server.sql("select line_number, error from pg_hba_file_rules where error is not null and error not like "
                     "'hostssl record%' union all select line_number, error from pg_ident_file_mappings where error is "
                     "not null")
    assert bad == "", "the test has made rules that PostgreSQL refuses: " + bad
    before = server.log_text().count("received SIGHUP")
    server.process.send_signal(1)
    wait_until(lambda: server.log_text().count("received SIGHUP") > before, 10, "PostgreSQL's reload")


@pytest.fixture
def stub():
    server = Stub()
    yield server
    server.close()


@pytest.fixture
def make_hba(stub, end_poolers):
    """make_hba(hba, ident, auth=...): a pooler with these rules, the stub behind it."""
    made = []

    def make(hba, ident="", auth=None, start=True, settings=None, host=None):
        pooler = Pooler({"*": host or "host=127.0.0.1 port=%d" % stub.port},
                        {"server_tls_sslmode": "disable", "auth_type": "hba", "auth_hba_file": "{directory}/hba.conf", "max_client_conn": 500,
                         "auth_ident_file": "{directory}/ident.conf", "server_protocol": "3.0",
                         **(settings or {})}, auth=auth)
        give_to(pooler.directory, {"hba.conf": hba, "ident.conf": ident})
        made.append(pooler)
        return pooler.start() if start else pooler

    yield make
    end_poolers(made)


def test_decides_as_postgresql(judge, make_hba):
    seed = int(os.environ.get("PGSLUICE_SEED", random.randrange(1 << 32)))
    print("PGSLUICE_SEED=%d" % seed)
    auth = {user: judge.verifier(user) for user in USERS}
    pooler = make_hba(FIRST + "\n", auth=auth, settings={"listen_addr": "127.0.0.1, ::1"})
    socket_of = {"judge": os.path.join(judge.socket_directory, ".s.PGSQL.%d" % judge.port), "pooler": pooler.socket_path}
    counts, differences, pairs = {}, [], 0
    for number in range(FILES):
        dice = random.Random("%d/%d" % (seed, number))
        writer, named = Writer(dice), number % 6 == 0
        files = {"hba.conf": writer.hba(named), "ident.conf": writer.ident(),
                 "dbs": writer.list_file(DATABASES), "users": writer.list_file(USERS)}
        give_to(pooler.directory, files)
        give_to(judge.data, {"pg_hba.conf": files["hba.conf"], "pg_ident.conf": files["ident.conf"],
                             "dbs": files["dbs"], "users": files["users"]})
        reload_postgres(judge)
        told = pooler.hang_up()
        assert "configuration reloaded" in told, told + files["hba.conf"]
        for _ in range(CLIENTS):
            source, user, database, replication = writer.client(SOURCES, named)
            answers = [first_answer(socket_of[who] if source == "local" else port, source, user, database, replication)
                       for who, port in (("judge", judge.port), ("pooler", pooler.port))]
            pairs += 1
            counts[answers[0]] = counts.get(answers[0], 0) + 1
            if answers[0] != answers[1]:
                differences.append("file %d, %s: PostgreSQL %s, pgsluice %s" %
                                   (number, (source, user, database, replication), *answers))
                if len(differences) == 1:
                    print("\n".join("-- %s\n%s" % it for it in files.items()))
    print("%d rule files, %d clients, %d differences; PostgreSQL said %s" % (FILES, pairs, len(differences), counts))
    assert not differences, "seed %d:\n%s" % (seed, "\n".join(differences[:20]))
    assert pairs >= 2000
    for answer in ("trust", "password", "md5", "sasl", "28000"):
        assert counts.get(answer, 0) >= 50, "the rules hardly ever say %s: %s" % (answer, counts)


# ---- what PostgreSQL can not show ----

def test_a_bad_line_is_refused_and_the_old_rules_stay(make_hba):
    pooler = make_hba("host all app 127.0.0.1/32 trust\nhost all all all reject\n", auth={"app": "x", "bob": "x"})
    ask = lambda user: first_answer(pooler.port, "127.0.0.1", user, "app")  # noqa: E731
    assert (ask("app"), ask("bob")) == ("trust", "28000")
    # Without its bad line the file would let everybody in.
    give_to(pooler.directory, {"hba.conf": "host all +staff all reject\nhost all all all trust\n"})
    told = pooler.hang_up()
    assert "reload failed, nothing was changed" in told
    assert "hba.conf:1: +staff: who is a member" in told
    assert (ask("app"), ask("bob")) == ("trust", "28000")
    os.remove(os.path.join(pooler.directory, "hba.conf"))
    assert "hba.conf: No such file or directory" in pooler.hang_up()
    assert (ask("app"), ask("bob")) == ("trust", "28000")
    give_to(pooler.directory, {"hba.conf": "host all bob all trust\n"})
    assert "configuration reloaded" in pooler.hang_up()
    assert (ask("app"), ask("bob")) == ("28000", "trust")


def test_a_bad_file_is_refused_at_the_start(make_hba):
    for hba, words in (("host all all all magic", "hba.conf:1: unknown method"),
                       ("\nhost all all all pam pamservice=a/b", "hba.conf:2: pamservice is the name of a PAM service"),
                       ("local all all trust\ninclude nothing", "nothing\": No such file or directory")):
        pooler = make_hba(hba, start=False)
        status, told = pooler.run()
        assert status == 1
        assert words in told
        pooler.process = None


def test_the_log_alone_tells_the_line(make_hba):
    pooler = make_hba("\nhost all all 127.0.0.1/32 reject\n")
    with connect(pooler.port, "127.0.0.1") as client:
        client.sendall(startup({"user": "app", "database": "app"}))
        answer = client.recv(4096)
    assert fields_of(answer[5:]) == {"S": "FATAL", "V": "FATAL", "C": "28000", "M": "login rejected"}
    wait_until(lambda: "login rejected (%s/hba.conf:2)" % pooler.directory in pooler.log(), 5, "the line in the log")
    assert first_answer(pooler.socket_path, "local", "app", "app") == "28000"
    wait_until(lambda: "login rejected (no line of %s/hba.conf)" % pooler.directory in pooler.log(), 5, "the other one")


def test_logins_reach_the_server(pg, make_hba):
    host = "host=127.0.0.1 port=%d" % pg.port
    pooler = make_hba("local all app peer map=m\nhost all bob 127.0.0.2/32 reject\nhost all all samehost md5\n"
                      "host all all samenet scram-sha-256\n", "m /^(.*)$ app\n",
                      auth={"app": PASSWORD, "bob": "bobpassword"}, host=host)
    with pooler.wire() as client:  # from 127.0.0.1: md5
        assert client.value("select current_user") == "app"
    for source, user, password, fine in (("127.0.0.2", "app", PASSWORD, True), ("127.0.0.2", "app", "wrong", False),
                                         ("127.0.0.2", "bob", "bobpassword", False),
                                         ("127.0.0.1", "bob", "bobpassword", True)):
        with pooler.socket() as client:
            client.socket.close()
            client.socket = connect(pooler.port, source)
            try:
                client.login(user, password, "app")
                assert client.value("select current_user") == user
                assert fine, (source, user)
            except Exception as no:
                assert not fine and getattr(no, "sqlstate", "")[:2] == "28", (source, user, no)
    from wire import Wire
    with Wire(pooler.socket_path) as client:  # whoever runs this is app
        client.login("app", None, "app")
        assert client.value("select current_user") == "app"


def test_unknown_users_are_let_in_by_no_line(make_hba):
    pooler = make_hba("local all all peer map=m\nhost all all all trust\n", "m /.* all\n", auth={"app": "x"})
    assert first_answer(pooler.socket_path, "local", "app", "app") == "trust"
    assert first_answer(pooler.socket_path, "local", "nobody", "app") == "28000"
    assert first_answer(pooler.port, "127.0.0.1", "app", "app") == "trust"
    assert first_answer(pooler.port, "127.0.0.1", "nobody", "app") == "28000"


def test_inclusions(make_hba):
    """PostgreSQL 16's; the server of these tests may be older."""
    pooler = make_hba("include_dir rules.d\ninclude_if_exists none\ninclude last\n", start=False, auth={"app": "x", "bob": "x"})
    os.mkdir(os.path.join(pooler.directory, "rules.d"))
    give_to(pooler.directory, {"rules.d/2.conf": "host all all all reject", "rules.d/1.conf": "host @dbs all all trust",
                               "rules.d/dbs": "one two", "rules.d/0.txt": "bad", "last": "local /^d[0-9]+$ all md5"})
    pooler.start()
    answer = [first_answer(pooler.port, "127.0.0.1", "app", name) for name in ("one", "two", "three")]
    assert answer == ["trust", "trust", "28000"]
    assert [first_answer(pooler.socket_path, "local", "app", name) for name in ("d12", "d", "one")] == ["md5", "28000", "28000"]
    shutil.rmtree(os.path.join(pooler.directory, "rules.d"))
    assert "rules.d\": No such file or directory" in pooler.hang_up()


@pytest.fixture
def make_named(make_hba):
    """make_named(hba): the same, whose name server is make_named.dns."""
    with DnsServer() as dns:
        def make(hba, **more):
            pooler = make_hba(hba, start=False, auth={"app": "x"}, **more)
            pooler.settings["resolv_conf"] = dns.resolv_conf(pooler.directory)
            pooler.write()
            return pooler.start()
        make.dns = dns
        yield make


def test_names_go_both_ways(make_named):
    dns = make_named.dns
    dns.reverse("127.0.0.2", "two.test.example")
    dns.answer("two.test.example", ["127.0.0.9", "127.0.0.2"])
    dns.reverse("127.0.0.3", "forged.test.example")  # whoever runs the reverse zone may say so
    dns.answer("forged.test.example", ["127.0.0.9"])
    dns.reverse("127.0.0.4", "nowhere.test.example")
    pooler = make_named("host all all .test.example trust\nhost home all localhost trust\n")
    answers = [first_answer(pooler.port, "127.0.0.%d" % i, "app", "app") for i in (2, 3, 4, 5)]
    assert answers == ["trust", "28000", "28000", "28000"]
    assert first_answer(pooler.port, "127.0.0.1", "app", "home") == "trust", "of /etc/hosts"
    # The answer serves those that come soon after.
    assert [first_answer(pooler.port, "127.0.0.2", "app", "app") for _ in range(5)] == ["trust"] * 5
    assert dns.count("2.0.0.127.in-addr.arpa", PTR) == 1


def test_other_name_servers_answer_the_next(make_named):
    pooler = make_named("host all all two.test.example trust\n")
    assert first_answer(pooler.port, "127.0.0.3", "app", "app") == "28000"
    with DnsServer() as other:
        other.reverse("127.0.0.2", "two.test.example")
        other.answer("two.test.example", ["127.0.0.2"])
        other.resolv_conf(pooler.directory)
        wait_until(lambda: "resolv.conf has changed" in pooler.log(), 10, "the other name server seen")
        assert first_answer(pooler.port, "127.0.0.2", "app", "app") == "trust"


def test_what_is_under_way_is_asked_of_other_name_servers(make_named):
    """On the way from the address to its name, and on the way back."""
    dns = make_named.dns
    dns.reverse("127.0.0.2", "two.test.example")
    seen = [False, False]

    def reply(packet):
        """Of the one name only."""
        if b"\x012\x010\x010\x03127" in packet:
            return DnsServer.reply(dns, packet)
        seen[b"in-addr" in packet] = True
        return None
    dns.reply = reply
    pooler = make_named("host all all .test.example trust\n")
    with concurrent.futures.ThreadPoolExecutor(2) as pool, DnsServer() as other:
        answers = [pool.submit(first_answer, pooler.port, "127.0.0.%d" % i, "app", "app") for i in (2, 3)]
        wait_until(lambda: seen[0] and seen[1], what="both questions without an answer")
        for i, name in ((2, "two"), (3, "three")):
            other.reverse("127.0.0.%d" % i, name + ".test.example")
            other.answer(name + ".test.example", ["127.0.0.%d" % i])
        clock = Clock()
        other.resolv_conf(pooler.directory)
        assert [it.result(20) for it in answers] == ["trust", "trust"]
        clock.assert_at(0, 6)
        assert other.count("2.0.0.127.in-addr.arpa", PTR) == 0, "what had been answered stays"


def test_a_silent_reverse_zone_shuts_nobody_else_out(make_named):
    make_named.dns.silent = True
    pooler = make_named("host all all localhost trust\n")
    waiting = []
    for i in range(40):
        waiting.append(connect(pooler.port, "127.0.0.%d" % (2 + i % 20)))
        waiting[-1].sendall(startup({"user": "app", "database": "app"}))
        if i % 2 == 0:
            waiting.pop().close()
    wait_until(lambda: make_named.dns.count("21.0.0.127.in-addr.arpa", PTR) > 0, what="the questions asked")
    began = time.monotonic()
    assert first_answer(pooler.port, "127.0.0.1", "app", "app") == "trust"
    assert time.monotonic() - began < 1
    assert make_named.dns.count("3.0.0.127.in-addr.arpa", PTR) == 1, "once for all that wait"
    began = time.monotonic()
    pooler.signal(signal.SIGQUIT)
    assert pooler.exited(5) == 0 and time.monotonic() - began < 3
    for it in waiting:
        it.close()


def test_many_wait_for_names(make_hba):
    """Look-ups hold up nobody: clients by address get in while others wait for names."""
    pooler = make_hba("host named all no.such.name.invalid trust\nhost all all all trust\n", auth={"app": "x"})
    clients = [connect(pooler.port, "127.7.%d.1" % i) for i in range(100)]
    for client in clients:
        client.sendall(startup({"user": "app", "database": "named"}))
    began = time.monotonic()
    assert first_answer(pooler.port, "127.0.0.1", "app", "other") == "trust"
    assert time.monotonic() - began < 5
    for client in clients[:50]:  # some do not wait for the answer
        client.close()
    for client in clients[50:]:
        client.settimeout(60)
        assert client.recv(1) == b"R"
        client.close()
