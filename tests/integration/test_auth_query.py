"""auth_query: users that auth_file lacks, found in PostgreSQL by a user that may read secrets."""
import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import psycopg
import pytest

from pooler import PASSWORD, SLOW, USER, program, unprivileged, wait_until
from wire import Refused, Scram, Wire, cstring, message, query, startup, verifier

ASKER, ASKER_PASSWORD = "asker", "asker-password"
DEFAULT = {"auth_type": "scram-sha-256", "auth_user": ASKER, "pool_mode": "transaction"}
ODD = "o'b\\$1\"; select"
ONLY_ASKER = {ASKER: ASKER_PASSWORD}


@pytest.fixture(scope="module", autouse=True)
def people(pg):
    pg.create_user(ASKER, ASKER_PASSWORD, "superuser")
    pg.create_user("ann", "ann-password")
    pg.create_user("exp", "exp-password", "valid until '2001-01-01'")
    pg.sql("create role nopass login; create role group1 nologin password 'group-password'")
    pg.create_user(ODD, "odd-password")
    yield


def attempt(pooler, user, password, database="app", timeout=10):
    with Wire(pooler.address, timeout=timeout) as wire:
        try:
            wire.login(user, password, database)
            assert wire.value("select session_user") == user
            return "in"
        except Refused as no:
            assert no.severity == "FATAL"
            return no.sqlstate, no.text


SASL = ("28P01", "SASL authentication failed")
PASSWORDS = ("28P01", "password authentication failed")


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5", "plain"])
def test_who_gets_in(make_pooler, auth_type):
    pooler = make_pooler({**DEFAULT, "auth_type": auth_type}, auth=ONLY_ASKER)
    assert attempt(pooler, "ann", "ann-password") == "in"
    refusal = PASSWORDS if auth_type == "plain" else SASL
    for user, password in (("ann", "wrong"), ("exp", "exp-password"), ("nopass", "x"), ("group1", "group-password"),
                           ("nobody", "x"), ("nobody", ASKER_PASSWORD)):
        assert attempt(pooler, user, password) == refusal, (user, password)
    assert attempt(pooler, ASKER, ASKER_PASSWORD) == "in"
    assert attempt(pooler, ASKER, "wrong")[0] == "28P01"


def test_the_pool_of_a_found_user_opens_more_servers_and_reconnects(make_pooler, activity):
    pooler = make_pooler({**DEFAULT, "default_pool_size": 3}, auth=ONLY_ASKER)

    def hold():
        with psycopg.connect(pooler.url("ann", "ann-password", "app")) as connection:
            connection.execute("select pg_sleep(0.3)")

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: hold(), range(6)))
    assert activity.count("usename = 'ann'") == 3
    activity.kill("usename = 'ann'")
    assert attempt(pooler, "ann", "ann-password") == "in"


def test_a_changed_password_counts_at_once(pg, make_pooler, activity):
    pooler = make_pooler(DEFAULT, auth=ONLY_ASKER)
    pg.create_user("changes", "one")
    assert attempt(pooler, "changes", "one") == "in"
    pg.sql("alter role changes password 'two'")
    assert attempt(pooler, "changes", "one") == SASL
    assert attempt(pooler, "changes", "two") == "in"
    activity.kill("usename = 'changes'")
    assert attempt(pooler, "changes", "two") == "in"
    activity.kill("usename = 'changes'")
    pg.sql("drop role changes")
    assert attempt(pooler, "changes", "two")[0] == "28P01"
    pg.create_user("changes", "three")
    assert attempt(pooler, "changes", "three") == "in"


