"""Thumbnails in Jinja templates: a filter and a global, signed while the page is rendered.

    <img src="{{ page.url | thumbnail(thumb_width=400) }}" alt="">
    <img src="{{ thumbnail(page.url, thumb_width=400, format='auto') }}" alt="">

In Flask: ``install(app.jinja_env, "https://thumbs.example.com", os.environ["SIGNING_KEYS"])``.
Templates have to escape by themselves, as Flask's do: in HTML an ampersand is ``&amp;``.
"""

import time

from signed_url import signed_url

DAY_SECONDS = 86_400


def install(environment, base, keys, clock=time.time):
    """Give a Jinja environment the filter and the global ``thumbnail``."""

    def thumbnail(url, **options):
        # The same all day long, so that caches have something to keep; good for one to two days.
        exp = (int(clock()) // DAY_SECONDS + 2) * DAY_SECONDS
        return signed_url(base, "/thumb", {"url": url, **options}, keys, exp)

    environment.filters["thumbnail"] = thumbnail
    environment.globals["thumbnail"] = thumbnail
