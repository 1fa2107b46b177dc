"""Names of servers: c-ares against a name server of the test's own. Times to live, changes, failures, hangs, zones."""
import concurrent.futures
import os
import re
import socket
import time

import psycopg
import pytest

from dns_server import SERVFAIL, DnsServer
from pooler import PASSWORD, SLOW, USER, Clock, wait_until
from test_console import console, one, show

# PostgreSQL of the tests listens on these.
ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
NOBODY = "127.0.0.99"  # refuses at once


@pytest.fixture
def dns():
    with DnsServer() as server:
        yield server


@pytest.fixture
def make_named(make_pooler, dns, pg):
    """A pooler whose database app is at `host`, and whose names come from `dns`."""

    def make(settings=None, host="db.test", options=""):
        pooler = make_pooler({"admin_users": USER, "server_login_retry": 0.5, **(settings or {})}, start=False,
                             databases={"app": "host=%s port=%d %s" % (host, pg.port, options)})
        pooler.settings["resolv_conf"] = dns.resolv_conf(pooler.directory)
        pooler.write()
        return pooler.start()
    return make


class Attempt:
    """A login that may take its time."""

    def __init__(self, pooler, database):
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.login = self.pool.submit(psycopg.connect, host="127.0.0.1", port=pooler.port, user=USER,
                                      password=PASSWORD, dbname=database)

    def outcome(self):
        with self.pool:
            return self.login.result(60)


def server_address(client):
    return client.execute("select host(inet_server_addr())").fetchone()[0]


def hosts(pooler):
    with console(pooler) as wire:
        rows = {row["hostname"]: row for row in show(wire, "DNS_HOSTS")}
    for row in rows.values():  # as PgBouncer prints them
        row["addrs"] = re.sub(r"\[?([^,\]]+)\]?:0", r"\1", row["addrs"])
    return rows


def lists(pooler):
    with console(pooler) as wire:
        return {row["list"]: int(row["items"]) for row in show(wire, "LISTS") if row["list"].startswith("dns")}


def test_a_name_is_looked_up_once_for_all(make_named, dns):
    dns.answer("db.test", [ONE], ttl=60)
    pooler = make_named()
    clients = [pooler.connect() for _ in range(5)]
    for client in clients:
        client.execute("begin")
    assert dns.count("db.test") == 1
    row = hosts(pooler)["db.test"]
    assert row["addrs"] == ONE and 0 < int(row["ttl"]) <= 15, "capped by dns_max_ttl"
    assert lists(pooler) == {"dns_names": 1, "dns_zones": 0, "dns_queries": 0, "dns_pending": 0}


def test_addresses_are_used_in_turn(make_named, dns):
    dns.answer("db.test", [ONE, TWO, THREE])
    pooler = make_named({"default_pool_size": 6})
    clients = [pooler.connect() for _ in range(6)]
    for client in clients:
        client.execute("begin")
    assert sorted(server_address(client) for client in clients) == [ONE, ONE, TWO, TWO, THREE, THREE]


def test_an_address_that_refuses_is_passed_over(make_named, dns):
    dns.answer("db.test", [NOBODY, ONE])
    pooler = make_named({"default_pool_size": 6, "server_login_retry": 15})
    clock = Clock()
    clients = [pooler.connect() for _ in range(6)]
    for client in clients:
        client.execute("begin")
    clock.assert_at(0, 2)
    assert "login failed" not in pooler.log()


def test_eight_addresses_and_both_families(make_named, dns):
    dns.answer("db.test", ["127.0.0.%d" % i for i in range(80, 88)] + ["fd00::1", ONE])
    pooler = make_named()
    assert server_address(pooler.connect()) == ONE
    assert sorted(hosts(pooler)["db.test"]["addrs"].split(",")) == sorted(
        ["127.0.0.%d" % i for i in range(80, 88)] + ["fd00::1", ONE])


