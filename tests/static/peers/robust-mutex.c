/* C's side of src/bin/robust-mutex.rs: holds the mutex until it is killed; says if the owner had died. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
    pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mutex == MAP_FAILED)
        return 1;
    int locked = pthread_mutex_lock(mutex);
    if (locked == EOWNERDEAD) {
        puts("the owner died");
        pthread_mutex_consistent(mutex);
    } else if (locked) {
        return 1;
    }
    puts("held");
    fflush(stdout);
    for (;;)
        pause();
}
