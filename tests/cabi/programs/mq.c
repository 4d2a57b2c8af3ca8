/* mq_overview(7). */
#include "say.h"
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>

static struct mq_attr attributes(long messages, long size)
{
    return (struct mq_attr){ .mq_maxmsg = messages, .mq_msgsize = size };
}

#define ATTRIBUTES(messages, size) (&(struct mq_attr[]){ attributes(messages, size) }[0])

static void say_attributes(const char *what, mqd_t queue)
{
    struct mq_attr now = { -1, -1, -1, -1, { 0 } };
    if (CALL(mq_getattr, what, queue, &now) == 0)
        line("mq_getattr", what, "flags %#lx messages %ld of %ld bytes %ld", now.mq_flags, now.mq_curmsgs, now.mq_maxmsg,
             now.mq_msgsize);
}

#define RECEIVE(function, what, ...) ({ \
    char text_[64] = ""; \
    unsigned priority_ = 77; \
    long length_ = CALL(function, what, TO(__VA_ARGS__)); \
    if (length_ >= 0) \
        line(#function, what, "priority %u %.*s", priority_, (int)length_, text_); })
#define TO(queue, ...) queue, text_, 32, &priority_ __VA_OPT__(,) __VA_ARGS__

static void opening(void)
{
    mqd_t queue = OPEN(mq_open, "O_CREAT", "/queue", O_CREAT | O_EXCL | O_RDWR, 0666, ATTRIBUTES(4, 32));
    say_attributes("new", queue);
    struct stat status;
    MUST(fstat(queue, &status));
    line("mq_open", "O_CREAT", "mode %#o close-on-exec %d", status.st_mode & 07777, fcntl(queue, F_GETFD));
    CALL(mq_open, "O_EXCL of an existing one", "/queue", O_CREAT | O_EXCL | O_RDWR, 0600, NULL);
    mqd_t again = OPEN(mq_open, "O_CREAT of an existing one", "/queue", O_CREAT | O_RDWR, 0600, ATTRIBUTES(2, 8));
    say_attributes("existing", again);
    mqd_t silent = OPEN(mq_open, "O_NONBLOCK", "/queue", O_RDWR | O_NONBLOCK);
    say_attributes("O_NONBLOCK", silent);
    mqd_t standard = OPEN(mq_open, "without attributes", "/standard", O_CREAT | O_RDWR, 0600, NULL);
    say_attributes("without attributes", standard);
    CALL(mq_close, "", standard);
    CALL(mq_close, "again", standard);
    CALL(mq_close, "descriptor -1", -1);

    CALL(mq_open, "no such queue", "/absent", O_RDWR);
    CALL(mq_open, "without a slash", "queue", O_RDWR);
    CALL(mq_open, "without a slash, O_CREAT", "queue", O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_open, "empty", "", O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_open, "only a slash", "/", O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_open, "two slashes", "//queue", O_RDWR);
    CALL(mq_open, "slash inside", "/a/b", O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_open, "dot", "/.", O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_open, "dots", "/..", O_RDWR | O_CREAT, 0600, NULL);
    char name[1000];
    memset(name, 'x', sizeof name);
    name[0] = '/', name[256] = 0;
    OPEN(mq_open, "255 bytes", name, O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_unlink, "255 bytes", name);
    name[256] = 'x', name[257] = 0;
    CALL(mq_open, "256 bytes", name, O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_unlink, "256 bytes", name);
    name[257] = 'x', name[999] = 0;
    CALL(mq_open, "998 bytes", name, O_RDWR | O_CREAT, 0600, NULL);
    CALL(mq_open, "no messages", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(0, 8));
    CALL(mq_open, "no bytes", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(1, 0));
    CALL(mq_open, "negative", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(-1, 8));
    CALL(mq_open, "more messages than there can be", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(1 << 20, 8));
    CALL(mq_open, "more bytes than there can be", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(1, 1L << 40));
    CALL(mq_open, "O_WRONLY and O_RDWR", "/queue", O_WRONLY | O_RDWR);

    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(mq_open, "another's, O_RDWR", "/queue", O_RDWR);
            OPEN(mq_open, "another's, O_RDONLY", "/queue", O_RDONLY);
            CALL(mq_open, "another's, mode 0600", "/standard", O_RDONLY);
            CALL(mq_unlink, "another's", "/queue");
            CALL(mq_open, "more messages than msg_max", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(11, 8));
            CALL(mq_open, "more bytes than msgsize_max", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(1, 8193));
            struct { unsigned long now, most; } limit = { 100, 100 };
            MUST(syscall(SYS_prlimit64, 0, 12 /* RLIMIT_MSGQUEUE */, &limit, NULL));
            CALL(mq_open, "more bytes than RLIMIT_MSGQUEUE", "/bad", O_RDWR | O_CREAT, 0600, ATTRIBUTES(10, 8192));
        }
        exit(0);
    }
    finish(&nobody);
    struct child poor = fork_child();
    if (!poor.pid) {
        struct { unsigned long now, most; } limit = { 50, 50 };
        MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
        while (dup(0) >= 0) {}
        CALL(mq_open, "no descriptors left", "/queue", O_RDWR);
        exit(0);
    }
    finish(&poor);
    struct child limited = fork_child();
    if (!limited.pid) {
        int file;
        if (unshare(CLONE_NEWIPC) || (file = open("/proc/sys/fs/mqueue/queues_max", O_WRONLY)) == -1 || write(file, "1", 1) != 1) {
            line("mq_open", "no more queues", "skipped: %s", error_name(errno));
        } else {
            OPEN(mq_open, "the only one", "/one", O_RDWR | O_CREAT, 0600, NULL);
            if (become_nobody())
                CALL(mq_open, "no more queues", "/two", O_RDWR | O_CREAT, 0600, NULL);
        }
        exit(0);
    }
    finish(&limited);

    CALL(mq_unlink, "", "/standard");
    CALL(mq_unlink, "again", "/standard");
    CALL(mq_unlink, "without a slash", "queue");
    CALL(mq_unlink, "empty", "");
    CALL(mq_unlink, "only a slash", "/");
    CALL(mq_unlink, "slash inside", "/a/b");
    CALL(mq_unlink, "while open", "/queue");
    CALL(mq_send, "unlinked", queue, "x", 1, 0);
    RECEIVE(mq_receive, "unlinked", again);
    CALL(mq_close, "", queue);
    CALL(mq_close, "", again);
    CALL(mq_close, "", silent);
}