@pytest.mark.parametrize("form", ["plain", "md5", "scram"])
def test_a_secret_that_a_server_refuses_is_asked_for_again(pg, make_pooler, activity, form):
    """One that is in already needs a new server after its password was changed: it gets it by the new secret, or, where
    that is a SCRAM secret, when somebody has logged in with it."""
    pg.sql("create table if not exists found_secrets(name text, secret text); grant select on found_secrets to public", "app")

    def change(password):
        pg.sql("set password_encryption = '%s'; drop role if exists moves; create role moves login password '%s'; "
               "truncate found_secrets; insert into found_secrets select 'moves', %s from pg_authid where rolname = 'moves'" % (
                   "md5" if form == "md5" else "scram-sha-256", password,
                   "'%s'" % password if form == "plain" else "rolpassword"), "app")
    change("one")
    place = "dbname=md5db" if form == "md5" else ""
    pooler = make_pooler({**DEFAULT, "auth_type": "md5", "auth_query": "select name, secret from found_secrets where name = $1",
                          "auth_dbname": "app", "server_login_retry": 30, "query_wait_timeout": 20},
                         databases={"app": "", "place": place or "dbname=app"}, auth=ONLY_ASKER)
    client = pooler.wire("moves", "one", "place")
    assert client.value("select session_user") == "moves"
    activity.kill("usename = 'moves'")
    change("two")
    began = time.monotonic()
    if form == "scram":
        client.send(query("select session_user"))
        pooler.wait_log("auth_query is asked for user .moves.")
        assert attempt(pooler, "moves", "one", "place")[0] == "28P01"
        assert attempt(pooler, "moves", "two", "place") == "in"
        assert client.ready().rows == [["moves"]]
    else:
        assert client.value("select session_user") == "moves"
        pooler.wait_log("auth_query is asked for user .moves.")
    assert time.monotonic() - began < 10


def processor_seconds(pooler):
    """Of each kind of thread so far, by its name; "": the control thread."""
    sums, main = {}, pooler.process.pid
    for task in os.listdir("/proc/%d/task" % main):
        with open("/proc/%d/task/%s/stat" % (main, task)) as file:
            name, rest = re.fullmatch(r"\d+ \((.*)\) (.*)\n?", file.read()).groups()
        name = "" if int(task) == main else name
        ticks = sum(int(it) for it in rest.split()[11:13])
        sums[name] = sums.get(name, 0) + ticks / os.sysconf("SC_CLK_TCK")
    return sums


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5"])
def test_keys_of_plain_secrets_are_the_crypto_threads(pg, make_pooler, auth_type):
    """Whoever is refused by SCRAM costs a derivation, which holds up nobody; who has logged in costs no second one."""
    pg.sql("drop role if exists stored; create role stored login password 'as it is'")
    pooler = make_pooler({**DEFAULT, "auth_type": auth_type, "scram_iterations": 100000, "login_failure_max_delay": 0,
                          "auth_query": "select $1::text, 'as it is' where $1 like 'stored%'"}, auth=ONLY_ASKER)
    began = processor_seconds(pooler)
    for i in range(6):
        for user in ("stored%d" % i, "nobody"):
            assert attempt(pooler, user, "wrong")[0] == "28P01"
    assert attempt(pooler, "stored", "as it is") == "in"
    wrong = processor_seconds(pooler)
    assert wrong[""] - began[""] < 0.15
    if auth_type == "md5":
        assert wrong.get("crypto", 0) < 0.1, "nothing was derived but for our own logins to the server"
        return
    assert wrong["crypto"] > 0.15
    for _ in range(6):
        assert attempt(pooler, "stored", "as it is") == "in"
    assert processor_seconds(pooler)["crypto"] - wrong["crypto"] < 0.05


def test_names_are_a_parameter(pg, make_pooler):
    pooler = make_pooler({**DEFAULT, "auth_type": "md5"}, auth=ONLY_ASKER)
    assert attempt(pooler, ODD, "odd-password") == "in"
    for name in ("ann' or '1'='1", "ann\\", "$1", "ann;drop role ann", "x" * 64, "é" * 31):
        assert attempt(pooler, name, "ann-password")[0] == "28P01", name
    assert attempt(pooler, "ann", "ann-password") == "in"


def test_bytes_that_are_no_text(make_pooler):
    """PostgreSQL refuses them, and they are nobody's name."""
    pooler = make_pooler(DEFAULT, auth=ONLY_ASKER)
    with Wire(pooler.address, timeout=10) as wire:
        wire.send(startup({"user": b"\xff\xfe", "database": "app"}))
        with pytest.raises(Refused) as no:
            wire.authenticate("", "x")
    assert (no.value.sqlstate, no.value.text) == SASL
    assert attempt(pooler, "ann", "ann-password") == "in"


