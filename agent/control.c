/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket's server. Each connection is a small machine: bytes in, lines out of them, a request
 * for each line, and the replies' bytes out. It takes no new line while REQUESTS_MAX of its requests are
 * under way or while a reply waits to be read, so that what it holds is bounded whatever the peer does.
 *
 * A request outlives its connection: commands are never broken off because the asker has gone. It holds
 * a reference of the connection, which is dead (fd -1) then.
 */
#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/commands.h"
#include "agent/relay.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"

LOG_MODULE(control);

enum {
    CONNECTIONS_MAX = 64,
    REQUESTS_MAX = 16, /* under way, of one connection */
    LINES_A_TURN = 16, /* then others have their turn */
    READ_SIZE = 16 * 1024,
    GROUP_BUFFER = 16 * 1024,
    BACKLOG = 64,
};
#define STALL_US        (10 * USEC_PER_SEC) /* a reader that takes no byte for so long is cut off */
#define ACCEPT_PAUSE_US (200 * USEC_PER_MSEC) /* when descriptors have run out */

struct connection {
    LIST_ENTRY(connection) link;
    unsigned references; /* the control's list, each request, a function at work */
    struct control *control;
    int fd; /* -1 = closed */
    struct ucred peer;
    struct loop_source *source;
    struct loop_timer *again, *stall;
    struct control_buffer input;
    struct text_buffer output;
    size_t sent;          /* bytes of output */
    unsigned under_way;   /* requests */
    bool ending;          /* nothing more is read: the peer's end came */
    bool broken;          /* a line could not be read: nothing more is taken either */
    bool working;         /* take_lines() runs */
    int64_t last_used_us; /* for making room */
};
LIST_HEAD(connection_list, connection);

struct control {
    struct agent *agent;
    char *path;
    int fd;
    dev_t device; /* of the socket's file: it is removed only while it is ours */
    ino_t inode;
    bool group_may; /* the file's mode lets members of a group in */
    struct loop_source *source;
    struct loop_timer *pause;
    struct connection_list connections;
    unsigned connection_count;
};

struct request {
    struct connection *connection;
    int64_t id;
};

static void take_lines(struct connection *c);

/* ---- connections ---- */

static void connection_unref(struct connection *c)
{
    if (--c->references > 0)
        return;
    control_buffer_free(&c->input);
    text_buffer_free(&c->output);
    free(c);
}

static void connection_close(struct connection *c)
{
    if (c->fd < 0)
        return;
    loop_source_free(c->source);
    loop_timer_free(c->again);
    loop_timer_free(c->stall);
    (void)close(c->fd);
    c->fd = -1;
    LIST_REMOVE(c, link);
    c->control->connection_count--;
    c->control = NULL;
    connection_unref(c);
}

static bool wants_input(const struct connection *c)
{
    return !c->ending && c->under_way < REQUESTS_MAX && c->output.length == 0;
}

/* Tells epoll what this connection waits for, and ends it when there is nothing any more. */
static void connection_rearm(struct connection *c)
{
    struct err e = ERR_INIT;
    uint32_t events = (wants_input(c) ? EPOLLIN : 0) | (c->output.length ? EPOLLOUT : 0);

    if (c->fd < 0)
        return;
    if (c->ending && c->under_way == 0 && c->output.length == 0) {
        connection_close(c);
        return;
    }
    if (loop_source_set_events(c->source, events, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "a control connection is closed");
        connection_close(c);
    }
}

/* ---- out ---- */

static void stalled(void *aux)
{
    struct connection *c = aux;

    log_warning("the control connection of pid %d is closed: it left %zu bytes unread for %d s",
                (int)c->peer.pid, c->output.length - c->sent, (int)(STALL_US / USEC_PER_SEC));
    connection_close(c);
}

static void flush(struct connection *c)
{
    while (c->sent < c->output.length) {
        ssize_t n = send(c->fd, c->output.data + c->sent, c->output.length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            connection_close(c);
            return;
        }
        c->sent += (size_t)n;
        loop_timer_arm(c->stall, STALL_US);
    }
    if (c->sent < c->output.length) {
        if (!loop_timer_armed(c->stall))
            loop_timer_arm(c->stall, STALL_US);
        return;
    }
    text_buffer_free(&c->output);
    c->sent = 0;
    loop_timer_disarm(c->stall);
}