/* What a program calls that was compiled with _FORTIFY_SOURCE, and asks for no new queue. */
extern mqd_t __mq_open_2(const char *, int);

static void fortified(void)
{
    CALL(__mq_open_2, "no such queue", "/fortified", O_RDWR);
    mqd_t queue = MUST(mq_open("/fortified", O_CREAT | O_RDWR, 0600, ATTRIBUTES(3, 8)));
    mqd_t again = OPEN(__mq_open_2, "", "/fortified", O_RDWR | O_NONBLOCK);
    say_attributes("__mq_open_2", again);
    struct child child = fork_child();
    if (!child.pid) {
        close(2);
        __mq_open_2("/fortified", O_CREAT | O_RDWR);
        exit(0);
    }
    finish(&child);
    CALL(mq_unlink, "", "/fortified");
    CALL(mq_close, "", queue);
    CALL(mq_close, "", again);
}

static void sending(void)
{
    mqd_t queue = OPEN(mq_open, "for two", "/queue", O_CREAT | O_RDWR, 0600, ATTRIBUTES(4, 32));
    mqd_t silent = mq_open("/queue", O_RDWR | O_NONBLOCK);
    mqd_t reader = OPEN(mq_open, "O_RDONLY", "/queue", O_RDONLY), writer = OPEN(mq_open, "O_WRONLY", "/queue", O_WRONLY);
    struct timespec past = { 1, 0 }, wrong = { 0, 1000000000 }, negative = { 0, -1 }, before = { -1, 0 };
    struct timespec late = now_plus(CLOCK_REALTIME, 1000000);
    /* The kernel takes it for no timeout at all. */
    const struct timespec *volatile forever = NULL;
    char byte;

    CALL(mq_send, "low", queue, "low", 3, 1);
    CALL(mq_send, "high", queue, "high", 4, 32767);
    CALL(mq_send, "low, second", queue, "low too", 7, 1);
    CALL(mq_send, "empty", writer, "", 0, 5);
    say_attributes("full", queue);
    CALL(mq_send, "full, O_NONBLOCK", silent, "x", 1, 0);
    CALL(mq_timedsend, "full, O_NONBLOCK", silent, "x", 1, 0, &late);
    CALL(mq_timedsend, "full, past", queue, "x", 1, 0, &past);
    CALL(mq_timedsend, "full, before 1970", queue, "x", 1, 0, &before);
    CALL(mq_timedsend, "full, nanoseconds too many", queue, "x", 1, 0, &wrong);
    CALL(mq_timedsend, "full, negative nanoseconds", queue, "x", 1, 0, &negative);
    struct timespec deadline = now_plus(CLOCK_REALTIME, 30);
    CALL(mq_timedsend, "full, after a time", queue, "x", 1, 0, &deadline);
    line("mq_timedsend", "full, after a time", "waited %s", yes(is_past(CLOCK_REALTIME, &deadline)));
    INTERRUPTED(mq_send, "interrupted", queue, "x", 1, 0);
    INTERRUPTED(mq_timedsend, "interrupted", queue, "x", 1, 0, &late);
    CALL(mq_send, "priority too high", queue, "x", 1, 32768);
    CALL(mq_send, "too long", queue, "123456789012345678901234567890123", 33, 0);
    CALL(mq_timedsend, "priority too high", queue, "x", 1, 32768, &late);
    CALL(mq_timedsend, "too long", queue, "123456789012345678901234567890123", 33, 0, &late);
    CALL(mq_send, "of a reader", reader, "x", 1, 0);
    CALL(mq_timedsend, "of a reader", reader, "x", 1, 0, &late);
    CALL(mq_send, "descriptor -1", -1, "x", 1, 0);
    CALL(mq_timedsend, "descriptor -1", -1, "x", 1, 0, &late);
    int file = MUST(open("/dev/null", O_RDWR));
    CALL(mq_send, "no queue", file, "x", 1, 0);
    CALL(mq_receive, "no queue", file, &byte, 1, NULL);
    CALL(mq_getattr, "no queue", file, ATTRIBUTES(0, 0));
    CALL(mq_setattr, "no queue", file, ATTRIBUTES(0, 0), NULL);
    CALL(mq_notify, "no queue", file, NULL);
    CALL(mq_close, "no queue", file);

    CALL(mq_receive, "buffer too small", queue, &byte, 1, NULL);
    CALL(mq_timedreceive, "buffer too small", queue, &byte, 1, NULL, &late);
    CALL(mq_receive, "of a writer", writer, &byte, 32, NULL);
    CALL(mq_receive, "descriptor -1", -1, &byte, 32, NULL);
    CALL(mq_timedreceive, "descriptor -1", -1, &byte, 32, NULL, &late);
    RECEIVE(mq_receive, "highest first", queue);
    RECEIVE(mq_timedreceive, "then the empty one", queue, &past);
    RECEIVE(mq_receive, "then the older", reader);
    char text[32];
    CALL(mq_receive, "without priority", queue, text, 32, NULL);
    RECEIVE(mq_receive, "none, O_NONBLOCK", silent);
    RECEIVE(mq_timedreceive, "none, O_NONBLOCK", silent, &late);
    RECEIVE(mq_timedreceive, "none, past", queue, &past);
    RECEIVE(mq_timedreceive, "none, before 1970", queue, &before);
    RECEIVE(mq_timedreceive, "none, nanoseconds too many", queue, &wrong);
    RECEIVE(mq_timedreceive, "none, negative nanoseconds", queue, &negative);
    deadline = now_plus(CLOCK_REALTIME, 30);
    RECEIVE(mq_timedreceive, "none, after a time", queue, &deadline);
    line("mq_timedreceive", "none, after a time", "waited %s", yes(is_past(CLOCK_REALTIME, &deadline)));
    CALL(mq_timedsend, "nanoseconds too many, but room", queue, "x", 1, 0, &wrong);
    CALL(mq_timedsend, "past, but room", queue, "x", 1, 0, &past);
    CALL(mq_timedsend, "no time", queue, "no time", 7, 3, forever);
    RECEIVE(mq_timedreceive, "no time", queue, forever);
    RECEIVE(mq_receive, "the past one", queue);
    INTERRUPTED(mq_receive, "interrupted", queue, text, 32, NULL);
    INTERRUPTED(mq_timedreceive, "interrupted", queue, text, 32, NULL, &late);

    struct child child = fork_child();
    if (!child.pid) {
        tell(&child);
        BLOCKED(&child, mq_receive, "waits for a message", queue, text, 32, NULL);
        line("mq_receive", "waited for a message", "%.5s", text);
        tell(&child);
        BLOCKED(&child, mq_timedreceive, "waits for a message", queue, text, 32, NULL, &late);
        for (int i = 0; i < 4; i++)
            MUST(mq_send(queue, "fill", 4, 0));
        tell(&child);
        BLOCKED(&child, mq_send, "waits for room", queue, "late", 4, 9);
        tell(&child);
        BLOCKED(&child, mq_timedsend, "waits for room", queue, "later", 5, 9, &late);
        exit(0);
    }
    for (int i = 0; i < 4; i++) {
        hear(&child);
        until_asleep(child.pid);
        if (i < 2)
            CALL(mq_send, "while one waits", queue, "hello", 5, 2);
        else
            RECEIVE(mq_receive, "while one waits", queue);
        tell(&child);
    }
    finish(&child);
    RECEIVE(mq_receive, "what the child sent", queue);

    struct mq_attr change = { .mq_flags = O_NONBLOCK, .mq_maxmsg = 99 }, old = { 0 };
    CALL(mq_setattr, "O_NONBLOCK", queue, &change, &old);
    line("mq_setattr", "what was", "flags %#lx messages %ld of %ld bytes %ld", old.mq_flags, old.mq_curmsgs, old.mq_maxmsg, old.mq_msgsize);
    say_attributes("O_NONBLOCK", queue);
    change.mq_flags = 0;
    CALL(mq_setattr, "without the old", queue, &change, NULL);
    say_attributes("blocking again", queue);
    change.mq_flags = O_NONBLOCK | O_APPEND;
    CALL(mq_setattr, "another flag", queue, &change, NULL);
    CALL(mq_setattr, "descriptor -1", -1, ATTRIBUTES(0, 0), NULL);
    CALL(mq_getattr, "descriptor -1", -1, &old);
    CALL(mq_close, "", queue);
    CALL(mq_close, "", silent);
    CALL(mq_close, "", reader);
    CALL(mq_close, "", writer);
    CALL(mq_unlink, "", "/queue");
    close(file);
}

