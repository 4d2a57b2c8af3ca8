/* The locks of pthreads(7): in shared memory between processes, and private ones. */
#include "say.h"
#include <pthread.h>

/* A text, until four more have been made by this thread. */
__attribute__((format(printf, 1, 2)))
static const char *label(const char *format, ...)
{
    static __thread char texts[5][200];
    static __thread int last;
    va_list arguments;
    va_start(arguments, format);
    last = (last + 1) % 5;
    vsnprintf(texts[last], sizeof texts[last], format, arguments);
    va_end(arguments);
    return texts[last];
}

static struct timespec past = { 1, 0 }, wrong = { 0, 1000000000 }, negative = { 0, -1 };

/* A call by another thread, which then ends. */
struct errand {
    int (*function)(void *);
    void *argument;
    int result;
};

static void *run_errand(void *argument)
{
    struct errand *errand = argument;
    errand->result = errand->function(errand->argument);
    return NULL;
}

static int by_thread(int (*function)(void *), void *argument)
{
    struct errand errand = { function, argument, -1 };
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_errand, &errand) || pthread_join(thread, NULL))
        exit(2);
    errno = EDOM;
    return errand.result;
}

#define BY_THREAD(function, what, object) say_error(#function, what, by_thread((int (*)(void *))function, object))

/* A call that the other side ends. */
#define BLOCKED_ERROR(child, function, what, ...) ({ \
    errno = EDOM; \
    int error_ = function(__VA_ARGS__), touched_ = errno; \
    hear(child); \
    errno = touched_; \
    say_error(#function, what, error_); })

static void attributes(void)
{
    pthread_mutexattr_t attr;
    int value = -1;
    ERROR(pthread_mutexattr_init, "", &attr);
    ERROR(pthread_mutexattr_gettype, "new", &attr, &value);
    line("pthread_mutexattr_gettype", "new", "%d", value);
    ERROR(pthread_mutexattr_getpshared, "new", &attr, &value);
    line("pthread_mutexattr_getpshared", "new", "%d", value);
    ERROR(pthread_mutexattr_getrobust, "new", &attr, &value);
    line("pthread_mutexattr_getrobust", "new", "%d", value);
    ERROR(pthread_mutexattr_getprotocol, "new", &attr, &value);
    line("pthread_mutexattr_getprotocol", "new", "%d", value);
    ERROR(pthread_mutexattr_getprioceiling, "new", &attr, &value);
    line("pthread_mutexattr_getprioceiling", "new", "%d", value);
    for (int number = -1; number <= 4; number++) {
        const char *what = label("%d", number);
        ERROR(pthread_mutexattr_settype, what, &attr, number);
        ERROR(pthread_mutexattr_gettype, what, &attr, &value);
        line("pthread_mutexattr_gettype", what, "%d", value);
        ERROR(pthread_mutexattr_setpshared, what, &attr, number);
        ERROR(pthread_mutexattr_getpshared, what, &attr, &value);
        line("pthread_mutexattr_getpshared", what, "%d", value);
        ERROR(pthread_mutexattr_setrobust, what, &attr, number);
        ERROR(pthread_mutexattr_getrobust, what, &attr, &value);
        line("pthread_mutexattr_getrobust", what, "%d", value);
        ERROR(pthread_mutexattr_setprotocol, what, &attr, number);
        ERROR(pthread_mutexattr_getprotocol, what, &attr, &value);
        line("pthread_mutexattr_getprotocol", what, "%d", value);
    }
    static const int ceilings[] = { -1, 0, 1, 50, 99, 100, 1000 };
    for (int i = 0; i < 7; i++) {
        const char *what = label("%d", ceilings[i]);
        ERROR(pthread_mutexattr_setprioceiling, what, &attr, ceilings[i]);
        ERROR(pthread_mutexattr_getprioceiling, what, &attr, &value);
        line("pthread_mutexattr_getprioceiling", what, "%d", value);
    }
    ERROR(pthread_mutexattr_destroy, "", &attr);
}

struct kind {
    char name[80];
    int shared, type, robust, protocol;
};

static void make(pthread_mutex_t *mutex, const struct kind *kind)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, kind->shared);
    pthread_mutexattr_settype(&attr, kind->type);
    pthread_mutexattr_setrobust(&attr, kind->robust);
    pthread_mutexattr_setprotocol(&attr, kind->protocol);
    memset(mutex, 0xa5, sizeof *mutex);
    ERROR(pthread_mutex_init, kind->name, mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}

#define WITH(text) label("%s: %s", kind->name, text)

/* What one thread and its neighbour see. */
static void threads(pthread_mutex_t *mutex, const struct kind *kind)
{
    int checks = kind->type == PTHREAD_MUTEX_ERRORCHECK || kind->type == PTHREAD_MUTEX_RECURSIVE || kind->robust;
    ERROR(pthread_mutex_lock, WITH("free"), mutex);
    ERROR(pthread_mutex_trylock, WITH("by its owner"), mutex);
    if (kind->type == PTHREAD_MUTEX_RECURSIVE)
        ERROR(pthread_mutex_unlock, WITH("once"), mutex);
    if (kind->type == PTHREAD_MUTEX_ERRORCHECK || kind->type == PTHREAD_MUTEX_RECURSIVE) {
        ERROR(pthread_mutex_lock, WITH("by its owner"), mutex);
        ERROR(pthread_mutex_timedlock, WITH("by its owner, past"), mutex, &past);
        ERROR(pthread_mutex_clocklock, WITH("by its owner, past"), mutex, CLOCK_MONOTONIC, &past);
        if (kind->type == PTHREAD_MUTEX_RECURSIVE)
            for (int i = 0; i < 3; i++) {
                BY_THREAD(pthread_mutex_trylock, WITH("locked several times"), mutex);
                ERROR(pthread_mutex_unlock, WITH("one of several"), mutex);
            }
    } else {
        struct timespec soon = now_plus(CLOCK_REALTIME, 20);
        ERROR(pthread_mutex_timedlock, WITH("by its owner"), mutex, &soon);
    }
    BY_THREAD(pthread_mutex_trylock, WITH("by another"), mutex);
    if (checks)
        BY_THREAD(pthread_mutex_unlock, WITH("by another"), mutex);
    /* The C library destroys a robust one all the same. */
    if (!kind->robust)
        ERROR(pthread_mutex_destroy, WITH("locked"), mutex);
    ERROR(pthread_mutex_unlock, WITH("by its owner"), mutex);
    if (checks)
        ERROR(pthread_mutex_unlock, WITH("not locked"), mutex);
    ERROR(pthread_mutex_trylock, WITH("free"), mutex);
    ERROR(pthread_mutex_unlock, WITH("after trylock"), mutex);
    struct timespec later = now_plus(CLOCK_REALTIME, 1000000);
    ERROR(pthread_mutex_timedlock, WITH("free"), mutex, &later);
    ERROR(pthread_mutex_unlock, WITH("after timedlock"), mutex);
    ERROR(pthread_mutex_timedlock, WITH("free, past"), mutex, &past);
    ERROR(pthread_mutex_unlock, WITH("after timedlock, past"), mutex);
    ERROR(pthread_mutex_timedlock, WITH("free, nanoseconds too many"), mutex, &wrong);
    ERROR(pthread_mutex_unlock, WITH("after timedlock, nanoseconds too many"), mutex);
    if (ERROR(pthread_mutex_clocklock, WITH("free"), mutex, CLOCK_MONOTONIC, &later) == 0)
        ERROR(pthread_mutex_unlock, WITH("after clocklock"), mutex);
    if (ERROR(pthread_mutex_clocklock, WITH("free, CLOCK_REALTIME"), mutex, CLOCK_REALTIME, &later) == 0)
        ERROR(pthread_mutex_unlock, WITH("after clocklock, CLOCK_REALTIME"), mutex);
    ERROR(pthread_mutex_clocklock, WITH("free, another clock"), mutex, CLOCK_BOOTTIME, &later);
    ERROR(pthread_mutex_clocklock, WITH("free, no clock"), mutex, 99, &later);
    ERROR(pthread_mutex_consistent, WITH("not inconsistent"), mutex);
    int ceiling = -7;
    ERROR(pthread_mutex_getprioceiling, WITH("without one"), mutex, &ceiling);
    ERROR(pthread_mutex_setprioceiling, WITH("without one"), mutex, 5, &ceiling);
}

