"""auth_query: users that auth_file lacks, found in PostgreSQL by a user that may read secrets."""
import concurrent.futures
import threading
import time

import psycopg
import pytest

from pooler import PASSWORD, USER
from wire import Refused, Wire, query, startup

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


def attempt(pooler, user, password, database="app"):
    with Wire(pooler.address, timeout=10) as wire:
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
    pg.sql("create table if not exists kept(name text, secret text); grant select on kept to public", "app")

    def change(password):
        pg.sql("set password_encryption = '%s'; drop role if exists moves; create role moves login password '%s'; "
               "truncate kept; insert into kept select 'moves', %s from pg_authid where rolname = 'moves'" % (
                   "md5" if form == "md5" else "scram-sha-256", password,
                   "'%s'" % password if form == "plain" else "rolpassword"), "app")
    change("one")
    place = "dbname=md5db" if form == "md5" else ""
    pooler = make_pooler({**DEFAULT, "auth_type": "md5", "auth_query": "select name, secret from kept where name = $1",
                          "auth_dbname": "app", "server_login_retry": 30, "query_wait_timeout": 20},
                         databases={"app": "", "place": place or "dbname=app"}, auth=ONLY_ASKER)
    client = pooler.wire("moves", "one", "place")
    assert client.value("select session_user") == "moves"
    activity.kill("usename = 'moves'")
    change("two")
    began = time.monotonic()
    if form == "scram":
        client.send(query("select session_user"))
        pooler.wait_log("auth_query is asked again for user .moves.")
        assert attempt(pooler, "moves", "one", "place")[0] == "28P01"
        assert attempt(pooler, "moves", "two", "place") == "in"
        assert client.ready().rows == [["moves"]]
    else:
        assert client.value("select session_user") == "moves"
        pooler.wait_log("auth_query is asked again for user .moves.")
    assert time.monotonic() - began < 10


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


@pytest.mark.parametrize("query, log", [
    ("SELECT rolname FROM pg_authid WHERE rolname=$1", "expected 2 columns from auth_query, not 1"),
    ("SELECT rolname, rolpassword, 1 FROM pg_authid WHERE rolname=$1", "expected 2 columns from auth_query, not 3"),
    ("SELECT nothing FROM nowhere WHERE x=$1", "error response from auth_query"),
    ("SELECT NULL::text, rolpassword FROM pg_authid WHERE rolname=$1", "null user name"),
    ("SELECT 'bob', rolpassword FROM pg_authid WHERE rolname=$1", "another user"),
    ("SELECT rolname, rolpassword FROM pg_authid, generate_series(1, 2) WHERE rolname=$1", "more than one row"),
    ("CREATE TABLE never()", "auth_query"),
])
def test_queries_that_do_not_fit(make_pooler, query, log):
    pooler = make_pooler({**DEFAULT, "auth_query": query}, auth=ONLY_ASKER)
    assert attempt(pooler, "ann", "ann-password")[0] == "57P03"
    pooler.wait_log(log)
    assert attempt(pooler, ASKER, ASKER_PASSWORD) == "in"


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
