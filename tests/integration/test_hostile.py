"""Hostile input around logins, by the real program: SCRAM with attributes missing, doubled, reordered, overlong, in bad
base64, and nonces that are not extended, from clients and from servers; encryption asked for very often. Each message is
signed as it stands, so that nothing but its form is wrong. Who may log in: tests/logins; TLS: test_tls.py."""
import base64
import hashlib
import hmac
import os
import socket
import struct
import time

import pytest

from pooler import PASSWORD, SLOW, USER, wait_until
from wire import GSSENC_REQUEST, SSL_REQUEST, Gone, Refused, Wire, cstring, message, pbkdf2, startup

LONG = os.environ.get("PGSLUICE_LONG", "0") not in ("", "0")


def hashed(key, text):
    return hmac.new(key, text if isinstance(text, bytes) else text.encode("latin-1"), "sha256").digest()


def b64(data):
    return base64.b64encode(data).decode()


# ---- clients ----

def converse(pooler, first, last, mechanism="SCRAM-SHA-256", length=None):
    """Both messages as the functions make them; the right proof for whatever they are. "in", or what the refusal was.
    first(nonce) -> whole client-first. last(c, r, sign) -> whole client-final; sign(without_proof) -> the proof."""
    nonce = b64(os.urandom(18))
    with Wire(pooler.address, timeout=10) as wire:
        try:
            wire.send(startup({"user": USER, "database": "app"}))
            assert wire.read().body[:4] == b"\0\0\0\x0a"
            said = first(nonce)
            data = said.encode("latin-1")
            wire.send(message("p", cstring(mechanism) + struct.pack("!i", len(data) if length is None else length) + data))
            answer = wire.until("RE")[-1]
            if answer.type == "E":
                return wire_refusal(answer, wire)
            server_first = answer.body[4:].decode()
            given = dict(part.split("=", 1) for part in server_first.split(","))
            salted = pbkdf2(PASSWORD.encode(), base64.b64decode(given["s"]), int(given["i"]))
            key = hashed(salted, "Client Key")
            bare = said[3:] if said[1:3] == ",," else said.split(",", 2)[-1]

            def sign(without_proof):
                signed = hashed(hashlib.sha256(key).digest(), "%s,%s,%s" % (bare, server_first, without_proof))
                return b64(bytes(a ^ b for a, b in zip(key, signed)))
            wire.send(message("p", last(b64(said[:3].encode()), given["r"], sign).encode("latin-1")))
            answer = wire.until("RE")[-1]
            if answer.type == "E":
                return wire_refusal(answer, wire)
            wire.until("Z")
            return "in"
        except Gone as gone:
            return "closed after " + "".join(it.type for it in gone.messages)


def wire_refusal(answer, wire):
    assert wire.read() is None, "the connection goes on after FATAL"
    fields = dict((part[:1].decode(), part[1:].decode()) for part in answer.body.split(b"\0") if part)
    return fields["C"], fields["M"]


def honest_first(nonce):
    return "n,,n=,r=" + nonce


def honest_last(c, r, sign):
    text = "c=%s,r=%s" % (c, r)
    return text + ",p=" + sign(text)


def with_text(make):
    """A client-final whose part before the proof is made by make(c, r); its proof is right for that."""
    return lambda c, r, sign: make(c, r) + ",p=" + sign(make(c, r))


def at_end(change):
    return lambda c, r, sign: change(honest_last(c, r, sign))


