"""A web of a few sites on loopback that answer at whatever address a test lets them have."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from tests.support.certificates import signs_certificates

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a site answers; ``raw`` stands for the whole answer, head and all."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b"hello"
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as a site saw it; header names are in lower case."""

    method: str
    host: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    server_name: str | None


class Site(ThreadingHTTPServer):
    """Answers every host alike, by ``reply``, and remembers what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, reply: Callable[[Seen], Reply], context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.reply = reply
        self.seen: list[Seen] = []
        self.server_names: dict[int, str | None] = {}
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that hang up are part of the tests."""


class _Door(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = int(headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # who sent it was killed meanwhile: a receiver never hears of such a request
            self.close_connection = True
            return
        name = getattr(self.connection, "server_name", None)
        seen = Seen(self.command, headers.get("host", ""), self.path, headers, body, name)
        self.server.seen.append(seen)
        reply = self.server.reply(seen)
        if reply.raw is not None:
            self.wfile.write(reply.raw)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for field_name, value in reply.headers:
            self.send_header(field_name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815  # the parent's names

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the parent's name
        """Keep quiet."""


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _NamedSocket(ssl.SSLSocket):
    server_name: str | None = None


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context that remembers the name each client asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _NamedSocket
    context.load_cert_chain(certificate, key)

    def note(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if isinstance(connection, _NamedSocket):
            connection.server_name = name

    context.sni_callback = note
    return context


class FarSocket(socket.socket):
    """A connection over loopback that says it goes to ``far_end``."""

    far_end: tuple[str, int] = ("", 0)

    def getpeername(self) -> tuple[str, int]:
        return self.far_end


@dataclass(slots=True)
class Internet:
    """Opens connections as if every public address were one of the sites, by its port.

    ``dialled`` holds each address and port in the order of the attempts, ``granted_seconds`` how long
    each was given; whatever is ``absent`` or has no site refuses.
    """

    sites: Mapping[int, int]
    absent: Sequence[str] = ()
    far_end: str | None = None
    dialled: list[tuple[str, int]] = field(default_factory=list)
    granted_seconds: list[float] = field(default_factory=list)

    def connect(self, address: str, port: int, timeout_seconds: float) -> socket.socket:
        self.dialled.append((address, port))
        self.granted_seconds.append(timeout_seconds)
        if address in self.absent or port not in self.sites:
            raise ConnectionRefusedError
        connection = FarSocket()
        connection.settimeout(timeout_seconds)
        connection.connect(("127.0.0.1", self.sites[port]))
        connection.far_end = (self.far_end or address, port)
        return connection

    def addresses(self) -> list[str]:
        return [address for address, _ in self.dialled]


@dataclass(slots=True)
class ChangingAnswers:
    """A resolver that gives each name its answers in order, the last one for ever."""

    answers: Mapping[str, Sequence[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        turn = self.asked.count(host)
        self.asked.append(host)
        answers = self.answers.get(host)
        if answers is None or not (answer := answers[min(turn, len(answers) - 1)]):
            raise OSError(-2, "Name or service not known")
        return answer


@dataclass(frozen=True, slots=True)
class Signed:
    """PEM files of a server's certificate, and of the authority that signed it."""

    ca: Path
    certificate: Path
    key: Path


def certificate_for(
    folder: Path, names: Sequence[str], *, issuer_url: str | None = None, is_expired: bool = False
) -> Signed:
    """A new authority, and a certificate of it for ``names``, valid for a day.

    ``issuer_url`` is where the certificate says that its issuer's own certificate is found.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the small web")])
    ends = datetime.now(UTC) + timedelta(days=-1 if is_expired else 1)

    def builder(subject: x509.Name, of: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=ca_name, public_key=of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(ends - timedelta(days=2))
            .not_valid_after(ends)
        )

    ca = (
        builder(ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(signs_certificates(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        builder(x509.Name([]), key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if issuer_url is not None:
        place = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_url)
        )
        leaf = leaf.add_extension(x509.AuthorityInformationAccess([place]), critical=False)
    signed = Signed(folder / "web-ca.pem", folder / "web.pem", folder / "web.key")
    signed.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    signed.certificate.write_bytes(
        leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    signed.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return signed


@dataclass(frozen=True, slots=True)
class SmallWeb:
    """One site over http and https; ``ca`` is the authority to trust."""

    plain: Site
    secure: Site
    ca: Path

    def internet(self, **options: Sequence[str] | str) -> Internet:
        sites = {80: self.plain.server_port, 443: self.secure.server_port}
        return Internet(sites, **options)  # type: ignore[arg-type]  # the two optional fields

    def seen(self) -> list[Seen]:
        return [*self.plain.seen, *self.secure.seen]


@contextmanager
def running_small_web(
    folder: Path, reply: Callable[[Seen], Reply], *, names: Sequence[str], is_expired: bool = False
) -> Iterator[SmallWeb]:
    signed = certificate_for(folder, names, is_expired=is_expired)
    with ExitStack() as stack:
        sites = Site(reply), Site(reply, tls_context(signed.certificate, signed.key))
        for site in sites:
            stack.enter_context(serving(site))
        yield SmallWeb(*sites, signed.ca)
