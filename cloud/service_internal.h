/* SPDX-License-Identifier: Apache-2.0 */
/* What service.c and transfer.c share: the ticket. */
#pragma once

#include "cloud/service.h"

enum { SERVICE_TOKENS_MAX = 2 };

struct service_ticket {
    const char *service; /* static: "glance" */
    char *url;
    char *tokens[SERVICE_TOKENS_MAX]; /* tried in turn: the user's, ours */
    char *service_token, *request_id; /* may be NULL */
    char *ca_file, *cert_file, *key_file;
    bool insecure;
};
