/* SPDX-License-Identifier: Apache-2.0 */
/* The fake wiring; see fake.h. Its world hangs at struct net. */
#include "net/fake.h"

#include <pthread.h>
#include <string.h>

#include "lib/json.h"
#include "net/net_provider.h"

/* Whatever a test says about a name: a bridge that is missing, a tap that is plugged, ... */
struct fact {
    char *name;
    bool creatable, missing, plugged, unwired, teachable;
    unsigned announced;
};
DEFINE_VECTOR(fact_vector, struct fact)

struct failure {
    char *operation, *text;
    enum err_code code;
    unsigned times;
};
DEFINE_VECTOR(failure_vector, struct failure)

struct fake {
    pthread_mutex_t lock;
    struct fact_vector facts;
    struct failure_vector failures;
    struct text_buffer calls;
};

static inline void unlockp(pthread_mutex_t **lock)
{
    (void)pthread_mutex_unlock(*lock);
}
#define LOCKED(net)                                                                                \
    _cleanup_(unlockp) _unused_ pthread_mutex_t *locked = &world(net)->lock;                       \
    (void)pthread_mutex_lock(locked)

void *net_fake_world_new(void)
{
    struct fake *w = NEW(struct fake);

    (void)pthread_mutex_init(&w->lock, NULL);
    return w;
}

static struct fake *world(const struct net *net)
{
    return net_fake_world(net);
}