/* Consumes the message. */
static void send_message(struct connection *c, int64_t id, struct json_object *message)
{
    _cleanup_(str_freep) char *line = control_line(message);

    json_object_put(message);
    if (strlen(line) > CONTROL_REPLY_MAX) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_INVALID, "the answer is longer than %d bytes; ask for less",
                CONTROL_REPLY_MAX);
        _cleanup_(json_putp) struct json_object *refusal = control_error_new(id, &e);
        free(line);
        line = control_line(refusal);
    }
    text_buffer_add(&c->output, line);
    flush(c);
}

/* ---- requests ---- */

static void request_done(void *aux, struct json_object *result, const struct err *failure)
{
    struct request *request = aux;
    struct connection *c = request->connection;

    c->under_way--;
    if (c->fd >= 0)
        send_message(c, request->id,
                     failure ? control_error_new(request->id, failure)
                             : control_reply_new(request->id, json_object_get(result)));
    /* lines that had to wait may be there already, unread bytes would not wake us */
    if (c->fd >= 0 && !c->working)
        take_lines(c);
    connection_unref(c);
    free(request);
}

static void log_request(const struct connection *c, const struct control_request *r)
{
    _cleanup_(str_freep) char *args = json_text(r->args);
    _cleanup_(str_freep) char *shown = text_escape(args, 300);

    log_info("command %s %s%s%s by uid %u, pid %d", r->command, shown, r->host[0] ? " for " : "",
             r->host, (unsigned)c->peer.uid, (int)c->peer.pid);
}

static void start_request(struct connection *c, const struct control_request *r)
{
    struct agent *agent = c->control->agent;
    struct request *request = NEW(struct request);

    metric_inc(METRIC_CONTROL_REQUESTS);
    if (commands_writes(r->command))
        log_request(c, r);
    request->connection = c;
    request->id = r->id;
    c->references++;
    c->under_way++;
    if (r->host[0] && !text_equal(r->host, agent->host))
        relay_run(agent, r->host, r->command, r->args, request_done, request);
    else
        commands_run(agent, r->command, r->args, request_done, request);
}

/* What was said cannot be told any more where it begins: the answer is the last one. */
static void refuse_line(struct connection *c, const struct err *e)
{
    log_err(LOG_LEVEL_WARNING, e, "the control connection of pid %d is closed", (int)c->peer.pid);
    c->ending = c->broken = true;
    send_message(c, 0, control_error_new(0, e));
}

/* One line, if there is one; false when there is nothing to do now. */
static bool take_line(struct connection *c)
{
    struct err e = ERR_INIT;
    _cleanup_(json_putp) struct json_object *message = NULL;
    struct control_request request = {0};
    int found = control_buffer_next(&c->input, &message, &e);

    if (found < 0)
        refuse_line(c, &e);
    if (found <= 0)
        return false;
    c->last_used_us = clock_monotonic_us();
    if (control_request_parse(message, &request, &e) < 0) {
        send_message(c, request.id, control_error_new(request.id, &e));
        return true;
    }
    start_request(c, &request);
    control_request_clear(&request);
    return true;
}

static bool may_take(const struct connection *c)
{
    /* after the peer's end, what it said before is answered still */
    return c->fd >= 0 && !c->broken && c->under_way < REQUESTS_MAX && c->output.length == 0;
}

static void take_lines(struct connection *c)
{
    unsigned lines = 0;
    bool more = true;

    c->references++;
    c->working = true;
    while (more && may_take(c) && lines++ < LINES_A_TURN)
        more = take_line(c);
    c->working = false;
    if (more && may_take(c))
        loop_timer_arm(c->again, 0);
    else
        connection_rearm(c);
    connection_unref(c);
}

/* ---- in ---- */

static void again(void *aux)
{
    take_lines(aux);
}

static void read_some(struct connection *c)
{
    char bytes[READ_SIZE];
    struct err e = ERR_INIT;
    ssize_t n = recv(c->fd, bytes, sizeof(bytes), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        connection_close(c);
        return;
    }
    if (n == 0)
        c->ending = true;
    else if (control_buffer_add(&c->input, bytes, (size_t)n, &e) < 0)
        refuse_line(c, &e);
}

