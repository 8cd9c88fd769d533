"""Where compiled regions are on disk: their names, and the lists that say which can be entered in a page of code.

A region is filed under the code of its first block; a page's list under all code of the page. `identity` names all that shapes
generated code, `mode` the JIT's: what one mode has compiled is not looked at by another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen import cache

if TYPE_CHECKING:
    from polyvm.engine.region import RegionSpec


def region_name(identity: str, mode: str, spec: RegionSpec) -> str:
    """The entry of a region."""
    head = spec.blocks[0]
    mode += "flushing" * spec.flushing
    return cache.key("region", identity, mode, str(spec.coverage), str(spec.guarded), str(spec.level), str(head.pc), head.code)


def list_name(identity: str, mode: str, coverage: int, guarded: bool, page: int, code: bytes, *, flushing: bool = False) -> str:
    """The list of regions that can be entered in page number `page`, whose content is `code`."""
    mode += "flushing" * flushing
    return cache.key("index", identity, mode, str(coverage), str(guarded), str(page), code)
