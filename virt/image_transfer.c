/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/image_transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "virt/image.h"
#include "virt/libvirt_loop.h"
#include "virt/xml.h"

enum {
    PIECE_SIZE = 16 * 1024 * 1024,
    BUFFER_SIZE = 256 * 1024,
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_COUNT = 5,
    POOL_TRIES = 4,
};

/* What one copy holds; closed in reverse order. */
struct copy {
    const struct image_transfer *transfer;
    virConnectPtr connection;
    virStoragePoolPtr pool;
    bool pool_is_ours;
    virStorageVolPtr volume;
    int64_t size;
};

static void silent(void *aux, virErrorPtr error)
{
    (void)aux;
    (void)error;
}

static int libvirt_failed(enum err_code code, const struct image_transfer *t, const char *what,
                          struct err *e)
{
    const virError *error = virGetLastError();

    return err_set_sys(e, code, error ? error->code : 0, "%s/%s of the source (%s): %s: %s",
                       t->directory, t->name, t->source_uri, what,
                       error && error->message ? error->message : "unknown reason");
}

/* Nobody sits in front of the agent: a connection that asks for a password fails. */
static int answer_nothing(virConnectCredentialPtr credentials, unsigned count, void *aux)
{
    (void)credentials;
    (void)count;
    (void)aux;
    return -1;
}

static int open_connection(struct copy *copy, struct err *e)
{
    virConnectAuth auth = {.credtype = NULL, .ncredtype = 0, .cb = answer_nothing};

    /* Keepalive begins once it is open; a source that says nothing must end sooner. */
    libvirt_loop_guard_begin((int64_t)KEEPALIVE_INTERVAL_S * (KEEPALIVE_COUNT + 1) * USEC_PER_SEC);
    copy->connection = virConnectOpenAuth(copy->transfer->source_uri, &auth, 0);
    libvirt_loop_guard_end();
    if (!copy->connection)
        return libvirt_failed(ERR_HYPERVISOR, copy->transfer, "connecting", e);
    virConnSetErrorFunc(copy->connection, NULL, silent);
    (void)virConnectSetKeepAlive(copy->connection, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
    return 0;
}

/* --- the pool and the volume ------------------------------------------------------------------ */

static char *pool_xml(const char *directory)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = xmlNewDoc((const xmlChar *)"1.0");
    xmlNode *root = xmlNewDocNode(doc, NULL, (const xmlChar *)"pool", NULL);
    char suffix[17];
    _cleanup_(str_freep) char *name = NULL;

    text_random_hex(8, suffix);
    name = text_format("computed-%s", suffix);
    (void)xmlDocSetRootElement(doc, root);
    xml_set_attr(root, "type", "dir");
    xml_set_content(xml_add_child(root, "name"), name);
    xml_set_content(xml_add_child(xml_add_child(root, "target"), "path"), directory);
    return xml_text_of(doc, root);
}

static void close_pool(struct copy *copy)
{
    if (copy->volume)
        (void)virStorageVolFree(copy->volume);
    if (copy->pool && copy->pool_is_ours)
        (void)virStoragePoolDestroy(copy->pool);
    if (copy->pool)
        (void)virStoragePoolFree(copy->pool);
    copy->volume = NULL;
    copy->pool = NULL;
}

static int open_pool(struct copy *copy, struct err *e)
{
    const char *directory = copy->transfer->directory;
    _cleanup_(str_freep) char *xml = pool_xml(directory);

    copy->pool_is_ours = false;
    copy->pool = virStoragePoolLookupByTargetPath(copy->connection, directory);
    if (!copy->pool) {
        copy->pool = virStoragePoolCreateXML(copy->connection, xml, 0);
        copy->pool_is_ours = copy->pool != NULL;
    }
    if (!copy->pool)
        return libvirt_failed(ERR_DISK, copy->transfer, "opening its directory", e);
    if (!copy->pool_is_ours)
        (void)virStoragePoolRefresh(copy->pool, 0);
    copy->volume = virStorageVolLookupByName(copy->pool, copy->transfer->name);
    if (!copy->volume)
        return libvirt_failed(ERR_DISK, copy->transfer, "looking for it", e);
    return 0;
}

/* The pool may be another agent's transient one, which ends when that agent is done. */
static int open_volume(struct copy *copy, struct err *e)
{
    struct err last = ERR_INIT;

    for (int i = 0; i < POOL_TRIES; i++) {
        err_clear(&last);
        close_pool(copy);
        if (open_pool(copy, &last) == 0)
            return 0;
        if (!virConnectIsAlive(copy->connection))
            break;
    }
    if (e)
        *e = last;
    return -1;
}

static int read_size(struct copy *copy, struct err *e)
{
    const struct image_transfer *t = copy->transfer;
    virStorageVolInfo info;

    if (virStorageVolGetInfoFlags(copy->volume, &info, VIR_STORAGE_VOL_GET_PHYSICAL) < 0)
        return libvirt_failed(ERR_DISK, t, "reading its size", e);
    if (t->size >= 0 && (uint64_t)t->size != info.allocation)
        return err_set(e, ERR_DISK, "%s/%s of the source has %llu bytes where %jd were announced",
                       t->directory, t->name, info.allocation, (intmax_t)t->size);
    if (info.allocation > (uint64_t)t->size_max)
        return err_set(e, ERR_DISK, "%s/%s of the source has %llu bytes, allowed are %jd",
                       t->directory, t->name, info.allocation, (intmax_t)t->size_max);
    copy->size = (int64_t)info.allocation;
    return 0;
}

