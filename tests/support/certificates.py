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
               "rsa4096": ["RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
               "ec": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}[kind]
        self._openssl("genpkey", "-algorithm", *how, "-out", self.path(name + ".key"))

    def _done(self, name):
        pair = Pair(self.path(name + ".crt"), self.path(name + ".key"))
        os.chmod(pair.key, 0o600)
        give_away(pair.key, pair.cert)
        self.made[name] = pair
        return pair

    def authority(self, name, kind="ec", signer=None):
        """signer: of an intermediate one, the name of the other."""
        self._key(name, kind)
        by = [] if signer is None else ["-CA", self.path(signer + ".crt"), "-CAkey", self.path(signer + ".key")]
        self._openssl("req", "-x509", "-new", "-key", self.path(name + ".key"), "-out", self.path(name + ".crt"),
                      "-days", "30", "-subj", "/CN=" + name, "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign", *by)
        return self._done(name)

    def revocations(self, signer, revoked=(), days=30):
        """A file with the signer's list of revoked certificates. days: below 0, the list itself has expired."""
        listed, settings, index = (self.path(signer + end) for end in (".crl", ".cnf", ".index"))
        with open(index, "w") as file:
            for name in revoked:
                shown = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", self.made[name].cert],
                                       stdout=subprocess.PIPE, text=True, check=True).stdout
                file.write("R\t351231235959Z\t200101000000Z\t%s\tunknown\t/CN=%s\n" % (shown.strip().split("=")[1], name))
        with open(settings, "w") as file:
            file.write("[ca]\ndefault_ca=it\n[it]\ndatabase=%s\ndefault_md=sha256\n" % index)
        last = [] if days >= 0 else ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z"]
        self._openssl("ca", "-config", settings, "-gencrl", "-keyfile", self.path(signer + ".key"), "-cert",
                      self.path(signer + ".crt"), "-out", listed, *(last or ["-crldays", str(days)]))
        give_away(listed)
        return listed

    def bundle(self, name, *files):
        """A file that holds all of these."""
        with open(self.path(name), "w") as whole:
            for path in files:
                with open(path) as part:
                    whole.write(part.read())
        give_away(whole.name)
        return whole.name

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
