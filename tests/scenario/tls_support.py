"""Certificates for tests of TLS: an authority of our own, and what servers and clients may show."""

import datetime
import subprocess
from pathlib import Path

HOSTS = "DNS:localhost,IP:127.0.0.1,IP:::1"


def _openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Authority:
    """Files in a directory: ca.pem to trust; other.pem is an authority that has signed nothing. Each method returns (certificate, key)."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.ca, self.key = self._authority("ca")
        self.other, self.other_key = self._authority("other")

    def _authority(self, name):
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate,
                 "-days", "2", "-subj", f"/CN=test authority {name}")
        return certificate, key

    def _sign(self, name, ca, ca_key, days=2, hosts=HOSTS, begin=None):
        certificate, key, request, extensions = (self.directory / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        extensions.write_text(f"subjectAltName={hosts}\n")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        key.chmod(0o644)                        # servers under test may run as another user
        if begin is None:
            _openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate, "-days", days,
                     "-extfile", extensions)
            return certificate, key
        # Dates in the past need the small authority of openssl.
        (self.directory / f"{name}.index").write_text("")
        (self.directory / f"{name}.serial").write_text("1000\n")
        config = self.directory / f"{name}.cnf"
        config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.directory}/{name}.index\nserial={self.directory}/{name}.serial\n"
                          f"new_certs_dir={self.directory}\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
        stamp = lambda time: time.strftime("%Y%m%d%H%M%SZ")
        _openssl("ca", "-batch", "-config", config, "-in", request, "-cert", ca, "-keyfile", ca_key, "-out", certificate, "-notext",
                 "-startdate", stamp(begin), "-enddate", stamp(begin + datetime.timedelta(days=days)), "-extfile", extensions)
        return certificate, key

    def good(self, name="good"):
        """For localhost, 127.0.0.1 and ::1; servers and clients alike."""
        return self._sign(name, self.ca, self.key)

    def expired(self):
        return self._sign("expired", self.ca, self.key, days=1, begin=datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=10))

    def untrusted(self):
        return self._sign("untrusted", self.other, self.other_key)

    def of_another_host(self):
        return self._sign("elsewhere", self.ca, self.key, hosts="DNS:elsewhere.example")
