/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Files: their file system, their device and their path. All by probe reads, for pointers of any
 * origin; what cannot be read gives 0 or an empty path. A path is walked only for an event.
 */
#ifndef HUATUO_VFS_H
#define HUATUO_VFS_H

#include "kernel.bpf.h"

#define PATH_DEPTH 16
#define NAME_BYTES 96 /* longer names are cut off; the kernel allows 255 */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct inode;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	union {
		struct hlist_node d_alias;
	} d_u;
};

/* d_alias without d_u: in 7.x */
struct dentry___without_u {
	struct hlist_node d_alias;
};

struct gendisk;

struct block_device {
	__u32 bd_dev;
};

struct file_system_type {
	const char *name;
};

struct super_block {
	__u32 s_dev;
	struct file_system_type *s_type;
	struct block_device *s_bdev;
};

struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	__u32 i_rdev;
	struct hlist_head i_dentry;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
};

#pragma clang attribute pop

#define FILE_TYPE 0170000 /* of i_mode: include/uapi/linux/stat.h */
#define REGULAR_FILE 0100000
#define BLOCK_DEVICE 0060000

enum filesystem {
	FILESYSTEM_OTHER,
	FILESYSTEM_EXT2,
	FILESYSTEM_EXT3,
	FILESYSTEM_EXT4,
	FILESYSTEM_XFS,
	FILESYSTEM_BTRFS,
	FILESYSTEM_F2FS,
	FILESYSTEM_ZFS,
	FILESYSTEM_BCACHEFS,
	FILESYSTEM_OVERLAY,
	FILESYSTEM_TMPFS,
	FILESYSTEM_NFS,
	FILESYSTEM_CIFS,
	FILESYSTEM_CEPH,
	FILESYSTEM_FUSE,
	FILESYSTEM_VIRTIOFS,
	FILESYSTEM_9P,
	FILESYSTEM_VFAT,
	FILESYSTEM_EXFAT,
	FILESYSTEM_SQUASHFS,
	FILESYSTEM_EROFS,
	FILESYSTEM_BLOCK, /* a disk that is read and written without one */
};

/* Seven characters of a name as they lie in memory; both architectures are little endian. */
#define NAME7(a, b, c, d, e, f, g)                                                               \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | \
	 (__u64)(f) << 40 | (__u64)(g) << 48)

static __always_inline enum filesystem filesystem_named(__u64 name)
{
	switch (name) {
	case NAME7('e', 'x', 't', '4', 0, 0, 0):
		return FILESYSTEM_EXT4;
	case NAME7('x', 'f', 's', 0, 0, 0, 0):
		return FILESYSTEM_XFS;
	case NAME7('b', 't', 'r', 'f', 's', 0, 0):
		return FILESYSTEM_BTRFS;
	case NAME7('o', 'v', 'e', 'r', 'l', 'a', 'y'):
		return FILESYSTEM_OVERLAY;
	case NAME7('t', 'm', 'p', 'f', 's', 0, 0):
	case NAME7('r', 'a', 'm', 'f', 's', 0, 0):
	case NAME7('d', 'e', 'v', 't', 'm', 'p', 'f'):
	case NAME7('h', 'u', 'g', 'e', 't', 'l', 'b'):
		return FILESYSTEM_TMPFS;
	case NAME7('n', 'f', 's', 0, 0, 0, 0):
	case NAME7('n', 'f', 's', '4', 0, 0, 0):
		return FILESYSTEM_NFS;
	case NAME7('c', 'i', 'f', 's', 0, 0, 0):
	case NAME7('s', 'm', 'b', '3', 0, 0, 0):
		return FILESYSTEM_CIFS;
	case NAME7('c', 'e', 'p', 'h', 0, 0, 0):
		return FILESYSTEM_CEPH;
	case NAME7('f', 'u', 's', 'e', 0, 0, 0):
	case NAME7('f', 'u', 's', 'e', 'b', 'l', 'k'):
		return FILESYSTEM_FUSE;
	case NAME7('v', 'i', 'r', 't', 'i', 'o', 'f'):
		return FILESYSTEM_VIRTIOFS;
	case NAME7('9', 'p', 0, 0, 0, 0, 0):
		return FILESYSTEM_9P;
	case NAME7('f', '2', 'f', 's', 0, 0, 0):
		return FILESYSTEM_F2FS;
	case NAME7('z', 'f', 's', 0, 0, 0, 0):
		return FILESYSTEM_ZFS;
	case NAME7('b', 'c', 'a', 'c', 'h', 'e', 'f'):
		return FILESYSTEM_BCACHEFS;
	case NAME7('e', 'x', 't', '3', 0, 0, 0):
		return FILESYSTEM_EXT3;
	case NAME7('e', 'x', 't', '2', 0, 0, 0):
		return FILESYSTEM_EXT2;
	case NAME7('v', 'f', 'a', 't', 0, 0, 0):
		return FILESYSTEM_VFAT;
	case NAME7('e', 'x', 'f', 'a', 't', 0, 0):
		return FILESYSTEM_EXFAT;
	case NAME7('s', 'q', 'u', 'a', 's', 'h', 'f'):
		return FILESYSTEM_SQUASHFS;
	case NAME7('e', 'r', 'o', 'f', 's', 0, 0):
		return FILESYSTEM_EROFS;
	}
	return FILESYSTEM_OTHER;
}

