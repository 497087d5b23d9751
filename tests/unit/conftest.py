"""How property tests run here: a busy machine is no reason to fail, and no run leaves a file behind."""

from hypothesis import settings

settings.register_profile("p12", deadline=None, database=None, max_examples=60)
settings.load_profile("p12")
