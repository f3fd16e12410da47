/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, section 4), as Nova carries bytes in JSON. Any thread. */
#pragma once

#include <stddef.h>

/* The caller frees; *length gets the bytes, and a NUL stands behind them. White space is passed over, as
 * Python does it; NULL for anything else that does not belong there. */
char *base64_decode(const char *text, size_t *length);
/* The caller frees. */
char *base64_encode(const void *data, size_t length);
