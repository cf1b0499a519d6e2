/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only native code of the agent: drain a BPF ring buffer into a flat array of fixed-size
 * records, with the memory ordering that Python cannot express. Protocol: kernel/bpf/ringbuf.c.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUSY (1U << 31)
#define DISCARDED (1U << 30)
#define HEADER 8

struct ring {
	uint64_t *consumer; /* our page, writable */
	const uint64_t *producer;
	const uint8_t *data; /* mapped once: its pages count as resident, used or not */
	size_t size;
	size_t page;
};

int huatuo_ring_close(struct ring *ring)
{
	munmap(ring->consumer, ring->page);
	munmap((void *)ring->producer, ring->page + ring->size);
	free(ring);
	return 0;
}

/* `size`: max_entries of the map. Returns 0 or -errno. */
int huatuo_ring_open(int map_fd, size_t size, struct ring **opened)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct ring *ring = calloc(1, sizeof(*ring));
	void *area;

	if (!ring)
		return -ENOMEM;
	ring->size = size;
	ring->page = page;
	area = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (area == MAP_FAILED)
		goto failed;
	ring->consumer = area;
	area = mmap(NULL, page + size, PROT_READ, MAP_SHARED, map_fd, (off_t)page);
	if (area == MAP_FAILED) {
		munmap(ring->consumer, page);
		goto failed;
	}
	ring->producer = area;
	ring->data = (const uint8_t *)area + page;
	*opened = ring;
	return 0;
failed:
	free(ring);
	return -errno;
}

/* A record may go on at the start of the data. */
static void copy(const struct ring *ring, uint8_t *out, uint64_t position, size_t length)
{
	size_t start = position & (ring->size - 1);
	size_t first = length < ring->size - start ? length : ring->size - start;

	memcpy(out, ring->data + start, first);
	memcpy(out + first, ring->data, length - first);
}

/*
 * Copy up to `room` records of `record_size` bytes to `out`; returns how many. A record of another
 * size would mean a second record type in the ring: -EBADMSG, and the ring is left as it is.
 */
long huatuo_ring_drain(struct ring *ring, uint8_t *out, size_t record_size, size_t room)
{
	uint64_t position = __atomic_load_n(ring->consumer, __ATOMIC_RELAXED), begun;
	uint64_t end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	size_t copied = 0;

again:
	begun = position;
	while (position < end && copied < room) {
		const uint8_t *at = ring->data + (position & (ring->size - 1));
		uint32_t header = __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE);
		uint32_t length = header & ~(BUSY | DISCARDED);

		if (header & BUSY)
			break;
		if (!(header & DISCARDED)) {
			if (length != record_size)
				return -EBADMSG;
			copy(ring, out + copied++ * record_size, position + HEADER, record_size);
		}
		position += (length + HEADER + 7) / 8 * 8;
	}
	if (position != begun) {
		/* the kernel wakes us for a record at our position: look once more, having told it
		 */
		__atomic_store_n(ring->consumer, position, __ATOMIC_SEQ_CST);
		end = __atomic_load_n(ring->producer, __ATOMIC_SEQ_CST);
		goto again;
	}
	return (long)copied;
}
