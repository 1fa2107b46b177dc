"""Who gets which server when, in each pool_mode, and that what passes through is what would pass without a pooler."""
import threading
import time

import psycopg
import psycopg2
import pytest

from pooler import wait_until
from wire import (Gone, Refused, bind, close, describe, execute, extended, flush, function_call, message, parse, query,
                  sync)

PID = "select pg_backend_pid()"
ONE = {"default_pool_size": 1}


# ---- modes ----

def test_transaction_mode_shares_one_server(make_pooler, activity):
    pooler = make_pooler(ONE)
    wires = [pooler.wire() for _ in range(10)]
    assert len({wire.value(PID) for wire in wires}) == 1
    for wire in wires:
        wire.query("begin")
        wire.query("create temp table mine(a int) on commit drop")
        wire.query("commit")
    with pytest.raises(Refused):
        wires[0].query("select 1/0")
    assert wires[1].query("select 1").status == "I"
    assert activity.count() == 1


def test_transaction_stays_on_its_server(make_pooler):
    pooler = make_pooler()
    a, b = pooler.wire(), pooler.wire()
    a.query("begin")
    pid = a.value(PID)
    assert b.value(PID) != pid
    a.query("savepoint before")
    with pytest.raises(Refused):
        a.query("select 1/0")
    assert b.value(PID) != pid  # a failed transaction is one still
    a.query("rollback to before")
    assert a.value(PID) == pid
    assert a.query("rollback").status == "I"


def test_session_mode_keeps_the_server(make_pooler, activity):
    pooler = make_pooler({"pool_mode": "session", "default_pool_size": 2})
    a, b = pooler.wire(), pooler.wire()
    pids = a.value(PID), b.value(PID)
    assert pids[0] != pids[1] and (a.value(PID), b.value(PID)) == pids
    a.query("set work_mem = '77MB'")
    a.query("create temp table mine(a int)")
    a.send(parse("select 7", "named") + sync())
    assert a.ready().types == "1Z"
    late = pooler.wire()
    late.send(query(PID))
    time.sleep(0.2)
    assert not late.buffer
    a.close()
    found = late.ready()
    assert found.rows == [[pids[0]]]  # the same server, and nothing of a's on it
    assert late.value("show work_mem") == "4MB"
    assert late.query("select count(*) from pg_prepared_statements").rows == [["0"]]
    with pytest.raises(Refused):
        late.query("select * from mine")
    assert activity.count() == 2


def test_session_mode_server_reset_query(pg, make_pooler):
    pooler = make_pooler({"pool_mode": "session", "server_reset_query": "set work_mem = '88MB'", **ONE})
    first = pooler.wire()
    first.query("set statement_timeout = '77s'")
    first.close()
    second = pooler.wire()
    assert second.value("show work_mem") == "88MB"
    assert second.value("show statement_timeout") == "77s"
    without = make_pooler({"pool_mode": "session", "server_reset_query": "", **ONE})
    first = without.wire()
    first.query("set work_mem = '99MB'")
    first.close()
    assert without.wire().value("show work_mem") == "99MB"


def test_session_mode_open_transaction_is_not_handed_on(make_pooler):
    pooler = make_pooler({"pool_mode": "session", **ONE})
    first = pooler.wire()
    first.query("begin")
    pid, transaction = first.value(PID), first.value("select pg_current_xact_id()")
    first.close()
    second = pooler.wire()
    assert second.query("select 1").status == "I"
    assert second.value(PID) == pid, "rolled back and kept"
    assert second.value("select pg_xact_status('%s')" % transaction) == "aborted"


def test_statement_mode_refuses_transactions(make_pooler, activity):
    pooler = make_pooler({"pool_mode": "statement", **ONE})
    wire = pooler.wire()
    assert wire.query("select 1; select 2").rows == [["1"], ["2"]]
    with pytest.raises(Refused) as no:
        wire.query("begin")
    assert (no.value.severity, no.value.text) == ("FATAL", "transaction blocks not allowed in statement pooling mode")
    assert wire.read() is None
    wait_until(lambda: activity.count("state like 'idle in%'") == 0, 2, "the transaction ended")
    assert pooler.wire().value("select 1") == "1"


