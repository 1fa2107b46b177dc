"""Who gets in and who does not: the specification that every cell of the matrix is held to. It knows no sockets.

Sources: PgBouncer's documentation of auth_type (which stored form serves which type: plain serves all; md5 serves md5 and
plain; SCRAM serves scram-sha-256, md5, which then asks for SCRAM, and plain), of auth_query (a NULL secret matches
nothing), of any (needs a forced user) and of the client_tls_sslmode; RFC 5802 sections 6 and 7 (channel binding);
PostgreSQL's manual, "Password Authentication", for what a server asks for.
"""
from collections import namedtuple

# ---- outcomes: SQLSTATE and text ----

IN = "in"
LEFT = "left"            # the client was asked for what it does not do, and went
HANDSHAKE = "handshake"  # TLS did not come about
PASSWORD = ("28P01", "password authentication failed")
EMPTY = ("28P01", "empty password returned by client")
TOO_LONG = ("08P01", "password too long")
SASL = ("28P01", "SASL authentication failed")
MECHANISM = ("08P01", "client selected an invalid SASL authentication mechanism")
PACKET = ("08P01", "bad packet")
TRUST = ("28000", '"trust" authentication failed')
CERT = ("28000", "certificate authentication failed")
LINE = ("28000", "login rejected")
SSL = ("08P01", "SSL required")
NOT_FORCED = ("28000", "bouncer config error")
# The server's word, and ours where what is stored can not answer it.
SERVER = ("28P01", 'password authentication failed for user "%s"')
WRONG_TYPE = ("28P01", "server login failed: wrong password type")

# ---- people ----

# stored: what the pooler has of a person, in auth_file or by auth_query. known: whether it has anything at all.
# server: in which form the server has the password. same: whether the two are of one password (for SCRAM: one verifier).
Person = namedtuple("Person", "stored server same long", defaults=(True, False))
PEOPLE = {
    "plain":       Person("plain", "scram"),
    "plain_md5":   Person("plain", "md5"),
    "md5":         Person("md5", "md5"),
    "md5_scram":   Person("md5", "scram"),
    "scram":       Person("scram", "scram"),
    "scram_md5":   Person("scram", "md5", False),    # the server has but an md5 hash
    "twin":        Person("scram", "scram", False),  # the same password, but another salt than the server's
    "stale":       Person("plain", "scram", False),  # another password than the server's
    "empty":       Person("empty", "scram", False),
    "expired":     Person("plain", "scram", False),  # VALID UNTIL is over; by auth_query its secret is NULL
    "absent":      Person("absent", "scram"),        # the server knows it, the pooler does not
    "nobody":      Person("absent", None),
    "long_plain":  Person("plain", "scram", long=True),
    "long_md5":    Person("md5", "md5", long=True),
    "long_scram":  Person("scram", "scram", long=True),
}
SOURCES = ["file", "query"]


def stored(cell):
    """What the pooler has of the cell's person."""
    if cell.person == "expired" and cell.source == "query":
        return "empty"
    return PEOPLE[cell.person].stored


# ---- what a client is asked for ----

EITHER = "md5 or sasl"
FORMS = ["plain", "md5", "scram", "empty", "absent"]
ASKED = {
    #                 stored: plain    md5      SCRAM    empty    absent
    "any":                   [IN] * 5,
    "trust":                 [IN,      IN,      IN,      IN,      TRUST],
    "plain":                 ["clear"] * 5,
    "md5":                   ["md5",   "md5",   "sasl",  "md5",   EITHER],
    "md5, by query":         ["md5",   "md5",   "sasl",  EITHER,  EITHER],
    "scram-sha-256":         ["sasl"] * 5,
    "cert":                  [IN,      IN,      IN,      IN,      CERT],
    "reject":                [LINE] * 5,
}
HBA_METHOD = {"hba trust": "trust", "hba password": "plain", "hba md5": "md5", "hba scram-sha-256": "scram-sha-256",
              "hba cert": "cert", "hba reject": "reject", "hba clientcert": "scram-sha-256"}


def asked(cell):
    """One of SERVES, or EITHER: who is not there is taken for one of those who are, by its name."""
    how = HBA_METHOD.get(cell.auth_type, cell.auth_type)
    form = stored(cell)
    # One that auth_file does not know, or knows nothing good of, looks like one of those that auth_query finds.
    if how == "md5" and (cell.source == "query" or (form == "absent" and cell.may_query)):
        how = "md5, by query"
    return ASKED[how][FORMS.index(form)]


# ---- TLS ----

TLS = ["none", "tls", "own", "other", "stranger"]  # the certificate: its own name's, another's, of an unknown CA


def before_login(cell):
    """What ends the connection before anybody is asked anything, or None."""
    if cell.tls == "none":
        return SSL if cell.sslmode in ("require", "verify-full") else None
    if cell.sslmode == "verify-full" and cell.tls in ("tls", "stranger"):
        return HANDSHAKE
    if cell.auth_type in ("cert", "hba cert", "hba clientcert") and cell.tls != "own":
        return CERT
    return None


