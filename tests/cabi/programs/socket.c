/* socket(7): every call of it, on unix(7) and ip(7) sockets. */
#include "say.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define ADDRESS_OF(address) (struct sockaddr *)&(address), sizeof (address)
#define PATH(name) ((struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = name })

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* A network namespace of its own begins with the loopback interface down. */
static void loopback_up(void)
{
    int fd = MUST((int)syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    struct ifreq request = { .ifr_name = "lo" };
    if (ioctl(fd, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP;
        MUST(ioctl(fd, SIOCSIFFLAGS, &request));
    }
    close(fd);
}

static void say_flags(const char *function, const char *what, int fd)
{
    line(function, what, "close-on-exec %d non-blocking %s", fcntl(fd, F_GETFD), yes(fcntl(fd, F_GETFL) & O_NONBLOCK));
}

static void making(void)
{
    static const struct { const char *what; int domain, type, protocol; } sockets[] = {
        { "unix stream", AF_UNIX, SOCK_STREAM, 0 },
        { "unix datagram", AF_UNIX, SOCK_DGRAM, 0 },
        { "unix sequence of packets", AF_UNIX, SOCK_SEQPACKET, 0 },
        { "unix raw", AF_UNIX, SOCK_RAW, 0 },
        { "unix with a protocol", AF_UNIX, SOCK_STREAM, 1 },
        { "unix with another protocol", AF_UNIX, SOCK_STREAM, 5 },
        { "inet stream", AF_INET, SOCK_STREAM, 0 },
        { "inet datagram", AF_INET, SOCK_DGRAM, 0 },
        { "inet tcp", AF_INET, SOCK_STREAM, IPPROTO_TCP },
        { "inet tcp of datagrams", AF_INET, SOCK_DGRAM, IPPROTO_TCP },
        { "inet sequence of packets", AF_INET, SOCK_SEQPACKET, 0 },
        { "inet unknown protocol", AF_INET, SOCK_STREAM, 200 },
        { "inet negative protocol", AF_INET, SOCK_STREAM, -1 },
        { "inet protocol too large", AF_INET, SOCK_STREAM, 10000 },
        { "inet6", AF_INET6, SOCK_STREAM, 0 },
        { "netlink", AF_NETLINK, SOCK_RAW, 0 },
        { "SOCK_CLOEXEC", AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0 },
        { "SOCK_NONBLOCK", AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0 },
        { "unknown flag", AF_UNIX, SOCK_STREAM | 0x100, 0 },
        { "type 0", AF_UNIX, 0, 0 },
        { "type 15", AF_UNIX, 15, 0 },
        { "family 0", AF_UNSPEC, SOCK_STREAM, 0 },
        { "family 99", 99, SOCK_STREAM, 0 },
        { "family -1", -1, SOCK_STREAM, 0 },
        { "family 65537", 65537, SOCK_STREAM, 0 },
    };
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++) {
        int fd = OPEN(socket, sockets[i].what, sockets[i].domain, sockets[i].type, sockets[i].protocol);
        if (fd >= 0) {
            say_flags("socket", sockets[i].what, fd);
            close(fd);
        }
        int pair[2] = { 7, 8 };
        if (CALL(socketpair, sockets[i].what, sockets[i].domain, sockets[i].type, sockets[i].protocol, pair) == 0) {
            say_flags("socketpair", sockets[i].what, pair[0]);
            say_flags("socketpair", sockets[i].what, pair[1]);
            close(pair[0]), close(pair[1]);
        }
    }
    struct child poor = fork_child();
    if (!poor.pid) {
        struct { unsigned long now, most; } limit = { 50, 50 };
        int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), pair[2];
        struct sockaddr_un name = PATH("poor");
        MUST(bind(listener, ADDRESS_OF(name)));
        MUST(listen(listener, 1));
        MUST(connect(client, ADDRESS_OF(name)));
        MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
        while (dup(0) >= 0) {}
        CALL(socket, "no descriptors left", AF_UNIX, SOCK_STREAM, 0);
        CALL(socketpair, "no descriptors left", AF_UNIX, SOCK_STREAM, 0, pair);
        CALL(accept, "no descriptors left", listener, NULL, NULL);
        CALL(accept4, "no descriptors left", listener, NULL, NULL, SOCK_CLOEXEC);
        unlink("poor");
        exit(0);
    }
    finish(&poor);
    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(socket, "raw, without privilege", AF_INET, SOCK_RAW, IPPROTO_ICMP);
            CALL(socket, "packet, without privilege", AF_PACKET, SOCK_RAW, 0);
            int fd = MUST(socket(AF_INET, SOCK_STREAM, 0)), size = 100000;
            struct sockaddr_in low = loopback(1);
            CALL(bind, "low port, without privilege", fd, ADDRESS_OF(low));
            CALL(setsockopt, "without privilege", fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
        }
        exit(0);
    }
    finish(&nobody);
}

static void say_name(const char *function, const char *what, const struct sockaddr_un *name, socklen_t length)
{
    const char *path = name->sun_path;
    if (length <= sizeof(sa_family_t))
        line(function, what, "family %d length %u", name->sun_family, length);
    else if (path[0])
        line(function, what, "family %d length %u path %.*s", name->sun_family, length, (int)(length - 2), path);
    else
        line(function, what, "family %d length %u abstract %.*s", name->sun_family, length, (int)(length - 3), path + 1);
}

