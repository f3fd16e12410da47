/* SPDX-License-Identifier: Apache-2.0 */
/* computectl's entry; everything is in the library, so that tests can run it. */
#include "ctl/ctl.h"

#include <signal.h>

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    return ctl_main(argc, argv, stdout, stderr);
}
