"""What the package costs, measured: ``make bench`` (or ``python -m bench --quick``). The results are told in docs/performance.md.

No number here is asserted anywhere. Everything that is compared is measured in turns within one run, so that a machine that is busy with
something else is busy with it for all; what counts is the median of the ratios of each round.
"""
