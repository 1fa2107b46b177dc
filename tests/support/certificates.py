"""Certificates for tests, made by the openssl program into a directory of their own: CAs, and what they sign.

    certificates = Certificates()
    certificates.authority("ca")
    good = certificates.make("good", "ca", names=["DNS:localhost", "IP:127.0.0.1"])     # Pair: .cert and .key are paths
"""
import os
import shutil
import subprocess
from collections import namedtuple

from pg import give_away, temporary_directory

Pair = namedtuple("Pair", "cert key")


class Certificates:
    def __init__(self):
        self.directory = temporary_directory("pgsluice-tls-")
        os.chmod(self.directory, 0o755)
        self.made = {}

    def path(self, name):
        return os.path.join(self.directory, name)

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, "openssl %s:\n%s" % (" ".join(arguments), done.stdout)

    def _key(self, name, kind):
        how = {"rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "ed25519": ["ED25519"],
               "ec": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}[kind]
        self._openssl("genpkey", "-algorithm", *how, "-out", self.path(name + ".key"))

    def _done(self, name):
        pair = Pair(self.path(name + ".crt"), self.path(name + ".key"))
        os.chmod(pair.key, 0o600)
        give_away(pair.key, pair.cert)
        self.made[name] = pair
        return pair

    def authority(self, name, kind="ec"):
        self._key(name, kind)
        self._openssl("req", "-x509", "-new", "-key", self.path(name + ".key"), "-out", self.path(name + ".crt"),
                      "-days", "30", "-subj", "/CN=" + name, "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        return self._done(name)

    def make(self, name, signer, common_name="localhost", names=("DNS:localhost", "IP:127.0.0.1"), days=30, kind="ec",
             digest="sha256"):
        """signer: the name of an authority, or None for one signed by itself. days: below 0, it has expired."""
        self._key(name, kind)
        request, extensions = self.path(name + ".csr"), self.path(name + ".ext")
        self._openssl("req", "-new", "-key", self.path(name + ".key"), "-out", request, "-subj", "/CN=" + common_name)
        with open(extensions, "w") as file:
            file.write("basicConstraints=CA:FALSE\n" + ("subjectAltName=%s\n" % ",".join(names) if names else ""))
        by = ["-signkey", self.path(name + ".key")] if signer is None else [
            "-CA", self.path(signer + ".crt"), "-CAkey", self.path(signer + ".key"), "-CAcreateserial"]
        digest = [] if kind == "ed25519" and signer is None else ["-" + digest]
        self._openssl("x509", "-req", "-in", request, "-out", self.path(name + ".crt"), "-days", str(days),
                      "-extfile", extensions, *digest, *by)
        return self._done(name)

    def install(self, pair, as_pair):
        """Puts the files in the place of others, each in one step; the key first."""
        for source, target in ((pair.key, as_pair.key), (pair.cert, as_pair.cert)):
            shutil.copy(source, target + ".new")
            os.chmod(target + ".new", 0o600)
            give_away(target + ".new")
            os.rename(target + ".new", target)

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)
