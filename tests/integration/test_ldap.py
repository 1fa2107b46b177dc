"""auth_type = ldap, and ldap in auth_hba_file: a real slapd of the test's own, on a free port, with its own directory. Simple
bind, search and bind, URLs, TLS both ways, hostile names, and servers that are slow, dead or none."""
import os
import shutil
import socket
import subprocess
import time

import pytest

from pg import free_port, give_away, temporary_directory, unprivileged
from pooler import PASSWORD, Clock, wait_until
from wire import Gone, Refused, Wire, cstring, fields_of, message, startup

NO = ("28000", "LDAP authentication failed")
UNCHECKED = ("57P03", "the password could not be checked")
EMPTY = ("28P01", "empty password returned by client")
BASE = "dc=example,dc=net"
# Names that mean something to a filter or a DN; each is a user of PostgreSQL and of the directory, with a password of its own.
ODD = ["we(ir)d*", "comma,dc=x", "back\\slash", "plus+uid=app", "#hash", 'quo"te', "semi;colon", "eq=uals", "sla/sh"]
SEARCH = 'ldapserver=127.0.0.1 ldapport={port} ldapbasedn="%s"' % BASE
SIMPLE = 'ldapserver=127.0.0.1 ldapport={port} ldapprefix="uid=" ldapsuffix=",ou=people,%s"' % BASE
SEARCHER = ' ldapbinddn="cn=searcher,%s" ldapbindpasswd="search word"' % BASE
OPERATION = 10  # seconds, src/net/password_checks.hpp

