"""The Python front door: programs (`process`), bare processors (`cpu`) and what they share.

`polyvm` itself re-exports what others use, lazily; nothing is imported here, since the command line starts through
`polyvm.api.launch` and must start fast.
"""

from __future__ import annotations
