/* sysvipc(7): ftok(3), shared memory, semaphores, message queues. */
#include "say.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

enum { KEY = 0x5359, NO_ID = 0x7ffffff0 };

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

/* A child with an IPC namespace of its own, where limits can be set. */
static int own_limits(const char *file, const char *value)
{
    if (unshare(CLONE_NEWIPC)) {
        line("unshare", file, "skipped: %s", error_name(errno));
        return 0;
    }
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd == -1 || write(fd, value, strlen(value)) == -1) {
        line("limits", file, "skipped: %s", error_name(errno));
        return 0;
    }
    close(fd);
    return 1;
}

static void say_permissions(const char *function, const struct ipc_perm *perm, key_t key)
{
    line(function, "permissions", "key %s uid %u gid %u cuid %u cgid %u mode %#o", yes(perm->__key == key), perm->uid, perm->gid,
         perm->cuid, perm->cgid, perm->mode);
}

static void keys(void)
{
    MUST(close(MUST(open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0644))));
    struct stat status;
    MUST(stat("file", &status));
    key_t key = OPEN(ftok, "file", "file", 'a');
    line("ftok", "made of", "inode %s device %s id %s", yes((key & 0xffff) == (int)(status.st_ino & 0xffff)),
         yes((key >> 16 & 0xff) == (int)(status.st_dev & 0xff)), yes((unsigned)key >> 24 == 'a'));
    line("ftok", "again", "same %s", yes(ftok("file", 'a') == key));
    line("ftok", "only eight bits of the id", "same %s", yes(ftok("./file", 'a' + 256) == key));
    line("ftok", "another id", "same %s", yes(ftok("file", 'b') == key));
    line("ftok", "id 255", "%#x", (unsigned)ftok("file", 255) >> 24);
    line("ftok", "id 0", "%#x", (unsigned)ftok("file", 0) >> 24);
    OPEN(ftok, "directory", ".", 1);
    CALL(ftok, "no file", "absent", 1);
    CALL(ftok, "empty", "", 1);
    CALL(ftok, "not a directory", "file/x", 1);
    char name[5000];
    memset(name, 'x', sizeof name);
    name[300] = 0;
    CALL(ftok, "name too long", name, 1);
    memset(name, '/', sizeof name);
    name[sizeof name - 1] = 0;
    CALL(ftok, "path too long", name, 1);
    MUST(symlink("loop", "loop"));
    CALL(ftok, "loop", "loop", 1);
    MUST(symlink("file", "link"));
    line("ftok", "symbolic link", "same %s", yes(ftok("link", 'a') == key));
    MUST(mkdir("closed", 0700));
    struct child child = fork_child();
    if (!child.pid) {
        if (become_nobody())
            CALL(ftok, "closed directory", "closed/file", 1);
        exit(0);
    }
    finish(&child);
    unlink("loop"), unlink("link"), rmdir("closed"), unlink("file");
}

