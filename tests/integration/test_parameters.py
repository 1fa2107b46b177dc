"""Parameters of the startup packet against a real PostgreSQL: whatever a client asks for it has, in every transaction,
and nobody else has it. A pool of one server, so that each client gets the server that another has just left.

PGSLUICE_SEED: the seed of the fuzzed values; printed."""
import os
import random
import time

import pytest
from pg import Postgres
from pooler import PASSWORD, USER
from wire import Refused, Wire, message, query

ONE = {"default_pool_size": 1}
PID = "select pg_backend_pid()"
ENCODINGS = {"UTF8": "utf-8", "SJIS": "shift_jis", "BIG5": "big5", "GBK": "gbk", "LATIN1": "latin-1", "EUC_JP": "euc_jp"}


def seed():
    value = int(os.environ.get("PGSLUICE_SEED", random.SystemRandom().randrange(1 << 32)))
    print("PGSLUICE_SEED=%d" % value)
    return value


def show(wire, name):
    return wire.value("select current_setting('%s', true)" % name)


def raw(wire, sql):
    """The one value as bytes, in the client's encoding."""
    wire.send(message("Q", (sql if isinstance(sql, bytes) else sql.encode()) + b"\0"))
    found = wire.ready()
    assert not found.errors, found.errors[0].fields
    body = [m for m in found if m.type == "D"][0].body
    size = int.from_bytes(body[2:6], "big", signed=True)
    return None if size < 0 else body[6:6 + size]


def ended(pooler, **parameters):
    """Logs in and asks; returns the FATAL that this ends with."""
    wire = pooler.wire(parameters=parameters)
    with pytest.raises(Refused) as no:
        wire.query("select 1")
    assert no.value.severity == "FATAL"
    assert wire.read() is None
    return no.value


# ---- what the server does not report ----

UNREPORTED = [
    ("statement_timeout", "12345", "12345ms"), ("extra_float_digits", "2", "2"), ("geqo", "off", "off"),
    ("search_path", 'a, "B c", pg_temp', 'a, "B c", pg_temp'), ("search_path", "", ""), ("work_mem", "123kB", "123kB"),
    ("my.var", "it's", "it's"), ("my.var", "", ""), ("default_transaction_isolation", "serializable", "serializable"),
    ("lock_timeout", "5s", "5s"), ("bytea_output", "escape", "escape"), ("temp_tablespaces", "", ""),
    ("row_security", "off", "off"), ("a.b.c", "\\x'\"", "\\x'\""), ("n." + "x" * 200, "long", "long")]


@pytest.mark.parametrize("name,value,expected", UNREPORTED)
@pytest.mark.parametrize("how", ["packet", "-c", "--"])
def test_unreported_parameter_is_this_clients_alone(make_pooler, name, value, expected, how):
    pooler = make_pooler(ONE)
    quoted = value.replace("\\", "\\\\").replace(" ", "\\ ")
    asked = {name: value} if how == "packet" else {"options": (
        "-c %s=%s" % (name, quoted) if how == "-c" else "--%s=%s" % (name.replace("_", "-"), quoted))}
    plain = pooler.wire()
    default = show(plain, name)
    one, two = pooler.wire(parameters=asked), pooler.wire(parameters=asked)
    pid = plain.value(PID)
    for _ in range(3):
        assert show(one, name) == expected
        assert show(plain, name) in (default, default or "")  # one that nobody defines is '' once it has been set
        assert show(two, name) == expected
    assert plain.value(PID) == pid


