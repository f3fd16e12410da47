/* SPDX-License-Identifier: Apache-2.0 */
/* OVSDB over JSON-RPC 1.0; see ovsdb.h. Requests are few and small, so they are sent blocking. */
#include "net/ovsdb.h"

#include <arpa/inet.h>
#include <errno.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

enum { CONNECT_TIMEOUT_MS = 1000, READ_SIZE = 65536 };

struct ovsdb {
    int fd;
    char *connection;
    int64_t next_id;
    struct text_buffer in;
    size_t scanned; /* bytes of `in` that `frame` has seen */
    struct json_frame frame;
    int watched_tag; /* -1: none, or not told yet */
};

size_t json_frame_end(struct json_frame *frame, const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char c = data[i];
        if (frame->in_string) {
            bool ends = c == '"' && !frame->escaped;
            frame->escaped = c == '\\' && !frame->escaped;
            frame->in_string = !ends;
        } else if (c == '"') {
            frame->in_string = true;
        } else if (c == '{' || c == '[') {
            frame->depth++;
        } else if ((c == '}' || c == ']') && frame->depth && --frame->depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* --- connecting ------------------------------------------------------------------------------ */

static int unix_address(const char *path, struct sockaddr_storage *out, socklen_t *length,
                        struct err *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)out;

    if (!path[0] || strlen(path) >= sizeof(un->sun_path))
        return err_set(e, ERR_CONFIG,
                       "[net] ovs_database: the path '%s' is empty or longer than %zu bytes", path,
                       sizeof(un->sun_path) - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    *length = sizeof(*un);
    return 0;
}

static int tcp_address(const char *text, struct sockaddr_storage *out, socklen_t *length,
                       struct err *e)
{
    const char *colon = strrchr(text, ':');
    int64_t port;

    if (!colon || colon == text)
        return err_set(e, ERR_CONFIG, "[net] ovs_database: '%s' is not ADDRESS:PORT", text);
    if (text_to_int64(colon + 1, 1, 65535, &port, e) < 0)
        return err_prefix(e, "[net] ovs_database: port: ");
    bool bracketed = text[0] == '[' && colon[-1] == ']';
    _cleanup_(str_freep) char *host =
        text_dup_n(text + bracketed, (size_t)(colon - text) - (bracketed ? 2 : 0));
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *length = sizeof(*in);
    } else if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *length = sizeof(*in6);
    } else {
        return text_check_ip(host, "[net] ovs_database", e);
    }
    return 0;
}

static int wait_for(int fd, short events, int64_t deadline_us)
{
    struct pollfd p = {.fd = fd, .events = events};
    int64_t left_us = deadline_us - clock_monotonic_us();

    return left_us <= 0 ? 0 : poll(&p, 1, (int)((left_us + 999) / 1000));
}

static int connect_to(int fd, const struct sockaddr_storage *address, socklen_t length)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (connect(fd, (const struct sockaddr *)address, length) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    if (wait_for(fd, POLLOUT, clock_monotonic_us() + CONNECT_TIMEOUT_MS * USEC_PER_MSEC) <= 0)
        return -ETIMEDOUT;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return -error;
}