# ---- what a client answers ----

METHODS = ["none", "clear", "md5", "scram", "unbound", "plus"]  # unbound: could bind, but saw no offer to (gs2 flag y)
PASSWORDS = ["right", "wrong", "empty", "long", "overlong", "old"]  # long: 65 535 bytes; old: good before it was changed
SERVES = {"clear": {"plain", "md5", "scram"}, "md5": {"plain", "md5"}, "sasl": {"plain", "scram"}}


def answered(cell, question):
    """What becomes of a client that is asked for `question` and does what it does, fitting or not."""
    scram = cell.method in ("scram", "unbound", "plus")
    if cell.method == "none":
        return LEFT
    right = cell.password == "right" and stored(cell) in SERVES[question]
    if question == "sasl":
        if not scram:  # a password where a mechanism should be named; one that is longer than any SASL message is not read
            return SASL if cell.method == "clear" and length(cell) > 4000 else PACKET
        if cell.method == "plus" and cell.tls == "none":
            return MECHANISM
        if cell.method == "unbound" and cell.tls != "none":
            return SASL  # somebody took the offer away
        return IN if right else SASL
    if scram:
        return PACKET
    if cell.method == "clear" and cell.password == "empty":
        return EMPTY
    if cell.method == "clear" and cell.password == "overlong":
        return TOO_LONG
    return IN if right and cell.method == question else PASSWORD


LONG = 65530  # a right one: the longest that PostgreSQL itself takes in the clear


def length(cell):
    fixed = {"empty": 0, "long": 65535, "overlong": 65536}
    return fixed.get(cell.password, LONG if PEOPLE[cell.person].long else 20)


# ---- the server ----

SERVERS = ["trust", "password", "md5", "scram"]  # the method of its pg_hba.conf
PLACES = ["first", "second", "forced"]           # two aliases of one database, and one with a forced user


def of_server(cell, question):
    """What becomes of a client that we let in after `question` when its server is asked."""
    if cell.place == "forced":
        return IN  # by a password in [databases]
    if cell.auth_type == "any":
        return NOT_FORCED
    person, form = PEOPLE[cell.person], stored(cell)
    if cell.server == "trust":
        return IN
    wanted = {"password": "clear", "md5": "md5" if person.server == "md5" else "sasl", "scram": "sasl"}[cell.server]
    keys = form == "scram" and question in ("clear", "sasl")  # what a client showed, shown on
    able = form == "plain" or (wanted == "md5" and form == "md5") or (wanted == "sasl" and keys)
    if not able:
        return WRONG_TYPE
    good = person.same and cell.person != "expired" and not (cell.server == "scram" and person.server == "md5")
    return IN if good else SERVER


def expected(cell, question=None):
    """(outcome, whether the server had a say); question: where it may be either."""
    no = before_login(cell)
    if no:
        return no, False
    question = question or asked(cell)
    if question == EITHER:
        question = "md5"  # nobody gets in by it
    if question not in SERVES:
        return (of_server(cell, question), True) if question == IN else (question, False)
    verdict = answered(cell, question)
    return (of_server(cell, question), True) if verdict == IN else (verdict, False)


def allowed(cell):
    """All outcomes that are right."""
    questions = ("md5", "sasl") if asked(cell) == EITHER else (None,)
    return [expected(cell, question)[0] for question in questions]


# ---- all cells ----

Cell = namedtuple("Cell", "auth_type sslmode may_query source person method tls password server place changed")
FRONTS = [(auth_type, "prefer", True) for auth_type in (
    "any", "trust", "plain", "md5", "scram-sha-256", "hba trust", "hba password", "hba md5", "hba scram-sha-256",
    "hba reject")]
FRONTS += [("md5", "prefer", False), ("scram-sha-256", "require", True), ("scram-sha-256", "verify-full", True),
           ("cert", "verify-full", True), ("hba cert", "verify-full", True), ("hba clientcert", "verify-full", True)]


def cells():
    """Every cell. Where the server has no say, or the client is asked nothing, one place stands for all."""
    for auth_type, sslmode, may_query in FRONTS:
        for source in SOURCES if may_query else SOURCES[:1]:
            for person in PEOPLE:
                for method in METHODS:
                    for tls in TLS if sslmode == "verify-full" else TLS[:3]:
                        for password in PASSWORDS:
                            for changed in (False, True):
                                if password == "old" and not changed:
                                    continue
                                one = Cell(auth_type, sslmode, may_query, source, person, method, tls, password,
                                           "scram", "first", changed)
                                yield one
                                # Nobody who is not asked is told apart by what he would have said.
                                whatever = asked(one) == IN and (method, password) != ("none", "right")
                                if whatever or not expected(one)[1]:
                                    continue
                                for server in SERVERS:
                                    for place in PLACES:
                                        if (server, place) != ("scram", "first"):
                                            yield one._replace(server=server, place=place)