#define SAY_NAME(function, what, fd, ...) ({ \
    struct sockaddr_un name_ = { .sun_family = 77 }; \
    socklen_t length_ = sizeof name_; \
    long result_ = CALL(function, what, fd, (struct sockaddr *)&name_, &length_); \
    if (result_ >= 0) \
        say_name(#function, what, &name_, length_); })

static void names(void)
{
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), other = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    int inet = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_un name = PATH("socket");
    SAY_NAME(getsockname, "without a name", fd);
    SAY_NAME(getpeername, "not connected", fd);
    CALL(bind, "path", fd, ADDRESS_OF(name));
    SAY_NAME(getsockname, "path", fd);
    CALL(bind, "again", fd, ADDRESS_OF(name));
    CALL(bind, "path in use", other, ADDRESS_OF(name));
    struct stat status;
    MUST(stat("socket", &status));
    line("bind", "path", "socket %s mode %#o", yes(S_ISSOCK(status.st_mode)), status.st_mode & 07777);
    name = PATH("absent/socket");
    CALL(bind, "no such directory", other, ADDRESS_OF(name));
    name = PATH("socket/socket");
    CALL(bind, "not a directory", other, ADDRESS_OF(name));
    MUST(symlink("loop", "loop"));
    name = PATH("loop/socket");
    CALL(bind, "loop", other, ADDRESS_OF(name));
    CALL(bind, "length 0", other, (struct sockaddr *)&name, 0);
    CALL(bind, "length 1", other, (struct sockaddr *)&name, 1);
    CALL(bind, "too long", other, (struct sockaddr *)&name, sizeof name + 1);
    CALL(bind, "much too long", other, (struct sockaddr *)&name, 100000);
    CALL(bind, "negative length", other, (struct sockaddr *)&name, -1);
    struct sockaddr_in wrong = loopback(0);
    CALL(bind, "another family", other, ADDRESS_OF(wrong));
    MUST(mkdir("closed", 0700));
    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            name = PATH("closed/socket");
            CALL(bind, "closed directory", other, ADDRESS_OF(name));
            name = PATH("socket");
            CALL(connect, "no permission", other, ADDRESS_OF(name));
        }
        exit(0);
    }
    finish(&nobody);
    rmdir("closed"), unlink("loop");
    struct child reader = fork_child();
    if (!reader.pid) {
        if (own_shm("nr_inodes=3")) {
            MUST(mkdir("/dev/shm/a", 0700));
            int first = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), second = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
            name = PATH("/dev/shm/a/one");
            CALL(bind, "room for one", first, ADDRESS_OF(name));
            name = PATH("/dev/shm/a/two");
            CALL(bind, "no room", second, ADDRESS_OF(name));
            make_shm_read_only();
            CALL(bind, "read only", second, ADDRESS_OF(name));
        }
        exit(0);
    }
    finish(&reader);
    CALL(bind, "abstract", other, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "\0abstract" }, 2 + 9);
    SAY_NAME(getsockname, "abstract", other);
    int taken = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CALL(bind, "abstract in use", taken, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "\0abstract" }, 2 + 9);
    CALL(bind, "any name", taken, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX }, 2);
    struct sockaddr_un given;
    socklen_t length = sizeof given;
    CALL(getsockname, "any name", taken, (struct sockaddr *)&given, &length);
    line("getsockname", "any name", "length %u", length);
    length = 4;
    memset(&given, 'x', sizeof given);
    CALL(getsockname, "cut off", fd, (struct sockaddr *)&given, &length);
    line("getsockname", "cut off", "length %u %.4s", length, given.sun_path);
    length = 0;
    CALL(getsockname, "no room", fd, (struct sockaddr *)&given, &length);
    line("getsockname", "no room", "length %u", length);
    length = -1;
    CALL(getsockname, "negative room", fd, (struct sockaddr *)&given, &length);
    CALL(getpeername, "negative room", fd, (struct sockaddr *)&given, &length);

    struct sockaddr_in address = loopback(0), bound;
    CALL(bind, "inet", inet, ADDRESS_OF(address));
    length = sizeof bound;
    CALL(getsockname, "inet", inet, (struct sockaddr *)&bound, &length);
    line("getsockname", "inet", "length %u family %d address %s port %s", length, bound.sin_family, inet_ntoa(bound.sin_addr),
         yes(bound.sin_port));
    int second = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CALL(bind, "inet, address in use", second, ADDRESS_OF(bound));
    address.sin_addr.s_addr = htonl(0x08080808);
    CALL(bind, "inet, not an address of ours", second, ADDRESS_OF(address));
    CALL(bind, "inet, another family", second, ADDRESS_OF(name));
    CALL(bind, "inet, too short", second, (struct sockaddr *)&bound, 8);
    CALL(bind, "inet, again", inet, ADDRESS_OF(bound));
    length = sizeof bound;
    CALL(getpeername, "inet, not connected", inet, (struct sockaddr *)&bound, &length);

    int file = MUST(open("/dev/null", O_RDWR | O_CLOEXEC)), numbers[] = { -1, 9999, file };
    static const char *const whats[] = { "descriptor -1", "closed descriptor", "no socket" };
    int option = 0;
    char byte = 0;
    struct iovec piece = { &byte, 1 };
    struct mmsghdr message = { .msg_hdr = { .msg_iov = &piece, .msg_iovlen = 1 } };
    for (int i = 0; i < 3; i++) {
        int number = numbers[i];
        CALL(bind, whats[i], number, ADDRESS_OF(name));
        CALL(listen, whats[i], number, 1);
        CALL(accept, whats[i], number, NULL, NULL);
        CALL(accept4, whats[i], number, NULL, NULL, 0);
        CALL(connect, whats[i], number, ADDRESS_OF(name));
        CALL(shutdown, whats[i], number, SHUT_RD);
        length = sizeof given;
        CALL(getsockname, whats[i], number, (struct sockaddr *)&given, &length);
        CALL(getpeername, whats[i], number, (struct sockaddr *)&given, &length);
        length = sizeof option;
        CALL(getsockopt, whats[i], number, SOL_SOCKET, SO_TYPE, &option, &length);
        CALL(setsockopt, whats[i], number, SOL_SOCKET, SO_KEEPALIVE, &option, sizeof option);
        CALL(send, whats[i], number, &byte, 1, 0);
        CALL(sendto, whats[i], number, &byte, 1, 0, ADDRESS_OF(name));
        CALL(sendmsg, whats[i], number, &message.msg_hdr, 0);
        CALL(sendmmsg, whats[i], number, &message, 1, 0);
        CALL(recv, whats[i], number, &byte, 1, 0);
        CALL(recvfrom, whats[i], number, &byte, 1, 0, NULL, NULL);
        CALL(recvmsg, whats[i], number, &message.msg_hdr, 0);
        CALL(recvmmsg, whats[i], number, &message, 1, 0, NULL);
    }
    close(fd), close(other), close(taken), close(inet), close(second), close(file);
    unlink("socket");
}

