/* flock(2), fcntl_locking(2), lockf(3), and the other commands of fcntl(2). */
#include "say.h"
#include <sys/file.h>

static struct flock region(short type, short whence, off_t start, off_t length)
{
    return (struct flock){ .l_type = type, .l_whence = whence, .l_start = start, .l_len = length };
}

#define REGION(type, start, length) (&(struct flock[]){ region(type, SEEK_SET, start, length) }[0])
#define REGION64(type, start, length) \
    (&(struct flock64){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length })

static const char *type_name(short type)
{
    return type == F_RDLCK ? "F_RDLCK" : type == F_WRLCK ? "F_WRLCK" : type == F_UNLCK ? "F_UNLCK" : "?";
}

static void say_region(const char *what, const struct flock *lock, pid_t holder)
{
    line("fcntl", what, "%s whence %d start %lld length %lld pid %s", type_name(lock->l_type), lock->l_whence,
         (long long)lock->l_start, (long long)lock->l_len,
         lock->l_pid == holder ? "of the holder" : lock->l_pid == -1 ? "-1" : lock->l_pid == 0 ? "0" : "?");
}

static int open_file(int flags)
{
    return MUST(open("file", flags | O_CREAT | O_CLOEXEC, 0644));
}

static void whole_files(void)
{
    int one = open_file(O_RDWR), two = open_file(O_RDONLY), again = dup(one);

    CALL(flock, "shared", one, LOCK_SH);
    CALL(flock, "shared beside shared", two, LOCK_SH | LOCK_NB);
    CALL(flock, "to exclusive beside shared", one, LOCK_EX | LOCK_NB);
    /* A conversion is not atomic: the failed one has lost the lock. */
    CALL(flock, "the other to exclusive", two, LOCK_EX | LOCK_NB);
    CALL(flock, "shared beside exclusive", one, LOCK_SH | LOCK_NB);
    CALL(flock, "unlock", two, LOCK_UN);
    CALL(flock, "unlock again", two, LOCK_UN);
    CALL(flock, "unlock, not blocking", two, LOCK_UN | LOCK_NB);
    CALL(flock, "exclusive", one, LOCK_EX);
    CALL(flock, "exclusive by a duplicate", again, LOCK_EX | LOCK_NB);
    CALL(flock, "unlock by a duplicate", again, LOCK_UN);
    CALL(flock, "the other, read only, exclusive", two, LOCK_EX | LOCK_NB);
    CALL(flock, "unlock", two, LOCK_UN);

    CALL(flock, "operation 0", one, 0);
    CALL(flock, "both operations", one, LOCK_SH | LOCK_EX);
    CALL(flock, "only LOCK_NB", one, LOCK_NB);
    CALL(flock, "unknown operation", one, 0x1000);
    CALL(flock, "unknown bit", one, LOCK_SH | 0x1000);
    CALL(flock, "LOCK_MAND", one, LOCK_MAND | LOCK_READ);
    CALL(flock, "descriptor -1", -1, LOCK_SH);
    CALL(flock, "descriptor -1, operation 0", -1, 0);
    CALL(flock, "closed descriptor", 9999, LOCK_UN);
    int path = MUST(open("file", O_PATH | O_CLOEXEC));
    CALL(flock, "O_PATH", path, LOCK_SH);
    int directory = MUST(open(".", O_RDONLY | O_CLOEXEC));
    CALL(flock, "directory", directory, LOCK_EX | LOCK_NB);

    CALL(flock, "before fork", one, LOCK_EX);
    struct child heir = fork_child();
    if (!heir.pid) {
        CALL(flock, "inherited descriptor", one, LOCK_EX | LOCK_NB);
        CALL(flock, "own descriptor", open_file(O_RDWR), LOCK_EX | LOCK_NB);
        CALL(flock, "unlock by the child", one, LOCK_UN);
        exit(0);
    }
    finish(&heir);
    CALL(flock, "after the child unlocked", two, LOCK_EX | LOCK_NB);
    struct child waiter = fork_child();
    if (!waiter.pid) {
        int own = open_file(O_RDWR);
        tell(&waiter);
        BLOCKED(&waiter, flock, "waits for exclusive", own, LOCK_EX);
        tell(&waiter);
        hear(&waiter);
        exit(0);
    }
    hear(&waiter);
    until_asleep(waiter.pid);
    CALL(flock, "unlock while one waits", two, LOCK_UN);
    tell(&waiter);
    hear(&waiter);
    CALL(flock, "held by the child", two, LOCK_SH | LOCK_NB);
    tell(&waiter);
    finish(&waiter);
    CALL(flock, "after the holder's end", two, LOCK_EX | LOCK_NB);
    INTERRUPTED(flock, "interrupted, exclusive", one, LOCK_EX);
    INTERRUPTED(flock, "interrupted, shared", one, LOCK_SH);
    close(one), close(two), close(again), close(path), close(directory);
}

