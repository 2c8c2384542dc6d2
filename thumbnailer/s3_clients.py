"""boto3's clients of a bucket: each process has its own, with the credentials that hold now.

Where the settings name none, boto3 finds some: in a shared file, by a program, from the instance or the
cluster. It renews what says when it expires, and keeps everything else for as long as a client lives. So
what the store refuses is looked for anew.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import structlog
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from thumbnailer.s3_settings import S3Settings

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config
    from botocore.credentials import Credentials, ReadOnlyCredentials

PROBE_TIMEOUT_SECONDS = 2.0
MAX_CONNECTIONS = 50

#: A store that does not take the credentials says so with one of these; to HEAD it says no more than that.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
REFUSALS = frozenset({400, 401, 403})

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class S3Client(Protocol):
    """The part of boto3's client that is used here."""

    def head_object(self, **parameters: Any) -> Mapping[str, Any]: ...

    def put_object(self, **parameters: Any) -> Mapping[str, Any]: ...

    def delete_object(self, **parameters: Any) -> Mapping[str, Any]: ...

    def head_bucket(self, **parameters: Any) -> Mapping[str, Any]: ...

    def generate_presigned_url(self, method: str, parameters: Mapping[str, Any], seconds: int, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Clients:
    """Two clients of one process: a patient one, and one for ``is_ready``."""

    storing: S3Client
    probing: S3Client
    credentials: Credentials


class CredentialsFailed(BotoCoreError):
    """There are no credentials, and boto3 has no error of its own for why; ``reason`` is for the log."""

    fmt = "{reason}"


class S3Clients:
    """Hands out the clients of this process; safe to use from many threads and after a fork."""

    def __init__(self, settings: S3Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        # By process id: a connection shared with a forked child hands out the other one's answers.
        # The locks as well, since the parent may hold its own at the moment of the fork.
        self._by_pid: dict[int, _OfProcess] = {}

    def call(self, work: Callable[[Clients], T]) -> T:
        """What ``work`` makes of them; it is called again where there are others than those refused.

        Raises ClientError and BotoCoreError.
        """
        own = self._by_pid.setdefault(os.getpid(), _OfProcess(self._settings, self._clock))
        clients = own.current()
        try:
            return work(clients)
        except ClientError as error:
            renewed = own.renewed(clients) if status_of(error) in REFUSALS else None
            if renewed is None:
                raise
            return work(renewed)


class _OfProcess:
    """The clients of one process."""

    def __init__(self, settings: S3Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._making = threading.Lock()
        self._renewing = threading.Lock()  # another one: who is not refused goes on meanwhile
        self._clients: Clients | None = None
        self._looked_in_vain: tuple[float, BotoCoreError] | None = None

    def current(self) -> Clients:
        """Those in use. Raises BotoCoreError where there are no credentials, or they cannot be renewed."""
        with self._making:
            if self._clients is None:
                if (known := self._recent_failure()) is not None:
                    raise known.with_traceback(None)  # each raise would add to it
                self._clients = self._found()
            clients = self._clients
        _frozen(clients.credentials)  # which renews what is about to expire
        return clients

    def renewed(self, refused: Clients) -> Clients | None:
        """Those with other credentials than the ``refused`` ones, if there are any by now."""
        with self._renewing:
            if self._clients is not refused:
                return self._clients
            if self._settings.access_key_id is not None or self._recent_failure() is not None:
                return None
            with contextlib.suppress(BotoCoreError):
                self._clients = self._found(beside=refused)
                _log.info("storage_credentials_renewed")
                return self._clients
        return None

    def _found(self, beside: Clients | None = None) -> Clients:
        """New clients, whose credentials are not those of ``beside``. Raises BotoCoreError."""
        try:
            session = _session(self._settings)
            with _known_errors():
                credentials = session.get_credentials()
            if credentials is None or (
                beside is not None and _frozen(credentials) == _frozen(beside.credentials)
            ):
                raise NoCredentialsError
            return _connect(session, self._settings, credentials)
        except BotoCoreError as error:
            self._looked_in_vain = self._clock(), error
            raise

    def _recent_failure(self) -> BotoCoreError | None:
        """Why there was nothing when somebody looked a moment ago."""
        if self._looked_in_vain is None:
            return None
        at, error = self._looked_in_vain
        return error if self._clock() < at + self._settings.credentials_pause_seconds else None


def status_of(error: ClientError) -> int:
    """The status of the answer that boto3 made the error of; 0 where there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def code_of(error: ClientError) -> str:
    """The other side's own word for what is wrong; a HEAD's answer has none, and it is the status then."""
    return error.response.get("Error", {}).get("Code", "")


@contextlib.contextmanager
def _known_errors() -> Iterator[None]:
    """Turn into CredentialsFailed what boto3 lets through, such as that a token's file is missing.

    A refusal, too: it is not the store's, but that of the service that lends roles.
    """
    try:
        yield
    except BotoCoreError:
        raise
    except ClientError as error:
        raise CredentialsFailed(reason=code_of(error)) from error
    except Exception as error:
        raise CredentialsFailed(reason=type(error).__name__) from error


def _frozen(credentials: Credentials) -> ReadOnlyCredentials:
    with _known_errors():
        return credentials.get_frozen_credentials()


def _session(settings: S3Settings) -> Session:
    """A session of its own: the default one of boto3 is not safe to share between threads."""
    import botocore.session
    from boto3.session import Session
    from botocore.config import Config

    core = botocore.session.get_session()
    # Holds for whom boto3 asks for credentials; its own bounds are minutes.
    core.set_default_client_config(
        Config(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": settings.attempts},
        )
    )
    return Session(
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
        botocore_session=core,
    )


def _connect(session: Session, settings: S3Settings, credentials: Credentials) -> Clients:
    from botocore.config import Config

    # boto3 signs URLs of Amazon's buckets for a global address, which forwards to the bucket's region and
    # so breaks the signature, unless the bucket stands in the host name (which a dot in it forbids).
    is_in_host = settings.endpoint_url is None and "." not in settings.bucket
    style = "virtual" if settings.addressing_style == "auto" and is_in_host else settings.addressing_style
    storing = Config(
        signature_version="s3v4",
        # boto3's default adds checksums in a trailer, which R2, B2 and older MinIO refuse.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        s3={"addressing_style": style},
        max_pool_connections=MAX_CONNECTIONS,
    )
    probing = storing.merge(
        Config(
            connect_timeout=min(PROBE_TIMEOUT_SECONDS, settings.connect_timeout_seconds),
            read_timeout=min(PROBE_TIMEOUT_SECONDS, settings.read_timeout_seconds),
            retries={"mode": "standard", "total_max_attempts": 1},
        )
    )
    return Clients(_client(session, settings, storing), _client(session, settings, probing), credentials)


def _client(session: Session, settings: S3Settings, config: Config) -> S3Client:
    client = session.client(
        "s3", endpoint_url=settings.endpoint_url, verify=settings.ca_bundle, config=config
    )
    client.meta.events.register_first("needs-retry.s3.HeadBucket", _look_no_further)
    return cast(S3Client, client)  # the stubs spell the parameters in another way


def _look_no_further(
    request_dict: dict[str, Any], response: tuple[object, Mapping[str, Any]] | None, **_more: object
) -> None:
    """Let boto3 take a redirect of ``HeadBucket`` for an answer where it names no region.

    boto3 finds out by ``HeadBucket`` in which region a bucket is that redirects, and asks the same of a
    redirect of that, until Python has no room any more: where a web server sends everybody to https, for one.
    """
    if response is not None and "x-amz-bucket-region" not in response[1]["ResponseMetadata"]["HTTPHeaders"]:
        request_dict["context"]["s3_redirect"]["redirected"] = True