static void memory(void)
{
    const size_t size = 3 * 4096;
    int id = OPEN(shmget, "IPC_CREAT", KEY, size, IPC_CREAT | IPC_EXCL | 0640);
    CALL(shmget, "IPC_EXCL of an existing one", KEY, size, IPC_CREAT | IPC_EXCL | 0640);
    line("shmget", "existing", "same %s", yes(shmget(KEY, size, IPC_CREAT | 0640) == id));
    line("shmget", "size 0 of an existing one", "same %s", yes(shmget(KEY, 0, 0) == id));
    CALL(shmget, "larger than it is", KEY, size + 1, 0);
    CALL(shmget, "no such key", KEY + 1, size, 0);
    CALL(shmget, "size 0 of a new one", KEY + 1, 0, IPC_CREAT | 0600);
    CALL(shmget, "size 0, private", IPC_PRIVATE, 0, 0600);
    CALL(shmget, "above SHMMAX", IPC_PRIVATE, SIZE_MAX, 0600);
    CALL(shmget, "more than can be", IPC_PRIVATE, (size_t)1 << 60, 0600);
    CALL(shmget, "unknown size of huge page", IPC_PRIVATE, 4096, SHM_HUGETLB | 63 << MAP_HUGE_SHIFT | 0600);
    CALL(shmget, "no huge pages", IPC_PRIVATE, (size_t)1 << 50, SHM_HUGETLB | 0600);
    int reserved = OPEN(shmget, "SHM_NORESERVE", IPC_PRIVATE, size, SHM_NORESERVE | 0600);
    CALL(shmctl, "IPC_RMID", reserved, IPC_RMID, NULL);
    CALL(shmctl, "IPC_RMID again", reserved, IPC_RMID, NULL);

    char *one = ADDRESS(shmat, "anywhere", id, NULL, 0);
    strcpy(one, "text");
    char *two = ADDRESS(shmat, "SHM_RDONLY", id, NULL, SHM_RDONLY);
    line("shmat", "SHM_RDONLY", "%s elsewhere %s", two, yes(one != two));
    struct child writer = fork_child();
    if (!writer.pid) {
        one[0] = 'T';
        line("shmat", "after fork", "%s", two);
        signal(SIGSEGV, SIG_DFL);
        ((volatile char *)two)[0] = 'x';
        exit(0);
    }
    finish(&writer);
    CALL(shmdt, "", two);
    CALL(shmdt, "again", two);
    ADDRESS(shmat, "where one is", id, one, 0);
    ADDRESS(shmat, "SHM_REMAP where one is", id, one, SHM_REMAP);
    ADDRESS(shmat, "SHM_REMAP of nothing", id, NULL, SHM_REMAP);
    ADDRESS(shmat, "not aligned", id, one + 1, 0);
    char *place = MUST(mmap(NULL, 4 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    munmap(place, 4 * size);
    two = ADDRESS(shmat, "SHM_RND", id, place + 4096 + 5, SHM_RND);
    line("shmat", "SHM_RND", "rounded %s", yes(two == place + 4096));
    CALL(shmdt, "not aligned", two + 1);
    CALL(shmdt, "in its middle", two + 4096);
    CALL(shmdt, "", two);
    two = ADDRESS(shmat, "SHM_EXEC", id, NULL, SHM_EXEC);
    CALL(shmdt, "", two);
    CALL(shmdt, "NULL", NULL);
    ADDRESS(shmat, "no such id", NO_ID, NULL, 0);
    ADDRESS(shmat, "id -1", -1, NULL, 0);

    struct shmid_ds status;
    CALL(shmctl, "IPC_STAT", id, IPC_STAT, &status);
    say_permissions("shmctl", &status.shm_perm, KEY);
    line("shmctl", "IPC_STAT", "size %zu attached %lu creator %s attached times %s %s changed %s", status.shm_segsz,
         (unsigned long)status.shm_nattch, yes(status.shm_cpid == getpid()), yes(status.shm_atime != 0),
         yes(status.shm_dtime != 0), yes(status.shm_ctime != 0));
    status.shm_perm.mode = 0600;
    status.shm_perm.uid = 7;
    CALL(shmctl, "IPC_SET", id, IPC_SET, &status);
    CALL(shmctl, "IPC_STAT", id, IPC_STAT, &status);
    say_permissions("shmctl", &status.shm_perm, KEY);
    status.shm_perm.uid = -1;
    CALL(shmctl, "IPC_SET no user", id, IPC_SET, &status);
    struct shminfo limits;
    OPEN(shmctl, "IPC_INFO", 0, IPC_INFO, (struct shmid_ds *)&limits);
    line("shmctl", "IPC_INFO", "max %lu min %lu segments %lu", limits.shmmax, limits.shmmin, limits.shmmni);
    struct shm_info info;
    int highest = OPEN(shmctl, "SHM_INFO", 0, SHM_INFO, (struct shmid_ds *)&info);
    int found = 0;
    for (int index = 0; index <= highest; index++)
        found |= shmctl(index, SHM_STAT, &status) == id && status.shm_segsz == size;
    line("shmctl", "SHM_STAT", "found %s", yes(found));
    found = 0;
    for (int index = 0; index <= highest; index++)
        found |= shmctl(index, 15 /* SHM_STAT_ANY */, &status) == id;
    line("shmctl", "SHM_STAT_ANY", "found %s", yes(found));
    CALL(shmctl, "SHM_STAT no such index", 30000, SHM_STAT, &status);
    CALL(shmctl, "SHM_LOCK", id, SHM_LOCK, NULL);
    CALL(shmctl, "IPC_STAT", id, IPC_STAT, &status);
    line("shmctl", "SHM_LOCK", "locked %s", yes(status.shm_perm.mode & 02000));
    CALL(shmctl, "SHM_UNLOCK", id, SHM_UNLOCK, NULL);
    CALL(shmctl, "unknown command", id, 9999, &status);
    CALL(shmctl, "negative command", id, -1, &status);
    CALL(shmctl, "IPC_STAT no such id", NO_ID, IPC_STAT, &status);
    CALL(shmctl, "IPC_STAT id -1", -1, IPC_STAT, &status);
    CALL(shmctl, "IPC_SET no such id", NO_ID, IPC_SET, &status);
    CALL(shmctl, "SHM_LOCK no such id", NO_ID, SHM_LOCK, NULL);

    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(shmget, "another's", KEY, size, 0400);
            OPEN(shmget, "another's, no permission asked", KEY, size, 0);
            ADDRESS(shmat, "another's", id, NULL, 0);
            ADDRESS(shmat, "another's, SHM_RDONLY", id, NULL, SHM_RDONLY);
            CALL(shmctl, "IPC_STAT of another's", id, IPC_STAT, &status);
            CALL(shmctl, "IPC_SET of another's", id, IPC_SET, &status);
            CALL(shmctl, "IPC_RMID of another's", id, IPC_RMID, NULL);
            CALL(shmctl, "SHM_LOCK of another's", id, SHM_LOCK, NULL);
            struct { unsigned long now, most; } none = { 0, 4096 };
            MUST(syscall(SYS_prlimit64, 0, 8 /* RLIMIT_MEMLOCK */, &none, NULL));
            int own = OPEN(shmget, "own", IPC_PRIVATE, 4096, 0600);
            CALL(shmctl, "SHM_LOCK without a limit", own, SHM_LOCK, NULL);
            none.now = 4096;
            MUST(syscall(SYS_prlimit64, 0, 8, &none, NULL));
            int longer = OPEN(shmget, "own, longer", IPC_PRIVATE, 3 * 4096, 0600);
            CALL(shmctl, "SHM_LOCK above the limit", longer, SHM_LOCK, NULL);
            ADDRESS(shmat, "SHM_EXEC without permission", longer, NULL, SHM_EXEC);
            CALL(shmctl, "IPC_RMID of its own", longer, IPC_RMID, NULL);
            CALL(shmctl, "IPC_RMID of its own", own, IPC_RMID, NULL);
            CALL(shmget, "SHM_HUGETLB without privilege", IPC_PRIVATE, 4 << 20, SHM_HUGETLB | 0600);
        }
        exit(0);
    }
    finish(&nobody);

    /* It lives until the last one detaches. */
    CALL(shmctl, "IPC_RMID while attached", id, IPC_RMID, NULL);
    CALL(shmctl, "IPC_STAT of a removed one", id, IPC_STAT, &status);
    line("shmctl", "removed", "destroyed at the end %s key private %s", yes(status.shm_perm.mode & 01000),
         yes(status.shm_perm.__key == IPC_PRIVATE));
    CALL(shmget, "key of a removed one", KEY, 0, 0);
    two = ADDRESS(shmat, "removed but attached", id, NULL, 0);
    CALL(shmdt, "", two);
    CALL(shmdt, "the last", one);
    ADDRESS(shmat, "removed", id, NULL, 0);
    CALL(shmctl, "IPC_STAT removed", id, IPC_STAT, &status);

    struct child limited = fork_child();
    if (!limited.pid) {
        if (own_limits("/proc/sys/kernel/shmmni", "2")) {
            OPEN(shmget, "first of two", IPC_PRIVATE, 1, 0600);
            OPEN(shmget, "second of two", IPC_PRIVATE, 1, 0600);
            CALL(shmget, "no more", IPC_PRIVATE, 1, 0600);
        }
        exit(0);
    }
    finish(&limited);
    struct child small = fork_child();
    if (!small.pid) {
        if (own_limits("/proc/sys/kernel/shmmax", "10000")) {
            OPEN(shmget, "as much as is allowed", IPC_PRIVATE, 10000, 0600);
            CALL(shmget, "more than is allowed", IPC_PRIVATE, 10001, 0600);
        }
        exit(0);
    }
    finish(&small);
    struct child full = fork_child();
    if (!full.pid) {
        if (own_limits("/proc/sys/kernel/shmall", "4")) {
            OPEN(shmget, "pages that are left", IPC_PRIVATE, 4 * 4096, 0600);
            CALL(shmget, "no pages left", IPC_PRIVATE, 1, 0600);
        }
        exit(0);
    }
    finish(&full);
    struct child cramped = fork_child();
    if (!cramped.pid) {
        int large = OPEN(shmget, "1 GiB", IPC_PRIVATE, 1 << 30, SHM_NORESERVE | 0600);
        struct { unsigned long now, most; } space = { 1 << 28, 1 << 28 };
        MUST(syscall(SYS_prlimit64, 0, 9 /* RLIMIT_AS */, &space, NULL));
        ADDRESS(shmat, "no address space left", large, NULL, 0);
        CALL(shmctl, "IPC_RMID", large, IPC_RMID, NULL);
        exit(0);
    }
    finish(&cramped);
}