/* --- the bytes -------------------------------------------------------------------------------- */

static int write_at(const struct copy *copy, const char *data, size_t length, int64_t offset,
                    struct err *e)
{
    while (length > 0) {
        ssize_t n = pwrite(copy->transfer->fd, data, length, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT))
            return image_no_space(copy->transfer->fd, copy->transfer->path, copy->size, e);
        if (n < 0)
            return err_set_errno(e, ERR_DISK, errno, "%s cannot be written", copy->transfer->path);
        data += n;
        offset += n;
        length -= (size_t)n;
    }
    return 0;
}

/* One stream's content to `offset` and on; *end is where it stopped. A peer that sends more than it was
 * asked for is refused. */
static int receive(struct copy *copy, virStreamPtr stream, char *buffer, int64_t offset,
                   int64_t limit, int64_t *end, struct err *e)
{
    for (;;) {
        long long hole = 0;
        if (copy->transfer->called_off && atomic_load(copy->transfer->called_off))
            return err_set(e, ERR_CANCELLED, "the copy of %s/%s was called off",
                           copy->transfer->directory, copy->transfer->name);
        int n = virStreamRecvFlags(stream, buffer, BUFFER_SIZE, VIR_STREAM_RECV_STOP_AT_HOLE);

        if (n == 0)
            break;
        if (n == -3 && virStreamRecvHole(stream, &hole, 0) == 0 && hole >= 0)
            n = 0;
        else if (n < 0)
            return libvirt_failed(ERR_DISK, copy->transfer, "copying it", e);
        if (hole > limit - offset || n > limit - offset)
            return err_set(e, ERR_DISK, "%s/%s: the source sends more than it was asked for",
                           copy->transfer->directory, copy->transfer->name);
        if (write_at(copy, buffer, (size_t)n, offset, e) < 0)
            return -1;
        offset += n + hole;
    }
    *end = offset;
    return 0;
}

static int receive_piece(struct copy *copy, char *buffer, int64_t offset, struct err *e)
{
    int64_t left = copy->size - offset, end = 0;
    int64_t length = left < PIECE_SIZE ? left : PIECE_SIZE;
    virStreamPtr stream = virStreamNew(copy->connection, 0);
    int result = -1;

    if (!stream)
        return libvirt_failed(ERR_DISK, copy->transfer, "opening a stream", e);
    if (virStorageVolDownload(copy->volume, stream, (unsigned long long)offset,
                              (unsigned long long)length,
                              VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM) < 0)
        result = libvirt_failed(ERR_DISK, copy->transfer, "copying it", e);
    else
        result = receive(copy, stream, buffer, offset, offset + length, &end, e);
    if (result == 0 && virStreamFinish(stream) < 0)
        result = libvirt_failed(ERR_DISK, copy->transfer, "copying it", e);
    else if (result < 0)
        (void)virStreamAbort(stream);
    (void)virStreamFree(stream);
    if (result == 0 && end != offset + length)
        return err_set(e, ERR_DISK, "%s/%s: the source sent %jd bytes where %jd were asked for",
                       copy->transfer->directory, copy->transfer->name, (intmax_t)(end - offset),
                       (intmax_t)length);
    return result;
}

/* A piece that failed because the pool went away is asked for again through a new one. */
static int receive_all(struct copy *copy, char *buffer, struct err *e)
{
    for (int64_t offset = 0; offset < copy->size; offset += PIECE_SIZE) {
        struct err first = ERR_INIT;

        if (receive_piece(copy, buffer, offset, &first) == 0)
            continue;
        if (first.code != ERR_DISK || first.sys == 0 || virConnectIsAlive(copy->connection) != 1 ||
            open_volume(copy, NULL) < 0) {
            if (e)
                *e = first;
            return -1;
        }
        if (receive_piece(copy, buffer, offset, e) < 0)
            return -1;
    }
    return 0;
}

static int run(struct copy *copy, struct err *e)
{
    _cleanup_(str_freep) char *buffer = mem_new(BUFFER_SIZE);

    if (open_connection(copy, e) < 0 || open_volume(copy, e) < 0 || read_size(copy, e) < 0 ||
        receive_all(copy, buffer, e) < 0)
        return -1;
    if (ftruncate(copy->transfer->fd, copy->size) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be made %jd bytes long",
                             copy->transfer->path, (intmax_t)copy->size);
    return 0;
}

int image_transfer_libvirt(void *aux, const struct image_transfer *transfer, struct err *e)
{
    struct copy copy = {.transfer = transfer};
    int result = 0;

    (void)aux;
    if (virInitialize() < 0)
        return err_set(e, ERR_HYPERVISOR, "libvirt's library cannot be started");
    result = run(&copy, e);
    close_pool(&copy);
    if (copy.connection)
        (void)virConnectClose(copy.connection);
    return result;
}
