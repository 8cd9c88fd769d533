"""What a guest may do: the sandbox and resource limits."""

from __future__ import annotations

import resource

NETWORK = frozenset("socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg".split())
PROCESSES = frozenset("execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open".split())
# Calls that reach beyond files and memory of the guest, or take paths that are not checked.
NEVER = frozenset(
    "mount umount2 pivot_root chroot reboot swapon swapoff sethostname setdomainname init_module finit_module delete_module "
    "kexec_load bpf perf_event_open ptrace process_vm_readv process_vm_writev quotactl acct settimeofday clock_settime "
    "adjtimex open_by_handle_at name_to_handle_at fanotify_init fanotify_mark setns unshare userfaultfd io_uring_setup "
    "syslog nfsservctl add_key request_key keyctl pidfd_getfd open_tree move_mount fsopen fsmount "
    "inotify_add_watch mknodat".split()
)


class Policy:
    """`root`: the only directory whose files the guest reaches (None: no restriction). `network`, `processes`: may it use
    sockets, and start, replace or signal processes? `memory` in bytes, `cpu` in seconds."""

    def __init__(
        self, *, root: str | None = None, network: bool = True, processes: bool = True, memory: int | None = None,
        cpu: float | None = None,
    ) -> None:  # fmt: skip
        self.root = root
        self.network = network
        self.processes = processes
        self.memory = memory
        self.cpu = cpu

    def denies(self, name: str) -> bool:
        """True if the system call `name` is refused, with EPERM."""
        if name in NETWORK:
            return not self.network
        if name in PROCESSES:
            return not self.processes
        return self.root is not None and name in NEVER

    def apply(self) -> None:
        """Set the limits that the host enforces."""
        if self.cpu is not None:
            seconds = max(1, round(self.cpu))
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            limit = seconds if hard < 0 else min(seconds, hard)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