void net_fake_world_free(void *aux)
{
    struct fake *w = aux;

    if (!w)
        return;
    for (size_t i = 0; i < w->facts.length; i++)
        free(w->facts.items[i].name);
    for (size_t i = 0; i < w->failures.length; i++) {
        free(w->failures.items[i].operation);
        free(w->failures.items[i].text);
    }
    free(w->facts.items);
    free(w->failures.items);
    text_buffer_free(&w->calls);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct fact *fact(struct net *net, const char *name)
{
    struct fake *w = world(net);

    for (size_t i = 0; i < w->facts.length; i++)
        if (text_equal(w->facts.items[i].name, name))
            return &w->facts.items[i];
    struct fact *f = fact_vector_add(&w->facts);
    f->name = text_dup(name);
    return f;
}

/* Notes the call; -1 if the script says that it fails. */
static int called(struct net *net, const char *operation, const char *name, struct err *e)
{
    struct fake *w = world(net);

    text_buffer_printf(&w->calls, "%s%s %s", w->calls.length ? "\n" : "", operation, name);
    for (size_t i = 0; i < w->failures.length; i++) {
        struct failure *f = &w->failures.items[i];
        if (f->times == 0 || !text_equal(f->operation, operation))
            continue;
        f->times--;
        return err_set(e, f->code, "%s", f->text);
    }
    return 0;
}

/* --- the script ------------------------------------------------------------------------------ */

void net_fake_bridge_missing(struct net *net, const char *bridge, bool creatable)
{
    LOCKED(net);
    struct fact *f = fact(net, bridge);
    f->missing = true;
    f->creatable = creatable;
}

bool net_fake_bridge_exists(struct net *net, const char *bridge)
{
    LOCKED(net);
    return !fact(net, bridge)->missing;
}

void net_fake_fail(struct net *net, const char *operation, unsigned times, enum err_code code,
                   const char *text)
{
    LOCKED(net);
    struct failure *f = failure_vector_add(&world(net)->failures);
    *f = (struct failure){text_dup(operation), text_dup(text), code, times};
}

void net_fake_set_unwired(struct net *net, const char *tap, bool unwired)
{
    LOCKED(net);
    fact(net, tap)->unwired = unwired;
}

void net_fake_set_teachable(struct net *net, const char *tap, bool teachable)
{
    LOCKED(net);
    fact(net, tap)->teachable = teachable;
}

size_t net_fake_plugged(struct net *net)
{
    LOCKED(net);
    const struct fake *w = world(net);
    size_t n = 0;
    for (size_t i = 0; i < w->facts.length; i++)
        n += w->facts.items[i].plugged;
    return n;
}

unsigned net_fake_announced(struct net *net, const char *tap)
{
    LOCKED(net);
    return fact(net, tap)->announced;
}

char *net_fake_calls(struct net *net)
{
    LOCKED(net);
    const struct fake *w = world(net);
    return text_dup(w->calls.data ? w->calls.data : "");
}

void net_fake_forget_calls(struct net *net)
{
    LOCKED(net);
    text_buffer_free(&world(net)->calls);
}

/* --- operations ------------------------------------------------------------------------------ */

static int check_bridge(struct net *net, const struct net_port *port, struct err *e)
{
    const struct fact *f = fact(net, port->bridge);

    if (!f->missing || f->creatable)
        return 0;
    return err_set(e, ERR_NET_PLUG, "bridge %s is missing and cannot be made", port->bridge);
}

static int fake_check(const struct net_look *look, const struct net_port *port, struct err *e)
{
    LOCKED(look->net);
    if (called(look->net, "check", port->tap, e) < 0)
        return -1;
    return check_bridge(look->net, port, e);
}

static int fake_ready(const struct net_look *look, const struct net_port *port, struct err *e)
{
    LOCKED(look->net);
    if (called(look->net, "ready", port->tap, e) < 0)
        return -1;
    if (fact(look->net, port->bridge)->missing)
        return err_set(e, ERR_NET_PLUG, "bridge %s is missing", port->bridge);
    return 0;
}

static int fake_wired(const struct net_look *look, const struct net_port *port, bool *wired,
                      struct err *e)
{
    LOCKED(look->net);
    if (called(look->net, "wired", port->tap, e) < 0)
        return -1;
    *wired = !fact(look->net, port->tap)->unwired;
    return 0;
}

static int fake_present(const struct net_look *look, const struct net_port *port, bool *present,
                        struct err *e)
{
    LOCKED(look->net);
    if (called(look->net, "present", port->tap, e) < 0)
        return -1;
    *present = fact(look->net, port->tap)->plugged;
    return 0;
}

static int fake_plug(const struct net_look *look, const struct net_port *port, struct undo *undo,
                     struct err *e)
{
    if (net_push_unplug(undo, port, e) < 0)
        return -1;
    LOCKED(look->net);
    if (called(look->net, "plug", port->tap, e) < 0 || check_bridge(look->net, port, e) < 0)
        return -1;
    fact(look->net, port->bridge)->missing = false;
    fact(look->net, port->tap)->plugged = true;
    return 0;
}

static int fake_unplug(const struct net_look *look, const struct net_port *port, struct err *e)
{
    LOCKED(look->net);
    if (called(look->net, "unplug", port->tap, e) < 0)
        return -1;
    fact(look->net, port->tap)->plugged = false;
    return 0;
}

static int fake_hold(const struct net_look *look, const struct net_port *port, struct err *e)
{
    LOCKED(look->net);
    return called(look->net, "hold", port->tap, e);
}

static int fake_audit(const struct net_look *look, struct net_audit_rows *rows, struct err *e)
{
    LOCKED(look->net);
    const struct fake *w = world(look->net);
    if (called(look->net, "audit", "", e) < 0)
        return -1;
    for (size_t i = 0; i < w->facts.length; i++) {
        if (!w->facts.items[i].plugged)
            continue;
        struct net_audit_row *row = net_audit_rows_add(rows);
        row->name = text_dup(w->facts.items[i].name);
        row->why = text_dup("plugged in the fake wiring");
    }
    return 0;
}

static int fake_arm(struct net_armed_port *p, struct err *e)
{
    LOCKED(p->net);
    p->wired = true;
    return called(p->net, "arm", p->port->tap, e);
}

static void fake_disarm(struct net_armed_port *p)
{
    LOCKED(p->net);
    (void)called(p->net, "disarm", p->port->tap, NULL);
}

static unsigned fake_announce(struct net_armed_port *p, struct err *e)
{
    LOCKED(p->net);
    struct fact *f = fact(p->net, p->port->tap);
    p->wired = !f->unwired;
    if (!p->wired || called(p->net, "announce", p->port->tap, e) < 0)
        return 0;
    f->announced++;
    return (unsigned)p->n_frames;
}

static bool fake_teach(struct net_armed_port *p, struct err *e)
{
    LOCKED(p->net);
    return fact(p->net, p->port->tap)->teachable && called(p->net, "teach", p->port->tap, e) == 0;
}

const struct net_ops net_fake_ops = {
    .name = "fake",
    .check = fake_check,
    .ready = fake_ready,
    .wired = fake_wired,
    .present = fake_present,
    .plug = fake_plug,
    .unplug = fake_unplug,
    .hold = fake_hold,
    .audit = fake_audit,
    .arm = fake_arm,
    .disarm = fake_disarm,
    .announce = fake_announce,
    .teach = fake_teach,
};