/* What another process sees, which has the same mutex in its memory, and what becomes of one whose owner dies. */
static void processes(pthread_mutex_t *mutex, const struct kind *kind)
{
    ERROR(pthread_mutex_lock, WITH("before fork"), mutex);
    struct child child = fork_child();
    if (!child.pid) {
        ERROR(pthread_mutex_trylock, WITH("by the child"), mutex);
        if (kind->type != PTHREAD_MUTEX_NORMAL || kind->robust)
            ERROR(pthread_mutex_unlock, WITH("by the child"), mutex);
        ERROR(pthread_mutex_timedlock, WITH("by the child, past"), mutex, &past);
        ERROR(pthread_mutex_timedlock, WITH("by the child, nanoseconds too many"), mutex, &wrong);
        ERROR(pthread_mutex_timedlock, WITH("by the child, negative nanoseconds"), mutex, &negative);
        struct timespec soon = now_plus(CLOCK_REALTIME, 20);
        ERROR(pthread_mutex_timedlock, WITH("by the child, after a time"), mutex, &soon);
        interrupt_with(count_signal, 0);
        struct timespec after = now_plus(CLOCK_REALTIME, 3 * TICK);
        ERROR(pthread_mutex_timedlock, WITH("by the child, with signals"), mutex, &after);
        line("pthread_mutex_timedlock", WITH("by the child, with signals"), "waited %s", yes(is_past(CLOCK_REALTIME, &after)));
        leave_alone();
        line("pthread_mutex_timedlock", WITH("by the child, after a time"), "waited %s", yes(is_past(CLOCK_REALTIME, &soon)));
        soon = now_plus(CLOCK_MONOTONIC, 20);
        if (ERROR(pthread_mutex_clocklock, WITH("by the child, after a time"), mutex, CLOCK_MONOTONIC, &soon) == ETIMEDOUT)
            line("pthread_mutex_clocklock", WITH("by the child, after a time"), "waited %s", yes(is_past(CLOCK_MONOTONIC, &soon)));
        if (!kind->robust)
            ERROR(pthread_mutex_destroy, WITH("by the child, locked"), mutex);
        tell(&child);
        BLOCKED_ERROR(&child, pthread_mutex_lock, WITH("waits"), mutex);
        ERROR(pthread_mutex_unlock, WITH("after it waited"), mutex);
        struct timespec later = now_plus(CLOCK_REALTIME, 1000000);
        tell(&child);
        hear(&child);
        tell(&child);
        BLOCKED_ERROR(&child, pthread_mutex_timedlock, WITH("waits"), mutex, &later);
        ERROR(pthread_mutex_unlock, WITH("after it waited"), mutex);
        exit(0);
    }
    for (int i = 0; i < 2; i++) {
        hear(&child);
        until_asleep(child.pid);
        ERROR(pthread_mutex_unlock, WITH("while one waits"), mutex);
        tell(&child);
        if (i == 0) {
            hear(&child);
            ERROR(pthread_mutex_lock, WITH("after the child"), mutex);
            tell(&child);
        }
    }
    finish(&child);

    enum { CHILDREN = 3, TIMES = 1000 };
    volatile long *count = (volatile long *)(mutex + 1);
    *count = 0;
    struct child children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork_child();
        if (!children[i].pid) {
            for (int j = 0; j < TIMES; j++) {
                if (pthread_mutex_lock(mutex))
                    exit(1);
                *count = *count + 1;
                if (pthread_mutex_unlock(mutex))
                    exit(1);
            }
            exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++)
        finish(&children[i]);
    line("pthread_mutex_lock", WITH("counted"), "%ld", *count);

    struct child killed = fork_child();
    if (!killed.pid) {
        ERROR(pthread_mutex_lock, WITH("by who is killed"), mutex);
        if (kind->type == PTHREAD_MUTEX_RECURSIVE)
            ERROR(pthread_mutex_lock, WITH("by who is killed, again"), mutex);
        kill(getpid(), SIGKILL);
    }
    finish(&killed);
    if (!kind->robust) {
        struct timespec soon = now_plus(CLOCK_REALTIME, 20);
        ERROR(pthread_mutex_trylock, WITH("its owner was killed"), mutex);
        ERROR(pthread_mutex_timedlock, WITH("its owner was killed"), mutex, &soon);
        return;
    }
    ERROR(pthread_mutex_lock, WITH("its owner was killed"), mutex);
    BY_THREAD(pthread_mutex_trylock, WITH("by another, inconsistent"), mutex);
    ERROR(pthread_mutex_consistent, WITH("its owner was killed"), mutex);
    ERROR(pthread_mutex_consistent, WITH("again"), mutex);
    ERROR(pthread_mutex_unlock, WITH("made consistent"), mutex);
    ERROR(pthread_mutex_trylock, WITH("made consistent"), mutex);
    ERROR(pthread_mutex_unlock, WITH("made consistent"), mutex);

    struct child waiter = fork_child();
    if (!waiter.pid) {
        hear(&waiter);
        tell(&waiter);
        BLOCKED_ERROR(&waiter, pthread_mutex_lock, WITH("its owner dies while one waits"), mutex);
        ERROR(pthread_mutex_consistent, WITH("its owner died while one waited"), mutex);
        ERROR(pthread_mutex_unlock, WITH("its owner died while one waited"), mutex);
        exit(0);
    }
    struct child owner = fork_child();
    if (!owner.pid) {
        ERROR(pthread_mutex_trylock, WITH("by who dies"), mutex);
        tell(&owner);
        hear(&owner);
        exit(0);
    }
    hear(&owner);
    tell(&waiter);
    hear(&waiter);
    until_asleep(waiter.pid);
    tell(&owner);
    finish(&owner);
    tell(&waiter);
    finish(&waiter);

    struct child replaced = fork_child();
    if (!replaced.pid) {
        ERROR(pthread_mutex_lock, WITH("by who calls execve"), mutex);
        execl("/bin/true", "true", NULL);
        exit(1);
    }
    finish(&replaced);
    ERROR(pthread_mutex_trylock, WITH("its owner called execve"), mutex);
    ERROR(pthread_mutex_consistent, WITH("its owner called execve"), mutex);
    ERROR(pthread_mutex_unlock, WITH("its owner called execve"), mutex);

    BY_THREAD(pthread_mutex_lock, WITH("by a thread that ends"), mutex);
    struct timespec later = now_plus(CLOCK_REALTIME, 1000000);
    ERROR(pthread_mutex_timedlock, WITH("its thread ended"), mutex, &later);
    ERROR(pthread_mutex_consistent, WITH("its thread ended"), mutex);
    ERROR(pthread_mutex_unlock, WITH("its thread ended"), mutex);
    BY_THREAD(pthread_mutex_lock, WITH("by a thread that ends"), mutex);
    later = now_plus(CLOCK_MONOTONIC, 1000000);
    if (ERROR(pthread_mutex_clocklock, WITH("its thread ended"), mutex, CLOCK_MONOTONIC, &later) == EINVAL)
        ERROR(pthread_mutex_lock, WITH("its thread ended"), mutex);

    /* Who unlocks it without having made it consistent makes it useless. */
    struct child late = fork_child();
    if (!late.pid) {
        tell(&late);
        BLOCKED_ERROR(&late, pthread_mutex_lock, WITH("given up while one waits"), mutex);
        ERROR(pthread_mutex_lock, WITH("given up"), mutex);
        exit(0);
    }
    hear(&late);
    until_asleep(late.pid);
    ERROR(pthread_mutex_unlock, WITH("inconsistent"), mutex);
    tell(&late);
    finish(&late);
    ERROR(pthread_mutex_lock, WITH("given up"), mutex);
    ERROR(pthread_mutex_timedlock, WITH("given up"), mutex, &past);
    ERROR(pthread_mutex_clocklock, WITH("given up"), mutex, CLOCK_REALTIME, &past);
    ERROR(pthread_mutex_consistent, WITH("given up"), mutex);
    later = now_plus(CLOCK_REALTIME, 1000000);
    ERROR(pthread_mutex_timedlock, WITH("given up, later"), mutex, &later);
    /* At the end: the C library's (2.36) leaves the word of the lock taken. */
    ERROR(pthread_mutex_trylock, WITH("given up"), mutex);
    ERROR(pthread_mutex_destroy, WITH("given up"), mutex);
    make(mutex, kind);
    ERROR(pthread_mutex_lock, WITH("made anew"), mutex);
    ERROR(pthread_mutex_unlock, WITH("made anew"), mutex);
    ERROR(pthread_mutex_destroy, WITH("made anew"), mutex);
}

