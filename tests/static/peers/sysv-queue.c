/* src/bin/sysv-queue.rs in C, as far as size goes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

struct message {
    long type;
    char text[8192 + 1];
};

static int print(int fd, const char *text, size_t len)
{
    return write(fd, text, len) == (ssize_t)len ? 0 : -1;
}

int main(int argc, char **argv)
{
    static struct message message;
    const char *command = argc > 1 ? argv[1] : "";
    key_t key = argc > 2 ? (key_t)strtoul(argv[2], NULL, 0) : 0;
    long type = argc > 3 ? strtol(argv[3], NULL, 0) : 0;
    int queue, done = -1;

    if (!strcmp(command, "send") && argc == 5) {
        size_t len = strlen(argv[4]);
        if (len >= sizeof message.text) {
            errno = EINVAL;
        } else if ((queue = msgget(key, IPC_CREAT | 0600)) >= 0) {
            message.type = type;
            memcpy(message.text, argv[4], len);
            done = msgsnd(queue, &message, len, 0);
        }
    } else if (!strcmp(command, "receive") && argc == 4) {
        if ((queue = msgget(key, 0)) >= 0 &&
            (done = msgrcv(queue, &message, sizeof message.text - 1, type, 0)) >= 0) {
            message.text[done] = '\n';
            done = print(1, message.text, done + 1);
        }
    } else if (!strcmp(command, "remove") && argc == 3) {
        if ((queue = msgget(key, 0)) >= 0)
            done = msgctl(queue, IPC_RMID, NULL);
    } else {
        static const char usage[] = "usage: sysv-queue send KEY TYPE TEXT | receive KEY TYPE | remove KEY\n";
        print(2, usage, sizeof usage - 1);
        return 64;
    }
    if (done < 0) {
        char report[] = "sysv-queue: error 000\n", *digit = report + sizeof report - 2;
        for (int number = errno; number; number /= 10)
            *--digit += number % 10;
        print(2, report, sizeof report - 1);
        return 2;
    }
    return 0;
}
