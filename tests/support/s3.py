"""S3 for tests: a whole server (moto) in a process of its own, and a small one that misbehaves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import pytest
import requests

from tests.support.certificates import Certificates, make_certificates
from tests.support.processes import free_port, running
from thumbnailer.model import CaptureRecord
from thumbnailer.s3_settings import S3Settings

BUCKET = "thumbs-of-the-tests"
REGION = "eu-central-1"
USER = "writer"


def forget_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide from boto3 what this machine is configured with: environment, files, metadata service."""
    for name in list(os.environ):
        if name.upper().startswith("AWS_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def record_of(body: bytes, *, content_type: str = "image/png") -> CaptureRecord:
    """A capture's record that fits ``body``."""
    is_pdf = content_type == "application/pdf"
    return CaptureRecord(
        content_type=content_type,
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        width=None if is_pdf else 1280,
        height=None if is_pdf else 720,
        captured_at=1_793_000_000.25,
        provider="chromium",
        upstream_seconds=0.5,
    )


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 with one empty bucket and one user, who may do everything.

    ``ca_path`` is what to check its certificate against, None over http.
    """

    endpoint_url: str
    ca_path: Path | None
    access_key_id: str
    secret_access_key: str
    bucket: str = BUCKET
    region: str = REGION

    def settings(self) -> S3Settings:
        """What an operator would configure for it, with timeouts for a test."""
        return S3Settings(
            bucket=self.bucket,
            region=self.region,
            endpoint_url=self.endpoint_url,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            ca_bundle=str(self.ca_path) if self.ca_path else None,
        )

    def client(self) -> Any:
        """A plain boto3 client, to look at the bucket past the code under test."""
        return _client("s3", self.endpoint_url, self.ca_path, self.access_key_id, self.secret_access_key)

    def rotate_key(self) -> S3Server:
        """The same server with another access key; that of this one is no longer taken."""
        with _unsigned_iam(self.endpoint_url, self.ca_path) as iam:
            iam.delete_access_key(UserName=USER, AccessKeyId=self.access_key_id)
            key = iam.create_access_key(UserName=USER)["AccessKey"]
        return replace(self, access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])

    def require_signatures(self, *, required: bool) -> None:
        """Whether requests have to be signed rightly; header signatures only, presigned URLs fail then."""
        _require_signatures(self.endpoint_url, self.ca_path, required=required)


@contextlib.contextmanager
def running_s3(folder: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """A whole S3 server, whose log and certificates go to ``folder``; signatures are checked."""
    port = free_port()
    command = [sys.executable, "-m", "tests.support.moto_server", "-H", "127.0.0.1", "-p", str(port)]
    ca_path = None
    if tls:
        certificates = make_certificates(folder)
        ca_path = certificates.ca_path
        command += ["-c", str(certificates.certificate_path), "-k", str(certificates.key_path)]
    endpoint_url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    with running(command, port=port, log=folder / f"s3-{port}.log"):
        with _unsigned_iam(endpoint_url, ca_path) as iam:
            iam.create_user(UserName=USER)
            everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
            iam.put_user_policy(UserName=USER, PolicyName="everything", PolicyDocument=policy)
            key = iam.create_access_key(UserName=USER)["AccessKey"]
        server = S3Server(endpoint_url, ca_path, key["AccessKeyId"], key["SecretAccessKey"])
        client = server.client()
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        client.close()
        yield server


@contextlib.contextmanager
def _unsigned_iam(endpoint_url: str, ca_path: Path | None) -> Iterator[Any]:
    """A client of who knows the users and their keys, while nobody's signature is checked."""
    _require_signatures(endpoint_url, ca_path, required=False)
    with contextlib.closing(_client("iam", endpoint_url, ca_path, "anybody", "anything")) as iam:
        yield iam
    _require_signatures(endpoint_url, ca_path, required=True)


def _client(service: str, endpoint_url: str, ca_path: Path | None, key_id: str, secret: str) -> Any:
    create: Callable[..., Any] = boto3.session.Session(key_id, secret, region_name=REGION).client
    return create(service, endpoint_url=endpoint_url, verify=str(ca_path) if ca_path else None)


def _require_signatures(endpoint_url: str, ca_path: Path | None, *, required: bool) -> None:
    answer = requests.post(
        f"{endpoint_url}/moto-api/reset-auth",
        data="0" if required else "inf",  # after how many requests the checking begins
        verify=str(ca_path) if ca_path else True,
        timeout=10,
    )
    answer.raise_for_status()


class Fault(StrEnum):
    """What the small S3 does to every request."""

    NONE = "none"
    SILENT = "accepts and never answers"
    SLOW_DOWN = "503 SlowDown"
    INTERNAL_ERROR = "500 InternalError"
    ACCESS_DENIED = "403 AccessDenied"
    EXPIRED = "400 ExpiredToken"
    NO_SUCH_BUCKET = "404 NoSuchBucket"
    MOVED = "301 Moved"
    CUT_OFF = "hangs up in the middle of the upload"
    HTML = "answers HTML with status 200"
    SLOW_LINE = "reads slowly"


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it came over the wire; header names in lower case, ``body`` undecoded."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class SmallS3:
    """A running stand-in: knows PUT, HEAD and GET of objects, any bucket, any signature.

    ``requests`` is what it was asked; ``objects`` what it keeps, by path: headers and bytes.
    """

    endpoint_url: str
    ca_path: Path | None
    fault: Fault
    requests: list[RecordedRequest] = field(default_factory=list)
    objects: dict[str, tuple[dict[str, str], bytes]] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)

    def settings(self) -> S3Settings:
        """What an operator would configure for it, with short timeouts."""
        settings = S3Server(
            self.endpoint_url, self.ca_path, "AKIDOFTHETESTS", "secret-of-the-tests"
        ).settings()
        return replace(settings, connect_timeout_seconds=0.3, read_timeout_seconds=0.3)


