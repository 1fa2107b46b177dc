"""Prepared statements outside session mode: shared, remembered, made anew, bounded; a client sees what it would see of
PostgreSQL itself. Pools of one or two servers and several clients, so that servers change hands all the time."""
import struct

import pytest

from pooler import USER
from wire import Refused, bind, close, describe, execute, extended, flush, message, parse, query, sync


def run(name, values=()):
    return bind(values, name) + execute()


def answers(wire, *parts):
    wire.send(*parts)
    return wire.ready()


@pytest.fixture
def one(make_pooler):
    """A pool of one server."""
    return make_pooler({"default_pool_size": 1})


def errors(got):
    return [(e.severity, e.sqlstate, e.text) for e in got.errors]


def test_lives_on_in_other_transactions_and_on_other_servers(make_pooler):
    pooler = make_pooler({"default_pool_size": 2})
    wire, other = pooler.wire(), pooler.wire()
    assert answers(wire, parse("select $1::int + 1", "s"), sync()).types == "1Z"
    answers(other, query("begin"))  # the server that has it is taken
    assert answers(wire, run("s", ["41"]), sync()).rows == [["42"]]
    answers(other, query("commit"))
    for value in range(5):
        assert answers(wire, run("s", [str(value)]), sync()).rows == [[str(value + 1)]]


def test_equal_statements_are_prepared_once(one, activity):
    wires = [one.wire() for _ in range(5)]
    for i, wire in enumerate(wires):
        assert answers(wire, parse("select 'shared'", "name%d" % i), run("name%d" % i), sync()).types == "12DCZ"
    count = wires[0].value("select count(*) from pg_prepared_statements where not from_sql")
    assert count == "1"


def test_one_name_of_two_clients(one):
    first, second = one.wire(), one.wire()
    for wire, text in ((first, "first"), (second, "second")):
        answers(wire, parse("select '%s'" % text, "s"), sync())
    for _ in range(3):
        for wire, text in ((first, "first"), (second, "second")):
            assert answers(wire, run("s"), sync()).rows == [[text]]


def test_types_are_part_of_a_statement(one):
    wire, other = one.wire(), one.wire()
    answers(wire, parse("select pg_typeof($1)", "s", [23]), sync())
    answers(other, parse("select pg_typeof($1)", "s", [25]), sync())
    assert answers(wire, run("s", ["1"]), sync()).rows == [["integer"]]
    assert answers(other, run("s", ["1"]), sync()).rows == [["text"]]


def test_parameters_are_part_of_what_a_text_means(one):
    us, eu = one.wire(parameters={"datestyle": "ISO, MDY"}), one.wire(parameters={"datestyle": "ISO, DMY"})
    for wire in (us, eu):
        answers(wire, parse("select '01/02/2020'::date", "d"), sync())
    for _ in range(2):
        assert answers(us, run("d"), sync()).rows == [["2020-01-02"]]
        assert answers(eu, run("d"), sync()).rows == [["2020-02-01"]]


def test_a_set_in_the_batch_of_a_parse(one):
    us, eu = one.wire(), one.wire(parameters={"datestyle": "ISO, DMY"})
    batch = parse("set datestyle = 'ISO, DMY'") + bind() + execute() + parse("select '01/02/2020'::date", "d")
    answers(us, query("begin"))
    answers(us, batch, sync())
    answers(us, query("rollback"))
    assert answers(us, parse("select '01/02/2020'::date", "e"), run("e"), sync()).rows == [["2020-01-02"]]
    assert answers(eu, parse("select '01/02/2020'::date", "d"), run("d"), sync()).rows == [["2020-02-01"]]


def test_unknown_and_double_names_leave_the_client_alive(one):
    wire = one.wire()
    got = answers(wire, run("nope"), sync())
    assert errors(got) == [("ERROR", "26000", 'prepared statement "nope" does not exist')]
    assert answers(wire, describe("S", "nope"), sync()).types == "EZ"
    answers(wire, parse("select 1", "s"), sync())
    got = answers(wire, parse("select 2", "s"), run("s"), sync())
    assert errors(got) == [("ERROR", "42P05", 'prepared statement "s" already exists')]
    assert answers(wire, run("s"), sync()).rows == [["1"]]