static void ready(void *aux, uint32_t events)
{
    struct connection *c = aux;

    c->references++;
    if (events & (EPOLLHUP | EPOLLERR))
        connection_close(c);
    if (c->fd >= 0 && (events & EPOLLOUT))
        flush(c);
    if (c->fd >= 0 && (events & EPOLLIN) && wants_input(c))
        read_some(c);
    if (c->fd >= 0)
        take_lines(c);
    connection_unref(c);
}

/* ---- accepting ---- */

/* The one that nobody used for the longest time gives its place; false if all are at work. */
static bool make_room(struct control *control)
{
    struct connection *idle = NULL, *c;

    LIST_FOREACH(c, &control->connections, link)
    {
        if (c->under_way == 0 && c->output.length == 0 &&
            (!idle || c->last_used_us < idle->last_used_us))
            idle = c;
    }
    if (!idle)
        return false;
    connection_close(idle);
    return true;
}

static bool peer_may(const struct control *control, const struct ucred *peer)
{
    return peer->uid == 0 || peer->uid == geteuid() || control->group_may;
}

static int admit(struct control *control, int fd, struct ucred *peer, struct err *e)
{
    socklen_t length = sizeof(*peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length) < 0)
        return err_set_errno(e, ERR_DENIED, errno, "a control connection without credentials");
    if (!peer_may(control, peer))
        return err_set(e, ERR_DENIED, "uid %u (pid %d) may not use the control socket",
                       (unsigned)peer->uid, (int)peer->pid);
    if (control->connection_count >= CONNECTIONS_MAX && !make_room(control))
        return err_set(e, ERR_DENIED, "pid %d is turned away: %d control connections are at work",
                       (int)peer->pid, CONNECTIONS_MAX);
    return 0;
}

static int connection_new(struct control *control, int fd, struct err *e)
{
    struct ucred peer;
    struct loop *loop = control->agent->loop;

    if (admit(control, fd, &peer, e) < 0)
        return -1;
    struct connection *c = NEW(struct connection);
    c->source = loop_add_fd(loop, fd, EPOLLIN, "control connection", ready, c, e);
    if (!c->source) {
        free(c);
        return -1;
    }
    c->again = loop_timer_new(loop, "control lines", again, c);
    c->stall = loop_timer_new(loop, "control stall", stalled, c);
    c->references = 1;
    c->control = control;
    c->fd = fd;
    c->peer = peer;
    c->input.limit = CONTROL_REQUEST_MAX;
    c->last_used_us = clock_monotonic_us();
    LIST_INSERT_HEAD(&control->connections, c, link);
    control->connection_count++;
    return 0;
}

static void accept_on(void *aux)
{
    struct control *control = aux;

    (void)loop_source_set_events(control->source, EPOLLIN, NULL);
}

/* Descriptors have run out: without a pause the loop would turn for nothing. */
static void accept_failed(struct control *control, int number)
{
    if (number == EAGAIN || number == EINTR || number == ECONNABORTED)
        return;
    log_warning("a control connection cannot be taken: %s", strerror(number));
    (void)loop_source_set_events(control->source, 0, NULL);
    loop_timer_arm(control->pause, ACCEPT_PAUSE_US);
}

static void incoming(void *aux, uint32_t events)
{
    struct control *control = aux;
    struct err e = ERR_INIT;
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0) {
        accept_failed(control, errno);
        return;
    }
    if (connection_new(control, fd, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "control socket");
        (void)close(fd);
    }
}

/* ---- the socket ---- */

static int find_group(const char *name, gid_t *out, struct err *e)
{
    struct group group, *found = NULL;
    _cleanup_(str_freep) char *buffer = mem_new(GROUP_BUFFER);
    int number = getgrnam_r(name, &group, buffer, GROUP_BUFFER, &found);

    if (number != 0)
        return err_set_errno(e, ERR_SYSTEM, number, "group \"%s\" of [agent] control_group", name);
    if (!found)
        return err_set(e, ERR_CONFIG,
                       "[agent] control_group is \"%s\", but there is no such group; make it "
                       "(groupadd --system %s), name another, or leave it empty for root alone",
                       name, name);
    *out = found->gr_gid;
    return 0;
}

