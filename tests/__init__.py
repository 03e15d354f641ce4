"""The tests of recserver, laid out as its packages are."""