FIRST = {
    "nothing": lambda n: "",
    "no header": lambda n: "n=,r=" + n,
    "half a header": lambda n: "n,n=,r=" + n,
    "a flag that is none": lambda n: "x,,n=,r=" + n,
    "binding without TLS": lambda n: "p=tls-server-end-point,,n=,r=" + n,
    "another's authority": lambda n: "n,a=bob,n=,r=" + n,
    "no name": lambda n: "n,,r=" + n,
    "no nonce": lambda n: "n,,n=",
    "an empty nonce": lambda n: "n,,n=,r=",
    "a nonce with a blank": lambda n: "n,,n=,r=a b" + n,
    "a nonce of other letters": lambda n: "n,,n=,r=\xe4" + n,
    "a NUL in the nonce": lambda n: "n,,n=,r=a\0" + n,
    "two names": lambda n: "n,,n=,n=,r=" + n,
    "two nonces": lambda n: "n,,n=,r=%s,r=%s" % (n, n),
    "reordered": lambda n: "n,,r=%s,n=" % n,
    "a mandatory extension": lambda n: "n,,m=x,n=,r=" + n,
    "a mandatory extension behind": lambda n: "n,,n=,r=%s,m=x" % n,
    "a comma at the end": lambda n: "n,,n=,r=%s," % n,
    "overlong": lambda n: "n,,n=,r=" + n * 200,
}
LAST = {
    "nothing": lambda c, r, sign: "",
    "no binding": with_text(lambda c, r: "r=" + r),
    "no nonce": with_text(lambda c, r: "c=" + c),
    "no proof": lambda c, r, sign: "c=%s,r=%s" % (c, r),
    "an empty proof": lambda c, r, sign: "c=%s,r=%s,p=" % (c, r),
    "two bindings": with_text(lambda c, r: "c=%s,c=%s,r=%s" % (c, c, r)),
    "two nonces": with_text(lambda c, r: "c=%s,r=%s,r=%s" % (c, r, r)),
    "two proofs": lambda c, r, sign: honest_last(c, r, sign) + ",p=" + sign("c=%s,r=%s" % (c, r)),
    "reordered": with_text(lambda c, r: "r=%s,c=%s" % (r, c)),
    "proof first": lambda c, r, sign: "p=%s,c=%s,r=%s" % (sign("c=%s,r=%s" % (c, r)), c, r),
    "binding in bad base64": with_text(lambda c, r: "c=%s!,r=%s" % (c[:-1], r)),
    "another binding": with_text(lambda c, r: "c=%s,r=%s" % (b64(b"y,,"), r)),
    "the nonce of the client alone": with_text(lambda c, r: "c=%s,r=%s" % (c, r[:24])),
    "a shorter nonce": with_text(lambda c, r: "c=%s,r=%s" % (c, r[:-1])),
    "a longer nonce": with_text(lambda c, r: "c=%s,r=%sx" % (c, r)),
    "a mandatory extension": with_text(lambda c, r: "c=%s,r=%s,m=x" % (c, r)),
    "proof in bad base64": at_end(lambda text: text[:-4] + "!!!="),
    "proof without its padding": at_end(lambda text: text[:-1]),
    "a short proof": at_end(lambda text: text.rsplit("=", 2)[0][:-44] + "=" + b64(b"x" * 31)),
    "a long proof": lambda c, r, sign: "c=%s,r=%s,p=%s" % (c, r, b64(base64.b64decode(sign("c=%s,r=%s" % (c, r))) + b"x")),
    "one bit of the proof": lambda c, r, sign: "c=%s,r=%s,p=%s" % (
        c, r, b64(bytes([base64.b64decode(sign("c=%s,r=%s" % (c, r)))[0] ^ 1]) +
                  base64.b64decode(sign("c=%s,r=%s" % (c, r)))[1:])),
    "an extension behind": at_end(lambda text: text + ",x=y"),
    "a NUL behind": at_end(lambda text: text + "\0"),
    "overlong": with_text(lambda c, r: "c=%s,r=%s,x=%s" % (c, r, "y" * 5000)),
}
SASL = ("28P01", "SASL authentication failed")