int ovsdb_open(struct ovsdb **out, const char *connection, struct err *e)
{
    struct sockaddr_storage address = {0};
    socklen_t length = 0;

    if (text_starts_with(connection, "unix:")) {
        if (unix_address(connection + 5, &address, &length, e) < 0)
            return -1;
    } else if (text_starts_with(connection, "tcp:")) {
        if (tcp_address(connection + 4, &address, &length, e) < 0)
            return -1;
    } else {
        return err_set(e, ERR_CONFIG,
                       "[net] ovs_database: '%s' is neither unix:PATH nor tcp:ADDRESS:PORT",
                       connection);
    }
    _cleanup_(ovsdb_freep) struct ovsdb *db = NEW(struct ovsdb);
    db->connection = text_dup(connection);
    db->watched_tag = -1;
    db->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (db->fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a socket to Open vSwitch cannot be opened");
    int rc = connect_to(db->fd, &address, length);
    if (rc < 0)
        return err_set_errno(e, ERR_NET_PLUG, -rc, "Open vSwitch's database at %s does not answer",
                             connection);
    *out = STEAL(db);
    return 0;
}

void ovsdb_free(struct ovsdb *db)
{
    if (!db)
        return;
    fd_closep(&db->fd);
    free(db->connection);
    text_buffer_free(&db->in);
    free(db);
}

int ovsdb_fd(const struct ovsdb *db)
{
    return db->fd;
}

/* --- messages -------------------------------------------------------------------------------- */

static int lost(const struct ovsdb *db, int error, struct err *e)
{
    if (error)
        return err_set_errno(e, ERR_NET_PLUG, error, "connection to Open vSwitch's database at %s",
                             db->connection);
    return err_set(e, ERR_NET_PLUG, "Open vSwitch's database at %s closed the connection",
                   db->connection);
}

static int send_text(struct ovsdb *db, const char *text, int64_t deadline_us, struct err *e)
{
    size_t length = strlen(text);

    while (length) {
        ssize_t n = send(db->fd, text, length, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return lost(db, errno, e);
        if (n < 0 && wait_for(db->fd, POLLOUT, deadline_us) <= 0)
            return lost(db, ETIMEDOUT, e);
        text += n > 0 ? n : 0;
        length -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Sends {"method":..., "params":..., "id":...}; consumes params. Returns the id or -1. */
static int64_t send_request(struct ovsdb *db, const char *method, struct json_object *params,
                            struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    int64_t id = ++db->next_id;

    json_add_string(o, "method", method);
    json_object_object_add(o, "params", params);
    json_add_int(o, "id", id);
    _cleanup_(str_freep) char *text = json_text(o);
    return send_text(db, text, clock_monotonic_us() + OVSDB_TIMEOUT_US, e) < 0 ? -1 : id;
}

static int answer_echo(struct ovsdb *db, struct json_object *request, struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();

    json_object_object_add(o, "result", json_object_get(json_get(request, "params")));
    json_object_object_add(o, "error", NULL);
    json_object_object_add(o, "id", json_object_get(json_get(request, "id")));
    _cleanup_(str_freep) char *text = json_text(o);
    return send_text(db, text, clock_monotonic_us() + OVSDB_TIMEOUT_US, e);
}

static void consume(struct text_buffer *b, size_t n)
{
    memmove(b->data, b->data + n, b->length - n + 1);
    b->length -= n;
}

/* The next whole message of what was read; *out NULL if there is none yet. */
static int next_message(struct ovsdb *db, struct json_object **out, struct err *e)
{
    *out = NULL;
    size_t n = db->in.length == db->scanned ? 0
                                            : json_frame_end(&db->frame, db->in.data + db->scanned,
                                                             db->in.length - db->scanned);
    if (n == 0) {
        db->scanned = db->in.length;
        if (db->in.length > OVSDB_MESSAGE_MAX)
            return err_set(e, ERR_NET_PLUG,
                           "Open vSwitch's database sent a message of more than %d bytes",
                           OVSDB_MESSAGE_MAX);
        return 0;
    }
    size_t length = db->scanned + n;
    int rc = json_parse(db->in.data, length, out, e);
    consume(&db->in, length);
    db->scanned = 0;
    db->frame = (struct json_frame){0};
    if (rc == 0 && *out && json_object_is_type(*out, json_type_object))
        return 0;
    if (rc == 0)
        (void)err_set(e, ERR_PARSE, "a message is no object");
    json_object_put(*out);
    *out = NULL;
    return err_prefix(e, "Open vSwitch's database: ");
}

/* 1: something was read; 0: nothing there now. */
static int read_some(struct ovsdb *db, struct err *e)
{
    _cleanup_(mem_freep) char *piece = mem_new(READ_SIZE);
    ssize_t n = recv(db->fd, piece, READ_SIZE, MSG_DONTWAIT);

    if (n > 0) {
        text_buffer_add_n(&db->in, piece, (size_t)n);
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return lost(db, n < 0 ? errno : 0, e);
}

/* --- transactions ---------------------------------------------------------------------------- */

static int check_results(struct json_object *results, struct err *e)
{
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        struct json_object *r = json_object_array_get_idx(results, i);
        const char *error = json_get_string(r, "error", NULL);
        if (error)
            return err_set(e, ERR_NET_PLUG, "Open vSwitch's database refused: %s (%s)", error,
                           json_get_string(r, "details", "no details"));
    }
    return 0;
}

static int take_reply(struct json_object *reply, struct json_object **results, struct err *e)
{
    struct json_object *array;

    if (json_get(reply, "error")) {
        _cleanup_(str_freep) char *text = json_text(json_get(reply, "error"));
        return err_set(e, ERR_NET_PLUG, "Open vSwitch's database refused: %s", text);
    }
    if (json_need_array(reply, "result", &array, e) < 0 || check_results(array, e) < 0)
        return -1;
    *results = json_object_get(array);
    return 0;
}

static int wait_reply(struct ovsdb *db, int64_t id, int64_t deadline_us, struct json_object **out,
                      struct err *e)
{
    for (;;) {
        _cleanup_(json_putp) struct json_object *m = NULL;
        if (next_message(db, &m, e) < 0)
            return -1;
        if (m && text_equal(json_get_string(m, "method", NULL), "echo")) {
            if (answer_echo(db, m, e) < 0)
                return -1;
        } else if (m && !json_get(m, "method") && json_get_int(m, "id", 0) == id) {
            *out = STEAL(m);
            return 0;
        } else if (!m) {
            int rc = read_some(db, e);
            if (rc < 0)
                return -1;
            if (rc == 0 && wait_for(db->fd, POLLIN, deadline_us) <= 0)
                return lost(db, ETIMEDOUT, e);
        }
    }
}

int ovsdb_transact(struct ovsdb *db, struct json_object *operations, struct json_object **results,
                   struct err *e)
{
    _cleanup_(json_putp) struct json_object *reply = NULL;
    struct json_object *params = json_object_new_array();

    json_object_array_add(params, json_object_new_string("Open_vSwitch"));
    for (size_t i = 0; i < json_object_array_length(operations); i++)
        json_object_array_add(params, json_object_get(json_object_array_get_idx(operations, i)));
    json_object_put(operations);
    int64_t id = send_request(db, "transact", params, e);
    if (id < 0 || wait_reply(db, id, clock_monotonic_us() + OVSDB_TIMEOUT_US, &reply, e) < 0)
        return -1;
    return take_reply(reply, results, e);
}

/* --- watching -------------------------------------------------------------------------------- */

static void add_watch(struct json_object *tables, const char *table, const char *name,
                      const char *column)
{
    struct json_object *o = json_object_new_object(), *columns = json_object_new_array();
    struct json_object *condition = json_object_new_array(), *where = json_object_new_array();
    struct json_object *list = json_object_new_array();

    json_object_array_add(columns, json_object_new_string(column));
    json_object_object_add(o, "columns", columns);
    json_object_array_add(condition, json_object_new_string("name"));
    json_object_array_add(condition, json_object_new_string("=="));
    json_object_array_add(condition, json_object_new_string(name));
    json_object_array_add(where, condition);
    json_object_object_add(o, "where", where);
    json_object_array_add(list, o);
    json_object_object_add(tables, table, list);
}

int ovsdb_watch_port(struct ovsdb *db, const char *name, struct err *e)
{
    struct json_object *params = json_object_new_array(), *tables = json_object_new_object();

    add_watch(tables, "Port", name, "tag");
    add_watch(tables, "Interface", name, "ofport");
    json_object_array_add(params, json_object_new_string("Open_vSwitch"));
    json_object_array_add(params, json_object_new_string("port"));
    json_object_array_add(params, tables);
    return send_request(db, "monitor_cond", params, e) < 0 ? -1 : 0;
}

/* An optional column is its value, or an empty set. A new row tells what it has, a changed one what changed. */
static void note_tag_of(struct ovsdb *db, struct json_object *columns, bool is_new)
{
    struct json_object *tag = json_get(columns, "tag");

    if (tag || (columns && is_new))
        db->watched_tag = json_object_is_type(tag, json_type_int) ? json_object_get_int(tag) : -1;
}

static void note_tag(struct ovsdb *db, struct json_object *tables)
{
    struct json_object *ports = json_get(tables, "Port");

    if (!json_object_is_type(ports, json_type_object))
        return;
    json_object_object_foreach (ports, row, update) {
        (void)row;
        note_tag_of(db, json_get(update, "initial"), true);
        note_tag_of(db, json_get(update, "insert"), true);
        note_tag_of(db, json_get(update, "modify"), false);
    }
}

/* RFC 7047 4.1.6 and ovsdb-server(7) on "update2": the second of its parameters. */
static struct json_object *updated_tables(struct json_object *message)
{
    struct json_object *params = json_get(message, "params");

    return json_object_is_type(params, json_type_array) ? json_object_array_get_idx(params, 1)
                                                        : NULL;
}

int ovsdb_drain(struct ovsdb *db, bool *changed, struct err *e)
{
    enum { READS_A_TURN = 32 };
    int rc = 1;

    for (int i = 0; i < READS_A_TURN && rc > 0; i++)
        rc = read_some(db, e);
    if (rc < 0)
        return -1;
    for (;;) {
        _cleanup_(json_putp) struct json_object *m = NULL;
        if (next_message(db, &m, e) < 0)
            return -1;
        if (!m)
            return 0;
        const char *method = json_get_string(m, "method", NULL);
        if (text_equal(method, "echo") && answer_echo(db, m, e) < 0)
            return -1;
        if (!method)
            note_tag(db, json_get(m, "result"));
        else if (text_equal(method, "update2"))
            note_tag(db, updated_tables(m));
        *changed |= !method || text_equal(method, "update2");
    }
}

int ovsdb_watched_tag(const struct ovsdb *db)
{
    return db->watched_tag;
}
