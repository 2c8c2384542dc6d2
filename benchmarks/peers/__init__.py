"""Other ways to serve the same pictures: small services of our own writing, in the style of tutorials.

Each runs in ``.venv-bench`` and reads ``REDIS_URL`` and ``UPSTREAM_URL`` from its environment. None writes
an access log, checks a signature or guards itself against private targets: all of that is in their favour.
"""
