/* Memory of known size by function: keep() holds 200 MiB, churn() maps, touches and frees 400 MiB
 * in all, huge() holds 64 MiB of huge pages, filled() holds 50 MiB that the kernel wrote into,
 * heap() grows the heap by 30 MiB. Then it waits for its input to end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))
#define MIB (1UL << 20)

static volatile char sink;

KEEP static char *map(unsigned long size)
{
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		_exit(2);
	return at;
}

KEEP static void touch(char *at, unsigned long size)
{
	for (unsigned long i = 0; i < size; i += 4096)
		at[i] = 1;
	sink++;
}

KEEP void keep(void)
{
	char *at = map(200 * MIB);

	madvise(at, 200 * MIB, MADV_NOHUGEPAGE);
	touch(at, 200 * MIB);
	sink++;
}

KEEP void churn(void)
{
	for (int i = 0; i < 20; i++) {
		char *at = map(20 * MIB);

		madvise(at, 20 * MIB, MADV_NOHUGEPAGE);
		touch(at, 20 * MIB);
		munmap(at, 20 * MIB);
	}
	sink++;
}

KEEP void huge(void)
{
	char *at = map(66 * MIB);

	at = (char *)(((unsigned long)at + 2 * MIB - 1) & ~(2 * MIB - 1));
	madvise(at, 64 * MIB, MADV_HUGEPAGE);
	touch(at, 64 * MIB);
	sink++;
}

KEEP void filled(void)
{
	char *at = map(50 * MIB);
	int zero = open("/dev/zero", O_RDONLY);

	madvise(at, 50 * MIB, MADV_NOHUGEPAGE);
	for (unsigned long i = 0; i < 50; i++)
		if (read(zero, at + i * MIB, MIB) != (long)MIB)
			_exit(3);
	close(zero);
	sink++;
}

KEEP void heap(void)
{
	char *at = sbrk(30 * MIB);

	touch(at, 30 * MIB);
	sink++;
}

int main(void)
{
	char byte;

	keep();
	churn();
	huge();
	filled();
	heap();
	puts("ready");
	fflush(stdout);
	return read(0, &byte, 1) > 0;
}