static int make_directory(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    _cleanup_(str_freep) char *directory = text_dup_n(path, slash ? (size_t)(slash - path) : 0);

    if (!directory[0])
        return 0;
    /* our umask keeps all others out, but the socket's own mode is what decides */
    if (mkdir(directory, 0755) == 0 ? chmod(directory, 0755) == 0 : errno == EEXIST)
        return 0;
    return err_set_errno(e, ERR_SYSTEM, errno, "directory %s of the control socket", directory);
}

/* A socket that an agent left behind goes; one that is answered, or any other file, stays. */
static int clear_place(const struct sockaddr_un *address, struct err *e)
{
    struct stat st;
    _cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "no socket can be made");
    if (lstat(address->sun_path, &st) < 0)
        return errno == ENOENT
                   ? 0
                   : err_set_errno(e, ERR_SYSTEM, errno, "control socket %s", address->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_CONFIG,
                       "%s is there and is no socket; [agent] control_socket wants "
                       "to be made there",
                       address->sun_path);
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return err_set(e, ERR_CONFIG, "another agent answers at %s already", address->sun_path);
    if (errno != ECONNREFUSED)
        return err_set_errno(e, ERR_SYSTEM, errno, "control socket %s", address->sun_path);
    if (unlink(address->sun_path) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "the old control socket %s cannot be removed",
                             address->sun_path);
    return 0;
}

/* Nobody can connect before listen(): owner, group and mode are right by then. */
static int bind_socket(struct control *control, const struct sockaddr_un *address,
                       const char *group, struct err *e)
{
    struct stat st;
    gid_t gid = (gid_t)-1;

    control->group_may = group && *group;
    if (control->group_may && find_group(group, &gid, e) < 0)
        return -1;
    if (fchmod(control->fd, 0600) < 0 ||
        bind(control->fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "control socket %s", control->path);
    if (lstat(control->path, &st) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "control socket %s", control->path);
    control->device = st.st_dev;
    control->inode = st.st_ino;
    if (control->group_may &&
        (lchown(control->path, (uid_t)-1, gid) < 0 || chmod(control->path, 0660) < 0))
        return err_set_errno(e, ERR_SYSTEM, errno, "control socket %s cannot be given to group %s",
                             control->path, group);
    if (listen(control->fd, BACKLOG) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "control socket %s", control->path);
    return 0;
}

static int control_listen(struct control *control, const char *group, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(control->path) >= sizeof(address.sun_path))
        return err_set(e, ERR_CONFIG,
                       "[agent] control_socket \"%s\" is longer than the %zu bytes allowed",
                       control->path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, control->path, strlen(control->path));
    if (make_directory(control->path, e) < 0 || clear_place(&address, e) < 0)
        return -1;
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "no socket can be made");
    return bind_socket(control, &address, group, e);
}

int control_new(struct control **out, struct agent *agent, const char *path, const char *group,
                struct err *e)
{
    struct control *control = NEW(struct control);

    control->agent = agent;
    control->path = text_dup(path);
    control->fd = -1;
    LIST_INIT(&control->connections);
    control->pause = loop_timer_new(agent->loop, "control pause", accept_on, control);
    if (control_listen(control, group, e) == 0)
        control->source =
            loop_add_fd(agent->loop, control->fd, EPOLLIN, "control socket", incoming, control, e);
    if (!control->source) {
        control_free(control);
        return -1;
    }
    log_info("the control socket is %s, for root%s%s", path,
             control->group_may ? " and group " : "", control->group_may ? group : "");
    *out = control;
    return 0;
}

void control_free(struct control *control)
{
    struct stat st;

    if (!control)
        return;
    while (!LIST_EMPTY(&control->connections))
        connection_close(LIST_FIRST(&control->connections));
    loop_source_free(control->source);
    loop_timer_free(control->pause);
    if (control->fd >= 0)
        (void)close(control->fd);
    if (control->inode && lstat(control->path, &st) == 0 && st.st_ino == control->inode &&
        st.st_dev == control->device)
        (void)unlink(control->path);
    free(control->path);
    free(control);
}