@contextlib.contextmanager
def small_s3(fault: Fault = Fault.NONE, *, certificates: Certificates | None = None) -> Iterator[SmallS3]:
    """Run the stand-in, in threads of this process, keeping connections alive; https with certificates."""
    server = _SmallS3Server(("127.0.0.1", 0), _SmallS3Requests, bind_and_activate=False)
    if fault is Fault.SLOW_LINE:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    server.server_bind()
    server.server_activate()
    scheme, ca_path = "http", None
    if certificates is not None:
        server.socket = certificates.server_context().wrap_socket(server.socket, server_side=True)
        scheme, ca_path = "https", certificates.ca_path
    small = SmallS3(f"{scheme}://127.0.0.1:{server.server_port}", ca_path, fault)
    server.small = small
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield small
    finally:
        small.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def refusing_s3() -> Iterator[SmallS3]:
    """An address that refuses every connection."""
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        yield SmallS3(f"http://127.0.0.1:{bound_but_deaf.getsockname()[1]}", None, Fault.NONE)


class _SmallS3Server(ThreadingHTTPServer):
    small: SmallS3


class _SmallS3Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _SmallS3Server

    def do_PUT(self) -> None:  # the name that http.server calls
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # http.server's signature
        """Tests are quiet."""

    def _serve(self) -> None:
        small = self.server.small
        body = self._read_body(small)
        headers = {name.lower(): text for name, text in self.headers.items()}
        small.requests.append(RecordedRequest(self.command, self.path, headers, body))
        if small.fault in (Fault.SILENT, Fault.CUT_OFF):
            if small.fault is Fault.SILENT:
                small.closing.wait()
            self.close_connection = True
        elif small.fault is Fault.HTML:
            self._answer(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")
        elif small.fault in (Fault.NONE, Fault.SLOW_LINE):
            self._keep_or_give(small, headers, body)
        else:
            status, _, code = small.fault.value.partition(" ")
            error = f"<Error><Code>{code}</Code><Message>of {small.endpoint_url}</Message></Error>"
            self._answer(int(status), {"Content-Type": "application/xml"}, error.encode())

    def _read_body(self, small: SmallS3) -> bytes:
        length = int(self.headers.get("Content-Length", 0))
        if small.fault is Fault.CUT_OFF:
            return self.rfile.read(length // 2)
        parts = []
        while length > 0 and (part := self.rfile.read1(min(length, 65536))):
            parts.append(part)
            length -= len(part)
            if small.fault is Fault.SLOW_LINE:
                small.closing.wait(0.01)
        return b"".join(parts)

    def _keep_or_give(self, small: SmallS3, headers: dict[str, str], body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.command == "PUT":
            kept = {
                name: text for name, text in headers.items() if name.startswith(("x-amz-meta-", "content-t"))
            }
            small.objects[path] = (kept | {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}, body)
            self._answer(200, {"ETag": small.objects[path][0]["ETag"]}, b"")
        elif path in small.objects:
            self._answer(200, *small.objects[path])
        else:
            self._answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, text in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
