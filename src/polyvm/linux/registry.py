"""Which signature and which function a system call has. The ``calls_…`` modules are imported when a call of theirs is made."""

from __future__ import annotations

from polyvm.linux.syscalls import FUNCTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.arch import Arch
    from polyvm.linux.syscalls import Handler

# Calls that the host does, arguments translated.
_HOST = """
read(fd: fd, buf: out(count), count: ulong)
write(fd: fd, buf: in(count), count: ulong)
pread64(fd: fd, buf: out(count), count: ulong, offset: long)
pwrite64(fd: fd, buf: in(count), count: ulong, offset: long)
close(fd: fd)
close_range(first: uint, last: uint, flags: uint)
lseek(fd: fd, offset: long, whence: whence)
dup(fd: fd)
dup3(old: fd, new: fd, flags: oflags)
pipe2(fds: out(8), flags: oflags)
fsync(fd: fd)
fdatasync(fd: fd)
sync()
syncfs(fd: fd)
sync_file_range(fd: fd, offset: long, size: long, flags: uint)
ftruncate(fd: fd, length: long)
truncate(path: path, length: long)
fallocate(fd: fd, mode: int, offset: long, length: long)
fadvise64(fd: fd, offset: long, length: long, advice: int)
readahead(fd: fd, offset: long, count: ulong)
flock(fd: fd, operation: int)
fchmod(fd: fd, mode: mode)
fchown(fd: fd, uid: int, gid: int)
fchmodat(dirfd: dirfd, path: path, mode: mode)
fchmodat2(dirfd: dirfd, path: path, mode: mode, flags: int)
fchownat(dirfd: dirfd, path: lpath, uid: int, gid: int, flags: int)
faccessat(dirfd: dirfd, path: path, mode: int)
faccessat2(dirfd: dirfd, path: path, mode: int, flags: int)
mkdirat(dirfd: dirfd, path: lpath, mode: mode)
mknodat(dirfd: dirfd, path: lpath, mode: mode, device: ulong)
unlinkat(dirfd: dirfd, path: lpath, flags: int)
symlinkat(target: str, dirfd: dirfd, path: lpath)
linkat(olddir: dirfd, old: lpath, newdir: dirfd, new: lpath, flags: int)
renameat(olddir: dirfd, old: lpath, newdir: dirfd, new: lpath)
renameat2(olddir: dirfd, old: lpath, newdir: dirfd, new: lpath, flags: uint)
utimensat(dirfd: dirfd, path: path, times: in(32), flags: int)
statfs(path: path, buf: out(120))
fstatfs(fd: fd, buf: out(120))
statx(dirfd: dirfd, path: path, flags: int, mask: uint, buf: out(256))
getdents64(fd: fd, buf: out(count), count: uint)
chdir(path: path)
fchdir(fd: fd)
umask(mask: mode)
sendfile(out: fd, in: fd, offset: io(8), count: ulong)
splice(in: fd, in_offset: io(8), out: fd, out_offset: io(8), length: ulong, flags: uint)
tee(in: fd, out: fd, length: ulong, flags: uint)
copy_file_range(in: fd, in_offset: io(8), out: fd, out_offset: io(8), length: ulong, flags: uint)
getxattr(path: path, name: str, value: out(size), size: ulong)
lgetxattr(path: lpath, name: str, value: out(size), size: ulong)
fgetxattr(fd: fd, name: str, value: out(size), size: ulong)
setxattr(path: path, name: str, value: in(size), size: ulong, flags: int)
lsetxattr(path: lpath, name: str, value: in(size), size: ulong, flags: int)
fsetxattr(fd: fd, name: str, value: in(size), size: ulong, flags: int)
listxattr(path: path, list: out(size), size: ulong)
llistxattr(path: lpath, list: out(size), size: ulong)
flistxattr(fd: fd, list: out(size), size: ulong)
removexattr(path: path, name: str)
lremovexattr(path: lpath, name: str)
fremovexattr(fd: fd, name: str)
memfd_create(name: str, flags: uint)
eventfd2(value: uint, flags: oflags)
epoll_create1(flags: oflags)
inotify_init1(flags: oflags)
inotify_add_watch(fd: fd, path: path, mask: uint)
inotify_rm_watch(fd: fd, watch: int)
timerfd_create(clock: clock, flags: oflags)
timerfd_settime(fd: fd, flags: int, new: in(32), old: out(32))
timerfd_gettime(fd: fd, value: out(32))
socket(domain: int, type: int, protocol: int)
socketpair(domain: int, type: int, protocol: int, fds: out(8))
bind(fd: fd, address: in(length), length: uint)
listen(fd: fd, backlog: int)
connect(fd: fd, address: in(length), length: uint)
shutdown(fd: fd, how: int)
sendto(fd: fd, buf: in(count), count: ulong, flags: int, address: in(length), length: uint)
setsockopt(fd: fd, level: int, option: int, value: in(length), length: uint)
getpid()
getppid()
gettid()
getuid()
geteuid()
getgid()
getegid()
getpgid(pid: pid)
setpgid(pid: pid, group: pid)
getsid(pid: pid)
setsid()
getresuid(real: out(4), effective: out(4), saved: out(4))
getresgid(real: out(4), effective: out(4), saved: out(4))
setuid(uid: int)
setgid(gid: int)
setreuid(real: int, effective: int)
setregid(real: int, effective: int)
setresuid(real: int, effective: int, saved: int)
setresgid(real: int, effective: int, saved: int)
setfsuid(uid: int)
setfsgid(gid: int)
getgroups(size: int, list: out(size*4))
setgroups(size: int, list: in(size*4))
capget(header: io(8), data: out(24))
capset(header: io(8), data: in(24))
getpriority(which: int, who: int)
setpriority(which: int, who: int, value: int)
ioprio_get(which: int, who: int)
ioprio_set(which: int, who: int, value: int)
getrusage(who: int, usage: out(144))
times(buf: out(32))
sysinfo(info: out(112))
getrandom(buf: out(count), count: ulong, flags: uint)
getcpu(cpu: out(4), node: out(4), unused: addr)
clock_gettime(clock: clock, value: out(16))
clock_getres(clock: clock, value: out(16))
clock_settime(clock: clock, value: in(16))
clock_nanosleep(clock: clock, flags: int, request: in(16), left: out(16))
nanosleep(request: in(16), left: out(16))
gettimeofday(value: out(16), zone: out(8))
getitimer(which: int, value: out(32))
setitimer(which: int, new: in(32), old: out(32))
timer_settime(timer: int, flags: int, new: in(32), old: out(32))
timer_gettime(timer: int, value: out(32))
timer_getoverrun(timer: int)
timer_delete(timer: int)
sched_yield()
sched_getaffinity(pid: pid, size: uint, mask: out(size))
sched_setaffinity(pid: pid, size: uint, mask: in(size))
sched_getscheduler(pid: pid)
sched_setscheduler(pid: pid, policy: int, param: in(4))
sched_getparam(pid: pid, param: out(4))
sched_setparam(pid: pid, param: in(4))
sched_get_priority_max(policy: int)
sched_get_priority_min(policy: int)
sched_rr_get_interval(pid: pid, interval: out(16))
sched_getattr(pid: pid, attr: out(size), size: uint, flags: uint)
sched_setattr(pid: pid, attr: in(48), flags: uint)
kill(pid: pid, signal: signal)
tkill(tid: pid, signal: signal)
tgkill(pid: pid, tid: pid, signal: signal)
rt_sigqueueinfo(pid: pid, signal: signal, info: in(128))
rt_tgsigqueueinfo(pid: pid, tid: pid, signal: signal, info: in(128))
pidfd_open(pid: pid, flags: uint)
pidfd_send_signal(fd: fd, signal: signal, info: in(128), flags: uint)
membarrier(command: int, flags: uint, cpu: int)
personality(persona: ulong)
sethostname(name: in(length), length: ulong)
get_mempolicy(mode: out(4), mask: addr, nodes: addr, address: addr, flags: addr)
mq_unlink(name: str)
vhangup()
"""

