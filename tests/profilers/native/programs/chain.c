/*
 * Calls through frames of every kind, then waits: main, plain, variadic, dynamic, aligned, large,
 * recursive (3 times), wait_here. With "signal" it waits in a handler that interrupted wait_here,
 * with "exit" not at all.
 */
#include <alloca.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FRAME __attribute__((noinline, noclone, used))

volatile int sink;
static int in_handler, is_short;

FRAME int wait_here(int value)
{
	char text[] = "ready\n";

	if (write(1, text, strlen(text)) < 0)
		return 1;
	while (!is_short) {
		sink += value;
		if (in_handler)
			raise(SIGUSR1);
		pause();
	}
	return sink;
}

FRAME void on_signal(int number)
{
	in_handler = 0;
	wait_here(number);
	sink++;
}

FRAME int recursive(int depth)
{
	int result = depth ? recursive(depth - 1) : wait_here(depth);

	sink += result;
	return result + sink;
}

FRAME int large(int value)
{
	volatile char room[70000];

	room[value & 0xff] = 1;
	sink += recursive(2);
	return room[value & 0xff];
}

FRAME int aligned(int value)
{
	volatile int room[16] __attribute__((aligned(64)));

	room[value & 15] = value;
	sink += large(value);
	return room[value & 15];
}

FRAME int dynamic(int value)
{
	volatile char *room = alloca(value * 16);

	room[value] = 1;
	sink += aligned(value);
	return room[value];
}

FRAME int variadic(int count, ...)
{
	va_list values;
	int result = 0;

	va_start(values, count);
	while (count--)
		result += va_arg(values, int);
	va_end(values);
	sink += dynamic(result);
	return result;
}

FRAME int plain(int a, int b)
{
	if (a > 1000) /* a way out before anything is saved */
		return b;
	sink += variadic(3, a, b, 5);
	return sink * a;
}

int main(int count, char **values)
{
	signal(SIGUSR1, on_signal);
	in_handler = count > 1 && values[1][0] == 's';
	is_short = count > 1 && values[1][0] == 'e';
	sink += plain(count, 7);
	return 0;
}