#define OPERATIONS(...) (struct sembuf[]){ __VA_ARGS__ }, sizeof (struct sembuf[]){ __VA_ARGS__ } / sizeof(struct sembuf)
#define TIMED(timeout, ...) OPERATIONS(__VA_ARGS__), timeout

static void say_values(const char *what, int id)
{
    unsigned short values[3] = { 9, 9, 9 };
    semctl(id, 0, GETALL, (union semun){ .array = values });
    line("semctl", what, "values %u %u %u", values[0], values[1], values[2]);
}

static void semaphores(void)
{
    int id = OPEN(semget, "IPC_CREAT", KEY, 3, IPC_CREAT | IPC_EXCL | 0640);
    CALL(semget, "IPC_EXCL of an existing one", KEY, 3, IPC_CREAT | IPC_EXCL | 0640);
    line("semget", "existing", "same %s", yes(semget(KEY, 3, IPC_CREAT | 0640) == id));
    line("semget", "0 of an existing one", "same %s", yes(semget(KEY, 0, 0) == id));
    CALL(semget, "more than it has", KEY, 4, 0);
    CALL(semget, "no such key", KEY + 1, 1, 0);
    CALL(semget, "0 of a new one", KEY + 1, 0, IPC_CREAT | 0600);
    CALL(semget, "negative", IPC_PRIVATE, -1, 0600);
    CALL(semget, "above SEMMSL", IPC_PRIVATE, 32001, 0600);

    say_values("new", id);
    CALL(semctl, "SETVAL", id, 1, SETVAL, (union semun){ .val = 5 });
    CALL(semctl, "GETVAL", id, 1, GETVAL);
    line("semctl", "GETPID", "own %s", yes(semctl(id, 1, GETPID) == getpid()));
    CALL(semctl, "SETVAL negative", id, 1, SETVAL, (union semun){ .val = -1 });
    CALL(semctl, "SETVAL above SEMVMX", id, 1, SETVAL, (union semun){ .val = 32768 });
    CALL(semctl, "SETVAL SEMVMX", id, 1, SETVAL, (union semun){ .val = 32767 });
    CALL(semctl, "SETVAL no such semaphore", id, 3, SETVAL, (union semun){ .val = 1 });
    CALL(semctl, "SETVAL negative semaphore", id, -1, SETVAL, (union semun){ .val = 1 });
    CALL(semctl, "GETVAL no such semaphore", id, 3, GETVAL);
    CALL(semctl, "GETPID no such semaphore", id, 3, GETPID);
    CALL(semctl, "GETNCNT no such semaphore", id, 3, GETNCNT);
    CALL(semctl, "GETZCNT no such semaphore", id, 3, GETZCNT);
    CALL(semctl, "SETALL above SEMVMX", id, 0, SETALL, (union semun){ .array = (unsigned short[]){ 1, 32768, 1 } });
    CALL(semctl, "SETALL", id, 0, SETALL, (union semun){ .array = (unsigned short[]){ 1, 2, 3 } });
    say_values("SETALL", id);
    CALL(semctl, "GETNCNT", id, 0, GETNCNT);
    CALL(semctl, "GETZCNT", id, 0, GETZCNT);
    CALL(semctl, "unknown command", id, 0, 9999);
    CALL(semctl, "GETVAL no such id", NO_ID, 0, GETVAL);
    CALL(semctl, "GETVAL id -1", -1, 0, GETVAL);

    CALL(semop, "take and give", id, OPERATIONS({ 0, -1, 0 }, { 1, 3, 0 }));
    say_values("take and give", id);
    CALL(semop, "not all of it", id, OPERATIONS({ 1, -1, 0 }, { 0, -1, IPC_NOWAIT }));
    say_values("not all of it", id);
    CALL(semop, "is zero", id, OPERATIONS({ 0, 0, 0 }));
    CALL(semop, "is not zero", id, OPERATIONS({ 1, 0, IPC_NOWAIT }));
    CALL(semop, "no such semaphore", id, OPERATIONS({ 3, 1, 0 }));
    CALL(semop, "above SEMVMX", id, OPERATIONS({ 1, 32767, 0 }));
    CALL(semop, "no operations", id, OPERATIONS({ 0, 0, 0 }) * 0);
    static struct sembuf many[600];
    CALL(semop, "500 operations", id, many, 500);
    CALL(semop, "more than SEMOPM", id, many, 501);
    CALL(semop, "more than there can be", id, many, SIZE_MAX);
    CALL(semop, "no such id", NO_ID, OPERATIONS({ 0, 1, 0 }));
    CALL(semop, "id -1", -1, OPERATIONS({ 0, 1, 0 }));
    INTERRUPTED(semop, "interrupted", id, OPERATIONS({ 0, -1, 0 }));
    INTERRUPTED(semop, "waits for zero, interrupted", id, OPERATIONS({ 1, 0, 0 }));
    interrupt_with(count_signal, SA_RESTART);
    errno = 0;
    int result = semop(id, OPERATIONS({ 0, -1, 0 }));
    leave_alone();
    say_result("semop", "interrupted, SA_RESTART", result, 1);

    struct timespec none = { 0, 0 }, short_time = { 0, 30 * 1000000 }, long_time = { 1000, 0 };
    CALL(semtimedop, "at once", id, TIMED(&none, { 0, 1, 0 }));
    CALL(semtimedop, "at once, without a timeout", id, TIMED(NULL, { 0, -1, 0 }));
    CALL(semtimedop, "not now", id, TIMED(&none, { 0, -1, 0 }));
    struct timespec deadline = now_plus(CLOCK_MONOTONIC, 30);
    CALL(semtimedop, "after a time", id, TIMED(&short_time, { 0, -1, 0 }));
    line("semtimedop", "after a time", "waited %s", yes(is_past(CLOCK_MONOTONIC, &deadline)));
    CALL(semtimedop, "IPC_NOWAIT", id, TIMED(&long_time, { 0, -1, IPC_NOWAIT }));
    CALL(semtimedop, "nanoseconds too many", id, TIMED(&((struct timespec){ 0, 1000000000 }), { 0, -1, 0 }));
    CALL(semtimedop, "negative nanoseconds", id, TIMED(&((struct timespec){ 0, -1 }), { 0, 1, 0 }));
    CALL(semtimedop, "negative seconds", id, TIMED(&((struct timespec){ -1, 0 }), { 0, 1, 0 }));
    CALL(semtimedop, "no operations", id, OPERATIONS({ 0, 0, 0 }) * 0, &none);
    CALL(semtimedop, "more than SEMOPM", id, many, 501, &none);
    CALL(semtimedop, "no such semaphore", id, TIMED(&none, { 3, 1, 0 }));
    CALL(semtimedop, "no such id", NO_ID, TIMED(&none, { 0, 1, 0 }));
    INTERRUPTED(semtimedop, "interrupted", id, TIMED(&long_time, { 0, -1, 0 }));

    struct child undoer = fork_child();
    if (!undoer.pid) {
        CALL(semop, "SEM_UNDO", id, OPERATIONS({ 1, -2, SEM_UNDO }, { 2, 4, SEM_UNDO }));
        CALL(semop, "SEM_UNDO too much", id, OPERATIONS({ 1, 30000, 0 }, { 1, -30000, SEM_UNDO }, { 1, -4000, SEM_UNDO | IPC_NOWAIT }));
        say_values("SEM_UNDO", id);
        exit(0);
    }
    finish(&undoer);
    say_values("undone", id);

    struct child waiter = fork_child();
    if (!waiter.pid) {
        tell(&waiter);
        BLOCKED(&waiter, semop, "waits", id, OPERATIONS({ 0, -2, 0 }));
        tell(&waiter);
        BLOCKED(&waiter, semtimedop, "waits for zero", id, TIMED(&long_time, { 2, 0, 0 }));
        tell(&waiter);
        BLOCKED(&waiter, semop, "waits until it is removed", id, OPERATIONS({ 0, -1, 0 }));
        exit(0);
    }
    hear(&waiter);
    until_asleep(waiter.pid);
    CALL(semctl, "GETNCNT while one waits", id, 0, GETNCNT);
    CALL(semop, "not enough for him", id, OPERATIONS({ 0, 1, 0 }));
    CALL(semop, "enough for him", id, OPERATIONS({ 0, 1, 0 }));
    tell(&waiter);
    hear(&waiter);
    line("semctl", "GETPID", "the child's %s", yes(semctl(id, 0, GETPID) == waiter.pid));
    until_asleep(waiter.pid);
    CALL(semctl, "GETZCNT while one waits", id, 2, GETZCNT);
    CALL(semctl, "SETVAL while one waits", id, 2, SETVAL, (union semun){ .val = 0 });
    tell(&waiter);
    hear(&waiter);

    struct semid_ds status;
    CALL(semctl, "IPC_STAT", id, 0, IPC_STAT, (union semun){ .buf = &status });
    say_permissions("semctl", &status.sem_perm, KEY);
    line("semctl", "IPC_STAT", "semaphores %lu operated %s changed %s", (unsigned long)status.sem_nsems,
         yes(status.sem_otime != 0), yes(status.sem_ctime != 0));
    status.sem_perm.mode = 0600;
    status.sem_perm.gid = 8;
    CALL(semctl, "IPC_SET", id, 0, IPC_SET, (union semun){ .buf = &status });
    CALL(semctl, "IPC_STAT", id, 0, IPC_STAT, (union semun){ .buf = &status });
    say_permissions("semctl", &status.sem_perm, KEY);
    struct seminfo limits;
    OPEN(semctl, "IPC_INFO", 0, 0, IPC_INFO, (union semun){ .info = &limits });
    line("semctl", "IPC_INFO", "per set %d operations %d value %d", limits.semmsl, limits.semopm, limits.semvmx);
    int highest = OPEN(semctl, "SEM_INFO", 0, 0, SEM_INFO, (union semun){ .info = &limits });
    int found = 0;
    for (int index = 0; index <= highest; index++)
        found |= semctl(index, 0, SEM_STAT, (union semun){ .buf = &status }) == id && status.sem_nsems == 3;
    line("semctl", "SEM_STAT", "found %s", yes(found));
    found = 0;
    for (int index = 0; index <= highest; index++)
        found |= semctl(index, 0, 20 /* SEM_STAT_ANY */, (union semun){ .buf = &status }) == id;
    line("semctl", "SEM_STAT_ANY", "found %s", yes(found));
    CALL(semctl, "SEM_STAT no such index", 40000, 0, SEM_STAT, (union semun){ .buf = &status });

    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(semget, "another's", KEY, 3, 0400);
            OPEN(semget, "another's, no permission asked", KEY, 3, 0);
            CALL(semop, "another's", id, OPERATIONS({ 0, 1, 0 }));
            CALL(semtimedop, "another's, is zero", id, TIMED(&none, { 0, 0, 0 }));
            CALL(semctl, "GETVAL of another's", id, 0, GETVAL);
            CALL(semctl, "SETVAL of another's", id, 0, SETVAL, (union semun){ .val = 1 });
            CALL(semctl, "SETALL of another's", id, 0, SETALL, (union semun){ .array = (unsigned short[]){ 1, 1, 1 } });
            CALL(semctl, "IPC_STAT of another's", id, 0, IPC_STAT, (union semun){ .buf = &status });
            CALL(semctl, "IPC_SET of another's", id, 0, IPC_SET, (union semun){ .buf = &status });
            CALL(semctl, "IPC_RMID of another's", id, 0, IPC_RMID);
        }
        exit(0);
    }
    finish(&nobody);

    struct child writer = fork_child();
    if (!writer.pid) {
        if (become_nobody()) {
            int own = OPEN(semget, "to be written only", IPC_PRIVATE, 2, 0200);
            CALL(semctl, "SETALL without read permission", own, 0, SETALL, (union semun){ .array = (unsigned short[]){ 4, 5 } });
            CALL(semctl, "SETVAL without read permission", own, 1, SETVAL, (union semun){ .val = 6 });
            CALL(semop, "without read permission", own, OPERATIONS({ 0, -4, IPC_NOWAIT }, { 1, -6, IPC_NOWAIT }));
            CALL(semctl, "GETALL without read permission", own, 0, GETALL, (union semun){ .array = (unsigned short[]){ 4, 5 } });
            CALL(semctl, "IPC_STAT without read permission", own, 0, IPC_STAT, (union semun){ .buf = &status });
            CALL(semctl, "IPC_RMID", own, 0, IPC_RMID);
        }
        exit(0);
    }
    finish(&writer);

    until_asleep(waiter.pid);
    CALL(semctl, "IPC_RMID while one waits", id, 0, IPC_RMID);
    tell(&waiter);
    finish(&waiter);
    CALL(semctl, "IPC_RMID again", id, 0, IPC_RMID);
    CALL(semop, "removed", id, OPERATIONS({ 0, 1, 0 }));
    CALL(semctl, "GETVAL removed", id, 0, GETVAL);

    struct child limited = fork_child();
    if (!limited.pid) {
        if (own_limits("/proc/sys/kernel/sem", "10 15 4 3")) {
            int set = OPEN(semget, "as many as are allowed", IPC_PRIVATE, 10, 0600);
            CALL(semget, "more than are allowed", IPC_PRIVATE, 11, 0600);
            CALL(semget, "more than are left", IPC_PRIVATE, 6, 0600);
            CALL(semop, "as many operations as are allowed", set, many, 4);
            CALL(semop, "more operations than are allowed", set, many, 5);
            OPEN(semget, "second of three", IPC_PRIVATE, 1, 0600);
            OPEN(semget, "third of three", IPC_PRIVATE, 1, 0600);
            CALL(semget, "no more", IPC_PRIVATE, 1, 0600);
        }
        exit(0);
    }
    finish(&limited);
}