@pytest.mark.parametrize("always", [0, 1])
def test_server_reset_query_always(make_pooler, always):
    pooler = make_pooler({"server_reset_query_always": always, "server_reset_query": "reset work_mem", **ONE})
    wire = pooler.wire()
    wire.query("set work_mem = '55MB'")
    assert wire.value("show work_mem") == ("4MB" if always else "55MB")


def test_pool_mode_of_database_and_user(make_pooler):
    pooler = make_pooler(ONE, databases={"app": "pool_mode=session", "other": ""}, users={"bob": "pool_mode=transaction"})
    a, b = pooler.wire("bob", "bobpassword", "app"), pooler.wire("bob", "bobpassword", "app")
    assert a.value(PID) == b.value(PID)
    a, b = pooler.wire(), pooler.wire()
    a.value(PID)
    b.send(query(PID))
    time.sleep(0.2)
    assert not b.buffer
    a.close()
    b.ready()


def test_waiters_are_served_in_the_order_they_asked(make_pooler):
    pooler = make_pooler({"worker_threads": 1, **ONE})
    holder = pooler.wire()
    holder.query("begin")
    wires = [pooler.wire() for _ in range(30)]
    order = wires[::3] + wires[1::3] + wires[2::3]
    for number, wire in enumerate(order):
        wire.send(query("insert into seen values (default, %d)" % number))
        time.sleep(0.005)
    holder.query("drop table if exists seen; create table seen(at serial, n int)")
    holder.query("commit")
    for wire in wires:
        assert wire.ready().tags == ["INSERT 0 1"]
    assert [int(row[0]) for row in holder.query("select n from seen order by at").rows] == list(range(30))


def test_waiters_are_overtaken_within_a_bound(make_pooler):
    """With several workers locality may change the order, by 32 places at most."""
    pooler = make_pooler({"worker_threads": 2, "max_client_conn": 200, **ONE})
    holder = pooler.wire()
    holder.query("begin")
    wires = [pooler.wire() for _ in range(120)]
    for number, wire in enumerate(wires):
        wire.send(query("insert into seen values (default, %d)" % number))
        time.sleep(0.003)
    holder.query("drop table if exists seen; create table seen(at serial, n int)")
    holder.query("commit")
    for wire in wires:
        wire.ready()
    order = [int(row[0]) for row in holder.query("select n from seen order by at").rows]
    assert sorted(order) == list(range(120))
    for place, number in enumerate(order):
        overtakers = [other for other in order[:place] if other > number]
        assert len(overtakers) <= 33, (number, overtakers)


# ---- parameters ----

def show(wire, name):
    return wire.value("select current_setting('%s')" % name)


@pytest.mark.parametrize("name,one,two", [
    ("TimeZone", "Asia/Tokyo", "America/New_York"), ("application_name", "one", "two"),
    ("client_encoding", "LATIN1", "SJIS"), ("DateStyle", "SQL, DMY", "German, DMY"),
    ("IntervalStyle", "iso_8601", "sql_standard"), ("standard_conforming_strings", "off", "on")])
@pytest.mark.parametrize("how", ["startup", "set"])
def test_parameters_follow_the_client(make_pooler, name, one, two, how):
    pooler = make_pooler(ONE)
    if how == "startup":
        a, b = pooler.wire(parameters={name: one}), pooler.wire(parameters={name: two})
        assert (a.parameters[name], b.parameters[name]) == (one, two)
    else:
        a, b = pooler.wire(), pooler.wire()
        a.query("set %s = '%s'" % (name, one))
        b.query("set %s = '%s'" % (name, two))
    plain = pooler.wire()
    default = plain.parameters[name]
    for _ in range(3):
        assert show(a, name) == one
        assert show(b, name) == two
        assert show(plain, name) == default


