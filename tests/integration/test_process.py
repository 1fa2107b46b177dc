"""The process: command line, bad configurations, reload, the signals, the log, the Unix socket it leaves behind."""
import os
import pwd
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from pg import unprivileged
from pooler import PASSWORD, USER, Clock, program, wait_until
from wire import Refused, Wire, query

PID = "select pg_backend_pid()"


def run(*arguments, prefix=None):
    done = subprocess.run((unprivileged() if prefix is None else prefix) + [program(), *arguments], cwd="/",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


# ---- command line ----

@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag):
    status, out, err = run(flag)
    assert status == 0 and not err
    assert re.match(r"pgsluice \d+\.\d+\.\d+ \(PgBouncer 1\.25\.2\)\n", out)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag):
    status, out, err = run(flag)
    assert status == 0 and not err and out.startswith("Usage: ")
    for option in ("-d, --daemon", "-q, --quiet", "-R, --reboot", "-u, --user", "-v, --verbose", "-V, --version", "-h, --help"):
        assert option in out


@pytest.mark.parametrize("arguments", [[], ["-x", "file"], ["--nonsense"], ["one", "two"], ["-u"]],
                         ids=lambda arguments: " ".join(arguments) or "none")
def test_bad_arguments(arguments):
    status, out, err = run(*arguments)
    assert status == 1 and not out
    assert "--help" in err and err.count("\n") <= 2


def test_reboot_is_refused(make_pooler):
    status, _, err = run("-R", make_pooler(start=False).ini)
    assert status == 1 and "so_reuseport" in err and err.count("\n") == 1


def test_refuses_root(make_pooler):
    """As root, or as what looks like it (a user namespace)."""
    pooler = make_pooler(start=False)
    prefix = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    status, out, err = run(pooler.ini, prefix=prefix)
    assert status == 1 and not out and err.count("\n") == 1 and "should not run as root" in err


