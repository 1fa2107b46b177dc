"""auth_type = pam, and pam in auth_hba_file: a real libpam with a service of the test's own, whose module (pam_exec) is a
script. It says yes to the passwords of a table, writes down what it was told, and keeps whoever is called slow waiting.

The service files are written to /etc/pam.d, where libpam looks: by root, else by sudo. One has PgBouncer's name; a machine
that has it already keeps its own, and then the test of the usual name says so by failing.
"""
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from pg import give_away, temporary_directory
from pooler import PASSWORD, USER, program, wait_until
from wire import Gone, Refused, Wire, cstring, fields_of, message, startup

SERVICE = "pgsluice-test-%d" % os.getpid()
USUAL = "pgbouncer"
NO = ("28000", "PAM authentication failed")
UNCHECKED = ("57P03", "the password could not be checked")
THREADS, WAITING = 16, 1000  # src/net/password_checks.hpp

SCRIPT = r"""#!/bin/sh
# Told by pam_exec: PAM_TYPE, PAM_USER, PAM_RHOST, PAM_SERVICE; the password on its input, with a zero byte behind it.
cd {directory}
password=$(tr -d '\000')
printf '%s %s %s %s\n' "$PAM_TYPE" "$PAM_SERVICE" "$PAM_USER" "$PAM_RHOST" >> told
if [ -e hold ]; then while [ ! -e go ]; do sleep 0.02; done; fi
case "$PAM_USER:$password" in
    app:strongpassword | app:other | bob:bobpassword | repl:replpassword | expired:x | ghost:x) exit 0 ;;
    slow:*) sleep 100000 ;;
esac
exit 1
"""
ACCOUNT = """#!/bin/sh
[ "$PAM_USER" != expired ]
"""


class Service:
    """What the script is told, and what it does."""

    def __init__(self):
        self.directory = temporary_directory("pgsluice-pam-")
        for name, text in (("auth", SCRIPT.replace("{directory}", self.directory)), ("account", ACCOUNT)):
            path = os.path.join(self.directory, name)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o755)
            give_away(path)
        self.text = ("auth required pam_exec.so expose_authtok quiet %s/auth\n"
                     "account required pam_exec.so quiet %s/account\n" % (self.directory, self.directory))
        self.made = [name for name in (SERVICE, USUAL) if self.make(name)]

    def make(self, name):
        path = "/etc/pam.d/" + name
        if os.path.exists(path):
            return False
        as_root(["tee", path], self.text)
        return True

    def told(self):
        """Each check of a password, as a list of words."""
        try:
            with open(os.path.join(self.directory, "told")) as file:
                return [line.rstrip("\n").split(" ") for line in file]
        except FileNotFoundError:
            return []

    def forget(self):
        for name in ("told", "hold", "go"):
            path = os.path.join(self.directory, name)
            if os.path.exists(path):
                os.remove(path)

    def touch(self, name):
        with open(os.path.join(self.directory, name), "w"):
            pass

    def close(self):
        for name in self.made:
            as_root(["rm", "-f", "/etc/pam.d/" + name], "")
        shutil.rmtree(self.directory)


def as_root(command, text):
    before = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run(before + command, input=text, text=True, stdout=subprocess.DEVNULL, check=True)


@pytest.fixture(scope="module")
def _service():
    service = Service()
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def service(_service):
    """Nothing told yet; and afterwards no helper and no script that is left over."""
    _service.forget()
    yield _service
    _service.forget()
    wait_until(lambda: not left_over(_service), 10, "the end of all helpers and scripts")


def commands():
    """{pid: (parent, command line)}"""
    found = {}
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/stat" % name) as stat, open("/proc/%s/cmdline" % name, "rb") as line:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
                found[int(name)] = (parent, line.read().replace(b"\0", b" ").decode("utf-8", "replace"))
        except (OSError, ValueError, NotADirectoryError):
            pass
    return found


def left_over(service):
    return [line for _, line in commands().values() if service.directory in line]


def helpers(pooler):
    return [pid for pid, (parent, line) in commands().items()
            if parent == pooler.process.pid and "pgsluice-check-password" in line]


