"""A client that goes in the middle of something: its work ends at once, and the server is kept, clean, for the next one."""
import threading
import time

import pytest

from pooler import SLOW, Clock, wait_until
from wire import Wire, bind, describe, execute, extended, flush, message, parse, query, sync

ONE = {"default_pool_size": 1}


def end_of_stream(wire):
    wire.socket.close()


def reset(wire):
    wire.reset()


def terminate(wire):
    wire.close()


WAYS = [end_of_stream, reset, terminate]


def begin(wire):
    wire.query("begin")


def begin_and_fail(wire):
    wire.query("begin")
    wire.send(query("select 1/0"))
    assert wire.ready().status == "E"


def begin_and_lock(wire):
    wire.query("begin")
    wire.query("lock table t")


def sleep(wire):
    wire.send(query("select pg_sleep(30)"))


def sleep_in_transaction(wire):
    wire.query("begin")
    wire.query("insert into t values (1)")
    wire.send(query("select pg_sleep(30)"))


def sleep_extended(wire):
    wire.send(extended("select pg_sleep(30)") + sync())


def sleep_without_sync(wire):
    wire.send(extended("insert into t values (1)") + extended("select pg_sleep(30)") + flush())


def pipeline(wire):
    """A cancel of the first would keep its BEGIN from happening, and the INSERT behind it would be committed by itself."""
    wire.send(query("select pg_sleep(0.5); begin") + query("insert into t values (1)") + query("insert into t values (2)"))


def batch_without_sync(wire):
    wire.send(extended("insert into t values (1)") + flush())
    wire.until("C")


def failed_batch_without_sync(wire):
    wire.send(parse("select 1/0") + bind() + execute() + flush())
    wire.until("E")


def parse_only(wire):
    wire.send(parse("select 1") + flush())
    wire.until("1")


def copy_in(wire):
    wire.send(query("copy t from stdin"))
    wire.until("G")
    wire.send(message("d", b"1\n"))


def copy_in_in_transaction(wire):
    wire.query("begin")
    copy_in(wire)


def copy_in_extended(wire):
    wire.send(parse("copy t from stdin") + bind() + execute() + flush())
    wire.until("G")
    wire.send(message("d", b"1\n"))


def copy_out(wire):
    wire.send(query("copy (select repeat('x', 1000) from generate_series(1, 300000)) to stdout"))
    wire.until("d")


def big_result(wire):
    wire.send(query("select repeat('x', 1000) from generate_series(1, 300000)"))
    wire.until("D")


def cursor(wire):
    wire.query("begin")
    wire.send(parse("select generate_series(1, 100000)") + bind() + describe() + execute("", 10) + flush())
    wire.until("s")


SITUATIONS = [begin, begin_and_fail, begin_and_lock, sleep, sleep_in_transaction, sleep_extended, sleep_without_sync,
              pipeline, batch_without_sync, failed_batch_without_sync, parse_only, copy_in, copy_in_in_transaction,
              copy_in_extended, copy_out, big_result, cursor]


def table(activity, pooler):
    activity.pg.sql("drop table if exists t; create table t(n int); grant all on t to app", "app")
    return pooler


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda it: it.__name__)
def test_server_is_kept_and_clean(make_pooler, activity, situation, workers):
    pooler = table(activity, make_pooler({"worker_threads": workers, **ONE}))
    other = pooler.wire()
    server = int(other.value("select pg_backend_pid()"))
    for way in WAYS:
        wire = pooler.wire()
        situation(wire)
        if "sleep" in situation.__name__ or situation is pipeline:
            wait_until(lambda: activity.count("query like '%pg_sleep%' and state = 'active'") == 1, 5, "it runs")
        clock = Clock()
        way(wire)
        assert int(other.value("select pg_backend_pid()")) == server, "another server: the first was not kept"
        clock.assert_at(0, 4 if SLOW else 1)  # a cancel that comes before its query has begun is repeated
        assert other.query("select pg_current_xact_id_if_assigned()").status == "I"
        assert other.value("select count(*) from t") == "0", "what was not committed is not there"
        assert other.value("select count(*) from pg_prepared_statements") == "0"
    assert activity.count() == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda it: it.__name__)
def test_the_next_in_the_queue_gets_it(make_pooler, activity, way):
    pooler = make_pooler(ONE)
    holder, waiter = pooler.wire(), pooler.wire()
    sleep(holder)
    wait_until(lambda: activity.count("query like '%pg_sleep%'") == 1, 5, "it runs")
    server = activity.backends()[0][0]
    waiter.send(query("select pg_backend_pid()"))
    time.sleep(0.1)
    clock = Clock()
    way(holder)
    assert waiter.ready().rows == [[str(server)]]
    clock.assert_at(0)