static void connecting(void)
{
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    int datagram = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un name = PATH("socket");
    CALL(listen, "without a name", listener, 1);
    CALL(listen, "datagrams", datagram, 1);
    CALL(accept, "not listening", listener, NULL, NULL);
    CALL(accept, "datagrams", datagram, NULL, NULL);
    CALL(accept4, "datagrams", datagram, NULL, NULL, SOCK_CLOEXEC);
    CALL(connect, "no such name", client, ADDRESS_OF(name));
    MUST(bind(listener, ADDRESS_OF(name)));
    CALL(connect, "nobody listens", client, ADDRESS_OF(name));
    CALL(listen, "", listener, 0);
    CALL(listen, "again, negative", listener, -1);
    CALL(listen, "again", listener, 0);
    CALL(connect, "datagrams to a stream", datagram, ADDRESS_OF(name));
    CALL(connect, "length 0", client, (struct sockaddr *)&name, 0);
    CALL(connect, "too long", client, (struct sockaddr *)&name, sizeof name + 1);
    CALL(connect, "negative length", client, (struct sockaddr *)&name, -1);
    struct sockaddr_in wrong = loopback(1);
    CALL(connect, "another family", client, ADDRESS_OF(wrong));
    CALL(connect, "to itself, listening", listener, ADDRESS_OF(name));
    CALL(connect, "", client, ADDRESS_OF(name));
    SAY_NAME(getpeername, "of the client", client);
    SAY_NAME(getsockname, "of the client", client);
    int impatient = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CALL(connect, "queue full, SOCK_NONBLOCK", impatient, ADDRESS_OF(name));
    int patient = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    INTERRUPTED(connect, "interrupted", patient, ADDRESS_OF(name));

    struct sockaddr_un peer = { .sun_family = 77 };
    socklen_t length = sizeof peer;
    int server = OPEN(accept, "", listener, (struct sockaddr *)&peer, &length);
    say_name("accept", "", &peer, length);
    CALL(connect, "again", client, ADDRESS_OF(name));
    say_flags("accept", "", server);
    MUST(fcntl(listener, F_SETFL, O_NONBLOCK));
    CALL(accept, "nobody there, O_NONBLOCK", listener, NULL, NULL);
    CALL(accept4, "nobody there, O_NONBLOCK", listener, NULL, NULL, SOCK_NONBLOCK);
    CALL(accept4, "unknown flag", listener, NULL, NULL, 0x100);
    MUST(fcntl(listener, F_SETFL, 0));
    INTERRUPTED(accept, "interrupted", listener, NULL, NULL);
    INTERRUPTED(accept4, "interrupted", listener, NULL, NULL, 0);
    CALL(connect, "from a name", impatient, ADDRESS_OF(name));
    length = 0;
    peer.sun_family = 77;
    int second = OPEN(accept4, "SOCK_CLOEXEC and SOCK_NONBLOCK", listener, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    line("accept4", "no room for the name", "length %u family %d", length, peer.sun_family);
    say_flags("accept4", "SOCK_CLOEXEC and SOCK_NONBLOCK", second);
    length = -1;
    struct child waiter = fork_child();
    if (!waiter.pid) {
        tell(&waiter);
        int got = accept(listener, NULL, NULL), error = errno;
        hear(&waiter);
        line("accept", "waits", "%s", got >= 0 ? "ok" : error_name(error));
        OPEN(accept, "a name is bound", listener, (struct sockaddr *)&peer, (length = sizeof peer, &length));
        say_name("accept", "a name is bound", &peer, length);
        exit(0);
    }
    hear(&waiter);
    until_asleep(waiter.pid);
    CALL(connect, "while one waits", patient, ADDRESS_OF(name));
    tell(&waiter);
    int named = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un own = PATH("client");
    MUST(bind(named, ADDRESS_OF(own)));
    MUST(connect(named, ADDRESS_OF(name)));
    finish(&waiter);
    length = -1;
    int waiting = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(connect(waiting, ADDRESS_OF(name)));
    CALL(accept, "negative room", listener, (struct sockaddr *)&peer, &length);

    CALL(shutdown, "unknown", client, 9);
    CALL(shutdown, "negative", client, -1);
    CALL(shutdown, "not connected", datagram, SHUT_WR);
    CALL(shutdown, "SHUT_WR", client, SHUT_WR);
    char byte;
    CALL(recv, "after SHUT_WR of the peer", server, &byte, 1, 0);
    CALL(send, "after SHUT_WR, MSG_NOSIGNAL", client, "x", 1, MSG_NOSIGNAL);
    signal(SIGPIPE, count_signal);
    signals = 0;
    CALL(send, "after SHUT_WR", client, "x", 1, 0);
    line("send", "after SHUT_WR", "signals %d", (int)signals);
    CALL(send, "against it", server, "x", 1, 0);
    CALL(recv, "against it", client, &byte, 1, 0);
    CALL(shutdown, "SHUT_RD", client, SHUT_RD);
    CALL(recv, "after SHUT_RD", client, &byte, 1, 0);
    CALL(shutdown, "SHUT_RDWR", server, SHUT_RDWR);
    int unconnected = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CALL(shutdown, "inet, not connected", unconnected, SHUT_RDWR);
    close(listener), close(client), close(datagram), close(impatient), close(patient), close(server), close(second), close(named);
    close(waiting), close(unconnected);
    unlink("socket"), unlink("client");
}

static void inet(void)
{
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in address = loopback(0), peer;
    socklen_t length = sizeof address;
    MUST(bind(listener, ADDRESS_OF(address)));
    MUST(getsockname(listener, (struct sockaddr *)&address, &length));
    CALL(connect, "inet, nobody listens", client, ADDRESS_OF(address));
    CALL(listen, "inet", listener, 5);
    int rival = MUST(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
    MUST(setsockopt(rival, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    CALL(bind, "inet, beside who listens", rival, ADDRESS_OF(address));
    CALL(connect, "inet", client, ADDRESS_OF(address));
    CALL(connect, "inet, again", client, ADDRESS_OF(address));
    CALL(connect, "inet, who listens", listener, ADDRESS_OF(address));
    CALL(listen, "inet, connected", client, 5);
    length = sizeof peer;
    int server = OPEN(accept, "inet", listener, (struct sockaddr *)&peer, &length);
    line("accept", "inet", "length %u family %d address %s", length, peer.sin_family, inet_ntoa(peer.sin_addr));
    struct sockaddr_in seen = { 0 };
    length = sizeof seen;
    CALL(getpeername, "inet", server, (struct sockaddr *)&seen, &length);
    line("getpeername", "inet", "length %u same %s", length, yes(memcmp(&seen, &peer, sizeof seen) == 0));
    char bytes[100] = "";
    CALL(send, "inet", client, "hello", 5, 0);
    CALL(recv, "inet, MSG_PEEK", server, bytes, 3, MSG_PEEK | MSG_WAITALL);
    CALL(recv, "inet, MSG_TRUNC", server, bytes, 2, MSG_TRUNC);
    CALL(recv, "inet", server, bytes, sizeof bytes, 0);
    line("recv", "inet", "%s", bytes);
    CALL(send, "inet, MSG_OOB", client, "!", 1, MSG_OOB);
    for (int i = 0; i < 1000 && recv(server, bytes, 1, MSG_OOB | MSG_PEEK) != 1; i++)
        pause_for(1);
    CALL(recv, "inet, MSG_OOB", server, bytes, 1, MSG_OOB);
    CALL(recv, "inet, MSG_OOB, none", server, bytes, 1, MSG_OOB);
    CALL(recv, "inet, nothing, MSG_DONTWAIT", server, bytes, 1, MSG_DONTWAIT);
    struct linger linger = { 1, 0 };
    CALL(setsockopt, "SO_LINGER", server, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    MUST(send(client, "x", 1, 0));
    close(server);
    for (int i = 0; i < 1000 && send(client, "x", 1, MSG_NOSIGNAL) == 1; i++)
        pause_for(1);
    int error = -1;
    length = sizeof error;
    CALL(getsockopt, "SO_ERROR", client, SOL_SOCKET, SO_ERROR, &error, &length);
    line("getsockopt", "SO_ERROR", "%s", error > 0 ? error_name(error) : "0");
    signal(SIGPIPE, SIG_IGN);
    CALL(send, "inet, reset", client, "x", 1, 0);
    CALL(recv, "inet, reset", client, bytes, 1, 0);

    int reset = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(reset, ADDRESS_OF(address)));
    server = MUST(accept(listener, NULL, NULL));
    MUST(setsockopt(server, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    close(server);
    CALL(recv, "inet, the peer reset", reset, bytes, 1, 0);
    CALL(recv, "inet, the peer reset, again", reset, bytes, 1, 0);

    int sender = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(sender, ADDRESS_OF(address)));
    server = MUST(accept(listener, NULL, NULL));
    CALL(send, "MSG_ZEROCOPY without SO_ZEROCOPY", sender, "copy", 4, MSG_ZEROCOPY);
    CALL(setsockopt, "SO_ZEROCOPY", sender, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on);
    CALL(send, "MSG_ZEROCOPY", sender, "zero", 4, MSG_ZEROCOPY);
    struct iovec zero = { "more", 4 };
    struct msghdr message = { .msg_iov = &zero, .msg_iovlen = 1 };
    CALL(sendmsg, "MSG_ZEROCOPY", sender, &message, MSG_ZEROCOPY);
    CALL(recv, "MSG_ZEROCOPY", server, bytes, 12, MSG_WAITALL);
    line("recv", "MSG_ZEROCOPY", "%.12s", bytes);
    union { struct cmsghdr align; char bytes[200]; } control;
    message = (struct msghdr){ .msg_control = control.bytes, .msg_controllen = sizeof control };
    /* What was sent without being copied is told, when it is no longer used. */
    long told = -1;
    for (int i = 0; i < 1000 && (told = recvmsg(sender, &message, MSG_ERRQUEUE)) == -1; i++)
        pause_for(1);
    line("recvmsg", "MSG_ERRQUEUE", "%ld flags %#x level %d", told, message.msg_flags,
         CMSG_FIRSTHDR(&message) ? CMSG_FIRSTHDR(&message)->cmsg_level : -1);
    close(sender), close(server);

    int busy = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    /* Documentation addresses, without a route in a namespace of its own. */
    struct sockaddr_in far = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xc0000201) };
    struct child alone = fork_child();
    if (!alone.pid) {
        int ports = -1;
        if (unshare(CLONE_NEWNET)) {
            line("connect", "inet, no route", "skipped: %s", error_name(errno));
        } else {
            int lost = MUST(socket(AF_INET, SOCK_DGRAM, 0));
            CALL(connect, "inet, no route", lost, ADDRESS_OF(far));
            CALL(sendto, "inet, no route", lost, "x", 1, 0, ADDRESS_OF(far));
            loopback_up();
            ports = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);
        }
        if (ports == -1 || write(ports, "5000 5001", 9) != 9) {
            line("connect", "inet, no ports left", "skipped: %s", error_name(errno));
        } else {
            int target = MUST(socket(AF_INET, SOCK_STREAM, 0)), source[3];
            struct sockaddr_in fixed = loopback(6000), any = loopback(0);
            MUST(bind(target, ADDRESS_OF(fixed)));
            MUST(listen(target, 5));
            for (int i = 0; i < 3; i++) {
                source[i] = MUST(socket(AF_INET, SOCK_STREAM, 0));
                CALL(connect, i < 2 ? "inet, ports left" : "inet, no ports left", source[i], ADDRESS_OF(fixed));
            }
            CALL(bind, "inet, no ports left", source[2], ADDRESS_OF(any));
        }
        exit(0);
    }
    finish(&alone);
    int unconnected = MUST(socket(AF_INET, SOCK_STREAM, 0));
    CALL(recv, "inet, not connected", unconnected, bytes, 1, 0);
    CALL(send, "inet, not connected", unconnected, bytes, 1, MSG_NOSIGNAL);
    close(unconnected);
    int twins[2];
    for (int i = 0; i < 2; i++) {
        twins[i] = MUST(socket(AF_INET, SOCK_STREAM, 0));
        MUST(setsockopt(twins[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
        struct sockaddr_in shared = loopback(0);
        if (i == 1)
            MUST(getsockname(twins[0], (struct sockaddr *)&shared, &length));
        MUST(bind(twins[i], ADDRESS_OF(shared)));
    }
    CALL(listen, "inet, one of two of the same address", twins[0], 1);
    CALL(listen, "inet, two of two", twins[1], 1);
    close(twins[0]), close(twins[1]);
    CALL(connect, "inet, another family", busy, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX }, 16);
    CALL(connect, "inet, too short", busy, (struct sockaddr *)&address, 4);
    struct sockaddr_in broadcast = loopback(9);
    broadcast.sin_addr.s_addr = htonl(0x7fffffff);
    int datagrams = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    CALL(connect, "inet, broadcast without permission", datagrams, ADDRESS_OF(broadcast));
    CALL(sendto, "inet, broadcast without permission", datagrams, "x", 1, 0, ADDRESS_OF(broadcast));

    /* SYNs that nobody answers: a full queue. */
    int full = MUST(socket(AF_INET, SOCK_STREAM, 0)), waiting[4];
    struct sockaddr_in slow = loopback(0);
    length = sizeof slow;
    MUST(bind(full, ADDRESS_OF(slow)));
    MUST(listen(full, 0));
    MUST(getsockname(full, (struct sockaddr *)&slow, &length));
    for (int i = 0; i < 4; i++) {
        waiting[i] = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        if (connect(waiting[i], ADDRESS_OF(slow)) == -1 && errno != EINPROGRESS)
            line("connect", "full queue", "%s", error_name(errno));
    }
    int slowly = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CALL(connect, "inet, full queue, SOCK_NONBLOCK", slowly, ADDRESS_OF(slow));
    CALL(connect, "inet, full queue, again", slowly, ADDRESS_OF(slow));
    CALL(send, "inet, not yet connected", slowly, "x", 1, 0);
    int interrupted = MUST(socket(AF_INET, SOCK_STREAM, 0));
    INTERRUPTED(connect, "inet, interrupted", interrupted, ADDRESS_OF(slow));
    int timed = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct timeval patience = { 0, 30000 };
    MUST(setsockopt(timed, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience));
    CALL(connect, "inet, SO_SNDTIMEO", timed, ADDRESS_OF(slow));
    int given_up = MUST(socket(AF_INET, SOCK_STREAM, 0)), once = 1, milliseconds = 100;
    MUST(setsockopt(given_up, IPPROTO_TCP, TCP_SYNCNT, &once, sizeof once));
    MUST(setsockopt(given_up, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds));
    CALL(connect, "inet, gives up", given_up, ADDRESS_OF(slow));

    /* Datagrams. */
    int one = MUST(socket(AF_INET, SOCK_DGRAM, 0)), two = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in first = loopback(0), second = loopback(0), from;
    MUST(bind(one, ADDRESS_OF(first)));
    MUST(bind(two, ADDRESS_OF(second)));
    length = sizeof first;
    MUST(getsockname(one, (struct sockaddr *)&first, &length));
    MUST(getsockname(two, (struct sockaddr *)&second, &length));
    CALL(sendto, "inet datagram", one, "hello", 5, 0, ADDRESS_OF(second));
    length = sizeof from;
    CALL(recvfrom, "inet datagram", two, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length);
    line("recvfrom", "inet datagram", "%.5s length %u from who sent %s", bytes, length, yes(memcmp(&from, &first, 8) == 0));
    CALL(send, "inet datagram, to nobody", one, "x", 1, 0);
    CALL(sendto, "inet datagram, another family", one, "x", 1, 0, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX }, 16);
    CALL(sendto, "inet datagram, too short", one, "x", 1, 0, (struct sockaddr *)&second, 4);
    CALL(sendto, "inet datagram, negative length", one, "x", 1, 0, (struct sockaddr *)&second, -1);
    CALL(sendto, "inet datagram, port 0", one, "x", 1, 0, ADDRESS_OF(((struct sockaddr_in[]){ loopback(0) })[0]));
    static char large[70000];
    CALL(sendto, "inet datagram, too long", one, large, sizeof large, 0, ADDRESS_OF(second));
    CALL(sendto, "inet datagram, MSG_OOB", one, large, 1, MSG_OOB, ADDRESS_OF(second));
    CALL(connect, "inet datagram", one, ADDRESS_OF(second));
    CALL(send, "inet datagram, connected", one, "", 0, 0);
    CALL(recv, "inet datagram, empty", two, bytes, sizeof bytes, 0);
    close(two);
    CALL(send, "inet datagram, nobody there", one, "x", 1, 0);
    CALL(send, "inet datagram, nobody there, then", one, "x", 1, 0);
    CALL(connect, "inet datagram, AF_UNSPEC", one, (struct sockaddr *)&(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr));
    CALL(getpeername, "inet datagram, AF_UNSPEC", one, (struct sockaddr *)&from, &length);
    for (int i = 0; i < 4; i++)
        close(waiting[i]);
    close(listener), close(client), close(rival), close(reset), close(busy), close(datagrams), close(full), close(slowly);
    close(interrupted), close(timed), close(given_up), close(one);
}

static void transfers(void)
{
    int pair[2], packets[2];
    char bytes[100];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
    CALL(send, "", pair[0], "hello", 5, 0);
    CALL(recv, "MSG_PEEK", pair[1], bytes, 100, MSG_PEEK);
    CALL(recv, "part", pair[1], bytes, 2, 0);
    CALL(recv, "length 0", pair[1], bytes, 0, 0);
    CALL(recvfrom, "rest", pair[1], bytes, 100, 0, NULL, NULL);
    line("recvfrom", "rest", "%.3s", bytes);
    struct sockaddr_un name = { .sun_family = 77 };
    socklen_t length = sizeof name;
    MUST(send(pair[0], "x", 1, 0));
    CALL(recvfrom, "name of the unnamed", pair[1], bytes, 100, 0, (struct sockaddr *)&name, &length);
    line("recvfrom", "name of the unnamed", "length %u family %d", length, length ? name.sun_family : 0);
    CALL(recv, "none, MSG_DONTWAIT", pair[1], bytes, 1, MSG_DONTWAIT);
    CALL(recvfrom, "none, MSG_DONTWAIT", pair[1], bytes, 1, MSG_DONTWAIT, NULL, NULL);
    CALL(send, "MSG_OOB", packets[0], "x", 1, MSG_OOB);
    CALL(recv, "MSG_OOB", packets[1], bytes, 1, MSG_OOB);
    CALL(recv, "MSG_ERRQUEUE", pair[1], bytes, 1, MSG_ERRQUEUE | MSG_DONTWAIT);
    name = PATH("absent");
    CALL(sendto, "connected, with a name", pair[0], "x", 1, 0, ADDRESS_OF(name));
    CALL(sendto, "connected, without a name", pair[0], "x", 1, 0, NULL, 0);
    CALL(recv, "", pair[1], bytes, 1, 0);
    int single = MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), stream = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    CALL(send, "not connected", stream, "x", 1, 0);
    CALL(sendto, "not connected, with a name", stream, "x", 1, 0, ADDRESS_OF(name));
    CALL(recv, "not connected", stream, bytes, 1, 0);
    CALL(send, "datagram, not connected", single, "x", 1, 0);
    CALL(sendto, "datagram, no such name", single, "x", 1, 0, ADDRESS_OF(name));
    CALL(sendto, "datagram, negative length", single, "x", 1, 0, (struct sockaddr *)&name, -1);
    CALL(recv, "datagram, none, MSG_DONTWAIT", single, bytes, 1, MSG_DONTWAIT);

    CALL(send, "packet", packets[0], "packet", 6, MSG_EOR);
    CALL(recv, "packet, cut off", packets[1], bytes, 3, 0);
    CALL(send, "packet", packets[0], "packet", 6, 0);
    CALL(recv, "packet, MSG_TRUNC", packets[1], bytes, 3, MSG_TRUNC);
    static char large[1 << 20];
    CALL(send, "packet, too long", packets[0], large, sizeof large, 0);
    CALL(send, "packet, empty", packets[0], "", 0, 0);
    CALL(recv, "packet, empty", packets[1], bytes, 3, 0);

    struct timeval patience = { 0, 30000 };
    CALL(setsockopt, "SO_RCVTIMEO", pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    long received;
    do
        received = recv(pair[1], bytes, 1, 0);
    while (received < 0 && errno == EINTR); /* With a timeout, also if we are stopped: signal(7). */
    say_result("recv", "SO_RCVTIMEO", received, 1);
    patience.tv_usec = 0;
    MUST(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
    MUST(send(pair[0], "abc", 3, 0));
    MUST(send(pair[0], "def", 3, 0));
    CALL(recv, "MSG_WAITALL", pair[1], bytes, 6, MSG_WAITALL);
    struct iovec piece = { bytes, 1 };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
    struct mmsghdr messages[2] = { { .msg_hdr = message }, { .msg_hdr = message } };
    INTERRUPTED(recv, "interrupted", pair[1], bytes, 1, 0);
    INTERRUPTED(recvfrom, "interrupted", pair[1], bytes, 1, 0, NULL, NULL);
    INTERRUPTED(recvmsg, "interrupted", pair[1], &message, 0);
    INTERRUPTED(recvmmsg, "interrupted", pair[1], messages, 2, 0, NULL);
    struct child restarted = fork_child();
    if (!restarted.pid) {
        interrupt_with(count_signal, SA_RESTART);
        tell(&restarted);
        BLOCKED(&restarted, recv, "SA_RESTART", pair[1], bytes, 1, 0);
        leave_alone();
        exit(0);
    }
    hear(&restarted);
    pause_for(5 * TICK);
    MUST(send(pair[0], "x", 1, 0));
    tell(&restarted);
    finish(&restarted);

    /* Until it is full. */
    int sent = 0, sum = 0;
    while ((sent = send(pair[0], large, 4096, MSG_DONTWAIT)) > 0)
        sum += sent;
    line("send", "full, MSG_DONTWAIT", "%d %s some %s", sent, error_name(errno), yes(sum > 0));
    CALL(sendto, "full, MSG_DONTWAIT", pair[0], large, 4096, MSG_DONTWAIT, NULL, 0);
    CALL(sendmsg, "full, MSG_DONTWAIT", pair[0], &message, MSG_DONTWAIT);
    CALL(sendmmsg, "full, MSG_DONTWAIT", pair[0], messages, 2, MSG_DONTWAIT);
    INTERRUPTED(send, "interrupted", pair[0], large, 4096, 0);
    INTERRUPTED(sendto, "interrupted", pair[0], large, 4096, 0, NULL, 0);
    INTERRUPTED(sendmsg, "interrupted", pair[0], &message, 0);
    INTERRUPTED(sendmmsg, "interrupted", pair[0], messages, 2, 0);
    struct child reader = fork_child();
    if (!reader.pid) {
        int rest = sum;
        hear(&reader);
        while (rest > 0)
            rest -= MUST(recv(pair[1], large, sizeof large, 0));
        exit(0);
    }
    tell(&reader);
    CALL(send, "waits for room", pair[0], large, 4096, 0);
    finish(&reader);
    while (recv(pair[1], large, sizeof large, MSG_DONTWAIT) > 0) {}

    close(pair[1]);
    signal(SIGPIPE, count_signal);
    signals = 0;
    CALL(send, "nobody reads", pair[0], "x", 1, 0);
    CALL(sendto, "nobody reads", pair[0], "x", 1, 0, NULL, 0);
    CALL(sendmsg, "nobody reads", pair[0], &message, 0);
    CALL(sendmmsg, "nobody reads", pair[0], messages, 1, 0);
    line("send", "nobody reads", "signals %d", (int)signals);
    CALL(send, "nobody reads, MSG_NOSIGNAL", pair[0], "x", 1, MSG_NOSIGNAL);
    line("send", "nobody reads, MSG_NOSIGNAL", "signals %d", (int)signals);
    CALL(recv, "nobody writes", pair[0], bytes, 1, 0);
    close(pair[0]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    MUST(send(pair[0], "x", 1, 0));
    close(pair[1]);
    CALL(recv, "the peer closed without reading", pair[0], bytes, 1, 0);
    CALL(recv, "the peer closed without reading, then", pair[0], bytes, 1, 0);
    close(pair[0]), close(packets[0]), close(packets[1]), close(single), close(stream);
}

/* What a program calls that was compiled with _FORTIFY_SOURCE. */
extern ssize_t __recv_chk(int, void *, size_t, size_t, int);
extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);

static void fortified(void)
{
    int pair[2];
    char bytes[10];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    MUST(send(pair[0], "twice over", 10, 0));
    CALL(__recv_chk, "", pair[1], bytes, 5, 10, 0);
    struct sockaddr_un name = { .sun_family = 77 };
    socklen_t length = sizeof name;
    CALL(__recvfrom_chk, "", pair[1], bytes, 3, 10, MSG_PEEK, (struct sockaddr *)&name, &length);
    line("__recvfrom_chk", "", "length %u %.3s", length, bytes);
    CALL(__recvfrom_chk, "all of the room", pair[1], bytes, 10, 10, 0, NULL, NULL);
    CALL(__recv_chk, "none", pair[1], bytes, 5, 10, MSG_DONTWAIT);
    CALL(__recvfrom_chk, "descriptor -1", -1, bytes, 5, 10, 0, NULL, NULL);
    for (int from = 0; from < 2; from++) {
        struct child child = fork_child();
        if (!child.pid) {
            close(2);
            if (from)
                __recvfrom_chk(pair[1], bytes, 11, 10, MSG_DONTWAIT, NULL, NULL);
            else
                __recv_chk(pair[1], bytes, 11, 10, MSG_DONTWAIT);
            exit(0);
        }
        finish(&child);
    }
    close(pair[0]), close(pair[1]);
}

static void say_control(const char *what, struct msghdr *message)
{
    line("recvmsg", what, "flags %#x", message->msg_flags);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        size_t length = part->cmsg_len - CMSG_LEN(0);
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
            int fds[16];
            memcpy(fds, CMSG_DATA(part), length);
            line("recvmsg", what, "%zu descriptors", length / sizeof(int));
            for (size_t i = 0; i < length / sizeof(int); i++) {
                char text[20] = "";
                ssize_t got = pread(fds[i], text, sizeof text - 1, 0);
                line("recvmsg", what, "close-on-exec %d holds %s", fcntl(fds[i], F_GETFD), got > 0 ? text : "nothing");
                close(fds[i]);
            }
        } else if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(part), sizeof who);
            line("recvmsg", what, "credentials pid %s uid %u gid %u", yes(who.pid == getpid()), who.uid, who.gid);
        } else {
            line("recvmsg", what, "level %d type %d length %zu", part->cmsg_level, part->cmsg_type, length);
        }
    }
}