def test_each_client_its_own_of_many(make_pooler):
    pooler = make_pooler(ONE)
    rng = random.Random(seed())
    names = {"geqo": ["on", "off"], "work_mem": ["1MB", "2MB", "3MB"], "my.a": list("abc"), "my.b": list("abc"),
             "search_path": ["x", "y, z"], "TimeZone": ["UTC", "Asia/Tokyo"], "application_name": ["p", "q"],
             "DateStyle": ["ISO, DMY", "German, DMY"], "client_encoding": ["UTF8", "LATIN1"],
             "standard_conforming_strings": ["on", "off"], "extra_float_digits": ["0", "1", "3"]}
    plain = pooler.wire()
    defaults = {name: show(plain, name) for name in names}
    clients = []
    for _ in range(12):
        asked = {name: rng.choice(values) for name, values in names.items() if rng.random() < 0.5}
        clients.append((pooler.wire(parameters=asked), {**defaults, **asked}))
    for _ in range(300):
        wire, wanted = rng.choice(clients)
        name = rng.choice(list(names))
        if rng.random() < 0.1:
            wire.query(rng.choice(["reset geqo", "set local geqo = off", "begin; set my.a = 'z'; rollback"]))
        assert (show(wire, name) or "") == (wanted[name] or ""), (name, wanted)


def test_no_round_trip_of_its_own_once_it_was_accepted(pg, make_pooler):
    """The log of the server shows what was sent: nothing between clients that agree, one query where they differ."""
    pooler = make_pooler(ONE, databases={"logged": ""})
    asked = {"geqo": "off", "my.var": "x", "timezone": "Asia/Tokyo"}
    a, b, plain = (pooler.wire(database="logged", parameters=it) for it in (asked, asked, {}))
    for wire in (a, b, plain):
        wire.value("select 1")
    start = len(pg.log_text())
    for wire in (a, b, a, plain, plain, b):
        wire.value("select 1")
    said = [line.split("statement: ")[1] for line in pg.log_text()[start:].splitlines() if "statement: " in line]
    set_all = "SET \"geqo\"='off';SET \"my.var\"='x';SET \"TimeZone\"='Asia/Tokyo';"
    put_back = "RESET \"geqo\";RESET \"my.var\";SET \"TimeZone\"='%s';" % plain.parameters["TimeZone"]
    one = "select 1"
    assert said == [set_all, one, one, one, put_back, one, one, set_all, one]


def test_a_later_client_gains_by_an_earlier_one(pg, make_pooler):
    """The server's own spelling is in its welcome, and its first query needs no answer to a SET before it."""
    pooler = make_pooler({**ONE, "worker_threads": 1}, databases={"logged": ""})
    asked = {"timezone": "utc", "client_encoding": "latin-1", "DateStyle": "german"}
    first = pooler.wire(database="logged", parameters=asked)
    assert first.parameters["TimeZone"] == "utc"
    told = first.query("select 1").parameters
    assert told == {"TimeZone": "UTC", "client_encoding": "LATIN1", "DateStyle": "German, DMY"}
    second = pooler.wire(database="logged", parameters=asked)
    assert {name: second.parameters[name] for name in told} == told
    start = len(pg.log_text())
    assert second.query("select 1").parameters == {}
    assert pg.log_text()[start:].count("statement:") == 1


def test_sql_does_not_make_it_lost(make_pooler):
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(parameters={"options": "-c my.var=mine -c geqo=off"}), pooler.wire()
    for sql in ("reset all", "discard all", "set geqo = on", "begin; set my.var = 'x'; commit",
                "begin; reset all; rollback", "set local geqo = on"):
        wire.query(sql)
        assert (show(wire, "my.var"), show(wire, "geqo")) == ("mine", "off"), sql
        assert (show(other, "my.var") or "", show(other, "geqo")) == ("", "on"), sql


def test_options_and_the_packet_itself(make_pooler):
    """As PostgreSQL: what the packet names overrides the options, and of two in one place the last counts."""
    pooler = make_pooler(ONE)
    wire = pooler.wire(parameters={"work_mem": "3MB", "options": "-c work_mem=1MB -c work_mem=2MB --geqo=on -cgeqo=off"})
    assert (show(wire, "work_mem"), show(wire, "geqo")) == ("3MB", "off")


