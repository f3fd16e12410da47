/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table as text for people and tools: YAML, man page, JSON Schema, words, help. Each function
 * appends to a buffer; any thread.
 */
#pragma once

#include "conf/row.h"
#include "lib/text.h"

/* A scalar that YAML reads back as the same text: plain where that is safe, else in double quotes. */
void conf_yaml_scalar(struct text_buffer *out, const char *text);
/* The value of a row: a scalar, or a flow sequence for lists; NULL text gives nothing (null). */
void conf_yaml_value(struct text_buffer *out, const struct conf_row *row, const char *text);

void conf_render_sample(
    struct text_buffer *out); /* every option, commented out, with its default */
void conf_render_man(struct text_buffer *out, const char *version); /* computed.conf(5) */
void conf_render_schema(struct text_buffer *out);                   /* JSON Schema 2020-12 */
void conf_render_words(struct text_buffer *out);                    /* "group.name", one a line */
void conf_render_help(struct text_buffer *out); /* the part of `computed --help` about options */
void conf_render_errors(struct text_buffer *out, const char *version); /* computed-errors(7) */

/* Text for a man page: backslashes, leading dots and quotes, hyphens escaped. */
void conf_roff(struct text_buffer *out, const char *text);