def test_an_error_of_ours_undoes_the_batch(one):
    """What came before it in the same batch must be rolled back, as PostgreSQL does."""
    wire = one.wire()
    wire.query("create temp table t(i int)")  # one server: it stays
    got = answers(wire, extended("insert into t values (1)"), run("nope"), sync())
    assert got.status == "I" and got.errors[0].sqlstate == "26000"
    assert wire.value("select count(*) from t") == "0"
    wire.query("begin")
    assert answers(wire, run("nope"), sync()).status == "E"
    assert answers(wire, parse("select 1", "late"), sync()).errors[0].sqlstate == "25P02"
    wire.query("rollback; drop table t")
    assert answers(wire, parse("select 1", "late"), run("late"), sync()).rows == [["1"]]


def test_what_postgresql_finds_first_is_what_the_client_is_told(one):
    wire = one.wire()
    answers(wire, parse("select 1", "s"), sync())
    assert answers(wire, parse("selec", "s"), sync()).errors[0].sqlstate == "42601"
    answers(wire, query("begin; select 1/0"))
    assert answers(wire, parse("select 2", "s"), sync()).errors[0].sqlstate == "25P02"
    assert answers(wire, parse("select 1", "t"), sync()).errors[0].sqlstate == "25P02"
    assert answers(wire, run("nope"), sync()).errors[0].sqlstate == "26000"


def test_a_parse_that_fails_or_is_skipped_leaves_nothing(one):
    wire, other = one.wire(), one.wire()
    assert answers(wire, parse("select bad", "s"), parse("select 1", "t"), sync()).types == "EZ"
    for name in "st":
        assert answers(wire, run(name), sync()).errors[0].sqlstate == "26000"
    # The text of the skipped one, from somebody else.
    assert answers(other, parse("select 1", "t"), run("t"), sync()).rows == [["1"]]
    assert answers(wire, parse("select 1", "t"), run("t"), sync()).rows == [["1"]]


def test_pipelines_over_an_error(one):
    wire = one.wire()
    wire.send(parse("select bad", "a"), parse("select 1", "s"), sync(), parse("select 2", "s"), run("s"), sync(),
              run("s"), sync())
    assert wire.ready().types == "EZ"
    got = wire.ready()
    assert got.types == "12DCZ" and got.rows == [["2"]]
    assert wire.ready().rows == [["2"]]


def test_close_and_prepare_anew(one):
    wire, other = one.wire(), one.wire()
    answers(wire, parse("select 'mine'", "s"), sync())
    answers(other, parse("select 'mine'", "s"), sync())
    got = answers(wire, close("S", "s"), parse("select 'new'", "s"), run("s"), sync())
    assert got.types == "312DCZ" and got.rows == [["new"]]
    assert answers(other, run("s"), sync()).rows == [["mine"]]
    assert answers(wire, close("S", "never"), sync()).types == "3Z"
    answers(wire, close("S", "s"), sync())
    assert answers(wire, run("s"), sync()).errors[0].sqlstate == "26000"


def test_a_close_needs_no_server(one):
    wire, busy = one.wire(), one.wire()
    answers(wire, parse("select 1", "s"), sync())
    busy.query("begin")
    assert answers(wire, close("S", "s"), sync()).types == "3Z"
    busy.query("commit")
    assert answers(wire, run("s"), sync()).errors[0].sqlstate == "26000"


def test_flush_gets_its_answers(one):
    wire = one.wire()
    wire.send(parse("select $1::text", "s"), describe("S", "s"), flush())
    assert wire.until("T").types == "1tT"
    wire.send(run("s", ["x"]), flush())
    assert wire.until("C").rows == [["x"]]
    assert answers(wire, sync()).types == "Z"


@pytest.mark.parametrize("sql", ["deallocate s", "DEALLOCATE PREPARE s;", 'deallocate "s"'])
@pytest.mark.parametrize("how", ["simple", "extended"])
def test_deallocate_by_sql(one, sql, how):
    wire, other = one.wire(), one.wire()
    for it in (wire, other):
        answers(it, parse("select 1", "s"), sync())
    got = wire.query(sql) if how == "simple" else answers(wire, extended(sql), sync())
    assert got.tags == ["DEALLOCATE"] and not got.errors
    assert answers(wire, run("s"), sync()).errors[0].sqlstate == "26000"
    assert answers(other, run("s"), sync()).rows == [["1"]]
    assert answers(wire, parse("select 2", "s"), run("s"), sync()).rows == [["2"]]