static void ranges(void)
{
    int fd = open_file(O_RDWR);
    MUST(ftruncate(fd, 100));

    CALL(fcntl, "F_SETLK write", fd, F_SETLK, REGION(F_WRLCK, 10, 20));
    CALL(fcntl, "F_SETLK read in its middle", fd, F_SETLK, REGION(F_RDLCK, 15, 5));
    CALL(fcntl, "F_SETLKW read to the end", fd, F_SETLKW, REGION(F_RDLCK, 50, 0));
    struct flock own = region(F_WRLCK, SEEK_SET, 0, 0);
    CALL(fcntl, "F_GETLK own", fd, F_GETLK, &own);
    say_region("F_GETLK own", &own, getpid());

    struct child other = fork_child();
    if (!other.pid) {
        static const struct { const char *what; struct flock lock; } questions[] = {
            { "F_GETLK write over all", { .l_type = F_WRLCK } },
            { "F_GETLK read over all", { .l_type = F_RDLCK } },
            { "F_GETLK read over read", { .l_type = F_RDLCK, .l_start = 15, .l_len = 5 } },
            { "F_GETLK write over read", { .l_type = F_WRLCK, .l_start = 16, .l_len = 2 } },
            { "F_GETLK write, free", { .l_type = F_WRLCK, .l_start = 30, .l_len = 20, .l_pid = 77 } },
            { "F_GETLK from the end", { .l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -40, .l_len = 5 } },
            { "F_GETLK from the position", { .l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 0, .l_len = 1 } },
            { "F_GETLK negative length", { .l_type = F_WRLCK, .l_start = 12, .l_len = -12 } },
            { "F_GETLK unlock", { .l_type = F_UNLCK } },
        };
        MUST(lseek(fd, 29, SEEK_SET));
        for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
            struct flock lock = questions[i].lock;
            if (CALL(fcntl, questions[i].what, fd, F_GETLK, &lock) == 0)
                say_region(questions[i].what, &lock, getppid());
        }
        CALL(fcntl, "F_SETLK write beside write", fd, F_SETLK, REGION(F_WRLCK, 10, 1));
        CALL(fcntl, "F_SETLK read beside write", fd, F_SETLK, REGION(F_RDLCK, 10, 1));
        CALL(fcntl, "F_SETLK read beside read", fd, F_SETLK, REGION(F_RDLCK, 15, 5));
        CALL(fcntl, "F_SETLK write beside read", fd, F_SETLK, REGION(F_WRLCK, 15, 5));
        CALL(fcntl, "F_SETLK unlock of what others hold", fd, F_SETLK, REGION(F_UNLCK, 0, 0));
        INTERRUPTED(fcntl, "F_SETLKW interrupted", fd, F_SETLKW, REGION(F_WRLCK, 0, 0));
        tell(&other);
        BLOCKED(&other, fcntl, "F_SETLKW waits", fd, F_SETLKW, REGION(F_WRLCK, 10, 5));
        exit(0);
    }
    hear(&other);
    until_asleep(other.pid);
    CALL(fcntl, "F_SETLK unlock while one waits", fd, F_SETLK, REGION(F_UNLCK, 0, 0));
    tell(&other);
    finish(&other);

    CALL(fcntl, "F_SETLK type 99", fd, F_SETLK, REGION(99, 0, 0));
    struct flock odd = region(F_WRLCK, 9, 0, 0);
    CALL(fcntl, "F_SETLK whence 9", fd, F_SETLK, &odd);
    CALL(fcntl, "F_SETLK negative start", fd, F_SETLK, REGION(F_WRLCK, -1, 0));
    CALL(fcntl, "F_SETLK negative length at 0", fd, F_SETLK, REGION(F_WRLCK, 0, -1));
    CALL(fcntl, "F_SETLK too long", fd, F_SETLK, REGION(F_WRLCK, INT64_MAX, 2));
    CALL(fcntl, "F_SETLK at the very end", fd, F_SETLK, REGION(F_WRLCK, INT64_MAX, 1));
    CALL(fcntl, "F_GETLK type 99", fd, F_GETLK, REGION(99, 0, 0));
    CALL(fcntl, "F_SETLK descriptor -1", -1, F_SETLK, REGION(F_WRLCK, 0, 0));
    CALL(fcntl, "F_GETLK descriptor -1", -1, F_GETLK, REGION(F_WRLCK, 0, 0));
    CALL(fcntl, "F_SETLKW descriptor -1", -1, F_SETLKW, REGION(F_WRLCK, 0, 0));
    int reader = open_file(O_RDONLY), writer = open_file(O_WRONLY);
    CALL(fcntl, "F_SETLK write of a reader", reader, F_SETLK, REGION(F_WRLCK, 0, 0));
    CALL(fcntl, "F_SETLK read of a writer", writer, F_SETLK, REGION(F_RDLCK, 0, 0));
    CALL(fcntl, "F_SETLK read of a reader", reader, F_SETLK, REGION(F_RDLCK, 0, 0));
    CALL(fcntl, "F_SETLK write of a writer", writer, F_SETLK, REGION(F_WRLCK, 0, 0));
    int path = MUST(open("file", O_PATH | O_CLOEXEC));
    CALL(fcntl, "F_SETLK O_PATH", path, F_SETLK, REGION(F_RDLCK, 0, 0));

    /* Whoever closes any descriptor of the file loses all of his locks. */
    CALL(fcntl, "F_SETLK before close", fd, F_SETLK, REGION(F_WRLCK, 0, 0));
    close(reader);
    struct child looker = fork_child();
    if (!looker.pid) {
        CALL(fcntl, "F_SETLK after another descriptor was closed", fd, F_SETLK, REGION(F_WRLCK, 0, 0));
        exit(0);
    }
    finish(&looker);

    /* Each holds one byte and waits for the other's. */
    CALL(fcntl, "deadlock: parent's byte", fd, F_SETLK, REGION(F_WRLCK, 0, 1));
    struct child rival = fork_child();
    if (!rival.pid) {
        CALL(fcntl, "deadlock: child's byte", fd, F_SETLK, REGION(F_WRLCK, 1, 1));
        tell(&rival);
        BLOCKED(&rival, fcntl, "deadlock: child waits", fd, F_SETLKW, REGION(F_WRLCK, 0, 1));
        exit(0);
    }
    hear(&rival);
    until_asleep(rival.pid);
    CALL(fcntl, "deadlock: parent waits", fd, F_SETLKW, REGION(F_WRLCK, 1, 1));
    CALL(fcntl, "deadlock: parent unlocks", fd, F_SETLK, REGION(F_UNLCK, 0, 1));
    tell(&rival);
    finish(&rival);

    CALL(fcntl64, "F_SETLK", fd, F_SETLK, REGION64(F_WRLCK, 5, 5));
    CALL(fcntl64, "F_SETLKW", fd, F_SETLKW, REGION64(F_RDLCK, 1LL << 40, 5));
    struct child asker = fork_child();
    if (!asker.pid) {
        struct flock64 lock = *REGION64(F_WRLCK, 10, 0);
        CALL(fcntl64, "F_GETLK", fd, F_GETLK, &lock);
        line("fcntl64", "F_GETLK", "%s start %lld length %lld holder %s", type_name(lock.l_type), (long long)lock.l_start,
             (long long)lock.l_len, yes(lock.l_pid == getppid()));
        CALL(fcntl64, "F_SETLK beside another", fd, F_SETLK, REGION64(F_WRLCK, 9, 1));
        CALL(fcntl64, "F_SETLK type 99", fd, F_SETLK, REGION64(99, 9, 1));
        exit(0);
    }
    finish(&asker);
    close(fd), close(writer), close(path);
}

