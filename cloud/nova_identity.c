/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stable identity of the compute node: a UUID in the file compute_id, which Nova since 2023.1 insists
 * on (contract 3.1). We honour and make it under every release, so that nova-compute can take the host back.
 */
#include "cloud/nova_node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/load.h"

#define FILE_NAME "compute_id"

enum { NAMED_SINCE = 65 /* service version from which nova-compute has the file */ };

/* ---- the decision ---- */

static const struct nova_identity_node *node_by_name(const struct nova_identity *in)
{
    for (size_t i = 0; i < in->node_count; i++)
        if (text_equal(in->nodes[i].name, in->name))
            return &in->nodes[i];
    return NULL;
}

static int check_new_host(const struct nova_identity *in, struct err *e)
{
    if (in->service_version > 0 || in->guests == 0 || in->adopt)
        return 0;
    return err_set(
        e, ERR_CONFIG,
        "host %s is new to this cloud but its hypervisor has %zu guests: is it the right "
        "cloud? [agent] adopt_node permits it",
        in->host, in->guests);
}

/* The file rules; the database must not say something else of this host. */
static int decide_by_file(const struct nova_identity *in, char uuid[37], struct err *e)
{
    const struct nova_identity_node *named = node_by_name(in);

    if (named && !text_equal(named->uuid, in->file_uuid))
        return err_set(
            e, ERR_CONFIG,
            "the file compute_id says %s, but the compute node %s of host %s is %s in the "
            "database: the file belongs to another node",
            in->file_uuid, in->name, in->host, named->uuid);
    for (size_t i = 0; i < in->node_count && !in->adopt; i++)
        if (text_equal(in->nodes[i].uuid, in->file_uuid) && !named)
            return err_set(e, ERR_CONFIG,
                           "compute node %s is called %s in the database and %s by the hypervisor: "
                           "was the host renamed? [agent] adopt_node permits it",
                           in->file_uuid, in->nodes[i].name, in->name);
    snprintf(uuid, 37, "%s", in->file_uuid);
    return 0;
}

/* A record without the file: the only node of the host is it, as Nova's own upgrade decides. */
static int decide_by_records(const struct nova_identity *in, char uuid[37], struct err *e)
{
    const struct nova_identity_node *named = node_by_name(in);

    if (in->service_version >= NAMED_SINCE && !in->adopt)
        return err_set(e, ERR_CONFIG,
                       "the service record of %s (version %lld) says that this host has a file "
                       "compute_id, but it is lost; restore it, or let [agent] adopt_node write it "
                       "again from the database",
                       in->host, (long long)in->service_version);
    if (in->node_count == 1 && (named || in->adopt)) {
        snprintf(uuid, 37, "%s", in->nodes[0].uuid);
        return 0;
    }
    if (named && in->adopt) {
        snprintf(uuid, 37, "%s", named->uuid);
        return 0;
    }
    if (in->node_count == 0 && in->adopt) {
        text_new_uuid(uuid);
        return 0;
    }
    if (in->node_count == 1)
        return err_set(e, ERR_CONFIG,
                       "the compute node of host %s is called %s in the database and %s by the "
                       "hypervisor: was the host renamed? [agent] adopt_node permits it",
                       in->host, in->nodes[0].name, in->name);
    return err_set(
        e, ERR_CONFIG,
        "host %s has a service record and %zu compute nodes: it is not clear which one it "
        "is; write its uuid into state_path/compute_id, or set [agent] adopt_node",
        in->host, in->node_count);
}

int nova_identity_decide(const struct nova_identity *in, char uuid[37], struct err *e)
{
    const struct nova_identity_node *named = node_by_name(in);

    if (check_new_host(in, e) < 0)
        return -1;
    if (in->file_uuid)
        return decide_by_file(in, uuid, e);
    if (in->service_version > 0)
        return decide_by_records(in, uuid, e);
    if (named)
        snprintf(uuid, 37, "%s", named->uuid);
    else
        text_new_uuid(uuid);
    return 0;
}

/* ---- the file ---- */

static int read_file(const char *path, char **uuid, struct err *e)
{
    char text[64];
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        *uuid = NULL;
        return 0;
    }
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (length < 0)
        return err_set_errno(e, ERR_CONFIG, errno, "%s cannot be read", path);
    text[length] = '\0';
    text[strcspn(text, " \t\r\n")] = '\0';
    if (text_check_uuid(text, path, e) < 0) {
        if (e)
            e->code = ERR_CONFIG;
        return -1;
    }
    *uuid = text_dup(text);
    return 0;
}

int nova_identity_read(const char *const *directories, char **uuid, struct err *e)
{
    _cleanup_(str_freep) char *found = NULL;
    _cleanup_(str_freep) char *found_in = NULL;

    for (; *directories; directories++) {
        _cleanup_(str_freep) char *path = text_format("%s/" FILE_NAME, *directories);
        _cleanup_(str_freep) char *text = NULL;
        if (read_file(path, &text, e) < 0)
            return -1;
        if (text && found && !text_equal(text, found))
            return err_set(e, ERR_CONFIG, "%s says %s but %s says %s; one of them is wrong", path,
                           text, found_in, found);
        if (text && !found) {
            found = STEAL(text);
            found_in = STEAL(path);
        }
    }
    *uuid = STEAL(found);
    return 0;
}

int nova_identity_write(const char *directory, const char *uuid, struct err *e)
{
    _cleanup_(str_freep) char *path = text_format("%s/" FILE_NAME, directory);
    _cleanup_(str_freep) char *made = text_format("%s/." FILE_NAME ".new", directory);
    int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t length = strlen(uuid);

    /* nova-compute, which has another user, must be able to read it whatever our umask is */
    bool good = fd >= 0 && fchmod(fd, 0644) == 0 && write(fd, uuid, length) == (ssize_t)length &&
                fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    /* link, not rename: a file that is there is never overwritten */
    if (good && link(made, path) < 0) {
        good = false;
        error = errno;
    }
    (void)unlink(made);
    return good ? 0 : err_set_errno(e, ERR_CONFIG, error, "%s cannot be written", path);
}

/* ---- where it may be ---- */

static void add_directory(char ***directories, const char *path, size_t length)
{
    size_t count = text_vector_length(*directories);
    char *directory = text_dup_n(path, length);

    for (size_t i = 0; i < count; i++) {
        if (text_equal((*directories)[i], directory)) {
            free(directory);
            return;
        }
    }
    *directories = mem_resize(*directories, (count + 2) * sizeof(char *));
    (*directories)[count] = directory;
    (*directories)[count + 1] = NULL;
}

/* Values carry the file that they came from ("/etc/nova/nova.conf:12"): all files that say anything. */
char **nova_identity_directories(const struct conf *conf)
{
    const char *state_path = conf_string(conf, CONF_DEFAULT_state_path);
    char **directories = NEW_ARRAY(char *, 1);

    for (int id = 0; id < CONF_COUNT; id++) {
        const char *origin = conf_origin(conf, (enum conf_id)id);
        const char *slash = origin && *origin == '/' ? strrchr(origin, '/') : NULL;
        if (slash && slash > origin)
            add_directory(&directories, origin, (size_t)(slash - origin));
    }
    add_directory(&directories, state_path, strlen(state_path));
    return directories;
}
