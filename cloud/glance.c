/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/glance.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/linkhash.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(glance);

enum { PAGES_MAX = 100, RETRY_WAIT_S = 1 };
#define PATCH_TYPE "application/openstack-images-v2.1-json-patch"

static int refuse(struct err *e, const char *wire_class, const char *image_id, const char *why)
{
    err_set(e, ERR_INVALID, "image %s %s", image_id, why);
    return err_set_class(e, wire_class, NULL);
}

/* ---- one request about one image ---- */

struct ask {
    struct nova *nova;
    char *image_id;
    cloud_result_fn done;
    void *aux;
};

static void ask_end(struct ask *ask, struct json_object *result, const struct err *failure)
{
    ask->done(ask->aux, result, failure);
    free(ask->image_id);
    free(ask);
}

static int check_reply(struct service *service, const char *image_id,
                       const struct http_reply *reply, struct err *e)
{
    _cleanup_(str_freep) char *what = text_format("image %s", image_id);

    if (reply->status >= 200 && reply->status <= 299)
        return 0;
    if (reply->status == 404)
        return refuse(e, "ImageNotFound", image_id, "does not exist");
    if (reply->status == 403)
        return refuse(e, "ImageNotAuthorized", image_id, "is not for us to use");
    return service_refused(reply, service, what, ERR_REMOTE, e);
}

static void answered(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct ask *ask = aux;
    struct service *glance = ask->nova->services[SERVICE_GLANCE];
    struct err e = ERR_INIT;

    if (failure) {
        e = *failure;
        err_prefix(&e, "image %s", ask->image_id);
    } else {
        (void)check_reply(glance, ask->image_id, reply, &e);
    }
    if (err_is_set(&e))
        ask_end(ask, NULL, &e);
    else
        ask_end(ask, reply->json, NULL);
}

/* In whose name: the user's, as Nova does, so that Glance judges what they may see. */
struct asker {
    const char *request_id, *token;
};

static struct asker asker_of(struct json_object *context)
{
    return (struct asker){
        .request_id = nova_request_id(context),
        .token = json_get_string(context, "auth_token", NULL),
    };
}

struct question {
    const char *method;
    struct json_object *body;
    const char *content_type;
};

static void ask_image(struct nova *nova, const struct asker *asker, const char *image_id,
                      const struct question *question, cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    if (text_check_uuid(image_id, "the id of an image", NULL) < 0) {
        refuse(&e, "ImageNotFound", image_id ? image_id : "null", "has no id that Glance knows");
        done(aux, NULL, &e);
        return;
    }
    struct ask *ask = NEW(struct ask);
    _cleanup_(str_freep) char *path = text_format("/v2/images/%s", image_id);
    const struct service_request request = {
        .method = question->method,
        .path = path,
        .body = question->body,
        .content_type = question->content_type,
        .request_id = asker->request_id,
        .user_token = asker->token,
    };
    ask->nova = nova;
    ask->image_id = text_dup(image_id);
    ask->done = done;
    ask->aux = aux;
    service_send(nova->services[SERVICE_GLANCE], &request, answered, ask);
}

void glance_image_get(struct cloud *cloud, struct json_object *context, const char *image_id,
                      cloud_result_fn done, void *aux)
{
    const struct question question = {.method = "GET"};
    const struct asker asker = asker_of(context);

    ask_image(nova_of(cloud), &asker, image_id, &question, done, aux);
}

static void deleted(void *aux, struct json_object *result, const struct err *failure)
{
    (void)aux;
    (void)result;
    if (failure && !text_equal(failure->wire_class, "ImageNotFound"))
        log_err(LOG_LEVEL_WARNING, failure, "an image of a failed snapshot is left behind");
}

void glance_image_delete(struct cloud *cloud, struct json_object *context, const char *image_id)
{
    const struct question question = {.method = "DELETE"};
    const struct asker asker = asker_of(context);

    ask_image(nova_of(cloud), &asker, image_id, &question, deleted, NULL);
}

/* ---- transfers ---- */

/* One image's data on its way, by a worker; the worker reads and writes only what is marked. */
struct transfer {
    struct nova *nova;
    char *request_id, *token, *image_id;
    bool upload;
    struct json_object *record; /* download: Glance's */
    cloud_result_fn result_done;
    cloud_done_fn done;
    void *aux;
    /* the worker's */
    int fd; /* our own copy: the caller's may be closed before a worker that hangs */
    struct service_ticket *ticket;
    int64_t attempts, size; /* size < 0: not known */
    char *digest_name, *digest;
    struct err failure;
};

