/* Inlined into each other, cold parts, assembler without a size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((always_inline)) static inline int twice(int value)
{
	return value * 2 + atoi("1");
}

__attribute__((always_inline)) static inline int four_times(int value)
{
	return twice(value) + twice(value + 3);
}

__attribute__((noinline)) static int hidden(int value)
{
	if (__builtin_expect(value == 12345, 0)) {
		fprintf(stderr, "unlikely %d\n", value);
		abort();
	}
	return four_times(value) - 7;
}

__attribute__((noinline)) int exported(int value)
{
	char text[64];
	memset(text, value, sizeof text);
	return hidden(value) + text[value & 63];
}

int exported_alias(int value) __attribute__((alias("exported")));

__asm__(".text\n.globl written_by_hand\nwritten_by_hand:\n\tnop\n\tnop\n\tnop\n\tret\n");
extern int written_by_hand(void);

int main(int argc, char **argv)
{
	int sum = 0;
	if (argc > 1 && !strcmp(argv[1], "wait"))
		pause();
	for (int i = 0; i < argc; i++)
		sum += exported(i) + (int)strlen(argv[i]);
	written_by_hand();
	printf("%d %d\n", sum, exported_alias(1));
	return 0;
}