def test_client_state_never_reaches_the_query(pg, make_pooler):
    """A search path of the client's with a function of its own is not where the query looks (CVE-2025-12819)."""
    pg.sql("create schema if not exists evil; grant usage on schema evil to public; create or replace function "
           "evil.find(text, out name text, out secret text) language sql as $$ select $1, 'stolen' $$; "
           "create or replace function public.find(text, out name text, out secret text) language sql security definer "
           "as $$ select rolname::text, rolpassword from pg_authid where rolname = $1 $$", database="app")
    pooler = make_pooler({**DEFAULT, "auth_type": "plain", "auth_query": "SELECT * FROM find($1)", "default_pool_size": 1},
                         auth=ONLY_ASKER)
    for _ in range(3):
        with Wire(pooler.address, timeout=10) as wire:
            with pytest.raises(Refused) as no:
                wire.login("ann", "stolen", "app", {"search_path": "evil, pg_catalog", "options": "-c search_path=evil"})
        assert (no.value.sqlstate, no.value.text) == PASSWORDS, "by us: the server was not asked"
        with Wire(pooler.address, timeout=10) as wire:  # auth_user itself, by its password in auth_file
            wire.login(ASKER, ASKER_PASSWORD, "app", {"search_path": "evil, pg_catalog"})
            assert wire.value("show search_path") == "evil, pg_catalog"
        with Wire(pooler.address, timeout=10) as wire:
            wire.login(ASKER, ASKER_PASSWORD, "app")
            wire.query("set search_path to evil")


@pytest.mark.parametrize("whose", ["database app", "role %s in database app" % ASKER])
def test_a_search_path_of_the_server_is_not_the_querys(pg, make_pooler, whose):
    """Whoever owns the database may say where names are found first; auth_user, who may do more, does not look there."""
    pg.sql("create schema if not exists trap; grant usage on schema trap to public; create or replace function trap.now() "
           "returns timestamptz language plpgsql as $$ begin raise exception 'ran as %', current_user; end $$; "
           "create or replace function public.look(text, out name text, out secret text) language sql security definer "
           "as $$ select rolname::text, rolpassword from pg_catalog.pg_authid where rolname = $1 $$; "
           "alter " + whose + " set search_path = trap, pg_catalog", database="app")
    try:
        for own in ({}, {"auth_query": "SELECT * FROM look($1)"}):  # a bare name in public is found all the same
            pooler = make_pooler({**DEFAULT, **own}, auth=ONLY_ASKER)
            assert attempt(pooler, "ann", "ann-password") == "in"
        with pooler.wire(ASKER, ASKER_PASSWORD, "app") as wire:
            assert wire.value("show search_path") == "trap, pg_catalog", "of the look-ups alone"
    finally:
        pg.sql("alter " + whose + " reset search_path")


@pytest.mark.parametrize("query, log", [
    ("SELECT rolname FROM pg_authid WHERE rolname=$1", "expected 2 columns from auth_query, not 1"),
    ("SELECT rolname, rolpassword, 1 FROM pg_authid WHERE rolname=$1", "expected 2 columns from auth_query, not 3"),
    ("SELECT nothing FROM nowhere WHERE x=$1", "error response from auth_query"),
    ("SELECT 'bob', rolpassword FROM pg_authid WHERE rolname=$1", "another user"),
    ("SELECT rolname, rolpassword FROM pg_authid, generate_series(1, 2) WHERE rolname=$1", "more than one row"),
    ("CREATE TABLE never()", "auth_query"),
])
def test_queries_that_do_not_fit(make_pooler, query, log):
    pooler = make_pooler({**DEFAULT, "auth_query": query}, auth=ONLY_ASKER)
    assert attempt(pooler, "ann", "ann-password") == ("57P03", "bouncer config error")
    pooler.wait_log(log)
    # What runs on behind an answer that is none is cancelled.
    ends = re.findall(" S-.*closing because: (?!successfully sent cancel request).*", pooler.log())
    assert not ends, "nothing is wrong with the server"
    assert attempt(pooler, ASKER, ASKER_PASSWORD) == "in"