def test_ignored_parameters_are_dropped(make_pooler):
    pooler = make_pooler({**ONE, "ignore_startup_parameters": "Extra_Float_Digits, geqo, nonsense, TimeZone"})
    wire = pooler.wire(parameters={"extra_float_digits": "3", "nonsense": "x", "timezone": "Asia/Tokyo",
                                   "options": "-c geqo=off -c nonsense=1 -c work_mem=5MB"})
    assert [show(wire, name) for name in ("extra_float_digits", "geqo", "TimeZone", "work_mem")] == [
        "1", "on", "Asia/Tokyo", "5MB"]
    pooler = make_pooler({**ONE, "ignore_startup_parameters": "options"})
    wire = pooler.wire(parameters={"options": "-c geqo=off -d 5 whatever", "work_mem": "5MB"})
    assert (show(wire, "geqo"), show(wire, "work_mem")) == ("on", "5MB")
    wire = pooler.wire(parameters={"options": "-c geqo=off -c timezone=Asia/Tokyo"})
    assert (show(wire, "geqo"), show(wire, "TimeZone")) == ("on", "Asia/Tokyo")


@pytest.mark.parametrize("connect_query,name,own", [
    ("set search_path to app, public", "search_path", "app, public"), ("set my.var = ''", "my.var", ""),
    ("set geqo = off", "geqo", "off"), ("set my.var = '=a''b'", "my.var", "=a'b")])
def test_what_connect_query_set_is_brought_back(make_pooler, connect_query, name, own):
    pooler = make_pooler(ONE, databases={"app": "connect_query='%s'" % connect_query.replace("'", "''")})
    plain, wire = pooler.wire(), pooler.wire(parameters={name: "on"})
    for _ in range(3):
        assert show(plain, name) == own
        assert show(wire, name) == "on"
    wire.query("discard all")
    assert show(wire, name) == "on"


# ---- what the server refuses ----

@pytest.mark.parametrize("name,value,sqlstate,text", [
    ("statement_timeout", "soon", "22023", 'invalid value for parameter "statement_timeout": "soon"'),
    ("client_encoding", "klingon", "22023", 'invalid value for parameter "client_encoding": "klingon"'),
    ("nosuch", "1", "42704", 'unrecognized configuration parameter "nosuch"'),
    ("server_version", "99", "55P02", 'parameter "server_version" cannot be changed'),
    ("is_superuser", "on", "55P02", 'parameter "is_superuser" cannot be changed'),
    ("log_statement", "none", "42501", 'permission denied to set parameter "log_statement"'),
    ("role", "postgres", "42501", 'permission denied to set role "postgres"'),
    ("session_authorization", "postgres", "42501", 'permission denied to set session authorization'),
    ("shared_buffers", "1", "55P02", 'parameter "shared_buffers" cannot be changed without restarting the server'),
    ("x\"='1';drop table kept;--", "1", "42", ""), ("x';drop table kept;--", "1", "42", ""),
    ("my.v\\", "1", "42602", "invalid configuration parameter name"), ("my.\xe4", "1", "", ""),
    ("x" * 100, "1", "42704", "unrecognized configuration parameter")])
def test_refused_by_the_server(pg, make_pooler, name, value, sqlstate, text):
    pg.sql("create table if not exists kept ()", "app", USER)
    pooler = make_pooler(ONE)
    plain = pooler.wire()
    pid = plain.value(PID)
    if name == "my.\xe4":  # a letter beyond ASCII is one: accepted
        assert pooler.wire(parameters={name: value}).value("select 1") == "1"
    else:
        no = ended(pooler, **{name: value})
        assert no.sqlstate.startswith(sqlstate) and no.detail.startswith(text), no.fields
        assert no.text == "invalid server parameter", "PgBouncer's words"
    assert plain.value(PID) == pid, "the server is none the worse"
    assert plain.value("select count(*) from kept") == "0"


