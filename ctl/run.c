/* SPDX-License-Identifier: Apache-2.0 */
/* One run: parse, find the handler, talk to the agent, tell the error, exit status. */
#include <config.h>

#include "ctl/ctl.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "conf/row.h"
#include "lib/clock.h"
#include "lib/json.h"

int ctl_print(struct ctl *ctl, struct text_buffer *text, struct err *e)
{
    bool good = !text->length || fwrite(text->data, 1, text->length, ctl->out) == text->length;

    good = fflush(ctl->out) == 0 && good;
    text_buffer_free(text);
    return good ? 0 : err_set_errno(e, ERR_SYSTEM, errno, "the output cannot be written");
}

int ctl_print_json(struct ctl *ctl, struct json_object *value, struct err *e)
{
    struct text_buffer text = TEXT_BUFFER_INIT;
    _cleanup_(str_freep) char *json = json_text(value);

    text_buffer_printf(&text, "%s\n", json);
    return ctl_print(ctl, &text, e);
}

static int wait_seconds(const struct ctl *ctl, double *out, struct err *e)
{
    const char *text = ctl->values[CTL_OPTION_TIMEOUT];

    *out = ctl->patience_s > 0 ? ctl->patience_s : ctl->values[CTL_OPTION_HOST] ? 70 : 10;
    if (text && text_to_double(text, 0.1, 86400, out, e) < 0) {
        err_clear(e);
        return err_set(e, ERR_USAGE,
                       "--timeout %s: it must be a number of seconds from 0.1 to 86400", text);
    }
    return 0;
}

int ctl_call(struct ctl *ctl, const char *command, struct json_object *args,
             struct json_object **result, struct err *e)
{
    double seconds;
    const char *host = ctl->values[CTL_OPTION_HOST], *path = ctl->values[CTL_OPTION_SOCKET];
    bool good = wait_seconds(ctl, &seconds, e) == 0;
    int64_t deadline = good ? clock_monotonic_us() + (int64_t)(seconds * (double)USEC_PER_SEC) : 0;

    if (!path)
        path = conf_row(CONF_agent_control_socket)->default_text;
    good = good && (ctl->client || control_connect(&ctl->client, path, deadline, e) == 0);
    if (!good) {
        json_object_put(args);
        return -1;
    }
    struct err own = ERR_INIT;
    int status = control_call(ctl->client, command, args, host, deadline, result, &own);
    /* After these the stream is out of step or gone; the next call connects again. */
    if (status < 0 && (own.code == ERR_TIMEOUT || own.code == ERR_PARSE ||
                       own.code == ERR_UNREACHABLE || own.code == ERR_SYSTEM)) {
        control_close(ctl->client);
        ctl->client = NULL;
    }
    if (status < 0 && e)
        *e = own;
    return status;
}

/* --- help ------------------------------------------------------------------------------------- */

static void help_options(struct text_buffer *out, uint32_t options)
{
    for (int i = 0; ctl_options[i].name; i++) {
        if (!(options & (UINT32_C(1) << i)))
            continue;
        _cleanup_(str_freep) char *left =
            text_format("--%s%s%s", ctl_options[i].name, ctl_options[i].argument ? " " : "",
                        ctl_options[i].argument ? ctl_options[i].argument : "");
        text_buffer_printf(out, "  %-24s %s\n", left, ctl_options[i].help);
    }
}

static void help_settings(struct text_buffer *out)
{
    text_buffer_add(out, "\nSettings:\n");
    for (const struct ctl_setting *s = ctl_settings; s->word; s++)
        text_buffer_printf(out, "  %-24s %s\n", s->word, s->help);
}

void ctl_help(struct text_buffer *out, const struct ctl_command *command)
{
    if (command) {
        text_buffer_printf(out, "Usage: computectl %s [OPTION...] %s\n\n%s\n", command->name,
                           command->arguments, command->help);
        if (*command->more)
            text_buffer_printf(out, "%s\n", command->more);
        text_buffer_add(out, "\nOptions:\n");
        help_options(out, command->options | ctl_common_options());
        if (strstr(command->arguments, "SETTING"))
            help_settings(out);
        return;
    }
    text_buffer_add(
        out, "Usage: computectl COMMAND [OPTION...] [ARGUMENT...]\n\n"
             "Directs the compute node agent of this host, or of another one.\n\nCommands:\n");
    for (command = ctl_commands; command->name; command++)
        text_buffer_printf(out, "  %-16s %s\n", command->name, command->help);
    text_buffer_add(out, "\nOptions of every command:\n");
    help_options(out, ctl_common_options());
    text_buffer_add(
        out, "\ncomputectl COMMAND --help tells more about a command, computectl(1) about all.\n");
}

/* --- the run ---------------------------------------------------------------------------------- */

static int run(struct ctl *ctl, int argc, char **argv, struct err *e)
{
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (ctl_parse(ctl, argc, argv, e) < 0)
        return -1;
    if (ctl->values[CTL_OPTION_HELP]) {
        ctl_help(&text, ctl->command);
        return ctl_print(ctl, &text, e);
    }
    if (ctl->values[CTL_OPTION_VERSION]) {
        text_buffer_printf(&text, "computectl %s\n", PACKAGE_VERSION);
        return ctl_print(ctl, &text, e);
    }
    return ctl->command->run(ctl, e);
}

static void tell_error(struct ctl *ctl, const struct err *e)
{
    if (ctl_wants_json(ctl)) {
        _cleanup_(json_putp) struct json_object *message = control_error_new(0, e);
        _cleanup_(str_freep) char *text = json_text(json_get(message, "error"));
        (void)fprintf(ctl->err, "%s\n", text);
        return;
    }
    (void)fprintf(ctl->err, "computectl: %s (%s)\n", e->text, err_name(e->code));
}

int ctl_main(int argc, char **argv, FILE *out, FILE *err)
{
    struct winsize size = {0};
    struct ctl ctl = {.out = out, .err = err, .width = 80};
    struct err e = ERR_INIT;
    int fd = fileno(out);

    ctl.terminal = fd >= 0 && isatty(fd) && !text_equal(getenv("TERM"), "dumb");
    if (ctl.terminal && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
        ctl.width = size.ws_col < 200 ? size.ws_col : 200;
    int status = run(&ctl, argc, argv, &e);
    if (status < 0)
        tell_error(&ctl, &e);
    ctl_clear(&ctl);
    return status < 0 ? err_exit_code(e.code) : 0;
}
