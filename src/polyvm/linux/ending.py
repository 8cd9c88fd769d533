"""Ending the host process as the guest ended."""

from __future__ import annotations

import os

from polyvm.linux import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def end_as(status: int) -> NoReturn:
    """End this process with an exit status, or by the signal -`status`; no core dump, which would be polyvm's."""
    if status >= 0:
        os._exit(status & 0xFF)
    import resource

    number = -status
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    host.set_action(number, 0)
    host.set_mask(~(1 << number - 1))
    host.raw("kill", os.getpid(), number)
    os._exit(128 + number)
