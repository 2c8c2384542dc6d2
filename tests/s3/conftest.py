"""What the tests of buckets share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.certificates import Certificates, make_certificates
from tests.support.s3 import (
    S3Server,
    forget_aws_settings,
    running_s3,
)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_aws_settings(monkeypatch)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=[False, True], ids=["over http", "over https"])
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3"), tls=request.param) as server:
        yield server
