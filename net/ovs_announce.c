/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Announcing on Open vSwitch: the bridge is told to treat our frames as if they had come from the tap
 * (packet-out with the tap's port and action NORMAL). It learns the MAC behind the tap, with the port's
 * VLAN, and lets the frames out as it would the guest's own, through patch ports and flows.
 *
 * Two connections per armed port, both to unix sockets of this host and both ready before the pause:
 * OpenFlow to <run directory>/<bridge>.mgmt carries the packet-outs and tells when the port joins the
 * datapath; OVSDB tells when the port's VLAN tag changes, because Neutron's agent sets it up to 2 s after
 * the tap appears and what was announced before went nowhere. A lost connection is made again.
 */
#include "net/ovs_announce.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/log.h"
#include "lib/text.h"
#include "net/openflow.h"
#include "net/ovsdb.h"
#include "net/tap_guard.h"

LOG_MODULE(net);

enum {
    RECONNECT_US = 200000,
    READ_SIZE = 16384,
    READS_A_TURN = 32,
    PENDING_MAX = 1024 * 1024,
    PATCHES_MAX = 16,
    VLAN_NONE = 4095 /* Neutron's, for a port that leads nowhere */
};
/* Behind them are reserved numbers. */
static const uint32_t ports_end_10 = 0xff00, ports_end_13 = 0xffffff00;
/* Neutron's agent names the integration bridge's end of a patch to the bridge of a physical network so. */
static const char patch_prefix[] = "int-";

struct ovs_port {
    struct net_armed_port *p;
    char *socket_path, *database;
    struct loop_timer *retry;
    /* OpenFlow */
    int fd;
    struct loop_source *source;
    struct text_buffer in, out;
    uint8_t version;      /* 0 until the hellos are over */
    bool reading, lost;   /* lost while it was read: closed when that is over */
    uint32_t port_number; /* 0 = the tap is not in the datapath */
    uint32_t patches[PATCHES_MAX];
    size_t n_patches;
    /* OVSDB */
    struct ovsdb *db;
    struct loop_source *db_source;
};

/* --- OpenFlow -------------------------------------------------------------------------------- */

static void line_close(struct ovs_port *o)
{
    loop_source_free(o->source);
    o->source = NULL;
    fd_closep(&o->fd);
    o->fd = -1;
    text_buffer_free(&o->in);
    text_buffer_free(&o->out);
    o->version = 0;
    o->port_number = 0;
    o->n_patches = 0;
    o->p->wired = false;
}

static void line_lost(struct ovs_port *o, const char *why)
{
    if (o->reading) {
        o->lost = true;
        return;
    }
    log_debug("OpenFlow connection %s: %s", o->socket_path, why);
    line_close(o);
    loop_timer_arm(o->retry, RECONNECT_US);
}

static void consume(struct text_buffer *b, size_t n)
{
    memmove(b->data, b->data + n, b->length - n);
    b->length -= n;
}

/* Sends what it can; the rest waits for EPOLLOUT. -1: the connection is gone. */
static int line_flush(struct ovs_port *o)
{
    while (o->out.length) {
        ssize_t n = send(o->fd, o->out.data, o->out.length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        if (n <= 0)
            break;
        consume(&o->out, (size_t)n);
    }
    if (o->out.length > PENDING_MAX)
        return -1;
    return loop_source_set_events(o->source, EPOLLIN | (o->out.length ? EPOLLOUT : 0), NULL);
}

static void note_patch(struct ovs_port *o, const struct openflow_port *port)
{
    size_t i = 0;

    while (i < o->n_patches && o->patches[i] != port->number)
        i++;
    if (port->gone && i < o->n_patches)
        o->patches[i] = o->patches[--o->n_patches];
    else if (!port->gone && i == o->n_patches && i < PATCHES_MAX)
        o->patches[o->n_patches++] = port->number;
}

static void note_port(void *aux, const struct openflow_port *port)
{
    struct ovs_port *o = aux;

    if (text_starts_with(port->name, patch_prefix) &&
        port->number < (o->version == OPENFLOW_13 ? ports_end_13 : ports_end_10))
        note_patch(o, port);
    if (strcmp(port->name, o->p->port->tap) != 0)
        return;
    bool is_new = !port->gone && port->number != o->port_number;
    o->port_number = port->gone ? 0 : port->number;
    o->p->wired = o->port_number != 0;
    if (is_new)
        net_armed_port_wired(o->p);
}

static int take_message(struct ovs_port *o, const struct openflow_message *m, struct err *e)
{
    if (m->type == OPENFLOW_HELLO && !o->version) {
        if (openflow_negotiate(m, &o->version, e) < 0)
            return -1;
        openflow_put_watch_ports(&o->out, o->version);
        return 0;
    }
    if (!o->version || m->version != o->version)
        return 0; /* an error about the hello has another version; the switch then hangs up */
    if (m->type == OPENFLOW_ECHO_REQUEST)
        openflow_put_echo_reply(&o->out, m);
    return openflow_ports(m, note_port, o, e);
}

static int take_messages(struct ovs_port *o, struct err *e)
{
    struct openflow_message m;
    size_t at = 0;
    int rc;

    while ((rc = openflow_next((const uint8_t *)o->in.data + at, o->in.length - at, &m, e)) > 0) {
        at += m.length;
        if (take_message(o, &m, e) < 0)
            return -1;
    }
    if (at)
        consume(&o->in, at);
    return rc;
}

/* -1: the connection is gone. */
static int line_read(struct ovs_port *o)
{
    char piece[READ_SIZE];

    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = recv(o->fd, piece, sizeof(piece), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0)
            return -1;
        text_buffer_add_n(&o->in, piece, (size_t)n);
    }
    return 0;
}

static void line_ready(void *aux, uint32_t epoll_events _unused_)
{
    struct ovs_port *o = aux;
    struct err e = ERR_INIT;

    if (line_read(o) < 0) {
        line_lost(o, "closed by the switch");
        return;
    }
    o->lost = false;
    o->reading = true; /* a port that is wired is announced while the message of it is read */
    int rc = take_messages(o, &e);
    o->reading = false;
    if (rc < 0)
        line_lost(o, e.text);
    else if (o->lost || line_flush(o) < 0)
        line_lost(o, "cannot be written");
}

static int line_open(struct ovs_port *o, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, o->socket_path, strlen(o->socket_path) + 1);
    o->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (o->fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a socket to Open vSwitch cannot be opened");
    if (connect(o->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_set_errno(e, ERR_NET_PLUG, errno, "%s", o->socket_path);
    o->source = loop_add_fd(net_loop(o->p->net), o->fd, EPOLLIN, "OpenFlow", line_ready, o, e);
    if (!o->source)
        return -1;
    openflow_put_hello(&o->out);
    if (line_flush(o) < 0)
        return err_set(e, ERR_NET_PLUG, "%s cannot be written", o->socket_path);
    return 0;
}

/* --- OVSDB ----------------------------------------------------------------------------------- */

static void watch_close(struct ovs_port *o)
{
    loop_source_free(o->db_source);
    o->db_source = NULL;
    ovsdb_free(o->db);
    o->db = NULL;
}

static void watch_ready(void *aux, uint32_t epoll_events _unused_)
{
    struct ovs_port *o = aux;
    struct err e = ERR_INIT;
    bool changed = false;

    if (ovsdb_drain(o->db, &changed, &e) < 0) {
        log_err(LOG_LEVEL_DEBUG, &e, "watching tap %s", o->p->port->tap);
        watch_close(o);
        loop_timer_arm(o->retry, RECONNECT_US);
    } else if (changed && o->p->wired) {
        net_armed_port_wired(o->p);
    }
}

static int watch_open(struct ovs_port *o, struct err *e)
{
    if (ovsdb_open(&o->db, o->database, e) < 0)
        return -1;
    o->db_source =
        loop_add_fd(net_loop(o->p->net), ovsdb_fd(o->db), EPOLLIN, "OVSDB", watch_ready, o, e);
    return o->db_source ? ovsdb_watch_port(o->db, o->p->port->tap, e) : -1;
}

/* --- both ------------------------------------------------------------------------------------ */

static void connect_missing(void *aux)
{
    struct ovs_port *o = aux;
    struct err e = ERR_INIT;

    if (o->fd < 0 && line_open(o, &e) < 0)
        line_lost(o, e.text);
    if (o->database && !o->db && watch_open(o, &e) < 0) {
        log_err(LOG_LEVEL_DEBUG, &e, "watching tap %s", o->p->port->tap);
        watch_close(o);
        loop_timer_arm(o->retry, RECONNECT_US);
    }
}

/* Connecting to this host ends at once; to another it could keep the loop waiting. */
static bool is_local(const char *connection)
{
    return text_starts_with(connection, "unix:") || text_starts_with(connection, "tcp:127.") ||
           text_starts_with(connection, "tcp:[::1]:");
}

/* The management sockets are where the database's socket is, by Open vSwitch's own rule. */
static char *management_socket(const char *database, const char *bridge)
{
    const char *path = text_starts_with(database, "unix:") ? database + 5 : "";
    const char *slash = strrchr(path, '/');

    if (!slash)
        return text_format("/run/openvswitch/%s.mgmt", bridge);
    return text_format("%.*s/%s.mgmt", (int)(slash - path), path, bridge);
}

int ovs_arm(struct net_armed_port *p, struct err *e)
{
    struct ovs_port *o = NEW(struct ovs_port);
    struct sockaddr_un address;

    _cleanup_(conf_unrefp) struct conf *conf = net_conf(p->net);
    const char *database = conf_string(conf, CONF_net_ovs_database);
    o->p = p;
    o->fd = -1;
    p->state = o;
    o->socket_path = management_socket(database, p->port->bridge);
    o->database = is_local(database) ? text_dup(database) : NULL;
    o->retry = loop_timer_new(net_loop(p->net), "Open vSwitch", connect_missing, o);
    if (strlen(o->socket_path) >= sizeof(address.sun_path))
        return err_set(e, ERR_CONFIG, "the path of socket %s is longer than %zu bytes",
                       o->socket_path, sizeof(address.sun_path) - 1);
    connect_missing(o);
    return 0;
}

void ovs_disarm(struct net_armed_port *p)
{
    struct ovs_port *o = p->state;

    if (!o)
        return;
    line_close(o);
    watch_close(o);
    loop_timer_free(o->retry);
    free(o->socket_path);
    free(o->database);
    free(o);
    p->state = NULL;
}

static void put_frame(struct ovs_port *o, uint32_t out_port, const struct frame *frame)
{
    openflow_put_packet_out(&o->out, o->version, o->port_number, out_port, frame);
}

/* -1: the connection is gone. */
static int send_frames(struct ovs_port *o, struct err *e)
{
    if (line_flush(o) == 0)
        return 0;
    line_lost(o, "cannot be written");
    return err_set(e, ERR_NET_PLUG, "the OpenFlow connection to bridge %s was lost",
                   o->p->port->bridge);
}

unsigned ovs_announce(struct net_armed_port *p, struct err *e)
{
    if (!p->wired)
        return 0;
    for (size_t i = 0; i < p->n_frames; i++)
        put_frame(p->state, OPENFLOW_NORMAL, &p->frames[i]);
    int rc = send_frames(p->state, e);
    tap_guard_check(p->port->tap); /* also for an agent that began after the tap */
    return rc == 0 ? (unsigned)p->n_frames : 0;
}

/* The bridges of physical networks learn for themselves. They know the made-up address behind the patch, from the first
 * lesson's flooding, so that what the guest sends to it ends there as well. Through a patch comes what is tagged. */
static void teach_beyond(struct ovs_port *o, const struct frame *lesson)
{
    int tag = o->db ? ovsdb_watched_tag(o->db) : -1;
    struct frame tagged;

    if (tag <= 0 || tag >= VLAN_NONE)
        return;
    frame_tag(&tagged, lesson, tag);
    for (size_t i = 0; i < o->n_patches; i++)
        put_frame(o, o->patches[i], &tagged);
}

bool ovs_teach(struct net_armed_port *p, struct err *e)
{
    struct ovs_port *o = p->state;
    struct frame lesson[FRAME_LESSONS];

    if (!p->wired)
        return false;
    frames_of_lesson(lesson, p->mac);
    for (size_t i = 0; i < FRAME_LESSONS; i++)
        put_frame(o, OPENFLOW_NORMAL, &lesson[i]);
    teach_beyond(o, &lesson[FRAME_LESSONS - 1]);
    return send_frames(o, e) == 0;
}
