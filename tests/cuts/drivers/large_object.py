"""psycopg2: a transaction by simple queries, and a large object by FunctionCall."""
import psycopg2

client = psycopg2.connect("")
cursor = client.cursor()
cursor.execute("select a, b from cut where a = %s", (7,))
cursor.fetchall()
large = client.lobject(0, "wb", 777777)
large.write(bytes(range(256)) * 4)
oid = large.oid
large.seek(10)
large.close()
client.commit()
large = client.lobject(oid, "rb")
assert len(large.read()) == 1024
large.close()
client.lobject(oid, "wb").unlink()
client.commit()
client.close()