static void mutexes(void)
{
    static const char *const types[] = { "normal", "recursive", "errorcheck", "adaptive" };
    pthread_mutex_t *shared = shared_memory(4096), private;
    for (int share = 0; share < 2; share++)
        for (int type = 0; type < 4; type++)
            for (int robust = 0; robust < 2; robust++)
                for (int inherit = 0; inherit < 2; inherit++) {
                    struct kind kind = { .shared = share, .type = type, .robust = robust, .protocol = inherit };
                    snprintf(kind.name, sizeof kind.name, "%s %s%s%s", share ? "shared" : "private", types[type], robust ? " robust" : "",
                             inherit ? " inherit" : "");
                    pthread_mutex_t *mutex = share ? shared : &private;
                    make(mutex, &kind);
                    threads(mutex, &kind);
                    if (share)
                        processes(mutex, &kind);
                    make(mutex, &kind);
                    ERROR(pthread_mutex_destroy, kind.name, mutex);
                    ERROR(pthread_mutex_lock, label("destroyed %s", kind.name), mutex);
                    ERROR(pthread_mutex_trylock, label("destroyed %s", kind.name), mutex);
                    ERROR(pthread_mutex_timedlock, label("destroyed %s", kind.name), mutex, &past);
                    ERROR(pthread_mutex_unlock, label("destroyed %s", kind.name), mutex);
                    ERROR(pthread_mutex_destroy, label("destroyed %s", kind.name), mutex);
                }

    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    for (int share = 0; share < 2; share++) {
        pthread_mutexattr_setpshared(&attr, share);
        pthread_mutex_init(shared, &attr);
        pthread_mutex_lock(shared);
        shared->__data.__count = UINT_MAX;
        ERROR(pthread_mutex_lock, "locked as often as can be", shared);
        ERROR(pthread_mutex_trylock, "locked as often as can be", shared);
        shared->__data.__count = 1;
        ERROR(pthread_mutex_unlock, "locked as often as can be", shared);
    }
    static pthread_mutex_t ready = PTHREAD_MUTEX_INITIALIZER, again = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
                           checked = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP, adaptive = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
    pthread_mutex_t *statics[] = { &ready, &again, &checked, &adaptive };
    for (int i = 0; i < 4; i++) {
        ERROR(pthread_mutex_lock, label("static %s", types[i]), statics[i]);
        ERROR(pthread_mutex_trylock, label("static %s, again", types[i]), statics[i]);
        BY_THREAD(pthread_mutex_trylock, label("static %s, by another", types[i]), statics[i]);
        ERROR(pthread_mutex_unlock, label("static %s", types[i]), statics[i]);
    }
    ERROR(pthread_mutex_init, "without attributes", &private, NULL);
    ERROR(pthread_mutex_lock, "without attributes", &private);
    ERROR(pthread_mutex_unlock, "without attributes", &private);

    for (int share = 0; share < 2; share++) {
        const char *name = share ? "shared protect" : "private protect";
        int ceiling = -7;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, share);
        pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_PROTECT);
        pthread_mutexattr_setprioceiling(&attr, 10);
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        ERROR(pthread_mutex_init, label("%s robust", name), shared, &attr);
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_STALLED);
        ERROR(pthread_mutex_init, name, shared, &attr);
        ERROR(pthread_mutex_getprioceiling, name, shared, &ceiling);
        line("pthread_mutex_getprioceiling", name, "%d", ceiling);
        ERROR(pthread_mutex_setprioceiling, name, shared, 20, &ceiling);
        line("pthread_mutex_setprioceiling", name, "%d", ceiling);
        ERROR(pthread_mutex_setprioceiling, label("%s, too high", name), shared, 1000, &ceiling);
        ERROR(pthread_mutex_setprioceiling, label("%s, too low", name), shared, -1, &ceiling);
        ERROR(pthread_mutex_getprioceiling, name, shared, &ceiling);
        line("pthread_mutex_getprioceiling", name, "%d", ceiling);
        struct child child = fork_child();
        if (!child.pid) {
            if (ERROR(pthread_mutex_lock, name, shared) == 0) {
                struct sched_param now;
                int policy = -1;
                pthread_getschedparam(pthread_self(), &policy, &now);
                ERROR(pthread_mutex_unlock, name, shared);
            }
            if (ERROR(pthread_mutex_trylock, name, shared) == 0)
                ERROR(pthread_mutex_unlock, name, shared);
            if (ERROR(pthread_mutex_timedlock, name, shared, &past) == 0)
                ERROR(pthread_mutex_unlock, name, shared);
            struct sched_param high = { 30 };
            if (sched_setscheduler(0, SCHED_FIFO, &high) == 0)
                ERROR(pthread_mutex_lock, label("%s, by one above it", name), shared);
            exit(0);
        }
        finish(&child);
        struct child nobody = fork_child();
        if (!nobody.pid) {
            if (become_nobody())
                ERROR(pthread_mutex_lock, label("%s, without privilege", name), shared);
            exit(0);
        }
        finish(&nobody);
        ERROR(pthread_mutex_destroy, name, shared);
    }
}