SLAPD = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/slapd.pid
TLSCACertificateFile {directory}/cert.pem
TLSCertificateFile {directory}/cert.pem
TLSCertificateKeyFile {directory}/key.pem
database mdb
suffix "{base}"
rootdn "cn=admin,{base}"
rootpw secret
directory {directory}/data
access to attrs=userPassword by anonymous auth
access to dn.subtree="ou=hidden,{base}" by dn.exact="cn=searcher,{base}" read by anonymous auth
access to * by * read
"""


def escaped(name):
    return "".join("\\%02x" % ord(c) if c in '"+,;<>\\=#' else c for c in name)


def entry(dn, **attributes):
    return "dn: %s\n%s\n" % (dn, "".join("%s: %s\n" % (name, one) for name, value in attributes.items()
                                         for one in (value if isinstance(value, list) else [value])))


def person(name, password, under="ou=people", **more):
    more = {"sn": "x", "cn": name, "uid": name, "userPassword": password, **more}
    return entry("uid=%s,%s,%s" % (escaped(name), under, BASE), objectClass="inetOrgPerson", **more)


class Slapd:
    def __init__(self):
        self.directory = temporary_directory("pgsluice-slapd-")
        self.port, self.process = free_port(), None
        with socket.create_server(("127.0.0.1", self.port)):
            self.tls_port = free_port()
        path = lambda name: os.path.join(self.directory, name)  # noqa: E731
        self.certificate = path("cert.pem")
        os.mkdir(path("data"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=slapd",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path("key.pem"), "-out", path("cert.pem")],
                       stderr=subprocess.DEVNULL, check=True)
        with open(path("slapd.conf"), "w") as file:
            file.write(SLAPD.format(directory=self.directory, base=BASE))
        people = [("app", PASSWORD), ("bob", "bobpassword")] + [(name, "of " + name) for name in ODD]
        with open(path("people.ldif"), "w") as file:
            file.write(entry(BASE, objectClass=["dcObject", "organization"], dc="example", o="x") +
                       "".join(entry("ou=%s,%s" % (ou, BASE), objectClass="organizationalUnit", ou=ou)
                               for ou in ("people", "others", "hidden")) +
                       entry("cn=searcher," + BASE, objectClass=["simpleSecurityObject", "organizationalRole"],
                             cn="searcher", userPassword="search word") +
                       "".join(person(*it, mail=it[0].encode().hex() + "@example.net") for it in people) +
                       person("repl", "replpassword", "ou=hidden") +
                       person("twin", "x", "ou=others") + person("twin", "x"))
        give_away(self.directory, *(path(name) for name in os.listdir(self.directory)))
        subprocess.run(unprivileged() + ["/usr/sbin/slapadd", "-q", "-f", path("slapd.conf"), "-l", path("people.ldif")],
                       check=True)
        self.start()

    def start(self):
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(
                unprivileged() + ["/usr/sbin/slapd", "-d", "256", "-f", os.path.join(self.directory, "slapd.conf"), "-h",
                                  "ldap://127.0.0.1:%d/ ldaps://127.0.0.1:%d/" % (self.port, self.tls_port)],
                stdout=log, stderr=log)
        wait_until(lambda: self.answers() or self.process.poll() is not None, 20, "slapd")
        assert self.process.poll() is None, self.log()

    def answers(self):
        return subprocess.run(["ldapwhoami", "-x", "-H", "ldap://127.0.0.1:%d" % self.port], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0

    def log(self):
        with open(os.path.join(self.directory, "log"), errors="replace") as file:
            return file.read()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def close(self):
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def slapd(pg):
    pg.create_user("twin", "x")
    for name in ODD:
        pg.create_user(name, "of " + name)
    for name in ("ap*", "*", "app)(uid=*", "nobody"):
        pg.create_user(name, PASSWORD)
    server = Slapd()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def by_ldap(make_pooler, slapd):
    """make(options): auth_type = ldap with them; make(hba=lines): as lines of auth_hba_file."""
    def make(options=None, settings=None, hba=None, **more):
        place = lambda text: text.replace("{port}", str(slapd.port)).replace("{tls}", str(slapd.tls_port))  # noqa: E731
        settings = {"auth_type": "ldap", **(settings or {})}
        if options:
            settings["auth_ldap_options"] = place(options)
        if hba:
            settings.update(auth_type="hba", auth_hba_file="hba.conf")
        pooler = make_pooler(settings, start=False, auth=more.pop("auth", {}), **more)
        if hba:
            path = os.path.join(pooler.directory, "hba.conf")
            with open(path, "w") as file:
                file.write(place(hba))
            give_away(path)
        return pooler.start()
    return make


def attempt(pooler, user, password, database="app"):
    with Wire(pooler.address, timeout=60) as wire:
        try:
            wire.login(user, password, database)
            assert wire.value("select session_user") == user
            return "in"
        except Refused as no:
            assert no.severity == "FATAL"
            return no.sqlstate, no.text


def begin(pooler, user, password=PASSWORD):
    wire = pooler.socket(timeout=60)
    wire.send(startup({"user": user, "database": "app"}), message("p", cstring(password)))
    return wire


def finish(wire):
    while True:
        got = wire.read()
        if got is None:
            raise Gone()
        if got.type == "E":
            fields = fields_of(got.body)
            return fields["C"], fields["M"]
        if got.type == "Z":
            return "in"


# ---- who gets in ----

WAYS = {
    "simple": SIMPLE,
    "search": SEARCH,
    "search as somebody": SEARCH + SEARCHER,
    "attribute": SEARCH + " ldapsearchattribute=cn",
    "filter": SEARCH + ' ldapsearchfilter="(&(objectClass=inetOrgPerson)(|(uid=$username)(mail=$username)))"',
    "url": 'ldapurl="ldap://127.0.0.1:{port}/%s?uid?sub"' % BASE,
    "url of one level": 'ldapurl="ldap://127.0.0.1:{port}/ou=people,%s?cn?one"' % BASE,
    "url without quotes": "ldapurl=ldap://127.0.0.1:{port}/%s?uid" % BASE,
    "the second server": SEARCH.replace("127.0.0.1", '"127.0.0.2 127.0.0.1"'),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda name: name.replace(" ", "-"))
def test_who_gets_in(by_ldap, way):
    pooler = by_ldap(WAYS[way], arguments=["-vvv"])
    assert attempt(pooler, "app", PASSWORD) == "in"
    assert attempt(pooler, "bob", "bobpassword") == "in"
    for user, password in (("app", "wrong"), ("bob", PASSWORD), ("nobody", PASSWORD), ("nobody", "x"), ("app", "x" * 65000)):
        assert attempt(pooler, user, password) == NO, (user, password[:20])
    assert attempt(pooler, "app", "") == EMPTY
    assert attempt(pooler, "nobody", "") == EMPTY
    pooler.wait_log("LDAP authentication failed ")
    assert PASSWORD not in pooler.log() and "search word" not in pooler.log()


@pytest.mark.parametrize("way", ["simple", "search", "filter", "url of one level"], ids=lambda name: name.replace(" ", "-"))
def test_a_name_means_nothing_but_itself(by_ldap, way):
    pooler = by_ldap(WAYS[way])
    for name in ODD:
        assert attempt(pooler, name, "of " + name) == "in", name
        assert attempt(pooler, name, PASSWORD) == NO, name
    # Filters and DNs that would be app's.
    for name in ("ap*", "*", "app)(uid=*", "app))(|(uid=*", "*)(uid=app", "app,ou=people", "\\61pp", "app,ou=people,%s" % BASE,
                 "app\\2cou=people", "a\\70p"):
        assert attempt(pooler, name, PASSWORD) == NO, name


def test_the_refusal_is_the_same_bytes(by_ldap, slapd):
    pooler = by_ldap(SEARCH)
    answers, binds = set(), set()
    for user, password in (("app", "wrong"), ("nobody", "wrong"), ("twin", "wrong"), ("twin", "x")):
        before = slapd.log().count(" BIND ")
        with Wire(pooler.address) as wire:
            wire.send(startup({"user": user, "database": "app"}), message("p", cstring(password)))
            answers.add(tuple((got.type, got.body) for got in iter(wire.read, None)))
        binds.add(slapd.log().count(" BIND ") - before)
    assert len(answers) == 1
    assert len(binds) == 1, "as many questions to the server for an unknown user as for a known one"
    pooler.wait_log(r"twin@.*LDAP authentication failed \(the search finds more than one entry\)")
    pooler.wait_log(r"nobody@.*LDAP authentication failed \(the search finds no entry\)")


def test_who_searches(by_ldap):
    """What anonymous may not see is found by the searcher; a searcher whose password is wrong is no wrong password of a client."""
    assert attempt(by_ldap(SEARCH), "repl", "replpassword") == NO
    assert attempt(by_ldap(SEARCH + SEARCHER), "repl", "replpassword") == "in"
    wrong = by_ldap(SEARCH + SEARCHER.replace("search word", "seek"))
    assert attempt(wrong, "app", PASSWORD) == UNCHECKED
    wrong.wait_log("the password could not be checked .*bind of ldapbinddn: Invalid credentials")
    assert "seek" not in wrong.log()


def test_lines_of_hba(by_ldap):
    pooler = by_ldap(hba="host app bob all ldap %s\nhost app app all ldap ldapurl=ldap://127.0.0.1:{port}/%s\n"
                         "host all repl all scram-sha-256\n" % (SIMPLE, BASE), auth={"repl": "replpassword"})
    assert attempt(pooler, "bob", "bobpassword") == "in"
    assert attempt(pooler, "app", PASSWORD) == "in"
    assert attempt(pooler, "repl", "replpassword") == "in"
    assert attempt(pooler, "bob", "x") == NO
    assert attempt(pooler, "twin", "x") == ("28000", "login rejected")
    pooler.wait_log(r"LDAP authentication failed \(\S*hba.conf:1\) \(bind: Invalid credentials")


def test_tls(by_ldap, slapd, monkeypatch):
    """The library's own configuration says whom to believe; nobody, where it says nothing."""
    start_tls = SEARCH + " ldaptls=1"
    ldaps = "ldapurl=ldaps://127.0.0.1:{tls}/" + BASE
    for options in (start_tls, ldaps):
        assert attempt(by_ldap(options), "app", PASSWORD) == UNCHECKED
    monkeypatch.setenv("LDAPTLS_CACERT", slapd.certificate)
    for options in (start_tls, ldaps):
        pooler = by_ldap(options)
        assert attempt(pooler, "app", PASSWORD) == "in", pooler.log()
        assert attempt(pooler, "app", "wrong") == NO
        # A certificate for another name is none.
        other = by_ldap(options.replace("127.0.0.1", "localhost"))
        assert attempt(other, "app", PASSWORD) == UNCHECKED


