"""The doors: they parse, call and answer. Nothing of the trip happens here."""