def test_setting_in_a_transaction_that_is_rolled_back(make_pooler):
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(parameters={"timezone": "Asia/Tokyo"}), pooler.wire()
    wire.query("begin")
    assert wire.query("set timezone = 'America/New_York'").parameters == {"TimeZone": "America/New_York"}
    assert wire.query("rollback").parameters == {"TimeZone": "Asia/Tokyo"}
    assert show(other, "timezone") == other.parameters["TimeZone"]
    assert show(wire, "timezone") == "Asia/Tokyo"


def test_reset_all_goes_back_to_the_servers_own(make_pooler):
    """RESET ALL means the session's start values; the server's start had none of the client's."""
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(parameters={"application_name": "me"}), pooler.wire(parameters={"application_name": "you"})
    assert wire.value("show application_name") == "me"
    told = wire.query("reset all").parameters
    assert told["application_name"] == wire.value("show application_name")
    assert other.value("show application_name") == "you"


@pytest.mark.parametrize("value", [
    "it's", "'", "''", "a\\b", "\\'", "a\"b", "$1 $$ ; -- /*", "x" * 8192, "%s%n", " spaces  kept ", "gr\u00fc\u00df \u20ac"],
    ids=["apostrophe", "one", "two", "backslash", "both", "quote", "sql", "8kB", "percent", "spaces", "utf8"])
def test_values_of_parameters_are_quoted_right(pg, make_pooler, value):
    """What the server does with the value is its affair (application_name is cut and made ASCII): compared with it."""
    pooler = make_pooler(ONE)
    with psycopg.connect(host=pg.socket_directory, port=pg.port, user="postgres", dbname="app", autocommit=True) as direct:
        direct.execute("select set_config('application_name', %s, false)", (value,))
        expected = direct.execute("show application_name").fetchone()[0]
    for scs in ("on", "off"):
        wire = pooler.wire(parameters={"application_name": value, "standard_conforming_strings": scs})
        other = pooler.wire(parameters={"standard_conforming_strings": "off" if scs == "on" else "on"})
        for _ in range(2):
            assert wire.value("show application_name") == expected
            assert other.value("show application_name") == ""


def test_backslash_in_sjis(make_pooler):
    """The second byte of a SJIS character may be a backslash or look like a quote's neighbour: quoting must not care."""
    pooler = make_pooler(ONE)
    wire, plain = pooler.wire(parameters={"client_encoding": "SJIS"}), pooler.wire()
    text = "\u8868".encode("shift_jis")
    assert text[1:] == b"\\"
    wire.send(message("Q", b"set application_name = '" + b"a" + b"'\0") + message("Q", b"select '" + text + b"'\0"))
    wire.ready()
    found = wire.ready()
    assert [m for m in found if m.type == "D"][0].body.endswith(text)
    assert plain.value("select 1") == "1"
    assert plain.value("show client_encoding") == "UTF8"


def test_the_servers_spelling_is_told(make_pooler):
    """A client says utc, the server says UTC: told once, and no SET at every turn."""
    pooler = make_pooler(databases={"logged": ""}, settings=ONE)
    wire = pooler.wire(database="logged", parameters={"timezone": "utc"})
    other = pooler.wire(database="logged", parameters={"timezone": "UTC"})
    found = wire.query("show timezone")
    assert found.rows == [["UTC"]]
    assert {**wire.parameters, **found.parameters}["TimeZone"] == "UTC"
    other.query("select 1")
    assert wire.query("select 1").parameters == {}


def test_no_set_between_clients_that_agree(pg, make_pooler):
    pooler = make_pooler(ONE, databases={"logged": ""})
    a, b = (pooler.wire(database="logged", parameters={"timezone": "Asia/Tokyo"}) for _ in "ab")
    a.query("select 1")
    start = len(pg.log_text())
    for _ in range(3):
        a.query("select 1")
        b.query("select 1")
    assert pg.log_text()[start:].lower().count("tokyo") == 0
    assert pg.log_text()[start:].count("statement:") == 6


