/* SPDX-License-Identifier: Apache-2.0 */
/* computectl report. */
#include <config.h>

#include "ctl/report.h"

#include "ctl/ctl.h"
#include "ctl/handlers.h"
#include "lib/clock.h"
#include "lib/json.h"

int ctl_run_report(struct ctl *ctl, struct err *e)
{
    const char *output = ctl->values[CTL_OPTION_OUTPUT];
    _cleanup_(json_putp) struct json_object *m = NULL;
    struct text_buffer page = TEXT_BUFFER_INIT;
    struct json_object *args;

    if (ctl_target(ctl, ctl->argument_count ? ctl->arguments[0] : NULL, &args, e) < 0)
        return -1;
    json_add_bool(args, "story", true);
    if (ctl_call(ctl, "migration", args, &m, e) < 0)
        return -1;
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, m, e);
    report_page(&page, m, clock_realtime_us(), PACKAGE_VERSION);
    if (!output)
        return ctl_print(ctl, &page, e);
    int result = ctl_write_new_file(output, page.data, e);
    text_buffer_free(&page);
    return result;
}
