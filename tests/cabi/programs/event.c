/* eventfd(2), signalfd(2), timerfd_create(2), memfd_create(2). */
#include "say.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void say_flags(const char *function, const char *what, int fd)
{
    line(function, what, "close-on-exec %d flags %#x", fcntl(fd, F_GETFD), fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
}

static void say_count(const char *function, const char *what, int fd)
{
    uint64_t count = 0;
    ssize_t got = read(fd, &count, sizeof count);
    if (got == sizeof count)
        line(function, what, "count %llu", (unsigned long long)count);
    else
        line(function, what, "read %zd %s", got, error_name(errno));
}

/* All that make a descriptor, when there is none left. */
static void without_descriptors(void)
{
    struct child poor = fork_child();
    if (!poor.pid) {
        struct { unsigned long now, most; } limit = { 50, 50 };
        sigset_t none;
        sigemptyset(&none);
        MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
        while (dup(0) >= 0) {}
        CALL(eventfd, "no descriptors left", 0, 0);
        CALL(signalfd, "no descriptors left", -1, &none, 0);
        CALL(timerfd_create, "no descriptors left", CLOCK_MONOTONIC, 0);
        CALL(memfd_create, "no descriptors left", "name", 0);
        exit(0);
    }
    finish(&poor);
}

static void counters(void)
{
    int fd = OPEN(eventfd, "3", 3, 0);
    say_flags("eventfd", "3", fd);
    say_count("eventfd", "3", fd);
    MUST(write(fd, &(uint64_t){ 5 }, 8));
    MUST(write(fd, &(uint64_t){ 7 }, 8));
    say_count("eventfd", "5 and 7", fd);
    int other = OPEN(eventfd, "EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE", UINT_MAX, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    say_flags("eventfd", "EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE", other);
    say_count("eventfd", "EFD_SEMAPHORE", other);
    close(other);
    other = OPEN(eventfd, "largest", UINT_MAX, EFD_NONBLOCK);
    say_count("eventfd", "largest", other);
    say_count("eventfd", "0", other);
    CALL(eventfd, "unknown flag", 0, 0x100);
    CALL(eventfd, "all flags", 0, -1);
    struct child child = fork_child();
    if (!child.pid) {
        MUST(write(fd, &(uint64_t){ 9 }, 8));
        exit(0);
    }
    say_count("eventfd", "from a child", fd);
    finish(&child);
    eventfd_t value = 0;
    CALL(eventfd_write, "", fd, 11);
    CALL(eventfd_read, "", fd, &value);
    line("eventfd_read", "", "%llu", (unsigned long long)value);
    close(fd), close(other);
}

static void signalled(void)
{
    sigset_t set, more;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    more = set;
    sigaddset(&more, SIGUSR2);
    sigaddset(&more, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &more, NULL);
    int fd = OPEN(signalfd, "new", -1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    say_flags("signalfd", "new", fd);
    struct signalfd_siginfo info;
    kill(getpid(), SIGUSR2);
    CALL(read, "signalfd, not in the set", fd, &info, sizeof info);
    line("signalfd", "another set", "same descriptor %s", yes(signalfd(fd, &more, 0) == fd));
    CALL(read, "signalfd, another set", fd, &info, sizeof info);
    line("signalfd", "another set", "signal %s pid %s uid %u", yes(info.ssi_signo == SIGUSR2), yes(info.ssi_pid == (unsigned)getpid()),
         info.ssi_uid);
    sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 42 });
    CALL(read, "signalfd, SIGRTMIN", fd, &info, sizeof info);
    line("signalfd", "SIGRTMIN", "signal %s value %d code %s", yes(info.ssi_signo == (unsigned)SIGRTMIN), info.ssi_int,
         yes(info.ssi_code == SI_QUEUE));
    int plain = OPEN(signalfd, "without flags", -1, &set, 0);
    say_flags("signalfd", "without flags", plain);
    CALL(signalfd, "unknown flag", -1, &set, 0x100);
    CALL(signalfd, "no signalfd", 0, &set, 0);
    CALL(signalfd, "descriptor 9999", 9999, &set, 0);
    CALL(signalfd, "descriptor -2", -2, &set, 0);
    sigset_t all;
    sigfillset(&all);
    int filled = OPEN(signalfd, "all signals", -1, &all, SFD_NONBLOCK);
    kill(getpid(), SIGUSR1);
    CALL(read, "signalfd, all signals", filled, &info, sizeof info);
    close(fd), close(plain), close(filled);
    sigprocmask(SIG_UNBLOCK, &more, NULL);
}

static void say_time(const char *what, const struct itimerspec *time, long at_most)
{
    line("timerfd_gettime", what, "interval %lld.%09ld set %s not above %s", (long long)time->it_interval.tv_sec, time->it_interval.tv_nsec,
         yes(time->it_value.tv_sec || time->it_value.tv_nsec), yes(time->it_value.tv_sec <= at_most));
}

static void timers(void)
{
    static const struct { const char *what; int clock; } clocks[] = {
        { "CLOCK_REALTIME", CLOCK_REALTIME },       { "CLOCK_MONOTONIC", CLOCK_MONOTONIC },
        { "CLOCK_BOOTTIME", CLOCK_BOOTTIME },       { "CLOCK_TAI", CLOCK_TAI },
        { "CLOCK_MONOTONIC_RAW", CLOCK_MONOTONIC_RAW }, { "CLOCK_PROCESS_CPUTIME_ID", CLOCK_PROCESS_CPUTIME_ID },
        { "no clock", 99 },                         { "negative clock", -1 },
    };
    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        int fd = OPEN(timerfd_create, clocks[i].what, clocks[i].clock, 0);
        if (fd >= 0)
            close(fd);
    }
    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody())
            CALL(timerfd_create, "CLOCK_REALTIME_ALARM without privilege", CLOCK_REALTIME_ALARM, 0);
        exit(0);
    }
    finish(&nobody);
    CALL(timerfd_create, "unknown flag", CLOCK_MONOTONIC, 0x100);
    int fd = OPEN(timerfd_create, "TFD_CLOEXEC and TFD_NONBLOCK", CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    say_flags("timerfd_create", "TFD_CLOEXEC and TFD_NONBLOCK", fd);
    struct itimerspec set = { { 7, 5 }, { 1000, 0 } }, old = { { 9, 9 }, { 9, 9 } }, now;
    CALL(timerfd_gettime, "not set", fd, &now);
    say_time("not set", &now, 0);
    CALL(timerfd_settime, "", fd, 0, &set, &old);
    say_time("what was", &old, 0);
    CALL(timerfd_gettime, "", fd, &now);
    say_time("", &now, 1000);
    say_count("timerfd_settime", "not yet", fd);
    set = (struct itimerspec){ { 0, 0 }, { 0, 1 } };
    CALL(timerfd_settime, "without the old", fd, 0, &set, NULL);
    struct pollfd ready = { fd, POLLIN, 0 };
    line("timerfd_settime", "expires", "poll %d", poll(&ready, 1, 1000 * PATIENCE / 2));
    say_count("timerfd_settime", "expired", fd);
    set.it_value = (struct timespec){ 1, 0 };
    CALL(timerfd_settime, "TFD_TIMER_ABSTIME", fd, TFD_TIMER_ABSTIME, &set, NULL);
    line("timerfd_settime", "in the past", "poll %d", poll(&ready, 1, 1000 * PATIENCE / 2));
    say_count("timerfd_settime", "in the past", fd);
    set.it_value = (struct timespec){ 0, 0 };
    CALL(timerfd_settime, "disarm", fd, 0, &set, &old);
    say_time("disarmed", &old, 0);
    set.it_value = (struct timespec){ 0, 1000000000 };
    CALL(timerfd_settime, "nanoseconds too many", fd, 0, &set, &old);
    set.it_value = (struct timespec){ 0, -1 };
    CALL(timerfd_settime, "negative nanoseconds", fd, 0, &set, &old);
    set.it_value = (struct timespec){ -1, 0 };
    CALL(timerfd_settime, "negative seconds", fd, 0, &set, &old);
    set = (struct itimerspec){ { 0, 1000000000 }, { 1, 0 } };
    CALL(timerfd_settime, "nanoseconds of the interval too many", fd, 0, &set, &old);
    set.it_interval.tv_nsec = 0;
    CALL(timerfd_settime, "unknown flag", fd, 0x100, &set, &old);
    CALL(timerfd_settime, "TFD_TIMER_CANCEL_ON_SET", fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &set, &old);
    CALL(timerfd_settime, "descriptor -1", -1, 0, &set, &old);
    CALL(timerfd_settime, "descriptor 9999", 9999, 0, &set, &old);
    CALL(timerfd_settime, "no timer", 0, 0, &set, &old);
    CALL(timerfd_gettime, "descriptor -1", -1, &now);
    CALL(timerfd_gettime, "descriptor 9999", 9999, &now);
    CALL(timerfd_gettime, "no timer", 0, &now);
    close(fd);
}