static __always_inline enum filesystem filesystem_of(struct super_block *sb)
{
	const char *text = BPF_CORE_READ(sb, s_type, name);
	__u64 name = 0;

	bpf_probe_read_kernel_str(&name, sizeof(name), text);
	return filesystem_named(name);
}

/* The disk or partition below; a number without a disk where there is none, or several. */
static __always_inline __u32 device_of(struct super_block *sb)
{
	struct block_device *device = BPF_CORE_READ(sb, s_bdev);

	if (device && bpf_core_field_exists(device->bd_dev))
		return BPF_CORE_READ(device, bd_dev);
	return BPF_CORE_READ(sb, s_dev);
}

static __always_inline bool is_of_type(struct inode *inode, __u32 type)
{
	return (BPF_CORE_READ(inode, i_mode) & FILE_TYPE) == type;
}

/* Where an inode's data lies; that of a device node lies on the device itself. */
struct place {
	__u64 inode; /* number; 0: a device */
	__u32 device;
	enum filesystem filesystem;
};

static __always_inline struct place place_of(struct inode *inode)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	struct place place = {};

	if (is_of_type(inode, BLOCK_DEVICE)) {
		place.device = BPF_CORE_READ(inode, i_rdev);
		place.filesystem = FILESYSTEM_BLOCK;
		return place;
	}
	place.inode = BPF_CORE_READ(inode, i_ino);
	place.device = device_of(sb);
	place.filesystem = filesystem_of(sb);
	return place;
}

/*
 * The names of a dentry and of the directories above it. With its mount the path goes on above
 * the mount's root, as the process sees it; with NULL it ends at the file system's root.
 */
static __always_inline void fill_names(char *names, struct dentry *dentry, struct mount *mount)
{
	__u32 at = 0;

	for (int depth = 0; depth < PATH_DEPTH; depth++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		long length;

		if (mount && dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above != mount) {
				dentry = BPF_CORE_READ(mount, mnt_mountpoint);
				mount = above;
				continue;
			}
			parent = dentry; /* the root as this process sees it */
		}
		if (at > PATH_BYTES - NAME_BYTES)
			return;
		length = bpf_probe_read_kernel_str(names + at, NAME_BYTES,
						   BPF_CORE_READ(dentry, d_name.name));
		if (length <= 0 || length > NAME_BYTES || parent == dentry)
			return;
		at += length;
		dentry = parent;
	}
}

/* `names` (a path_t) must be zero. */
static __always_inline void fill_path(char *names, struct file *file)
{
	struct vfsmount *mount = BPF_CORE_READ(file, f_path.mnt);

	fill_names(names, BPF_CORE_READ(file, f_path.dentry),
		   (void *)mount - bpf_core_field_offset(struct mount, mnt));
}

/* The path below the file system's root by one of the inode's names; empty if it has none. */
static __always_inline void fill_inode_path(char *names, struct inode *inode)
{
	struct hlist_node *alias = BPF_CORE_READ(inode, i_dentry.first);
	struct dentry___without_u *flat = NULL;
	__u64 offset;

	if (!alias)
		return;
	offset = bpf_core_field_exists(flat->d_alias)
			 ? bpf_core_field_offset(struct dentry___without_u, d_alias)
			 : bpf_core_field_offset(struct dentry, d_u.d_alias);
	fill_names(names, (void *)alias - offset, NULL);
}

#endif