@pytest.fixture
def by_pam(service, make_pooler):
    def make(settings=None, hba=None, **more):
        settings = {"auth_type": "pam", **(settings or {})}
        if hba is None:
            # The usual service may be the machine's own: all but one test use theirs.
            hba = "host all all all pam pamservice=%s\n" % SERVICE
        if hba:
            settings.update(auth_type="hba", auth_hba_file="hba.conf")
        pooler = make_pooler(settings, start=False, auth=more.pop("auth", {}), **more)
        if hba:
            write_hba(pooler, hba)
        return pooler.start()
    return make


def write_hba(pooler, text):
    path = os.path.join(pooler.directory, "hba.conf")
    with open(path, "w") as file:
        file.write(text)
    give_away(path)


def attempt(address, user, password, database="app"):
    with Wire(address, timeout=60) as wire:
        try:
            wire.login(user, password, database)
            assert wire.value("select session_user") == user
            return "in"
        except Refused as no:
            assert no.severity == "FATAL"
            return no.sqlstate, no.text


def begin(pooler, user, password=PASSWORD, timeout=60):
    """A login whose password is sent, and of whose answer nothing is read but the question for it."""
    wire = pooler.socket(timeout=timeout)
    wire.send(startup({"user": user, "database": "app"}), message("p", cstring(password)))
    assert wire.read().type == "R"
    return wire


def readable(wire):
    poll = select.poll()  # select() knows no descriptors beyond 1023
    poll.register(wire.socket, select.POLLIN)
    return bool(wire.buffer or poll.poll(0))


def finish(wire):
    """'in', or the refusal."""
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

def test_who_gets_in(by_pam, service):
    assert USUAL in service.made, "/etc/pam.d/%s is this machine's own: move it away for this test" % USUAL
    pooler = by_pam(hba="", arguments=["-vvv"])
    assert attempt(pooler.address, "app", PASSWORD) == "in"
    assert service.told() == [["auth", USUAL, "app", "127.0.0.1"]]
    for user, password in (("app", "wrong"), ("app", "strongpassword2"), ("bob", PASSWORD), ("nobody", "x"),
                           ("expired", "x"), ("a b", "x"), ("$(id)", "x"), ("../x", "x"), ("app ", PASSWORD)):
        assert attempt(pooler.address, user, password) == NO, (user, password)
    asked = len(service.told())
    assert attempt(pooler.address, "app", "") == ("28P01", "empty password returned by client")
    assert attempt(pooler.address, "app", "x" * 70000)[0] == "08P01"
    assert len(service.told()) == asked, "PAM was asked about a password that can be nobody's"
    assert attempt(pooler.socket_path, "app", PASSWORD) == "in"
    assert service.told()[-1] == ["auth", USUAL, "app", "[local]"]
    # The log says why, and knows no password.
    pooler.wait_log(r"nobody@.*PAM authentication failed \(pam_authenticate: ")
    pooler.wait_log(r"expired@.*PAM authentication failed \(pam_acct_mgmt: ")
    assert PASSWORD not in pooler.log() and "strongpassword2" not in pooler.log()


def test_the_refusal_is_the_same_bytes(by_pam):
    pooler = by_pam()
    answers = set()
    for user, password in (("app", "wrong"), ("nobody", "wrong"), ("expired", "x")):
        with Wire(pooler.address) as wire:
            wire.send(startup({"user": user, "database": "app"}), message("p", cstring(password)))
            answers.add(tuple((got.type, got.body) for got in iter(wire.read, None)))
    assert len(answers) == 1


def test_lines_of_hba(by_pam, service):
    hba = ("host app bob all pam pamservice=%s pam_use_hostname=1\n"
           "host app nobody all pam pamservice=pgsluice-no-such-service\n"
           "host app all all scram-sha-256\n") % SERVICE
    pooler = by_pam(hba=hba, auth={"app": PASSWORD})
    assert attempt(pooler.address, "bob", "bobpassword") == "in"
    assert service.told()[0][:3] == ["auth", SERVICE, "bob"]
    assert service.told()[0][3] not in ("", "127.0.0.1"), "the name of the address"
    assert attempt(pooler.address, "bob", PASSWORD) == NO
    assert attempt(pooler.address, "app", PASSWORD) == "in"
    assert attempt(pooler.address, "nobody", "x") == NO  # /etc/pam.d/other decides
    assert [line[2] for line in service.told()] == ["bob", "bob"]
    pooler.wait_log(r"PAM authentication failed \(\S*hba.conf:1\) \(pam_authenticate: ")


# ---- servers ----

