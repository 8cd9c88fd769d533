"""Views of guest programs for people: symbols, listings, dumps."""

from __future__ import annotations