@pytest.mark.parametrize("form", ["plain", "scram"])
def test_scram_of_clients(pg, make_pooler, form):
    pooler = make_pooler(auth={USER: PASSWORD if form == "plain" else pg.verifier(USER)})
    assert converse(pooler, honest_first, honest_last) == "in"
    assert converse(pooler, honest_first, with_text(lambda c, r: "c=%s,r=%s,x=y" % (c, r))) == "in", "is to be ignored"
    for name, first in FIRST.items():
        assert converse(pooler, first, honest_last) == SASL, name
    for name, last in LAST.items():
        assert converse(pooler, honest_first, last) == SASL, name
    for mechanism in ("SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS", "", "x" * 1000):
        assert converse(pooler, honest_first, honest_last, mechanism) == \
            ("08P01", "client selected an invalid SASL authentication mechanism"), mechanism
    for length in (-1, 0, 5, 1000, 2**31 - 1, -2**31):
        assert converse(pooler, honest_first, honest_last, length=length) == ("08P01", "bad packet"), length
    assert converse(pooler, honest_first, honest_last) == "in"


# ---- servers ----

def parameters(nonce="r=%(nonce)sextended", salt="s=%(salt)s", count="i=4096"):
    return ",".join(part for part in (nonce, salt, count) if part)


SERVER_FIRST = {
    "nothing": "",
    "no nonce": parameters(nonce=""),
    "no salt": parameters(salt=""),
    "no count": parameters(count=""),
    "a nonce that is not extended": parameters(nonce="r=%(nonce)s"),
    "a shorter nonce": parameters(nonce="r=abc"),
    "another nonce": parameters(nonce="r=xx%(nonce)s"),
    "an empty nonce": parameters(nonce="r="),
    "two nonces": parameters(nonce="r=%(nonce)sextended,r=%(nonce)sextended"),
    "two salts": parameters(salt="s=%(salt)s,s=%(salt)s"),
    "two counts": parameters(count="i=4096,i=4096"),
    "reordered": "s=%(salt)s,r=%(nonce)sextended,i=4096",
    "count first": "i=4096,r=%(nonce)sextended,s=%(salt)s",
    "an empty salt": parameters(salt="s="),
    "a salt in bad base64": parameters(salt="s=!!!!"),
    "a salt without its padding": parameters(salt="s=AAA"),
    "no iterations": parameters(count="i=0"),
    "one iteration": parameters(count="i=1"),
    "4095 iterations": parameters(count="i=4095"),
    "2^31-1 iterations": parameters(count="i=2147483647"),
    "2^31 iterations": parameters(count="i=2147483648"),
    "2^64 iterations": parameters(count="i=18446744073709551616"),
    "a negative count": parameters(count="i=-1"),
    "a count with a sign": parameters(count="i=+4096"),
    "a count with a zero before": parameters(count="i=04096"),
    "a count with letters behind": parameters(count="i=4096x"),
    "a mandatory extension": "m=x," + parameters(),
    "an error": "e=other-error",
    "overlong": parameters(nonce="r=%(nonce)s" + "x" * 5000),
    "a message of 100000 bytes": parameters(nonce="r=%(nonce)s" + "x" * 100000),
}
SERVER_FINAL = {
    "nothing": lambda v: "",
    "no proof": lambda v: "x=y",
    "an empty proof": lambda v: "v=",
    "a wrong proof": lambda v: "v=" + b64(b"x" * 32),
    "a short proof": lambda v: "v=" + b64(v[:31]),
    "a long proof": lambda v: "v=" + b64(v + b"x"),
    "bad base64": lambda v: "v=" + b64(v)[:-4] + "!!!=",
    "two proofs": lambda v: "v=%s,v=%s" % (b64(v), b64(v)),
    "reordered": lambda v: "x=y,v=" + b64(v),
    "an error": lambda v: "e=invalid-proof",
    "an error and a proof": lambda v: "e=invalid-proof,v=" + b64(v),
    "overlong": lambda v: "v=%s,x=%s" % (b64(v), "y" * 5000),
    "no final message at all": None,
}
OK = message("R", struct.pack("!i", 0)) + message("K", struct.pack("!ii", 1, 2)) + message("Z", b"I")


def exactly(connection, count):
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise OSError("closed")
        found += more
    return found


def hear(connection):
    """The body of one message with a type."""
    return exactly(connection, struct.unpack("!i", exactly(connection, 5)[1:])[0] - 4)