def test_refused_does_not_stick(make_pooler):
    """What stands beside the value that is refused is not left behind."""
    pooler = make_pooler(ONE)
    plain = pooler.wire()
    before = [show(plain, name) for name in ("geqo", "work_mem", "TimeZone", "client_encoding")]
    for _ in range(3):
        ended(pooler, geqo="off", work_mem="9MB", timezone="Asia/Tokyo", client_encoding="LATIN1", zzz="1")
        assert [show(plain, name) for name in ("geqo", "work_mem", "TimeZone", "client_encoding")] == before


# ---- who the session is ----

def test_role_is_this_clients_alone(pg, make_pooler):
    pg.sql("drop role if exists tenant; create role tenant; grant tenant to %s" % USER)
    pooler = make_pooler(ONE)
    plain, wire = pooler.wire(), pooler.wire(parameters={"role": "tenant", "work_mem": "7MB"})
    pid = plain.value(PID)
    for _ in range(3):
        assert wire.value("select current_user || current_setting('work_mem')") == "tenant7MB"
        assert plain.value("select current_user") == USER
    assert plain.value(PID) == pid
    wire.query("reset role")
    assert plain.value("select current_user") == USER
    assert wire.value("select current_user") == "tenant"
    # The role is taken away: the client must not go on as another.
    plain.value("select 1")
    pg.sql("revoke tenant from %s" % USER)
    with pytest.raises(Refused) as no:
        wire.query("create table must_not_exist ()")
    assert (no.value.severity, no.value.sqlstate) == ("FATAL", "42501")
    assert plain.value("select to_regclass('must_not_exist')") is None


@pytest.fixture
def boss(pg, make_pooler):
    """Wires to a pool of one that logs in as a superuser."""
    pg.sql("drop role if exists boss; create role boss superuser login password 'b'; drop role if exists tenant;"
           "create role tenant")
    pooler = make_pooler(ONE, databases={"app": "user=boss password=b", "own": "dbname=app user=boss password=b "
                                         "connect_query='set role tenant'"})
    return lambda database="app", **parameters: pooler.wire(database=database, parameters=parameters)


WHO = "select session_user || '/' || current_user || '/' || current_setting('is_superuser')"


def test_a_superusers_pool(boss):
    plain, role, user = boss(), boss(role="tenant"), boss(session_authorization="tenant")
    pid = plain.value(PID)
    for _ in range(3):
        assert plain.value(WHO) == "boss/boss/on"
        assert role.value(WHO) == "boss/tenant/off"
        assert user.value(WHO) == "tenant/tenant/off"
        assert role.value(PID) == pid, "lent and taken back, never closed"
    assert plain.value(PID) == pid


def test_set_session_authorization_never_reaches_another(boss):
    plain, wire = boss(), boss()
    pid = plain.value(PID)
    wire.query("set session authorization tenant")
    assert plain.value(WHO) == "boss/boss/on"
    assert plain.value(PID) != pid, "by SQL: nobody else gets that server"
    assert wire.value(WHO) == "tenant/tenant/off", "it is reported, so it follows its client"
    assert plain.value(WHO) == "boss/boss/on"
    wire.query("reset session authorization")
    assert wire.value(WHO) == plain.value(WHO) == "boss/boss/on"
    pid = plain.value(PID)
    wire.query("set role tenant")
    assert plain.value(WHO) == "boss/boss/on"
    assert plain.value(PID) != pid
    wire.query("begin; set local role tenant; commit")
    assert plain.value(WHO) == "boss/boss/on"


def test_role_of_connect_query(boss):
    plain, other, third = boss("own"), boss("own", role="boss"), boss("own", session_authorization="%s" % USER)
    for _ in range(3):
        assert plain.value(WHO) == "boss/tenant/off"
        assert other.value(WHO) == "boss/boss/on"
        assert plain.value(WHO) == "boss/tenant/off"
        assert third.value(WHO) == "%s/%s/off" % (USER, USER)