union control {
    struct cmsghdr align;
    char bytes[512];
};

static void attach(struct msghdr *message, union control *control, int type, const void *data, size_t length)
{
    memset(control, 0, sizeof *control);
    message->msg_control = control->bytes;
    message->msg_controllen = CMSG_SPACE(length);
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    *part = (struct cmsghdr){ .cmsg_len = CMSG_LEN(length), .cmsg_level = SOL_SOCKET, .cmsg_type = type };
    memcpy(CMSG_DATA(part), data, length);
}

static void messages(void)
{
    int pair[2], packets[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
    char first[4] = "", second[20] = "";
    struct iovec out[] = { { "hello ", 6 }, { "world", 5 } }, in[] = { { first, 3 }, { second, 19 } };
    struct msghdr send_message = { .msg_iov = out, .msg_iovlen = 2 }, message = { .msg_iov = in, .msg_iovlen = 2 };
    CALL(sendmsg, "two pieces", pair[0], &send_message, 0);
    CALL(recvmsg, "two pieces", pair[1], &message, 0);
    line("recvmsg", "two pieces", "%s|%s", first, second);
    say_control("two pieces", &message);
    CALL(sendmsg, "packet", packets[0], &send_message, 0);
    message.msg_iovlen = 1;
    CALL(recvmsg, "packet, cut off", packets[1], &message, 0);
    say_control("packet, cut off", &message);
    CALL(sendmsg, "packet", packets[0], &send_message, MSG_EOR);
    CALL(recvmsg, "packet, MSG_TRUNC", packets[1], &message, MSG_TRUNC);
    say_control("packet, MSG_TRUNC", &message);
    CALL(recvmsg, "none, MSG_DONTWAIT", packets[1], &message, MSG_DONTWAIT);
    send_message.msg_iovlen = 1025, message.msg_iovlen = 1025;
    CALL(sendmsg, "too many pieces", pair[0], &send_message, 0);
    CALL(recvmsg, "too many pieces", pair[1], &message, MSG_DONTWAIT);
    send_message.msg_iovlen = 0, message.msg_iovlen = 2;
    CALL(sendmsg, "no pieces", packets[0], &send_message, 0);
    CALL(recvmsg, "no pieces", packets[1], &message, 0);
    send_message.msg_iovlen = 2;
    struct sockaddr_un name = PATH("absent");
    send_message.msg_name = &name, send_message.msg_namelen = sizeof name;
    CALL(sendmsg, "connected, with a name", pair[0], &send_message, 0);
    send_message.msg_namelen = -1;
    CALL(sendmsg, "negative length of the name", pair[0], &send_message, 0);
    send_message.msg_name = NULL, send_message.msg_namelen = 0;

    /* Descriptors. */
    int files[3];
    for (int i = 0; i < 3; i++) {
        char text[] = { 'f', 'i', 'l', 'e', '0' + i };
        files[i] = MUST(memfd_create("file", MFD_CLOEXEC));
        MUST(write(files[i], text, sizeof text));
    }
    union control control, got;
    static const struct { const char *what; int flags, room; } ways[] = {
        { "SCM_RIGHTS", 0, sizeof got },
        { "SCM_RIGHTS, MSG_CMSG_CLOEXEC", MSG_CMSG_CLOEXEC, sizeof got },
        { "SCM_RIGHTS, room for two", 0, CMSG_LEN(2 * sizeof(int)) },
        { "SCM_RIGHTS, no room", 0, 0 },
        { "SCM_RIGHTS, room for a header", 0, sizeof(struct cmsghdr) },
        { "SCM_RIGHTS, less room", 0, 10 },
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        attach(&send_message, &control, SCM_RIGHTS, files, sizeof files);
        CALL(sendmsg, ways[i].what, pair[0], &send_message, 0);
        message.msg_control = got.bytes, message.msg_controllen = ways[i].room;
        CALL(recvmsg, ways[i].what, pair[1], &message, ways[i].flags);
        line("recvmsg", ways[i].what, "length of control %zu", (size_t)message.msg_controllen);
        say_control(ways[i].what, &message);
    }
    attach(&send_message, &control, SCM_RIGHTS, (int[]){ 9999 }, sizeof(int));
    CALL(sendmsg, "SCM_RIGHTS of a closed descriptor", pair[0], &send_message, 0);
    attach(&send_message, &control, SCM_RIGHTS, (int[]){ -1 }, sizeof(int));
    CALL(sendmsg, "SCM_RIGHTS of descriptor -1", pair[0], &send_message, 0);
    attach(&send_message, &control, SCM_RIGHTS, files, sizeof(int));
    control.align.cmsg_len = 3;
    CALL(sendmsg, "header too short", pair[0], &send_message, 0);
    attach(&send_message, &control, SCM_RIGHTS, files, sizeof(int));
    control.align.cmsg_len = 1000;
    CALL(sendmsg, "header too long", pair[0], &send_message, 0);
    attach(&send_message, &control, 99, files, sizeof(int));
    CALL(sendmsg, "unknown type", pair[0], &send_message, 0);
    attach(&send_message, &control, SCM_RIGHTS, files, sizeof(int));
    control.align.cmsg_level = 99;
    CALL(sendmsg, "another level", pair[0], &send_message, MSG_DONTWAIT);
    MUST(recv(pair[1], second, sizeof second, 0));
    static char many[CMSG_SPACE(254 * sizeof(int))];
    send_message.msg_control = many, send_message.msg_controllen = sizeof many;
    *CMSG_FIRSTHDR(&send_message) = (struct cmsghdr){ CMSG_LEN(254 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
    for (int i = 0; i < 254; i++)
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&send_message)) + i * sizeof(int), files, sizeof(int));
    CALL(sendmsg, "SCM_RIGHTS of 254", pair[0], &send_message, 0);
    send_message.msg_controllen = 1 << 30;
    CALL(sendmsg, "too long a control", pair[0], &send_message, 0);
    send_message.msg_control = NULL, send_message.msg_controllen = 0;

    int on = 1;
    CALL(setsockopt, "SO_PASSCRED", pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    CALL(sendmsg, "without credentials", pair[0], &send_message, 0);
    message.msg_control = got.bytes, message.msg_controllen = sizeof got;
    CALL(recvmsg, "SO_PASSCRED", pair[1], &message, 0);
    say_control("SO_PASSCRED", &message);
    struct ucred who = { getpid(), geteuid(), getegid() };
    attach(&send_message, &control, SCM_CREDENTIALS, &who, sizeof who);
    CALL(sendmsg, "SCM_CREDENTIALS", pair[0], &send_message, 0);
    message.msg_control = got.bytes, message.msg_controllen = sizeof got;
    CALL(recvmsg, "SCM_CREDENTIALS", pair[1], &message, 0);
    say_control("SCM_CREDENTIALS", &message);
    who.pid = 0x3ffffff;
    attach(&send_message, &control, SCM_CREDENTIALS, &who, sizeof who);
    CALL(sendmsg, "SCM_CREDENTIALS of nobody", pair[0], &send_message, 0);
    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            who = (struct ucred){ getpid(), 0, 0 };
            attach(&send_message, &control, SCM_CREDENTIALS, &who, sizeof who);
            CALL(sendmsg, "SCM_CREDENTIALS of another", pair[0], &send_message, 0);
            struct { unsigned long now, most; } limit = { 20, 20 };
            attach(&send_message, &control, SCM_RIGHTS, files, sizeof files);
            MUST(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
            long result;
            for (int i = 0; i < 20 && (result = sendmsg(pair[0], &send_message, MSG_DONTWAIT)) > 0; i++) {}
            line("sendmsg", "SCM_RIGHTS, too many on the way", "%ld %s", result, error_name(errno));
        }
        exit(0);
    }
    finish(&nobody);
    close(pair[0]), close(pair[1]);

    /* By name. */
    int receiver = MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), sender = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un there = PATH("there"), here = PATH("here"), from;
    MUST(bind(receiver, ADDRESS_OF(there)));
    MUST(bind(sender, ADDRESS_OF(here)));
    send_message = (struct msghdr){ .msg_name = &there, .msg_namelen = sizeof there, .msg_iov = out, .msg_iovlen = 2 };
    CALL(sendmsg, "to a name", sender, &send_message, 0);
    message = (struct msghdr){ .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = in, .msg_iovlen = 2 };
    CALL(recvmsg, "from a name", receiver, &message, 0);
    say_name("recvmsg", "from a name", &from, message.msg_namelen);
    CALL(sendmsg, "to a name", sender, &send_message, 0);
    message.msg_namelen = 4;
    CALL(recvmsg, "from a name, little room", receiver, &message, 0);
    line("recvmsg", "from a name, little room", "length %u", message.msg_namelen);
    message.msg_namelen = -1;
    CALL(recvmsg, "from a name, negative room", receiver, &message, MSG_DONTWAIT);
    socklen_t length = sizeof from;
    CALL(sendto, "to a name", sender, "hello", 5, 0, ADDRESS_OF(there));
    CALL(recvfrom, "from a name", receiver, second, sizeof second, 0, (struct sockaddr *)&from, &length);
    say_name("recvfrom", "from a name", &from, length);
    CALL(sendto, "to a name", sender, "hello", 5, 0, ADDRESS_OF(there));
    length = -1;
    CALL(recvfrom, "from a name, negative room", receiver, second, sizeof second, 0, (struct sockaddr *)&from, &length);

    /* Several at once. */
    struct sockaddr_un names[4];
    char texts[4][10];
    struct iovec pieces[4], outs[4] = { { "zero", 4 }, { "one", 3 }, { "two", 3 }, { "three", 5 } };
    struct mmsghdr sends[4], receives[4];
    for (int i = 0; i < 4; i++) {
        pieces[i] = (struct iovec){ texts[i], sizeof texts[i] };
        sends[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &there, .msg_namelen = sizeof there, .msg_iov = &outs[i], .msg_iovlen = 1 },
                                     .msg_len = 77 };
        receives[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &pieces[i],
                                                     .msg_iovlen = 1 }, .msg_len = 77 };
    }
    CALL(sendmmsg, "four", sender, sends, 4, 0);
    for (int i = 0; i < 4; i++)
        line("sendmmsg", "four", "length %u", sends[i].msg_len);
    CALL(recvmmsg, "two of four", receiver, receives, 2, 0, NULL);
    CALL(recvmmsg, "MSG_WAITFORONE", receiver, receives + 2, 2, MSG_WAITFORONE, NULL);
    for (int i = 0; i < 4; i++) {
        line("recvmmsg", "four", "length %u %.*s", receives[i].msg_len, (int)receives[i].msg_len, texts[i]);
        say_name("recvmmsg", "four", &names[i], receives[i].msg_hdr.msg_namelen);
        receives[i].msg_hdr.msg_namelen = sizeof names[i];
        sends[i].msg_len = 77, receives[i].msg_len = 77;
    }
    sends[2].msg_hdr.msg_name = &name;
    CALL(sendmmsg, "the third has no such name", sender, sends, 4, 0);
    line("sendmmsg", "the third has no such name", "lengths %u %u %u", sends[0].msg_len, sends[1].msg_len, sends[2].msg_len);
    CALL(sendmmsg, "the first has no such name", sender, sends + 2, 2, 0);
    CALL(recvmmsg, "more than there are, MSG_DONTWAIT", receiver, receives, 4, MSG_DONTWAIT, NULL);
    line("recvmmsg", "more than there are", "lengths %u %u %u", receives[0].msg_len, receives[1].msg_len, receives[2].msg_len);
    CALL(recvmmsg, "none, MSG_DONTWAIT", receiver, receives, 4, MSG_DONTWAIT, NULL);
    CALL(recvmmsg, "no messages", receiver, receives, 0, MSG_DONTWAIT, NULL);
    CALL(sendmmsg, "no messages", sender, sends, 0, 0);
    struct timespec wrong = { 0, 1000000000 }, negative = { -1, 0 }, zero = { 0, 0 }, long_time = { 1000, 0 };
    CALL(recvmmsg, "nanoseconds too many", receiver, receives, 4, MSG_DONTWAIT, &wrong);
    CALL(recvmmsg, "negative time", receiver, receives, 4, MSG_DONTWAIT, &negative);
    MUST(sendto(sender, "x", 1, 0, ADDRESS_OF(there)));
    CALL(recvmmsg, "time 0", receiver, receives, 4, 0, &zero);
    line("recvmmsg", "time 0", "left %lld.%09ld", (long long)zero.tv_sec, zero.tv_nsec);
    MUST(sendto(sender, "x", 1, 0, ADDRESS_OF(there)));
    CALL(recvmmsg, "time left", receiver, receives, 1, 0, &long_time);
    MUST(sendto(sender, "x", 1, 0, ADDRESS_OF(there)));
    CALL(recvmmsg, "longest time", receiver, receives, 1, 0, &(struct timespec){ .tv_sec = LONG_MAX, .tv_nsec = 999999999 });
    line("recvmmsg", "time left", "%s", long_time.tv_sec > 900 && long_time.tv_sec <= 1000 ? "nearly all" : "?");
    struct mmsghdr *more = calloc(1100, sizeof *more);
    struct iovec one = { "x", 1 };
    for (int i = 0; i < 1100; i++)
        more[i].msg_hdr = (struct msghdr){ .msg_iov = &one, .msg_iovlen = 1 };
    int stream[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
    struct timeval never = { 0, 0 };
    int size = 1 << 22;
    setsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    MUST(setsockopt(stream[0], SOL_SOCKET, SO_SNDTIMEO, &never, sizeof never));
    line("sendmmsg", "more than 1024", "at most 1024 %s", yes(sendmmsg(stream[0], more, 1100, MSG_DONTWAIT) <= 1024));
    free(more);

    /* A queue of datagrams that is full. */
    int most = 0;
    while (sendto(sender, "x", 1, MSG_DONTWAIT, ADDRESS_OF(there)) == 1)
        most++;
    line("sendto", "queue full, MSG_DONTWAIT", "%s some %s", error_name(errno), yes(most > 0));
    sends[0].msg_hdr.msg_iovlen = 1;
    CALL(sendmmsg, "queue full, MSG_DONTWAIT", sender, sends, 2, MSG_DONTWAIT);
    CALL(connect, "datagrams", sender, ADDRESS_OF(there));
    close(receiver);
    CALL(send, "the receiver is gone", sender, "x", 1, 0);
    CALL(sendto, "its name is left", sender, "x", 1, 0, ADDRESS_OF(there));
    close(sender), close(packets[0]), close(packets[1]), close(stream[0]), close(stream[1]);
    for (int i = 0; i < 3; i++)
        close(files[i]);
    unlink("there"), unlink("here");
}