def test_parameter_that_the_server_refuses(make_pooler):
    pooler = make_pooler()
    wire = pooler.wire(parameters={"timezone": "no/where"})
    with pytest.raises(Refused) as no:
        wire.query("select 1")
    assert (no.value.severity, no.value.sqlstate) == ("FATAL", "22023")
    assert no.value.text == "invalid server parameter"
    assert no.value.detail == 'invalid value for parameter "TimeZone": "no/where"'
    assert pooler.wire().value("select 1") == "1"


def test_change_on_the_server_reaches_all_clients(pg, make_pooler):
    """ParameterStatus of an idle server (after a SIGHUP there) does not make it dirty."""
    pooler = make_pooler(ONE)
    wire = pooler.wire()
    pid = wire.value(PID)
    try:
        pg.sql("alter system set intervalstyle = 'sql_standard'")
        pg.sql("select pg_reload_conf()")
        time.sleep(0.2)
        assert wire.value(PID) == pid
    finally:
        pg.sql("alter system reset intervalstyle")
        pg.sql("select pg_reload_conf()")


# ---- requests of every kind ----

def test_simple_queries(make_pooler):
    wire = make_pooler(ONE).wire()
    assert wire.query("").types == "IZ"
    assert wire.query(";;").types == "IZ"
    assert wire.query("select 1; select 2, 3; select 4").types == "TDCTDCTDCZ"
    wire.send(query("select 1; select 1/0; select 2"))
    assert wire.ready().types == "TDCEZ"
    assert wire.query("begin; select 1; commit").status == "I"
    assert wire.query("begin; select 1").status == "T"
    assert wire.query("rollback").status == "I"


def test_extended_queries(make_pooler):
    wire = make_pooler(ONE).wire()
    wire.send(extended("select $1::int + 1", ["41"]) + sync())
    assert wire.ready().rows == [["42"]]
    wire.send(parse("select $1::text") + describe("S") + sync())
    assert wire.ready().types == "1tTZ"
    wire.send(parse("select generate_series(1, 5)") + bind(portal="p") + execute("p", 2) + execute("p", 2) +
              execute("p", 2) + close("P", "p") + sync())
    assert wire.ready().types == "12DDsDDsDC3Z"
    wire.send(sync())
    assert wire.ready().types == "Z"
    wire.send(parse("") + bind() + execute() + sync())
    assert wire.ready().types == "12IZ"
    wire.send(extended("selec") + extended("select 1") + sync() + extended("select 2") + sync())
    assert wire.ready().types == "EZ"
    assert wire.ready().rows == [["2"]]


def test_flush_without_sync(make_pooler):
    """Answers come at once, and the server stays ours until Sync."""
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    wire.send(extended("select 1") + flush())
    assert wire.until("C").types == "12TDC"
    other.send(query("select 2"))
    time.sleep(0.2)
    assert not other.buffer and not readable(other)
    wire.send(extended("select 3") + flush())
    assert wire.until("C").rows == [["3"]]
    wire.send(sync())
    assert wire.ready().types == "Z"
    assert other.ready().rows == [["2"]]


def readable(wire):
    wire.socket.settimeout(0.05)
    try:
        return bool(wire.fill())
    except TimeoutError:
        return False
    finally:
        wire.socket.settimeout(20)


def test_simple_query_after_extended_without_sync(make_pooler):
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    wire.send(extended("select 1") + query("select 2"))
    assert wire.ready().types == "12TDCTDCZ"
    wire.send(extended("select 1/0") + query("select 2") + sync())
    assert wire.ready().types == "1EZ"  # the Query is skipped too
    assert other.value("select 3") == "3"
    assert wire.value("select 4") == "4"


