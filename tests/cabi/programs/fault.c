/* EFAULT: null pointers where each function wants memory. (Of other pointers that are wrong the library, which is not the
 * kernel, dies.) Each is called by a child, as it may die of it. */
#include "say.h"
#include <mqueue.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

/* The compiler is not to know. */
static void *volatile null;

#define FAULT(function, what, ...) do { \
    struct child child_ = fork_child(); \
    if (!child_.pid) { \
        CALL(function, what, __VA_ARGS__); \
        exit(0); \
    } \
    finish(&child_); \
} while (0)

int main(void)
{
    begin();
    int file = MUST(open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600)), ends[2], others[2], pair[2], packets[2];
    MUST(pipe(ends));
    MUST(pipe(others));
    MUST(write(ends[1], "12345678", 8));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
    MUST(send(pair[0], "12345678", 8, 0));
    MUST(send(packets[0], "12345678", 8, 0));

    FAULT(fcntl, "F_SETLK", file, F_SETLK, null);
    FAULT(fcntl, "F_SETLKW", file, F_SETLKW, null);
    FAULT(fcntl, "F_GETLK", file, F_GETLK, null);
    FAULT(fcntl, "F_OFD_SETLK", file, F_OFD_SETLK, null);
    FAULT(fcntl, "F_OFD_SETLKW", file, F_OFD_SETLKW, null);
    FAULT(fcntl, "F_OFD_GETLK", file, F_OFD_GETLK, null);
    FAULT(fcntl, "F_GETOWN_EX", file, F_GETOWN_EX, null);
    FAULT(fcntl, "F_SETLK, descriptor -1", -1, F_SETLK, null);

    int shm = MUST(shmget(IPC_PRIVATE, 1, 0600)), sems = MUST(semget(IPC_PRIVATE, 2, 0600)), msg = MUST(msgget(IPC_PRIVATE, 0600));
    MUST(msgsnd(msg, &(struct { long type; char byte; }){ 1, 0 }, 1, 0));
    FAULT(shmctl, "IPC_STAT", shm, IPC_STAT, null);
    FAULT(shmctl, "IPC_SET", shm, IPC_SET, null);
    FAULT(shmctl, "IPC_INFO", 0, IPC_INFO, null);
    FAULT(shmctl, "SHM_INFO", 0, SHM_INFO, null);
    FAULT(semop, "", sems, null, 1);
    FAULT(semop, "no operations", sems, null, 0);
    FAULT(semtimedop, "", sems, null, 1, null);
    FAULT(semctl, "GETALL", sems, 0, GETALL, null);
    FAULT(semctl, "SETALL", sems, 0, SETALL, null);
    FAULT(semctl, "IPC_STAT", sems, 0, IPC_STAT, null);
    FAULT(semctl, "IPC_SET", sems, 0, IPC_SET, null);
    FAULT(semctl, "IPC_INFO", 0, 0, IPC_INFO, null);
    FAULT(msgsnd, "", msg, null, 1, 0);
    FAULT(msgrcv, "", msg, null, 1, 0, IPC_NOWAIT);
    FAULT(msgctl, "IPC_STAT", msg, IPC_STAT, null);
    FAULT(msgctl, "IPC_SET", msg, IPC_SET, null);
    FAULT(msgctl, "MSG_INFO", 0, MSG_INFO, null);
    shmctl(shm, IPC_RMID, NULL), semctl(sems, 0, IPC_RMID), msgctl(msg, IPC_RMID, NULL);

    struct mq_attr attributes = { .mq_maxmsg = 2, .mq_msgsize = 8 };
    mqd_t queue = MUST(mq_open("/fault", O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attributes));
    FAULT(mq_send, "", queue, null, 1, 0);
    MUST(mq_send(queue, "x", 1, 0));
    FAULT(mq_receive, "", queue, null, 8, NULL);
    FAULT(mq_getattr, "", queue, null);
    FAULT(mq_setattr, "", queue, null, NULL);
    mq_close(queue), mq_unlink("/fault");

    FAULT(pipe, "", null);
    FAULT(pipe2, "", null, O_CLOEXEC);
    FAULT(mkfifo, "", null, 0600);
    FAULT(mkfifoat, "", AT_FDCWD, null, 0600);
    FAULT(vmsplice, "", ends[1], null, 1, 0);
    FAULT(vmsplice, "no pieces", ends[1], null, 0, 0);
    FAULT(vmsplice, "a piece", ends[1], &(struct iovec){ null, 5 }, 1, 0);
    FAULT(ftok, "", null, 1);

    FAULT(socketpair, "", AF_UNIX, SOCK_STREAM, 0, null);
    int fresh = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client;
    struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "socket" };
    MUST(bind(listener, (struct sockaddr *)&name, sizeof name));
    MUST(listen(listener, 5));
    for (int i = 0; i < 4; i++) {
        client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
        MUST(connect(client, (struct sockaddr *)&name, sizeof name));
    }
    FAULT(bind, "", fresh, null, sizeof name);
    FAULT(bind, "length 0", fresh, null, 0);
    FAULT(connect, "", fresh, null, sizeof name);
    FAULT(connect, "length 0", fresh, null, 0);
    FAULT(accept, "the length", listener, (struct sockaddr *)&name, null);
    FAULT(accept4, "the length", listener, (struct sockaddr *)&name, null, 0);
    FAULT(getsockname, "the length", listener, (struct sockaddr *)&name, null);
    FAULT(getpeername, "the length", client, (struct sockaddr *)&name, null);
    socklen_t length = sizeof name;
    FAULT(getsockname, "", listener, null, &length);
    FAULT(getpeername, "", client, null, &length);
    length = 0;
    FAULT(getsockname, "room 0", listener, null, &length);
    length = 4;
    FAULT(getsockopt, "", fresh, SOL_SOCKET, SO_TYPE, null, &length);
    FAULT(getsockopt, "the length", fresh, SOL_SOCKET, SO_TYPE, &length, null);
    FAULT(setsockopt, "", fresh, SOL_SOCKET, SO_KEEPALIVE, null, 4);
    FAULT(send, "", pair[0], null, 5, 0);
    FAULT(send, "length 0", pair[0], null, 0, 0);
    FAULT(sendto, "", pair[0], null, 5, 0, NULL, 0);
    FAULT(sendmsg, "", pair[0], null, 0);
    FAULT(sendmsg, "the pieces", pair[0], &((struct msghdr){ .msg_iovlen = 1 }), 0);
    FAULT(sendmsg, "a piece", pair[0], &((struct msghdr){ .msg_iov = &(struct iovec){ null, 5 }, .msg_iovlen = 1 }), 0);
    FAULT(sendmsg, "the control", pair[0], &((struct msghdr){ .msg_controllen = 32 }), 0);
    FAULT(sendmsg, "no name but a length", packets[0], &((struct msghdr){ .msg_namelen = 32 }), 0);
    FAULT(recvmsg, "no name but a negative length", packets[1], &((struct msghdr){ .msg_namelen = -1 }), MSG_PEEK);
    FAULT(sendmmsg, "", pair[0], null, 1, 0);
    FAULT(sendmmsg, "no messages", pair[0], null, 0, 0);
    FAULT(recv, "", pair[1], null, 5, MSG_PEEK);
    FAULT(recv, "length 0", pair[1], null, 0, MSG_PEEK);
    FAULT(recvfrom, "", pair[1], null, 5, MSG_PEEK, NULL, NULL);
    FAULT(recvmsg, "", pair[1], null, 0);
    FAULT(recvmsg, "the pieces", pair[1], &((struct msghdr){ .msg_iovlen = 1 }), MSG_PEEK);
    FAULT(recvmsg, "a piece", packets[1], &((struct msghdr){ .msg_iov = &(struct iovec){ null, 5 }, .msg_iovlen = 1 }), MSG_PEEK);
    FAULT(recvmmsg, "", packets[1], null, 1, 0, NULL);

    FAULT(signalfd, "", -1, null, 0);
    int timer = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
    struct itimerspec time = { 0 };
    FAULT(timerfd_settime, "", timer, 0, null, &time);
    FAULT(timerfd_gettime, "", timer, null);
    FAULT(memfd_create, "", null, 0);
    FAULT(process_vm_readv, "the pieces here", getpid(), null, 1, &((struct iovec){ &time, 1 }), 1, 0);
    FAULT(process_vm_readv, "the pieces there", getpid(), &((struct iovec){ &time, 1 }), 1, null, 1, 0);
    FAULT(process_vm_readv, "a piece here", getpid(), &((struct iovec){ null, 1 }), 1, &((struct iovec){ &time, 1 }), 1, 0);
    FAULT(process_vm_writev, "the pieces here", getpid(), null, 1, &((struct iovec){ &time, 1 }), 1, 0);
    FAULT(process_vm_writev, "a piece here", getpid(), &((struct iovec){ null, 1 }), 1, &((struct iovec){ &time, 1 }), 1, 0);
    unlink("file"), unlink("socket");
    return 0;
}
