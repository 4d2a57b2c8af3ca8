/* The C side of the mutex tests. MUTEX is "@NAME:OFFSET", in the shared memory object /NAME, or "%NAME", whose
   first 24 bytes are at the end of that object's page, and the rest in a page of this process.

   mutex layout                 prints sizeof(pthread_mutex_t), and the offsets of its fields
   mutex init MUTEX KIND        makes one: normal, recursive, errorcheck, adaptive, weak (not robust); with "inherit" behind
   mutex try MUTEX              pthread_mutex_trylock, and unlocks; prints the result
   mutex hold MUTEX             locks, prints the result and ends only when it is killed
   mutex leave MUTEX            locks and ends: prints the result
   mutex ceiling MUTEX          pthread_mutex_getprioceiling, pthread_mutex_setprioceiling: prints the results
   mutex repair MUTEX           locks, pthread_mutex_consistent, unlocks; prints the results
   mutex abandon MUTEX          locks and unlocks; prints the results
   mutex count MUTEX COUNTER N  N times: lock, add 1 to the int at COUNTER ("@NAME:OFFSET"), unlock */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
	int split = where[0] == '%';
	const char *colon = split ? where + strlen(where) : strchr(where, ':');
	check(colon != NULL, where);
	strncat(name, where + 1, (size_t)(colon - where - 1));
	int fd = shm_open(name, O_RDWR, 0);
	check(fd != -1, name);
	char *start = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(start != MAP_FAILED, "mmap");
	start = mmap(start, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	check(start != MAP_FAILED, "mmap");
	close(fd);
	return start + (split ? 4096 - 24 : atoi(colon + 1));
}

static const char *name(int error)
{
	return error == 0 ? "0" : strerrorname_np(error);
}

static void init(pthread_mutex_t *mutex, const char *kind, int inherit)
{
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (strncmp(kind, "weak", 4))
		pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (!strcmp(kind, "explicit"))
		pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_NORMAL);
	if (strstr(kind, "recursive"))
		pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	if (strstr(kind, "errorcheck"))
		pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	if (!strcmp(kind, "adaptive"))
		pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
	if (inherit)
		pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	errno = pthread_mutex_init(mutex, &attributes);
	check(errno == 0, "pthread_mutex_init");
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(command, "layout")) {
		pthread_mutex_t m;
#define AT(field) (size_t)((char *)&m.__data.field - (char *)&m)
		printf("%zu %zu %zu %zu %zu %zu %zu %zu\n", sizeof m, AT(__lock), AT(__count), AT(__owner),
		       AT(__nusers), AT(__kind), AT(__list.__prev), AT(__list.__next));
		return 0;
	}
	check(argc > 2, "a mutex");
	pthread_mutex_t *mutex = memory(argv[2]);
	if (!strcmp(command, "init")) {
		init(mutex, argv[3], argc > 4);
	} else if (!strcmp(command, "try")) {
		int got = pthread_mutex_trylock(mutex);
		puts(name(got));
		if (got == 0)
			pthread_mutex_unlock(mutex);
	} else if (!strcmp(command, "hold")) {
		puts(name(pthread_mutex_lock(mutex)));
		for (;;)
			pause();
	} else if (!strcmp(command, "leave")) {
		puts(name(pthread_mutex_lock(mutex)));
	} else if (!strcmp(command, "ceiling")) {
		int old, got = pthread_mutex_getprioceiling(mutex, &old);
		printf("%s %s\n", name(got), name(pthread_mutex_setprioceiling(mutex, 10, &old)));
	} else if (!strcmp(command, "repair")) {
		const char *got = name(pthread_mutex_lock(mutex));
		const char *consistent = name(pthread_mutex_consistent(mutex));
		printf("%s %s %s\n", got, consistent, name(pthread_mutex_unlock(mutex)));
	} else if (!strcmp(command, "abandon")) {
		const char *got = name(pthread_mutex_lock(mutex));
		printf("%s %s\n", got, name(pthread_mutex_unlock(mutex)));
	} else if (!strcmp(command, "count")) {
		volatile int *counter = memory(argv[3]);
		for (int n = atoi(argv[4]); n > 0; n--) {
			errno = pthread_mutex_lock(mutex);
			check(errno == 0, "pthread_mutex_lock");
			*counter += 1;
			errno = pthread_mutex_unlock(mutex);
			check(errno == 0, "pthread_mutex_unlock");
		}
	} else {
		fprintf(stderr, "mutex: no command \"%s\"\n", command);
		return 2;
	}
	return 0;
}
