"""Helpers for the tests of programs that drive polyvm: scripted accelerators."""
