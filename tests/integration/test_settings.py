"""Settings that change what clients, servers or the log get to see, one after the other: each with its effect shown.
Those of limits, timeouts, logins, TLS and prepared statements have files of their own."""
import os
import re
import shutil
import socket

import psycopg
import pytest

from pg import temporary_directory
from pooler import PASSWORD, USER, wait_until
from wire import Refused, bind, execute, parse, query, sync


@pytest.fixture
def syslog():
    """A syslog daemon for one process: what execs it with a /dev/log of ours, and what that has been told so far."""
    directory = temporary_directory("pgsluice-log-")
    own = os.path.join(directory, "log")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(own)
    os.chmod(own, 0o666)
    listener.setblocking(False)
    made = not os.path.lexists("/dev/log")
    if made:
        open("/dev/log", "w").close()  # something to mount on, in a mount namespace of the process alone
    told = []

    def so_far():
        while True:
            try:
                told.append(listener.recv(65536).decode())
            except BlockingIOError:
                return told

    mount = 'mount --bind "$0" "$(readlink -f /dev/log)" && exec "$@"'
    own_user = [] if os.geteuid() == 0 else ["unshare", "--map-user=%d" % os.geteuid(), "--map-group=%d" % os.getegid()]
    try:
        yield ["unshare", "--mount", *([] if os.geteuid() == 0 else ["-r"]), "sh", "-c", mount, own, *own_user], so_far
    finally:
        listener.close()
        shutil.rmtree(directory)
        if made:
            os.unlink("/dev/log")


def test_disable_pqexec(make_pooler):
    for mode in ("transaction", "session"):
        pooler = make_pooler(settings={"disable_pqexec": 1, "pool_mode": mode})
        wire = pooler.wire()
        wire.send(parse("select 7"), bind(), execute(), sync())
        assert [m.type for m in wire.ready()] == ["1", "2", "D", "C", "Z"]
        wire.send(query("select 1; select 2"))
        refused = wire.refusal()
        assert refused.text == "PQexec disallowed" and refused.severity == "FATAL"
        assert "disable_pqexec" in refused.detail
        assert pooler.wire().parameters["server_version"]


def test_error_sqlstate(make_pooler):
    """The texts are the same, and what the server says keeps its own code."""
    said = {}
    for codes in ("standard", "pgbouncer"):
        pooler = make_pooler(settings={"error_sqlstate": codes, "query_timeout": 0.3})
        with pytest.raises(Refused) as refused:
            pooler.wire(database="nowhere")
        wire = pooler.wire()
        wire.send(query("select pg_sleep(5)"))
        slow = wire.refusal()
        wire = pooler.wire()
        wire.send(query("select 1/0"))
        of_server = [m for m in wire.ready() if m.type == "E"][0]
        said[codes] = [(it.sqlstate, it.text) for it in (refused.value, slow)]
        assert b"C22012\0" in of_server.body
    assert said["standard"] == [("3D000", "no such database: nowhere"), ("57014", "query timeout")]
    assert said["pgbouncer"] == [("08P01", "no such database: nowhere"), ("08P01", "query timeout")]


def test_application_name_add_host(make_pooler):
    pooler = make_pooler(settings={"application_name_add_host": 1})
    name = "select application_name from pg_stat_activity where pid = pg_backend_pid()"
    for given, want in (("report", "report"), (None, "app")):
        with psycopg.connect(host="127.0.0.1", port=pooler.port, user=USER, password=PASSWORD, dbname=USER,
                             autocommit=True, **({"application_name": given} if given else {})) as client:
            own = socket.socket(fileno=os.dup(client.pgconn.socket)).getsockname()[1]
            assert client.execute(name).fetchone()[0] == "%s - 127.0.0.1:%d" % (want, own)
            client.execute("set application_name = 'later'")
            assert client.execute(name).fetchone()[0] == "later"
    with pooler.connect(host=pooler.directory) as client:
        assert re.fullmatch(r"app - unix\(%d\):%d" % (os.getpid(), pooler.port), client.execute(name).fetchone()[0])


def test_login_notify_message(make_pooler):
    pooler = make_pooler(settings={"login_notify_message": "maintenance at noon"})
    notices = [m.body for m in pooler.wire().welcome if m.type == "N"]
    assert len(notices) == 1 and b"Mmaintenance at noon\0" in notices[0] and b"C00000\0" in notices[0]
    pooler.settings["login_notify_message"] = ""
    pooler.reload()
    assert not [m for m in pooler.wire().welcome if m.type == "N"]


def test_logfile_and_verbose_change_with_a_reload(make_pooler):
    pooler = make_pooler()
    path = os.path.join(pooler.directory, "other.log")
    pooler.settings["logfile"] = path
    pooler.reload()
    pooler.wire()
    wait_until(lambda: "login attempt: db=%s" % USER in open(path).read(), what="the login in the new file")
    os.rename(path, path + ".1")
    pooler.hang_up()
    assert os.path.exists(path) and "login attempt" not in open(path).read()


def test_syslog(make_pooler, syslog):
    """The message alone, with priority and facility (local3 is 19, of 8 priorities each), name and process id."""
    within, so_far = syslog
    pooler = make_pooler(settings={"syslog": 1, "syslog_ident": "sluice-test", "syslog_facility": "local3"}, start=False)
    pooler.within = within
    pooler.start()
    with pytest.raises(Refused):
        pooler.wire(database="nowhere")

    def told(level, text):
        pattern = r"<%d>.* sluice-test\[%d\]: .*%s" % (19 * 8 + level, pooler.process.pid, text)
        wait_until(lambda: any(re.match(pattern, line) for line in so_far()), what=pattern)

    told(6, "process up: pgsluice")
    told(4, "pooler error: no such database: nowhere")
    pooler.settings["syslog"] = 0
    pooler.reload()
    before = len(so_far())
    pooler.wire()
    wait_until(lambda: pooler.log().count("login attempt") >= 2, what="the login in the log")
    assert len(so_far()) == before


def test_effectless_settings_are_taken(make_pooler):
    pooler = make_pooler(settings={"pkt_buf": 75, "sbuf_loopcnt": 0, "job_name": "any"})
    assert pooler.wire().value("select repeat('x', 100000)") == "x" * 100000
    assert "without effect" not in pooler.log()


def test_in_the_journal_a_line_is_its_priority_and_text(make_pooler):
    """systemd passes the descriptor's device and inode in JOURNAL_STREAM."""
    pooler = make_pooler(start=False)
    with open(pooler.stderr, "ab") as log:
        own = os.fstat(log.fileno())
    os.environ["JOURNAL_STREAM"] = "%d:%d" % (own.st_dev, own.st_ino)
    try:
        pooler.start()
    finally:
        del os.environ["JOURNAL_STREAM"]
    assert re.search(r"^<6>process up: ", pooler.log(), re.MULTILINE), pooler.log()