def test_pipelines(make_pooler):
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    wire.send(b"".join(extended("select $1::int", [str(n)]) + sync() for n in range(500)))
    other.send(query("select 'other'"))
    assert [wire.ready().rows for _ in range(500)] == [[[str(n)]] for n in range(500)]
    assert other.ready().rows == [["other"]]
    # Errors in the middle: the rest of that batch is skipped, the next one is not.
    batches = [extended("select 1") + extended("select 1/0") + extended("select 2") + sync(),
               extended("select 3") + sync(), extended("selec") + sync(), query("select 4")]
    for _ in range(20):
        wire.send(b"".join(batches))
        assert [wire.ready().types for _ in batches] == ["12TDC1EZ", "12TDCZ", "EZ", "TDCZ"]
        assert other.value("select 5") == "5"


def test_pipeline_of_psycopg(make_pooler):
    pooler = make_pooler({"default_pool_size": 2})
    clients = [pooler.connect() for _ in range(4)]
    failures = []

    def work(number):
        try:
            client = clients[number]
            for turn in range(20):
                with client.pipeline() as pipeline:
                    cursors = [client.execute("select %s::int", (number * 1000 + n,)) for n in range(20)]
                    pipeline.sync()
                    assert [cursor.fetchone()[0] for cursor in cursors] == [number * 1000 + n for n in range(20)]
                with pytest.raises(psycopg.errors.DivisionByZero):
                    with client.pipeline():
                        client.execute("select 1/%s", (0,))
                        client.execute("select 2")
                assert client.execute("select %s::int", (turn,)).fetchone() == (turn,)
        except BaseException as failure:
            failures.append(failure)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_long_pipeline_without_reading(make_pooler):
    """The client sends more than all buffers hold before it reads: nothing hangs, nothing is lost."""
    wire = make_pooler(ONE).wire(timeout=60)
    batch = extended("select repeat('x', 2000)") + sync()
    sender = threading.Thread(target=wire.send, args=(batch * 20000,))
    sender.start()
    for _ in range(20000):
        found = wire.ready()
        assert found.types == "12TDCZ" and len(found.rows[0][0]) == 2000
    sender.join()


def test_function_call_and_large_objects(make_pooler):
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    assert other.value("select 1") == "1"
    wire.send(function_call(1317, [b"seven"]))  # length(text)
    found = wire.ready()
    assert found.types == "VZ" and found[0].body == b"\0\0\0\4\0\0\0\5"
    wire.send(function_call(4000000, []))
    assert wire.ready().types == "EZ"
    assert other.value("select 1") == "1"
    client = psycopg2.connect(pooler.url())
    large = client.lobject(0, "wb")
    data = bytes(range(256)) * 4096
    large.write(data)
    oid = large.oid
    large.close()
    client.commit()
    assert bytes(client.lobject(oid, "rb").read()) == data
    client.rollback()
    client.close()


def test_notices(make_pooler):
    wire = make_pooler(ONE).wire()
    found = wire.query("do $$ begin for n in 1..3 loop raise notice 'number %', n; end loop; end $$")
    assert [notice["M"] for notice in found.notices] == ["number 1", "number 2", "number 3"]


def test_notifications_reach_nobody_else(make_pooler):
    """LISTEN needs pool_mode = session; elsewhere a notification must not turn up at a client that never asked."""
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    wire.query("listen mine")
    psycopg.connect(pooler.url(), autocommit=True).execute("notify mine")
    time.sleep(0.1)
    assert "A" not in other.query("select 1").types
    session = make_pooler({"pool_mode": "session"})
    wire = session.wire()
    wire.query("listen mine")
    session.wire().query("notify mine, 'text'")
    assert wire.until("A")[-1].body.endswith(b"mine\0text\0")


def test_big_rows(make_pooler):
    wire = make_pooler(ONE).wire(timeout=60)
    for size in (1, 4095, 4096, 16383, 16384, 16385, 65536, 1 << 20, 20 << 20):
        assert len(wire.value("select repeat('x', %d)" % size)) == size
        assert wire.value("select length('%s')" % ("y" * size)) == str(size)


