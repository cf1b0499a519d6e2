/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test only. Uninterruptible sleeps (state D) of a length that is known: sleepers HOW MILLISECONDS
 *
 *	vfork	this process waits for its child, killable
 *	mutex	a process waits for the mutex of a pipe
 *	rwsem	a process waits for the rwsem of an inode
 *
 * The lock's holder is stuck in a page fault that nobody answers for so long: it copies from memory
 *of a userfaultfd while it has the lock. Prints "HOLDER-PID HOLDER-TID WAITER-PID" once all wait
 *(vfork: "0 0 PID" before); ends when they do.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static int target;
static char *fault_page;
static volatile pid_t holder_tid;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void sleep_ms(int ms)
{
	usleep((useconds_t)ms * 1000);
}

static void *hold(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "holder");
	holder_tid = (pid_t)syscall(SYS_gettid);
	if (write(target, fault_page, 1) < 0)
		fail("write");
	return NULL;
}

static int unanswered_memory(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		fail("userfaultfd");
	fault_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (uintptr_t)fault_page;
	range.range.len = PAGE;
	if (ioctl(fd, UFFDIO_REGISTER, &range))
		fail("UFFDIO_REGISTER");
	return fd;
}

/* In a process of its own; returns when the lock is free again. */
static void hold_for(int ms, int ready)
{
	int fd = unanswered_memory();
	struct uffdio_zeropage answer = {.range = {(uintptr_t)fault_page, PAGE}};
	pthread_t thread;
	pid_t tid;

	pthread_create(&thread, NULL, hold, NULL);
	sleep_ms(200); /* until it has the lock and is stuck */
	tid = holder_tid;
	if (write(ready, &tid, sizeof(tid)) != sizeof(tid))
		fail("ready");
	sleep_ms(ms);
	if (ioctl(fd, UFFDIO_ZEROPAGE, &answer))
		fail("UFFDIO_ZEROPAGE");
	pthread_join(thread, NULL);
}

static void pile_up(int ms)
{
	pid_t holder, waiter, tid;
	int ready[2];

	if (pipe(ready))
		fail("pipe");
	holder = fork();
	if (!holder) {
		hold_for(ms, ready[1]);
		exit(0);
	}
	if (read(ready[0], &tid, sizeof(tid)) != sizeof(tid))
		fail("ready");
	waiter = fork();
	if (!waiter) {
		prctl(PR_SET_NAME, "waiter");
		exit(write(target, "x", 1) != 1);
	}
	printf("%d %d %d\n", holder, tid, waiter);
	fflush(stdout);
	waitpid(waiter, NULL, 0);
	waitpid(holder, NULL, 0);
}

int main(int argc, char **argv)
{
	int ms = argc == 3 ? atoi(argv[2]) : 0;
	int ends[2];

	if (!ms)
		return 2;
	if (!strcmp(argv[1], "vfork")) {
		printf("0 0 %d\n", getpid());
		fflush(stdout);
		if (!vfork()) {
			sleep_ms(ms);
			_exit(0);
		}
		wait(NULL);
		return 0;
	}
	if (!strcmp(argv[1], "mutex")) {
		if (pipe(ends))
			fail("pipe");
		target = ends[1];
	} else {
		target = memfd_create("pile", 0);
	}
	pile_up(ms);
	return 0;
}
