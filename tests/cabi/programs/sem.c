/* sem_overview(7): named, and unnamed in shared and in private memory. */
#include "say.h"
#include <pthread.h>
#include <semaphore.h>

static void gave_up_quietly(int signal)
{
    (void)signal;
    _exit(1);
}

static int value(sem_t *sem)
{
    int value = -9;
    sem_getvalue(sem, &value);
    return value;
}

static void say_value(const char *what, sem_t *sem)
{
    int value = -9;
    CALL(sem_getvalue, what, sem, &value);
    line("sem_getvalue", what, "%d", value);
}

static void names(void)
{
    sem_t *sem = ADDRESS(sem_open, "O_CREAT", "/sem", O_CREAT | O_EXCL, 0640, 3);
    say_value("new", sem);
    struct stat status;
    MUST(stat("/dev/shm/sem.sem", &status));
    line("sem_open", "file", "mode %#o size %lld", status.st_mode & 07777, (long long)status.st_size);
    ADDRESS(sem_open, "O_EXCL of an existing one", "/sem", O_CREAT | O_EXCL, 0640, 3);
    line("sem_open", "again", "same address %s", yes(sem_open("/sem", 0) == sem));
    line("sem_open", "O_CREAT again", "same address %s", yes(sem_open("/sem", O_CREAT, 0600, 7) == sem));
    /* Whether it is at the same address, no standard says: it is the same name only here. */
    sem_t *bare = ADDRESS(sem_open, "without a slash", "sem", 0);
    CALL(sem_post, "without a slash", bare);
    CALL(sem_wait, "with a slash", sem);
    CALL(sem_close, "without a slash", bare);
    line("sem_open", "O_RDWR", "same address %s", yes(sem_open("/sem", O_RDWR) == sem));
    say_value("again", sem);
    for (int i = 0; i < 3; i++)
        CALL(sem_close, "once for each sem_open", sem);
    CALL(sem_trywait, "still open", sem);
    CALL(sem_close, "the last", sem);
    CALL(sem_close, "again", sem);
    sem_t own;
    sem_init(&own, 0, 0);
    CALL(sem_close, "of an unnamed one", &own);

    sem = ADDRESS(sem_open, "existing", "/sem", 0);
    say_value("kept", sem);
    ADDRESS(sem_open, "no such semaphore", "/absent", 0);
    ADDRESS(sem_open, "value too large", "/large", O_CREAT, 0600, 1u << 31);
    ADDRESS(sem_open, "value too large, existing", "/sem", O_CREAT, 0600, 1u << 31);
    sem_t *largest = ADDRESS(sem_open, "largest value", "/large", O_CREAT, 0600, SEM_VALUE_MAX);
    say_value("largest", largest);
    CALL(sem_post, "largest", largest);
    ADDRESS(sem_open, "empty", "", O_CREAT, 0600, 1);
    ADDRESS(sem_open, "only a slash", "/", O_CREAT, 0600, 1);
    ADDRESS(sem_open, "slash inside", "/a/b", O_CREAT, 0600, 1);
    ADDRESS(sem_open, "dots", "/..", O_CREAT, 0600, 1);
    CALL(sem_unlink, "dots", "/..");
    char name[1000];
    memset(name, 'x', sizeof name);
    name[0] = '/';
    for (int length = 249; length < 260; length++) {
        char what[40];
        snprintf(what, sizeof what, "%d bytes", length);
        name[length + 1] = 0;
        ADDRESS(sem_open, what, name, O_CREAT, 0600, 1);
        CALL(sem_unlink, what, name);
        name[length + 1] = 'x';
    }
    umask(077);
    sem_t *masked = ADDRESS(sem_open, "umask", "/masked", O_CREAT, 0666, 1);
    MUST(stat("/dev/shm/sem.masked", &status));
    line("sem_open", "umask", "mode %#o", status.st_mode & 07777);
    umask(022);
    CALL(sem_close, "", masked);
    close(MUST(open("/dev/shm/sem.short", O_CREAT | O_RDWR, 0600)));
    /* Who opens it with the C library is killed by SIGBUS when he uses it. */
    struct child user = fork_child();
    if (!user.pid) {
        sem_t *none = sem_open("/short", 0);
        exit(none == SEM_FAILED || (signal(SIGBUS, gave_up_quietly), sem_post(none)));
    }
    finish(&user);
    CALL(sem_unlink, "an empty file", "/short");
    MUST(mkdir("/dev/shm/sem.directory", 0700));
    ADDRESS(sem_open, "a directory", "/directory", 0);
    rmdir("/dev/shm/sem.directory");

    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            ADDRESS(sem_open, "another's, open here already", "/sem", 0);
            ADDRESS(sem_open, "another's", "/masked", 0);
            ADDRESS(sem_open, "another's, O_CREAT", "/masked", O_CREAT, 0600, 1);
            CALL(sem_unlink, "another's", "/masked");
        }
        exit(0);
    }
    finish(&nobody);
    struct child poor = fork_child();
    if (!poor.pid) {
        struct { unsigned long now, most; } limit = { 50, 50 };
        MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
        while (dup(0) >= 0) {}
        ADDRESS(sem_open, "no descriptors left", "/masked", 0);
        ADDRESS(sem_open, "no descriptors left, O_CREAT", "/another", O_CREAT, 0600, 1);
        exit(0);
    }
    finish(&poor);

    static const char *const limits[] = { "nr_inodes=1", "nr_blocks=1" };
    for (int i = 0; i < 2; i++) {
        struct child full = fork_child();
        if (!full.pid) {
            if (own_shm(limits[i])) {
                sem_t *one = ADDRESS(sem_open, i ? "room for one" : "no room for any", "/one", O_CREAT, 0600, 1);
                if (one != SEM_FAILED)
                    CALL(sem_close, "room for one", one);
                ADDRESS(sem_open, "no room", "/two", O_CREAT, 0600, 1);
                CALL(sem_unlink, "no room", "/two");
                make_shm_read_only();
                ADDRESS(sem_open, "read only, O_CREAT", "/three", O_CREAT, 0600, 1);
                ADDRESS(sem_open, "read only", "/one", 0);
                CALL(sem_unlink, "read only", "/one");
            }
            exit(0);
        }
        finish(&full);
    }

    CALL(sem_unlink, "", "/masked");
    CALL(sem_unlink, "again", "/masked");
    CALL(sem_unlink, "without a slash", "large");
    CALL(sem_unlink, "empty", "");
    CALL(sem_unlink, "slash inside", "/a/b");
    CALL(sem_unlink, "while open", "/sem");
    CALL(sem_post, "after sem_unlink", sem);
    sem_t *second = ADDRESS(sem_open, "a new one of the same name", "/sem", O_CREAT | O_EXCL, 0600, 9);
    line("sem_open", "a new one of the same name", "same address %s values %d %d", yes(second == sem), value(sem), value(second));
    CALL(sem_close, "the old one", sem);
    CALL(sem_close, "the new one", second);
    CALL(sem_unlink, "the new one", "/sem");
    CALL(sem_close, "largest", largest);
}

