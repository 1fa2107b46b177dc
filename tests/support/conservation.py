"""Conservation: what the console shows of a pooler is what the system and PostgreSQL show of it, at the end of every test.

One picture is made of SHOW POOLS, CLIENTS, SERVERS, SOCKETS, LISTS, DATABASES and USERS, of the process's sockets (/proc and
sock_diag: what ss reads) and of pg_stat_activity. They are read one after the other, so what is under way may differ for a moment: it is
looked at again until they agree, or until the time is over, which is a failure. The console is entered over the Unix socket
as the process's own system user, whatever the ini says of users. A pooler that cannot be asked is counted, with the reason.

    book = Conservation(activity, pg)
    book.check(pooler)       # asserts
    book.summary()           # "conservation: 300 poolers checked, 2 not: 2 had ended"
"""
import collections
import os
import re
import socket
import struct
import time

import psycopg

from pooler import SLOW
from wire import Gone, Refused, Wire, query

TABLES = ("POOLS", "CLIENTS", "SERVERS", "SOCKETS", "LISTS", "DATABASES", "USERS")
SECONDS = 15 if SLOW else 5
STATES = {"active": "sv_active", "idle": "sv_idle", "used": "sv_used", "tested": "sv_tested", "new": "sv_login",
          "being_canceled": "sv_being_canceled", "closing": "sv_closing"}
ESTABLISHED, TIME_WAIT, CLOSE_WAIT, LISTENING = 1, 6, 8, 10  # linux: include/net/tcp_states.h

Tcp = collections.namedtuple("Tcp", "local local_port remote remote_port state")


# ---- what the system shows ----

class Sockets:
    """Of one process. clients: TCP ones on its listening ports; servers: all other TCP ones; unix_clients: how many
    on its Unix sockets; unix_others: how many others are connected; unnamed: neither connected nor listening."""

    def __init__(self, pid):
        inodes = set()
        for name in os.listdir("/proc/%d/fd" % pid):
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink("/proc/%d/fd/%s" % (pid, name)))
            except OSError:  # closed just now
                continue
            if found:
                inodes.add(found.group(1))
        tcp, known = [], set()
        for inode, it in tcp_sockets(inodes):
            known.add(inode)
            tcp.append(it)
        self.listening = {it.local_port for it in tcp if it.state == LISTENING}
        tcp = [it for it in tcp if it.state != LISTENING]
        self.clients = [it for it in tcp if it.local_port in self.listening]
        self.servers = [it for it in tcp if it.local_port not in self.listening]
        unix = [fields for fields in rows_of(pid, "unix") if fields[6] in inodes]
        known |= {fields[6] for fields in unix}
        streams = [fields for fields in unix if fields[4] == "0001"]
        self.paths = [fields[7] for fields in streams if is_listening(fields)]
        connected = [fields[7] if len(fields) > 7 else "" for fields in streams if not is_listening(fields)]
        self.unix_clients = sum(path in self.paths for path in connected)
        self.unix_others = len(connected) - self.unix_clients
        for table in ("udp", "udp6"):
            known |= {fields[9] for fields in rows_of(pid, table)}
        self.unnamed = len(inodes - known)
        self.helpers = 0  # those that ask PAM and LDAP, each at the end of a pair of sockets
        for thread in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, thread)) as file:
                self.helpers += len(file.read().split())


def rows_of(pid, table):
    with open("/proc/%d/net/%s" % (pid, table)) as file:
        next(file)
        return [line.split() for line in file]


def is_listening(unix):
    return int(unix[3], 16) & 0x10000 != 0  # __SO_ACCEPTCON