def test_the_password_of_servers(by_pam, activity):
    """The client's own; before it, what auth_file and the database's entry say."""
    own = by_pam()
    assert attempt(own.address, "app", PASSWORD) == "in"
    assert attempt(own.address, "ghost", "x") == ("28P01", 'password authentication failed for user "ghost"')
    # Right for PAM, not for PostgreSQL: the server's refusal is the client's. The latest password counts.
    late = by_pam()
    assert attempt(late.address, "app", "other") == ("28P01", 'password authentication failed for user "app"')
    assert attempt(late.address, "app", PASSWORD) == "in"
    from_file = by_pam(auth={"app": PASSWORD})
    assert attempt(from_file.address, "app", "other") == "in"
    forced = by_pam(databases={"app": "user=app password=%s" % PASSWORD})
    with Wire(forced.address) as wire:
        wire.login("ghost", "x", "app")
        assert wire.value("select session_user") == "app"


def test_a_pool_opens_more_servers_and_reconnects(by_pam, activity):
    pooler = by_pam({"default_pool_size": 3})
    clients = [pooler.connect() for _ in range(3)]
    for client in clients:
        client.autocommit = False
        assert client.execute("select 1").fetchone() == (1,)
    activity.wait_count(3)
    for client in clients:
        client.rollback()
    activity.kill()
    assert pooler.wire().value("select 1") == "1"


# ---- what takes long ----

def test_a_hundred_logins_hold_up_no_query(by_pam, service):
    """All of them are kept waiting by PAM while another client asks 500 times; none of it by time: by who has answered."""
    pooler = by_pam({"max_client_conn": 200, "default_pool_size": 3})
    busy = pooler.wire()
    service.touch("hold")
    waiting = [begin(pooler, *person) for person in [("app", PASSWORD), ("bob", "bobpassword")] * 45 + [("app", "no")] * 10]
    wait_until(lambda: len(service.told()) == 1 + THREADS, 20, "as many checks as there are threads")
    for turn in range(500):
        assert busy.value("select %d" % turn) == str(turn)
    assert len(service.told()) == 1 + THREADS
    assert len(helpers(pooler)) <= THREADS
    service.touch("go")
    assert [finish(wire) for wire in waiting] == ["in"] * 90 + [NO] * 10
    for turn, wire in enumerate(waiting[:90]):
        assert wire.value("select session_user") == ("app", "bob")[turn % 2], "somebody else's answer"
    assert len(service.told()) == 101


def test_a_module_that_hangs(by_pam, service):
    pooler = by_pam({"client_login_timeout": 2})
    slow = begin(pooler, "slow")
    wait_until(lambda: len(service.told()) == 1, 10, "the module")
    assert attempt(pooler.address, "app", PASSWORD) == "in"
    assert finish(slow) == ("57014", "client_login_timeout")
    # Neither the module nor what it has started outlives the login.
    wait_until(lambda: not left_over(service), 5, "the end of the script")
    assert attempt(pooler.address, "app", PASSWORD) == "in"


def test_a_client_that_leaves_while_pam_is_asked(by_pam, service):
    pooler = by_pam()
    files = []
    for turn in range(5):
        service.forget()
        leaving = [begin(pooler, "slow") for _ in range(20)]
        wait_until(lambda: len(service.told()) == THREADS, 20, "all threads at work")
        for number, wire in enumerate(leaving):
            pooler.clients.remove(wire)
            wire.reset() if number % 2 else wire.close()
        wait_until(lambda: not left_over(service), 10, "the end of the scripts")
        # With the threads free, the next answer is the next client's, and nobody asks for those that were in the queue.
        assert attempt(pooler.address, "app", "wrong") == NO
        assert attempt(pooler.address, "app", PASSWORD) == "in"
        asked = [line[2] for line in service.told()]
        assert asked[-2:] == ["app", "app"] and asked.count("slow") <= 20
        files.append(pooler.open_files())
    assert files[-1] <= files[0] + 2, files


