"""What is advertising on a page: requests not to make and elements not to show."""

from __future__ import annotations

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

    def selectors_for(self, page_url: str, names: object) -> list[str]:
        """CSS selectors of what to hide on a page, by the ``classes`` and ``ids`` that it says there are."""
        classes, ids = _texts(names, "classes"), _texts(names, "ids")
        specific = self._engine.url_cosmetic_resources(page_url)
        generic = (
            []
            if specific.generichide  # type: ignore[attr-defined]  # the package's stub leaves it out
            else self._engine.hidden_class_id_selectors(classes, ids, specific.exceptions)
        )
        return sorted({*specific.hide_selectors, *generic})


def _texts(names: object, kind: str) -> list[str]:
    """What a page says may be anything; its texts are taken."""
    told = names.get(kind) if isinstance(names, dict) else None
    return [name for name in told if isinstance(name, str)] if isinstance(told, list) else []