def test_a_function_that_has_found_nobody(pg, make_pooler):
    """As in PgBouncer's documentation: OUT parameters, and so one row of NULLs."""
    pg.sql("create or replace function user_lookup(in i_username text, out uname text, out phash text) returns record as $$ "
           "begin select usename, passwd from pg_shadow where usename = i_username into uname, phash; return; end; $$ "
           "language plpgsql security definer", "app")
    pooler = make_pooler({**DEFAULT, "auth_query": "SELECT uname, phash FROM user_lookup($1)"}, auth=ONLY_ASKER)
    assert attempt(pooler, "ann", "ann-password") == "in"
    assert attempt(pooler, "ann", "wrong") == attempt(pooler, "nobody", "wrong") == SASL
    pooler.wait_log("SASL authentication failed .auth_query response contained null user name")


@pytest.mark.parametrize("database", ["pgbouncer", "pgsluice"])
def test_strangers_at_the_console_beside_a_wildcard(make_pooler, database):
    pooler = make_pooler(DEFAULT, databases={"*": ""}, auth=ONLY_ASKER)
    assert attempt(pooler, "nobody", "x", database) == SASL
    pooler.wait_log("auth_query could not be asked: the console needs auth_dbname")
    assert attempt(pooler, "ann", "ann-password") == "in"


def test_databases_that_are_not_there_show_nothing_and_leave_nothing(make_pooler):
    pooler = make_pooler({**DEFAULT, "admin_users": ASKER, "server_login_retry": 60}, databases={"*": ""}, auth=ONLY_ASKER)
    for database in ("nosuch0", "nosuch1", "app"):
        for user in ("nobody", ASKER, "nobody"):
            assert attempt(pooler, user, "wrong", database) == SASL, (user, database)
    with Wire(pooler.address) as wire:
        wire.login(ASKER, ASKER_PASSWORD, "pgbouncer")
        names = lambda: {row[0] for row in wire.query("SHOW POOLS").rows}  # noqa: E731
        wait_until(lambda: not any(name.startswith("nosuch") for name in names()))
        assert "app" in names()


# ---- whom DISABLE, PAUSE and SHUTDOWN hold up ----

def test_logins_wait_for_resume_as_queries_do(make_pooler):
    pooler = make_pooler({**DEFAULT, "admin_users": ASKER}, databases={"app": "", "other": ""}, auth=ONLY_ASKER)
    with Wire(pooler.address) as admin, Wire(pooler.address, timeout=40) as wire:
        admin.login(ASKER, ASKER_PASSWORD, "pgbouncer")
        admin.query("PAUSE app")
        wire.send(startup({"user": "ann", "database": "app"}))
        assert attempt(pooler, "ann", "ann-password", "other") == "in", "of another database"
        time.sleep(11)  # longer than a look-up may take
        admin.query("RESUME app")
        wire.authenticate("ann", "ann-password")
        assert wire.value("select session_user") == "ann"


def test_those_who_wait_for_resume_keep_nobody_out(make_pooler):
    """More of them than may stand in line."""
    pooler = make_pooler({**DEFAULT, "admin_users": ASKER, "max_client_conn": 2000, "max_unauthenticated_conn": 0},
                         databases={"app": "", "other": ""}, auth=ONLY_ASKER)
    with contextlib.ExitStack() as open_ones, Wire(pooler.address, timeout=40) as wire:
        admin = open_ones.enter_context(Wire(pooler.address))
        admin.login(ASKER, ASKER_PASSWORD, "pgbouncer")
        admin.query("PAUSE app")
        for n in range(1100):
            it = open_ones.enter_context(socket.create_connection(pooler.address))
            it.sendall(startup({"user": "many%d" % n, "database": "app"}))
        wire.send(startup({"user": "ann", "database": "app"}))
        assert attempt(pooler, "ann", "ann-password", "other") == "in"
        admin.query("RESUME app")
        wire.authenticate("ann", "ann-password")
        assert wire.value("select session_user") == "ann"
    assert "too many users are being looked up" not in pooler.log()


