"""The PostgreSQL protocol over a plain socket, for tests: what libpq would never send, byte by byte, and when.

Written apart from src/wire on purpose: it is the second opinion. Source: PostgreSQL manual, "Message Formats".

    with Wire(("127.0.0.1", 6432)).login("app", "secret", "app") as wire:
        wire.query("select 1").rows                  # [["1"]]
        wire.send(parse("select $1"), bind(["7"]), execute(), sync())
        wire.ready()                                 # messages up to ReadyForQuery
"""
import base64
import functools
import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections import namedtuple

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)


def anything(alpn=("postgresql",), cert=None):
    """A TLS context that checks nothing; cert: a Pair to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if cert:
        context.load_cert_chain(cert.cert, cert.key)
    return context


# ---- building ----

def cstring(text):
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def packet(body):
    """One without a type: startup, cancel."""
    return struct.pack("!i", len(body) + 4) + body


def message(kind, body=b""):
    return kind.encode() + packet(body)


def startup(parameters, protocol=0x30000):
    pairs = b"".join(cstring(name) + cstring(value) for name, value in parameters.items())
    return packet(struct.pack("!I", protocol) + pairs + b"\0")


def cancel_request(pid, secret):
    return packet(struct.pack("!iI", 80877102, pid) + secret)


def query(sql):
    return message("Q", cstring(sql))


def parse(sql, name="", types=()):
    return message("P", cstring(name) + cstring(sql) + struct.pack("!h%dI" % len(types), len(types), *types))


def bind(values=(), statement="", portal=""):
    """Values as text; None is null."""
    body = cstring(portal) + cstring(statement) + struct.pack("!hh", 0, len(values))
    for value in values:
        data = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data
    return message("B", body + struct.pack("!h", 0))


def describe(kind="P", name=""):
    return message("D", kind.encode() + cstring(name))


def execute(portal="", rows=0):
    return message("E", cstring(portal) + struct.pack("!i", rows))


def close(kind, name):
    return message("C", kind.encode() + cstring(name))


def sync():
    return message("S")


def flush():
    return message("H")


def function_call(oid, values):
    body = struct.pack("!Ihhh", oid, 1, 1, len(values))
    for value in values:
        body += struct.pack("!i", len(value)) + value
    return message("F", body + struct.pack("!h", 1))


def extended(sql, values=(), statement=""):
    """Parse, Bind, Describe, Execute: one request without its Sync."""
    return parse(sql, statement) + bind(values, statement) + describe() + execute()


# ---- reading ----

Message = namedtuple("Message", "type body")


def fields_of(body):
    """ErrorResponse or NoticeResponse as {code letter: text}."""
    return {part[:1].decode(): part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}


def row_of(body):
    count, at, values = struct.unpack_from("!h", body)[0], 2, []
    for _ in range(count):
        length = struct.unpack_from("!i", body, at)[0]
        at += 4
        values.append(None if length < 0 else body[at:at + length].decode("utf-8", "replace"))
        at += max(length, 0)
    return values


class Refused(Exception):
    """The other side answered with an error; its fields by letter in `fields`."""

    def __init__(self, fields, messages=()):
        super().__init__("%s %s: %s" % (fields.get("S"), fields.get("C"), fields.get("M")))
        self.fields, self.messages = fields, list(messages)
        self.severity, self.sqlstate, self.text = fields.get("S"), fields.get("C"), fields.get("M")
        self.detail, self.hint = fields.get("D"), fields.get("H")


class Gone(Exception):
    """The other side closed the connection; `messages` came before."""

    def __init__(self, messages=()):
        super().__init__("connection closed after " + "".join(m.type for m in messages))
        self.messages = list(messages)


class Answers(list):
    """Messages up to a ReadyForQuery or a stop."""

    @property
    def types(self):
        return "".join(m.type for m in self)

    @property
    def rows(self):
        return [row_of(m.body) for m in self if m.type == "D"]

    @property
    def tags(self):
        return [m.body[:-1].decode() for m in self if m.type == "C"]

    @property
    def errors(self):
        return [Refused(fields_of(m.body)) for m in self if m.type == "E"]

    @property
    def notices(self):
        return [fields_of(m.body) for m in self if m.type == "N"]

    @property
    def status(self):
        return self[-1].body.decode() if self and self[-1].type == "Z" else None

    @property
    def parameters(self):
        return dict(m.body.decode("utf-8", "replace").split("\0")[:2] for m in self if m.type == "S")


class Wire:
    """One connection. address: (host, port) or the path of a Unix socket."""

    def __init__(self, address, timeout=20):
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.parameters, self.pid, self.secret = {}, None, None
        self.salts = []  # SCRAM salts that were shown at login

    def secure(self, context=None, direct=False):
        """Asks for TLS, unless direct, and shakes hands. Without a context: one that believes everything."""
        if not direct:
            self.send(SSL_REQUEST)
            answer = self.byte()
            if answer != b"S":
                raise Gone(["SSLRequest was answered %r" % answer])
        self.socket = (context or anything()).wrap_socket(self.socket, server_hostname="localhost",
                                                          suppress_ragged_eofs=True)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, *parts):
        """A connection that is closed already is left to read() to tell, for its last words may still be there."""
        try:
            self.socket.sendall(b"".join(parts))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def fill(self):
        data = self.socket.recv(1 << 16)
        self.buffer += data
        return data

    def byte(self):
        """The one byte that answers SSLRequest and GSSENCRequest."""
        if not self.buffer and not self.fill():
            raise Gone()
        return bytes([self.buffer.pop(0)])

    def read(self):
        """The next message; None at the end of the stream. A connection reset counts as the end."""
        try:
            while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack_from("!I", self.buffer, 1)[0]:
                if not self.fill():
                    assert not self.buffer, "the stream ends inside a message: %r" % bytes(self.buffer[:80])
                    return None
        except ConnectionResetError:
            return None
        end = 1 + struct.unpack_from("!I", self.buffer, 1)[0]
        found = Message(chr(self.buffer[0]), bytes(self.buffer[5:end]))
        del self.buffer[:end]
        return found

    def until(self, types):
        """Messages up to one of these types; Gone when the connection ends before."""
        found = Answers()
        while not found or found[-1].type not in types:
            got = self.read()
            if got is None:
                raise Gone(found)
            found.append(got)
        return found

    def ready(self):
        return self.until("Z")

    def query(self, sql):
        """Runs it; raises Refused for the first error, after ReadyForQuery or at the end of the connection."""
        self.send(query(sql))
        try:
            found = self.ready()
        except Gone as gone:
            for error in Answers(gone.messages).errors:
                raise Refused(error.fields, gone.messages) from None
            raise
        if found.errors:
            raise Refused(found.errors[0].fields, found)
        return found

    def value(self, sql):
        return self.query(sql).rows[0][0]

    def refusal(self):
        """The error that ends the connection: reads to the end and returns it as Refused."""
        found = Answers()
        while True:
            got = self.read()
            if got is None:
                break
            found.append(got)
        assert found and found[-1].type == "E", "no last error, but: " + found.types
        return Refused(fields_of(found[-1].body), found)

    # ---- login ----

    def login(self, user, password, database=None, parameters=None, protocol=0x30000):
        """Startup, whatever authentication is asked for, welcome. Raises Refused or Gone."""
        self.send(startup({"user": user, "database": database or user, **(parameters or {})}, protocol))
        self.authenticate(user, password)
        return self

    def authenticate(self, user, password):
        """Answers until ReadyForQuery. What came is in self.welcome."""
        password = (password or "").encode()
        self.welcome, scram = Answers(), None
        while True:
            got = self.read()
            if got is None:
                raise Gone(self.welcome)
            self.welcome.append(got)
            if got.type == "E":
                raise Refused(fields_of(got.body), self.welcome)
            if got.type == "Z":
                return self.welcome
            if got.type == "S":
                name, value = got.body.decode("utf-8", "replace").split("\0")[:2]
                self.parameters[name] = value
            elif got.type == "K":
                self.pid, self.secret = struct.unpack("!I", got.body[:4])[0], got.body[4:]
            elif got.type == "R":
                kind = struct.unpack("!i", got.body[:4])[0]
                if kind == 3:
                    self.send(message("p", cstring(password)))
                elif kind == 5:
                    inner = hashlib.md5(password + user.encode()).hexdigest().encode()
                    self.send(message("p", cstring(b"md5" + hashlib.md5(inner + got.body[4:]).hexdigest().encode())))
                elif kind == 10:
                    assert b"SCRAM-SHA-256\0" in got.body
                    scram = Scram(password)
                    first = scram.first()
                    self.send(message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
                elif kind == 11:
                    self.send(message("p", scram.final(got.body[4:])))
                    self.salts.append(scram.salt)
                elif kind == 12:
                    scram.check(got.body[4:])
                else:
                    assert kind == 0, "authentication %d" % kind

    # ---- endings ----

    def close(self):
        """As libpq: Terminate, then close."""
        try:
            self.socket.sendall(message("X"))
        except OSError:
            pass
        self.socket.close()

    def reset(self):
        """Ends by RST, with nothing said."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def verifier(password, iterations):
    """A SCRAM verifier with a fresh salt, as PostgreSQL stores it."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key, server_key = (hmac.new(salted, name, "sha256").digest() for name in (b"Client Key", b"Server Key"))
    text = [base64.b64encode(it).decode() for it in (salt, hashlib.sha256(client_key).digest(), server_key)]
    return "SCRAM-SHA-256$%d:%s$%s:%s" % (iterations, *text)


@functools.lru_cache(4096)
def pbkdf2(password, salt, iterations):
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


class Scram:
    """Client side of SCRAM-SHA-256 (RFC 5802, RFC 7677). gs2: with "p=tls-server-end-point,,", binding is the hash."""

    def __init__(self, password, gs2="n,,", binding=b""):
        self.password, self.gs2, self.binding = password, gs2, binding
        self.nonce = base64.b64encode(os.urandom(18)).decode()

    def first(self):
        self.bare = "n=,r=" + self.nonce
        return (self.gs2 + self.bare).encode()

    def final(self, server_first):
        server_first = server_first.decode()
        given = dict(part.split("=", 1) for part in server_first.split(","))
        assert given["r"].startswith(self.nonce) and len(given["r"]) > len(self.nonce)
        self.salt = base64.b64decode(given["s"])
        salted = pbkdf2(self.password, self.salt, int(given["i"]))
        hashed = lambda key, text: hmac.new(key, text.encode(), "sha256").digest()  # noqa: E731
        client_key = hashed(salted, "Client Key")
        bound = base64.b64encode(self.gs2.encode() + self.binding).decode()
        without_proof = "c=" + bound + ",r=" + given["r"]
        signed = self.bare + "," + server_first + "," + without_proof
        proof = bytes(a ^ b for a, b in zip(client_key, hashed(hashlib.sha256(client_key).digest(), signed)))
        self.signature = hashed(hashed(salted, "Server Key"), signed)
        return (without_proof + ",p=" + base64.b64encode(proof).decode()).encode()

    def check(self, server_final):
        assert server_final == b"v=" + base64.b64encode(self.signature), "the server's proof is wrong"