def test_every_size_near_a_buffer(make_pooler):
    """A message that ends just at, before or behind a buffer's end waits for nothing more."""
    wire = make_pooler(ONE).wire(timeout=5)
    for base in (1 << 10, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16):
        for size in range(base - 40, base + 12):
            wire.send(query("select '" + "x" * size + "'"))
            assert len(wire.ready().rows[0][0]) == size


# ---- COPY ----

@pytest.fixture
def copy_pooler(make_pooler):
    pooler = make_pooler(ONE)
    pooler.wire().query("drop table if exists copied; create table copied(a int, b text)")
    return pooler


def test_copy_in_and_out(copy_pooler):
    client, other = copy_pooler.connect(), copy_pooler.wire()
    with client.cursor().copy("copy copied from stdin") as copy:
        for n in range(20000):
            copy.write_row((n, "row %d" % n))
    assert other.value("select count(*), sum(a) from copied") == "20000"
    with client.cursor().copy("copy (select a from copied order by a) to stdout") as copy:
        assert sum(int(row[0]) for row in copy.rows()) == sum(range(20000))
    assert other.value("select 1") == "1"


COPY = "copy copied from stdin"
DATA, BAD, DONE, FAIL = message("d", b"1\tx\n"), message("d", b"no number\n"), message("c"), message("f", b"enough\0")


@pytest.mark.parametrize("transaction", [False, True], ids=["alone", "in-transaction"])
@pytest.mark.parametrize("start,end,ready", [(query(COPY), b"", "TDCZ"), (parse(COPY) + bind() + execute(), sync(), "12TDCZ")],
                         ids=["simple", "extended"])
def test_copy_in_that_ends_in_every_way(copy_pooler, start, end, ready, transaction):
    wire, other = copy_pooler.wire(), copy_pooler.wire()
    cases = {
        "done": (DATA + DATA + DONE + end, None),
        "nothing": (DONE + end, None),
        "failed by the client": (DATA + FAIL + end, "57014"),
        "bad data, then done": (DATA + BAD + DATA + DONE + end, "22P02"),
        "bad data, then fail": (BAD + FAIL + end, "22P02"),
        "bad data, more, done": (BAD + DATA * 50 + DONE + end, "22P02"),
    }
    for name, (sent, sqlstate) in cases.items():
        if transaction:
            wire.query("begin")
        wire.send(start)
        wire.until("G")
        wire.send(sent)
        found = wire.ready()
        assert [error.sqlstate for error in found.errors] == ([sqlstate] if sqlstate else []), name
        assert found.status == ("I" if not transaction else "E" if sqlstate else "T"), name
        if transaction:
            wire.query("rollback")
        assert other.value("select 1") == "1", name
        assert wire.value("select 2") == "2", name


def test_copy_data_that_comes_late(copy_pooler):
    """The server has reported the error and serves another client: what still comes goes nowhere."""
    wire, other = copy_pooler.wire(), copy_pooler.wire()
    for late in (DATA * 3 + DONE, DATA + FAIL, DATA * 1000 + DONE):
        wire.send(query(COPY))
        wire.until("G")
        wire.send(BAD)
        assert wire.ready().types == "EZ"
        assert other.query("begin").status == "T"
        wire.send(late)
        time.sleep(0.05)
        assert other.value("select 5") == "5"
        wire.send(query("select 6"))
        time.sleep(0.05)
        assert other.query("commit").status == "I"
        assert wire.ready().rows == [["6"]]


def test_copy_in_all_at_once(copy_pooler):
    """Query, data and end in one piece, as a hurried client sends it, and the next query behind."""
    wire = copy_pooler.wire()
    wire.send(query(COPY) + DATA * 10 + DONE + query("select 1"))
    assert wire.ready().tags == ["COPY 10"]
    assert wire.ready().rows == [["1"]]
    wire.send(query(COPY) + BAD + DATA * 10 + DONE + query("select 1"))
    assert [error.sqlstate for error in wire.ready().errors] == ["22P02"]
    assert wire.ready().rows == [["1"]]


