/* What these programs have in common: they call a function, and say what came of it in one line,
 *
 *     function(case): result errno
 *
 * without process ids, addresses, descriptors or times, so that what they print with one library
 * can be compared with what they print with another. Each has an alarm, and so have its children:
 * a call that hangs ends in a line that says so. */
#ifndef SAY_H
#define SAY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 /* seconds that a process may take */, TICK = 20 /* milliseconds */ };

/* A line is one write, so that lines of several processes do not mix. */
__attribute__((format(printf, 3, 4), unused))
static void line(const char *function, const char *what, const char *format, ...)
{
    char text[4096];
    int error = errno;
    int length = snprintf(text, sizeof text, "%s(%s): ", function, what);
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(text + length, sizeof text - length, format, arguments);
    va_end(arguments);
    text[length++] = '\n';
    if (write(1, text, length) != length)
        _exit(3);
    errno = error;
}

__attribute__((unused))
static const char *error_name(int error)
{
    const char *name = strerrorname_np(error);
    return name ? name : "unknown";
}

__attribute__((unused))
static long say_result(const char *function, const char *what, long result, int plain)
{
    if (result == -1)
        line(function, what, "-1 %s", error_name(errno));
    else if (plain)
        line(function, what, "%ld", result);
    else
        line(function, what, "ok");
    return result;
}

__attribute__((unused))
static void *say_address(const char *function, const char *what, void *address)
{
    if (address && address != MAP_FAILED)
        line(function, what, "ok");
    else
        line(function, what, "failed %s", error_name(errno));
    return address;
}

/* Functions of <pthread.h> return the error and leave errno alone. */
__attribute__((unused))
static int say_error(const char *function, const char *what, int error)
{
    line(function, what, "%s%s", error ? error_name(error) : "0", errno == EDOM ? "" : " and errno was touched");
    return error;
}

/* The result is part of the line; or it is not, because it is a descriptor or an id. */
#define CALL(function, what, ...) (errno = 0, say_result(#function, what, (long)function(__VA_ARGS__), 1))
#define OPEN(function, what, ...) (errno = 0, say_result(#function, what, (long)function(__VA_ARGS__), 0))
#define ADDRESS(function, what, ...) (errno = 0, say_address(#function, what, (void *)function(__VA_ARGS__)))
#define ERROR(function, what, ...) (errno = EDOM, say_error(#function, what, function(__VA_ARGS__)))

/* Ends the program when something goes wrong that is not what it looks at. */
#define MUST(call) ({ \
    __typeof__(call) result_ = (call); \
    if ((long)result_ == -1) { \
        line(#call, "must", "%s in line %d", error_name(errno), __LINE__); \
        exit(2); \
    } \
    result_; })

__attribute__((unused))
static const char *yes(int condition)
{
    return condition ? "yes" : "no";
}

__attribute__((noinline, unused))
static void gave_up(int signal)
{
    (void)signal;
    static const char text[] = "hung: killed by the alarm\n";
    if (write(1, text, sizeof text - 1)) {}
    _exit(4);
}

__attribute__((unused))
static void begin(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    umask(022);
    signal(SIGALRM, gave_up);
    alarm(3 * PATIENCE);
}

/* A child, and a pipe in each direction. In the child, `pid` is 0. */
struct child {
    pid_t pid;
    int in, out;
};

__attribute__((unused))
static struct child fork_child(void)
{
    int down[2], up[2];
    pid_t parent = getpid();
    /* Not by functions of the library: they are what is looked at. */
    MUST(syscall(SYS_pipe2, down, O_CLOEXEC));
    MUST(syscall(SYS_pipe2, up, O_CLOEXEC));
    struct child child = { .pid = MUST(fork()) };
    if (child.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(5);
        alarm(PATIENCE);
        child.in = down[0], child.out = up[1];
        close(down[1]), close(up[0]);
    } else {
        child.in = up[0], child.out = down[1];
        close(down[0]), close(up[1]);
    }
    return child;
}

/* Lets the other side go on; waits until it does so. */
__attribute__((unused))
static void tell(struct child *child)
{
    if (write(child->out, "", 1) != 1)
        exit(6);
}

__attribute__((unused))
static void hear(struct child *child)
{
    char byte;
    ssize_t got;
    while ((got = read(child->in, &byte, 1)) == -1 && errno == EINTR) {}
    if (got != 1) {
        line("child", "hear", "the other side is gone");
        exit(7);
    }
}

