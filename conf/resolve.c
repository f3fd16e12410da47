/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw texts to a snapshot. Theory of operation: each row has a text, given or from the table; texts may
 * refer to other options as oslo.config permits ($name, ${name}, ${group.name}; a name alone is looked
 * for in the own group, then in DEFAULT; `$$` and `\$` are a dollar sign; what nobody knows stays as it
 * is). Rows are resolved on demand, depth first, with a mark against circles.
 */
#include "conf/internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/text.h"

enum mark { MARK_NEW, MARK_BUSY, MARK_DONE };

struct resolver {
    struct conf_raw *raw;
    struct conf *conf;
    struct conf_report *report;
    bool nova_defaults;
    enum mark marks[CONF_COUNT];
};

static int resolve_row(struct resolver *r, enum conf_id id);

/* --- automatic defaults ---------------------------------------------------------------------- */

static char *machine_name(void)
{
    char name[256];

    if (gethostname(name, sizeof(name)) < 0)
        return text_dup("localhost");
    name[sizeof(name) - 1] = '\0';
    return text_dup(name[0] ? name : "localhost");
}

/* The source address the kernel would use towards the outside; connecting a UDP socket sends nothing. */
static char *outside_address(void)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(9)}, here = {0};
    socklen_t size = sizeof(here);
    char text[INET_ADDRSTRLEN];
    _cleanup_(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)inet_pton(AF_INET, "198.51.100.1", &there.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&there, sizeof(there)) < 0 ||
        getsockname(fd, (struct sockaddr *)&here, &size) < 0 ||
        !inet_ntop(AF_INET, &here.sin_addr, text, sizeof(text)))
        return text_dup("127.0.0.1");
    return text_dup(text);
}

/* live_migration_inbound_addr with %s replaced by the host, else my_ip. */
static char *migration_address(struct resolver *r)
{
    if (resolve_row(r, CONF_libvirt_live_migration_inbound_addr) < 0 ||
        resolve_row(r, CONF_DEFAULT_my_ip) < 0 || resolve_row(r, CONF_DEFAULT_host) < 0)
        return NULL;
    const char *inbound = conf_string(r->conf, CONF_libvirt_live_migration_inbound_addr);
    if (!inbound || !*inbound)
        return text_dup(conf_string(r->conf, CONF_DEFAULT_my_ip));
    const char *place = strstr(inbound, "%s");
    if (!place)
        return text_dup(inbound);
    return text_format("%.*s%s%s", (int)(place - inbound), inbound,
                       conf_string(r->conf, CONF_DEFAULT_host), place + 2);
}

/* What Neutron's Linux bridge agent on this host has; "" where there is none. */
static char *neutron_mappings(struct resolver *r, char **origin)
{
    if (resolve_row(r, CONF_agent_control_plane) < 0 ||
        resolve_row(r, CONF_net_linuxbridge_agent_file) < 0)
        return NULL;
    if (!text_equal(conf_string(r->conf, CONF_agent_control_plane), "nova"))
        return text_dup("");
    char *text = conf_neutron_mappings(conf_string(r->conf, CONF_net_linuxbridge_agent_file),
                                       conf_is_set(r->conf, CONF_net_linuxbridge_agent_file),
                                       origin, r->report);
    return text ? text : text_dup("");
}

/* *origin is set where the value has a better one than "automatic". */
static char *automatic_text(struct resolver *r, enum conf_id id, char **origin)
{
    switch ((int)id) {
    case CONF_net_physical_interface_mappings:
        return neutron_mappings(r, origin);
    case CONF_DEFAULT_host:
    case CONF_oslo_messaging_rabbit_hostname:
        return machine_name();
    case CONF_DEFAULT_my_ip:
        return outside_address();
    case CONF_agent_migration_address:
        return migration_address(r);
    default:
        return NULL;
    }
}

/* --- interpolation --------------------------------------------------------------------------- */

static int problem(struct resolver *r, enum conf_id id, const char *text)
{
    const struct conf_raw *raw = &r->raw[id];
    conf_report_add(r->report, CONF_ERROR, raw->file, raw->line, "%s", text);
    return -1;
}

/* The option that `name` means inside `group`; CONF_COUNT if there is none. */
static enum conf_id referred(const char *group, const char *name)
{
    if (strchr(name, '.'))
        return conf_find_dotted(name);
    enum conf_id id = conf_find(group, name);
    return id != CONF_COUNT ? id : conf_find("DEFAULT", name);
}

/* Length of a reference's name at p, as Python's string.Template with oslo's pattern reads it. */
static size_t name_length(const char *p)
{
    size_t n = 0;

    if (!isalpha((unsigned char)p[0]) && p[0] != '_')
        return 0;
    while (isalnum((unsigned char)p[n]) || p[n] == '_' ||
           (p[n] == '.' && (isalnum((unsigned char)p[n + 1]) || p[n + 1] == '_')))
        n++;
    return n;
}

