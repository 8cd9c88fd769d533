"""Foreign interfaces: constants, structures and call signatures, nothing else. One module for each accelerator."""

from __future__ import annotations