__attribute__((unused))
static void finish(struct child *child)
{
    int status;
    close(child->out);
    while (waitpid(child->pid, &status, 0) == -1 && errno == EINTR) {}
    close(child->in);
    if (WIFSIGNALED(status))
        line("child", "end", "killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status))
        line("child", "end", "exit status %d", WEXITSTATUS(status));
}

__attribute__((unused))
static void pause_for(long milliseconds)
{
    struct timespec rest = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    while (nanosleep(&rest, &rest) == -1 && errno == EINTR) {}
}

/* Waits until a process or thread sleeps: in a system call, as it does nothing else that sleeps. */
__attribute__((unused))
static void until_asleep(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (int seen = 0; seen < 3; pause_for(2)) {
        int fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
        ssize_t got = read(fd, text, sizeof text - 1);
        close(fd);
        text[got > 0 ? got : 0] = 0;
        char *end = strrchr(text, ')');
        seen = end && end[2] == 'S' ? seen + 1 : 0;
        if (end && end[2] == 'Z')
            return;
    }
}

/* The calling thread gets SIGUSR1 at every tick until `leave_alone`. One signal could come before
 * the call that it is to interrupt. */
static timer_t ticks;
static volatile sig_atomic_t signals;

__attribute__((unused))
static void count_signal(int signal)
{
    (void)signal;
    signals++;
}

__attribute__((unused))
static void interrupt_with(void (*handler)(int), int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    signals = 0;
    MUST(sigaction(SIGUSR1, &action, NULL));
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
    event._sigev_un._tid = gettid();
    /* All processes of a user share a number of signals that may wait. */
    while (timer_create(CLOCK_MONOTONIC, &event, &ticks) == -1) {
        if (errno != EAGAIN)
            MUST(-1); /* Says so. */
        pause_for(TICK);
    }
    struct itimerspec every = { { 0, TICK * 1000000 }, { 0, TICK * 1000000 } };
    MUST(timer_settime(ticks, 0, &every, NULL));
}

__attribute__((unused))
static void leave_alone(void)
{
    int error = errno;
    timer_delete(ticks);
    signal(SIGUSR1, SIG_IGN);
    errno = error;
}

/* A call that a signal is to interrupt. */
#define INTERRUPTED(function, what, ...) ({ \
    interrupt_with(count_signal, 0); \
    errno = 0; \
    long interrupted_ = (long)function(__VA_ARGS__); \
    leave_alone(); \
    say_result(#function, what, interrupted_, 1); })

/* A call that the other side ends. That one says its line first, and then tells. */
#define BLOCKED(child, function, what, ...) ({ \
    errno = 0; \
    long blocked_ = (long)function(__VA_ARGS__); \
    int error_ = errno; \
    hear(child); \
    errno = error_; \
    say_result(#function, what, blocked_, 1); })

/* For a child: becomes a user without privileges. */
__attribute__((unused))
static int become_nobody(void)
{
    if (geteuid() != 0 || setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) {
        line("become_nobody", "", "skipped: needs root, got %s", error_name(errno));
        return 0;
    }
    return 1;
}

/* For a child: a file system of its own for POSIX objects, with a limit. */
__attribute__((unused))
static int own_shm(const char *limit)
{
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", "/dev/shm", "tmpfs", 0, limit)) {
        line("own_shm", limit, "skipped: %s", error_name(errno));
        return 0;
    }
    return 1;
}

__attribute__((unused))
static void make_shm_read_only(void)
{
    MUST(mount(NULL, "/dev/shm", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
}

__attribute__((unused))
static struct timespec now_plus(clockid_t clock, long milliseconds)
{
    struct timespec time;
    clock_gettime(clock, &time);
    long nanoseconds = time.tv_nsec + milliseconds % 1000 * 1000000;
    time.tv_sec += milliseconds / 1000 + (nanoseconds >= 1000000000);
    time.tv_nsec = nanoseconds % 1000000000;
    return time;
}

__attribute__((unused))
static int is_past(clockid_t clock, const struct timespec *deadline)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec > deadline->tv_sec || (now.tv_sec == deadline->tv_sec && now.tv_nsec >= deadline->tv_nsec);
}

/* Memory that children share. */
__attribute__((unused))
static void *shared_memory(size_t size)
{
    return MUST(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

/* An address where nothing is, and nothing will be. */
__attribute__((unused))
static void *nowhere(void)
{
    static void *address;
    if (!address)
        address = MUST(mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    return address;
}

#endif
