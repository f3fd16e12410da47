/* SPDX-License-Identifier: Apache-2.0 */
/* computectl(1) and the bash completion, from the command table. */
#include "ctl/ctl.h"

#include <stdio.h>
#include <string.h>

#include "conf/render.h"

/* --- man page --------------------------------------------------------------------------------- */

static void paragraph(struct text_buffer *out, const char *text)
{
    conf_roff(out, text);
    text_buffer_add(out, "\n");
}

static void option_names(struct text_buffer *out, uint32_t options)
{
    bool first = true;

    for (int i = 0; ctl_options[i].name; i++) {
        if (!(options & (UINT32_C(1) << i)))
            continue;
        text_buffer_add(out, first ? "Options: " : ", ");
        first = false;
        _cleanup_(str_freep) char *text = text_format("--%s", ctl_options[i].name);
        conf_roff(out, text);
    }
    if (!first)
        text_buffer_add(out, ".\n");
}

static void man_commands(struct text_buffer *out)
{
    text_buffer_add(out, ".SH COMMANDS\n");
    for (const struct ctl_command *c = ctl_commands; c->name; c++) {
        text_buffer_add(out, ".TP\n\\fB");
        conf_roff(out, c->name);
        text_buffer_add(out, "\\fR ");
        paragraph(out, c->arguments);
        paragraph(out, c->help);
        if (*c->more)
            paragraph(out, c->more);
        option_names(out, c->options);
    }
}

static void man_options(struct text_buffer *out)
{
    text_buffer_add(out, ".SH OPTIONS\n");
    for (int i = 0; ctl_options[i].name; i++) {
        _cleanup_(str_freep) char *name = text_format("--%s", ctl_options[i].name);
        text_buffer_add(out, ".TP\n\\fB");
        conf_roff(out, name);
        text_buffer_printf(out, "\\fR%s%s\n", ctl_options[i].argument ? " " : "",
                           ctl_options[i].argument ? ctl_options[i].argument : "");
        paragraph(out, ctl_options[i].help);
    }
    text_buffer_add(out, ".SH SETTINGS\nSettings of one migration, given to\n.B migrate\nat its "
                         "start and to\n.B set\n"
                         "while it runs. Hard limits of\n.BR computed.conf (5)\nhold.\n");
    for (const struct ctl_setting *s = ctl_settings; s->word; s++) {
        text_buffer_printf(out, ".TP\n\\fB%s\\fR=VALUE\n", s->word);
        paragraph(out, s->help);
    }
}

/* Every exit status once, with the codes that give it. */
static void man_exit_status(struct text_buffer *out)
{
    text_buffer_add(out, ".SH EXIT STATUS\nThe codes are explained in\n.BR computed\\-errors "
                         "(7).\n.TP\n.B 0\nDone; for\n"
                         ".BR watch ,\n.B migrate \\-\\-watch\nand\n.BR \\-\\-wait :\nthe "
                         "migration has completed.\n");
    for (int status = 1; status < 128; status++) {
        struct text_buffer codes = TEXT_BUFFER_INIT;
        for (int i = ERR_NONE + 1; i < ERR_CODE_COUNT; i++)
            if (err_exit_code((enum err_code)i) == status)
                text_buffer_printf(&codes, "%s%s (%s)", codes.length ? ", " : "",
                                   err_name((enum err_code)i), err_summary((enum err_code)i));
        if (codes.length) {
            text_buffer_printf(out, ".TP\n.B %d\n", status);
            paragraph(out, codes.data);
        }
        text_buffer_free(&codes);
    }
}

void ctl_man(struct text_buffer *out, const char *version)
{
    text_buffer_printf(
        out,
        ".TH computectl 1 \"\" \"computed %s\" \"computed manual\"\n"
        ".SH NAME\ncomputectl \\- direct the compute node agent\n"
        ".SH SYNOPSIS\n.B computectl\n.I COMMAND\n[\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n"
        ".SH DESCRIPTION\n"
        "Talks to the agent\n.BR computed (8)\nof this host through its control socket, or with\n"
        ".B \\-\\-host\nto the agent of another one. Root and the members of the control group may "
        "use the socket.\n"
        "An instance is named by its UUID or its name, a migration by its number; with\n.B "
        "\\-\\-migration\n"
        "also by its UUID.\n",
        version);
    man_commands(out);
    man_options(out);
    man_exit_status(out);
    text_buffer_add(
        out,
        ".SH EXAMPLES\n.nf\ncomputectl migrate guest1 \\-\\-to hostb \\-\\-watch\n"
        "computectl set guest1 downtime=1000 timeout=3600\n"
        "computectl conf import /etc/nova/nova.conf \\-\\-output computed.conf\n.fi\n"
        ".SH FILES\n.TP\n.I /run/computed/control.sock\nControl socket of the agent.\n"
        ".SH SEE ALSO\n.BR computed (8),\n.BR computed.conf (5),\n.BR computed\\-errors (7)\n");
}

/* --- bash completion -------------------------------------------------------------------------- */