def tcp_sockets(inodes):
    """sock_diag(7): (inode, Tcp) of these. /proc/net/tcp would list what is in TIME_WAIT as well, which may be very many."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:  # NETLINK_SOCK_DIAG
        for family in (socket.AF_INET, socket.AF_INET6):
            states = 0xffffffff & ~(1 << TIME_WAIT)
            asked = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 0, 0, states)
            kernel.send(struct.pack("=IHHII", 16 + len(asked), 20, 0x301, 0, 0) + asked)  # REQUEST, DUMP
            going_on = True
            while going_on:
                data, at = kernel.recv(1 << 18), 0
                while at < len(data):
                    length, kind = struct.unpack_from("=IH", data, at)
                    if kind != 20:  # NLMSG_DONE
                        assert kind == 3, "sock_diag answers %d" % kind
                        going_on = False
                        break
                    inode = str(struct.unpack_from("=I", data, at + 84)[0])
                    if inode in inodes:
                        ports = struct.unpack_from("!HH", data, at + 20)
                        size = 4 if family == socket.AF_INET else 16
                        local, remote = (socket.inet_ntop(family, data[of:of + size]) for of in (at + 24, at + 40))
                        yield inode, Tcp(local, ports[0], remote, ports[1], data[at + 17])
                    at += (length + 3) & ~3


# ---- what the console shows ----

class NoWayIn(Exception):
    pass


class Console:
    """A console connection as the user whom the process belongs to; made when it is first asked."""

    def __init__(self, pid):
        self.pid, self.wire = pid, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        if self.wire is not None:
            self.wire.close()
        self.wire = None

    def enter(self):
        paths = Sockets(self.pid).paths
        if not paths:
            raise NoWayIn("listened on no Unix socket")
        path = max(paths, key=lambda path: "/.s.PGSQL." in path)  # first its own, then those it was given
        path = path.replace("@", "\0", 1) if path.startswith("@") else path
        wanted, mine = os.stat("/proc/%d" % self.pid).st_uid, os.geteuid()
        if wanted != mine:  # the socket says who asks for the connection: for a moment it is this user
            os.seteuid(wanted)
        try:
            self.wire = Wire(path)
        finally:
            if wanted != mine:
                os.seteuid(mine)
        self.wire.login("pgbouncer", "", "pgbouncer")

    def tables(self):
        """All at once: the answers come one after the other."""
        if self.wire is None:
            self.enter()
        self.wire.send(*(query("SHOW " + name) for name in TABLES))
        answers = [self.wire.ready() for _ in TABLES]
        for answer in answers:
            if answer.errors:
                raise answer.errors[0]
        return {name: rows(answer) for name, answer in zip(TABLES, answers)}


def rows(answer):
    """Of one SHOW, as dictionaries."""
    described, names, at = next(it.body for it in answer if it.type == "T"), [], 2
    for _ in range(int.from_bytes(described[:2], "big")):
        end = described.index(0, at)
        names.append(described[at:end].decode())
        at = end + 19
    return [dict(zip(names, row)) for row in answer.rows]


# ---- beside each other ----

class Picture:
    """tests_clients: whether those of the test are still there. One that was refused has its socket until it has read why, or
    until 2 s are over, and is no client any more."""

    def __init__(self, console, activity, pg, tests_clients):
        self.tables = console.tables()
        self.sockets = Sockets(console.pid)
        if tests_clients:
            self.sockets.clients = [it for it in self.sockets.clients if it.state in (ESTABLISHED, CLOSE_WAIT)]
        self.backends = activity.rows("select host(client_addr), client_port, pid from pg_stat_activity "
                                      "where client_port is not null and usename <> 'postgres'")
        self.pg = pg
        self.wrong = []
        self.clients()
        self.servers()
        self.links()

    def same(self, what, **values):
        first = next(iter(values.values()))
        if any(value != first for value in values.values()):
            self.wrong.append("%s: %s" % (what, ", ".join("%s %s" % it for it in values.items())))

    def total(self, table, column, of=lambda row: True):
        return sum(int(row[column]) for row in self.tables[table] if of(row))

    def listed(self, name):
        return next(int(row["items"]) for row in self.tables["LISTS"] if row["list"] == name)

    def clients(self):
        shown_sockets = [row for row in self.tables["SOCKETS"] if row["type"] == "C"]
        clients = self.tables["CLIENTS"]
        places = lambda found: sorted((it["addr"], int(it["port"]), it["local_addr"], int(it["local_port"]))  # noqa: E731
                                      for it in found if it["addr"] != "unix")
        self.same("TCP clients", proc=sorted((it.remote, it.remote_port, it.local, it.local_port)
                                             for it in self.sockets.clients), SOCKETS=places(shown_sockets))
        self.same("clients on Unix sockets", proc=self.sockets.unix_clients,
                  SOCKETS=sum(row["addr"] == "unix" for row in shown_sockets))
        used, login = self.listed("used_clients"), self.listed("login_clients")
        self.same("all clients", SOCKETS=len(shown_sockets), LISTS_used_clients=used)
        cancels = sum(row["state"].endswith("cancel_req") for row in clients)
        self.same("cancels", CLIENTS=cancels, POOLS=self.total("POOLS", "cl_active_cancel_req") +
                  self.total("POOLS", "cl_waiting_cancel_req"))
        self.same("logged in", CLIENTS=len(clients) - cancels, LISTS=used - login - cancels,
                  POOLS=self.total("POOLS", "cl_active") + self.total("POOLS", "cl_waiting"),
                  DATABASES=self.total("DATABASES", "current_client_connections"))
        is_console = lambda row: row["database"] in ("pgbouncer", "pgsluice")  # noqa: E731
        self.same("of users", CLIENTS=len(clients) - cancels - sum(map(is_console, clients)),
                  USERS=self.total("USERS", "current_client_connections"))
        by_database = collections.Counter("pgbouncer" if is_console(row) else row["database"] for row in clients
                                          if not row["state"].endswith("cancel_req"))
        waiting = collections.Counter(row["database"] for row in clients if row["state"] == "waiting")
        for name in by_database | collections.Counter(row["database"] for row in self.tables["POOLS"]):
            of = lambda row: row["database"] == name  # noqa: B023,E731
            self.same("clients of " + name, CLIENTS=(by_database[name], waiting[name]),
                      POOLS=(self.total("POOLS", "cl_active", of) + self.total("POOLS", "cl_waiting", of),
                             self.total("POOLS", "cl_waiting", of)))

    def servers(self):
        servers = self.tables["SERVERS"]
        place_of = lambda row: (row["local_addr"], int(row["local_port"]), row["addr"], int(row["port"]))  # noqa: E731
        self.same("TCP servers", proc=sorted((it.local, it.local_port, it.remote, it.remote_port)
                                             for it in self.sockets.servers),
                  SERVERS=sorted(place_of(row) for row in servers if row["addr"] != "unix"))
        on_unix = [row for row in servers if row["addr"] == "unix"]
        self.same("servers on Unix sockets", proc=self.sockets.unix_others - self.sockets.helpers, SERVERS=len(on_unix))
        self.same("all servers", SERVERS=len(servers), LISTS_used_servers=self.listed("used_servers"),
                  SOCKETS=sum(row["type"] == "S" for row in self.tables["SOCKETS"]),
                  DATABASES=self.total("DATABASES", "current_connections"),
                  USERS=self.total("USERS", "current_connections"),
                  POOLS=sum(self.total("POOLS", column) for column in STATES.values()))
        states = collections.Counter((row["database"], row["user"], STATES[row["state"]]) for row in servers)
        pools = collections.Counter({(row["database"], row["user"], column): int(row[column])
                                     for row in self.tables["POOLS"] for column in STATES.values()})
        self.same("servers by state", SERVERS=sorted((+states).items()), POOLS=sorted((+pools).items()))
        # PostgreSQL's own pids, of those that have one and are at this PostgreSQL.
        ours = {place_of(row)[:2]: int(row["remote_pid"]) for row in servers
                if row["addr"] != "unix" and int(row["port"]) == self.pg.port and row["remote_pid"] != "0"}
        without = {place_of(row)[:2] for row in servers if row["remote_pid"] == "0"}
        ports = {(it.local, it.local_port) for it in self.sockets.servers if it.remote_port == self.pg.port} - without
        self.same("process ids", SERVERS=sorted(ours.items()), pg_stat_activity=sorted(
            ((address, port), pid) for address, port, pid in self.backends if (address, port) in ports))
        here = sum(int(row["remote_pid"]) == self.pg.process.pid for row in on_unix)
        there = sum(port == -1 for _, port, _ in self.backends)
        if here > there:
            self.wrong.append("by Unix socket: %d servers, %d in pg_stat_activity" % (here, there))
        if self.sockets.unnamed:
            self.wrong.append("%d sockets of the process are not connected" % self.sockets.unnamed)

    def links(self):
        linked = lambda name, first, second: sorted((row[first], row[second])  # noqa: E731
                                                    for row in self.tables[name] if row["link"])
        self.same("links", CLIENTS=linked("CLIENTS", "ptr", "link"), SERVERS=linked("SERVERS", "link", "ptr"))


class Conservation:
    def __init__(self, activity, pg):
        self.activity, self.pg = activity, pg
        self.checked, self.not_checked, self.seconds = 0, collections.Counter(), 0.0

    def check(self, pooler):
        """Twice: as the test has left it, and when the test's clients have gone."""
        began = time.monotonic()
        try:
            reason = self.why_not(pooler)
            if not reason:
                with Console(pooler.process.pid) as console:
                    reason = self.settle(pooler, console, True)
                    if not reason:
                        pooler.close_clients()
                        reason = self.settle(pooler, console, False)
            if reason:
                self.not_checked[reason] += 1
            else:
                self.checked += 1
        finally:
            self.seconds += time.monotonic() - began

    @staticmethod
    def why_not(pooler):
        if pooler.process is None:
            return "had not been started"
        if pooler.process.poll() is not None:
            return "had ended"
        return None

    def settle(self, pooler, console, tests_clients):
        """Looks until all agree; a reason, if it cannot be looked at."""
        give_up, last = time.monotonic() + SECONDS, None
        while time.monotonic() < give_up:
            try:
                last = Picture(console, self.activity, self.pg, tests_clients)
                if not last.wrong:
                    return None
            except (Gone, OSError, psycopg.OperationalError) as problem:
                if pooler.process.poll() is not None:
                    return "ended by itself after the test"
                console.leave()
                last = last or str(problem)
            except (Refused, NoWayIn) as no:
                return str(no)
            time.sleep(0.01)
        assert not isinstance(last, str), "the console could not be asked: " + last
        assert False, "conservation:\n  %s\n%s" % ("\n  ".join(last.wrong), dump(last))

    def summary(self):
        others = ", ".join("%d %s" % (count, reason) for reason, count in self.not_checked.most_common())
        return "conservation: %d poolers checked, %d not%s (%.1f s)" % (
            self.checked, sum(self.not_checked.values()), ": " + others if others else "", self.seconds)


def dump(picture):
    lines = []
    for name in ("LISTS", "POOLS", "CLIENTS", "SERVERS", "SOCKETS"):
        lines += ["SHOW " + name] + ["  " + " ".join("%s=%s" % it for it in row.items() if it[1] not in (None, "", "0"))
                                     for row in picture.tables[name]]
    return "\n".join(lines)[:20000]