/* One reference at *p (behind the dollar sign). Moves *p behind it; unknown ones are left as they are. */
static int substitute(struct resolver *r, enum conf_id id, const char **p, struct text_buffer *out)
{
    bool braced = **p == '{';
    const char *start = *p + braced;
    size_t length = name_length(start);

    if (!length || (braced && start[length] != '}')) {
        text_buffer_add(out, "$");
        return 0;
    }
    _cleanup_(str_freep) char *name = text_dup_n(start, length);
    enum conf_id other = referred(conf_row(id)->group, name);
    const char *end = start + length + braced;

    if (other == CONF_COUNT) {
        text_buffer_add(out, "$");
        text_buffer_add_n(out, *p, (size_t)(end - *p));
    } else {
        const struct conf_row *row = conf_row(other), *own = conf_row(id);
        if ((row->flags & CONF_SECRET) && !(own->flags & CONF_SECRET)) {
            _cleanup_(str_freep) char *text =
                text_format("%s.%s: refers to %s.%s, whose value is a secret", own->group,
                            own->name, row->group, row->name);
            return problem(r, id, text);
        }
        if (resolve_row(r, other) < 0)
            return -1;
        const char *value = r->conf->values[other].text;
        text_buffer_add(out, value ? value : "");
    }
    *p = end;
    return 0;
}

static int interpolate(struct resolver *r, enum conf_id id, const char *text, char **out)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    const struct conf_row *row = conf_row(id);

    for (const char *p = text; *p;) {
        if ((p[0] == '\\' || p[0] == '$') && p[1] == '$') {
            text_buffer_add(&b, "$");
            p += 2;
        } else if (p[0] == '$') {
            p++;
            if (substitute(r, id, &p, &b) < 0) {
                text_buffer_free(&b);
                return -1;
            }
        } else {
            size_t plain = strcspn(p + 1, "$\\") + 1;
            text_buffer_add_n(&b, p, plain);
            p += plain;
        }
        if (b.length > CONF_VALUE_MAX) {
            text_buffer_free(&b);
            _cleanup_(str_freep) char *message =
                text_format("%s.%s: the value is longer than %d bytes with what it refers to",
                            row->group, row->name, CONF_VALUE_MAX);
            return problem(r, id, message);
        }
    }
    *out = text_buffer_take(&b);
    return 0;
}

/* --- rows ------------------------------------------------------------------------------------- */

static char *origin_text(const struct conf_raw *raw, const char *otherwise)
{
    if (!raw->text)
        return text_dup(otherwise);
    if (!raw->file)
        return text_dup("command line");
    return raw->line ? text_format("%s:%d", raw->file, raw->line) : text_dup(raw->file);
}

static int resolve_text(struct resolver *r, enum conf_id id)
{
    const struct conf_row *row = conf_row(id);
    const struct conf_raw *raw = &r->raw[id];
    bool nova = r->nova_defaults && row->nova_default;
    const char *own = nova ? row->nova_default : row->default_text;
    const char *text = raw->text ? raw->text : own;
    _cleanup_(str_freep) char *final = NULL;
    struct conf_value value = {0};
    struct err e = ERR_INIT;
    bool automatic = !text && row->automatic;
    _cleanup_(str_freep) char *found_at = NULL;

    if (automatic)
        final = automatic_text(r, id, &found_at);
    else if (text && interpolate(r, id, text, &final) < 0)
        return -1;
    if (conf_value_parse(row, final, &value, &e) < 0)
        return problem(r, id, e.text);
    value.set = raw->text != NULL;
    const char *otherwise = automatic ? "automatic" : nova ? "Nova's default" : "default";
    value.origin = origin_text(raw, found_at ? found_at : otherwise);
    r->conf->values[id] = value;
    return 0;
}

static int resolve_row(struct resolver *r, enum conf_id id)
{
    if (r->marks[id] == MARK_DONE)
        return r->conf->values[id].origin ? 0 : -1;
    if (r->marks[id] == MARK_BUSY) {
        _cleanup_(str_freep) char *text =
            text_format("%s.%s: refers to itself, directly or through other options",
                        conf_row(id)->group, conf_row(id)->name);
        return problem(r, id, text);
    }
    r->marks[id] = MARK_BUSY;
    int result = resolve_text(r, id);
    r->marks[id] = MARK_DONE;
    return result;
}

struct conf *conf_resolve(struct conf_raw raw[CONF_COUNT], bool nova_defaults,
                          struct conf_report *report)
{
    struct resolver r = {
        .raw = raw, .conf = conf_new(), .report = report, .nova_defaults = nova_defaults};

    for (unsigned i = 0; i < CONF_COUNT; i++)
        (void)resolve_row(&r, (enum conf_id)i);
    return r.conf;
}