static volatile sig_atomic_t notified;
static volatile siginfo_t notification;

static void note(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    notification = *info;
    notified++;
}

static sem_t ran;
static pthread_t caller;

static void run(union sigval value)
{
    size_t size = 0;
    void *stack;
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &size);
    int detached;
    pthread_attr_getdetachstate(&attributes, &detached);
    pthread_attr_destroy(&attributes);
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    line("mq_notify", "SIGEV_THREAD runs", "value %d another thread %s detached %s stack %s blocked %d", value.sival_int,
         yes(!pthread_equal(caller, pthread_self())), yes(detached == PTHREAD_CREATE_DETACHED),
         size > (3 << 20) ? "large" : size ? "small" : "none", sigismember(&blocked, SIGUSR2));
    sem_post(&ran);
}

static void until_ran(void)
{
    struct timespec deadline = now_plus(CLOCK_REALTIME, 1000 * PATIENCE / 2);
    if (sem_timedwait(&ran, &deadline))
        line("mq_notify", "SIGEV_THREAD", "did not run");
}

static void notifying(void)
{
    mqd_t queue = OPEN(mq_open, "to be notified", "/queue", O_CREAT | O_RDWR, 0600, ATTRIBUTES(4, 32));
    struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR2, &action, NULL);
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 42 };
    CALL(mq_notify, "SIGEV_SIGNAL", queue, &event);
    CALL(mq_notify, "again", queue, &event);
    struct child other = fork_child();
    if (!other.pid) {
        CALL(mq_notify, "while another is registered", queue, &event);
        CALL(mq_notify, "NULL while another is registered", queue, NULL);
        MUST(mq_send(queue, "x", 1, 0));
        exit(0);
    }
    finish(&other);
    for (int i = 0; i < 1000 && !notified; i++)
        pause_for(1);
    line("mq_notify", "signal", "%d code %s value %d pid %s", (int)notified, yes(notification.si_code == SI_MESGQ),
         notification.si_value.sival_int, yes(notification.si_pid == other.pid));
    MUST(mq_send(queue, "y", 1, 0));
    line("mq_notify", "only once", "%d", (int)notified);
    CALL(mq_notify, "while not empty", queue, &event);
    MUST(mq_send(queue, "z", 1, 0));
    line("mq_notify", "only when it was empty", "%d", (int)notified);
    for (int i = 0; i < 3; i++)
        RECEIVE(mq_receive, "", queue);
    CALL(mq_notify, "still registered", queue, &event);
    CALL(mq_notify, "NULL", queue, NULL);
    CALL(mq_notify, "NULL again", queue, NULL);
    MUST(mq_send(queue, "x", 1, 0));
    line("mq_notify", "after NULL", "%d", (int)notified);
    RECEIVE(mq_receive, "", queue);

    /* Who already waits gets the message, and nobody is notified. */
    struct child waiter = fork_child();
    if (!waiter.pid) {
        char text[32];
        tell(&waiter);
        BLOCKED(&waiter, mq_receive, "before who is registered", queue, text, 32, NULL);
        exit(0);
    }
    hear(&waiter);
    until_asleep(waiter.pid);
    CALL(mq_notify, "while one waits", queue, &event);
    CALL(mq_send, "while one waits", queue, "x", 1, 0);
    tell(&waiter);
    finish(&waiter);
    line("mq_notify", "while one waited", "%d", (int)notified);
    CALL(mq_notify, "NULL", queue, NULL);

    event.sigev_notify = SIGEV_NONE;
    CALL(mq_notify, "SIGEV_NONE", queue, &event);
    CALL(mq_notify, "SIGEV_NONE again", queue, &event);
    MUST(mq_send(queue, "x", 1, 0));
    RECEIVE(mq_receive, "", queue);
    CALL(mq_notify, "SIGEV_NONE after a message", queue, &event);
    CALL(mq_notify, "NULL", queue, NULL);
    event.sigev_notify = 99;
    CALL(mq_notify, "unknown", queue, &event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = 99;
    CALL(mq_notify, "unknown signal", queue, &event);
    event.sigev_signo = SIGUSR2;
    CALL(mq_notify, "descriptor -1", -1, &event);
    CALL(mq_notify, "NULL, descriptor -1", -1, NULL);

    sem_init(&ran, 0, 0);
    caller = pthread_self();
    event = (struct sigevent){ .sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 7 };
    event.sigev_notify_function = run;
    CALL(mq_notify, "SIGEV_THREAD", queue, &event);
    CALL(mq_notify, "SIGEV_THREAD again", queue, &event);
    MUST(mq_send(queue, "x", 1, 0));
    until_ran();
    RECEIVE(mq_receive, "after SIGEV_THREAD", queue);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 20);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_JOINABLE);
    event.sigev_notify_attributes = &small;
    event.sigev_value.sival_int = 8;
    for (int i = 0; i < 2; i++) {
        CALL(mq_notify, "SIGEV_THREAD with attributes", queue, &event);
        struct child sender = fork_child();
        if (!sender.pid) {
            MUST(mq_send(queue, "x", 1, 0));
            exit(0);
        }
        finish(&sender);
        until_ran();
        RECEIVE(mq_receive, "after SIGEV_THREAD", queue);
    }
    CALL(mq_notify, "SIGEV_THREAD to be withdrawn", queue, &event);
    CALL(mq_notify, "NULL", queue, NULL);
    MUST(mq_send(queue, "x", 1, 0));
    RECEIVE(mq_receive, "after NULL", queue);
    pause_for(20);
    CALL(sem_trywait, "SIGEV_THREAD withdrawn", &ran);
    CALL(mq_notify, "SIGEV_THREAD, descriptor -1", -1, &event);
    CALL(mq_notify, "SIGEV_THREAD, no queue", 0, &event);

    /* The registration ends with the descriptor. */
    CALL(mq_notify, "before mq_close", queue, &event);
    mqd_t second = mq_open("/queue", O_RDWR);
    CALL(mq_close, "of who is registered", queue);
    event = (struct sigevent){ .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
    CALL(mq_notify, "after mq_close", second, &event);
    CALL(mq_unlink, "", "/queue");
    CALL(mq_close, "", second);
    pthread_attr_destroy(&small);
}

int main(void)
{
    begin();
    opening();
    fortified();
    sending();
    notifying();
    return 0;
}
