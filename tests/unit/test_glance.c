/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <unistd.h>

#include "cloud/glance.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/fake_http.h"

enum { TURNS_MAX = 600, TURN_MS = 20 };

#define IMAGE "6f0e0b1e-4a57-4c3e-9d2b-7a1a6a2f3c11"
#define PATH  "/v2/images/" IMAGE
#define FILE_ PATH "/file"
/* of "data" */
#define MD5    "8d777f385d3dfec8815d20f7496026dc"
#define SHA256 "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"

struct end {
    unsigned calls;
    struct err e;
    struct json_object *result;
};

static char host[] = "here";
static struct loop *loop;
static struct fake_http *server;
static struct conf *conf;
static struct nova nova;
static struct cloud cloud;
static struct json_object *context;
static struct end end;
static char *path;
static int fd;

static void open_with(const char *option, const char *value)
{
    conf =
        conf_for_test("glance.auth_type", "password", "glance.auth_url", fake_http_url(server),
                      "glance.username", "nova", "glance.password", "hush", "glance.project_name",
                      "service", "glance.num_retries", "1", option, value, NULL);
    cloud.conf = conf;
    UNIT_OK(http_new(&nova.http, loop, &unit_err));
    UNIT_OK(service_new(&nova.services[SERVICE_GLANCE], SERVICE_GLANCE, nova.http, loop, conf,
                        &unit_err));
    UNIT_OK(workers_new(&nova.workers, loop, 2, &unit_err));
}

static void setup(void)
{
    if (loop_new(&loop, &unit_err) < 0)
        abort();
    server = fake_http_new(NULL);
    fake_http_keystone(server);
    nova = (struct nova){.cloud = &cloud};
    cloud = (struct cloud){.loop = loop, .host = host, .state = &nova};
    context = json_object_new_object();
    json_add_string(context, "request_id", "req-1");
    end = (struct end){0};
    path = text_format("%s/image", unit_directory());
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static void teardown(void)
{
    workers_free(nova.workers, 2 * USEC_PER_SEC);
    service_free(nova.services[SERVICE_GLANCE]);
    http_free(nova.http);
    fake_http_free(server);
    conf_unref(conf);
    json_object_put(context);
    json_object_put(end.result);
    loop_free(loop);
    (void)close(fd);
    free(path);
}

UNIT_FIXTURE(setup, teardown)

static void ended(void *aux, const struct err *failure)
{
    struct end *to = aux;

    to->calls++;
    if (failure)
        to->e = *failure;
}

static void resulted(void *aux, struct json_object *result, const struct err *failure)
{
    struct end *to = aux;

    ended(aux, failure);
    to->result = json_object_get(result);
}

static void run_until(unsigned wanted)
{
    for (int i = 0; i < TURNS_MAX && end.calls < wanted; i++)
        if (loop_turn(loop, TURN_MS, &unit_err) < 0)
            break;
    UNIT_EQ(end.calls, wanted);
}

static void answer(const char *method, const char *where, int status, const char *body)
{
    const struct fake_answer a = {.method = method, .path = where, .status = status, .body = body};

    fake_http_add(server, &a);
}

static void answer_data(const char *data)
{
    const struct fake_answer a = {.method = "GET",
                                  .path = FILE_,
                                  .status = 200,
                                  .body = data,
                                  .headers = "Content-Type: application/octet-stream\r\n"};

    fake_http_add(server, &a);
}

static void check_file(const char *content)
{
    size_t length = 0;
    _cleanup_(str_freep) char *text = unit_read_file(path, &length);

    UNIT_STR(text, content);
}

UNIT_TEST(get, "an image's record is asked in the user's name")
{
    open_with(NULL, NULL);
    json_add_string(context, "auth_token", "user-token");
    answer("GET", PATH, 200, "{\"id\":\"" IMAGE "\",\"status\":\"active\"}");
    glance_image_get(&cloud, context, IMAGE, resulted, &end);
    run_until(1);
    UNIT_STR(json_get_string(end.result, "status", ""), "active");
    _cleanup_(str_freep) char *token =
        fake_http_header(fake_http_request(server, "GET", PATH, 0), "X-Auth-Token");
    UNIT_STR(token, "user-token");
}

UNIT_TEST(not_found, "an image that is not there is ImageNotFound, and so is an id that is none")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 404, "none");
    glance_image_get(&cloud, context, IMAGE, resulted, &end);
    run_until(1);
    UNIT_EQ(end.e.code, ERR_INVALID);
    UNIT_STR(err_wire_class(&end.e), "ImageNotFound");
    glance_image_get(&cloud, context, "../../v2/tasks", resulted, &end);
    UNIT_EQ(end.calls, 2);
    UNIT_STR(err_wire_class(&end.e), "ImageNotFound");
}