def test_session_mode(pg, make_pooler):
    pooler = make_pooler({**ONE, "pool_mode": "session"})
    for _ in range(2):
        wire = pooler.wire(parameters={"geqo": "off", "timezone": "Asia/Tokyo", "options": "-c my.var=x"})
        pid = wire.value(PID)
        assert [show(wire, name) for name in ("geqo", "TimeZone", "my.var")] == ["off", "Asia/Tokyo", "x"]
        wire.close()
        plain = pooler.wire()
        assert [show(plain, name) or "" for name in ("geqo", "TimeZone", "my.var")] == [
            "on", plain.parameters["TimeZone"], ""]
        assert plain.value(PID) == pid
        plain.close()


# ---- values, byte by byte ----

def values_for(codec, rng):
    """Texts that this encoding can write: with trailing bytes that look like a backslash, with quotes, long, empty."""
    letters = [c for c in map(chr, list(range(0xa0, 0x180)) + list(range(0x3041, 0x3100)) + list(range(0x4e00, 0x9fa0)))
               if _can(c, codec)]
    sharp = [c for c in letters if c.encode(codec)[-1:] in b"\\'\"|`~@"] or letters
    texts = ["", "'", "\\", "\\'", "'; drop table kept; --", "\"", "$$", "x" * 8000]
    if sharp:
        texts += [sharp[0], "a" + sharp[0] + "'b", sharp[0] + "\\", "'" + sharp[-1] + "'", sharp[0] * 1000]
    for _ in range(40):
        pool = letters[:1] + sharp + list("'\\\"; ,=-$\n\t")
        texts.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 30))))
    return [text.encode(codec) for text in texts]


def _can(letter, codec):
    try:
        letter.encode(codec)
        return True
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("strings", ["on", "off"])
def test_any_value_comes_back_as_it_was(pg, make_pooler, encoding, strings):
    """my.var goes through the pooler's SQL in the client's encoding, and back by a query: the same bytes. The other
    client alternates, with another encoding and the other way of reading strings."""
    pg.sql("create table if not exists kept ()", "app", USER)
    pooler = make_pooler(ONE)
    plain = pooler.wire(parameters={"standard_conforming_strings": "off" if strings == "on" else "on"})
    checked = 0
    for value in values_for(ENCODINGS[encoding], random.Random(seed())):
        direct = Wire(("127.0.0.1", pg.port)).login(USER, PASSWORD, "app", {"client_encoding": encoding})
        # What PostgreSQL's own tables can not convert both ways is not ours to keep.
        quoted = b"select '" + value.replace(b"'", b"''") + b"'"
        direct.send(message("Q", quoted + b"\0"))
        answer = direct.ready()
        direct.close()
        rows = [m for m in answer if m.type == "D"]
        if not rows or rows[0].body[6:] != value:
            continue
        wire = pooler.wire(parameters={"client_encoding": encoding, "standard_conforming_strings": strings,
                                       "my.var": value})
        for _ in range(2):
            assert raw(wire, "select current_setting('my.var')") == value
            assert show(plain, "my.var") in (None, "")
            assert show(plain, "client_encoding") == "UTF8"
        wire.close()
        checked += 1
    assert checked >= 20
    assert plain.value("select count(*) from kept") == "0"


def test_bytes_that_are_no_text_are_refused_and_harm_nobody(make_pooler):
    pooler = make_pooler(ONE)
    plain = pooler.wire()
    pid = plain.value(PID)
    for encoding, value in (("UTF8", b"\xff'"), ("SJIS", b"\x83"), ("SJIS", b"a\x83'"), ("BIG5", b"\xa1"), ("GBK", b"\x81'")):
        no = ended(pooler, **{"client_encoding": encoding, "my.var": value})
        assert no.sqlstate in ("22021", "22P05"), no.fields
        assert (show(plain, "client_encoding"), plain.value(PID)) == ("UTF8", pid)


# ---- changes on the server ----

