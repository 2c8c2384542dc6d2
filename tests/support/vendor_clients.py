"""Programs written for SnapSharp and SnapAPI, as their official Python clients call and listen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests

TIMEOUT_SECONDS = 30.0


class VendorFailed(Exception):
    """Any other answer than a picture."""

    def __init__(self, message: str, status: int, code: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code


class KeyRefused(VendorFailed):
    """401."""


class TooManyRequests(VendorFailed):
    """429, and the seconds until a later try makes sense."""

    retry_after: float = 0.0


class QuotaUsedUp(VendorFailed):
    """402."""


class PageTookTooLong(VendorFailed):
    """504."""


KINDS: dict[int, type[VendorFailed]] = {
    401: KeyRefused,
    402: QuotaUsedUp,
    429: TooManyRequests,
    504: PageTookTooLong,
}


@dataclass(frozen=True, slots=True)
class SnapSharpClient:
    """``GET`` unless a value goes in JSON only; reads ``message``, else ``error``."""

    api_key: str
    base_url: str
    session: requests.Session = field(default_factory=requests.Session)

    def screenshot(self, url: str, **options: Any) -> bytes:
        parameters = {"url": url, **options}
        path = f"{self.base_url}/v1/screenshot"
        if {"headers", "cookies", "css", "js"} & options.keys():
            return self._content(requests.Request("POST", path, json=parameters))
        spelled = {name: _scalar(value) for name, value in parameters.items() if value is not None}
        return self._content(requests.Request("GET", path, params=spelled))

    def usage(self) -> dict[str, Any]:
        request = requests.Request("GET", f"{self.base_url}/v1/usage")
        found: dict[str, Any] = self._answer(request).json()
        return found

    def _content(self, request: requests.Request) -> bytes:
        return self._answer(request).content

    def _answer(self, request: requests.Request) -> requests.Response:
        request.headers = {"Authorization": f"Bearer {self.api_key}"}
        answer = self.session.send(request.prepare(), timeout=TIMEOUT_SECONDS)
        if answer.ok:
            return answer
        body = answer.json()
        error = KINDS.get(answer.status_code, VendorFailed)(
            body.get("message") or body.get("error"), answer.status_code, body.get("error")
        )
        if isinstance(error, TooManyRequests):
            error.retry_after = int(answer.headers["Retry-After"])
        raise error


@dataclass(frozen=True, slots=True)
class SnapApiClient:
    """Always ``POST``, with the key in both headers; writes format and viewport into every call."""

    api_key: str
    base_url: str
    session: requests.Session = field(default_factory=requests.Session)

    def screenshot(self, url: str, **options: Any) -> bytes:
        body = {"url": url, "format": "png", "width": 1280, "height": 800, **options}
        return self._answer("POST", "/v1/screenshot", json=body).content

    def usage(self) -> dict[str, Any]:
        found: dict[str, Any] = self._answer("GET", "/v1/usage").json()
        return found

    def _answer(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"X-Api-Key": self.api_key, "Authorization": f"Bearer {self.api_key}"}
        answer = self.session.request(
            method, self.base_url + path, headers=headers, timeout=TIMEOUT_SECONDS, **more
        )
        if answer.ok:
            return answer
        body = answer.json()
        nested = body["error"] if isinstance(body.get("error"), dict) else {}
        message = nested.get("message") or body.get("message")
        code = nested.get("code") or body.get("error")
        error = KINDS.get(answer.status_code, VendorFailed)(message, answer.status_code, code)
        if isinstance(error, TooManyRequests):
            error.retry_after = nested.get("details", {})["retryAfter"]
        raise error


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
