"""Where runs are kept: the only package that knows SQL."""
