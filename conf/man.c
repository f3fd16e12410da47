/* SPDX-License-Identifier: Apache-2.0 */
/* computed.conf(5) and computed-errors(7) from their tables. */
#include "conf/render.h"

#include <string.h>

#include "lib/err.h"

void conf_roff(struct text_buffer *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        text_buffer_add(out, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            text_buffer_add(out, "\\e");
        else if (*text == '-')
            text_buffer_add(out, "\\-");
        else
            text_buffer_add_n(out, text, 1);
    }
}

static void paragraph(struct text_buffer *out, const char *text)
{
    conf_roff(out, text);
    text_buffer_add(out, "\n");
}

static void head(struct text_buffer *out, const char *name, const char *section,
                 const char *version, const char *what)
{
    text_buffer_printf(out, ".TH %s %s \"\" \"computed %s\" \"computed manual\"\n.SH NAME\n", name,
                       section, version);
    conf_roff(out, name);
    text_buffer_add(out, " \\- ");
    paragraph(out, what);
}

/* "Default: 500 ms. Allowed: ... ." in one paragraph. */
static void facts(struct text_buffer *out, const struct conf_row *row)
{
    char allowed[256];
    struct text_buffer b = TEXT_BUFFER_INIT;

    conf_row_allowed(row, allowed, sizeof(allowed));
    if (row->automatic)
        text_buffer_printf(&b, "Default: %s.", row->automatic);
    else if (!row->default_text)
        text_buffer_add(&b, "Default: not set.");
    else
        text_buffer_printf(&b, "Default: %s.", *row->default_text ? row->default_text : "empty");
    text_buffer_printf(&b, " Allowed: %s.", allowed);
    if (row->nova_default)
        text_buffer_printf(&b, " When a nova.conf is read the default is %s.", row->nova_default);
    if (row->flags & CONF_RELOAD)
        text_buffer_add(&b, " Takes effect on reload.");
    if (row->flags & CONF_SECRET)
        text_buffer_add(&b, " The value is a secret: it is never shown, and a file that holds it "
                            "must not be readable for everybody.");
    if (row->flags & CONF_DEPRECATED)
        text_buffer_add(&b, " Deprecated.");
    if (row->flags & CONF_IDLE)
        text_buffer_add(&b, " Accepted for Nova's sake, without effect in this version.");
    if (text_starts_with(row->nova, "differs: "))
        text_buffer_printf(&b, " Differs from Nova: %s.", row->nova + strlen("differs: "));
    else if (text_equal(row->nova, "none"))
        text_buffer_add(&b, " Nova has no such option.");
    if (row->alias)
        text_buffer_printf(&b, " Also accepted as %s.", row->alias);
    text_buffer_printf(&b, " Since %s.", row->since);
    text_buffer_add(out, ".br\n");
    paragraph(out, b.data);
    text_buffer_free(&b);
}

static void option(struct text_buffer *out, const struct conf_row *row)
{
    text_buffer_add(out, ".TP\n.B ");
    paragraph(out, row->name);
    paragraph(out, row->help);
    if (row->more)
        paragraph(out, row->more);
    facts(out, row);
}

static const char description[] =
    ".SH DESCRIPTION\n"
    "The agent\n.BR computed (8)\nreads its options from files in YAML:\n"
    ".PP\n.nf\n.RS\nDEFAULT:\n  transport_url: rabbit://user:password@192.0.2.10:5672/\nlibvirt:\n "
    " virt_type: kvm\n"
    "  live_migration_downtime: 300\n.RE\n.fi\n"
    ".PP\n"
    "A file in the form of\n.I nova.conf\n(sections, name = value) is recognised by its content "
    "and read as it is: options keep Nova's names,\n"
    "groups and units. Options of Nova that the agent has no use for are passed over; with such a "
    "file, defaults are Nova's own.\n"
    ".PP\n"
    "Files are given with\n.BR \\-\\-config\\-file ,\nwhich may be repeated, and\n.BR "
    "\\-\\-config\\-dir ;\n"
    "later files win. Without these,\n.I /etc/computed/computed.conf\nis read if it exists, "
    "else\n.IR /etc/nova/nova.conf .\n"
    ".PP\n"
    "Values may refer to other options: $my_ip, ${state_path}, ${libvirt.virt_type}. $$ is a "
    "dollar sign.\n"
    ".PP\n"
    "An unknown option, a wrong type, a value out of range and an option given twice are errors "
    "that name file, line and what is allowed;\n"
    "in a nova.conf, an unknown option and one given twice are warnings. A file that others than "
    "its owner may write, or that\n"
    "everybody may read although it holds a password, is refused.\n"
    ".B computectl conf check\nshows all problems at once.\n"
    ".PP\n"
    "Options marked \"on reload\" take effect by SIGHUP or\n.BR \"computectl conf reload\" ,\n"
    "all or none: a file with an error changes nothing.\n";

void conf_render_man(struct text_buffer *out, const char *version)
{
    head(out, "computed.conf", "5", version, "configuration of the compute node agent");
    text_buffer_add(out, description);
    text_buffer_add(out, ".SH OPTIONS\n");
    for (size_t g = 0; conf_group_name(g); g++) {
        const char *group = conf_group_name(g);
        text_buffer_printf(out, ".SS %s\n", group);
        paragraph(out, conf_group_help(group));
        for (unsigned i = 0; i < CONF_COUNT; i++)
            if (strcmp(conf_row((enum conf_id)i)->group, group) == 0)
                option(out, conf_row((enum conf_id)i));
    }
    text_buffer_add(
        out, ".SH SEE ALSO\n.BR computed (8),\n.BR computectl (1),\n.BR computed\\-errors (7)\n");
}

void conf_render_errors(struct text_buffer *out, const char *version)
{
    head(out, "computed-errors", "7", version, "error codes of computed and computectl");
    text_buffer_add(out, ".SH DESCRIPTION\n"
                         "Every error of the agent has one of these codes. It stands in "
                         "parentheses at the end of log lines and in the\n"
                         "JSON that\n.BR computectl (1)\nprints; its exit status tells the same. "
                         "Over RPC, peers see the class of Nova.\n"
                         ".SH CODES\n");
    for (int i = ERR_NONE + 1; i < ERR_CODE_COUNT; i++) {
        enum err_code code = (enum err_code)i;
        struct err e = {.code = code};
        text_buffer_add(out, ".TP\n.B ");
        paragraph(out, err_name(code));
        text_buffer_printf(out, "%s. Exit status %d, class %s.%s, HTTP code %d; trying again %s.\n",
                           err_summary(code), err_exit_code(code), err_wire_module(&e),
                           err_wire_class(&e), err_http_code(code),
                           err_may_retry(code) ? "may help" : "does not help");
    }
    text_buffer_add(out, ".SH SEE ALSO\n.BR computed (8),\n.BR computectl (1)\n");
}