/* The same semaphore, by name, in a process that did not inherit it. */
static void between_processes(void)
{
    sem_t *ping = ADDRESS(sem_open, "ping", "/ping", O_CREAT | O_EXCL, 0600, 0);
    struct child child = fork_child();
    if (!child.pid) {
        sem_t *pong = ADDRESS(sem_open, "pong by the child", "/pong", O_CREAT | O_EXCL, 0600, 0);
        tell(&child);
        for (int i = 0; i < 1000; i++)
            if (sem_wait(ping) || sem_post(pong))
                exit(1);
        CALL(sem_close, "by the child", ping);
        exit(0);
    }
    hear(&child);
    sem_t *pong = ADDRESS(sem_open, "pong", "/pong", 0);
    int failed = 0;
    for (int i = 0; i < 1000; i++)
        failed += sem_post(ping) || sem_wait(pong);
    finish(&child);
    line("sem_post", "1000 times there and back", "failed %d values %d %d", failed, value(ping), value(pong));
    CALL(sem_unlink, "ping", "/ping");
    CALL(sem_unlink, "pong", "/pong");
    CALL(sem_close, "ping", ping);
    CALL(sem_close, "pong", pong);

    sem_t *shared = shared_memory(4096);
    CALL(sem_init, "shared", shared, 1, 0);
    struct child waiter = fork_child();
    if (!waiter.pid) {
        tell(&waiter);
        BLOCKED(&waiter, sem_wait, "until another process posts", shared);
        struct timespec late = now_plus(CLOCK_REALTIME, 1000000);
        tell(&waiter);
        BLOCKED(&waiter, sem_timedwait, "until another process posts", shared, &late);
        struct timespec later = now_plus(CLOCK_MONOTONIC, 1000000);
        tell(&waiter);
        BLOCKED(&waiter, sem_clockwait, "until another process posts", shared, CLOCK_MONOTONIC, &later);
        exit(0);
    }
    for (int i = 0; i < 3; i++) {
        hear(&waiter);
        until_asleep(waiter.pid);
        say_value("while one waits", shared);
        CALL(sem_post, "while one waits", shared);
        tell(&waiter);
    }
    finish(&waiter);

    enum { CHILDREN = 4, TIMES = 2000 };
    volatile long *count = (volatile long *)shared + 32;
    CALL(sem_init, "a lock of processes", shared, 1, 1);
    struct child children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork_child();
        if (!children[i].pid) {
            for (int j = 0; j < TIMES; j++) {
                if (sem_wait(shared))
                    exit(1);
                *count = *count + 1;
                if (sem_post(shared))
                    exit(1);
            }
            exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++)
        finish(&children[i]);
    line("sem_wait", "a lock of processes", "counted %ld", *count);
    CALL(sem_destroy, "shared", shared);
}