def test_a_disabled_database_is_told_to_who_has_proved_who_he_is(make_pooler):
    pooler = make_pooler({**DEFAULT, "admin_users": ASKER}, auth=ONLY_ASKER)
    with Wire(pooler.address) as admin:
        admin.login(ASKER, ASKER_PASSWORD, "pgbouncer")
        admin.query("DISABLE app")
        assert attempt(pooler, "ann", "ann-password")[1].startswith('database "app" is disabled')
        assert attempt(pooler, "ann", "wrong") == attempt(pooler, "nobody", "x") == SASL


def test_an_admin_that_auth_query_finds_gets_in_while_shutting_down(make_pooler):
    pooler = make_pooler({**DEFAULT, "admin_users": "ann", "auth_dbname": "app"}, auth=ONLY_ASKER)
    with Wire(pooler.address) as stays, Wire(pooler.socket_path) as admin:
        stays.login("ann", "ann-password", "app")
        pooler.signal(signal.SIGTERM)
        wait_until(lambda: "waiting for all clients" in pooler.log())
        admin.login("ann", "ann-password", "pgbouncer")
        assert admin.query("SHOW VERSION").rows
        stays.close()
        admin.close()
        assert pooler.exited() == 0


def test_auth_dbname_without_a_user_beside_auth_type_any(make_pooler):
    pooler = make_pooler({**DEFAULT, "auth_type": "any", "auth_dbname": "meta",
                          "auth_query": "select $1::text, 'ann-password'"},
                         databases={"app": "user=ann", "meta": "dbname=app"}, auth=ONLY_ASKER)
    with Wire(pooler.address, timeout=10) as wire:
        wire.login("whoever", "", "app")
        assert wire.value("select session_user") == "ann"


def test_auth_dbname_and_the_options_of_a_database(make_pooler, activity):
    pooler = make_pooler({**DEFAULT, "auth_dbname": "other"},
                         databases={"app": "", "other": "", "own": "dbname=app auth_dbname=app",
                                    "none": "dbname=app auth_user=''"}, auth=ONLY_ASKER)
    assert attempt(pooler, "ann", "ann-password") == "in"
    assert activity.count("usename = '%s' and datname = 'other'" % ASKER) == 1
    assert activity.count("usename = '%s' and datname = 'app'" % ASKER) == 0
    assert attempt(pooler, "ann", "ann-password", "own") == "in"
    assert activity.count("usename = '%s' and datname = 'app'" % ASKER) == 1
    assert attempt(pooler, "ann", "ann-password", "none")[0] == "28P01"
    assert attempt(pooler, "ann", "ann-password", "nowhere")[0] == "3D000"


def test_a_forced_user_is_not_who_asks(make_pooler, activity):
    pooler = make_pooler(DEFAULT, databases={"app": "user=app password=%s" % PASSWORD}, auth=ONLY_ASKER)
    with Wire(pooler.address) as wire:
        wire.login("ann", "ann-password", "app")
        assert wire.value("select session_user") == USER
    assert activity.count("usename = 'ann'") == 0


