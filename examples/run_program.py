"""Run a guest program and look at what it did."""

from __future__ import annotations

import polyvm

done = polyvm.run([polyvm.demo_program()], capture_output=True)
print(done.stdout.decode().splitlines()[-1])
print(f"status {done.returncode}, {done.instructions:,} instructions")
