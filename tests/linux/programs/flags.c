/* Flags of open, whose values differ between architectures. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int try_open(const char *path, int flags)
{
    errno = 0;
    int fd = open(path, flags, 0600);
    int result = fd < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return result;
}

static const struct { int bit; const char *name; } NAMES[] = {
    {O_WRONLY, "WRONLY"}, {O_RDWR, "RDWR"}, {O_APPEND, "APPEND"}, {O_NONBLOCK, "NONBLOCK"}, {O_DIRECTORY, "DIRECTORY"},
    {O_NOFOLLOW, "NOFOLLOW"}, {O_DIRECT, "DIRECT"}, {O_PATH, "PATH"}, {O_CLOEXEC, "CLOEXEC"},
};

static void show(const char *what, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    printf("%s:", what);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if ((flags & NAMES[i].bit) == NAMES[i].bit)
            printf(" %s", NAMES[i].name);
    printf("\n");
}

int main(void)
{
    char folder[] = "/tmp/polyvm-flags-XXXXXX";
    chdir(mkdtemp(folder));
    close(open("file", O_CREAT | O_WRONLY, 0600));
    symlink("file", "link");
    mkdir("folder", 0700);
    printf("directory: %d %d %d\n", try_open("folder", O_DIRECTORY), try_open("file", O_DIRECTORY), try_open("folder", O_WRONLY));
    printf("nofollow: %d %d\n", try_open("file", O_NOFOLLOW), try_open("link", O_NOFOLLOW));
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    printf("tmpfile: %d\n", fd >= 0 || errno == EOPNOTSUPP);
    close(fd);
    printf("path: %d\n", try_open("link", O_PATH | O_NOFOLLOW));

    fd = open("file", O_RDWR | O_APPEND);
    show("file", fd);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    show("after F_SETFL", fd);
    close(fd);
    fd = open("folder", O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    show("folder", fd);
    close(fd);

    int ends[2];
    char text[16] = "";
    pipe2(ends, O_DIRECT | O_NONBLOCK);
    show("pipe", ends[0]);
    write(ends[1], "abc", 3);
    write(ends[1], "def", 3);
    printf("packet: %zd\n", read(ends[0], text, sizeof text));

    struct open_how how = {.flags = O_DIRECTORY | O_RDONLY};
    fd = syscall(SYS_openat2, AT_FDCWD, "folder", &how, sizeof how);
    int other = syscall(SYS_openat2, AT_FDCWD, "file", &how, sizeof how);
    printf("openat2: %d %d\n", fd >= 0 || errno == ENOSYS, other < 0);
    unlink("file"), unlink("link"), rmdir("folder"), rmdir(folder);
    return 0;
}
