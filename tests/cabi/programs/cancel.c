/* Which functions are cancellation points, pthreads(7): a thread that is to be cancelled calls each, with what lets it
 * succeed. It either ends there, or comes back and ends at the next one.
 *
 * A thread that waits already is another matter: the library does not wake it. And the C library's sem_clockwait looks
 * only when it waits, against POSIX. */
#include "say.h"
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

static struct timespec late;
static volatile int came_back;

struct point {
    const char *name;
    void (*call)(void);
};

static void *run(void *argument)
{
    struct point *point = argument;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    point->call();
    came_back = 1;
    pthread_testcancel();
    return NULL;
}

static int file, pipe_ends[2], other_ends[2], pair[2], listener, packets[2], queue, msg, sems, shm;
static sem_t sem;
static pthread_mutex_t mutex, shared_mutex;
static pthread_cond_t cond, shared_cond;
static pthread_rwlock_t rwlock;
static pthread_barrier_t barrier;
static char bytes[8192];
static struct iovec piece = { bytes, 1 };
static struct mmsghdr message = { .msg_hdr = { .msg_iov = &piece, .msg_iovlen = 1 } };
static struct { long type; char text[8]; } text = { 1, "" };
static struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0cancel" };

/* close(2) is a cancellation point itself. */
static void close_quietly(int fd)
{
    syscall(SYS_close, fd);
}

#define POINT(function, ...) static void call_##function(void) { if (function(__VA_ARGS__)) {} }

static void call_fcntl_setlkw(void)
{
    fcntl(file, F_SETLKW, &(struct flock){ .l_type = F_WRLCK });
}

static void call_fcntl_ofd_setlkw(void)
{
    int other = open("file", O_RDWR);
    fcntl(other, F_OFD_SETLKW, &(struct flock){ .l_type = F_RDLCK });
    close_quietly(other);
}

static void call_fcntl_setlk(void)
{
    fcntl(file, F_SETLK, &(struct flock){ .l_type = F_WRLCK });
}

static void call_fcntl_getfl(void)
{
    fcntl(file, F_GETFL);
}

static void call_lockf_tlock(void)
{
    if (lockf(file, F_TLOCK, 1)) {}
}

static void call_lockf_lock(void)
{
    if (lockf(file, F_LOCK, 1)) {}
}

static void call_lockf_test(void)
{
    if (lockf(file, F_TEST, 1)) {}
}

static void call_socket(void)
{
    close_quietly(socket(AF_UNIX, SOCK_STREAM, 0));
}

static void call_pipe2(void)
{
    int ends[2];
    if (pipe2(ends, 0) == 0)
        close_quietly(ends[0]), close_quietly(ends[1]);
}

static void call_eventfd(void)
{
    close_quietly(eventfd(0, 0));
}

static void call_memfd_create(void)
{
    close_quietly(memfd_create("", 0));
}

static void call_timerfd_create(void)
{
    close_quietly(timerfd_create(CLOCK_MONOTONIC, 0));
}

static void call_connect(void)
{
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    /* In the other order, it would be left open. */
    pthread_cleanup_push((void (*)(void *))(void (*)(void))close_quietly, (void *)(long)client);
    if (connect(client, (struct sockaddr *)&name, 2 + 7)) {}
    pthread_cleanup_pop(1);
}

static void call_accept(void)
{
    close_quietly(accept(listener, NULL, NULL));
}

