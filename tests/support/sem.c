/* The C side of the semaphore tests. SEM is "/NAME", a named semaphore, or "@NAME:OFFSET", one in
   the shared memory object /NAME.

   sem size                      prints sizeof(sem_t)
   sem make /NAME VALUE          makes a named semaphore that must not exist
   sem init SEM VALUE            makes an unnamed one, process-shared
   sem value SEM                 prints its value
   sem take SEM                  sem_trywait
   sem timed SEM MILLISECONDS    sem_timedwait; prints "taken" or "timed out"
   sem pong A B N                N times: wait for A, post B
   sem count SEM COUNTER N       N times: wait, add 1 to the int at COUNTER ("@NAME:OFFSET"), post */

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static void *memory(const char *where)
{
	char name[256] = "/";
	const char *colon = strchr(where, ':');
	check(colon != NULL, where);
	strncat(name, where + 1, (size_t)(colon - where - 1));
	int fd = shm_open(name, O_RDWR, 0);
	check(fd != -1, name);
	char *start = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(start != MAP_FAILED, "mmap");
	close(fd);
	return start + atoi(colon + 1);
}

static sem_t *semaphore(const char *where)
{
	if (where[0] == '@')
		return memory(where);
	sem_t *sem = sem_open(where, 0);
	check(sem != SEM_FAILED, where);
	return sem;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	if (!strcmp(command, "size")) {
		printf("%zu\n", sizeof(sem_t));
	} else if (!strcmp(command, "make")) {
		sem_t *sem = sem_open(argv[2], O_CREAT | O_EXCL, 0600, (unsigned)atoi(argv[3]));
		check(sem != SEM_FAILED, "sem_open");
	} else if (!strcmp(command, "init")) {
		check(sem_init(semaphore(argv[2]), 1, (unsigned)atoi(argv[3])) == 0, "sem_init");
	} else if (!strcmp(command, "value")) {
		int value;
		check(sem_getvalue(semaphore(argv[2]), &value) == 0, "sem_getvalue");
		printf("%d\n", value);
	} else if (!strcmp(command, "take")) {
		check(sem_trywait(semaphore(argv[2])) == 0, "sem_trywait");
	} else if (!strcmp(command, "timed")) {
		struct timespec at;
		clock_gettime(CLOCK_REALTIME, &at);
		long long ns = at.tv_nsec + atoll(argv[3]) * 1000000;
		at.tv_sec += ns / 1000000000;
		at.tv_nsec = (long)(ns % 1000000000);
		int done = sem_timedwait(semaphore(argv[2]), &at);
		check(done == 0 || errno == ETIMEDOUT, "sem_timedwait");
		puts(done == 0 ? "taken" : "timed out");
	} else if (!strcmp(command, "pong")) {
		sem_t *a = semaphore(argv[2]), *b = semaphore(argv[3]);
		for (int i = atoi(argv[4]); i > 0; i--) {
			check(sem_wait(a) == 0, "sem_wait");
			check(sem_post(b) == 0, "sem_post");
		}
	} else if (!strcmp(command, "count")) {
		sem_t *sem = semaphore(argv[2]);
		volatile int *counter = memory(argv[3]);
		for (int i = atoi(argv[4]); i > 0; i--) {
			check(sem_wait(sem) == 0, "sem_wait");
			*counter = *counter + 1;
			check(sem_post(sem) == 0, "sem_post");
		}
	} else {
		fprintf(stderr, "no such command: %s\n", command);
		return 2;
	}
	return 0;
}
