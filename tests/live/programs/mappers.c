/* Four threads that map, touch and unmap memory: all of them want the process's mmap_lock.
 * Argument: seconds. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

static volatile int done, sink;

KEEP void map_and_unmap(void)
{
	char *at = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		_exit(2);
	for (int i = 0; i < 1 << 22; i += 4096)
		at[i] = 1;
	munmap(at, 1 << 22);
	sink++; /* so that munmap is called, not jumped to */
}

KEEP void *mapper(void *unused)
{
	while (!done)
		map_and_unmap();
	return unused;
}

int main(int argc, char **argv)
{
	struct timespec t = {argc > 1 ? atoi(argv[1]) : 2, 0};
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, mapper, NULL);
	nanosleep(&t, NULL);
	done = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