/* The other side is not of this library: it is started without the preload. */
static void with_another_library(const char *self)
{
    sem_t *sem = ADDRESS(sem_open, "for another program", "/mixed", O_CREAT | O_EXCL, 0600, 0);
    struct child child = fork_child();
    if (!child.pid) {
        char in[20], out[20];
        fcntl(child.in, F_SETFD, 0), fcntl(child.out, F_SETFD, 0);
        snprintf(in, sizeof in, "%d", child.in), snprintf(out, sizeof out, "%d", child.out);
        char *arguments[] = { (char *)self, "other", in, out, NULL }, *environment[] = { NULL };
        execve(self, arguments, environment);
        exit(1);
    }
    hear(&child);
    until_asleep(child.pid);
    CALL(sem_post, "for another program", sem);
    tell(&child);
    hear(&child);
    sem_t *his = ADDRESS(sem_open, "made by another program", "/his", 0);
    say_value("made by another program", his);
    CALL(sem_wait, "made by another program", his);
    line("sem_open", "made by another program", "O_EXCL %s", sem_open("/his", O_CREAT | O_EXCL, 0600, 1) ? "made" : error_name(errno));
    for (int i = 0; i < 500; i++)
        if (sem_post(sem) || sem_wait(his))
            line("sem_wait", "with another program", "%s", error_name(errno));
    finish(&child);
    line("sem_getvalue", "with another program", "%d %d", value(sem), value(his));
    CALL(sem_close, "made by another program", his);
    CALL(sem_close, "for another program", sem);
    CALL(sem_unlink, "made by another program", "/his");
    CALL(sem_unlink, "for another program", "/mixed");
}

static int the_other(char **arguments)
{
    struct child child = { .in = atoi(arguments[2]), .out = atoi(arguments[3]) };
    alarm(PATIENCE);
    sem_t *sem = sem_open("/mixed", 0), *own = sem_open("/his", O_CREAT | O_EXCL, 0600, 2);
    tell(&child);
    BLOCKED(&child, sem_wait, "by another program", sem);
    CALL(sem_trywait, "by another program", own);
    tell(&child);
    for (int i = 0; i < 500; i++)
        if (sem_wait(sem) || sem_post(own))
            return 1;
    return 0;
}