def test_no_client_is_struck_by_anothers_timeout(make_pooler):
    """statement_timeout of 1 ms would end a pooler's own query: that one is tried again, and nothing runs without it."""
    pooler = make_pooler(ONE)
    hasty = pooler.wire(parameters={"statement_timeout": "1"})
    calm = pooler.wire(parameters={"application_name": "calm", "timezone": "Asia/Tokyo"})
    for _ in range(200):
        try:
            hasty.query("select pg_sleep(0.01)")
            raise AssertionError("1 ms was enough for 10")
        except Refused as no:
            assert (no.severity, no.sqlstate) == ("ERROR", "57014")
        assert calm.value("select current_setting('statement_timeout') || current_setting('TimeZone')") == "0Asia/Tokyo"


@pytest.fixture(scope="module")
def standby(pg):
    """A standby of its own primary, to be promoted."""
    with Postgres({"max_wal_senders": 4, "wal_level": "replica"}) as primary:
        primary.create_user(USER, PASSWORD)
        primary.create_database("app", owner=USER)
        with Postgres(primary=primary) as server:
            yield server


def test_a_promotion_reaches_the_greeting(standby, make_pooler):
    pooler = make_pooler(ONE, databases={"app": "host=127.0.0.1 port=%d" % standby.port})
    early, idle = pooler.wire(), pooler.wire()
    assert early.parameters["in_hot_standby"] == idle.parameters["in_hot_standby"] == "on"
    assert early.value("select pg_is_in_recovery()") == "t"
    pid = early.value(PID)
    standby.sql("select pg_promote()")
    # PostgreSQL tells with the answer to the next query; who looks for a primary asks none.
    time.sleep(1.1)
    assert [pooler.wire().parameters["in_hot_standby"] for _ in "ab"] == ["off", "off"]
    assert early.query("select 1").parameters.get("in_hot_standby") == "off"
    assert early.query("select 1").parameters == {}
    assert idle.query("select pg_is_in_recovery()").parameters.get("in_hot_standby") == "off"
    assert early.value(PID) == pid


# ---- RESET ----

@pytest.mark.parametrize("sql", ["reset all", "discard all", "reset timezone"])
def test_reset_brings_back_what_was_asked_for_at_startup(make_pooler, sql):
    pooler = make_pooler(ONE)
    wire = pooler.wire(parameters={"TimeZone": "Asia/Tokyo"})
    assert show(wire, "TimeZone") == "Asia/Tokyo"
    for _ in range(2):
        wire.send(query(sql))
        told = wire.ready().parameters
        assert told.get("TimeZone", "Asia/Tokyo") == "Asia/Tokyo"
        assert show(wire, "TimeZone") == "Asia/Tokyo"
        wire.query("set timezone to 'America/Lima'")
        assert show(wire, "TimeZone") == "America/Lima"
    other = pooler.wire()
    assert show(other, "TimeZone") not in ("Asia/Tokyo", "America/Lima")


def test_a_value_that_is_refused_later_lets_nothing_run(make_pooler, pg):
    """What was accepted once may be refused when its object is gone: the request must not run without it."""
    pg.sql("create schema sa; create schema sb; create table sa.t(x int); create table sb.t(x int);"
           "create text search configuration public.mycfg (copy = simple); grant all on schema sa, sb to public;"
           "grant all on all tables in schema sa, sb to public", USER)
    try:
        pooler = make_pooler(ONE)
        one = pooler.wire(parameters={"options": "-c search_path=sa -c default_text_search_config=public.mycfg"})
        two = pooler.wire(parameters={"options": "-c search_path=sb"})
        for wire in (one, two, one, two):
            wire.query("select 1")
        pg.sql("drop text search configuration public.mycfg", USER)
        with pytest.raises(Refused):
            one.query("insert into t values (1)")
        assert two.value("select (select count(*) from sa.t) + (select count(*) from sb.t)") == "0"
    finally:
        pg.sql("drop schema sa cascade; drop schema sb cascade", USER)
