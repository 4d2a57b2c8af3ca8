/* src/bin/sysv-queue.rs in C, as far as size goes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
    long type;
    char text[8192];
};

int main(int argc, char **argv)
{
    static struct message message;
    const char *command = argc > 1 ? argv[1] : "";
    key_t key = argc > 2 ? (key_t)strtoul(argv[2], NULL, 0) : 0;
    long type = argc > 3 ? strtol(argv[3], NULL, 0) : 0;
    int queue, done = -1;

    if (!strcmp(command, "send") && argc == 5) {
        size_t len = strlen(argv[4]);
        if ((queue = msgget(key, IPC_CREAT | 0600)) >= 0 && len <= sizeof message.text) {
            message.type = type;
            memcpy(message.text, argv[4], len);
            done = msgsnd(queue, &message, len, 0);
        }
    } else if (!strcmp(command, "receive") && argc == 4) {
        if ((queue = msgget(key, 0)) >= 0 &&
            (done = msgrcv(queue, &message, sizeof message.text, type, 0)) >= 0)
            printf("%.*s\n", done, message.text);
    } else if (!strcmp(command, "remove") && argc == 3) {
        if ((queue = msgget(key, 0)) >= 0)
            done = msgctl(queue, IPC_RMID, NULL);
    } else {
        fprintf(stderr, "usage: sysv-queue send KEY TYPE TEXT | receive KEY TYPE | remove KEY\n");
        return 64;
    }
    if (done < 0) {
        perror("sysv-queue");
        return 2;
    }
    return 0;
}