def test_ipv6(make_named, dns, pg):
    """No PostgreSQL: that a connection comes is enough."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        probe.listen(1)
        probe.settimeout(20)
        dns.answer("db.test", ["::1"])
        pooler = make_named()
        pooler.databases["app"] = "host=db.test port=%d user=app min_pool_size=1" % probe.getsockname()[1]
        pooler.reload()
        connection, _ = probe.accept()
        connection.close()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_no_name_server_is_asked_for_what_the_machine_knows(make_named, dns, name):
    pooler = make_named(host=name)
    assert server_address(pooler.connect()) == ONE
    assert dns.asked == []
    assert (name in hosts(pooler)) == (name == "localhost")


def test_a_changed_answer_retires_servers_at_the_end_of_their_transaction(make_named, dns, activity):
    dns.answer("db.test", [ONE], ttl=1)
    pooler = make_named({"default_pool_size": 2})
    busy, idle = pooler.connect(), pooler.connect()
    busy.execute("begin")
    assert server_address(busy) == ONE
    assert server_address(idle) == ONE
    assert activity.count() == 2
    dns.answer("db.test", [TWO], ttl=1)
    clock = Clock()
    activity.wait_count(1, seconds=4)  # nobody asks for a server meanwhile
    assert clock.seconds() < (6 if SLOW else 2.5), "its time to live, and a second"
    assert server_address(busy) == ONE, "what runs goes on"
    busy.execute("commit")
    assert server_address(busy) == TWO
    assert server_address(idle) == TWO
    pooler.wait_log("closing because: (database configuration changed|obsolete connection)")


def test_a_session_keeps_its_server(make_named, dns, activity):
    dns.answer("db.test", [ONE], ttl=1)
    pooler = make_named({"pool_mode": "session"})
    client = pooler.connect()
    pid = client.execute("select pg_backend_pid()").fetchone()
    dns.answer("db.test", [TWO], ttl=1)
    wait_until(lambda: hosts(pooler)["db.test"]["addrs"] == TWO, 5, "the new address")
    assert client.execute("select pg_backend_pid()").fetchone() == pid
    client.close()
    activity.wait_count(0)


def test_what_fails_is_told_and_tried_again(make_named, dns):
    pooler = make_named({"dns_nxdomain_ttl": 1, "client_login_timeout": 2})
    with pytest.raises(psycopg.OperationalError):
        pooler.connect()
    pooler.wait_log("server login failed: server DNS lookup failed: Domain name not found")
    asked = dns.count("db.test")
    assert 1 <= asked <= 4, "not once for each try of the pool"
    dns.answer("db.test", [ONE])

    def connected():
        try:
            return pooler.connect()
        except psycopg.OperationalError:
            return None
    assert server_address(wait_until(connected, 3, "a login: dns_nxdomain_ttl and server_login_retry are over")) == ONE


@pytest.mark.parametrize("failure", [None, SERVFAIL], ids=["no such name", "server failure"])
def test_old_addresses_stay_while_no_new_ones_come(make_named, dns, activity, failure):
    dns.answer("db.test", [ONE], ttl=1)
    pooler = make_named({"dns_nxdomain_ttl": 1})
    client = pooler.connect()
    client.execute("select 1")
    dns.failure = failure or dns.failure
    dns.forget("db.test")
    pooler.wait_log("DNS lookup of db.test failed.*the addresses known before stay in use")
    activity.kill()
    assert server_address(pooler.connect()) == ONE
    dns.answer("db.test", [TWO], ttl=1)
    wait_until(lambda: hosts(pooler)["db.test"]["addrs"] == TWO, 5, "the new address")


def test_a_lookup_that_hangs_holds_up_nobody_else(make_named, dns, pg):
    dns.answer("db.test", [ONE])
    pooler = make_named({"server_connect_timeout": 2, "query_wait_timeout": 20})
    pooler.databases["other"] = "host=slow.test port=%d" % pg.port
    pooler.reload()
    fast = pooler.connect()
    dns.silent = True
    clock = Clock()
    slow = Attempt(pooler, "other")
    wait_until(lambda: lists(pooler)["dns_pending"] == 1, 5, "somebody who waits for the name")
    assert lists(pooler)["dns_queries"] == 1
    for _ in range(20):
        assert fast.execute("select 1").fetchone() == (1,)
    pooler.connect().execute("select 1")
    pooler.wait_log("server login failed: connect timeout: server DNS lookup takes too long", 5)
    clock.assert_at(0, 4)
    dns.answer("slow.test", [ONE])
    dns.silent = False
    slow.outcome().close()


def test_a_hanging_name_server_and_known_addresses(make_named, dns, activity):
    """Who needs a server waits a second for the new answer, then the old one does."""
    dns.answer("db.test", [ONE], ttl=1)
    pooler = make_named()
    pooler.connect().execute("select 1")
    dns.silent = True
    asked = dns.count("db.test")
    wait_until(lambda: dns.count("db.test") > asked, 5, "the next look-up")
    activity.kill()
    clock = Clock()
    assert server_address(pooler.connect()) == ONE
    clock.assert_at(0, 2.5)


def test_zones(make_named, dns):
    dns.answer("db.test", [ONE], ttl=3600)
    dns.zone("test", 7)
    pooler = make_named({"dns_zone_check_period": 0.5, "dns_max_ttl": 3600})
    client = pooler.connect()
    assert server_address(client) == ONE

    def zones():
        with console(pooler) as wire:
            return [tuple(row.values()) for row in show(wire, "DNS_ZONES")]
    wait_until(lambda: zones() == [("test", "7", "1")], 5, "the zone")
    dns.answer("db.test", [TWO], ttl=3600)
    time.sleep(1.2)
    assert server_address(client) == ONE and dns.count("db.test") == 1, "the answer holds"
    dns.zone("test", 8)
    wait_until(lambda: zones() == [("test", "8", "1")], 5, "the new serial")
    wait_until(lambda: server_address(client) == TWO, 5, "the new address")
    assert lists(pooler)["dns_zones"] == 1


def test_reload_forgets_names_and_takes_times(make_named, dns, pg):
    dns.answer("db.test", [ONE], ttl=60)
    dns.answer("new.test", [ONE], ttl=60)
    pooler = make_named()
    pooler.connect().execute("select 1")
    pooler.databases["app"] = "host=new.test port=%d" % pg.port
    pooler.settings["dns_max_ttl"] = 3
    pooler.reload()
    pooler.connect().execute("select 1")
    found = hosts(pooler)
    assert list(found) == ["new.test"] and int(one(list(found.values()))["ttl"]) <= 3


def test_a_changed_resolv_conf(make_named, dns):
    dns.answer("db.test", [ONE], ttl=1)
    pooler = make_named()
    pooler.connect().execute("select 1")
    with DnsServer() as other:
        other.answer("db.test", [TWO], ttl=1)
        other.resolv_conf(pooler.directory)
        wait_until(lambda: hosts(pooler)["db.test"]["addrs"] == TWO, 10, "the other name server's answer")


def test_a_changed_resolv_conf_while_name_servers_are_silent(make_named, dns, pg):
    """What is under way is asked of the others at once, and names that were not there, too."""
    pooler = make_named({"dns_nxdomain_ttl": 60, "query_wait_timeout": 60, "server_connect_timeout": 60})
    for name in ("one", "two", "three", "four"):
        pooler.databases[name] = "host=%s.test port=%d dbname=app" % (name, pg.port)
    pooler.reload()
    nowhere = Attempt(pooler, "app")
    pooler.wait_log("DNS lookup of db.test failed")
    dns.silent = True
    slow = []
    for name in ("one", "two", "three", "four"):  # one after the other: there is always one under way
        slow.append(Attempt(pooler, name))
        wait_until(lambda: dns.count(name + ".test"), 5, "the question")
        time.sleep(0.3)
    with DnsServer() as other:
        for name in ("one", "two", "three", "four", "db"):
            other.answer(name + ".test", [TWO])
        clock = Clock()
        other.resolv_conf(pooler.directory)
        for it in (*slow, nowhere):
            assert server_address(it.outcome()) == TWO
        clock.assert_at(0, 6)
        assert all(other.count(name + ".test") == 1 for name in ("one", "two", "three", "four", "db"))


def test_a_resolv_conf_that_can_not_be_read_yet(make_named, dns):
    dns.answer("db.test", [ONE], ttl=1)
    pooler = make_named()
    pooler.connect().execute("select 1")
    path = os.path.join(pooler.directory, "resolv.conf")
    with DnsServer() as other:
        other.answer("db.test", [TWO], ttl=1)
        os.mkdir(path + ".d")
        fresh = other.resolv_conf(path + ".d")
        os.chmod(fresh, 0)
        os.rename(fresh, path)
        pooler.wait_log("resolv.conf has changed, but can not be used: it can not be read")
        asked = dns.count("db.test")
        wait_until(lambda: dns.count("db.test") > asked, 5, "the name server of before is asked on")
        assert hosts(pooler)["db.test"]["addrs"] == ONE
        os.chmod(path, 0o644)
        wait_until(lambda: hosts(pooler)["db.test"]["addrs"] == TWO, 5, "the other name server's answer")
        assert pooler.log().count("but can not be used") == 1