def test_copy_refused(copy_pooler):
    """No CopyInResponse ever comes, yet the data does."""
    wire, other = copy_pooler.wire(), copy_pooler.wire()
    wire.send(query("copy nothing from stdin") + DATA * 5 + DONE + query("select 1"))
    assert wire.ready().types == "EZ"
    assert wire.ready().rows == [["1"]]
    assert other.value("select 1") == "1"


def test_sync_inside_a_copy_is_ignored(copy_pooler):
    wire = copy_pooler.wire()
    wire.send(parse(COPY) + bind() + execute() + sync())
    wire.until("G")
    wire.send(DATA + flush() + sync() + DATA + DONE + sync())
    found = wire.ready()
    assert found.tags == ["COPY 2"] and found.status == "I"
    assert wire.value("select 1") == "1"


def test_two_copies_in_one_query(copy_pooler):
    wire = copy_pooler.wire()
    wire.send(query(COPY + ";" + COPY + "; copy copied to stdout"))
    wire.until("G")
    wire.send(DATA + DONE)
    wire.until("G")
    wire.send(DATA + DATA + DONE)
    found = wire.ready()
    assert found.tags == ["COPY 2", "COPY 3"] and found.types.count("d") == 3


# ---- statements ----


def test_named_statements_in_session_mode(make_pooler):
    pooler = make_pooler({"pool_mode": "session"})
    wire = pooler.wire()
    wire.send(parse("select $1::int", "s") + sync())
    assert wire.ready().types == "1Z"
    wire.send(bind(["5"], "s") + execute() + sync())
    assert wire.ready().rows == [["5"]]
    client = pooler.connect(prepare_threshold=0)
    assert [client.execute("select %s::int", (n,), prepare=True).fetchone() for n in range(3)] == [(0,), (1,), (2,)]


def test_unnamed_statement_of_another_client_is_out_of_reach(make_pooler):
    pooler = make_pooler(ONE)
    a, b = pooler.wire(), pooler.wire()
    for use in (bind() + execute() + sync(), describe("S") + sync()):
        a.send(parse("select 'secret of a'") + sync())
        assert a.ready().types == "1Z"
        b.send(use)
        found = b.ready()
        assert [error.sqlstate for error in found.errors] == ["26000"] and found.rows == []
    # a's own, with nobody in between
    a.send(parse("select 'mine'") + sync())
    a.ready()
    a.send(bind() + execute() + sync())
    assert a.ready().rows == [["mine"]]
    # and with somebody in between
    a.send(parse("select 'mine'") + sync())
    a.ready()
    b.send(extended("select 'of b'") + sync())
    b.ready()
    a.send(bind() + execute() + sync())
    assert a.ready().rows == [["mine"]]


@pytest.mark.parametrize("late", [False, True])
def test_a_copy_that_fails_with_a_sync_under_way(make_pooler, late):
    """libpq sends Sync right behind Execute, and the COPY may eat it or not: what is owed is found out, the client sees
    what it would see of PostgreSQL, and the server goes back to its pool."""
    pooler = make_pooler(ONE)
    wire, other = pooler.wire(), pooler.wire()
    wire.query("drop table if exists numbers; create table numbers (i int)")
    wire.send(parse("copy numbers from stdin") + bind() + execute() + sync())
    assert wire.until("G").types == "12G"
    wire.send(message("d", b"1\n") + message("d", b"bad\n"))
    if late:
        assert wire.until("E").errors[0].sqlstate == "22P02"
        wire.send(message("d", b"2\n"))
    wire.send(message("c") + sync())
    assert wire.ready().types == ("Z" if late else "EZ")
    assert other.value("select 1") == "1"
    assert wire.value("select count(*) from numbers") == "0"


def test_terminate_inside_a_batch(make_pooler, activity):
    pooler = make_pooler(ONE)
    wire = pooler.wire()
    wire.send(query("select 1") + message("X"))
    try:
        assert wire.ready().rows == [["1"]]
    except Gone:
        pass
    assert pooler.wire().value("select 1") == "1"