static void open_file_descriptions(void)
{
    int one = open_file(O_RDWR), two = open_file(O_RDWR), reader = open_file(O_RDONLY);

    CALL(fcntl, "F_OFD_SETLK write", one, F_OFD_SETLK, REGION(F_WRLCK, 10, 10));
    CALL(fcntl, "F_OFD_SETLK by another description", two, F_OFD_SETLK, REGION(F_WRLCK, 0, 0));
    CALL(fcntl, "F_OFD_SETLK read by another description", reader, F_OFD_SETLK, REGION(F_RDLCK, 0, 0));
    CALL(fcntl, "F_SETLK of the holder's process", one, F_SETLK, REGION(F_WRLCK, 10, 10));
    struct flock lock = region(F_RDLCK, SEEK_SET, 0, 0);
    CALL(fcntl, "F_OFD_GETLK", two, F_OFD_GETLK, &lock);
    say_region("F_OFD_GETLK", &lock, getpid());
    lock = region(F_WRLCK, SEEK_SET, 0, 10);
    CALL(fcntl, "F_OFD_GETLK free", two, F_OFD_GETLK, &lock);
    say_region("F_OFD_GETLK free", &lock, getpid());
    lock = region(F_WRLCK, SEEK_SET, 0, 0);
    CALL(fcntl, "F_GETLK of an F_OFD_ lock", two, F_GETLK, &lock);
    say_region("F_GETLK of an F_OFD_ lock", &lock, getpid());
    /* Of the description's own locks, since Linux 6.4. */
    lock = region(F_UNLCK, SEEK_SET, 0, 0);
    CALL(fcntl, "F_OFD_GETLK F_UNLCK", one, F_OFD_GETLK, &lock);
    say_region("F_OFD_GETLK F_UNLCK", &lock, getpid());
    lock = region(F_UNLCK, SEEK_SET, 0, 0);
    CALL(fcntl, "F_OFD_GETLK F_UNLCK, none", two, F_OFD_GETLK, &lock);
    say_region("F_OFD_GETLK F_UNLCK, none", &lock, getpid());
    lock.l_type = F_WRLCK, lock.l_pid = 1;
    CALL(fcntl, "F_OFD_SETLK pid not 0", two, F_OFD_SETLK, &lock);
    CALL(fcntl, "F_OFD_SETLKW pid not 0", two, F_OFD_SETLKW, &lock);
    CALL(fcntl, "F_OFD_GETLK pid not 0", two, F_OFD_GETLK, &lock);
    CALL(fcntl, "F_OFD_SETLK type 99", two, F_OFD_SETLK, REGION(99, 0, 0));
    CALL(fcntl, "F_OFD_SETLK write of a reader", reader, F_OFD_SETLK, REGION(F_WRLCK, 50, 1));
    CALL(fcntl, "F_OFD_SETLK descriptor -1", -1, F_OFD_SETLK, REGION(F_WRLCK, 0, 0));
    CALL(fcntl, "F_OFD_SETLK too long", two, F_OFD_SETLK, REGION(F_WRLCK, INT64_MAX, 2));
    INTERRUPTED(fcntl, "F_OFD_SETLKW interrupted", two, F_OFD_SETLKW, REGION(F_WRLCK, 0, 0));

    struct child heir = fork_child();
    if (!heir.pid) {
        CALL(fcntl, "F_OFD_SETLK by the inherited description", one, F_OFD_SETLK, REGION(F_RDLCK, 10, 10));
        CALL(fcntl, "F_OFD_SETLK read beside read", two, F_OFD_SETLK, REGION(F_RDLCK, 10, 10));
        tell(&heir);
        BLOCKED(&heir, fcntl, "F_OFD_SETLKW waits", two, F_OFD_SETLKW, REGION(F_WRLCK, 10, 10));
        exit(0);
    }
    hear(&heir);
    until_asleep(heir.pid);
    CALL(fcntl, "F_OFD_SETLK unlock", one, F_OFD_SETLK, REGION(F_UNLCK, 0, 0));
    tell(&heir);
    finish(&heir);
    CALL(fcntl64, "F_OFD_SETLK", one, F_OFD_SETLK, REGION64(F_RDLCK, 100, 1));
    CALL(fcntl64, "F_OFD_SETLK beside another", two, F_OFD_SETLK, REGION64(F_WRLCK, 100, 1));
    CALL(fcntl64, "F_OFD_GETLK", two, F_OFD_GETLK, REGION64(F_WRLCK, 100, 1));
    CALL(fcntl64, "F_OFD_SETLKW", two, F_OFD_SETLKW, REGION64(F_WRLCK, 200, 1));
    close(one), close(two), close(reader);
}

