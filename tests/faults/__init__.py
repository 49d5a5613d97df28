"""Faults done to real servers from outside: kills, freezes, races, databases that fail, stops, clocks that jump.

``servers`` starts the fault app, ``book`` writes down what it was asked and judges what became of it; each other module does one kind of
fault. ``python -m tests.faults`` does them at length; the tests do a few of each.
"""
