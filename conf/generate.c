/* SPDX-License-Identifier: Apache-2.0 */
/* Run by make: prints one of the documents that come from the option table and the error table. */
#include <config.h>

#include <stdio.h>
#include <string.h>

#include "conf/render.h"

static int usage(const char *name)
{
    (void)fprintf(stderr, "usage: %s sample|man|schema|words|help|errors\n", name);
    return 64;
}

int main(int argc, char **argv)
{
    struct text_buffer out = TEXT_BUFFER_INIT;
    const char *what = argc == 2 ? argv[1] : "";

    if (strcmp(what, "sample") == 0)
        conf_render_sample(&out);
    else if (strcmp(what, "man") == 0)
        conf_render_man(&out, PACKAGE_VERSION);
    else if (strcmp(what, "schema") == 0)
        conf_render_schema(&out);
    else if (strcmp(what, "words") == 0)
        conf_render_words(&out);
    else if (strcmp(what, "help") == 0)
        conf_render_help(&out);
    else if (strcmp(what, "errors") == 0)
        conf_render_errors(&out, PACKAGE_VERSION);
    else
        return usage(argv[0]);
    bool good = fputs(out.data, stdout) >= 0 && fflush(stdout) == 0;
    text_buffer_free(&out);
    return good ? 0 : 74;
}
