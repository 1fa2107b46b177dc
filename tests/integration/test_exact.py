"""The main claim under load: pgbench through pgsluice, no errors, balances that agree, and never a server too many.

Beside pgbench, with servers of the same pool, others come and go all the time: they connect, die by RST in the middle of
transactions, and are refused. PGSLUICE_LONG=1 makes the runs longer.
"""
import contextlib
import os
import random
import re
import subprocess
import threading
import time

import pytest

from conftest import Sampler
from pooler import PASSWORD, SLOW, USER
from wire import Gone, Refused, Wire, extended, flush, query, startup

CLIENTS, POOL = 200, 20
SECONDS = 30 if os.environ.get("PGSLUICE_LONG") else 3
SEED = 20261121
BANK = ("(select coalesce(sum(abalance), 0) from pgbench_accounts), (select coalesce(sum(bbalance), 0) from pgbench_branches), "
        "(select coalesce(sum(tbalance), 0) from pgbench_tellers), (select coalesce(sum(delta), 0) from pgbench_history)")


def pgbench(pooler, *arguments):
    """Returns how many transactions; asserts that there was no error of any kind."""
    done = subprocess.run(["pgbench", *arguments], env=pooler.environment(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"(?i)error|aborted|fatal|warning", done.stderr), said
    if "-i" not in arguments:
        assert "number of failed transactions: 0 (" in done.stdout, said
        count = int(re.search(r"transactions actually processed: (\d+)", done.stdout).group(1))
        assert count > 0
        print(" ".join(arguments), count)
        return count


class Trouble:
    """Clients that behave badly, in threads, until the end of the block; their number is in `counts`."""

    def __init__(self, pooler, seed):
        self.pooler, self.stop, self.failures = pooler, threading.Event(), []
        self.counts = {"come and go": 0, "reset": 0, "refused": 0}
        self.threads = [threading.Thread(target=self._run, args=(work, random.Random(seed + number)))
                        for number, work in enumerate((self._come_and_go, self._reset, self._reset, self._refused))]

    def _run(self, work, rng):
        try:
            while not self.stop.is_set():
                work(rng)
                time.sleep(0.003)
        except BaseException as failure:
            self.failures.append(failure)

    def _come_and_go(self, rng):
        with Wire(self.pooler.address) as wire:
            wire.login(USER, PASSWORD, "app")
            number = rng.randrange(10**9)
            assert wire.value("select %d" % number) == str(number)
        self.counts["come and go"] += 1

    def _reset(self, rng):
        wire = Wire(self.pooler.address)
        stage = rng.randrange(6)
        if stage == 0:
            wire.send(startup({"user": USER, "database": "app"}))
        else:
            wire.login(USER, PASSWORD, "app")
        if stage == 1:
            wire.send(query("select pg_sleep(0.05)"))
        elif stage >= 2:
            wire.query("begin")
            wire.query("update pgbench_tellers set tbalance = tbalance + 1000000 where tid = %d" % rng.randrange(1, 11))
            if stage == 3:
                wire.send(query("commit")[:6])
            elif stage == 4:
                wire.send(extended("select repeat('x', 1000000)") + flush())
            elif stage == 5:
                wire.send(query("select pg_sleep(0.02)"))
        time.sleep(rng.random() * 0.01)
        wire.reset()
        self.counts["reset"] += 1

    def _refused(self, rng):
        wrong = rng.choice([("nobody", "x", "app"), (USER, "wrong", "app"), (USER, PASSWORD, "nodb"), ("bob", "bobpassword", "app")])
        with Wire(self.pooler.address) as wire:
            try:
                wire.login(*wrong)
                raise AssertionError("let in: %s" % (wrong,))
            except (Refused, Gone):
                self.counts["refused"] += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures[:3]
        print(self.counts)
        assert min(self.counts.values()) > 5, self.counts


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("trouble", [False, True], ids=["calm", "trouble"])
def test_pgbench(pg, make_pooler, activity, workers, trouble):
    print("seed", SEED)
    pooler = make_pooler({"worker_threads": workers, "default_pool_size": POOL, "max_client_conn": CLIENTS + 50,
                          "query_wait_timeout": 120},
                         users={"bob": "max_user_client_connections=1"})
    occupied = pooler.wire("bob", "bobpassword", "other")  # bob's only place
    seconds = str(SECONDS if not trouble else SECONDS + 1)
    many = ["-n", "-c", str(CLIENTS), "-j", "2", "-T", seconds]
    with Sampler(activity, "datname = 'app'") as seen:
        pgbench(pooler, "-i", "-q", "-s", "10")
        with Trouble(pooler, SEED + workers) if trouble else contextlib.nullcontext():
            transactions = pgbench(pooler, *many)
        if not trouble:
            pgbench(pooler, *many, "-S", "-M", "simple")
            pgbench(pooler, *many, "-S", "-M", "extended")
    assert seen.most <= POOL, "%d servers" % seen.most
    assert seen.most >= POOL - 2 and seen.samples >= (5 if SLOW else 20) * SECONDS
    assert activity.count("state = 'idle in transaction' and datname = 'app'") == 0
    balances = pg.sql("select " + BANK, "app").split("|")
    assert len(set(balances)) == 1, balances
    assert int(pg.sql("select count(*) from pgbench_history", "app")) == transactions
    assert occupied.value("select 1") == "1"
