"""A name server of a test's own: UDP on 127.0.0.1 and a free port, in a thread, with answers that the test changes.

    with DnsServer() as dns:
        dns.answer("db.test", ["127.0.0.1", "::1"], ttl=2)
        dns.reverse("127.0.0.1", "db.test")
        dns.silent = True               # asked, but says nothing
        dns.resolv_conf(directory)      # a file for the setting resolv_conf
"""
import os
import socket
import struct
import threading
import time

A, SOA, PTR, AAAA = 1, 6, 12, 28
NXDOMAIN, SERVFAIL = 3, 2


def encoded(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.rstrip(".").split(".")) + b"\0"


class DnsServer:
    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.lock = threading.Lock()
        self.names, self.serials, self.asked = {}, {}, []  # asked: (time, name, type)
        self.silent, self.failure = False, NXDOMAIN
        self.thread = threading.Thread(target=self.run)

    def answer(self, name, addresses, ttl=60):
        with self.lock:
            self.names[name] = (addresses, ttl)

    def reverse(self, address, name):
        self.answer(".".join(reversed(address.split("."))) + ".in-addr.arpa", [name])

    def forget(self, name):
        with self.lock:
            del self.names[name]

    def zone(self, name, serial):
        with self.lock:
            self.serials[name] = serial

    def count(self, name, kind=A):
        with self.lock:
            return sum(1 for _, asked, type_ in self.asked if (asked, type_) == (name, kind))

    def resolv_conf(self, directory):
        path = os.path.join(directory, "resolv.conf")
        with open(path, "w") as file:
            file.write("nameserver 127.0.0.1:%d\n" % self.port)
        os.chmod(path, 0o644)
        return path

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def run(self):
        while True:
            packet, sender = self.socket.recvfrom(2000)
            if not packet:
                return
            reply = self.reply(packet)
            if reply is not None:
                self.socket.sendto(reply, sender)

    def reply(self, packet):
        parts, at = [], 12
        while packet[at]:
            parts.append(packet[at + 1:at + 1 + packet[at]].decode())
            at += 1 + packet[at]
        name, kind = ".".join(parts).lower(), struct.unpack_from(">H", packet, at + 1)[0]
        question = packet[12:at + 5]
        with self.lock:
            self.asked.append((time.monotonic(), name, kind))
            if self.silent:
                return None
            code, records = 0, []
            if kind == SOA:
                if name in self.serials:
                    body = encoded("ns." + name) + encoded("admin." + name) + struct.pack(
                        ">IIIII", self.serials[name], 60, 60, 60, 60)
                    records.append((SOA, 60, body))
                else:
                    code = self.failure
            elif name in self.names:
                addresses, ttl = self.names[name]
                for address in addresses:
                    if kind == PTR:
                        records.append((PTR, ttl, encoded(address)))
                        continue
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    if (AAAA if ":" in address else A) == kind:
                        records.append((kind, ttl, socket.inet_pton(family, address)))
            else:
                code = self.failure
        head = packet[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        return head + question + b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, ttl, len(body)) + body for kind, ttl, body in records)
