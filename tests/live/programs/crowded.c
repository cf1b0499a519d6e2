/* A process with many mappings of code: pages of its own file, far apart. Then chain.c's way of
 * burning CPU time: main → crowd → deep → burn. Arguments: seconds, mappings. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

static volatile uint64_t sink;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

KEEP void burn(double seconds)
{
	double end = now() + seconds;

	while (now() < end)
		for (int i = 0; i < 100000; i++)
			sink += i * sink;
}

KEEP int deep(double seconds)
{
	burn(seconds);
	return sink + 1;
}

KEEP int crowd(double seconds)
{
	return deep(seconds) + 2;
}

int main(int argc, char **argv)
{
	int own = open("/proc/self/exe", O_RDONLY), count = argc > 2 ? atoi(argv[2]) : 10000;

	for (int i = 0; i < count; i++)
		if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, own, 0) == MAP_FAILED)
			return 2;
	if (write(1, "mapped\n", 7) != 7)
		return 3;
	return crowd(atof(argv[1])) & 0;
}