static void sections(void)
{
    int fd = open_file(O_RDWR), reader = open_file(O_RDONLY);
    MUST(lseek(fd, 50, SEEK_SET));
    CALL(lockf, "F_LOCK from the position", fd, F_LOCK, 10);
    CALL(lockf, "F_TLOCK before the position", fd, F_TLOCK, -10);
    CALL(lockf, "F_TEST own", fd, F_TEST, 0);
    CALL(lockf64, "F_TLOCK", fd, F_TLOCK, 1LL << 40);
    CALL(lockf64, "F_ULOCK", fd, F_ULOCK, 1LL << 40);
    CALL(lockf, "F_LOCK again", fd, F_LOCK, 10);
    CALL(lockf, "F_TLOCK before the position, again", fd, F_TLOCK, -10);
    CALL(lockf, "F_LOCK too far before", fd, F_LOCK, -51);
    CALL(lockf, "unknown command", fd, 99, 0);
    CALL(lockf, "unknown command, descriptor -1", -1, 99, 0);
    CALL(lockf, "F_LOCK descriptor -1", -1, F_LOCK, 0);
    CALL(lockf, "F_TLOCK descriptor -1", -1, F_TLOCK, 0);
    CALL(lockf, "F_TEST descriptor -1", -1, F_TEST, 0);
    CALL(lockf, "F_ULOCK descriptor -1", -1, F_ULOCK, 0);
    CALL(lockf, "F_LOCK read only", reader, F_LOCK, 0);
    CALL(lockf, "F_TLOCK read only", reader, F_TLOCK, 0);
    CALL(lockf, "F_TEST read only", reader, F_TEST, 0);
    struct child other = fork_child();
    if (!other.pid) {
        MUST(lseek(fd, 40, SEEK_SET));
        CALL(lockf, "F_TEST beside another", fd, F_TEST, 0);
        CALL(lockf, "F_TEST of what is free", fd, F_TEST, -10);
        CALL(lockf, "F_TEST of the last byte", fd, F_TEST, 1);
        CALL(lockf, "F_TLOCK beside another", fd, F_TLOCK, 1);
        CALL(lockf, "F_ULOCK of another's", fd, F_ULOCK, 0);
        CALL(lockf64, "F_TEST beside another", fd, F_TEST, 0);
        INTERRUPTED(lockf, "F_LOCK interrupted", fd, F_LOCK, 0);
        MUST(lseek(fd, 90, SEEK_SET));
        CALL(lockf, "F_LOCK for a deadlock", fd, F_LOCK, 1);
        MUST(lseek(fd, 40, SEEK_SET));
        tell(&other);
        BLOCKED(&other, lockf, "F_LOCK waits", fd, F_LOCK, 20);
        exit(0);
    }
    hear(&other);
    until_asleep(other.pid);
    /* The position is the child's too. */
    MUST(lseek(fd, 90, SEEK_SET));
    CALL(lockf, "F_LOCK deadlock", fd, F_LOCK, 1);
    CALL(lockf, "F_TLOCK deadlock", fd, F_TLOCK, 1);
    MUST(lseek(fd, 0, SEEK_SET));
    CALL(lockf, "F_ULOCK", fd, F_ULOCK, 0);
    tell(&other);
    finish(&other);
    close(fd), close(reader);
}