def test_a_failed_transaction_is_ended_by_a_statement_that_the_server_knows(one):
    """A Parse of ROLLBACK is taken there, and one of anything else is not (postgres.js and pgjdbc end transactions so)."""
    wire = one.wire()
    for number in range(3):
        wire.query("begin")
        assert answers(wire, extended("select 1/0"), sync()).status == "E"
        assert errors(answers(wire, parse("select 2", "never%d" % number), sync()))[0][1] == "25P02"
        got = answers(wire, parse("rollback", "end%d" % number), run("end%d" % number), sync())
        assert not got.errors and got.tags == ["ROLLBACK"] and got.status == "I"
        assert answers(wire, parse("select 2", "ever%d" % number), run("ever%d" % number), sync()).rows == [["2"]]


def test_deallocate_in_a_failed_transaction_changes_nothing(one):
    wire = one.wire()
    answers(wire, parse("select 1", "s"), sync())
    answers(wire, query("begin; select 1/0"))
    assert answers(wire, query("deallocate s")).errors[0].sqlstate == "25P02"
    wire.query("rollback")
    assert answers(wire, run("s"), sync()).rows == [["1"]]
    assert answers(wire, query("deallocate unknown")).errors[0].sqlstate == "26000"


@pytest.mark.parametrize("sql", ["DISCARD ALL", "deallocate all", "DEALLOCATE PREPARE ALL"])
def test_deallocate_all(one, sql):
    wire, other = one.wire(), one.wire()
    for it in (wire, other):
        answers(it, parse("select 1", "s"), sync())
    wire.query(sql)
    assert answers(wire, run("s"), sync()).errors[0].sqlstate == "26000"
    assert answers(other, run("s"), sync()).rows == [["1"]]
    assert answers(wire, parse("select 1", "s"), run("s"), sync()).rows == [["1"]]


def test_a_changed_table_is_not_seen(one):
    """0A000, cached plan must not change result type: prepared anew, once, before anything of the batch has run."""
    wire, other = one.wire(), one.wire()
    other.query("drop table if exists shape; create table shape as select 1 as a")
    answers(wire, parse("select * from shape", "s"), run("s"), sync())
    for i, batch in enumerate((run("s"), bind((), "s") + describe() + execute(), describe("S", "s") + run("s"))):
        other.query("alter table shape add column b%d int" % i)
        got = answers(wire, batch, sync())
        assert not got.errors, i
        assert got.rows == [["1"] + [None] * (i + 1)]
        assert got.status == "I"
    other.query("alter table shape add column c int")
    wire.send(bind((), "s") + describe() + execute(), flush())  # without a Sync
    assert wire.until("C").rows == [["1"] + [None] * 4]
    assert answers(wire, sync()).types == "Z"
    other.query("drop table shape")
    assert answers(wire, run("s"), sync()).errors[0].sqlstate == "42P01"


def test_a_changed_table_in_a_transaction_is_the_clients_business(one):
    wire = one.wire()
    wire.query("drop table if exists shape2; create table shape2 as select 1 as a")
    answers(wire, parse("select * from shape2", "s"), run("s"), sync())
    wire.query("begin; alter table shape2 add column b int")
    assert answers(wire, run("s"), sync()).errors[0].sqlstate == "0A000"
    wire.query("rollback")
    wire.query("alter table shape2 add column b int")
    got = answers(wire, run("s"), sync())
    assert not got.errors and got.rows == [["1", None]]
    wire.query("drop table shape2")


def test_a_statement_the_server_has_lost_is_made_again(one):
    wire = one.wire()
    answers(wire, parse("select 'back'", "s"), sync())
    name = wire.value("select name from pg_prepared_statements")
    with pytest.raises(Refused) as no:  # it is ours, and nobody's to take away
        wire.query('deallocate "%s"' % name)
    assert no.value.sqlstate == "26000"
    wire.query("do $$ begin execute 'deallocate \"%s\"'; end $$" % name)
    assert answers(wire, run("s"), sync()).rows == [["back"]]


def test_the_unnamed_statement_survives(one):
    wire, other = one.wire(), one.wire()
    answers(wire, parse("select 'mine'"), sync())
    assert other.value("select 1") == "1"
    answers(other, parse("select 'other'"), sync())
    assert answers(wire, bind(), execute(), sync()).rows == [["mine"]]
    assert answers(other, describe("S", ""), bind(), execute(), sync()).rows == [["other"]]
    wire.query("select 1")  # a simple query ends it
    assert answers(wire, bind(), execute(), sync()).errors[0].sqlstate == "26000"


