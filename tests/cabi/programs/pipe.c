/* pipe(7), fifo(7), splice(2), tee(2), vmsplice(2). */
#include "say.h"
#include <sys/uio.h>

static void say_flags(const char *what, const int ends[2])
{
    for (int i = 0; i < 2; i++)
        line("pipe2", what, "%s flags %#x close-on-exec %d", i ? "write" : "read",
             fcntl(ends[i], F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_DIRECT), fcntl(ends[i], F_GETFD));
}

static void say_bytes(const char *function, const char *what, int fd)
{
    char bytes[100];
    ssize_t got = read(fd, bytes, sizeof bytes);
    line(function, what, got >= 0 ? "holds %.*s" : "holds nothing", (int)got, bytes);
}

static void fill(int fd)
{
    static const char bytes[4096];
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    while (write(fd, bytes, sizeof bytes) > 0) {}
    fcntl(fd, F_SETFL, flags);
}

static void making(void)
{
    int ends[2] = { -1, -1 }, unchanged[2] = { 5, 6 };
    CALL(pipe, "", ends);
    say_flags("pipe", ends);
    MUST(write(ends[1], "text", 4));
    say_bytes("pipe", "", ends[0]);
    close(ends[0]), close(ends[1]);
    CALL(pipe2, "0", ends, 0);
    say_flags("0", ends);
    close(ends[0]), close(ends[1]);
    CALL(pipe2, "O_CLOEXEC and O_NONBLOCK", ends, O_CLOEXEC | O_NONBLOCK);
    say_flags("O_CLOEXEC and O_NONBLOCK", ends);
    close(ends[0]), close(ends[1]);
    CALL(pipe2, "O_DIRECT", ends, O_DIRECT);
    say_flags("O_DIRECT", ends);
    MUST(write(ends[1], "one", 3));
    MUST(write(ends[1], "two", 3));
    say_bytes("pipe2", "O_DIRECT", ends[0]);
    close(ends[0]), close(ends[1]);
    CALL(pipe2, "unknown flag", unchanged, O_APPEND);
    CALL(pipe2, "all flags", unchanged, -1);
    struct child poor = fork_child();
    if (!poor.pid) {
        struct { unsigned long now, most; } limit = { 50, 50 };
        MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
        while (dup(0) >= 0) {}
        CALL(pipe, "no descriptors left", unchanged);
        CALL(pipe2, "no descriptors left", unchanged, O_CLOEXEC);
        close(20);
        CALL(pipe, "one descriptor left", unchanged);
        CALL(dup, "the one that is left", 0);
        exit(0);
    }
    finish(&poor);
    line("pipe", "failed", "array %d %d", unchanged[0], unchanged[1]);
}

static void fifos(void)
{
    struct stat status;
    umask(027);
    CALL(mkfifo, "", "fifo", 0666);
    umask(022);
    MUST(stat("fifo", &status));
    line("mkfifo", "", "fifo %s mode %#o", yes(S_ISFIFO(status.st_mode)), status.st_mode & 07777);
    CALL(mkfifo, "existing", "fifo", 0600);
    CALL(mkfifo, "no such directory", "absent/fifo", 0600);
    CALL(mkfifo, "empty", "", 0600);
    CALL(mkfifo, "not a directory", "fifo/fifo", 0600);
    CALL(mkfifo, "slash at the end", "another/", 0600);
    CALL(mkfifo, "existing directory", ".", 0600);
    CALL(mkfifo, "set-user-id", "special", 07777);
    MUST(stat("special", &status));
    line("mkfifo", "set-user-id", "mode %#o", status.st_mode & 07777);
    CALL(mkfifo, "type in the mode", "typed", S_IFDIR | 0600);
    MUST(symlink("loop", "loop"));
    CALL(mkfifo, "symbolic link", "loop", 0600);
    CALL(mkfifo, "below a loop", "loop/fifo", 0600);
    static char name[5000];
    memset(name, 'x', 300);
    CALL(mkfifo, "name too long", name, 0600);
    memset(name, '/', sizeof name - 1);
    CALL(mkfifo, "path too long", name, 0600);
    CALL(mkfifo, "on another file system", "/proc/fifo", 0600);
    MUST(mkdir("directory", 0700));
    int directory = MUST(open("directory", O_PATH | O_DIRECTORY | O_CLOEXEC)), file = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
    CALL(mkfifoat, "directory", directory, "fifo", 0600);
    CALL(mkfifoat, "existing", directory, "fifo", 0600);
    CALL(mkfifoat, "AT_FDCWD", AT_FDCWD, "directory/second", 0600);
    CALL(mkfifoat, "absent", directory, "absent/fifo", 0600);
    CALL(mkfifoat, "empty", directory, "", 0600);
    CALL(mkfifoat, "not a directory", file, "fifo", 0600);
    CALL(mkfifoat, "descriptor -1", -1, "fifo", 0600);
    CALL(mkfifoat, "descriptor -1, absolute", -1, "/dev/null", 0600);
    memset(name, 'x', 300), name[300] = 0;
    CALL(mkfifoat, "name too long", directory, name, 0600);
    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(mkfifo, "closed directory", "directory/fifo", 0600);
            CALL(mkfifoat, "closed directory", directory, "third", 0600);
        }
        exit(0);
    }
    finish(&nobody);
    struct child mounter = fork_child();
    if (!mounter.pid) {
        /* A file system without room, and then one that is read only. */
        if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
            mount("tmpfs", "directory", "tmpfs", 0, "nr_inodes=2")) {
            line("mkfifo", "no room", "skipped: %s", error_name(errno));
        } else {
            CALL(mkfifo, "room for one", "directory/one", 0600);
            CALL(mkfifo, "no room", "directory/two", 0600);
            CALL(mkfifoat, "no room", AT_FDCWD, "directory/two", 0600);
            MUST(mount(NULL, "directory", NULL, MS_REMOUNT | MS_RDONLY, NULL));
            CALL(mkfifo, "read only", "directory/two", 0600);
            CALL(mkfifoat, "read only", AT_FDCWD, "directory/two", 0600);
        }
        exit(0);
    }
    finish(&mounter);

    struct child writer = fork_child();
    if (!writer.pid) {
        int fd = MUST(open("fifo", O_WRONLY | O_CLOEXEC));
        MUST(write(fd, "by name", 7));
        exit(0);
    }
    int fd = MUST(open("fifo", O_RDONLY | O_CLOEXEC));
    say_bytes("mkfifo", "", fd);
    finish(&writer);
    close(fd), close(directory), close(file);
    unlink("fifo"), unlink("special"), unlink("typed"), unlink("loop"), unlink("directory/fifo"), unlink("directory/second");
    rmdir("directory");
}

