#!/usr/bin/env python3
"""Records conversations of real drivers with a PostgreSQL of its own, as inputs of the fuzz targets.

record.py FOLDER writes FOLDER/client_bytes/* (what the driver said after its startup packet) and FOLDER/server_bytes/*
(what PostgreSQL answered, with the driver's words as the script). `scripts/fuzz --merge` takes what is new from
build/fuzz/corpus. Drivers: psql, pgbench in its three modes, psycopg 3 and its pipeline, psycopg2, asyncpg when it is
there. Only conversations of up to 4096 bytes are kept, since longer inputs slow the fuzzer more than they teach it.
"""
import asyncio
import os
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from pg import Postgres, free_port  # noqa: E402

MOST_BYTES = 4096


class Recorder:
    """A proxy for one connection after the other, which keeps both streams."""

    def __init__(self, pg):
        self.pg = pg
        self.port = free_port()
        self.talks = []  # (client's bytes, server's bytes), from the first request on
        self.over = threading.Event()  # no connection is being relayed
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.over.clear()
            self.relay(client)
            self.over.set()

    def relay(self, client):
        server = socket.socket(socket.AF_UNIX)
        server.connect(os.path.join(self.pg.socket_directory, ".s.PGSQL.%d" % self.pg.port))
        streams = [bytearray(), bytearray()]

        def copy(source, target, stream):
            while True:
                try:
                    part = source.recv(65536)
                except OSError:
                    part = b""
                if not part:
                    break
                stream += part
                target.sendall(part)
            try:
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        back = threading.Thread(target=copy, args=(server, client, streams[1]))
        back.start()
        copy(client, server, streams[0])
        back.join()
        client.close()
        server.close()
        self.keep(*map(bytes, streams))

    def keep(self, client, server):
        while client[4:8] in (struct.pack("!I", 80877103), struct.pack("!I", 80877104)):  # SSLRequest, GSSENCRequest
            client, server = client[8:], server[1:]
        if client[4:8] == struct.pack("!I", 80877102):
            return  # a cancel
        client = client[struct.unpack("!I", client[:4])[0]:]
        at = 0
        while server[at:at + 1] != b"Z":
            at += 1 + struct.unpack("!I", server[at + 1:at + 5])[0]
        self.talks.append((client, server[at + 6:]))


def drivers(port):
    """Name and what to run, one connection or a few each."""
    url = "host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable" % port
    environment = dict(os.environ, PGOPTIONS="", PGAPPNAME="")

    def psql(*commands):
        arguments = [word for command in commands for word in ("-c", command)]
        subprocess.run(["psql", "-X", "-q", url] + arguments, env=environment, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, input=b"1\n2\n")

    def pgbench(mode):
        script = "/dev/stdin"
        subprocess.run(["pgbench", "-n", "-c", "1", "-t", "3", "-M", mode, "-f", script, url], env=environment,
                       input=b"begin;\nselect 1;\nselect 2;\ncommit;\n", stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    yield "psql", lambda: psql("select 1", "begin", "select 1/0", "rollback")
    yield "psql_many", lambda: psql("select 1; select 2; select 1/0; select 3", "")
    yield "psql_copy", lambda: psql("create temp table t (a int)", "copy t from stdin", "copy t to stdout")
    yield "psql_notice", lambda: psql("do $$begin raise notice 'x'; end$$", "listen c", "notify c", "set timezone = utc")
    for mode in ("simple", "extended", "prepared"):
        yield "pgbench_" + mode, lambda mode=mode: pgbench(mode)

    import psycopg

    def psycopg3():
        with psycopg.connect(url, prepare_threshold=0) as connection:
            for i in range(3):
                connection.execute("select %s", (i,)).fetchall()
            try:
                connection.execute("select %s / 0", (1,))
            except psycopg.Error:
                connection.rollback()
            with connection.cursor() as cursor, cursor.copy("copy (select 1) to stdout") as copy:
                list(copy)
            connection.execute("deallocate all")

    def pipeline():
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
            try:
                with connection.pipeline():
                    for i in range(3):
                        connection.execute("select %s", (i,))
                    connection.execute("select 1 / 0")
                    connection.execute("select 2")
            except psycopg.Error:
                pass

    def pipeline_synced():
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
            with connection.pipeline() as pipe:
                connection.execute("select 1")
                pipe.sync()
                connection.execute("select 2")

    def server_cursor():
        with psycopg.connect(url) as connection, connection.cursor("named") as cursor:
            cursor.execute("select generate_series(1, 5)")
            cursor.fetchmany(2)
            cursor.fetchall()

    yield "psycopg3", psycopg3
    yield "psycopg3_pipeline", pipeline
    yield "psycopg3_synced", pipeline_synced
    yield "psycopg3_cursor", server_cursor

    import psycopg2

    def old():
        connection = psycopg2.connect(url)
        cursor = connection.cursor()
        cursor.execute("select %s", (1,))
        connection.commit()
        connection.close()

    yield "psycopg2", old

    try:
        import asyncpg
    except ImportError:
        return

    async def asynchronous():
        connection = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database="postgres", ssl=False)
        for i in range(2):
            await connection.fetch("select $1::int", i)
        async with connection.transaction():
            async for _ in connection.cursor("select generate_series(1, 3)", prefetch=2):
                pass
        try:
            await connection.fetch("select $1::int / 0", 1)
        except asyncpg.PostgresError:
            pass
        await connection.executemany("select $1::int", [(1,), (2,)])
        await connection.close()

    yield "asyncpg", lambda: asyncio.run(asynchronous())


def write(folder, target, name, data):
    os.makedirs(os.path.join(folder, target), exist_ok=True)
    with open(os.path.join(folder, target, name), "wb") as file:
        file.write(data)


def main(folder):
    with Postgres() as pg:
        recorder = Recorder(pg)
        for name, run in drivers(recorder.port):
            before = len(recorder.talks)
            run()
            time.sleep(0.2)  # what the driver has closed by now is accepted by now
            recorder.over.wait(10)
            kept = 0
            for i, (client, server) in enumerate(recorder.talks[before:]):
                if not client or len(client) + len(server) > MOST_BYTES:
                    continue
                kept += 1
                for cuts in (1, 3):
                    write(folder, "client_bytes", "%s_%d_%d" % (name, i, cuts), bytes((0, cuts)) + client)
                    write(folder, "server_bytes", "%s_%d_%d" % (name, i, cuts),
                          bytes((0, 255, cuts - 1)) + struct.pack("!H", len(client)) + client + server)
            print("%s: %d conversations, %d kept" % (name, len(recorder.talks) - before, kept))
        recorder.listener.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