static void transfer_free(void *aux)
{
    struct transfer *t = aux;

    free(t->request_id);
    free(t->token);
    free(t->image_id);
    json_object_put(t->record);
    if (t->fd >= 0)
        (void)close(t->fd);
    service_ticket_free(t->ticket);
    free(t->digest_name);
    free(t->digest);
    free(t);
}

static void transfer_tell(struct transfer *t)
{
    const struct err *failure = err_is_set(&t->failure) ? &t->failure : NULL;

    if (t->upload)
        t->done(t->aux, failure);
    else
        t->result_done(t->aux, failure ? NULL : t->record, failure);
}

static void transfer_fail(struct transfer *t, const struct err *failure)
{
    t->failure = *failure;
    transfer_tell(t);
    transfer_free(t);
}

struct digester {
    EVP_MD_CTX *md; /* NULL = the image has no digest */
    int64_t size;
};

static int digest_piece(void *aux, const void *data, size_t size, struct err *e)
{
    struct digester *d = aux;

    d->size += (int64_t)size;
    if (d->md && EVP_DigestUpdate(d->md, data, size) != 1)
        return err_set(e, ERR_INTERNAL, "the digest of an image cannot be computed");
    return 0;
}

static void md_freep(EVP_MD_CTX **md)
{
    EVP_MD_CTX_free(*md);
}

/* 2 * EVP_MAX_MD_SIZE + 1 characters */
static void digest_text(EVP_MD_CTX *md, char *out)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned length = 0;

    out[0] = 0;
    if (EVP_DigestFinal_ex(md, bytes, &length) != 1)
        return;
    for (unsigned i = 0; i < length; i++)
        (void)snprintf(out + 2 * (size_t)i, 3, "%02x", bytes[i]);
}

static int check_data(const struct transfer *t, const struct digester *d, struct err *e)
{
    char text[2 * EVP_MAX_MD_SIZE + 1];

    if (t->size >= 0 && d->size != t->size)
        return err_set(e, ERR_DISK, "image %s has %lld bytes, Glance says %lld", t->image_id,
                       (long long)d->size, (long long)t->size);
    if (!d->md)
        return 0;
    digest_text(d->md, text);
    if (strcasecmp(text, t->digest) != 0)
        return err_set(e, ERR_DISK, "image %s has the %s digest %s, Glance says %s", t->image_id,
                       t->digest_name, text, t->digest);
    return 0;
}

static int rewind_file(const struct transfer *t, struct err *e)
{
    if (lseek(t->fd, 0, SEEK_SET) < 0 || (!t->upload && ftruncate(t->fd, 0) < 0))
        return err_set_errno(e, ERR_SYSTEM, errno, "the file of image %s", t->image_id);
    return 0;
}

static int download_once(const struct transfer *t, struct err *e)
{
    _cleanup_(md_freep) EVP_MD_CTX *md = NULL;
    const EVP_MD *kind = t->digest_name ? EVP_get_digestbyname(t->digest_name) : NULL;

    if (rewind_file(t, e) < 0)
        return -1;
    if (kind) {
        md = EVP_MD_CTX_new();
        if (!md || EVP_DigestInit_ex(md, kind, NULL) != 1)
            return err_set(e, ERR_INTERNAL, "digest %s does not work here", t->digest_name);
    }
    struct digester d = {.md = md};
    if (service_download(t->ticket, t->fd, digest_piece, &d, e) < 0)
        return err_prefix(e, "image %s", t->image_id);
    if (check_data(t, &d, e) < 0)
        return -1;
    if (fsync(t->fd) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "the file of image %s", t->image_id);
    return 0;
}

static int upload_once(const struct transfer *t, struct err *e)
{
    if (rewind_file(t, e) < 0)
        return -1;
    if (service_upload(t->ticket, t->fd, e) < 0)
        return err_prefix(e, "image %s", t->image_id);
    return 0;
}

/* What may pass: of an upload that reached Glance it is not known what it kept. */
static bool try_again(const struct transfer *t, const struct err *e)
{
    return e->code == ERR_UNREACHABLE ||
           (!t->upload && (e->code == ERR_TIMEOUT || e->code == ERR_REMOTE || e->code == ERR_DISK));
}

static void run(void *aux)
{
    struct transfer *t = aux;

    for (int64_t i = 0; i < t->attempts; i++) {
        t->failure = ERR_INIT;
        int rc = t->upload ? upload_once(t, &t->failure) : download_once(t, &t->failure);
        if (rc == 0 || !try_again(t, &t->failure))
            return;
        const struct timespec wait = {.tv_sec = RETRY_WAIT_S};
        if (i + 1 < t->attempts)
            (void)nanosleep(&wait, NULL);
    }
}

