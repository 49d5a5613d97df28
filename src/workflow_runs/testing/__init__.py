"""For tests of what is built on this package, and of the package itself. Nothing in the package imports it."""
