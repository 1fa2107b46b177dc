"""Lists of hosts: in turn, past those that are dead, which are probed again. Three addresses of one PostgreSQL."""
import collections
import socket

import pytest

from pooler import USER, Clock, wait_until
from test_console import console, one, show

ONE, TWO, NOBODY = "127.0.0.1", "127.0.0.2", "127.0.0.99"


def at(pg, hosts, options=""):
    return {"app": "host=%s port=%d %s" % (hosts, pg.port, options)}


def where(wire):
    return wire.value("select host(inet_server_addr())")


def in_transactions(pooler, count):
    """So many servers at once; how many are where."""
    wires = [pooler.wire() for _ in range(count)]
    for wire in wires:
        wire.query("begin")
    return collections.Counter(where(wire) for wire in wires)


@pytest.mark.parametrize("hosts", [(NOBODY, ONE, TWO), (ONE, NOBODY, TWO)], ids=["first", "second"])
def test_one_of_three_is_dead(make_pooler, pg, hosts):
    pooler = make_pooler({"default_pool_size": 12}, databases=at(pg, ",".join(hosts)))
    clock = Clock()
    found = in_transactions(pooler, 12)
    clock.assert_at(0, 3)
    assert set(found) == {ONE, TWO} and min(found.values()) >= 4
    tried = pooler.log().count("server login failed: connect failed")
    assert 1 <= tried <= 3, "it is probed now and then"


def test_stay_on_one_until_it_fails(make_pooler, pg):
    pooler = make_pooler({"default_pool_size": 6}, databases=at(pg, ",".join((NOBODY, TWO, ONE)),
                                                                "load_balance_hosts=disable"))
    assert in_transactions(pooler, 6) == {TWO: 6}


def test_a_silent_host_has_its_share_of_the_time_alone(make_pooler, pg):
    """Its queue is full: nobody answers, nobody refuses."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.77", pg.port))
        silent.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for it in fill:
            it.setblocking(False)
            it.connect_ex(silent.getsockname())
        pooler = make_pooler({"server_connect_timeout": 2}, databases=at(pg, "127.0.0.77," + ONE))
        clock = Clock()
        assert where(pooler.wire()) == ONE
        clock.assert_at(1, 1)
        for it in fill:
            it.close()


def test_a_host_that_comes_back_is_probed(make_pooler, pg):
    """Each transaction opens a server of its own. What listens there hangs up, so the next host serves all the same."""
    pooler = make_pooler({"server_lifetime": 0}, databases=at(pg, "127.0.0.50," + ONE))
    wire = pooler.wire()
    assert [where(wire) for _ in range(4)] == [ONE] * 4
    with socket.create_server(("127.0.0.50", pg.port)) as back:
        back.settimeout(0.05)
        came = []

        def probed():
            assert where(wire) == ONE
            try:
                back.accept()[0].close()
                came.append(1)
            except socket.timeout:
                pass
            return len(came) >= 2
        wait_until(probed, 20, "connections to the host that is back")


def test_a_dead_host_does_not_refuse_logins(make_pooler, pg):
    pooler = make_pooler(databases=at(pg, ",".join((NOBODY, "127.0.0.98", "127.0.0.97", ONE))))
    for _ in range(5):
        assert where(pooler.wire()) == ONE
    assert "server login has been failing" not in pooler.log()


def test_show_databases(make_pooler, pg):
    pooler = make_pooler({"admin_users": USER}, databases={**at(pg, ONE + "," + TWO, "load_balance_hosts=disable"),
                                                           "other": "host=%s port=%d" % (ONE, pg.port)})
    with console(pooler) as wire:
        row = one(show(wire, "DATABASES"), name="app")
        assert (row["host"], row["load_balance_hosts"]) == (ONE + "," + TWO, "disable")
        assert one(show(wire, "DATABASES"), name="other")["load_balance_hosts"] is None