static void ran(void *aux, enum work_end end)
{
    struct transfer *t = aux;
    struct err e = ERR_INIT;

    if (end == WORK_DONE) {
        transfer_tell(t);
        return;
    }
    /* the worker may still write t->failure: the end is told beside it */
    err_set(&e, ERR_CANCELLED, "the transfer of image %s ended with the agent", t->image_id);
    if (t->upload)
        t->done(t->aux, &e);
    else
        t->result_done(t->aux, NULL, &e);
}

static void have_ticket(void *aux, struct service_ticket *ticket, const struct err *failure)
{
    struct transfer *t = aux;

    if (failure) {
        transfer_fail(t, failure);
        return;
    }
    t->ticket = ticket;
    const struct work work = {
        .name = t->upload ? "image upload" : "image download",
        .run = run,
        .done = ran,
        .release = transfer_free,
        .aux = t,
    };
    workers_submit(t->nova->workers, &work);
}

static void ask_ticket(struct transfer *t)
{
    _cleanup_(str_freep) char *path = text_format("/v2/images/%s/file", t->image_id);

    service_ticket(t->nova->services[SERVICE_GLANCE], path, t->request_id, t->token, have_ticket,
                   t);
}

static struct transfer *transfer_new(struct cloud *cloud, struct json_object *context,
                                     const char *image_id, int fd, void *aux)
{
    struct transfer *t = NEW(struct transfer);

    t->nova = nova_of(cloud);
    const struct asker asker = asker_of(context);
    t->request_id = text_dup(asker.request_id);
    t->token = text_dup(asker.token);
    t->image_id = text_dup(image_id);
    t->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (t->fd < 0)
        err_set_errno(&t->failure, ERR_SYSTEM, errno, "the file of an image");
    t->attempts = 1 + conf_int(cloud->conf, CONF_glance_num_retries);
    t->size = -1;
    t->aux = aux;
    return t;
}

/* ---- download ---- */

/* os_hash_value where OpenSSL knows its algorithm; `checksum` is MD5. */
static void take_digest(struct transfer *t, struct json_object *record)
{
    const char *algorithm = json_get_string(record, "os_hash_algo", NULL);
    const char *value = json_get_string(record, "os_hash_value", NULL);
    const char *md5 = json_get_string(record, "checksum", NULL);
    bool known = algorithm && value && EVP_get_digestbyname(algorithm);

    if (!known && !md5) {
        log_warning("image %s has no digest that can be checked", t->image_id);
        return;
    }
    t->digest_name = text_dup(known ? algorithm : "md5");
    t->digest = text_dup(known ? value : md5);
}

static void have_record(void *aux, struct json_object *record, const struct err *failure)
{
    struct transfer *t = aux;
    struct err e = ERR_INIT;

    if (failure)
        e = *failure;
    else if (!text_equal(json_get_string(record, "status", NULL), "active"))
        refuse(&e, "ImageNotActive", t->image_id, "is not active");
    if (err_is_set(&e)) {
        transfer_fail(t, &e);
        return;
    }
    t->record = json_object_get(record);
    t->size = json_get_int(record, "size", -1);
    take_digest(t, record);
    ask_ticket(t);
}

void glance_image_download(struct cloud *cloud, struct json_object *context, const char *image_id,
                           int fd, cloud_result_fn done, void *aux)
{
    struct transfer *t = transfer_new(cloud, context, image_id, fd, aux);

    t->result_done = done;
    if (conf_bool(cloud->conf, CONF_glance_verify_glance_signatures))
        err_set(
            &t->failure, ERR_NOT_IMPLEMENTED,
            "[glance] verify_glance_signatures is on, and this agent cannot check the signature "
            "of image %s",
            image_id);
    if (err_is_set(&t->failure)) {
        const struct err e = t->failure;
        transfer_fail(t, &e);
        return;
    }
    glance_image_get(cloud, context, image_id, have_record, t);
}

/* ---- upload ---- */

static void add_field(struct json_object *patch, const char *name, struct json_object *value)
{
    struct json_object *op = json_object_new_object();
    _cleanup_(str_freep) char *path = text_format("/%s", name);

    json_add_string(op, "op", "add"); /* sets what is there, too */
    json_add_string(op, "path", path);
    json_add(op, "value", value);
    json_object_array_add(patch, op);
}