def test_user_of_the_command_line(make_pooler):
    """Root becomes that user; anybody else may only name themselves."""
    root = os.geteuid() == 0
    name = "postgres" if root else pwd.getpwuid(os.geteuid()).pw_name
    pooler = make_pooler(start=False)
    with open(pooler.stderr, "wb") as log:
        pooler.process = subprocess.Popen([program(), "-u", name, pooler.ini], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    wait_until(lambda: os.path.exists(pooler.socket_path), 10, "the start: " + pooler.log())
    with open("/proc/%d/status" % pooler.process.pid) as file:
        ids = re.search(r"Uid:\s+(.*)", file.read()).group(1).split()
    assert set(ids) == {str(pwd.getpwnam(name).pw_uid)}
    assert pooler.wire().value("select 1") == "1"
    assert "user was changed" not in pooler.hang_up(), "a reload knows the command line too"
    status, _, err = run("-u", "no-such-user", pooler.ini, prefix=[] if root else None)
    assert status == 1 and "no-such-user" in err and err.count("\n") == 1


@pytest.mark.parametrize("line", ["nonsense", "[pgbouncer]\nlisten_port = x\n", "[pgbouncer]\npool_mode = none\n"])
def test_quiet_with_a_configuration_that_is_bad(tmp_path, line):
    file = tmp_path / "bad.ini"
    file.write_text(line)
    os.chmod(tmp_path, 0o755)
    for path in (file, tmp_path / "missing.ini"):
        assert run("-q", str(path)) == (1, "", "")
        assert run(str(path))[2] != ""


def test_quiet(make_pooler):
    pooler = make_pooler({"logfile": "{directory}/logfile"}, arguments=["-q"])
    pooler.wire().query("select 1")
    wait_until(lambda: "login attempt" in read(pooler, "logfile"), 5, "the log in its file")
    assert pooler.log() == ""


def read(pooler, name):
    """The log's own thread makes its file, a moment after the start."""
    wait_until(lambda: os.path.exists(os.path.join(pooler.directory, name)), 5, name)
    with open(os.path.join(pooler.directory, name), errors="replace") as file:
        return file.read()


@pytest.mark.parametrize("arguments,verbose", [([], 0), (["-v"], 1), (["-vv"], 2), (["--verbose"], 1)], ids=str)
def test_verbose(make_pooler, arguments, verbose):
    pooler = make_pooler({"admin_users": USER, "auth_type": "plain", "default_pool_size": 1}, arguments=arguments)
    wire, admin = pooler.wire(), pooler.wire(database="pgbouncer")
    wire.query("begin")
    other = pooler.wire()
    other.send(query("select 1"))
    admin.query("show pools")
    time.sleep(0.2)
    wire.query("rollback")
    other.ready()
    pooler.wait_log("login attempt")
    for level, line in ((1, r"DEBUG C-.* P: got connection"), (1, r"DEBUG C-.* logged in"),
                        (1, r"DEBUG C-.* got admin query: SHOW pools"), (1, r"DEBUG C-.* pause_client"),
                        (1, r"DEBUG C-.* activate_client: it has S-"), (1, r"DEBUG S-.* launching new connection to server"),
                        (1, r"DEBUG S-.* S: connect ok"), (1, r"DEBUG S-.* server login ok, start accepting queries"),
                        (2, r"NOISE C-.* read pkt='!' len=\d+\n"), (2, r"NOISE C-.* read pkt='p'\n"),
                        (2, r"NOISE C-.* read pkt='Q' len=14\n"), (2, r"NOISE S-.* read pkt='Z' len=6\n"),
                        (2, r"NOISE S-.* release_server: idle")):
        if level <= verbose:
            pooler.wait_log(line)
    log = pooler.log()
    assert PASSWORD not in log
    assert (verbose > 0) == (" DEBUG " in log) and (verbose > 1) == (" NOISE " in log)
    assert "verbose" not in pooler.hang_up(), "a reload knows the command line too"


def test_daemon(make_pooler):
    pooler = make_pooler({"pidfile": "{directory}/pid", "logfile": "{directory}/logfile"}, start=False)
    status, out, err = run("-d", pooler.ini)
    assert (status, out, err) == (0, "", "")
    pid = int(wait_until(lambda: os.path.exists(pooler.directory + "/pid") and read(pooler, "pid"), 5, "the pidfile"))
    try:
        wait_until(lambda: "process up" in read(pooler, "logfile"), 5, "the log")
        assert "[%d]" % pid in read(pooler, "logfile")
        assert os.getsid(pid) != os.getsid(0)
        assert pooler.wire().value("select 1") == "1"
        again = run(pooler.ini)
        assert again[0] == 1 and "pidfile" in again[2] and again[2].count("\n") == 1
    finally:
        os.kill(pid, signal.SIGINT)
        for client in pooler.clients:
            client.close()
    wait_until(lambda: not os.path.exists("/proc/%d" % pid) or
               "State:\tZ" in open("/proc/%d/status" % pid).read(), 5, "the end of the daemon")
    assert not os.path.exists(pooler.directory + "/pid")


def test_daemon_needs_a_pidfile(make_pooler):
    status, _, err = run("-d", make_pooler({"logfile": "{directory}/logfile"}, start=False).ini)
    assert status == 1 and "pidfile" in err and err.count("\n") == 1


def test_daemon_without_a_log(make_pooler):
    pooler = make_pooler({"pidfile": "{directory}/pid"}, start=False)
    assert run("-d", pooler.ini) == (0, "", "")
    pid = int(wait_until(lambda: read(pooler, "pid"), 5, "the pidfile"))
    assert pooler.wire().value("select 1") == "1"
    os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not os.path.exists(pooler.directory + "/pid"), 5, "the end of the daemon")


# ---- bad configurations ----

GOOD = """[databases]
app = host=127.0.0.1 port=5432
[users]
app = pool_size=5
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {directory}
auth_type = scram-sha-256
auth_file = {auth_file}
"""
BAD = {  # what to put in, the line that is named, words of the message
    "unknown section": ("[nonsense]\n", 11, ["nonsense"]),
    "unknown parameter": ("no_such_setting = 1\n", 11, ["no_such_setting"]),
    "unknown database option": ("[databases]\nx = nonsense=1\n", 12, ["nonsense"]),
    "unknown user option": ("[users]\nbob = nonsense=1\n", 12, ["nonsense"]),
    "below the range": ("default_pool_size = -1\n", 11, ["default_pool_size"]),
    "above the range": ("listen_port = 65536\n", 11, ["listen_port"]),
    "above int": ("max_client_conn = 99999999999\n", 11, ["max_client_conn"]),
    "no number": ("default_pool_size = many\n", 11, ["default_pool_size"]),
    "unit": ("server_lifetime = 1y\n", 11, ["server_lifetime"]),
    "negative time": ("query_timeout = -1\n", 11, ["query_timeout"]),
    "word": ("pool_mode = sometimes\n", 11, ["pool_mode", "sometimes"]),
    "auth_type": ("auth_type = ldap\n", 11, ["auth_type", "auth_ldap_options"]),
    "database option out of range": ("[databases]\nx = port=70000\n", 12, ["port"]),
    "database option without a value": ("[databases]\nx = host=\n", 12, ["empty value"]),
    "reserved database": ("[databases]\npgbouncer = host=x\n", 12, ["pgbouncer"]),
    "quote without an end": ("[databases]\nx = host='a\n", 12, []),
    "no setting at all": ("just words\n", 11, []),
    "missing include": ("%include /nonexistent/file\n", 11, ["/nonexistent/file"]),
    "tls": ("client_tls_sslmode = require\n", 11, ["client_tls_sslmode", "client_tls_cert_file"]),
    "address": ("listen_addr = not an address!\n", 11, ["listen_addr"]),
}