static void times(void)
{
    sem_t sem;
    CALL(sem_init, "private", &sem, 0, 2);
    CALL(sem_wait, "", &sem);
    CALL(sem_trywait, "", &sem);
    CALL(sem_trywait, "0", &sem);
    say_value("0", &sem);
    struct timespec past = { 1, 0 }, wrong = { 0, 1000000000 }, negative = { 0, -1 }, before = { -1, 0 };
    CALL(sem_timedwait, "past", &sem, &past);
    CALL(sem_timedwait, "before 1970", &sem, &before);
    CALL(sem_timedwait, "nanoseconds too many", &sem, &wrong);
    CALL(sem_timedwait, "negative nanoseconds", &sem, &negative);
    CALL(sem_clockwait, "past", &sem, CLOCK_MONOTONIC, &past);
    CALL(sem_clockwait, "past, CLOCK_REALTIME", &sem, CLOCK_REALTIME, &past);
    CALL(sem_clockwait, "nanoseconds too many", &sem, CLOCK_MONOTONIC, &wrong);
    CALL(sem_clockwait, "negative nanoseconds", &sem, CLOCK_MONOTONIC, &negative);
    CALL(sem_clockwait, "another clock", &sem, CLOCK_BOOTTIME, &past);
    CALL(sem_clockwait, "no clock", &sem, 99, &past);
    CALL(sem_clockwait, "no clock, nanoseconds too many", &sem, 99, &wrong);
    struct timespec deadline = now_plus(CLOCK_REALTIME, 30);
    CALL(sem_timedwait, "after a time", &sem, &deadline);
    line("sem_timedwait", "after a time", "waited %s", yes(is_past(CLOCK_REALTIME, &deadline)));
    deadline = now_plus(CLOCK_REALTIME, 30);
    CALL(sem_clockwait, "after a time, CLOCK_REALTIME", &sem, CLOCK_REALTIME, &deadline);
    line("sem_clockwait", "after a time, CLOCK_REALTIME", "waited %s", yes(is_past(CLOCK_REALTIME, &deadline)));
    deadline = now_plus(CLOCK_MONOTONIC, 30);
    CALL(sem_clockwait, "after a time", &sem, CLOCK_MONOTONIC, &deadline);
    line("sem_clockwait", "after a time", "waited %s", yes(is_past(CLOCK_MONOTONIC, &deadline)));

    CALL(sem_post, "", &sem);
    CALL(sem_timedwait, "past, but not 0", &sem, &past);
    CALL(sem_post, "", &sem);
    CALL(sem_timedwait, "nanoseconds too many, but not 0", &sem, &wrong);
    say_value("afterwards", &sem);
    CALL(sem_post, "", &sem);
    CALL(sem_clockwait, "past, but not 0", &sem, CLOCK_MONOTONIC, &past);
    CALL(sem_post, "", &sem);
    CALL(sem_clockwait, "no clock, but not 0", &sem, 99, &past);
    say_value("afterwards", &sem);
    CALL(sem_init, "again", &sem, 0, 0);

    struct timespec late = now_plus(CLOCK_REALTIME, 1000000);
    INTERRUPTED(sem_wait, "interrupted", &sem);
    INTERRUPTED(sem_timedwait, "interrupted", &sem, &late);
    INTERRUPTED(sem_clockwait, "interrupted", &sem, CLOCK_REALTIME, &late);
    late = now_plus(CLOCK_MONOTONIC, 1000000);
    INTERRUPTED(sem_clockwait, "interrupted, CLOCK_MONOTONIC", &sem, CLOCK_MONOTONIC, &late);

    CALL(sem_init, "largest value", &sem, 0, SEM_VALUE_MAX);
    CALL(sem_post, "largest value", &sem);
    say_value("largest value", &sem);
    CALL(sem_wait, "largest value", &sem);
    CALL(sem_post, "largest value, less one", &sem);
    CALL(sem_init, "value too large", &sem, 0, 1u << 31);
    CALL(sem_init, "value too large, shared", &sem, 1, UINT_MAX);
    CALL(sem_destroy, "", &sem);
}

/* The handler of the third signal posts: a wait that SA_RESTART goes on with then succeeds. */
static sem_t restarted;

static void post_at_third(int signal)
{
    (void)signal;
    if (++signals == 3)
        sem_post(&restarted);
}

static void restarts(void)
{
    for (int shared = 0; shared < 2; shared++) {
        const char *what = shared ? "SA_RESTART, shared" : "SA_RESTART";
        sem_init(&restarted, shared, 0);
        interrupt_with(post_at_third, SA_RESTART);
        errno = 0;
        int result = sem_wait(&restarted);
        leave_alone();
        say_result("sem_wait", what, result, 1);
        line("sem_wait", what, "signals %s", signals < 3 ? "less than 3" : "3");
        struct timespec late = now_plus(CLOCK_REALTIME, 1000000);
        interrupt_with(post_at_third, SA_RESTART);
        errno = 0;
        result = sem_timedwait(&restarted, &late);
        leave_alone();
        say_result("sem_timedwait", what, result, 1);
        line("sem_timedwait", what, "signals %s", signals < 3 ? "less than 3" : "3");
        while (sem_trywait(&restarted) == 0) {}
    }
}

static sem_t of_threads;
static long counted;

static void *count(void *nothing)
{
    for (int i = 0; i < 5000; i++) {
        sem_wait(&of_threads);
        counted = *(volatile long *)&counted + 1;
        sem_post(&of_threads);
    }
    return nothing;
}

static void threads(void)
{
    pthread_t thread[4];
    CALL(sem_init, "of threads", &of_threads, 0, 1);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, count, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    line("sem_wait", "of threads", "counted %ld value %d", counted, value(&of_threads));
    CALL(sem_destroy, "of threads", &of_threads);
}

int main(int count, char **arguments)
{
    if (count == 4)
        return the_other(arguments);
    begin();
    names();
    between_processes();
    with_another_library(arguments[0]);
    times();
    restarts();
    threads();
    return 0;
}