# ---- servers that do not answer ----

def test_a_dead_server(by_ldap):
    pooler = by_ldap("ldapserver=127.0.0.1 ldapport=%d ldapbasedn=x" % free_port())
    assert attempt(pooler, "app", PASSWORD) == UNCHECKED
    pooler.wait_log("the password could not be checked .*Can't contact LDAP server")


def test_a_server_that_says_nothing(by_ldap, listen):
    """The login's own time, and without one the limit of an operation; nobody else waits for either."""
    silent = listen()
    options = "ldapserver=127.0.0.1 ldapport=%d ldapbasedn=x" % silent.port
    hba = "host all bob all ldap %s\nhost all all all ldap %s\n" % (options, SEARCH)
    hasty = by_ldap(hba=hba, settings={"client_login_timeout": 2})
    clock = Clock()
    slow = begin(hasty, "bob")
    assert attempt(hasty, "app", PASSWORD) == "in"
    assert finish(slow) == ("57014", "client_login_timeout")
    assert clock.seconds() >= 2
    # The helper is ended with its client, and its connection with it.
    wait_until(lambda: len(silent.stayed) == 1, 5, "the end of the connection to the LDAP server")
    patient = by_ldap(hba=hba)
    clock = Clock()
    slow = begin(patient, "bob")
    assert finish(slow) == UNCHECKED
    assert OPERATION - 0.5 <= clock.seconds() < OPERATION + 10
    leaving = begin(patient, "bob")
    wait_until(lambda: len(silent.came) == 3, 10, "the question")
    leaving.reset()
    patient.clients.remove(leaving)
    wait_until(lambda: len(silent.stayed) == 3, 5, "the end of the connection to the LDAP server")
    assert attempt(patient, "app", PASSWORD) == "in"