static void read_write_locks(void)
{
    pthread_rwlock_t *lock = shared_memory(4096);
    for (int share = 0; share < 2; share++)
        for (int kind = 0; kind < 3; kind++) {
            pthread_rwlockattr_t attr;
            char name[60];
            snprintf(name, sizeof name, "%s kind %d", share ? "shared" : "private", kind);
#define NAMED(text) label("%s: %s", name, text)
            pthread_rwlockattr_init(&attr);
            pthread_rwlockattr_setpshared(&attr, share);
            pthread_rwlockattr_setkind_np(&attr, kind);
            memset(lock, 0xa5, sizeof *lock);
            ERROR(pthread_rwlock_init, name, lock, &attr);
            ERROR(pthread_rwlock_rdlock, NAMED("free"), lock);
            ERROR(pthread_rwlock_rdlock, NAMED("again"), lock);
            ERROR(pthread_rwlock_tryrdlock, NAMED("again"), lock);
            ERROR(pthread_rwlock_trywrlock, NAMED("beside readers"), lock);
            BY_THREAD(pthread_rwlock_tryrdlock, NAMED("by another"), lock);
            BY_THREAD(pthread_rwlock_unlock, NAMED("by another"), lock);
            BY_THREAD(pthread_rwlock_trywrlock, NAMED("by another"), lock);
            struct timespec soon = now_plus(CLOCK_REALTIME, 20);
            ERROR(pthread_rwlock_timedwrlock, NAMED("beside readers"), lock, &soon);
            line("pthread_rwlock_timedwrlock", NAMED("beside readers"), "waited %s", yes(is_past(CLOCK_REALTIME, &soon)));
            soon = now_plus(CLOCK_MONOTONIC, 20);
            ERROR(pthread_rwlock_clockwrlock, NAMED("beside readers"), lock, CLOCK_MONOTONIC, &soon);
            line("pthread_rwlock_clockwrlock", NAMED("beside readers"), "waited %s", yes(is_past(CLOCK_MONOTONIC, &soon)));
            ERROR(pthread_rwlock_timedwrlock, NAMED("beside readers, past"), lock, &past);
            ERROR(pthread_rwlock_timedwrlock, NAMED("beside readers, nanoseconds too many"), lock, &wrong);
            ERROR(pthread_rwlock_timedwrlock, NAMED("beside readers, negative nanoseconds"), lock, &negative);
            ERROR(pthread_rwlock_clockwrlock, NAMED("beside readers, no clock"), lock, 99, &past);
            ERROR(pthread_rwlock_clockwrlock, NAMED("beside readers, another clock"), lock, CLOCK_BOOTTIME, &past);
            for (int i = 0; i < 3; i++)
                ERROR(pthread_rwlock_unlock, NAMED("of readers"), lock);

            ERROR(pthread_rwlock_wrlock, NAMED("free"), lock);
            ERROR(pthread_rwlock_wrlock, NAMED("by its owner"), lock);
            ERROR(pthread_rwlock_rdlock, NAMED("by its owner"), lock);
            ERROR(pthread_rwlock_trywrlock, NAMED("by its owner"), lock);
            ERROR(pthread_rwlock_tryrdlock, NAMED("by its owner"), lock);
            ERROR(pthread_rwlock_timedrdlock, NAMED("by its owner"), lock, &past);
            ERROR(pthread_rwlock_timedwrlock, NAMED("by its owner"), lock, &past);
            ERROR(pthread_rwlock_clockrdlock, NAMED("by its owner"), lock, CLOCK_REALTIME, &past);
            ERROR(pthread_rwlock_clockwrlock, NAMED("by its owner"), lock, CLOCK_REALTIME, &past);
            BY_THREAD(pthread_rwlock_tryrdlock, NAMED("beside a writer"), lock);
            BY_THREAD(pthread_rwlock_trywrlock, NAMED("beside a writer"), lock);
            ERROR(pthread_rwlock_unlock, NAMED("of a writer"), lock);

            struct timespec later = now_plus(CLOCK_REALTIME, 1000000);
            ERROR(pthread_rwlock_timedrdlock, NAMED("free"), lock, &later);
            ERROR(pthread_rwlock_unlock, NAMED("after timedrdlock"), lock);
            ERROR(pthread_rwlock_timedwrlock, NAMED("free"), lock, &later);
            ERROR(pthread_rwlock_unlock, NAMED("after timedwrlock"), lock);
            ERROR(pthread_rwlock_clockrdlock, NAMED("free"), lock, CLOCK_MONOTONIC, &later);
            ERROR(pthread_rwlock_unlock, NAMED("after clockrdlock"), lock);
            ERROR(pthread_rwlock_clockwrlock, NAMED("free"), lock, CLOCK_MONOTONIC, &later);
            ERROR(pthread_rwlock_unlock, NAMED("after clockwrlock"), lock);
            ERROR(pthread_rwlock_timedrdlock, NAMED("free, past"), lock, &past);
            ERROR(pthread_rwlock_unlock, NAMED("after timedrdlock"), lock);
            ERROR(pthread_rwlock_timedrdlock, NAMED("free, nanoseconds too many"), lock, &wrong);
            ERROR(pthread_rwlock_timedwrlock, NAMED("free, nanoseconds too many"), lock, &wrong);
            ERROR(pthread_rwlock_clockrdlock, NAMED("free, no clock"), lock, 99, &later);
            ERROR(pthread_rwlock_trywrlock, NAMED("free"), lock);
            ERROR(pthread_rwlock_unlock, NAMED("after trywrlock"), lock);

            if (share) {
                ERROR(pthread_rwlock_wrlock, NAMED("before fork"), lock);
                struct child reader = fork_child();
                if (!reader.pid) {
                    ERROR(pthread_rwlock_tryrdlock, NAMED("by a child"), lock);
                    ERROR(pthread_rwlock_trywrlock, NAMED("by a child"), lock);
                    ERROR(pthread_rwlock_timedrdlock, NAMED("by a child, past"), lock, &past);
                    ERROR(pthread_rwlock_timedrdlock, NAMED("by a child, nanoseconds too many"), lock, &wrong);
                    soon = now_plus(CLOCK_REALTIME, 20);
                    ERROR(pthread_rwlock_timedrdlock, NAMED("by a child, after a time"), lock, &soon);
                    line("pthread_rwlock_timedrdlock", NAMED("by a child"), "waited %s", yes(is_past(CLOCK_REALTIME, &soon)));
                    soon = now_plus(CLOCK_MONOTONIC, 20);
                    ERROR(pthread_rwlock_clockrdlock, NAMED("by a child, after a time"), lock, CLOCK_MONOTONIC, &soon);
                    line("pthread_rwlock_clockrdlock", NAMED("by a child"), "waited %s", yes(is_past(CLOCK_MONOTONIC, &soon)));
                    interrupt_with(count_signal, 0);
                    soon = now_plus(CLOCK_REALTIME, 3 * TICK);
                    ERROR(pthread_rwlock_timedrdlock, NAMED("by a child, with signals"), lock, &soon);
                    line("pthread_rwlock_timedrdlock", NAMED("by a child, with signals"), "waited %s", yes(is_past(CLOCK_REALTIME, &soon)));
                    soon = now_plus(CLOCK_REALTIME, 3 * TICK);
                    ERROR(pthread_rwlock_timedwrlock, NAMED("by a child, with signals"), lock, &soon);
                    line("pthread_rwlock_timedwrlock", NAMED("by a child, with signals"), "waited %s", yes(is_past(CLOCK_REALTIME, &soon)));
                    leave_alone();
                    tell(&reader);
                    BLOCKED_ERROR(&reader, pthread_rwlock_rdlock, NAMED("waits for the writer"), lock);
                    tell(&reader);
                    hear(&reader);
                    ERROR(pthread_rwlock_unlock, NAMED("of a child that reads"), lock);
                    tell(&reader);
                    hear(&reader);
                    exit(0);
                }
                hear(&reader);
                until_asleep(reader.pid);
                ERROR(pthread_rwlock_unlock, NAMED("while a reader waits"), lock);
                tell(&reader);
                hear(&reader);
                ERROR(pthread_rwlock_trywrlock, NAMED("while a child reads"), lock);
                struct child writer = fork_child();
                if (!writer.pid) {
                    tell(&writer);
                    BLOCKED_ERROR(&writer, pthread_rwlock_wrlock, NAMED("waits for readers"), lock);
                    ERROR(pthread_rwlock_unlock, NAMED("of a child that writes"), lock);
                    exit(0);
                }
                hear(&writer);
                until_asleep(writer.pid);
                if (ERROR(pthread_rwlock_tryrdlock, NAMED("while a writer waits"), lock) == 0)
                    ERROR(pthread_rwlock_unlock, NAMED("while a writer waits"), lock);
                tell(&reader);
                hear(&reader);
                tell(&writer);
                finish(&writer);
                tell(&reader);
                finish(&reader);
                enum { CHILDREN = 4, TIMES = 500 };
                volatile long *count = (volatile long *)(lock + 1);
                *count = 0;
                struct child children[CHILDREN];
                for (int i = 0; i < CHILDREN; i++) {
                    children[i] = fork_child();
                    if (!children[i].pid) {
                        for (int j = 0; j < TIMES; j++) {
                            if (pthread_rwlock_wrlock(lock))
                                exit(1);
                            *count = *count + 1;
                            pthread_rwlock_unlock(lock);
                            if (pthread_rwlock_rdlock(lock) || *count < j)
                                exit(1);
                            pthread_rwlock_unlock(lock);
                        }
                        exit(0);
                    }
                }
                for (int i = 0; i < CHILDREN; i++)
                    finish(&children[i]);
                line("pthread_rwlock_wrlock", NAMED("counted"), "%ld", *count);
            }
            ERROR(pthread_rwlock_destroy, name, lock);
        }
    static pthread_rwlock_t ready = PTHREAD_RWLOCK_INITIALIZER;
    ERROR(pthread_rwlock_rdlock, "static", &ready);
    ERROR(pthread_rwlock_unlock, "static", &ready);
    ERROR(pthread_rwlock_init, "without attributes", lock, NULL);
    ERROR(pthread_rwlock_trywrlock, "without attributes", lock);
    ERROR(pthread_rwlock_unlock, "without attributes", lock);
    ERROR(pthread_rwlock_destroy, "without attributes", lock);
}

struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    pthread_barrier_t barrier;
    int waiting, go, serial, arrived;
};

static void meet(struct meeting *meeting, int share, int clock, int type, int robust)
{
    pthread_mutexattr_t attr;
    pthread_condattr_t cond_attr;
    memset(meeting, 0, sizeof *meeting);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, share);
    pthread_mutexattr_settype(&attr, type);
    pthread_mutexattr_setrobust(&attr, robust);
    pthread_mutex_init(&meeting->mutex, &attr);
    pthread_condattr_init(&cond_attr);
    pthread_condattr_setpshared(&cond_attr, share);
    pthread_condattr_setclock(&cond_attr, clock);
    memset(&meeting->cond, 0xa5, sizeof meeting->cond);
    ERROR(pthread_cond_init, share ? "shared" : "private", &meeting->cond, &cond_attr);
}

/* One that waits until `go`, which may well be woken before. */
static int wait_for_go(struct meeting *meeting)
{
    int error = pthread_mutex_lock(&meeting->mutex);
    meeting->waiting++;
    while (!error && !meeting->go)
        error = pthread_cond_wait(&meeting->cond, &meeting->mutex);
    meeting->go--;
    pthread_mutex_unlock(&meeting->mutex);
    return error;
}

static void *wait_in_thread(void *meeting)
{
    return (void *)(long)wait_for_go(meeting);
}