static void option_words(struct text_buffer *out, uint32_t options)
{
    for (int i = 0; ctl_options[i].name; i++)
        if (options & (UINT32_C(1) << i))
            text_buffer_printf(out, " --%s", ctl_options[i].name);
}

static const char *complete_word(enum ctl_complete complete)
{
    static const char *const words[] = {
        [CTL_COMPLETE_NONE] = "",
        [CTL_COMPLETE_INSTANCES] = "instances",
        [CTL_COMPLETE_SETTINGS] = "settings",
        [CTL_COMPLETE_OPTIONS] = "options",
        [CTL_COMPLETE_FILES] = "files",
        [CTL_COMPLETE_LEVELS] = "levels",
    };
    return words[complete];
}

static void command_cases(struct text_buffer *out)
{
    text_buffer_add(out, "    case \"$command\" in\n");
    for (const struct ctl_command *c = ctl_commands; c->name; c++) {
        text_buffer_printf(out, "    '%s') kind='%s' flags='", c->name, complete_word(c->complete));
        option_words(out, c->options | ctl_common_options());
        text_buffer_add(out, "' ;;\n");
    }
    text_buffer_add(out, "    esac\n");
}

/* First words of commands, or second words of those that start with `first`. */
static void command_words(struct text_buffer *out, const char *first)
{
    for (const struct ctl_command *c = ctl_commands; c->name; c++) {
        size_t length = strcspn(c->name, " ");
        bool two = c->name[length] == ' ';
        if (first && two && strncmp(c->name, first, length) == 0)
            text_buffer_printf(out, " %s", c->name + length + 1);
        else if (!first && (!two || strncmp(c[-1].name, c->name, length + 1) != 0))
            text_buffer_printf(out, " %.*s", (int)length, c->name);
    }
}

static const char script_head[] =
    "# bash completion for computectl; made from its command table.\n"
    "_computectl_instances()\n{\n"
    "    computectl --timeout 2 list --json 2>/dev/null | grep -o '\"name\":\"[^\"]*\"' | cut "
    "-d'\"' -f4\n}\n\n"
    "_computectl()\n{\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
    "    local command='' kind='' flags='' word i words=''\n"
    "    COMPREPLY=()\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        case $word in\n        ";

static const char script_words[] =
    ") i=$((i + 1)); continue ;;\n        -*) continue ;;\n        esac\n"
    "        if [ -z \"$command\" ]; then command=$word\n"
    "        elif [ \"$command\" = conf ]; then command=\"conf $word\"; fi\n"
    "    done\n";

static const char script_tail[] =
    "    case $previous in\n"
    "    --config-file | --output | --socket) COMPREPLY=($(compgen -f -- \"$current\")); return "
    ";;\n"
    "    --config-dir) COMPREPLY=($(compgen -d -- \"$current\")); return ;;\n"
    "    --host | --to | --timeout | --interval | --limit | --migration) return ;;\n"
    "    --status) COMPREPLY=($(compgen -W 'queued preparing running completed failed cancelled "
    "error' -- \"$current\")); return ;;\n"
    "    esac\n"
    "    case $current in\n"
    "    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$current\")); return ;;\n"
    "    esac\n"
    "    case $kind in\n"
    "    instances) words=$(_computectl_instances) ;;\n"
    "    settings) words=\"$settings $(_computectl_instances)\" ;;\n"
    "    options) words=$options ;;\n"
    "    levels) words='debug info warning error' ;;\n"
    "    files) COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n"
    "    esac\n"
    "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
    "    case ${COMPREPLY[0]} in *=) compopt -o nospace 2>/dev/null ;; esac\n"
    "}\n\ncomplete -F _computectl computectl\n";

void ctl_completion(struct text_buffer *out)
{
    struct text_buffer options = TEXT_BUFFER_INIT;

    text_buffer_add(out, script_head);
    for (int i = 0, first = 1; ctl_options[i].name; i++)
        if (ctl_options[i].argument) {
            text_buffer_printf(out, "%s--%s", first ? "" : " | ", ctl_options[i].name);
            first = 0;
        }
    text_buffer_add(out, script_words);
    text_buffer_add(out, "    local settings='");
    for (const struct ctl_setting *s = ctl_settings; s->word; s++)
        text_buffer_printf(out, " %s=", s->word);
    text_buffer_add(out, "' options='");
    conf_render_words(&options);
    for (char *p = options.data; *p; p++)
        if (*p == '\n')
            *p = ' ';
    text_buffer_printf(out, "%s'\n", options.data);
    text_buffer_free(&options);
    text_buffer_add(out, "    case \"$command\" in\n    '') words='");
    command_words(out, NULL);
    text_buffer_add(out, "' flags='");
    option_words(out, ctl_common_options());
    text_buffer_add(out, "' ;;\n    conf) words='");
    command_words(out, "conf");
    text_buffer_add(out, "' ;;\n    esac\n");
    command_cases(out);
    text_buffer_add(out, script_tail);
}