_MODULES = {
    "calls_files": "openat openat2 readlinkat newfstatat fstat fcntl ioctl readv writev preadv pwritev preadv2 pwritev2 getcwd "
                   "chroot execveat vmsplice",
    "calls_wait": "ppoll pselect6 epoll_ctl epoll_pwait epoll_pwait2 signalfd4 futex futex_waitv",
    "calls_net": "accept accept4 getsockname getpeername recvfrom getsockopt sendmsg recvmsg sendmmsg recvmmsg",
    "calls_memory": "brk mmap munmap mprotect mremap madvise msync mincore mlock munlock mlock2 mlockall munlockall mbind",
    "calls_process": "exit exit_group clone clone3 execve wait4 waitid set_tid_address set_robust_list get_robust_list uname "
                     "prctl prlimit64 getrlimit setrlimit timer_create rseq seccomp",
    "calls_signal": "rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigreturn sigaltstack "
                    "restart_syscall",
}  # fmt: skip
_signatures: dict[str, str] = {}
_places: dict[str, str] = {}


def lookup(name: str, arch: Arch | None = None) -> tuple[str, Handler | None]:
    """Signature and function (None: the host's call) for a name; no signature if it is not there."""
    if not _signatures:
        for line in _HOST.strip().splitlines():
            _signatures[line.partition("(")[0]] = line
        for module, names in _MODULES.items():
            for item in names.split():
                _places[item] = module
    home = _places.get(name)
    if home is None and arch is not None:
        home = arch.modules.get(name)
    if home is not None:
        __import__(f"polyvm.linux.{home}")
        return FUNCTIONS.get(name, ("", None))
    return _signatures.get(name, ""), None


def all_names() -> list[str]:
    """Every system call that all architectures have, for the documentation."""
    lookup("")
    return sorted({*_signatures, *_places})