def test_the_bound_of_a_server(make_pooler):
    pooler = make_pooler({"default_pool_size": 1, "max_prepared_statements": 3})
    wire = pooler.wire()
    for i in range(10):
        assert answers(wire, parse("select %d" % i, "s%d" % i), sync()).types == "1Z"
    assert wire.value("select count(*) from pg_prepared_statements") == "3"
    for i in (0, 9, 5, 0):
        assert answers(wire, run("s%d" % i), sync()).rows == [[str(i)]]
    # More than the bound in one batch: what is in use stays.
    got = answers(wire, *[run("s%d" % i) for i in range(10)], sync())
    assert got.rows == [[str(i)] for i in range(10)]
    assert answers(wire, run("s1"), sync()).rows == [["1"]]


def test_portals_in_pieces_while_others_are_evicted(make_pooler):
    wire = make_pooler({"default_pool_size": 1, "max_prepared_statements": 1}).wire()
    wire.query("begin")
    answers(wire, parse("select generate_series(1, 3)", "s"), bind((), "s", "p"), execute("p", 1), sync())
    answers(wire, parse("select 'x'", "t"), run("t"), sync())
    assert answers(wire, execute("p", 1), sync()).rows == [["2"]]


def test_switched_off(make_pooler):
    pooler = make_pooler({"max_prepared_statements": 0, "default_pool_size": 1})
    wire, other = pooler.wire(), pooler.wire()
    for sent in (parse("select 1", "s"), parse("select 1", "s") + run("s"), run("s"), describe("S", "s")):
        got = answers(wire, sent, sync())
        assert got.types == "EZ" and got.status == "I"
        assert errors(got) == [("ERROR", "0A000", "named prepared statements are switched off")]
        assert got.errors[0].detail and "max_prepared_statements" in got.errors[0].hint
        assert answers(wire, extended("select 1"), sync()).rows == [["1"]]  # the client lives
        assert other.query("select count(*) from pg_prepared_statements").rows == [["0"]]
    assert answers(wire, close("S", "s"), sync()).types == "3Z"
    wire.query("begin")
    assert answers(wire, parse("select 1", "s"), sync()).status == "E"


def test_psycopg_at_its_defaults(make_pooler):
    """Prepares at the fifth run of a text."""
    pooler = make_pooler({"default_pool_size": 2})
    clients = [pooler.connect() for _ in range(4)]
    for n in range(20):
        for client in clients:
            assert client.execute("select %s::int + 1", (n,)).fetchone() == (n + 1,)
    assert all(client.execute("select count(*) from pg_prepared_statements").fetchone()[0] <= 2 for client in clients)


def test_long_statements(one):
    wire = one.wire()
    text = "select '" + "x" * 3_000_000 + "'"
    got = answers(wire, parse(text, "big"), run("big"), sync())
    assert len(got.rows[0][0]) == 3_000_000
    assert len(answers(wire, run("big"), sync()).rows[0][0]) == 3_000_000
    text = "select length('" + "x" * 17_000_000 + "')"
    assert answers(wire, parse(text, "huge"), sync()).errors[0].sqlstate == "54000"
    assert answers(wire, extended(text), sync()).rows == [["17000000"]]


@pytest.mark.parametrize("sql", ["discard all", "select 1; deallocate all"])
def test_what_comes_behind_a_discard_waits_for_its_answer(one, sql):
    wire = one.wire()
    for rest, types in ((parse("select 2", "s") + run("s"), "12DCZ"), (run("s"), "EZ")):
        answers(wire, close("S", "s"), parse("select 1", "s"), sync())
        wire.send(query(sql), rest, sync())
        assert not wire.ready().errors
        got = wire.ready()
        assert got.types == types
        assert types != "EZ" or errors(got) == [("ERROR", "26000", 'prepared statement "s" does not exist')]


def test_a_deallocate_all_inside_the_batch(one):
    wire = one.wire()
    answers(wire, parse("select 1", "s"), sync())
    got = answers(wire, extended("deallocate all", statement="d"), parse("select 2", "s"), run("s"), sync())
    assert not got.errors and got.rows == [["2"]]


def test_errors_name_what_the_client_named(one):
    wire = one.wire()
    answers(wire, parse("select $1::int, $2::int", "mine"), sync())
    got = answers(wire, bind(["1"], "mine"), sync())
    assert got.errors[0].text == 'bind message supplies 1 parameters, but prepared statement "mine" requires 2'


