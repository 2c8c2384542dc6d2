"""Pictures that are made behind who asked for them: whatever happens to one, it ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from thumbnailer.errands import Errands
from thumbnailer.errors import UpstreamFailed
from thumbnailer.terms import Delivery


def test_an_errand_that_breaks_is_told_of_and_keeps_nobody_from_the_next() -> None:
    def break_down(_begin: Callable[[], None]) -> Delivery:
        raise KeyError("what nobody thought of")

    with closing(Errands(places=1)) as errands, capture_logs() as lines:
        for _ in range(2):
            errand, is_own = errands.join("key", break_down)
            with pytest.raises(UpstreamFailed, match="could not be made"):
                errand.wait(20)
            assert is_own
    assert [line["event"] for line in lines] == ["errand_broke"] * 2
