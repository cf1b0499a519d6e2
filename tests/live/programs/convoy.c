/* A convoy: one thread holds a mutex most of the time, sleeping and computing in turn; others queue
 * for it. Others again wait in a pipe, in a sleep, and for a condition that never comes.
 * Arguments: seconds, "pi" for a mutex with priority inheritance. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))
#define WAITERS 3

static pthread_mutex_t mutex;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t of_never = PTHREAD_MUTEX_INITIALIZER;
static volatile int done;
static volatile unsigned long sink;
static int ends[2];

KEEP static void pause_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
	sink++;
}

KEEP void hold_and_sleep(void)
{
	pthread_mutex_lock(&mutex);
	pause_ms(300);
	pthread_mutex_unlock(&mutex);
}

KEEP void *holder(void *unused)
{
	pthread_setname_np(pthread_self(), "holder");
	while (!done) {
		hold_and_sleep();
		pause_ms(1);
	}
	return unused;
}

KEEP void want_lock(void)
{
	pthread_mutex_lock(&mutex);
	sink++;
	pthread_mutex_unlock(&mutex);
	pause_ms(5);
}

KEEP void *waiter(void *unused)
{
	pthread_setname_np(pthread_self(), "waiter");
	while (!done)
		want_lock();
	return unused;
}

KEEP void *reader(void *unused)
{
	char byte;

	pthread_setname_np(pthread_self(), "reader");
	while (read(ends[0], &byte, 1) > 0)
		sink++;
	return unused;
}

KEEP void *idler(void *unused)
{
	pthread_setname_np(pthread_self(), "idler");
	pthread_mutex_lock(&of_never);
	pthread_cond_wait(&never, &of_never);
	return unused;
}

KEEP void *sleeper(void *unused)
{
	pthread_setname_np(pthread_self(), "sleeper");
	while (!done)
		pause_ms(1000);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attributes;
	pthread_t thread;

	pthread_mutexattr_init(&attributes);
	if (argc > 2 && !strcmp(argv[2], "pi"))
		pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&mutex, &attributes);
	if (pipe(ends))
		return 1;
	pthread_create(&thread, NULL, holder, NULL);
	pause_ms(20);
	for (int i = 0; i < WAITERS; i++)
		pthread_create(&thread, NULL, waiter, NULL);
	pthread_create(&thread, NULL, reader, NULL);
	pthread_create(&thread, NULL, idler, NULL);
	pthread_create(&thread, NULL, sleeper, NULL);
	pause_ms(argc > 1 ? atof(argv[1]) * 1000 : 3000);
	_exit(0);
}
