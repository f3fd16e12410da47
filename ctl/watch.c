/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch: looks at a migration again and again until it has ended. On a terminal the screen is drawn in
 * place: the cursor goes up by the lines drawn before, each line is cleared to its end. An agent that is
 * away for a while (restart, upgrade) is waited for: the migration goes on without it.
 */
#include "ctl/ctl.h"

#include <poll.h>
#include <string.h>

#include "ctl/handlers.h"
#include "ctl/view.h"
#include "lib/clock.h"
#include "lib/json.h"

#define AWAY_MAX_US (60 * USEC_PER_SEC)

struct watch {
    struct ctl *ctl;
    const struct ctl_job *job;
    bool quiet;
    bool seen;             /* the agent has answered before */
    unsigned lines;        /* drawn and still above the cursor */
    int64_t away_since_us; /* 0 = the agent answers */
};

static unsigned count_lines(const struct text_buffer *text)
{
    unsigned lines = 0;

    for (size_t i = 0; i < text->length; i++)
        lines += text->data[i] == '\n';
    return lines;
}

/* Puts "clear to the end of the line" before each line end and "up" before all. */
static int draw(struct watch *w, struct text_buffer *screen, struct err *e)
{
    struct text_buffer out = TEXT_BUFFER_INIT;

    if (w->lines)
        text_buffer_printf(&out, "\033[%uA", w->lines);
    w->lines = count_lines(screen);
    for (size_t i = 0; i < screen->length; i++) {
        if (screen->data[i] == '\n')
            text_buffer_add(&out, "\033[K");
        text_buffer_add_n(&out, screen->data + i, 1);
    }
    text_buffer_add(&out, "\033[J");
    text_buffer_free(screen);
    return ctl_print(w->ctl, &out, e);
}

static int show(struct watch *w, struct json_object *m, struct err *e)
{
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (w->quiet)
        return 0;
    if (ctl_wants_json(w->ctl))
        return ctl_print_json(w->ctl, m, e);
    if (w->ctl->terminal) {
        w->job->screen(&text, m, w->ctl->width);
        return draw(w, &text, e);
    }
    w->job->line(&text, m);
    return ctl_print(w->ctl, &text, e);
}

static int show_end(struct watch *w, struct json_object *m, struct err *e)
{
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (w->quiet && ctl_wants_json(w->ctl))
        return ctl_print_json(w->ctl, m, e);
    if (w->quiet || ctl_wants_json(w->ctl))
        return 0;
    w->job->result(&text, m);
    return ctl_print(w->ctl, &text, e);
}

/* One look. 1 and *out, 0 if an agent that has answered before is away for now, -1. */
static int look(struct watch *w, struct json_object *target, struct json_object **out,
                struct err *e)
{
    struct err own = ERR_INIT;

    if (ctl_call(w->ctl, w->job->command, json_object_get(target), out, &own) == 0) {
        w->away_since_us = 0;
        w->seen = true;
        if (json_object_is_type(*out, json_type_object))
            return 1;
        return err_set(e, ERR_PARSE, "the agent's answer is no %s", w->job->command);
    }
    int64_t now = clock_monotonic_us();
    bool away = own.code == ERR_UNREACHABLE || own.code == ERR_TIMEOUT;
    if (w->away_since_us == 0)
        w->away_since_us = now;
    if (away && w->seen && now - w->away_since_us < AWAY_MAX_US)
        return 0;
    if (e)
        *e = own;
    return -1;
}

static int interval_ms(const struct ctl *ctl, bool quiet, int *out, struct err *e)
{
    const char *text = ctl->values[CTL_OPTION_INTERVAL];
    double seconds = quiet || ctl->terminal ? 0.5 : 5;

    if (text && text_to_double(text, 0.05, 3600, &seconds, e) < 0) {
        err_clear(e);
        return err_set(e, ERR_USAGE,
                       "--interval %s: it must be a number of seconds from 0.05 to 3600", text);
    }
    *out = (int)(seconds * 1000);
    return 0;
}

int ctl_follow_job(struct ctl *ctl, const struct ctl_job *job, struct json_object *target,
                   bool quiet, struct err *e)
{
    struct watch w = {.ctl = ctl, .job = job, .quiet = quiet};
    int pause_ms = 0;

    if (interval_ms(ctl, quiet, &pause_ms, e) < 0)
        return -1;
    for (;;) {
        _cleanup_(json_putp) struct json_object *m = NULL;
        int found = look(&w, target, &m, e);
        if (found < 0)
            return -1;
        if (found && show(&w, m, e) < 0)
            return -1;
        if (found && !job->is_active(m))
            return show_end(&w, m, e) < 0 ? -1 : job->outcome(m, e);
        (void)poll(NULL, 0, pause_ms);
    }
}

int ctl_follow(struct ctl *ctl, struct json_object *target, bool quiet, struct err *e)
{
    static const struct ctl_job migration = {.command = "migration",
                                             .is_active = view_is_active,
                                             .screen = view_screen,
                                             .line = view_line,
                                             .result = view_result,
                                             .outcome = view_outcome};

    return ctl_follow_job(ctl, &migration, target, quiet, e);
}

/*
 * An instance may be migrated again while we look, so a name is turned into the number of its newest
 * migration first.
 */
static int pin(struct ctl *ctl, struct json_object **target, struct err *e)
{
    _cleanup_(json_putp) struct json_object *m = NULL;

    if (json_has(*target, "migration"))
        return 0;
    if (ctl_call(ctl, "migration", json_object_get(*target), &m, e) < 0)
        return -1;
    if (!json_has(m, "id"))
        return err_set(e, ERR_PARSE, "the agent's answer is no migration");
    json_object_put(*target);
    *target = json_object_new_object();
    json_add(*target, "migration", json_object_get(json_get(m, "id")));
    return 0;
}

int ctl_run_watch(struct ctl *ctl, struct err *e)
{
    _cleanup_(json_putp) struct json_object *target = NULL;

    if (ctl_target(ctl, ctl->argument_count ? ctl->arguments[0] : NULL, &target, e) < 0 ||
        pin(ctl, &target, e) < 0)
        return -1;
    return ctl_follow(ctl, target, false, e);
}