@pytest.mark.parametrize("case", BAD, ids=lambda name: name.replace(" ", "-"))
def test_bad_configuration(make_pooler, case):
    """One line with file and line number, status 1, before any socket is opened."""
    added, line, words = BAD[case]
    pooler = make_pooler(text=GOOD + added, start=False)
    status, said = pooler.run()
    pooler.expect_exit, pooler.process = True, None
    assert status == 1
    assert said.count("\n") == 1 and "%s:%d: " % (pooler.ini, line) in said, said
    assert all(word in said for word in words), said
    assert not os.path.exists(pooler.socket_path)


def test_auth_file_that_can_not_be_read(make_pooler):
    """As in PgBouncer (1.18, run): it starts without users, and says so; a reload keeps those it had."""
    pooler = make_pooler(start=False)
    away = pooler.auth_file + ".away"
    os.rename(pooler.auth_file, away)
    pooler.start()
    pooler.wait_log("WARNING .*auth_file = .*No such file or directory; no user is known")
    with pytest.raises(Refused):
        pooler.wire()
    os.rename(away, pooler.auth_file)
    pooler.hang_up()
    assert pooler.wire().value("select 1") == "1"
    os.rename(pooler.auth_file, away)
    assert "the users read before are kept" in pooler.hang_up()
    assert pooler.wire().value("select 1") == "1"


def test_bad_auth_file(make_pooler):
    for text, line in (('"app" "x"\n"app" "y"\n"bob\n', 3), ('"app" "x\n', 1), ('app x\n', 1)):
        pooler = make_pooler(text=GOOD, start=False)
        with open(pooler.auth_file, "w") as file:
            file.write(text)
        status, said = pooler.run()
        pooler.process = None
        assert status == 1 and said.count("\n") == 1 and "%s:%d: " % (pooler.auth_file, line) in said, said


def test_of_what_is_given_again_the_last_one_counts(make_pooler):
    """In auth_file, [users] and [databases], as in PgBouncer; --check tells."""
    text = GOOD + ("[users]\nbob = pool_mode=session max_user_connections=3\nbob = pool_mode=statement\n"
                   "[databases]\nlater = pool_size=3 host=127.0.0.1\nlater = host=127.0.0.1 pool_size=4\n"
                   "[pgbouncer]\nadmin_users = app\n")
    pooler = make_pooler(text=text, start=False)
    with open(pooler.auth_file, "a") as file:
        file.write('"app" "another"\n"carl" "x"\n"app" "%s"\n' % PASSWORD)
    status, said = pooler.run(["--check", pooler.ini])
    assert status == 2, said
    for words in ("bob is given again", "later is given again", "user was named before, on line 1"):
        assert words in said, said
    pooler.process = None
    pooler.start()
    wire = pooler.wire(database="pgbouncer")
    rows = {row[0]: row for row in wire.query("SHOW USERS").rows}
    assert rows["bob"][3:5] == ["statement", "0"], "an entry, not a part of it"
    assert {row[0]: row[5] for row in wire.query("SHOW DATABASES").rows}["later"] == "4"


@pytest.mark.parametrize("folder", [True, False])
def test_files_that_are_none(make_pooler, folder):
    """A folder is no empty file, and a FIFO that nobody writes to does not hold up the process."""
    pooler = make_pooler({"auth_type": "hba", "auth_hba_file": "hba", "admin_users": USER}, start=False)
    path = os.path.join(pooler.directory, "hba")
    with open(path, "w") as file:
        file.write("host all all 127.0.0.1/32 scram-sha-256\n")
    pooler.start()
    for broken in (pooler.ini, path):
        os.rename(broken, broken + ".away")
        os.mkdir(broken) if folder else os.mkfifo(broken)
        os.chmod(broken, 0o777)
        said = pooler.hang_up()
        assert "reload failed, nothing was changed: " in said, said
        assert ("Is a directory" if folder else "No data available") in said, said
        assert pooler.wire().value("select 1") == "1"
        os.rmdir(broken) if folder else os.unlink(broken)
        os.rename(broken + ".away", broken)
        assert "configuration reloaded" in pooler.hang_up()