def test_a_login_storm_is_one_question_at_a_time(make_pooler, activity, pg):
    pooler = make_pooler({**DEFAULT, "max_client_conn": 400, "default_pool_size": 2}, auth=ONLY_ASKER)
    results = []

    def login():
        results.append(attempt(pooler, "ann", "ann-password"))

    threads = [threading.Thread(target=login) for _ in range(100)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert results == ["in"] * 100
    assert activity.count("usename = '%s'" % ASKER) <= 2


def test_no_way_to_ask(make_pooler, pg):
    """The server of auth_dbname is down: the others log in, those in question are told, soon."""
    pooler = make_pooler({**DEFAULT, "auth_dbname": "down", "server_connect_timeout": 1, "server_login_retry": 1},
                         databases={"app": "", "down": "host=127.0.0.1 port=1"}, auth={**ONLY_ASKER, USER: PASSWORD})
    began = time.monotonic()
    assert attempt(pooler, "ann", "ann-password")[0] == "57P03"
    assert time.monotonic() - began < 5
    assert attempt(pooler, USER, PASSWORD) == "in"
    pooler.wait_log("auth_query for user")


# ---- the line ----

@pytest.fixture
def slow_look(pg, activity):
    """slow_look(seconds): settings of a look-up that takes so long. To be asked for ahead of make_pooler: what still
    sleeps when the poolers have ended does not notice that they have."""
    def settings(seconds):
        pg.sql("create or replace function slow_look(text) returns table(name text, secret text) language plpgsql security "
               "definer as $$ begin perform pg_sleep(%g); return query select rolname::text, rolpassword from pg_authid "
               "where rolname = $1; end $$" % seconds, "app")
        return {"auth_query": "SELECT * FROM slow_look($1)"}
    yield settings
    activity.kill("usename = '%s'" % ASKER)


def test_whoever_has_gone_leaves_the_line(slow_look, make_pooler):
    """Questions that nobody waits for are not asked: others would wait behind them."""
    pooler = make_pooler({**DEFAULT, **slow_look(0.1), "default_pool_size": 10}, auth=ONLY_ASKER)
    assert attempt(pooler, "ann", "ann-password") == "in"
    for n in range(1000):
        with socket.create_connection(pooler.address) as it:
            it.sendall(startup({"user": "gone%d" % n, "database": "app"}))
    began = time.monotonic()
    assert attempt(pooler, "ann", "ann-password") == "in"
    assert time.monotonic() - began < (6 if SLOW else 3), "a thousand of them take 10 s"


def test_each_is_answered_ten_seconds_after_it_has_asked(slow_look, make_pooler, activity):
    pooler = make_pooler({**DEFAULT, **slow_look(60), "max_client_conn": 200, "default_pool_size": 5},
                         auth={**ONLY_ASKER, USER: PASSWORD})
    told = []

    def come(n):
        began = time.monotonic()
        told.append((attempt(pooler, "slow%d" % n, "x", timeout=30)[0], time.monotonic() - began))

    threads = [threading.Thread(target=come, args=(n,)) for n in range(60)]  # 32 under way, the others in line
    for it in threads:
        it.start()
    assert attempt(pooler, USER, PASSWORD) == "in", "auth_file has it"
    for it in threads:
        it.join()
    assert {why for why, _ in told} == {"57P03"}
    assert max(took for _, took in told) < (20 if SLOW else 12), sorted(told)[-1]
    activity.kill("usename = '%s'" % ASKER)


def test_a_full_line_refuses(slow_look, make_pooler, activity):
    pooler = make_pooler({**DEFAULT, **slow_look(60), "max_client_conn": 2000, "max_unauthenticated_conn": 0,
                          "default_pool_size": 2}, auth=ONLY_ASKER)
    with contextlib.ExitStack() as open_ones:
        for n in range(1100):
            it = open_ones.enter_context(socket.create_connection(pooler.address))
            it.sendall(startup({"user": "many%d" % n, "database": "app"}))
        pooler.wait_log("too many users are being looked up")
        assert attempt(pooler, "late", "x") == ("53300", "too many users are being looked up")
    wait_until(lambda: activity.count("usename = '%s' and state = 'active'" % ASKER) == 0, 20, "the end of those under way")


def test_what_is_sent_ahead_stays_in_the_kernel(slow_look, make_pooler, activity):
    """While it is looked up who a client is, its bytes take no memory; that it has gone is noticed all the same."""
    pooler = make_pooler({**DEFAULT, **slow_look(60), "max_client_conn": 200}, auth=ONLY_ASKER)
    before = pooler.memory()
    with contextlib.ExitStack() as open_ones:
        for _ in range(100):
            it = open_ones.enter_context(socket.create_connection(pooler.address))
            it.sendall(startup({"user": "ahead", "database": "app"}))
            time.sleep(0.002)
            it.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(24):
                    it.send(b"x" * 10000)
        time.sleep(0.5)
        assert pooler.memory() - before < (20000 if SLOW else 6000), "KiB; 100 times 240 KB were sent"
        with socket.create_connection(pooler.address) as it:
            it.sendall(startup({"user": "leaves", "database": "app"}))
            time.sleep(0.1)
            it.sendall(b"x" * 1000)
        pooler.wait_log("/leaves@.* closing because: client unexpected eof")
    activity.kill("usename = '%s'" % ASKER)


# ---- who is there is told from who is not by nothing ----

def first_words(pooler, user):
    """What `user` is asked for, and how many iterations it is shown."""
    with Wire(pooler.address, timeout=10) as wire:
        wire.send(startup({"user": user, "database": "app"}))
        code = struct.unpack("!i", wire.read().body[:4])[0]
        if code != 10:
            return code
        first = Scram("x").first()
        wire.send(message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
        return wire.read().body.rsplit(b",i=", 1)[1].decode()


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5"])
def test_who_is_not_there_looks_like_those_who_are(pg, make_pooler, auth_type):
    pg.sql("create table if not exists looks(name text, secret text); truncate looks; grant select on looks to public", "app")
    pooler = make_pooler({**DEFAULT, "auth_type": auth_type, "auth_query": "select name, secret from looks where name = $1"},
                         auth=ONLY_ASKER)
    assert first_words(pooler, "nobody") == "4096", "scram_iterations, as long as nobody was found"
    for n in range(3):
        pg.sql("insert into looks values ('dear%d', '%s')" % (n, verifier("x", 10000)), "app")
        assert first_words(pooler, "dear%d" % n) == "10000"
    assert {first_words(pooler, "nobody%d" % n) for n in range(5)} == {"10000"}
    for n in range(3):
        pg.sql("insert into looks values ('hash%d', 'md5%032x')" % (n, n), "app")
        assert first_words(pooler, "hash%d" % n) == (5 if auth_type == "md5" else "10000")
    asked = [first_words(pooler, "nobody%d" % n) for n in range(24)]
    assert set(asked) == ({5, "10000"} if auth_type == "md5" else {"10000"})
    assert asked == [first_words(pooler, "nobody%d" % n) for n in range(24)], "of one name always the same"


# ---- configuration ----

def test_a_misspelt_auth_dbname_is_told(make_pooler):
    for settings, entry in (({"auth_dbname": "nosuch"}, "dbname=app"), ({}, "dbname=app auth_dbname=nosuch")):
        pooler = make_pooler({**DEFAULT, **settings}, databases={"app": entry}, auth=ONLY_ASKER)
        pooler.wait_log("auth_dbname = nosuch: there is no such entry in .databases.")
        assert attempt(pooler, "ann", "ann-password") == SASL, "strangers are told no more"
        pooler.wait_log('SASL authentication failed .auth_query could not be asked: .databases. has no "nosuch"')


@pytest.mark.parametrize("form", ["plain", "md5", "scram"])
def test_the_password_of_an_entrys_user(pg, make_pooler, activity, form):
    """user= without password=: that of auth_file, else what auth_query finds. A SCRAM secret opens no server."""
    pg.sql("set password_encryption = '%s'; drop role if exists owns; create role owns login password 'its password'; "
           "create table if not exists owners(name text, secret text); truncate owners; grant select on owners to public; "
           "insert into owners select rolname, %s from pg_authid where rolname = 'owns'; "
           "insert into owners select rolname, rolpassword from pg_authid where rolname = 'ann'" % (
               "md5" if form == "md5" else "scram-sha-256", "'its password'" if form == "plain" else "rolpassword"), "app")
    place = "dbname=md5db" if form == "md5" else "dbname=app"
    pooler = make_pooler({**DEFAULT, "auth_query": "select name, secret from owners where name = $1", "auth_dbname": "asked"},
                         databases={"app": place + " user=owns", "asked": "dbname=app"}, auth=ONLY_ASKER)
    with Wire(pooler.address, timeout=10) as wire:
        if form == "scram":
            with pytest.raises(Refused) as no:
                wire.login("ann", "ann-password", "app")
            assert no.value.sqlstate == "28P01"
            return
        wire.login("ann", "ann-password", "app")
        assert wire.value("select session_user") == "owns"
    pooler.wait_log("auth_query is asked for user .owns. in database .asked.: its password is neither")
    done = subprocess.run(unprivileged() + [program(), "--check", "--connect", pooler.ini], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert "user owns could not be tried" in done.stdout and ": 0 errors, " in done.stdout, done.stdout