static void call_accept4(void)
{
    close_quietly(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void unlock(void *locked)
{
    pthread_mutex_unlock(locked);
}

static void call_wait(pthread_cond_t *waited, pthread_mutex_t *locked, int how)
{
    static struct timespec past = { 1, 0 };
    pthread_mutex_lock(locked);
    /* POSIX: the mutex is locked again when the cleanup runs. */
    pthread_cleanup_push(unlock, locked);
    if (how == 0)
        pthread_cond_wait(waited, locked);
    else if (how == 1)
        pthread_cond_timedwait(waited, locked, &past);
    else
        pthread_cond_clockwait(waited, locked, CLOCK_MONOTONIC, &past);
    pthread_cleanup_pop(1);
}

static void call_cond_wait(void) { call_wait(&cond, &mutex, 0); }
static void call_cond_timedwait(void) { call_wait(&cond, &mutex, 1); }
static void call_cond_clockwait(void) { call_wait(&cond, &mutex, 2); }
static void call_shared_cond_wait(void) { call_wait(&shared_cond, &shared_mutex, 0); }
static void call_shared_cond_timedwait(void) { call_wait(&shared_cond, &shared_mutex, 1); }
static void call_shared_cond_clockwait(void) { call_wait(&shared_cond, &shared_mutex, 2); }

static void call_mutex(void)
{
    pthread_mutex_lock(&shared_mutex);
    pthread_mutex_unlock(&shared_mutex);
}

static void call_rwlock(void)
{
    pthread_rwlock_rdlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
    pthread_rwlock_wrlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
}

static void call_sem_open(void)
{
    sem_t *opened = sem_open("/cancel", O_CREAT, 0600, 1);
    if (opened != SEM_FAILED)
        sem_close(opened);
    sem_unlink("/cancel");
}

static void call_shm_open(void)
{
    close_quietly(shm_open("/cancel", O_CREAT | O_RDWR, 0600));
    shm_unlink("/cancel");
}

static void call_mq_open(void)
{
    close_quietly(mq_open("/cancel-too", O_CREAT | O_RDWR, 0600, NULL));
    mq_unlink("/cancel-too");
}

static void call_semctl(void)
{
    semctl(sems, 0, GETVAL);
}

POINT(flock, file, LOCK_SH)
POINT(lockf64, file, F_LOCK, 1)
POINT(sem_wait, &sem)
POINT(sem_trywait, &sem)
POINT(sem_timedwait, &sem, &late)
POINT(sem_post, &sem)
POINT(mq_send, queue, "", 0, 0)
POINT(mq_timedsend, queue, "", 0, 0, &late)
POINT(mq_receive, queue, bytes, sizeof bytes, NULL)
POINT(mq_timedreceive, queue, bytes, sizeof bytes, NULL, &late)
POINT(mq_notify, queue, NULL)
POINT(msgsnd, msg, &text, 0, 0)
POINT(msgrcv, msg, &text, 8, 0, 0)
POINT(semop, sems, &(struct sembuf){ 0, 1, 0 }, 1)
POINT(semtimedop, sems, &(struct sembuf){ 0, 1, 0 }, 1, NULL)
POINT(shmctl, shm, IPC_STAT, &(struct shmid_ds){ 0 })
POINT(mkfifo, "fifo", 0600)
POINT(splice, pipe_ends[0], NULL, other_ends[1], NULL, 1, 0)
POINT(tee, pipe_ends[0], other_ends[1], 1, 0)
POINT(vmsplice, pipe_ends[1], &piece, 1, 0)
POINT(bind, listener, (struct sockaddr *)&name, 2 + 7)
POINT(listen, listener, 5)
POINT(send, pair[0], "x", 1, 0)
POINT(sendto, pair[0], "x", 1, 0, NULL, 0)
POINT(sendmsg, pair[0], &message.msg_hdr, 0)
POINT(sendmmsg, packets[0], &message, 1, 0)
POINT(recv, pair[1], bytes, 1, 0)
POINT(recvfrom, pair[1], bytes, 1, 0, NULL, NULL)
POINT(recvmsg, pair[1], &message.msg_hdr, 0)
POINT(recvmmsg, packets[1], &message, 1, 0, NULL)
POINT(getsockopt, pair[0], SOL_SOCKET, SO_TYPE, bytes, &(socklen_t){ 4 })
POINT(setsockopt, pair[0], SOL_SOCKET, SO_KEEPALIVE, &(int){ 0 }, 4)
POINT(shutdown, packets[0], SHUT_RD)
POINT(process_vm_readv, getpid(), &piece, 1, &piece, 1, 0)
POINT(pthread_barrier_wait, &barrier)

#define NAME(function) { #function, call_##function }

static struct point points[] = {
    NAME(fcntl_setlkw), NAME(fcntl_ofd_setlkw), NAME(fcntl_setlk), NAME(fcntl_getfl), NAME(lockf_lock), NAME(lockf_tlock),
    NAME(lockf_test), NAME(lockf64), NAME(flock), NAME(sem_wait), NAME(sem_trywait), NAME(sem_timedwait),
    NAME(sem_post), NAME(sem_open), NAME(shm_open), NAME(mq_open), NAME(mq_send), NAME(mq_timedsend), NAME(mq_receive),
    NAME(mq_timedreceive), NAME(mq_notify), NAME(msgsnd), NAME(msgrcv), NAME(semop), NAME(semtimedop), NAME(semctl), NAME(shmctl),
    NAME(mkfifo), NAME(splice), NAME(tee), NAME(vmsplice), NAME(pipe2), NAME(bind), NAME(listen), NAME(socket), NAME(connect),
    NAME(accept), NAME(accept4), NAME(send), NAME(sendto), NAME(sendmsg), NAME(sendmmsg), NAME(recv), NAME(recvfrom), NAME(recvmsg),
    NAME(recvmmsg), NAME(getsockopt), NAME(setsockopt), NAME(shutdown), NAME(eventfd), NAME(memfd_create), NAME(timerfd_create),
    NAME(process_vm_readv), NAME(cond_wait), NAME(cond_timedwait), NAME(cond_clockwait), NAME(shared_cond_wait),
    NAME(shared_cond_timedwait), NAME(shared_cond_clockwait), NAME(mutex), NAME(rwlock), NAME(pthread_barrier_wait),
};

int main(void)
{
    begin();
    late = now_plus(CLOCK_REALTIME, 1000000);
    file = MUST(open("file", O_RDWR | O_CREAT, 0600));
    MUST(pipe(pipe_ends));
    MUST(pipe(other_ends));
    MUST(write(pipe_ends[1], bytes, 8));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
    MUST(send(pair[0], bytes, 8, 0));
    for (int i = 0; i < 3; i++)
        MUST(send(packets[0], bytes, 1, 0));
    listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(listener, (struct sockaddr *)&name, 2 + 7));
    MUST(listen(listener, 5));
    for (int i = 0; i < 3; i++) {
        int client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
        MUST(connect(client, (struct sockaddr *)&name, 2 + 7));
    }
    struct mq_attr attributes = { .mq_maxmsg = 10, .mq_msgsize = 16 };
    queue = MUST(mq_open("/cancel", O_CREAT | O_RDWR, 0600, &attributes));
    mq_unlink("/cancel");
    msg = MUST(msgget(IPC_PRIVATE, 0600));
    sems = MUST(semget(IPC_PRIVATE, 1, 0600));
    shm = MUST(shmget(IPC_PRIVATE, 1, 0600));
    for (int i = 0; i < 3; i++) {
        MUST(mq_send(queue, "", 0, 0));
        MUST(msgsnd(msg, &text, 1, 0));
    }
    sem_init(&sem, 1, 10);
    pthread_mutexattr_t mutex_attr;
    pthread_mutexattr_init(&mutex_attr);
    pthread_mutex_init(&mutex, &mutex_attr);
    pthread_mutexattr_setpshared(&mutex_attr, 1);
    pthread_mutex_init(&shared_mutex, &mutex_attr);
    pthread_condattr_t cond_attr;
    pthread_condattr_init(&cond_attr);
    pthread_cond_init(&cond, &cond_attr);
    pthread_condattr_setpshared(&cond_attr, 1);
    pthread_cond_init(&shared_cond, &cond_attr);
    pthread_rwlockattr_t rwlock_attr;
    pthread_rwlockattr_init(&rwlock_attr);
    pthread_rwlockattr_setpshared(&rwlock_attr, 1);
    pthread_rwlock_init(&rwlock, &rwlock_attr);
    pthread_barrierattr_t barrier_attr;
    pthread_barrierattr_init(&barrier_attr);
    pthread_barrierattr_setpshared(&barrier_attr, 1);
    pthread_barrier_init(&barrier, &barrier_attr, 1);

    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        pthread_t thread;
        void *end = NULL;
        came_back = 0;
        if (pthread_create(&thread, NULL, run, &points[i]) || pthread_join(thread, &end))
            exit(2);
        line(points[i].name, "cancelled before", "%s, %s", came_back ? "came back" : "ended there",
             end == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
    }
    line("pthread_mutex_trylock", "both are free again", "%d %d", pthread_mutex_trylock(&mutex), pthread_mutex_trylock(&shared_mutex));
    msgctl(msg, IPC_RMID, NULL);
    semctl(sems, 0, IPC_RMID);
    shmctl(shm, IPC_RMID, NULL);
    unlink("file"), unlink("fifo");
    return 0;
}