def test_logfile_that_can_not_be_opened(make_pooler):
    pooler = make_pooler({"logfile": "/nonexistent/log"}, start=False)
    status, said = pooler.run()
    pooler.process = None
    assert status == 1 and "Cannot open logfile: '/nonexistent/log': No such file or directory" in said, said
    pooler.settings["logfile"] = None
    pooler.write()
    pooler.start()
    pooler.settings["logfile"] = "/nonexistent/log"
    pooler.settings["max_client_conn"] = 55
    assert "reload failed, nothing was changed: Cannot open logfile" in pooler.reload()


def test_missing_and_empty_configuration(make_pooler):
    status, out, err = run("/nonexistent/pgsluice.ini")
    assert status == 1 and not out and err.count("\n") == 1 and "/nonexistent/pgsluice.ini" in err
    for text in ("", "[databases]\n", "listen_port = 1\n"):
        pooler = make_pooler(start=False)
        pooler.write_ini(text)
        status, said = pooler.run()
        pooler.process = None
        assert status == 1 and said.count("\n") == 1 and pooler.ini in said, said


@pytest.mark.parametrize("arguments", [[], ["-q"]], ids=str)
def test_port_in_use(make_pooler, arguments):
    """The log has it too, which is all that is left where it starts quietly."""
    pooler = make_pooler({"logfile": "{directory}/logfile"}, start=False, arguments=arguments)
    with socket.create_server(("127.0.0.1", pooler.port)):
        status, said = pooler.run()
    assert " FATAL cannot listen on" in read(pooler, "logfile") and str(pooler.port) in read(pooler, "logfile")
    if arguments:
        pooler.process = None
        assert (status, said) == (1, "")
        return
    pooler.process = None
    assert status == 1 and said.count("\n") == 1 and str(pooler.port) in said, said
    assert not os.path.exists(pooler.socket_path)


@pytest.mark.parametrize("section", ["pgbouncer", "pgsluice"])
def test_the_section_may_have_either_name(make_pooler, pg, section):
    text = GOOD.replace("[pgbouncer]", "[%s]" % section).replace("5432", str(pg.port))
    assert make_pooler(text=text).wire().value("select 1") == "1"


# ---- reload ----

def test_reload_changes_the_pool_size_live(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 1})
    wires = [pooler.wire() for _ in range(4)]
    for wire in wires:
        wire.send(query("begin"))
    activity.wait_count(1)
    pooler.settings["default_pool_size"] = 3
    assert "configuration reloaded" in pooler.reload()
    activity.wait_count(3)
    time.sleep(0.2)
    assert activity.count() == 3
    pooler.settings["default_pool_size"] = 1
    pooler.reload()
    while wires:  # three have their server, the last one waits for the only one that is left
        ready = select.select([wire.socket for wire in wires], [], [], 5)[0]
        assert ready
        for wire in [wire for wire in wires if wire.socket in ready]:
            wire.ready()
            wire.query("commit")
            wires.remove(wire)
    activity.wait_count(1)


def test_bad_reload_changes_nothing(make_pooler, activity):
    """All or nothing: what stands before the bad line is not taken either."""
    pooler = make_pooler({"default_pool_size": 1})
    wires = [pooler.wire() for _ in range(3)]
    for wire in wires:
        wire.send(query("begin"))
    good = open(pooler.ini).read()
    for bad, where in ((good.replace("default_pool_size = 1", "default_pool_size = 3") + "nonsense = 1\n", r":\d+: .*nonsense"),
                       (good.replace("default_pool_size = 1", "default_pool_size = 3") + "%include /nonexistent/x\n",
                        r":\d+: .*/nonexistent/x")):
        pooler.write_ini(bad)
        said = pooler.hang_up()
        assert re.search("ERROR.*reload failed.*" + re.escape(pooler.ini) + where, said), said
        time.sleep(0.2)
        assert activity.count() == 1
    shutil.move(pooler.ini, pooler.ini + ".away")
    assert "reload failed" in pooler.hang_up()
    assert pooler.wire() and activity.count() == 1


