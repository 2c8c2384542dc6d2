"""What is advertising on a page: requests not to make and elements not to show."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SHORT_LIST = Path(__file__).parent / "assets" / "ads.txt"

#: Playwright's names of request types, where the filter engine has others.
_ENGINE_TYPES = {"document": "sub_frame", "xhr": "xmlhttprequest", "eventsource": "xmlhttprequest"}


class AdFilter:
    """Judges by one filter list in EasyList syntax; lines that it cannot read are passed over.

    Safe to use from many threads and after a fork.
    """

    def __init__(self, filter_list: str) -> None:
        import adblock

        rules = adblock.FilterSet()
        rules.add_filter_list(filter_list)
        self._engine = adblock.Engine(rules)

    @classmethod
    def from_file(cls, path: Path | None) -> AdFilter:
        """Read ``path``, or the short list that comes along.

        Raises:
            OSError: the file cannot be read.
        """
        return cls((path or SHORT_LIST).read_text(encoding="utf-8", errors="replace"))

    def blocks(self, url: str, *, page_url: str, resource_type: str) -> bool:
        """Whether the page at ``page_url`` asks ``url`` for advertising."""
        kind = _ENGINE_TYPES.get(resource_type, resource_type)
        return bool(self._engine.check_network_urls(url, page_url, kind).matched)

    def selectors_for(self, page_url: str, *, classes: Iterable[str], ids: Iterable[str]) -> list[str]:
        """CSS selectors of what to hide on a page where these classes and ids occur."""
        specific = self._engine.url_cosmetic_resources(page_url)
        generic = (
            []
            if specific.generichide  # type: ignore[attr-defined]  # the package's stub leaves it out
            else self._engine.hidden_class_id_selectors(list(classes), list(ids), specific.exceptions)
        )
        return sorted({*specific.hide_selectors, *generic})