static void other_commands(void)
{
    int fd = open_file(O_RDWR);
    int copy = OPEN(fcntl, "F_DUPFD", fd, F_DUPFD, 100);
    line("fcntl", "F_DUPFD", "%d", copy);
    CALL(fcntl, "F_GETFD of a duplicate", copy, F_GETFD);
    int closing = OPEN(fcntl, "F_DUPFD_CLOEXEC", fd, F_DUPFD_CLOEXEC, 100);
    line("fcntl", "F_DUPFD_CLOEXEC", "%d", closing);
    CALL(fcntl, "F_GETFD of it", closing, F_GETFD);
    CALL(fcntl, "F_DUPFD negative", fd, F_DUPFD, -1);
    CALL(fcntl, "F_DUPFD too high", fd, F_DUPFD, 1 << 30);
    CALL(fcntl, "F_DUPFD descriptor -1", -1, F_DUPFD, 0);
    CALL(fcntl, "F_DUPFD_QUERY same", fd, 1024 + 3, copy);
    CALL(fcntl, "F_SETFD", fd, F_SETFD, 0);
    CALL(fcntl, "F_GETFD", fd, F_GETFD);
    CALL(fcntl, "F_SETFD FD_CLOEXEC", fd, F_SETFD, FD_CLOEXEC);
    CALL(fcntl, "F_GETFD", fd, F_GETFD);
    CALL(fcntl, "F_GETFD descriptor -1", -1, F_GETFD);
    CALL(fcntl, "F_SETFL", fd, F_SETFL, O_NONBLOCK | O_APPEND);
    line("fcntl", "F_GETFL", "%#x", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
    CALL(fcntl, "F_SETFL 0", fd, F_SETFL, 0);
    line("fcntl64", "F_GETFL", "%#x", fcntl64(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
    CALL(fcntl, "F_GETFL descriptor -1", -1, F_GETFL);
    CALL(fcntl, "unknown command", fd, 9999, 0);
    CALL(fcntl, "unknown command, descriptor -1", -1, 9999, 0);
    CALL(fcntl64, "unknown command", fd, 9999, 0);
    int path = MUST(open("file", O_PATH | O_CLOEXEC));
    CALL(fcntl, "F_SETFL O_PATH", path, F_SETFL, 0);
    CALL(fcntl, "F_GETFD O_PATH", path, F_GETFD);
    int copy64 = OPEN(fcntl64, "F_DUPFD_CLOEXEC", fd, F_DUPFD_CLOEXEC, 200);
    line("fcntl64", "F_DUPFD_CLOEXEC", "%d", copy64);

    int ends[2];
    MUST((int)syscall(SYS_pipe2, ends, O_CLOEXEC));
    CALL(fcntl, "F_SETOWN", ends[0], F_SETOWN, getpid());
    line("fcntl", "F_GETOWN", "own %s", yes(fcntl(ends[0], F_GETOWN) == getpid()));
    /* A group is a small negative number, which is no error. */
    CALL(fcntl, "F_SETOWN of a group", ends[0], F_SETOWN, -getpgrp());
    line("fcntl", "F_GETOWN of a group", "own %s", yes(fcntl(ends[0], F_GETOWN) == -getpgrp()));
    CALL(fcntl, "F_SETOWN nobody", ends[0], F_SETOWN, 0x3fffffff);
    struct f_owner_ex owner = { F_OWNER_TID, gettid() };
    CALL(fcntl, "F_SETOWN_EX", ends[0], F_SETOWN_EX, &owner);
    owner = (struct f_owner_ex){ 0, 0 };
    CALL(fcntl, "F_GETOWN_EX", ends[0], F_GETOWN_EX, &owner);
    line("fcntl", "F_GETOWN_EX", "thread %s own %s", yes(owner.type == F_OWNER_TID), yes(owner.pid == gettid()));
    owner.type = 99;
    CALL(fcntl, "F_SETOWN_EX type 99", ends[0], F_SETOWN_EX, &owner);
    CALL(fcntl, "F_SETSIG", ends[0], F_SETSIG, SIGUSR2);
    line("fcntl", "F_GETSIG", "SIGUSR2 %s", yes(fcntl(ends[0], F_GETSIG) == SIGUSR2));
    CALL(fcntl, "F_SETSIG 999", ends[0], F_SETSIG, 999);
    CALL(fcntl, "F_GETPIPE_SZ", ends[0], F_GETPIPE_SZ);
    CALL(fcntl, "F_SETPIPE_SZ", ends[0], F_SETPIPE_SZ, 5000);
    CALL(fcntl, "F_GETPIPE_SZ", ends[1], F_GETPIPE_SZ);
    static const char bytes[8192];
    MUST(write(ends[1], bytes, sizeof bytes));
    CALL(fcntl, "F_SETPIPE_SZ below what is in it", ends[0], F_SETPIPE_SZ, 4096);
    CALL(fcntl, "F_GETPIPE_SZ of a file", fd, F_GETPIPE_SZ);
    CALL(fcntl, "F_SETPIPE_SZ 0", ends[0], F_SETPIPE_SZ, 0);
    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(fcntl, "F_SETPIPE_SZ above the limit", ends[0], F_SETPIPE_SZ, 1 << 26);
            CALL(fcntl, "F_SETLEASE of another's file", fd, F_SETLEASE, F_RDLCK);
        }
        exit(0);
    }
    finish(&nobody);

    int memory = MUST(memfd_create("seals", MFD_ALLOW_SEALING | MFD_CLOEXEC));
    MUST(ftruncate(memory, 4096));
    void *mapped = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0));
    CALL(fcntl, "F_ADD_SEALS write while mapped", memory, F_ADD_SEALS, F_SEAL_WRITE);
    munmap(mapped, 4096);
    CALL(fcntl, "F_ADD_SEALS", memory, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SEAL);
    CALL(fcntl, "F_GET_SEALS", memory, F_GET_SEALS);
    CALL(fcntl, "F_ADD_SEALS when sealed", memory, F_ADD_SEALS, F_SEAL_WRITE);
    CALL(fcntl, "F_GET_SEALS of a pipe", ends[0], F_GET_SEALS);
    CALL(fcntl, "F_ADD_SEALS unknown", memory, F_ADD_SEALS, 1 << 20);

    CALL(fcntl, "F_SETLEASE write with other descriptors", fd, F_SETLEASE, F_WRLCK);
    CALL(fcntl, "F_SETLEASE read of a writer", fd, F_SETLEASE, F_RDLCK);
    close(copy), close(closing), close(copy64), close(fd);
    fd = open_file(O_RDONLY);
    CALL(fcntl, "F_SETLEASE read", fd, F_SETLEASE, F_RDLCK);
    line("fcntl", "F_GETLEASE", "%s", type_name(fcntl(fd, F_GETLEASE)));
    CALL(fcntl, "F_SETLEASE none", fd, F_SETLEASE, F_UNLCK);
    line("fcntl", "F_GETLEASE", "%s", type_name(fcntl(fd, F_GETLEASE)));
    CALL(fcntl, "F_SETLEASE type 99", fd, F_SETLEASE, 99);
    uint64_t hint = RWH_WRITE_LIFE_SHORT;
    CALL(fcntl, "F_SET_RW_HINT", fd, F_SET_RW_HINT, &hint);
    hint = 77;
    CALL(fcntl, "F_SET_RW_HINT unknown", fd, F_SET_RW_HINT, &hint);
    CALL(fcntl, "F_GET_RW_HINT", fd, F_GET_RW_HINT, &hint);
    line("fcntl", "F_GET_RW_HINT", "%llu", (unsigned long long)hint);
    CALL(fcntl, "F_NOTIFY of a file", fd, F_NOTIFY, DN_CREATE);
    int directory = MUST(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    signal(SIGIO, SIG_IGN);
    CALL(fcntl, "F_NOTIFY of a directory", directory, F_NOTIFY, DN_CREATE | DN_MULTISHOT);
    CALL(fcntl, "F_NOTIFY none", directory, F_NOTIFY, 0);

    struct child poor = fork_child();
    if (!poor.pid) {
        struct rlimit { unsigned long now, most; } limit = { 50, 50 };
        MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
        while (fcntl(fd, F_DUPFD, 0) >= 0) {}
        CALL(fcntl, "F_DUPFD no descriptors left", fd, F_DUPFD, 0);
        CALL(fcntl, "F_DUPFD_CLOEXEC no descriptors left", fd, F_DUPFD_CLOEXEC, 0);
        CALL(fcntl, "F_DUPFD beyond the limit", fd, F_DUPFD, 60);
        exit(0);
    }
    finish(&poor);
    close(fd), close(directory), close(path), close(memory), close(ends[0]), close(ends[1]);
}

int main(void)
{
    begin();
    whole_files();
    ranges();
    open_file_descriptions();
    sections();
    other_commands();
    unlink("file");
    return 0;
}