static void until_waiting(struct meeting *meeting, int number)
{
    for (int waiting = -1; waiting != number; pause_for(1)) {
        pthread_mutex_lock(&meeting->mutex);
        waiting = meeting->waiting;
        pthread_mutex_unlock(&meeting->mutex);
    }
}

/* Two that let each other go on; `go` says whose turn it is. */
static int take_turns(struct meeting *meeting, int mine)
{
    int error = 0;
    for (int i = 0; i < 1000 && !error; i++) {
        error = pthread_mutex_lock(&meeting->mutex);
        while (!error && meeting->go != mine)
            error = pthread_cond_wait(&meeting->cond, &meeting->mutex);
        meeting->go = !mine;
        meeting->arrived++;
        pthread_cond_signal(&meeting->cond);
        pthread_mutex_unlock(&meeting->mutex);
    }
    return error;
}

static void *second_turn(void *meeting)
{
    return (void *)(long)take_turns(meeting, 1);
}

/* A wait for what nobody does ends by its deadline, however often it is woken before. */
#define IN_VAIN(function, what, ...) ({ \
    int vain_; \
    errno = EDOM; \
    while ((vain_ = function(__VA_ARGS__)) == 0) {} \
    say_error(#function, what, vain_); })

static void conditions(void)
{
    struct meeting *meeting = shared_memory(4096);
    for (int share = 0; share < 2; share++)
        for (int monotonic = 0; monotonic < 2; monotonic++) {
            int clock = monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME;
            char name[60];
            snprintf(name, sizeof name, "%s%s", share ? "shared" : "private", monotonic ? " CLOCK_MONOTONIC" : "");
            meet(meeting, share, clock, PTHREAD_MUTEX_ERRORCHECK, 0);
            pthread_cond_t *cond = &meeting->cond;
            pthread_mutex_t *mutex = &meeting->mutex;
            ERROR(pthread_cond_signal, NAMED("nobody waits"), cond);
            ERROR(pthread_cond_broadcast, NAMED("nobody waits"), cond);
            ERROR(pthread_cond_wait, NAMED("mutex not locked"), cond, mutex);
            ERROR(pthread_cond_timedwait, NAMED("mutex not locked"), cond, mutex, &past);
            ERROR(pthread_mutex_lock, NAMED("for cond"), mutex);
            ERROR(pthread_cond_timedwait, NAMED("past"), cond, mutex, &past);
            ERROR(pthread_cond_timedwait, NAMED("nanoseconds too many"), cond, mutex, &wrong);
            ERROR(pthread_cond_timedwait, NAMED("negative nanoseconds"), cond, mutex, &negative);
            ERROR(pthread_cond_clockwait, NAMED("past"), cond, mutex, CLOCK_MONOTONIC, &past);
            ERROR(pthread_cond_clockwait, NAMED("past, CLOCK_REALTIME"), cond, mutex, CLOCK_REALTIME, &past);
            ERROR(pthread_cond_clockwait, NAMED("nanoseconds too many"), cond, mutex, CLOCK_MONOTONIC, &wrong);
            ERROR(pthread_cond_clockwait, NAMED("another clock"), cond, mutex, CLOCK_BOOTTIME, &past);
            ERROR(pthread_cond_clockwait, NAMED("no clock"), cond, mutex, 99, &past);
            struct timespec soon = now_plus(clock, 20);
            IN_VAIN(pthread_cond_timedwait, NAMED("after a time"), cond, mutex, &soon);
            line("pthread_cond_timedwait", NAMED("after a time"), "waited %s", yes(is_past(clock, &soon)));
            soon = now_plus(CLOCK_MONOTONIC, 20);
            IN_VAIN(pthread_cond_clockwait, NAMED("after a time"), cond, mutex, CLOCK_MONOTONIC, &soon);
            line("pthread_cond_clockwait", NAMED("after a time"), "waited %s", yes(is_past(CLOCK_MONOTONIC, &soon)));
            soon = now_plus(CLOCK_REALTIME, 20);
            IN_VAIN(pthread_cond_clockwait, NAMED("after a time, CLOCK_REALTIME"), cond, mutex, CLOCK_REALTIME, &soon);
            interrupt_with(count_signal, 0);
            soon = now_plus(clock, 4 * TICK);
            IN_VAIN(pthread_cond_timedwait, NAMED("with signals"), cond, mutex, &soon);
            leave_alone();
            ERROR(pthread_mutex_unlock, NAMED("it was ours again"), mutex);

            enum { WAITERS = 4 };
            struct child children[WAITERS];
            pthread_t thread[WAITERS];
            for (int i = 0; i < WAITERS; i++) {
                if (!share) {
                    if (pthread_create(&thread[i], NULL, wait_in_thread, meeting))
                        exit(1);
                    continue;
                }
                children[i] = fork_child();
                if (!children[i].pid)
                    exit(wait_for_go(meeting));
            }
            until_waiting(meeting, WAITERS);
            for (int i = 0; i < 2; i++) {
                pthread_mutex_lock(mutex);
                meeting->go++;
                ERROR(pthread_cond_signal, NAMED("four wait"), cond);
                pthread_mutex_unlock(mutex);
            }
            pthread_mutex_lock(mutex);
            meeting->go += 2;
            pthread_mutex_unlock(mutex);
            ERROR(pthread_cond_broadcast, NAMED("without the mutex"), cond);
            int failed = 0;
            for (int i = 0; i < WAITERS; i++) {
                if (share) {
                    finish(&children[i]);
                } else {
                    void *error = NULL;
                    pthread_join(thread[i], &error);
                    failed += error != NULL;
                }
            }
            line("pthread_cond_wait", NAMED("all were woken"), "failed %d left %d", failed, meeting->go);

            meeting->go = 0;
            void *error = NULL;
            if (share) {
                struct child second = fork_child();
                if (!second.pid)
                    exit(take_turns(meeting, 1));
                failed = take_turns(meeting, 0);
                finish(&second);
            } else {
                pthread_t second;
                if (pthread_create(&second, NULL, second_turn, meeting))
                    exit(1);
                failed = take_turns(meeting, 0);
                pthread_join(second, &error);
            }
            line("pthread_cond_wait", NAMED("in turns"), "%d failed %d %d", meeting->arrived, failed, error != NULL);
            ERROR(pthread_cond_destroy, name, cond);
        }

    /* With each kind of mutex, shared or not as the condition variable is. */
    for (int i = 0; i < 32; i++) {
        struct kind kind = { .shared = i >> 4, .type = i & 3, .robust = i >> 2 & 1, .protocol = i >> 3 & 1 };
        snprintf(kind.name, sizeof kind.name, "mutex %s type %d%s%s", kind.shared ? "shared" : "private", kind.type,
                 kind.robust ? " robust" : "", kind.protocol ? " inherit" : "");
        meet(meeting, kind.shared, CLOCK_REALTIME, PTHREAD_MUTEX_NORMAL, 0);
        make(&meeting->mutex, &kind);
        pthread_mutex_lock(&meeting->mutex);
        struct timespec soon = now_plus(CLOCK_REALTIME, 5);
        int error = ERROR(pthread_cond_timedwait, label("%s: past", kind.name), &meeting->cond, &meeting->mutex, &past);
        if (error == ETIMEDOUT)
            IN_VAIN(pthread_cond_timedwait, label("%s: after a time", kind.name), &meeting->cond, &meeting->mutex, &soon);
        if (kind.type == PTHREAD_MUTEX_RECURSIVE) {
            /* It is unlocked once, and so kept; nobody can signal. */
            pthread_mutex_lock(&meeting->mutex);
            soon = now_plus(CLOCK_REALTIME, 5);
            IN_VAIN(pthread_cond_timedwait, label("%s: locked twice", kind.name), &meeting->cond, &meeting->mutex, &soon);
            pthread_mutex_unlock(&meeting->mutex);
            BY_THREAD(pthread_mutex_trylock, label("%s: locked once", kind.name), &meeting->mutex);
        }
        pthread_mutex_unlock(&meeting->mutex);
        if (error != ETIMEDOUT)
            continue;
        if (kind.shared) {
            struct child second = fork_child();
            if (!second.pid)
                exit(take_turns(meeting, 1));
            error = take_turns(meeting, 0);
            finish(&second);
        } else {
            pthread_t second;
            if (pthread_create(&second, NULL, second_turn, meeting))
                exit(1);
            error = take_turns(meeting, 0);
            pthread_join(second, NULL);
        }
        line("pthread_cond_wait", label("%s: in turns", kind.name), "%d %s", meeting->arrived, error ? error_name(error) : "0");
    }

    /* The owner of the mutex dies while one waits for the condition. */
    meet(meeting, 1, CLOCK_REALTIME, PTHREAD_MUTEX_NORMAL, 1);
    struct child waiter = fork_child();
    if (!waiter.pid) {
        struct timespec late = now_plus(CLOCK_REALTIME, 1000000);
        pthread_mutex_lock(&meeting->mutex);
        tell(&waiter);
        errno = EDOM;
        int error, touched;
        /* It may return before for no reason. */
        while ((error = pthread_cond_timedwait(&meeting->cond, &meeting->mutex, &late)) == 0) {}
        touched = errno;
        hear(&waiter);
        errno = touched;
        say_error("pthread_cond_timedwait", "the mutex's owner dies", error);
        ERROR(pthread_mutex_consistent, "after pthread_cond_timedwait", &meeting->mutex);
        ERROR(pthread_mutex_unlock, "after pthread_cond_timedwait", &meeting->mutex);
        exit(0);
    }
    hear(&waiter);
    until_asleep(waiter.pid);
    struct child owner = fork_child();
    if (!owner.pid) {
        pthread_mutex_lock(&meeting->mutex);
        pthread_cond_signal(&meeting->cond);
        kill(getpid(), SIGKILL);
    }
    finish(&owner);
    tell(&waiter);
    finish(&waiter);
    static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    struct timespec soon = now_plus(CLOCK_REALTIME, 20);
    IN_VAIN(pthread_cond_timedwait, "static", &ready, &mutex, &soon);
    pthread_mutex_unlock(&mutex);
    ERROR(pthread_cond_init, "without attributes", &meeting->cond, NULL);
    ERROR(pthread_cond_destroy, "without attributes", &meeting->cond);
}

static void cross(struct meeting *meeting, int times)
{
    for (int i = 0; i < times; i++) {
        __atomic_add_fetch(&meeting->arrived, 1, __ATOMIC_SEQ_CST);
        int result = pthread_barrier_wait(&meeting->barrier);
        if (result == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_add_fetch(&meeting->serial, 1, __ATOMIC_SEQ_CST);
        else if (result)
            line("pthread_barrier_wait", "", "%s", error_name(result));
        /* Nobody is let through before all have come. */
        if (__atomic_load_n(&meeting->arrived, __ATOMIC_SEQ_CST) < 3 * (i + 1))
            line("pthread_barrier_wait", "", "too early");
    }
}

static void *cross_in_thread(void *meeting)
{
    cross(meeting, 200);
    return NULL;
}

static int *at_signal;

static void count_at(int signal)
{
    (void)signal;
    __atomic_add_fetch(at_signal, 1, __ATOMIC_SEQ_CST);
}

static void barriers(void)
{
    struct meeting *meeting = shared_memory(4096);
    pthread_barrier_t *barrier = &meeting->barrier;
    for (int share = 0; share < 2; share++) {
        const char *name = share ? "shared" : "private";
        pthread_barrierattr_t attr;
        memset(meeting, 0, sizeof *meeting);
        pthread_barrierattr_init(&attr);
        pthread_barrierattr_setpshared(&attr, share);
        ERROR(pthread_barrier_init, NAMED("for nobody"), barrier, &attr, 0);
        ERROR(pthread_barrier_init, NAMED("for more than there can be"), barrier, &attr, UINT_MAX);
        ERROR(pthread_barrier_init, NAMED("for one"), barrier, &attr, 1);
        for (int i = 0; i < 3; i++)
            line("pthread_barrier_wait", NAMED("for one"), "serial %s", yes(pthread_barrier_wait(barrier) == PTHREAD_BARRIER_SERIAL_THREAD));
        ERROR(pthread_barrier_destroy, NAMED("for one"), barrier);
        ERROR(pthread_barrier_init, NAMED("for three"), barrier, &attr, 3);
        struct child children[2];
        pthread_t thread[2];
        for (int i = 0; i < 2; i++) {
            if (!share) {
                if (pthread_create(&thread[i], NULL, cross_in_thread, meeting))
                    exit(1);
                continue;
            }
            children[i] = fork_child();
            if (!children[i].pid) {
                cross(meeting, 200);
                exit(0);
            }
        }
        cross(meeting, 200);
        /* The others may still be on their way out of it. */
        ERROR(pthread_barrier_destroy, NAMED("for three"), barrier);
        for (int i = 0; i < 2; i++) {
            if (share)
                finish(&children[i]);
            else
                pthread_join(thread[i], NULL);
        }
        line("pthread_barrier_wait", NAMED("for three"), "serial %d", meeting->serial);

        if (share) {
            ERROR(pthread_barrier_init, NAMED("for two"), barrier, &attr, 2);
            struct child waiter = fork_child();
            if (!waiter.pid) {
                at_signal = &meeting->waiting;
                interrupt_with(count_at, 0);
                int result = pthread_barrier_wait(barrier);
                leave_alone();
                exit(result && result != PTHREAD_BARRIER_SERIAL_THREAD);
            }
            until_asleep(waiter.pid);
            int before = __atomic_load_n(&meeting->waiting, __ATOMIC_SEQ_CST);
            while (__atomic_load_n(&meeting->waiting, __ATOMIC_SEQ_CST) < before + 2)
                pause_for(1);
            int result = pthread_barrier_wait(barrier);
            line("pthread_barrier_wait", NAMED("the other had signals"), "%s",
                 result && result != PTHREAD_BARRIER_SERIAL_THREAD ? error_name(result) : "let go");
            finish(&waiter);
            ERROR(pthread_barrier_destroy, NAMED("for two"), barrier);
        }
    }
    ERROR(pthread_barrier_init, "without attributes", barrier, NULL, 1);
    ERROR(pthread_barrier_destroy, "without attributes", barrier);
}

/* Mutexes that are shared with a program that is started without the preload. */
struct mixed {
    pthread_mutex_t mutex[16];
    long count[16];
};

static int the_other(char **arguments)
{
    struct child child = { .in = atoi(arguments[2]), .out = atoi(arguments[3]) };
    alarm(PATIENCE);
    struct mixed *mixed = MUST(mmap(NULL, sizeof *mixed, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[4]), 0));
    for (int i = 0; i < 16; i++) {
        int number = 0;
        for (int j = 0; j < 300; j++) {
            if (pthread_mutex_lock(&mixed->mutex[i]))
                return 1;
            mixed->count[i] = *(volatile long *)&mixed->count[i] + 1;
            number += pthread_mutex_unlock(&mixed->mutex[i]) != 0;
        }
        if (number)
            return 1;
    }
    tell(&child);
    for (int i = 0; i < 16; i++) {
        hear(&child);
        line("pthread_mutex_trylock", label("by another program %d", i), "%s", error_name(pthread_mutex_trylock(&mixed->mutex[i])));
        tell(&child);
        int error = pthread_mutex_lock(&mixed->mutex[i]);
        hear(&child);
        line("pthread_mutex_lock", label("by another program %d", i), "%s", error ? error_name(error) : "0");
        tell(&child);
    }
    /* It ends with all of them locked. */
    hear(&child);
    return 0;
}

static void with_another_library(const char *self)
{
    int fd = MUST(memfd_create("mixed", 0));
    MUST(ftruncate(fd, sizeof(struct mixed)));
    struct mixed *mixed = MUST(mmap(NULL, sizeof *mixed, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    struct kind kinds[16];
    for (int i = 0; i < 16; i++) {
        kinds[i] = (struct kind){ .shared = 1, .type = i & 3, .robust = i >> 2 & 1, .protocol = i >> 3 };
        snprintf(kinds[i].name, sizeof kinds[i].name, "with another program %d", i);
        make(&mixed->mutex[i], &kinds[i]);
    }
    struct child child = fork_child();
    if (!child.pid) {
        char numbers[3][20];
        int fds[] = { child.in, child.out, fd };
        for (int i = 0; i < 3; i++) {
            fcntl(fds[i], F_SETFD, 0);
            snprintf(numbers[i], sizeof numbers[i], "%d", fds[i]);
        }
        char *arguments[] = { (char *)self, "other", numbers[0], numbers[1], numbers[2], NULL }, *environment[] = { NULL };
        execve(self, arguments, environment);
        exit(1);
    }
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 300; j++) {
            if (pthread_mutex_lock(&mixed->mutex[i]))
                exit(1);
            mixed->count[i] = *(volatile long *)&mixed->count[i] + 1;
            pthread_mutex_unlock(&mixed->mutex[i]);
        }
    hear(&child);
    for (int i = 0; i < 16; i++) {
        ERROR(pthread_mutex_lock, kinds[i].name, &mixed->mutex[i]);
        line("pthread_mutex_lock", kinds[i].name, "counted %ld", mixed->count[i]);
        tell(&child);
        hear(&child);
        until_asleep(child.pid);
        ERROR(pthread_mutex_unlock, kinds[i].name, &mixed->mutex[i]);
        tell(&child);
        hear(&child);
        ERROR(pthread_mutex_trylock, kinds[i].name, &mixed->mutex[i]);
    }
    tell(&child);
    finish(&child);
    for (int i = 0; i < 16; i++) {
        struct timespec soon = now_plus(CLOCK_REALTIME, 20);
        int error = ERROR(pthread_mutex_timedlock, label("the other program ended %d", i), &mixed->mutex[i], &soon);
        if (error == EOWNERDEAD) {
            ERROR(pthread_mutex_consistent, kinds[i].name, &mixed->mutex[i]);
            ERROR(pthread_mutex_unlock, kinds[i].name, &mixed->mutex[i]);
        }
    }
    close(fd);
}

int main(int count, char **arguments)
{
    if (count == 5)
        return the_other(arguments);
    begin();
    attributes();
    mutexes();
    read_write_locks();
    conditions();
    barriers();
    with_another_library(arguments[0]);
    return 0;
}
