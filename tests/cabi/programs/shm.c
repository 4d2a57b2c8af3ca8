/* shm_overview(7). */
#include "say.h"

static void say_mode(const char *what, int fd)
{
    struct stat status;
    MUST(fstat(fd, &status));
    line("shm_open", what, "mode %#o size %lld close-on-exec %d flags %#x", status.st_mode & 07777, (long long)status.st_size,
         fcntl(fd, F_GETFD), fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
}

int main(void)
{
    begin();
    int fd = OPEN(shm_open, "O_CREAT", "/object", O_CREAT | O_EXCL | O_RDWR, 0666);
    say_mode("O_CREAT", fd);
    CALL(shm_open, "O_EXCL of an existing one", "/object", O_CREAT | O_EXCL | O_RDWR, 0666);
    MUST(ftruncate(fd, 8192));
    char *memory = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    strcpy(memory, "text");
    int reader = OPEN(shm_open, "O_RDONLY", "/object", O_RDONLY, 0);
    say_mode("O_RDONLY", reader);
    char *seen = MUST(mmap(NULL, 8192, PROT_READ, MAP_SHARED, reader, 0));
    line("shm_open", "O_RDONLY", "%s", seen);
    CALL(ftruncate, "of a reader", reader, 1);
    int bare = OPEN(shm_open, "without a slash", "object", O_RDWR, 0);
    line("shm_open", "without a slash", "size %lld", (long long)lseek(bare, 0, SEEK_END));
    int many = OPEN(shm_open, "many slashes", "///object", O_RDWR, 0);
    int writer = OPEN(shm_open, "O_WRONLY", "/object", O_WRONLY, 0);
    OPEN(shm_open, "O_CREAT of an existing one", "/object", O_CREAT | O_RDWR, 0600);
    int appender = OPEN(shm_open, "other flags", "/object", O_RDWR | O_NONBLOCK | O_APPEND, 0);
    say_mode("other flags", appender);
    int truncated = OPEN(shm_open, "O_TRUNC", "/object", O_RDWR | O_TRUNC, 0);
    say_mode("O_TRUNC", truncated);
    int quiet = OPEN(shm_open, "mode 0", "/closed", O_CREAT | O_RDWR, 0);
    say_mode("mode 0", quiet);
    OPEN(shm_open, "mode 0, again", "/closed", O_RDWR, 0);
    umask(0);
    int open_to_all = OPEN(shm_open, "without umask", "/open", O_CREAT | O_RDWR, 0666);
    say_mode("without umask", open_to_all);
    umask(022);

    CALL(shm_open, "no such object", "/absent", O_RDWR, 0);
    CALL(shm_open, "no such object, O_RDONLY", "/absent", O_RDONLY, 0);
    CALL(shm_open, "empty", "", O_CREAT | O_RDWR, 0600);
    CALL(shm_open, "only a slash", "/", O_CREAT | O_RDWR, 0600);
    CALL(shm_open, "only slashes", "//", O_CREAT | O_RDWR, 0600);
    CALL(shm_open, "slash inside", "/a/b", O_CREAT | O_RDWR, 0600);
    CALL(shm_open, "slash at the end", "/a/", O_CREAT | O_RDWR, 0600);
    CALL(shm_open, "dot", "/.", O_CREAT | O_RDWR, 0600);
    CALL(shm_open, "dots", "/..", O_CREAT | O_RDWR, 0600);
    CALL(shm_open, "dot, existing", "/.", O_RDWR, 0600);
    char name[1000];
    memset(name, 'x', sizeof name);
    name[0] = '/';
    name[256] = 0;
    OPEN(shm_open, "255 bytes", name, O_CREAT | O_RDWR, 0600);
    CALL(shm_unlink, "255 bytes", name);
    name[256] = 'x', name[257] = 0;
    CALL(shm_open, "256 bytes", name, O_CREAT | O_RDWR, 0600);
    CALL(shm_unlink, "256 bytes", name);
    name[257] = 'x', name[999] = 0;
    CALL(shm_open, "998 bytes", name, O_CREAT | O_RDWR, 0600);
    CALL(shm_unlink, "998 bytes", name);
    OPEN(shm_open, "any bytes", "/\xff\x01 %", O_CREAT | O_RDWR, 0600);
    CALL(shm_unlink, "any bytes", "/\xff\x01 %");

    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(shm_open, "another's, O_RDWR", "/object", O_RDWR, 0);
            OPEN(shm_open, "another's, O_RDONLY", "/object", O_RDONLY, 0);
            CALL(shm_open, "another's, O_TRUNC", "/object", O_RDONLY | O_TRUNC, 0);
            CALL(shm_open, "another's, mode 0", "/closed", O_RDONLY, 0);
            OPEN(shm_open, "another's, in a sticky directory", "/open", O_CREAT | O_RDWR, 0666);
            CALL(shm_unlink, "another's", "/object");
        }
        exit(0);
    }
    finish(&nobody);
    struct child poor = fork_child();
    if (!poor.pid) {
        struct { unsigned long now, most; } limit = { 50, 50 };
        MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
        while (dup(0) >= 0) {}
        CALL(shm_open, "no descriptors left", "/object", O_RDWR, 0);
        CALL(shm_open, "no descriptors left, O_CREAT", "/another", O_CREAT | O_RDWR, 0600);
        exit(0);
    }
    finish(&poor);

    struct child full = fork_child();
    if (!full.pid) {
        if (own_shm("nr_inodes=2")) {
            close(OPEN(shm_open, "room for one", "/one", O_CREAT | O_RDWR, 0600));
            CALL(shm_open, "no room", "/two", O_CREAT | O_RDWR, 0600);
            close(OPEN(shm_open, "no room, existing", "/one", O_CREAT | O_RDWR, 0600));
            make_shm_read_only();
            CALL(shm_open, "read only, O_CREAT", "/two", O_CREAT | O_RDWR, 0600);
            CALL(shm_open, "read only, O_RDWR", "/one", O_RDWR, 0600);
            OPEN(shm_open, "read only, O_RDONLY", "/one", O_RDONLY, 0600);
            CALL(shm_unlink, "read only", "/one");
        }
        exit(0);
    }
    finish(&full);

    CALL(shm_unlink, "", "/closed");
    CALL(shm_unlink, "again", "/closed");
    CALL(shm_unlink, "without a slash", "open");
    CALL(shm_unlink, "empty", "");
    CALL(shm_unlink, "only a slash", "/");
    CALL(shm_unlink, "slash inside", "/a/b");
    CALL(shm_unlink, "dot", "/.");
    CALL(shm_unlink, "dots", "/..");
    MUST(ftruncate(fd, 8192));
    strcpy(memory, "still");
    CALL(shm_unlink, "while mapped", "/object");
    line("shm_unlink", "while mapped", "%s", seen);
    CALL(shm_open, "after shm_unlink", "/object", O_RDWR, 0);
    struct child heir = fork_child();
    if (!heir.pid) {
        strcpy(memory, "child");
        exit(0);
    }
    finish(&heir);
    line("shm_unlink", "shared with a child", "%s", seen);
    close(fd), close(reader), close(bare), close(many), close(writer), close(appender), close(truncated), close(quiet);
    return 0;
}
