/* Files, directories, memory maps, pipes, epoll, sockets, timers, /proc. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void directory(void)
{
    char name[] = "/tmp/polyvm-XXXXXX", path[64], link[64], text[64];
    printf("mkdtemp %d\n", mkdtemp(name) != NULL);
    chdir(name);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "file%d", i);
        int fd = open(path, O_CREAT | O_RDWR | O_EXCL, 0640);
        dprintf(fd, "content %d\n", i);
        close(fd);
    }
    symlink("file1", "link");
    rename("file2", "moved");
    struct stat status;
    stat("link", &status);
    printf("stat %o %ld %d\n", status.st_mode, (long)status.st_size, (int)status.st_nlink);
    lstat("link", &status);
    printf("lstat %d\n", S_ISLNK(status.st_mode));
    struct statx more;
    statx(AT_FDCWD, "moved", 0, STATX_ALL, &more);
    printf("statx %llu\n", (unsigned long long)more.stx_size);
    long size = readlink("link", link, sizeof link);
    printf("readlink %.*s\n", (int)size, link);
    DIR *dir = opendir(".");
    char *names[16];
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        names[count++] = strdup(entry->d_name);
    closedir(dir);
    qsort(names, count, sizeof *names, by_name);
    for (int i = 0; i < count; i++)
        printf("%s ", names[i]);
    getcwd(text, sizeof text);
    printf("\ncwd %d\n", strcmp(text, name));
    int watch = inotify_init1(0);
    inotify_add_watch(watch, ".", IN_CREATE);
    close(open("new", O_CREAT | O_WRONLY, 0600));
    char events[512];
    size = read(watch, events, sizeof events);
    printf("inotify %s\n", ((struct inotify_event *)events)->name);
    errno = 0;
    printf("missing %d %d\n", open("absent", O_RDONLY), errno);
    printf("access %d\n", access("moved", W_OK));
    struct iovec parts[2] = {{"ab", 2}, {"cde", 3}};
    int fd = open("vector", O_CREAT | O_RDWR, 0600);
    printf("writev %ld\n", (long)writev(fd, parts, 2));
    char one[3] = {0}, two[3] = {0};
    struct iovec in[2] = {{one, 2}, {two, 2}};
    printf("preadv %ld %s %s\n", (long)preadv(fd, in, 2, 1), one, two);
    struct flock region = {.l_type = F_WRLCK, .l_len = 3};
    printf("lock %d\n", fcntl(fd, F_SETLK, &region));
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map[0] = 'X';
    msync(map, 4096, MS_SYNC);
    pread(fd, text, 5, 0);
    printf("mmap %.5s\n", text);
    map = mremap(map, 4096, 16384, MREMAP_MAYMOVE);
    printf("mremap %c\n", map[4]);
    printf("munmap %d\n", munmap(map, 16384));
    struct statfs system;
    printf("statfs %d\n", fstatfs(fd, &system) || system.f_bsize <= 0);
    system.f_bsize = 0;
    snprintf(text, sizeof text, "rm -r %s", name);
    for (int i = 0; i < count; i++)
        unlink(names[i]);
    unlink("new");
    unlink("vector");
    chdir("/");
    printf("rmdir %d\n", rmdir(name));
}

static void waiting(void)
{
    int ends[2], ep = epoll_create1(0), ev = eventfd(3, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    pipe2(ends, O_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788};
    epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event);
    event.data.u64 = 7;
    write(ends[1], "z", 1);
    struct epoll_event got[4];
    int n = epoll_wait(ep, got, 4, 1000);
    printf("epoll %d %llx\n", n, (unsigned long long)got[0].data.u64);
    struct pollfd fds[2] = {{ends[0], POLLIN, 0}, {ev, POLLIN | POLLOUT, 0}};
    n = poll(fds, 2, 100);
    printf("poll %d %d %d\n", n, fds[0].revents, fds[1].revents);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval brief = {0, 1000};
    printf("select %d\n", select(ends[0] + 1, &set, NULL, NULL, &brief));
    unsigned long long value;
    read(ev, &value, 8);
    printf("eventfd %llu\n", value);
    struct itimerspec when = {.it_value = {0, 1000000}};
    timerfd_settime(timer, 0, &when, NULL);
    read(timer, &value, 8);
    printf("timerfd %llu\n", value);
    int bytes;
    ioctl(ends[0], FIONREAD, &bytes);
    printf("fionread %d\n", bytes);
}

static void sockets(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int server = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bind(server, (struct sockaddr *)&address, sizeof address);
    listen(server, 4);
    socklen_t length = sizeof address;
    getsockname(server, (struct sockaddr *)&address, &length);
    fflush(stdout);
    if (!fork()) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        connect(client, (struct sockaddr *)&address, sizeof address);
        send(client, "over tcp", 8, 0);
        _exit(0);
    }
    int peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    char text[32] = {0};
    recv(peer, text, sizeof text, MSG_WAITALL);
    printf("%s\n", text);
    wait(NULL);
    int pair[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {"fd", 2};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pair[0], sizeof(int));
    printf("sendmsg %ld\n", (long)sendmsg(pair[0], &message, 0));
    part.iov_base = text;
    printf("recvmsg %ld", (long)recvmsg(pair[1], &message, 0));
    int passed;
    memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof passed);
    struct stat a, b;
    fstat(passed, &a);
    fstat(pair[0], &b);
    printf(" %d\n", a.st_ino == b.st_ino);
}

int main(void)
{
    directory();
    waiting();
    sockets();
    struct utsname name;
    uname(&name);
    printf("%s %s\n", name.sysname, name.machine);
    struct rlimit limit;
    printf("rlimit %d\n", getrlimit(RLIMIT_NOFILE, &limit));
    struct sysinfo info;
    printf("sysinfo %d %d\n", sysinfo(&info), info.totalram > 0);
    struct timespec now;
    printf("clock %d\n", clock_gettime(CLOCK_MONOTONIC, &now));
    char path[256] = {0};
    readlink("/proc/self/exe", path, sizeof path);
    printf("exe %s\n", strrchr(path, '/'));
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int stack = 0, text = 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char mode[8];
        sscanf(line, "%lx-%lx %7s", &start, &end, mode);
        stack |= strstr(line, "[stack]") && (unsigned long)&stack >= start && (unsigned long)&stack < end;
        text |= mode[2] == 'x' && (unsigned long)main >= start && (unsigned long)main < end;
    }
    printf("maps %d %d\n", stack, text);
    sbrk(1 << 20);
    fflush(stdout);
    pid_t child = vfork();
    if (!child)
        _exit(9);
    int status;
    waitpid(child, &status, 0);
    printf("vfork %d\n", WEXITSTATUS(status));
    return 0;
}
