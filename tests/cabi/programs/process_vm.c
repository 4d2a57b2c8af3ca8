/* process_vm_readv(2). */
#include "say.h"
#include <sys/uio.h>

static char ours[64], theirs[64] = "0123456789abcdefghijklmnopqrstuvwxyz";

#define PIECES(...) (struct iovec[]){ __VA_ARGS__ }, sizeof (struct iovec[]){ __VA_ARGS__ } / sizeof(struct iovec)

int main(void)
{
    begin();
    struct child child = fork_child();
    if (!child.pid) {
        strcpy(theirs, "THE CHILD'S OWN BYTES, AND MORE");
        char *edge = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        munmap(edge + 4096, 4096);
        memset(edge, 'e', 4096);
        if (write(child.out, &edge, sizeof edge) != sizeof edge)
            exit(1);
        hear(&child);
        line("process_vm_writev", "in the child", "%s", theirs);
        exit(0);
    }
    char *edge;
    if (read(child.in, &edge, sizeof edge) != sizeof edge)
        exit(1);
    pid_t pid = child.pid;

    CALL(process_vm_readv, "one piece", pid, PIECES({ ours, 20 }), PIECES({ theirs, 20 }), 0);
    line("process_vm_readv", "one piece", "%s", ours);
    memset(ours, '-', 40);
    CALL(process_vm_readv, "several pieces", pid, PIECES({ ours, 3 }, { ours + 10, 5 }), PIECES({ theirs + 4, 5 }, { theirs, 0 }, { theirs + 20, 3 }), 0);
    line("process_vm_readv", "several pieces", "%.16s", ours);
    CALL(process_vm_readv, "here is less", pid, PIECES({ ours, 2 }), PIECES({ theirs, 20 }), 0);
    CALL(process_vm_readv, "there is less", pid, PIECES({ ours, 20 }), PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "no pieces", pid, NULL, 0, NULL, 0, 0);
    CALL(process_vm_readv, "no pieces here", pid, NULL, 0, PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "no pieces there", pid, PIECES({ ours, 2 }), NULL, 0, 0);
    CALL(process_vm_readv, "to the edge and beyond", pid, PIECES({ ours, 20 }), PIECES({ edge + 4090, 20 }), 0);
    CALL(process_vm_readv, "the second piece is nowhere", pid, PIECES({ ours, 20 }), PIECES({ theirs, 5 }, { edge + 4096, 5 }), 0);
    CALL(process_vm_readv, "nowhere there", pid, PIECES({ ours, 20 }), PIECES({ edge + 4096, 5 }), 0);
    CALL(process_vm_readv, "NULL there", pid, PIECES({ ours, 20 }), PIECES({ NULL, 5 }), 0);
    CALL(process_vm_readv, "flag", pid, PIECES({ ours, 2 }), PIECES({ theirs, 2 }), 1);
    CALL(process_vm_readv, "length of a piece there", pid, PIECES({ ours, 2 }), PIECES({ theirs, -1 }), 0);
    CALL(process_vm_readv, "length of the second piece there", pid, PIECES({ ours, 2 }), PIECES({ theirs, 1 }, { theirs, -1 }), 0);
    CALL(process_vm_readv, "length of a piece here", pid, PIECES({ ours, -1 }), PIECES({ theirs, 2 }), 0);
    struct iovec *many = calloc(1100, sizeof *many);
    for (int i = 0; i < 1100; i++)
        many[i] = (struct iovec){ ours, 1 };
    CALL(process_vm_readv, "1024 pieces here", pid, many, 1024, PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "1025 pieces here", pid, many, 1025, PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "1025 pieces there", pid, PIECES({ ours, 2 }), many, 1025, 0);
    CALL(process_vm_readv, "no such process", 0x3ffffff, PIECES({ ours, 2 }), PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "process -1", -1, PIECES({ ours, 2 }), PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "process 0", 0, PIECES({ ours, 2 }), PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "process -5", -5, PIECES({ ours, 2 }), PIECES({ theirs, 2 }), 0);
    CALL(process_vm_readv, "itself", getpid(), PIECES({ ours, 5 }), PIECES({ theirs, 5 }), 0);
    line("process_vm_readv", "itself", "%.5s", ours);

    char text[] = "written";
    CALL(process_vm_writev, "one piece", pid, PIECES({ text, 7 }), PIECES({ theirs, 7 }), 0);
    CALL(process_vm_writev, "several pieces", pid, PIECES({ text, 3 }, { text + 4, 3 }), PIECES({ theirs + 10, 2 }, { theirs + 14, 4 }), 0);
    CALL(process_vm_writev, "no pieces", pid, NULL, 0, NULL, 0, 0);
    CALL(process_vm_writev, "no pieces here", pid, NULL, 0, PIECES({ theirs, 2 }), 0);
    CALL(process_vm_writev, "no pieces there", pid, PIECES({ text, 2 }), NULL, 0, 0);
    CALL(process_vm_writev, "to the edge and beyond", pid, PIECES({ ours, 20 }), PIECES({ edge + 4090, 20 }), 0);
    CALL(process_vm_writev, "nowhere there", pid, PIECES({ ours, 20 }), PIECES({ edge + 4096, 5 }), 0);
    CALL(process_vm_writev, "read only there", pid, PIECES({ ours, 20 }), PIECES({ (void *)"constant", 5 }), 0);
    CALL(process_vm_writev, "flag", pid, PIECES({ text, 2 }), PIECES({ theirs, 2 }), 1);
    CALL(process_vm_writev, "length of a piece there", pid, PIECES({ text, 2 }), PIECES({ theirs, -1 }), 0);
    CALL(process_vm_writev, "length of a piece here", pid, PIECES({ text, -1 }), PIECES({ theirs, 2 }), 0);
    CALL(process_vm_writev, "1025 pieces here", pid, many, 1025, PIECES({ theirs, 2 }), 0);
    CALL(process_vm_writev, "1025 pieces there", pid, PIECES({ ours, 2 }), many, 1025, 0);
    CALL(process_vm_writev, "no such process", 0x3ffffff, PIECES({ text, 2 }), PIECES({ theirs, 2 }), 0);
    struct child nobody = fork_child();
    if (!nobody.pid) {
        if (become_nobody()) {
            CALL(process_vm_readv, "another's", pid, PIECES({ ours, 2 }), PIECES({ theirs, 2 }), 0);
            CALL(process_vm_writev, "another's", pid, PIECES({ text, 2 }), PIECES({ theirs, 2 }), 0);
        }
        exit(0);
    }
    finish(&nobody);
    tell(&child);
    finish(&child);
    free(many);
    return 0;
}
