"""psycopg 3: typed queries, prepared statements, pipelines with an error, COPY, a cursor on the server."""
import psycopg

with psycopg.connect("", autocommit=True, prepare_threshold=1) as client:
    for number in range(3):
        client.execute("select a, b from cut where a = %s", (number,)).fetchall()
    with client.transaction():
        client.execute("insert into cut values (%s, %s)", (4001, "psycopg"))
        try:
            with client.transaction():
                client.execute("select 1/%s", (0,))
        except psycopg.errors.DivisionByZero:
            pass
    with client.pipeline() as pipeline:
        for number in range(5):
            client.execute("select %s::int", (number,))
        pipeline.sync()
    try:
        with client.pipeline():
            client.execute("select 1/%s", (0,))
            client.execute("select 2")
    except psycopg.errors.DivisionByZero:
        pass
    with client.cursor() as cursor:
        cursor.executemany("insert into cut values (%s, %s)", [(4100 + n, "many") for n in range(4)])
        with cursor.copy("copy cut from stdin") as copy:
            for number in range(10):
                copy.write_row((4200 + number, "copied"))
        with cursor.copy("copy (select a, b from cut where a < 20) to stdout") as copy:
            list(copy.rows())
    with client.transaction(), client.cursor("named") as cursor:
        cursor.execute("select a from cut where a <= 30")
        cursor.fetchmany(10)
        cursor.fetchall()
    client.execute("delete from cut where a > 1000")