def test_close_closes(make_pooler, activity):
    pooler = make_pooler({"client_disconnect_action": "close", **ONE})
    other = pooler.wire()
    for situation in (begin, sleep):
        server = other.value("select pg_backend_pid()")
        wire = pooler.wire()
        situation(wire)
        time.sleep(0.1)
        end_of_stream(wire)
        assert other.value("select pg_backend_pid()") != server
        activity.wait_count(1)
    pooler.wait_log("client disconnected with query in progress")
    pooler.wait_log("client disconnect while server was not ready")


def test_half_a_message_closes(make_pooler, activity):
    pooler = make_pooler(ONE)
    other, wire = pooler.wire(), pooler.wire()
    server = other.value("select pg_backend_pid()")
    wire.query("begin")
    wire.send(query("select 1" + " " * 100000)[:50000])
    time.sleep(0.2)
    reset(wire)
    assert other.value("select pg_backend_pid()") != server
    activity.wait_count(1)


def test_session_mode_resets_as_well(make_pooler, activity):
    pooler = make_pooler({"pool_mode": "session", **ONE})
    wire = pooler.wire()
    server = wire.value("select pg_backend_pid()")
    wire.query("set work_mem = '7MB'")
    wire.query("create temp table x(n int)")
    sleep_in_transaction_of = lambda: (wire.query("begin"), wire.send(query("select pg_sleep(30)")))  # noqa: E731
    sleep_in_transaction_of()
    wait_until(lambda: activity.count("query like '%pg_sleep%'") == 1, 5, "it runs")
    reset(wire)
    other = pooler.wire()
    assert other.value("select pg_backend_pid()") == server
    assert other.value("show work_mem") != "7MB"
    assert other.value("select count(*) from pg_class where relname = 'x' and relpersistence = 't'") == "0"


def test_a_query_that_cannot_be_cancelled(make_pooler, activity):
    """It is given some seconds; then its server is closed."""
    pooler = make_pooler(ONE)
    other, wire = pooler.wire(), pooler.wire()
    server = int(other.value("select pg_backend_pid()"))
    # plpgsql that catches every cancel
    wire.send(query("do $$ begin for i in 1..1000 loop begin perform pg_sleep(30); "
                    "exception when query_canceled then null; end; end loop; end $$"))
    # Not before: a cancel outside of the block that catches it would end the whole.
    wait_until(lambda: activity.count("query like '%pg_sleep%' and wait_event = 'PgSleep'") == 1, 5, "it sleeps")
    clock = Clock()
    reset(wire)
    other.send(query("select 1"))
    pooler.wait_log("client disconnected with query in progress", 10)
    clock.assert_at(3)
    assert other.ready().rows == [["1"]]
    # Until it has been given up as well, it is still there.
    activity.rows("select pg_terminate_backend(%d)" % server)


def test_timeouts_still_close(make_pooler, activity):
    pooler = make_pooler({"query_timeout": 0.5, **ONE})
    other, wire = pooler.wire(), pooler.wire()
    server = other.value("select pg_backend_pid()")
    wire.send(query("select pg_sleep(30)"))
    assert wire.refusal().text == "query timeout"
    assert other.value("select pg_backend_pid()") != server


def test_a_cancel_on_its_way_never_hits_the_next(make_pooler, activity):
    """Clients come, ask, and go without a word; whoever gets their server is never hit by the cancel of what they left."""
    pooler = make_pooler({"default_pool_size": 2, "worker_threads": 2})
    stop, failures, gone = threading.Event(), [], []

    def stay(number):
        try:
            wire, turn = pooler.socket(), 0
            wire.login("app", "strongpassword", "app")
            while not stop.is_set():
                turn += 1
                value = str(number * 1000000 + turn)
                wire.send(query("select pg_sleep(0.001), " + value))
                assert wire.ready().rows == [["", value]]
        except BaseException as failure:
            failures.append(failure)

    def leave(number):
        try:
            while not stop.is_set():
                wire = Wire(pooler.address)
                wire.login("app", "strongpassword", "app")
                if number % 2:
                    wire.query("begin")
                wire.send(query("select pg_sleep(%s)" % (0.0005 * (len(gone) % 5))))
                time.sleep(0.0003 * (len(gone) % 7))
                WAYS[len(gone) % 3](wire)
                wire.socket.close()
                gone.append(1)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=stay, args=(n,)) for n in range(3)]
    threads += [threading.Thread(target=leave, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert len(gone) > 50
    assert activity.count() <= 2
    wait_until(lambda: activity.count("state <> 'idle'") == 0, 5, "nothing left behind")
    print("%d clients went" % len(gone))