def test_reload_takes_a_database_away(make_pooler, activity):
    pooler = make_pooler()
    idle, busy, stays = pooler.wire(database="other"), pooler.wire(database="other"), pooler.wire()
    busy.query("begin")
    idle.query("select 1")
    options = pooler.databases.pop("other")
    pooler.databases["new"] = options + " dbname=other"
    pooler.reload()
    for wire in (idle, busy):
        no = wire.refusal()
        assert (no.severity, no.sqlstate, no.text) == ("FATAL", "57P01", "database removed")
    activity.wait_count(0, "datname = 'other'")
    assert stays.value("select 1") == "1"
    with pytest.raises(Refused) as no:
        pooler.wire(database="other")
    assert no.value.text == "no such database: other"
    assert pooler.wire(database="new").value("select current_database()") == "other"


def test_reload_moves_a_database(make_pooler, activity):
    """Another dbname: clients stay, idle servers are replaced at once, those at work when they are released."""
    pooler = make_pooler()
    idle, busy = pooler.wire(), pooler.wire()
    idle.query("select 1")
    busy.query("begin")
    pooler.databases["app"] += " dbname=other"
    pooler.reload()
    assert busy.value("select current_database()") == "app"
    assert idle.value("select current_database()") == "other"
    busy.query("commit")
    assert busy.value("select current_database()") == "other"
    activity.wait_count(0, "datname = 'app'")


def test_reload_reads_the_users_again(make_pooler):
    pooler = make_pooler(auth={USER: PASSWORD})
    wire = pooler.wire()
    with pytest.raises(Refused):
        pooler.wire("bob", "bobpassword", "app")
    pooler.auth = {"bob": "bobpassword"}
    pooler.reload()
    assert pooler.wire("bob", "bobpassword", "app").value("select 1") == "1"
    with pytest.raises(Refused):
        pooler.wire()
    assert wire.socket.fileno() >= 0


def test_reload_of_limits_and_timeouts(make_pooler):
    pooler = make_pooler({"max_client_conn": 2})
    wires = [pooler.wire(), pooler.wire()]
    with pytest.raises(Refused):
        pooler.wire()
    pooler.settings.update(max_client_conn=3, client_idle_timeout=0.5)
    pooler.reload()
    third = pooler.wire()
    clock = Clock()
    third.query("select 1")
    assert third.refusal().text == "client_idle_timeout"
    clock.assert_at(0.5)
    for wire in wires:
        assert wire.refusal().text == "client_idle_timeout"


def test_reload_says_what_needs_a_restart(make_pooler):
    pooler = make_pooler()
    pooler.settings["worker_threads"] = 7
    pooler.settings["listen_port"] = pooler.port + 1
    said = pooler.reload()
    assert re.search("WARNING.*worker_threads", said) and re.search("WARNING.*listen_port", said)
    assert pooler.wire().value("select 1") == "1"


def test_reload_opens_the_log_again(make_pooler):
    pooler = make_pooler({"logfile": "{directory}/logfile"})
    os.rename(pooler.directory + "/logfile", pooler.directory + "/old")
    pooler.hang_up()
    wait_until(lambda: os.path.exists(pooler.directory + "/logfile"), 5, "a new logfile")
    pooler.wire()
    wait_until(lambda: "login attempt" in read(pooler, "logfile"), 5, "a line in the new logfile")
    assert "login attempt" not in read(pooler, "old")


