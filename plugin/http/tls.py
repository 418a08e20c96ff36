"""TLS on the mint's own port: the certificate and its key, followed when they are renewed.

HTTP/1.1 only: one connection of HTTP/2 would carry a hundred requests at once, past the limits for connections. Who
wants HTTP/2 gets it from a reverse proxy.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

HANDSHAKE_S = 10
"""How long a client may take for its handshake."""
MAX_HANDSHAKES = 1000
"""Most handshakes at once, of all clients: these connections are not counted yet among a client's own."""
LOOK_EVERY_S = 30
"""Longest time until a renewed certificate is used."""
MAX_PEM_BYTES = 1024 * 1024
PROTOCOLS = ["http/1.1"]

Stamp = tuple[tuple[int, int, int], ...]
"""By which a file is known to be another one: time of change, size and inode of each."""

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """The certificate or its key can't be used; the text names the option and the file, and says why."""


class Tls:
    """A certificate chain and its key, both PEM files. Raises CertificateError if they can't be used."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._tried: Stamp | None = None
        self.context = Context(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(PROTOCOLS)
        self._tried = self._stamp()
        self._load()

    async def follow(self) -> None:
        """Use a renewed certificate for new connections, soon after it is there. Runs for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Load the files if they are others than before. While they can't be used the old ones stay."""
        stamp = self._stamp()
        if stamp is None or stamp == self._tried:
            return
        self._tried = stamp
        try:
            self._load()
        except CertificateError as error:
            log.warning("the renewed certificate can't be used, the mint goes on with the old one: %s", error)
        else:
            log.info("new connections get the renewed certificate %s", self._files[0])

    def _stamp(self) -> Stamp | None:
        """None while a file is missing: it is being replaced."""
        try:
            stats = [path.stat() for path in self._files]
        except OSError:
            return None
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in stats)

    def _load(self) -> None:
        certificate, key = self._files
        _require_pem("cashu-tls-cert", certificate, b"-----BEGIN CERTIFICATE-----", "certificate")
        if b"ENCRYPTED" in _require_pem("cashu-tls-key", key, b"PRIVATE KEY-----", "private key"):
            raise CertificateError(f"cashu-tls-key={key}: the key is encrypted, and nobody is there to be asked")
        # First into another context: what fails half-way would leave a certificate without its key.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            try:
                context.load_cert_chain(certificate, key, password="")  # else OpenSSL may ask on a terminal
            except (ssl.SSLError, OSError) as error:
                raise CertificateError(_why(certificate, key, error)) from error


def _why(certificate: Path, key: Path, error: OSError) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"cashu-tls-key={key}: this is not the key of the certificate cashu-tls-cert={certificate}"
    return f"cashu-tls-cert={certificate}, cashu-tls-key={key}: OpenSSL can't use them: {error}"


def _require_pem(option: str, path: Path, mark: bytes, what: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise CertificateError(f"{option}={path}: this is no file")
        with path.open("rb") as file:
            content = file.read(MAX_PEM_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CertificateError(f"{option}={path}: can't be read: {reason}") from error
    if mark not in content:
        raise CertificateError(f"{option}={path}: there is no {what} in it (PEM, it must have a line {mark.decode()})")
    return content


class TooManyHandshakesError(ssl.SSLError):
    """This handshake does not begin; its connection is closed."""


class Context(ssl.SSLContext):
    """Counts the handshakes that have begun. A connection is handed to the server, and counted there, only when its
    handshake is over."""

    _begun: WeakKeyDictionary[ssl.SSLObject, float]

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> ssl.SSLObject:  # type: ignore[override]
        """Called when a handshake begins. Raises TooManyHandshakesError."""
        now = time.monotonic()
        begun = self._handshakes()
        # Of one that failed nobody tells; it is over when its object is gone, or its time.
        for made, at in list(begun.items()):
            if at + HANDSHAKE_S >= now:
                break  # the others are younger
            del begun[made]
        if len(begun) >= MAX_HANDSHAKES:
            raise TooManyHandshakesError(f"{MAX_HANDSHAKES} handshakes are under way")
        made = super().wrap_bio(incoming, outgoing, **options)
        begun[made] = now
        return made

    def over(self, made: ssl.SSLObject) -> None:
        """This handshake was successful."""
        self._handshakes().pop(made, None)

    def _handshakes(self) -> WeakKeyDictionary[ssl.SSLObject, float]:
        if not hasattr(self, "_begun"):
            self._begun = WeakKeyDictionary()
        return self._begun
