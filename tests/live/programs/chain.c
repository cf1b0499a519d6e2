/* Known chains with known shares: main → turn → {deep → deeper → spin_a} 60 %, {spin_b} 30 %, and a
 * comparison function called back by libc's qsort 10 %. Argument: seconds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEEP __attribute__((noinline, noclone))

static volatile uint64_t sink;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

KEEP static void burn(uint64_t ns)
{
	uint64_t end = now() + ns;

	while (now() < end)
		for (int i = 0; i < 2000; i++)
			sink += i * sink;
}

KEEP int spin_a(int unit)
{
	burn(unit * 6000);
	return unit + 1;
}

KEEP int spin_b(int unit)
{
	burn(unit * 3000);
	return unit + 2;
}

KEEP int deeper(int unit)
{
	return spin_a(unit) + 3;
}

KEEP int deep(int unit)
{
	volatile char room[3000]; /* a frame larger than what is read of a stack at once */

	room[unit % 3000] = 1;
	return deeper(unit) + room[unit % 3000];
}

static int unit_of_sort;

KEEP int compare(const void *a, const void *b)
{
	(void)a;
	(void)b;
	burn(unit_of_sort * 1000);
	return 0;
}

KEEP int sort(int unit)
{
	int pair[2] = {1, 2};

	unit_of_sort = unit;
	qsort(pair, 2, sizeof(pair[0]), compare);
	return pair[0] + 1;
}

KEEP int turn(int unit)
{
	return deep(unit) + spin_b(unit) + sort(unit);
}

int main(int argc, char **argv)
{
	uint64_t end = now() + (uint64_t)(atof(argc > 1 ? argv[1] : "2") * 1e9);
	uint32_t random = 1;

	while (now() < end) { /* 5 to 15 ms, so that turns and samples do not keep step */
		random = random * 1103515245 + 12345;
		sink += turn(500 + (random >> 16) % 1001);
	}
	return 0;
}