def test_reload_under_load(make_pooler):
    """Many reloads beside traffic: no error, no change."""
    pooler = make_pooler({"default_pool_size": 2})
    bench = subprocess.Popen(["pgbench", "-n", "-c", "10", "-j", "1", "-T", "2", "-f", "/dev/stdin"],
                             env=pooler.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    bench.stdin.write("select 1;\n")
    bench.stdin.close()
    bench.stdin = None
    for turn in range(8):
        time.sleep(0.2)
        pooler.settings["default_pool_size"] = 2 + turn % 3
        pooler.write()
        pooler.signal(signal.SIGHUP)
    out, err = bench.communicate(timeout=30)
    assert bench.returncode == 0 and "failed transactions: 0 " in out, out + err


# ---- shutdown ----

def refused_by_tcp(pooler):
    try:
        Wire(pooler.address).socket.close()
        return False
    except (ConnectionRefusedError, ConnectionResetError):
        return True


def test_sigterm_waits_for_clients(make_pooler):
    pooler = make_pooler({"default_pool_size": 1})
    wires = [pooler.wire(), pooler.wire()]
    wires[0].query("begin")
    pooler.signal(signal.SIGTERM)
    wait_until(lambda: "waiting for all clients" in pooler.log())
    assert refused_by_tcp(pooler)
    with pytest.raises(Refused) as no:
        Wire(pooler.socket_path).login(USER, PASSWORD, "app")
    assert (no.value.sqlstate, no.value.text) == ("57P01", "pooler is shutting down")
    time.sleep(0.3)
    wires[0].query("commit")
    assert wires[1].value("select 1") == "1" and wires[0].value("select 1") == "1"
    wires[0].close()
    time.sleep(0.3)
    assert pooler.process.poll() is None and wires[1].value("select 1") == "1"
    clock = Clock()
    wires[1].close()
    assert pooler.exited() == 0
    clock.assert_at(0)
    assert not os.path.exists(pooler.socket_path)


def test_sigint_waits_for_servers(make_pooler):
    pooler = make_pooler({"default_pool_size": 1})
    busy, waiting = pooler.wire(), pooler.wire()
    busy.query("begin")
    waiting.send(query("select 1"))
    time.sleep(0.1)
    pooler.signal(signal.SIGINT)
    no = waiting.refusal()
    assert (no.severity, no.sqlstate, no.text) == ("FATAL", "57P01", "server shutting down")
    assert refused_by_tcp(pooler)
    assert busy.value("select 7") == "7"  # the transaction may go on
    time.sleep(0.3)
    assert pooler.process.poll() is None
    busy.send(query("commit"))
    assert busy.until("C").tags == ["COMMIT"]
    assert pooler.exited() == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_it(make_pooler, first, second):
    pooler = make_pooler()
    wire = pooler.wire()
    wire.query("begin")
    pooler.signal(first)
    time.sleep(0.2)
    assert pooler.process.poll() is None
    clock = Clock()
    pooler.signal(second)
    assert pooler.exited() == 0
    clock.assert_at(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_suspended_ends_it_at_once(make_pooler, number):
    pooler = make_pooler({"admin_users": USER})
    admin, client = pooler.wire(database="pgbouncer"), pooler.wire()
    client.query("begin")
    assert admin.query("SUSPEND").tags == ["SUSPEND"]
    clock = Clock()
    pooler.signal(number)
    assert pooler.exited() == 0
    clock.assert_at(0)
    assert "suspend was in progress, going down immediately" in pooler.log()


def test_sigquit_ends_it_at_once(make_pooler, activity):
    pooler = make_pooler()
    wire = pooler.wire()
    wire.query("begin")
    clock = Clock()
    pooler.signal(signal.SIGQUIT)
    assert pooler.exited() == 0
    clock.assert_at(0)
    activity.wait_count(0)


def test_sigusr2_is_ignored_while_shutting_down(make_pooler):
    pooler = make_pooler()
    waiting = pooler.wire()
    pooler.signal(signal.SIGUSR1)
    wait_until(lambda: "got SIGUSR1, pausing" in pooler.log())
    waiting.send(query("select 1"))
    pooler.signal(signal.SIGTERM)
    wait_until(lambda: "waiting for all clients" in pooler.log())
    pooler.signal(signal.SIGUSR2)
    wait_until(lambda: "got SIGUSR2 while shutting down, ignoring it" in pooler.log())
    time.sleep(0.3)
    assert not waiting.buffer and pooler.process.poll() is None
    waiting.close()
    assert pooler.exited() == 0


def test_ends_at_once_without_clients(make_pooler):
    for sig in (signal.SIGTERM, signal.SIGINT):
        pooler = make_pooler()
        wire = pooler.wire()
        wire.query("select 1")
        wire.close()
        time.sleep(0.1)
        clock = Clock()
        pooler.signal(sig)
        assert pooler.exited() == 0
        clock.assert_at(0)


def test_pause_and_resume(make_pooler, activity):
    pooler = make_pooler({"default_pool_size": 2})
    busy, idle = pooler.wire(), pooler.wire()
    idle.query("select 1")
    busy.query("begin")
    pooler.signal(signal.SIGUSR1)
    activity.wait_count(1)  # the idle one goes, the one at work stays
    idle.send(query("select 2"))
    assert busy.value("select 3") == "3"
    busy.query("commit")
    activity.wait_count(0)
    newcomer = pooler.socket()
    time.sleep(0.3)
    assert not idle.buffer and activity.count() == 0
    pooler.signal(signal.SIGUSR2)
    assert idle.ready().rows == [["2"]]
    assert newcomer.login(USER, PASSWORD, "app").value("select 4") == "4"
    assert busy.value("select 5") == "5"


def test_query_wait_timeout_goes_on_in_a_pause(make_pooler):
    pooler = make_pooler({"query_wait_timeout": 0.6})
    wire = pooler.wire()
    wire.query("select 1")
    pooler.signal(signal.SIGUSR1)
    time.sleep(0.1)
    clock = Clock()
    wire.send(query("select 2"))
    assert wire.refusal().text == "query_wait_timeout"
    clock.assert_at(0.6)


def test_pause_in_session_mode_waits_for_the_clients(make_pooler, activity):
    pooler = make_pooler({"pool_mode": "session"})
    wire = pooler.wire()
    pid = wire.value(PID)
    pooler.signal(signal.SIGUSR1)
    time.sleep(0.2)
    assert wire.value(PID) == pid
    wire.close()
    activity.wait_count(0)
    pooler.signal(signal.SIGUSR2)
    assert pooler.wire().value("select 1") == "1"


def test_sigpipe_does_no_harm(make_pooler):
    pooler = make_pooler()
    pooler.signal(signal.SIGPIPE)
    time.sleep(0.1)
    assert pooler.wire().value("select 1") == "1"


# ---- log and socket ----

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[\d+\] (FATAL|ERROR|WARNING|LOG|DEBUG|NOISE) .+")


def test_log_lines(make_pooler):
    pooler = make_pooler({"verbose": 2, "max_client_conn": 1})
    wire = pooler.wire(parameters={"application_name": "my\nname"})
    wire.query("select 1")
    with pytest.raises(Refused):
        pooler.wire()
    with pytest.raises(Refused):
        Wire(pooler.address).login("evil\nuser\x1b[31m", "x", "app")
    wire.close()
    pooler.wait_log("closing because: client close request")
    pooler.wait_log(r"closing because: no more connections allowed \(max_client_conn\)")
    lines = pooler.log().splitlines()
    assert all(LINE.fullmatch(line) for line in lines), [line for line in lines if not LINE.fullmatch(line)]
    log = pooler.log()
    assert re.search(r"LOG C-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ login attempt: db=app user=app tls=no replication=no\n", log)
    assert re.search(r"LOG S-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ new connection to server "
                     r"\(from 127\.0\.0\.1:\d+\)\n", log)
    assert re.search(r"LOG C-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ closing because: client close request \(age=\d+s\)\n", log)
    assert "pooler error: no more connections" in log and "login attempt: db=app user=evil" in log, "who fails too"
    assert PASSWORD not in log and "\x1b" not in log


def test_log_lines_of_unix_sockets_and_of_health_checks(pg, make_pooler):
    """As PgBouncer names them; who connects and goes without a word is told to -v alone."""
    pooler = make_pooler({"tcp_defer_accept": 0}, databases={"app": "host=%s port=%d" % (pg.socket_directory, pg.port)})
    with Wire(pooler.socket_path).login(USER, PASSWORD) as wire:
        wire.query("select 1")
    place = r"app/app@unix\(%d\):%d " % (os.getpid(), pooler.port)
    pooler.wait_log(place + "login attempt: db=app user=app tls=no replication=no\n")
    pooler.wait_log(r"S-0x[0-9a-f]+: app/app@unix:%d new connection to server\n" % pg.port)
    pooler.wait_log(place + "closing because: client close request")
    for said in (b"", b"\0"):
        with socket.create_connection(pooler.address) as it:
            it.sendall(said)
    pooler.wait_log(r"\(nodb\)/\(nouser\)@127\.0\.0\.1:\d+ closing because: client unexpected eof")
    assert pooler.log().count("(nodb)/(nouser)") == 1


def test_log_settings(make_pooler):
    pooler = make_pooler({"log_connections": 0, "log_disconnections": 0, "log_pooler_errors": 0})
    pooler.wire().close()
    with pytest.raises(Refused):
        pooler.wire(database="nodb")
    time.sleep(0.3)
    log = pooler.log()
    assert "login attempt" not in log and "closing because" not in log and "pooler error" not in log


def test_pooler_errors_are_logged(make_pooler):
    pooler = make_pooler()
    with pytest.raises(Refused):
        pooler.wire(database="nodb")
    pooler.wait_log("LOG C-.* login failed: db=nodb user=app\n")
    pooler.wait_log("WARNING C-.* pooler error: no such database: nodb\n")


@pytest.mark.parametrize("told", [1, 0])
def test_errors_of_the_console_are_logged(make_pooler, told):
    pooler = make_pooler({"admin_users": USER, "log_pooler_errors": told})
    admin = pooler.wire(database="pgbouncer")
    for command in ("nonsense", "pause nowhere", "resume"):
        with pytest.raises(Refused):
            admin.query(command)
    admin.close()
    pooler.wait_log("client close request")
    found = re.findall("WARNING C-.* pooler error: (.*)", pooler.log())
    assert found == ["invalid command 'nonsense', use SHOW HELP;", "no such database: nowhere",
                     "pooler is not paused/suspended"] * told


def test_a_database_that_a_reload_takes_out_is_told_of(make_pooler):
    pooler = make_pooler(databases={"app": "", "gone": ""})
    del pooler.databases["gone"]
    pooler.reload()
    pooler.wait_log("WARNING dropping database 'gone' as it does not exist anymore or inactive auto-database")
    assert "database 'app'" not in pooler.log()


def test_unix_socket_mode(make_pooler):
    pooler = make_pooler({"unix_socket_mode": "0700"})
    assert stat.S_IMODE(os.stat(pooler.socket_path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(make_pooler().socket_path).st_mode) == 0o777


def test_abstract_unix_socket(make_pooler):
    pooler = make_pooler({"unix_socket_dir": "@pgsluice-test-%d" % os.getpid()})
    path = "\0pgsluice-test-%d/.s.PGSQL.%d" % (os.getpid(), pooler.port)
    assert Wire(path).login(USER, PASSWORD, "app").value("select 1") == "1"


def test_second_start_on_a_live_socket_is_refused(make_pooler, pg):
    pooler = make_pooler()
    second = make_pooler({"listen_addr": "", "listen_port": pooler.port, "unix_socket_dir": pooler.directory}, start=False)
    status, said = second.run()
    second.process = None
    assert status == 1 and said.count("\n") == 1 and pooler.socket_path in said, said
    assert Wire(pooler.socket_path).login(USER, PASSWORD, "app").value("select 1") == "1"


def test_a_socket_that_is_locked_is_another_s(make_pooler):
    """As a PostgreSQL's that is down, on this port."""
    pooler = make_pooler(start=False)
    with open(pooler.socket_path + ".lock", "w") as lock:
        lock.write("1\n")
    status, said = pooler.run()
    pooler.process = None
    assert status == 1 and "unix port is in use: there is a .lock beside it" in said, said


def test_stale_socket_is_taken_over(make_pooler):
    pooler = make_pooler()
    pooler.process.kill()
    pooler.process.wait()
    assert os.path.exists(pooler.socket_path)
    pooler.start()
    assert Wire(pooler.socket_path).login(USER, PASSWORD, "app").value("select 1") == "1"


def test_so_reuseport(make_pooler):
    """A rolling restart: the new one listens beside the old one, which then leaves without an error to anybody."""
    old = make_pooler({"so_reuseport": 1})
    wire = old.wire()
    new = make_pooler({"so_reuseport": 1, "listen_port": old.port}, start=False)
    new.port, new.address = old.port, old.address
    new.start()
    wait_until(lambda: os.path.exists(new.socket_path), 5, "the new one")
    old.signal(signal.SIGTERM)
    time.sleep(0.2)
    assert [Wire(old.address).login(USER, PASSWORD, "app").value("select 1") for _ in range(10)] == ["1"] * 10
    wire.close()
    assert old.exited() == 0


def test_listens_everywhere_with_a_star(make_pooler):
    pooler = make_pooler({"listen_addr": "*"})
    assert pooler.wire().value("select 1") == "1"
    if os.path.exists("/proc/net/if_inet6") and "::1" in subprocess.run(["ip", "-6", "addr"], capture_output=True, text=True).stdout:
        assert Wire(("::1", pooler.port)).login(USER, PASSWORD, "app").value("select 1") == "1"


def test_open_files_run_out(make_pooler):
    """Without a free descriptor new clients wait; those that are in go on, and so does everybody afterwards."""
    pooler = make_pooler({"max_client_conn": 1000, "tcp_defer_accept": 0}, start=False)
    pooler.limit_files = 40
    pooler.start()
    wire = pooler.wire()
    wire.query("select 1")
    crowd = [Wire(pooler.address) for _ in range(60)]
    time.sleep(0.3)
    assert pooler.open_files() >= 38
    assert wire.value("select 1") == "1"
    for one in crowd:
        one.socket.close()
    assert pooler.wire().value("select 1") == "1"
