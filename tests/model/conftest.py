"""Hypothesis without its deadline: how long an example takes on a busy machine says nothing about what it shows."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
