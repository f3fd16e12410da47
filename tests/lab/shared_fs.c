/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes libvirtd believe that instances lie on NFS (LD_PRELOAD): two hosts of the lab share a directory by a
 * bind mount, which libvirt would rightly not call a network file system.
 */
#include <dlfcn.h>
#include <string.h>
#include <sys/vfs.h>

#define NFS_MAGIC 0x6969
static const char shared[] = "/var/lib/nova/instances";

int statfs(const char *path, struct statfs *out)
{
    int (*real)(const char *, struct statfs *);
    *(void **)&real = dlsym(RTLD_NEXT, "statfs");
    int result = real(path, out);
    if (result == 0 && strncmp(path, shared, sizeof(shared) - 1) == 0)
        out->f_type = NFS_MAGIC;
    return result;
}

int statfs64(const char *path, struct statfs64 *out)
{
    int (*real)(const char *, struct statfs64 *);
    *(void **)&real = dlsym(RTLD_NEXT, "statfs64");
    int result = real(path, out);
    if (result == 0 && strncmp(path, shared, sizeof(shared) - 1) == 0)
        out->f_type = NFS_MAGIC;
    return result;
}