struct text {
    long type;
    char bytes[8300];
};

static void put(int id, long type, const char *bytes)
{
    struct text text = { .type = type };
    strcpy(text.bytes, bytes);
    MUST(msgsnd(id, &text, strlen(bytes), 0));
}

#define RECEIVE(what, id, size, wanted, flags) ({ \
    struct text got_ = { .type = -7 }; \
    long length_ = CALL(msgrcv, what, id, &got_, size, wanted, flags); \
    if (length_ >= 0) \
        line("msgrcv", what, "type %ld %.*s", got_.type, (int)length_, got_.bytes); })

static void queues(void)
{
    int id = OPEN(msgget, "IPC_CREAT", KEY, IPC_CREAT | IPC_EXCL | 0640);
    CALL(msgget, "IPC_EXCL of an existing one", KEY, IPC_CREAT | IPC_EXCL | 0640);
    line("msgget", "existing", "same %s", yes(msgget(KEY, 0) == id));
    CALL(msgget, "no such key", KEY + 1, 0);

    struct text text = { .type = 1, .bytes = "one" };
    CALL(msgsnd, "", id, &text, 3, 0);
    CALL(msgsnd, "empty", id, &text, 0, 0);
    text.type = 0;
    CALL(msgsnd, "type 0", id, &text, 3, 0);
    text.type = -1;
    CALL(msgsnd, "negative type", id, &text, 3, 0);
    text.type = LONG_MAX;
    CALL(msgsnd, "largest type", id, &text, 3, 0);
    CALL(msgsnd, "above MSGMAX", id, &text, 8193, 0);
    CALL(msgsnd, "negative size", id, &text, (size_t)-1, 0);
    CALL(msgsnd, "no such id", NO_ID, &text, 3, 0);
    CALL(msgsnd, "id -1", -1, &text, 3, 0);
    put(id, 5, "five"), put(id, 3, "three"), put(id, 4, "four");

    RECEIVE("type 9, none", id, 100, 9, IPC_NOWAIT);
    RECEIVE("too long", id, 2, 3, 0);
    RECEIVE("MSG_NOERROR", id, 2, 3, MSG_NOERROR);
    RECEIVE("MSG_EXCEPT", id, 100, 1, MSG_EXCEPT);
    RECEIVE("MSG_EXCEPT, none", id, 100, 0, MSG_EXCEPT | IPC_NOWAIT);
    RECEIVE("lowest up to 4", id, 100, -4, 0);
    RECEIVE("lowest up to 4, then", id, 100, -4, 0);
    RECEIVE("lowest up to 4, last", id, 100, -4, IPC_NOWAIT);
    RECEIVE("first", id, 100, 0, 0);
    put(id, 2, "two");
    put(id, 1, "one"), put(id, 1, "1");
    RECEIVE("MSG_COPY", id, 100, 1, MSG_COPY | IPC_NOWAIT);
    RECEIVE("MSG_COPY too long", id, 1, 1, MSG_COPY | IPC_NOWAIT);
    RECEIVE("MSG_COPY MSG_NOERROR", id, 1, 1, MSG_COPY | MSG_NOERROR | IPC_NOWAIT);
    RECEIVE("MSG_COPY no such index", id, 100, 5, MSG_COPY | IPC_NOWAIT);
    RECEIVE("MSG_COPY without IPC_NOWAIT", id, 100, 1, MSG_COPY);
    RECEIVE("MSG_COPY with MSG_EXCEPT", id, 100, 1, MSG_COPY | MSG_EXCEPT | IPC_NOWAIT);
    RECEIVE("smallest type", id, 100, LONG_MIN, IPC_NOWAIT);
    RECEIVE("type 1", id, 100, 1, 0);
    RECEIVE("type 2", id, 0, 2, MSG_NOERROR);
    RECEIVE("none", id, 100, 0, IPC_NOWAIT);
    RECEIVE("negative size", id, (size_t)-1, 0, IPC_NOWAIT);
    RECEIVE("no such id", NO_ID, 100, 0, IPC_NOWAIT);
    RECEIVE("id -1", -1, 100, 0, IPC_NOWAIT);
    INTERRUPTED(msgrcv, "interrupted", id, &text, 100, 0, 0);
    interrupt_with(count_signal, SA_RESTART);
    errno = 0;
    long result = msgrcv(id, &text, 100, 0, 0);
    leave_alone();
    say_result("msgrcv", "interrupted, SA_RESTART", result, 1);

    text.type = 6;
    CALL(msgsnd, "MSGMAX", id, &text, 8192, 0);
    CALL(msgsnd, "up to msg_qbytes", id, &text, 8192, 0);
    CALL(msgsnd, "full", id, &text, 1, IPC_NOWAIT);
    INTERRUPTED(msgsnd, "interrupted", id, &text, 1, 0);
    struct child sender = fork_child();
    if (!sender.pid) {
        struct text late = { .type = 8, .bytes = "late" };
        tell(&sender);
        BLOCKED(&sender, msgsnd, "waits for room", id, &late, 4, 0);
        tell(&sender);
        BLOCKED(&sender, msgrcv, "waits for a message", id, &late, 100, 9, 0);
        line("msgrcv", "waited for a message", "type %ld %.2s", late.type, late.bytes);
        tell(&sender);
        BLOCKED(&sender, msgrcv, "waits until it is removed", id, &late, 100, 9, 0);
        exit(0);
    }
    hear(&sender);
    until_asleep(sender.pid);
    CALL(msgrcv, "makes room", id, &text, 8192, 6, 0);
    tell(&sender);
    hear(&sender);
    RECEIVE("from the child", id, 100, 8, 0);

    struct msqid_ds status;
    CALL(msgctl, "IPC_STAT", id, IPC_STAT, &status);
    say_permissions("msgctl", &status.msg_perm, KEY);
    line("msgctl", "IPC_STAT", "messages %lu bytes %lu of %lu sender %s receiver %s times %s %s %s", (unsigned long)status.msg_qnum,
         (unsigned long)status.__msg_cbytes, (unsigned long)status.msg_qbytes, yes(status.msg_lspid == sender.pid),
         yes(status.msg_lrpid == getpid()), yes(status.msg_stime != 0), yes(status.msg_rtime != 0), yes(status.msg_ctime != 0));
    status.msg_qbytes = 1000;
    status.msg_perm.mode = 0600;
    status.msg_perm.uid = 9;
    CALL(msgctl, "IPC_SET", id, IPC_SET, &status);
    CALL(msgctl, "IPC_STAT", id, IPC_STAT, &status);
    say_permissions("msgctl", &status.msg_perm, KEY);
    line("msgctl", "IPC_SET", "of %lu", (unsigned long)status.msg_qbytes);
    CALL(msgsnd, "above the new msg_qbytes", id, &text, 1, IPC_NOWAIT);
    status.msg_qbytes = 1 << 20;
    CALL(msgctl, "IPC_SET above MSGMNB", id, IPC_SET, &status);
    status.msg_qbytes = 16384;
    CALL(msgctl, "IPC_SET back to MSGMNB", id, IPC_SET, &status);
    status.msg_perm.uid = -1;
    CALL(msgctl, "IPC_SET no user", id, IPC_SET, &status);
    CALL(msgctl, "unknown command", id, 9999, &status);
    CALL(msgctl, "IPC_STAT no such id", NO_ID, IPC_STAT, &status);
    CALL(msgctl, "IPC_STAT id -1", -1, IPC_STAT, &status);
    CALL(msgctl, "IPC_SET no such id", NO_ID, IPC_SET, &status);
    struct msginfo limits;
    OPEN(msgctl, "IPC_INFO", 0, IPC_INFO, (struct msqid_ds *)&limits);
    line("msgctl", "IPC_INFO", "message %d queue %d", limits.msgmax, limits.msgmnb);
    int highest = OPEN(msgctl, "MSG_INFO", 0, MSG_INFO, (struct msqid_ds *)&limits);
    int found = 0;
    for (int index = 0; index <= highest; index++)
        found |= msgctl(index, MSG_STAT, &status) == id && status.msg_qnum == 1;
    line("msgctl", "MSG_STAT", "found %s", yes(found));
    found = 0;
    for (int index = 0; index <= highest; index++)
        found |= msgctl(index, 13 /* MSG_STAT_ANY */, &status) == id;
    line("msgctl", "MSG_STAT_ANY", "found %s", yes(found));
    CALL(msgctl, "MSG_STAT no such index", 40000, MSG_STAT, &status);

    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(msgget, "another's", KEY, 0400);
            OPEN(msgget, "another's, no permission asked", KEY, 0);
            CALL(msgsnd, "another's", id, &text, 1, IPC_NOWAIT);
            RECEIVE("another's", id, 100, 0, IPC_NOWAIT);
            CALL(msgctl, "IPC_STAT of another's", id, IPC_STAT, &status);
            CALL(msgctl, "IPC_SET of another's", id, IPC_SET, &status);
            CALL(msgctl, "IPC_RMID of another's", id, IPC_RMID, NULL);
            int own = OPEN(msgget, "own", IPC_PRIVATE, 0600);
            MUST(msgctl(own, IPC_STAT, &status));
            status.msg_qbytes = 1 << 20;
            CALL(msgctl, "IPC_SET above MSGMNB, without privilege", own, IPC_SET, &status);
            CALL(msgctl, "IPC_RMID of its own", own, IPC_RMID, NULL);
        }
        exit(0);
    }
    finish(&nobody);

    put(id, 9, "nine");
    tell(&sender);
    hear(&sender);
    until_asleep(sender.pid);
    CALL(msgctl, "IPC_RMID while one waits", id, IPC_RMID, NULL);
    tell(&sender);
    finish(&sender);
    CALL(msgctl, "IPC_RMID again", id, IPC_RMID, NULL);
    CALL(msgsnd, "removed", id, &text, 1, IPC_NOWAIT);
    RECEIVE("removed", id, 100, 0, IPC_NOWAIT);

    int full = OPEN(msgget, "private", IPC_PRIVATE, 0600);
    CALL(msgsnd, "fills it", full, &text, 8192, 0);
    CALL(msgsnd, "fills it", full, &text, 8192, 0);
    struct child blocked = fork_child();
    if (!blocked.pid) {
        tell(&blocked);
        BLOCKED(&blocked, msgsnd, "waits for room until it is removed", full, &text, 1, 0);
        exit(0);
    }
    hear(&blocked);
    until_asleep(blocked.pid);
    CALL(msgctl, "IPC_RMID while one waits for room", full, IPC_RMID, NULL);
    tell(&blocked);
    finish(&blocked);

    struct child limited = fork_child();
    if (!limited.pid) {
        if (own_limits("/proc/sys/kernel/msgmni", "1")) {
            OPEN(msgget, "the only one", IPC_PRIVATE, 0600);
            CALL(msgget, "no more", IPC_PRIVATE, 0600);
        }
        exit(0);
    }
    finish(&limited);
    struct child small = fork_child();
    if (!small.pid) {
        if (own_limits("/proc/sys/kernel/msgmax", "10")) {
            int queue = OPEN(msgget, "for small messages", IPC_PRIVATE, 0600);
            CALL(msgsnd, "as long as is allowed", queue, &text, 10, 0);
            CALL(msgsnd, "longer than is allowed", queue, &text, 11, 0);
        }
        exit(0);
    }
    finish(&small);
}

int main(void)
{
    begin();
    keys();
    memory();
    semaphores();
    queues();
    return 0;
}