static void memory(void)
{
    int fd = OPEN(memfd_create, "", "name", 0);
    say_flags("memfd_create", "", fd);
    line("memfd_create", "", "seals %d", fcntl(fd, F_GET_SEALS));
    char path[64], target[300];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = MUST(readlink(path, target, sizeof target));
    line("memfd_create", "link", "%.*s", (int)length, target);
    struct stat status;
    MUST(fstat(fd, &status));
    line("memfd_create", "", "mode %#o size %lld", status.st_mode & 07777, (long long)status.st_size);
    int sealed = OPEN(memfd_create, "MFD_CLOEXEC and MFD_ALLOW_SEALING", "", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    say_flags("memfd_create", "MFD_CLOEXEC and MFD_ALLOW_SEALING", sealed);
    line("memfd_create", "MFD_ALLOW_SEALING", "seals %d", fcntl(sealed, F_GET_SEALS));
    CALL(memfd_create, "unknown flag", "name", 0x100);
    CALL(memfd_create, "all flags", "name", -1);
    int quiet = OPEN(memfd_create, "MFD_NOEXEC_SEAL", "name", 8 /* MFD_NOEXEC_SEAL */);
    if (quiet >= 0) {
        line("memfd_create", "MFD_NOEXEC_SEAL", "seals %d", fcntl(quiet, F_GET_SEALS));
        close(quiet);
    }
    int huge = OPEN(memfd_create, "MFD_HUGETLB", "name", MFD_HUGETLB);
    if (huge >= 0)
        close(huge);
    CALL(memfd_create, "unknown size of huge page", "name", MFD_HUGETLB | 63u << MAP_HUGE_SHIFT);
    char name[301];
    memset(name, 'x', 300), name[300] = 0;
    CALL(memfd_create, "300 bytes", name, 0);
    name[250] = 0;
    CALL(memfd_create, "250 bytes", name, 0);
    name[249] = 0;
    int longest = OPEN(memfd_create, "249 bytes", name, 0);
    int strange = OPEN(memfd_create, "any bytes", "a/\xff b", 0);
    struct child child = fork_child();
    if (!child.pid) {
        MUST(pwrite(fd, "child", 5, 0));
        exit(0);
    }
    finish(&child);
    char text[6] = "";
    MUST(pread(fd, text, 5, 0));
    line("memfd_create", "shared with a child", "%s", text);
    close(fd), close(sealed), close(longest), close(strange);
}

int main(void)
{
    begin();
    without_descriptors();
    counters();
    signalled();
    timers();
    memory();
    return 0;
}