static void options(void)
{
    int pair[2], tcp = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    static const struct { const char *what; int level, name; } numbers[] = {
        { "SO_TYPE", SOL_SOCKET, SO_TYPE },
        { "SO_DOMAIN", SOL_SOCKET, SO_DOMAIN },
        { "SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL },
        { "SO_ERROR", SOL_SOCKET, SO_ERROR },
        { "SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN },
        { "SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR },
        { "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE },
        { "SO_PASSCRED", SOL_SOCKET, SO_PASSCRED },
        { "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY },
        { "unknown option", SOL_SOCKET, 9999 },
        { "unknown level", 9999, 1 },
    };
    int sockets[] = { pair[0], tcp };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        for (int j = 0; j < 2; j++) {
            int value = -7;
            socklen_t length = sizeof value;
            if (CALL(getsockopt, numbers[i].what, sockets[j], numbers[i].level, numbers[i].name, &value, &length) == 0)
                line("getsockopt", numbers[i].what, "%d length %u", value, length);
            value = 1;
            CALL(setsockopt, numbers[i].what, sockets[j], numbers[i].level, numbers[i].name, &value, sizeof value);
            if (getsockopt(sockets[j], numbers[i].level, numbers[i].name, &value, &length) == 0)
                line("setsockopt", numbers[i].what, "is %d", value);
        }
    }
    int value = 4321, got = 0;
    socklen_t length = sizeof got;
    CALL(setsockopt, "SO_SNDBUF", tcp, SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
    CALL(getsockopt, "SO_SNDBUF", tcp, SOL_SOCKET, SO_SNDBUF, &got, &length);
    line("getsockopt", "SO_SNDBUF", "%d", got);
    struct timeval time = { 3, 500000 }, seen = { 0 };
    length = sizeof seen;
    CALL(setsockopt, "SO_SNDTIMEO", tcp, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
    CALL(getsockopt, "SO_SNDTIMEO", tcp, SOL_SOCKET, SO_SNDTIMEO, &seen, &length);
    line("getsockopt", "SO_SNDTIMEO", "%lld.%06ld length %u", (long long)seen.tv_sec, (long)seen.tv_usec, length);
    time.tv_usec = 1000000;
    CALL(setsockopt, "microseconds too many", tcp, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
    CALL(setsockopt, "time too short", tcp, SOL_SOCKET, SO_SNDTIMEO, &time, 4);
    CALL(setsockopt, "number too short", tcp, SOL_SOCKET, SO_REUSEADDR, &value, 1);
    CALL(setsockopt, "length 0", tcp, SOL_SOCKET, SO_REUSEADDR, &value, 0);
    CALL(setsockopt, "negative length", tcp, SOL_SOCKET, SO_REUSEADDR, &value, -1);
    length = -1;
    CALL(getsockopt, "negative length", tcp, SOL_SOCKET, SO_REUSEADDR, &value, &length);
    length = 2;
    value = -1;
    CALL(getsockopt, "cut off", tcp, SOL_SOCKET, SO_TYPE, &value, &length);
    line("getsockopt", "cut off", "length %u value %#x", length, (unsigned)value);
    struct ucred who = { 0 };
    length = sizeof who;
    CALL(getsockopt, "SO_PEERCRED", pair[0], SOL_SOCKET, SO_PEERCRED, &who, &length);
    line("getsockopt", "SO_PEERCRED", "pid %s uid %u gid %u length %u", yes(who.pid == getpid()), who.uid, who.gid, length);
    char device[16] = "";
    length = sizeof device;
    CALL(setsockopt, "SO_BINDTODEVICE", tcp, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2);
    CALL(getsockopt, "SO_BINDTODEVICE", tcp, SOL_SOCKET, SO_BINDTODEVICE, device, &length);
    line("getsockopt", "SO_BINDTODEVICE", "%s length %u", device, length);
    CALL(setsockopt, "no such device", tcp, SOL_SOCKET, SO_BINDTODEVICE, "absent", 6);
    close(pair[0]), close(pair[1]), close(tcp);
}

int main(void)
{
    begin();
    loopback_up();
    making();
    names();
    connecting();
    inet();
    transfers();
    fortified();
    messages();
    options();
    return 0;
}
