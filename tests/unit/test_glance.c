/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/rest_world.h"

#include <fcntl.h>
#include <unistd.h>

#include "cloud/glance.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

#define IMAGE "6f0e0b1e-4a57-4c3e-9d2b-7a1a6a2f3c11"
#define PATH  "/v2/images/" IMAGE
#define FILE_ PATH "/file"
/* of "data" */
#define MD5    "8d777f385d3dfec8815d20f7496026dc"
#define SHA256 "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"

static struct rest_world *w;
static char *path;
static int fd;

static void open_with(const char *option, const char *value)
{
    rest_world_open(w, SERVICE_GLANCE, "glance", "glance.num_retries", "1", option, value);
    UNIT_OK(workers_new(&w->nova.workers, w->loop, 2, &unit_err));
}

static void setup(void)
{
    w = rest_world_new();
    path = text_format("%s/image", unit_directory());
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static void teardown(void)
{
    workers_free(w->nova.workers, 2 * USEC_PER_SEC);
    rest_world_free(w);
    (void)close(fd);
    free(path);
}

UNIT_FIXTURE(setup, teardown)

static void answer(const char *method, const char *where, int status, const char *body)
{
    rest_world_answer(w, method, where, status, body);
}

static void answer_data(const char *data)
{
    const struct fake_answer a = {.method = "GET",
                                  .path = FILE_,
                                  .status = 200,
                                  .body = data,
                                  .headers = "Content-Type: application/octet-stream\r\n"};

    fake_http_add(w->server, &a);
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
    json_add_string(w->context, "auth_token", "user-token");
    answer("GET", PATH, 200, "{\"id\":\"" IMAGE "\",\"status\":\"active\"}");
    glance_image_get(&w->cloud, w->context, IMAGE, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(json_get_string(w->end.result, "status", ""), "active");
    _cleanup_(str_freep) char *token =
        fake_http_header(fake_http_request(w->server, "GET", PATH, 0), "X-Auth-Token");
    UNIT_STR(token, "user-token");
}

UNIT_TEST(not_found, "an image that is not there is ImageNotFound, and so is an id that is none")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 404, "none");
    glance_image_get(&w->cloud, w->context, IMAGE, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_INVALID);
    UNIT_STR(err_wire_class(&w->end.e), "ImageNotFound");
    glance_image_get(&w->cloud, w->context, "../../v2/tasks", rest_result, &w->end);
    UNIT_EQ(w->end.calls, 2);
    UNIT_STR(err_wire_class(&w->end.e), "ImageNotFound");
}

UNIT_TEST(download, "data that has the record's digest is the file")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200,
           "{\"id\":\"" IMAGE "\",\"status\":\"active\",\"size\":4,\"os_hash_algo\":\"sha256\","
           "\"os_hash_value\":\"" SHA256 "\",\"checksum\":\"wrong and not looked at\"}");
    answer_data("data");
    glance_image_download(&w->cloud, w->context, IMAGE, fd, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_STR(json_get_string(w->end.result, "id", ""), IMAGE);
    check_file("data");
}

UNIT_TEST(old_digest, "an old image is checked by its MD5, and begun anew when it differs")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200,
           "{\"id\":\"" IMAGE "\",\"status\":\"active\",\"checksum\":\"" MD5 "\"}");
    answer_data("something longer");
    answer_data("data");
    glance_image_download(&w->cloud, w->context, IMAGE, fd, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    check_file("data");
}

UNIT_TEST(wrong_digest, "data with another digest is ERR_DISK with both digests named")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200,
           "{\"id\":\"" IMAGE "\",\"status\":\"active\",\"checksum\":\"" MD5 "\"}");
    answer_data("tada");
    answer_data("tada");
    glance_image_download(&w->cloud, w->context, IMAGE, fd, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_DISK);
    UNIT_HAS(w->end.e.text, MD5);
}

UNIT_TEST(not_active, "an image that is not active is not fetched")
{
    open_with(NULL, NULL);
    answer("GET", PATH, 200, "{\"id\":\"" IMAGE "\",\"status\":\"queued\"}");
    glance_image_download(&w->cloud, w->context, IMAGE, fd, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(err_wire_class(&w->end.e), "ImageNotActive");
    UNIT_EQ(fake_http_count(w->server, "GET", FILE_), 0);
}

UNIT_TEST(signatures, "with signatures demanded an image is refused, not trusted")
{
    open_with("glance.verify_glance_signatures", "true");
    glance_image_download(&w->cloud, w->context, IMAGE, fd, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NOT_IMPLEMENTED);
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
    glance_image_upload(&w->cloud, w->context, IMAGE, fields, fd, rest_done, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    const struct fake_request *patch = fake_http_request(w->server, "PATCH", PATH, 0);
    const struct fake_request *put = fake_http_request(w->server, "PUT", FILE_, 0);
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
    glance_image_backups(&w->cloud, w->context, "u", "a day", rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(json_object_array_length(w->end.result), 2);
    UNIT_STR(json_get_string(json_object_array_get_idx(w->end.result, 1), "id", ""), "2");
}
