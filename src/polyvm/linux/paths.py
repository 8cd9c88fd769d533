"""Where the guest's paths lead on the host.

With a sysroot, an absolute path that exists below it is meant; symbolic links inside it, absolute ones too, stay in it. In a
sandbox every path does, and the kernel sees to it (openat2(2) with RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import os

_MOST_LINKS = 40
_CACHE_MOST = 4096


class Paths:
    """Path translation of one process."""

    def __init__(self, sysroot: str | None, jail: str | None) -> None:
        self.jail = None if jail is None else os.fsencode(os.path.realpath(jail))
        self.root = None if sysroot is None else os.fsencode(os.path.abspath(sysroot)).rstrip(b"/")
        if self.root is not None and not self.root:
            self.root = None
        self._plain: set[bytes] = set()

    def resolve(self, path: bytes, *, follow: bool = True) -> bytes:
        """The host's path for a guest's path."""
        if self.jail is not None:
            return self._jailed(path)
        if self.root is None or not path.startswith(b"/"):
            return path
        found = self._inside(path, follow)
        return path if found is None else found

    def _inside(self, path: bytes, follow: bool) -> bytes | None:
        """The path below the sysroot with all links resolved (the last one only if `follow`); None if it does not exist."""
        root = self.root or b""
        todo = [part for part in path.split(b"/") if part and part != b"."]
        if not todo:
            return root
        todo.reverse()
        done: list[bytes] = []
        links = 0
        slash = path.endswith(b"/")
        while todo:
            part = todo.pop()
            if part == b"..":
                if done:
                    done.pop()
                continue
            done.append(part)
            here = root + b"/" + b"/".join(done)
            if not todo and not follow and not slash:
                return here if os.path.lexists(here) else None
            if here in self._plain:
                continue
            try:
                target = os.readlink(here)
            except FileNotFoundError:
                return None
            except OSError:
                # No link. Directories rarely turn into links: remember them.
                if todo:
                    if len(self._plain) >= _CACHE_MOST:
                        self._plain.clear()
                    self._plain.add(here)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            done = [] if target.startswith(b"/") else done[:-1]
            todo += [p for p in reversed(target.split(b"/")) if p and p != b"."]
        found = root + b"/" + b"/".join(done) if done else root
        return found if os.path.lexists(found) else None

    def _jailed(self, path: bytes) -> bytes:
        """Lexically below the jail: used for the program itself, before the guest can change anything."""
        jail = self.jail or b""
        if not path.startswith(b"/"):
            path = os.path.join(os.getcwdb(), path)
        real = os.path.realpath(path)
        if real == jail or real.startswith(jail + b"/"):
            return real
        inside = os.path.realpath(jail + b"/" + path.lstrip(b"/"))
        if inside.startswith(jail + b"/"):
            return inside
        raise FileNotFoundError(2, "not in the sandbox", os.fsdecode(path))

    def guest_absolute(self, path: bytes) -> str:
        """The absolute name that the guest knows `path` by."""
        if not path.startswith(b"/"):
            path = os.path.normpath(os.path.join(os.getcwdb(), path))
        return self.to_guest(path)

    def to_guest(self, path: bytes) -> str:
        """The guest's name of a host path."""
        for root in (self.jail, self.root):
            if root and path.startswith(root + b"/"):
                return os.fsdecode(path[len(root) :])
            if root and path == root:
                return "/"
        return os.fsdecode(path)