UNIT_TEST(download, "data that has the record's digest is the file")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200,
           "{\"id\":\"" IMAGE "\",\"status\":\"active\",\"size\":4,\"os_hash_algo\":\"sha256\","
           "\"os_hash_value\":\"" SHA256 "\",\"checksum\":\"wrong and not looked at\"}");
    answer_data("data");
    glance_image_download(&cloud, context, IMAGE, fd, resulted, &end);
    run_until(1);
    UNIT_EQ(end.e.code, ERR_NONE);
    UNIT_STR(json_get_string(end.result, "id", ""), IMAGE);
    check_file("data");
}

UNIT_TEST(old_digest, "an old image is checked by its MD5, and begun anew when it differs")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200,
           "{\"id\":\"" IMAGE "\",\"status\":\"active\",\"checksum\":\"" MD5 "\"}");
    answer_data("something longer");
    answer_data("data");
    glance_image_download(&cloud, context, IMAGE, fd, resulted, &end);
    run_until(1);
    UNIT_EQ(end.e.code, ERR_NONE);
    check_file("data");
}

UNIT_TEST(wrong_digest, "data with another digest is ERR_DISK with both digests named")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200,
           "{\"id\":\"" IMAGE "\",\"status\":\"active\",\"checksum\":\"" MD5 "\"}");
    answer_data("tada");
    answer_data("tada");
    glance_image_download(&cloud, context, IMAGE, fd, resulted, &end);
    run_until(1);
    UNIT_EQ(end.e.code, ERR_DISK);
    UNIT_HAS(end.e.text, MD5);
}

UNIT_TEST(not_active, "an image that is not active is not fetched")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200, "{\"id\":\"" IMAGE "\",\"status\":\"queued\"}");
    glance_image_download(&cloud, context, IMAGE, fd, resulted, &end);
    run_until(1);
    UNIT_STR(err_wire_class(&end.e), "ImageNotActive");
    UNIT_EQ(fake_http_count(server, "GET", FILE_), 0);
}

UNIT_TEST(signatures, "with signatures demanded an image is refused, not trusted")
{
    open_with("glance.verify_glance_signatures", "true");
    glance_image_download(&cloud, context, IMAGE, fd, resulted, &end);
    run_until(1);
    UNIT_EQ(end.e.code, ERR_NOT_IMPLEMENTED);
}

UNIT_TEST(upload, "an upload sets the fields by JSON patch, then sends the whole file")
{
    open_with(NULL, NULL);
    _cleanup_(json_putp) struct json_object *fields = json_object_new_object();
    struct json_object *more = json_object_new_object();
    json_add_string(fields, "disk_format", "qcow2");
    json_add_int(fields, "min_disk", 1);
    json_add_int(more, "instance_type", 7);
    json_add(fields, "properties", more);
    UNIT_EQ(write(fd, "data", 4), 4);
    answer("PATCH", PATH, 200, "{}");
    answer("PUT", FILE_, 204, NULL);
    glance_image_upload(&cloud, context, IMAGE, fields, fd, ended, &end);
    run_until(1);
    UNIT_EQ(end.e.code, ERR_NONE);
    const struct fake_request *patch = fake_http_request(server, "PATCH", PATH, 0);
    const struct fake_request *put = fake_http_request(server, "PUT", FILE_, 0);
    _cleanup_(str_freep) char *type = fake_http_header(patch, "Content-Type");
    UNIT_STR(type, "application/openstack-images-v2.1-json-patch");
    UNIT_STR(patch->body, "[{\"op\":\"add\",\"path\":\"/disk_format\",\"value\":\"qcow2\"},"
                          "{\"op\":\"add\",\"path\":\"/min_disk\",\"value\":1},"
                          "{\"op\":\"add\",\"path\":\"/instance_type\",\"value\":\"7\"}]");
    UNIT_STR(put->body, "data");
}

UNIT_TEST(backups, "backups are listed page by page, newest first")
{
    open_with(NULL, NULL);
    answer("GET",
           "/v2/images?image_type=backup&backup_type=a%20day&instance_uuid=u&sort_key=created_at"
           "&sort_dir=desc",
           200, "{\"images\":[{\"id\":\"1\"}],\"next\":\"/v2/images?marker=1\"}");
    answer("GET", "/v2/images?marker=1", 200, "{\"images\":[{\"id\":\"2\"}]}");
    glance_image_backups(&cloud, context, "u", "a day", resulted, &end);
    run_until(1);
    UNIT_EQ(json_object_array_length(end.result), 2);
    UNIT_STR(json_get_string(json_object_array_get_idx(end.result, 1), "id", ""), "2");
}