/* Numbers and flags are of the record itself; other properties are texts. */
static bool is_typed(const char *name)
{
    static const char *const typed[] = {"min_disk", "min_ram", "protected", "os_hidden", "tags"};

    for (size_t i = 0; i < ARRAY_LEN(typed); i++)
        if (text_equal(name, typed[i]))
            return true;
    return false;
}

static void add_fields(struct json_object *patch, struct json_object *fields)
{
    json_object_object_foreach (fields, name, value) {
        if (!value)
            continue;
        if (text_equal(name, "properties") && json_object_is_type(value, json_type_object))
            add_fields(patch, value);
        else if (json_object_is_type(value, json_type_string) || is_typed(name))
            add_field(patch, name, json_copy(value));
        else {
            _cleanup_(str_freep) char *text = json_text(value);
            add_field(patch, name, json_object_new_string(text));
        }
    }
}

static void patched(void *aux, struct json_object *result, const struct err *failure)
{
    struct transfer *t = aux;

    (void)result;
    if (failure)
        transfer_fail(t, failure);
    else
        ask_ticket(t);
}

void glance_image_upload(struct cloud *cloud, struct json_object *context, const char *image_id,
                         struct json_object *fields, int fd, cloud_done_fn done, void *aux)
{
    struct transfer *t = transfer_new(cloud, context, image_id, fd, aux);
    _cleanup_(json_putp) struct json_object *patch = json_object_new_array();
    const struct question question = {
        .method = "PATCH",
        .body = patch,
        .content_type = PATCH_TYPE,
    };

    t->upload = true;
    t->done = done;
    if (err_is_set(&t->failure)) {
        const struct err e = t->failure;
        transfer_fail(t, &e);
        return;
    }
    if (fields)
        add_fields(patch, fields);
    if (json_object_array_length(patch))
        ask_image(t->nova, &(struct asker){t->request_id, t->token}, image_id, &question, patched,
                  t);
    else
        ask_ticket(t);
}

/* ---- backups ---- */

struct list {
    struct nova *nova;
    char *request_id, *token;
    struct json_object *images;
    unsigned pages;
    cloud_result_fn done;
    void *aux;
};

static void ask_page(struct list *list, const char *path);

static void list_end(struct list *list, const struct err *failure)
{
    list->done(list->aux, failure ? NULL : list->images, failure);
    json_object_put(list->images);
    free(list->request_id);
    free(list->token);
    free(list);
}

static void have_page(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct list *list = aux;
    struct service *glance = list->nova->services[SERVICE_GLANCE];
    struct err e = ERR_INIT;

    if (failure)
        e = *failure;
    else if (reply->status != 200)
        service_refused(reply, glance, "the list of backups", ERR_REMOTE, &e);
    if (err_is_set(&e)) {
        list_end(list, &e);
        return;
    }
    struct json_object *images = json_get(reply->json, "images");
    const char *next = json_get_string(reply->json, "next", NULL);
    size_t n = json_object_is_type(images, json_type_array) ? json_object_array_length(images) : 0;
    for (size_t i = 0; i < n; i++)
        json_object_array_add(list->images, json_object_get(json_object_array_get_idx(images, i)));
    if (next && n && ++list->pages < PAGES_MAX && next[0] == '/')
        ask_page(list, next);
    else
        list_end(list, NULL);
}

static void ask_page(struct list *list, const char *path)
{
    const struct service_request request = {
        .method = "GET",
        .path = path,
        .request_id = list->request_id,
        .user_token = list->token,
    };

    service_send(list->nova->services[SERVICE_GLANCE], &request, have_page, list);
}

/* Characters that stand for themselves in a query; users choose the type. */
static char *escaped(const char *s)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.';
        text_buffer_printf(&b, plain ? "%c" : "%%%02X", c);
    }
    return text_buffer_take(&b);
}

void glance_image_backups(struct cloud *cloud, struct json_object *context,
                          const char *instance_uuid, const char *backup_type, cloud_result_fn done,
                          void *aux)
{
    struct list *list = NEW(struct list);
    _cleanup_(str_freep) char *uuid = escaped(instance_uuid);
    _cleanup_(str_freep) char *type = escaped(backup_type);
    _cleanup_(str_freep) char *path =
        text_format("/v2/images?image_type=backup&backup_type=%s&instance_uuid=%s"
                    "&sort_key=created_at&sort_dir=desc",
                    type, uuid);

    list->nova = nova_of(cloud);
    const struct asker asker = asker_of(context);
    list->request_id = text_dup(asker.request_id);
    list->token = text_dup(asker.token);
    list->images = json_object_new_array();
    list->done = done;
    list->aux = aux;
    ask_page(list, path);
}