static void splicing(void)
{
    int one[2], two[2], full[2], broken[2];
    MUST(pipe2(one, O_CLOEXEC));
    MUST(pipe2(two, O_CLOEXEC));
    MUST(pipe2(full, O_CLOEXEC));
    MUST(pipe2(broken, O_CLOEXEC));
    fill(full[1]);
    close(broken[0]);
    int file = MUST(open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    int appending = MUST(open("file", O_WRONLY | O_APPEND | O_CLOEXEC));
    int reader = MUST(open("file", O_RDONLY | O_CLOEXEC));
    MUST(write(file, "0123456789", 10));

    off64_t from = 2, to = 20;
    CALL(splice, "file to pipe", file, &from, one[1], NULL, 5, 0);
    line("splice", "file to pipe", "offset %lld position %lld", (long long)from, (long long)lseek(file, 0, SEEK_CUR));
    CALL(splice, "pipe to file", one[0], NULL, file, &to, 100, SPLICE_F_MOVE);
    line("splice", "pipe to file", "offset %lld", (long long)to);
    MUST(lseek(file, 20, SEEK_SET));
    say_bytes("splice", "pipe to file", file);
    MUST(lseek(file, 8, SEEK_SET));
    CALL(splice, "at the position", file, NULL, one[1], NULL, 2, SPLICE_F_MORE);
    line("splice", "at the position", "position %lld", (long long)lseek(file, 0, SEEK_CUR));
    CALL(splice, "pipe to pipe", one[0], NULL, two[1], NULL, 100, 0);
    say_bytes("splice", "pipe to pipe", two[0]);
    from = 1000;
    CALL(splice, "after the end of the file", file, &from, one[1], NULL, 5, 0);
    CALL(splice, "length 0", one[0], NULL, two[1], NULL, 0, 0);
    CALL(splice, "empty, SPLICE_F_NONBLOCK", one[0], NULL, two[1], NULL, 5, SPLICE_F_NONBLOCK);
    from = 0;
    CALL(splice, "full, SPLICE_F_NONBLOCK", file, &from, full[1], NULL, 5, SPLICE_F_NONBLOCK);
    CALL(splice, "no pipe", file, &from, file, &to, 5, 0);
    CALL(splice, "the same pipe", one[0], NULL, one[1], NULL, 5, 0);
    CALL(splice, "unknown flag", one[0], NULL, two[1], NULL, 5, 0x100);
    CALL(splice, "offset in a pipe", one[0], &from, file, &to, 5, 0);
    CALL(splice, "offset in a pipe, out", file, &from, two[1], &to, 5, 0);
    MUST(write(one[1], "x", 1));
    CALL(splice, "to who appends", one[0], NULL, appending, NULL, 1, 0);
    CALL(splice, "to a reader", one[0], NULL, reader, NULL, 1, 0);
    from = -1;
    CALL(splice, "negative offset", file, &from, one[1], NULL, 5, 0);
    CALL(splice, "negative offset, out", one[0], NULL, file, &from, 5, 0);
    CALL(splice, "wrong ends", one[1], NULL, two[0], NULL, 5, 0);
    CALL(splice, "descriptor -1", -1, NULL, one[1], NULL, 5, 0);
    CALL(splice, "descriptor -1, out", one[0], NULL, -1, NULL, 5, 0);
    signal(SIGPIPE, count_signal);
    signals = 0;
    from = 0;
    CALL(splice, "nobody reads", file, &from, broken[1], NULL, 5, 0);
    line("splice", "nobody reads", "signals %d", (int)signals);
    MUST(read(one[0], &(char){ 0 }, 1));
    INTERRUPTED(splice, "interrupted, empty", one[0], NULL, two[1], NULL, 5, 0);
    INTERRUPTED(splice, "interrupted, full", file, &from, full[1], NULL, 5, 0);

    MUST(write(one[1], "twice", 5));
    CALL(tee, "", one[0], two[1], 3, 0);
    say_bytes("tee", "copy", two[0]);
    CALL(tee, "all", one[0], two[1], 100, 0);
    say_bytes("tee", "original", one[0]);
    say_bytes("tee", "copy", two[0]);
    CALL(tee, "length 0", one[0], two[1], 0, 0);
    CALL(tee, "empty, SPLICE_F_NONBLOCK", one[0], two[1], 5, SPLICE_F_NONBLOCK);
    MUST(write(one[1], "x", 1));
    CALL(tee, "full, SPLICE_F_NONBLOCK", one[0], full[1], 5, SPLICE_F_NONBLOCK);
    CALL(tee, "the same pipe", one[0], one[1], 5, 0);
    CALL(tee, "from a file", file, one[1], 5, 0);
    CALL(tee, "to a file", one[0], file, 5, 0);
    CALL(tee, "unknown flag", one[0], two[1], 5, 0x100);
    CALL(tee, "descriptor -1", -1, two[1], 5, 0);
    CALL(tee, "descriptor -1, out", one[0], -1, 5, 0);
    CALL(tee, "wrong ends", one[1], two[0], 5, 0);
    signals = 0;
    CALL(tee, "nobody reads", one[0], broken[1], 5, 0);
    line("tee", "nobody reads", "signals %d", (int)signals);
    say_bytes("tee", "kept", one[0]);
    INTERRUPTED(tee, "interrupted, empty", one[0], two[1], 5, 0);

    char first[] = "first", second[] = "second";
    struct iovec pieces[] = { { first, 5 }, { second, 6 } };
    CALL(vmsplice, "to a pipe", one[1], pieces, 2, 0);
    say_bytes("vmsplice", "to a pipe", one[0]);
    MUST(write(one[1], "upwards", 7));
    memset(first, '-', 5), memset(second, '-', 6);
    CALL(vmsplice, "from a pipe", one[0], pieces, 2, 0);
    line("vmsplice", "from a pipe", "%s %s", first, second);
    char *page = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    strcpy(page, "gift");
    struct iovec whole = { page, 4096 }, part = { page + 1, 10 };
    CALL(vmsplice, "SPLICE_F_GIFT", one[1], &whole, 1, SPLICE_F_GIFT);
    CALL(vmsplice, "SPLICE_F_GIFT of a part", one[1], &part, 1, SPLICE_F_GIFT);
    CALL(vmsplice, "no pieces", one[1], pieces, 0, 0);
    CALL(vmsplice, "too many pieces", one[1], pieces, 1025, 0);
    CALL(vmsplice, "unknown flag", one[1], pieces, 1, 0x100);
    CALL(vmsplice, "full, SPLICE_F_NONBLOCK", full[1], pieces, 1, SPLICE_F_NONBLOCK);
    CALL(vmsplice, "no pipe", file, pieces, 1, 0);
    CALL(vmsplice, "descriptor -1", -1, pieces, 1, 0);
    struct iovec negative = { page, -1 };
    CALL(vmsplice, "negative length", one[1], &negative, 1, 0);
    signals = 0;
    CALL(vmsplice, "nobody reads", broken[1], pieces, 1, 0);
    line("vmsplice", "nobody reads", "signals %d", (int)signals);
    INTERRUPTED(vmsplice, "interrupted, full", full[1], pieces, 1, 0);

    struct child child = fork_child();
    if (!child.pid) {
        tell(&child);
        BLOCKED(&child, splice, "waits for bytes", two[0], NULL, file, NULL, 100, 0);
        tell(&child);
        BLOCKED(&child, tee, "waits for bytes", two[0], full[1], 3, 0);
        exit(0);
    }
    hear(&child);
    until_asleep(child.pid);
    MUST(write(two[1], "bytes", 5));
    tell(&child);
    hear(&child);
    until_asleep(child.pid);
    MUST(write(two[1], "bytes", 5));
    static char all[65536];
    MUST(read(full[0], all, sizeof all));
    tell(&child);
    finish(&child);

    close(two[1]);
    say_bytes("splice", "what was left", two[0]);
    CALL(splice, "end of the pipe", two[0], NULL, file, NULL, 5, 0);
    CALL(tee, "end of the pipe", two[0], one[1], 5, 0);
    unlink("file");
}

int main(void)
{
    begin();
    making();
    fifos();
    splicing();
    return 0;
}
