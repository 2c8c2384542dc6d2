"""The declarations behind ``config.py``: what can be configured, read and checked."""