def pretend(first=parameters(), final=lambda v: "v=" + b64(v)):
    """A server that knows the password, and says these two messages."""
    def behave(connection):
        exactly(connection, struct.unpack("!i", exactly(connection, 4))[0] - 4)
        connection.sendall(message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
        client_first = hear(connection)[len("SCRAM-SHA-256") + 5:].decode()
        bare = client_first[3:]
        salt = b"0123456789abcdef"
        said = first % {"nonce": bare.split("r=")[1], "salt": b64(salt)}
        connection.sendall(message("R", struct.pack("!i", 11) + said.encode()))
        client_final = hear(connection).decode()
        signed = "%s,%s,%s" % (bare, said, client_final.rsplit(",p=", 1)[0])
        proof = hashed(hashed(pbkdf2(PASSWORD.encode(), salt, 4096), "Server Key"), signed)
        if final:
            connection.sendall(message("R", struct.pack("!i", 12) + final(proof).encode()))
        connection.sendall(OK)
    return behave


def login_through(make_pooler, server):
    """What becomes of a client of a pooler before this server, and the seconds it took."""
    pooler = make_pooler({"server_login_retry": 30, "client_login_timeout": 10, "server_tls_sslmode": "disable"},
                         databases={"app": "host=127.0.0.1 port=%d" % server.port})
    began = time.monotonic()
    try:
        with Wire(pooler.address, timeout=20) as wire:
            wire.login(USER, PASSWORD, "app")
        outcome = "in"
    except Refused as no:
        outcome = no.sqlstate
    took = time.monotonic() - began
    pooler.kill()  # its end is no part of this
    pooler.process = None
    return outcome, took


def test_an_honest_server_that_is_none(make_pooler, listen):
    assert login_through(make_pooler, listen(pretend()))[0] == "in"
    assert login_through(make_pooler, listen(pretend(parameters() + ",x=y")))[0] == "in", "is to be ignored"


@pytest.mark.parametrize("name", SERVER_FIRST)
def test_first_message_of_servers(make_pooler, listen, name):
    outcome, took = login_through(make_pooler, listen(pretend(SERVER_FIRST[name])))
    assert outcome == "28P01" and took < (15 if SLOW else 5)


@pytest.mark.parametrize("name", SERVER_FINAL)
def test_last_message_of_servers(make_pooler, listen, name):
    outcome, took = login_through(make_pooler, listen(pretend(final=SERVER_FINAL[name])))
    assert outcome == "28P01" and took < (15 if SLOW else 5)


# ---- very often ----

def memory_and_files(pooler):
    wait_until(lambda: pooler.open_files() < 60, 20, "the descriptors given back")
    return pooler.memory(), pooler.open_files()


@pytest.mark.parametrize("asked", [[SSL_REQUEST], [GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST], [SSL_REQUEST, SSL_REQUEST],
                                   [GSSENC_REQUEST, GSSENC_REQUEST]],
                         ids=["ssl", "gssenc", "both", "ssl twice", "gssenc twice"])
def test_encryption_asked_for_very_often(make_pooler, asked):
    pooler = make_pooler({"max_client_conn": 1000, "log_connections": 0, "log_disconnections": 0, "log_pooler_errors": 0})
    count = (100_000 if asked == [SSL_REQUEST] else 20_000) if LONG else 2000

    def run(times):
        for number in range(times):
            with socket.create_connection(pooler.address, 10) as connection:
                for at, request in enumerate(asked):
                    connection.sendall(request)
                    answer = connection.recv(1000)
                    assert answer[:1] == (b"E" if request in asked[:at] else b"N"), answer
    run(500)
    memory, files = memory_and_files(pooler)
    run(count)
    after, files_after = memory_and_files(pooler)
    print("%d connections: RSS %d kB before, %d kB after; %d and %d files" % (count, memory, after, files, files_after))
    assert files_after <= files + 2
    assert SLOW or after < memory * 1.05 + 1024
    assert pooler.wire().value("select 1") == "1"