def test_a_server_that_comes_back(by_ldap, slapd):
    pooler = by_ldap(SEARCH)
    assert attempt(pooler, "app", PASSWORD) == "in"
    slapd.stop()
    try:
        assert attempt(pooler, "app", PASSWORD) == UNCHECKED
        assert attempt(pooler, "app", "wrong") == UNCHECKED
    finally:
        slapd.start()
    assert attempt(pooler, "app", PASSWORD) == "in"


def test_a_server_that_talks_nonsense(by_ldap, listen):
    for nonsense in (b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01", b"HTTP/1.1 200 OK\r\n\r\n", b"\x30\x84\xff\xff\xff\xff", b"\0" * 1000):
        server = listen(lambda connection, said=nonsense: (connection.recv(100), connection.sendall(said),
                                                           connection.shutdown(1)))
        pooler = by_ldap("ldapserver=127.0.0.1 ldapport=%d ldapprefix=uid=" % server.port)
        assert attempt(pooler, "app", PASSWORD) == UNCHECKED, nonsense


# ---- many, and changes ----

def test_many_at_once_and_each_gets_its_own(by_ldap):
    pooler = by_ldap(SEARCH, {"max_client_conn": 300, "default_pool_size": 3})
    busy = pooler.wire()
    people = [("app", PASSWORD, "in"), ("bob", "bobpassword", "in"), ("bob", PASSWORD, NO), ("nobody", "x", NO)]
    waiting = [(begin(pooler, user, password), user, outcome) for user, password, outcome in people * 25]
    for turn in range(200):
        assert busy.value("select %d" % turn) == str(turn)
    for wire, user, outcome in waiting:
        assert finish(wire) == outcome
        if outcome == "in":
            assert wire.value("select session_user") == user


def test_a_reload(by_ldap, slapd):
    pooler = by_ldap(SEARCH)
    assert attempt(pooler, "app", PASSWORD) == "in"
    pooler.settings["auth_ldap_options"] = "ldapserver=x ldapbindpasswd=hunter2"
    told = pooler.reload()
    assert "reload failed, nothing was changed" in told and "auth_ldap_options: method ldap needs" in told
    assert "hunter2" not in pooler.log()
    assert attempt(pooler, "app", PASSWORD) == "in"
    pooler.settings["auth_ldap_options"] = "ldapserver=127.0.0.1 ldapport=%d ldapprefix=uid= ldapsuffix=,ou=others,%s" % (
        slapd.port, BASE)
    assert "configuration reloaded" in pooler.reload()
    assert attempt(pooler, "app", PASSWORD) == NO
    assert attempt(pooler, "twin", "x") == "in"


def test_a_password_that_changes(by_ldap, slapd, pg):
    """The directory's is the one that counts, at once; and the servers' follows the latest that was right."""
    pooler = by_ldap(SEARCH, {"server_lifetime": 0})
    assert attempt(pooler, "twin", "x") == NO  # two of them
    dn = "uid=bob,ou=people," + BASE
    change = lambda word: subprocess.run(  # noqa: E731
        ["ldappasswd", "-x", "-H", "ldap://127.0.0.1:%d" % slapd.port, "-D", "cn=admin," + BASE, "-w", "secret", "-s", word, dn],
        check=True, stdout=subprocess.DEVNULL)
    assert attempt(pooler, "bob", "bobpassword") == "in"
    try:
        change("another")
        pg.sql("alter role bob password 'another'")
        assert attempt(pooler, "bob", "bobpassword") == NO
        assert attempt(pooler, "bob", "another") == "in"
        time.sleep(0.2)
        assert attempt(pooler, "bob", "another") == "in"
    finally:
        change("bobpassword")
        pg.sql("alter role bob password 'bobpassword'")