def test_clients_that_leave_while_helpers_are_started(by_pam):
    """A process that is being started has a copy of every descriptor for a moment: what is closed then stays open there."""
    pooler = by_pam({"worker_threads": 1})
    over = threading.Event()

    def come_and_go():
        while not over.is_set():
            for wire in [Wire(pooler.address) for _ in range(20)]:
                wire.socket.close()

    def ask():
        number = 0
        while not over.is_set():
            number += 1
            try:
                with Wire(pooler.address) as wire:
                    wire.send(startup({"user": "nobody%d" % number, "database": "app"}), message("p", cstring("x")))
                    wire.read()
            except OSError:
                pass
    threads = [threading.Thread(target=it) for it in [come_and_go] * 2 + [ask] * 8]
    for it in threads:
        it.start()
    time.sleep(3)
    over.set()
    for it in threads:
        it.join()
    assert pooler.process.poll() is None
    assert attempt(pooler.address, "app", PASSWORD) == "in"


def test_the_queue_has_an_end(by_pam, service):
    """As many wait as there is room for, exactly; the others are told at once."""
    pooler = by_pam({"max_client_conn": 3000, "max_unauthenticated_conn": 3000, "client_login_timeout": 300})
    busy = pooler.wire()
    slow = [begin(pooler, "slow", timeout=300) for _ in range(THREADS)]
    wait_until(lambda: len(service.told()) == 1 + THREADS, 20, "all threads at work")
    others = [begin(pooler, "bob", "bobpassword", timeout=300) for _ in range(WAITING + 30)]
    full = ("53300", "too many passwords are being checked")
    waiting, refused = others[:WAITING], others[WAITING:]
    wait_until(lambda: all(readable(it) for it in refused), 60, "their refusals")
    assert not any(readable(it) for it in waiting)
    assert [finish(wire) for wire in refused] == [full] * 30
    assert attempt(pooler.address, "app", PASSWORD) == full
    assert busy.value("select 1") == "1"
    # Those that leave make room at once; those that stay are answered.
    for wire in slow + waiting[50:]:
        pooler.clients.remove(wire)
        wire.reset()
    assert attempt(pooler.address, "app", PASSWORD) == "in"
    assert [finish(wire) for wire in waiting[:50]] == ["in"] * 50


def test_a_reload_while_pam_is_asked(by_pam, service):
    pooler = by_pam()
    service.touch("hold")
    waiting = [begin(pooler, "app"), begin(pooler, "app", "wrong")]
    wait_until(lambda: len(service.told()) == 2, 10, "both are asked")
    write_hba(pooler, "host all bob all pam pamservice=%s\nhost all all all reject\n" % SERVICE)
    assert "configuration reloaded" in pooler.hang_up()
    service.touch("go")
    assert [finish(wire) for wire in waiting] == ["in", NO]
    assert attempt(pooler.address, "app", PASSWORD) == ("28000", "login rejected")
    assert attempt(pooler.address, "bob", "bobpassword") == "in"


def test_a_helper_that_dies(by_pam, service):
    pooler = by_pam()
    slow = begin(pooler, "slow")
    wait_until(lambda: len(service.told()) == 1, 10, "the module")
    (helper,) = helpers(pooler)
    as_root(["kill", "-KILL", "--", str(helper)], "")
    assert finish(slow) == UNCHECKED
    orphans = [pid for pid, (_, line) in commands().items() if service.directory in line]
    if orphans:  # whose they were is known to nobody now, unless the pooler was quicker than their parent's end
        as_root(["kill", "-KILL", "--"] + [str(pid) for pid in orphans], "")
    pooler.wait_log("the password could not be checked .*the helper has ended without an answer")
    assert attempt(pooler.address, "app", PASSWORD) == "in"


def test_the_end_does_not_wait_for_pam(by_pam, service):
    pooler = by_pam()
    slow = begin(pooler, "slow")
    wait_until(lambda: len(service.told()) == 1, 10, "the module")
    pooler.signal(signal.SIGQUIT)
    assert pooler.exited(5) == 0
    with pytest.raises(Gone):
        finish(slow)


def test_guesses_are_kept_back(by_pam):
    pooler = by_pam({"login_failure_max_delay": 1, "worker_threads": 1})
    for _ in range(8):
        attempt(pooler.address, "bob", "guess")
    before = time.monotonic()
    assert attempt(pooler.address, "bob", "guess") == NO
    assert time.monotonic() - before >= 0.8
    assert attempt(pooler.address, "bob", "bobpassword") == "in"


def test_what_the_program_says_it_has(by_pam):
    pooler = by_pam()
    shown = subprocess.run([program(), "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert re.search("^pam: yes$", shown, re.M) and re.search("^ldap: yes$", shown, re.M)
    with psycopg.connect(pooler.url(USER, PASSWORD)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
