/* SPDX-License-Identifier: Apache-2.0 */
/* Run by make: prints computectl(1) or the bash completion. */
#include <config.h>

#include <stdio.h>
#include <string.h>

#include "ctl/ctl.h"

int main(int argc, char **argv)
{
    struct text_buffer out = TEXT_BUFFER_INIT;
    const char *what = argc == 2 ? argv[1] : "";

    if (strcmp(what, "man") == 0) {
        ctl_man(&out, PACKAGE_VERSION);
    } else if (strcmp(what, "completion") == 0) {
        ctl_completion(&out);
    } else {
        (void)fprintf(stderr, "usage: %s man|completion\n", argv[0]);
        return 64;
    }
    bool good = fputs(out.data, stdout) >= 0 && fflush(stdout) == 0;
    text_buffer_free(&out);
    return good ? 0 : 74;
}