def test_rows_that_a_client_was_told_of_are_what_it_gets(make_pooler):
    """A client that was told what a statement returns, and does not ask again, must never get other rows: by 0A000 it
    is told that they have changed, as by PostgreSQL, also where the server at hand never had the old ones."""
    pooler = make_pooler({"default_pool_size": 2})
    wire, other, busy = pooler.wire(), pooler.wire(), pooler.wire()
    other.query("drop table if exists told; create table told as select 1 as a")
    for how in (describe("S", "s"), bind((), "s") + describe("P")):
        answers(wire, parse("select * from told", "s") + how, sync())
        for _ in range(3):
            assert answers(wire, run("s"), sync()).rows == [["1"]]
        other.query("alter table told add column b int")
        for server in range(2):  # the one that has it, and one that has not
            got = answers(wire, run("s"), sync())
            assert errors(got) == [("ERROR", "0A000", "cached plan must not change result type")], server
            busy.query("begin; select 1")
        busy.query("rollback")
        # Prepared again, it is as good as new on every server, without a second error.
        answers(wire, close("S", "s"), sync())
        got = answers(wire, parse("select * from told", "s") + describe("S", "s") + run("s"), sync())
        assert not got.errors and got.rows == [["1", None]]
        busy.query("begin; select 1")
        assert answers(wire, run("s"), sync()).rows == [["1", None]]
        busy.query("rollback")
        answers(wire, close("S", "s"), sync())
        other.query("alter table told drop column b")
        got = answers(wire, parse("select * from told", "s") + describe("S", "s"), sync())
        assert not got.errors, "a new name has no old rows"
        answers(wire, close("S", "s"), sync())
    other.query("drop table told")


def test_the_unnamed_ones_rows_too(make_pooler):
    pooler = make_pooler({"default_pool_size": 2})
    wire, other, busy = pooler.wire(), pooler.wire(), pooler.wire()
    other.query("drop table if exists told2; create table told2 as select 1 as a")
    answers(wire, parse("select * from told2"), describe("S"), sync())
    assert answers(wire, bind(), execute(), sync()).rows == [["1"]]
    busy.query("begin; select 1")
    other.query("alter table told2 add column b int")
    assert answers(wire, bind(), execute(), sync()).errors[0].sqlstate == "0A000"
    busy.query("rollback")
    other.query("drop table told2")


# ---- what a text means ----

@pytest.mark.parametrize("name,value,text", [
    ("datestyle", "ISO, DMY", "select to_char('01/02/2020'::date, 'YYYY-MM-DD')"),
    ("transform_null_equals", "on", "select (null = $1::int) is null"),
    ("standard_conforming_strings", "off", "select length('\\\\\\\\')")])
@pytest.mark.parametrize("pipelined", [False, True])
def test_set_local_makes_no_statement_for_others(make_pooler, name, value, text, pipelined):
    """Most parameters are never reported, and none that is set back in the same batch."""
    pooler = make_pooler({"default_pool_size": 1})
    values = (None,) if "$1" in text else ()

    def ask(wire):
        wire.send(parse(text, "s"), bind(values, "s"), execute(), sync())
        return wire.ready().rows

    right = ask(pooler.wire())
    batch = [extended("begin"), extended("set local %s = '%s'" % (name, value)), parse(text, "s"), extended("commit"), sync()]
    fresh = make_pooler({"default_pool_size": 1})
    setter = fresh.wire()
    if pipelined:
        setter.send(*batch)
        assert not setter.ready().errors
    else:
        for part in batch[:-1]:
            setter.send(part, sync())
            assert not setter.ready().errors
    assert ask(fresh.wire()) == right


def test_parameters_are_not_read_as_another_type(make_pooler, pg):
    """A client that was told the types of its parameters sends them as such, in binary."""
    pg.sql("create table typed(x int4); insert into typed values (1); grant all on typed to public", USER)
    try:
        pooler = make_pooler({"default_pool_size": 2})
        wire, other = pooler.wire(), pooler.wire()
        wire.send(parse("select 'found' from typed where x = $1", "s"), describe("S", "s"), sync())
        wire.ready()
        pg.sql("alter table typed alter x type float4", USER)
        other.query("begin")  # the server that has it
        binary = message("B", b"\0s\0" + struct.pack("!HHHii", 1, 1, 1, 4, 1) + b"\0\0")
        found = answers(wire, binary, execute(), sync())
        assert [error.sqlstate for error in found.errors] == ["0A000"], found.rows
    finally:
        pg.sql("drop table typed", USER)
