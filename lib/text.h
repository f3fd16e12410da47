/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: building, splitting, numbers with units, names that are checked by type. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "lib/attributes.h"
#include "lib/err.h"

/* Allocated printf; aborts the process when memory is gone (as all small allocations here do). */
char *text_format(const char *format, ...) _printf_(1, 2);
/* strdup that aborts when memory is gone; NULL gives NULL. */
char *text_dup(const char *s);
/* Frees what *place had and puts a copy of s there; NULL clears it. s may lie in *place. */
void text_replace(char **place, const char *s);
char *text_dup_n(const char *s, size_t length);
/* calloc/realloc that abort when memory is gone. */
void *mem_new(size_t size);
void *mem_resize(void *p, size_t size);
/*
 * All threads allocate from one heap, which gives large blocks back at once. For main(), before there is another thread
 * (mallopt(3), M_ARENA_MAX and M_MMAP_THRESHOLD): by default each thread gets a heap, the blocks that live longer lie
 * scattered in all of them, and malloc_trim(3) leaves the tops of all but one.
 */
void mem_one_heap(void);
/* Gives the system what was freed and lies in between; less than a millisecond for some MiB. For the end of much
 * work: a heap does not shrink by itself. Any thread. */
void mem_give_back(void);
/* Bytes that are allocated now, with the few small blocks that each thread keeps for its next allocation
 * (mallinfo2(3)). What grows here without an end is a leak; what a heap holds beside it is not. Any thread. */
size_t mem_in_use(void);
#define NEW(type)          ((type *)mem_new(sizeof(type)))
#define NEW_ARRAY(type, n) ((type *)mem_new(sizeof(type) * (n)))

/* True if equal; NULL equals only NULL. */
bool text_equal(const char *a, const char *b);
/* Is the word among these? The list ends with NULL; a word that is NULL is in none. */
bool text_is_one_of(const char *word, const char *const *words);
bool text_starts_with(const char *s, const char *prefix);
bool text_ends_with(const char *s, const char *suffix);

/* A growing string. Starts as TEXT_BUFFER_INIT, ends with text_buffer_free() or _take(). */
struct text_buffer {
    char *data; /* always terminated once something was added */
    size_t length, capacity;
};
#define TEXT_BUFFER_INIT                                                                           \
    {                                                                                              \
        NULL, 0, 0                                                                                 \
    }
void text_buffer_add(struct text_buffer *b, const char *s);
void text_buffer_add_n(struct text_buffer *b, const char *s, size_t length);
void text_buffer_printf(struct text_buffer *b, const char *format, ...) _printf_(2, 3);
char *text_buffer_take(struct text_buffer *b); /* never NULL; the buffer is empty afterwards */
void text_buffer_free(struct text_buffer *b);

/* NULL-terminated vector of strings. */
char **text_split(const char *s, char separator); /* empty parts are kept; never NULL */
void text_vector_free(char **v);
size_t text_vector_length(char *const *v);

/* Whole-string decimal numbers with bounds; errors name the text and the bounds. */
int text_to_int64(const char *s, int64_t min, int64_t max, int64_t *out, struct err *e);
int text_to_double(const char *s, double min, double max, double *out,
                   struct err *e); /* "C" locale */

/* Copy with control characters, backslash and invalid UTF-8 as \xNN, cut at `limit` bytes with "...". */
char *text_escape(const char *s, size_t limit);
/*
 * The same into a fixed buffer, the backslash left as it is and line breaks escaped too; what does not
 * fit ends in "...". For the logger and for error texts. Returns the length written.
 */
size_t text_escape_line(const char *s, size_t length, char *out, size_t size);
/*
 * Bytes (1-4) of the printable UTF-8 character at s; 0 for control characters (C0, DEL, C1, and the
 * bidirectional overrides, which make a terminal lie) and for bytes that are no UTF-8.
 */
size_t text_printable(const char *s, size_t length);
bool text_is_utf8(const char *s, size_t length);
char *text_percent_decode(const char *s, size_t length,
                          struct err *e); /* refuses %00 and bad escapes */

/* Checks by type; the error names `what` and the value (escaped) and says what is allowed. */
int text_check_uuid(const char *s, const char *what, struct err *e); /* 8-4-4-4-12 hex */
int text_check_hostname(const char *s, const char *what,
                        struct err *e); /* RFC 1123 label(s), <= 253; no address needed */
int text_check_ip(const char *s, const char *what, struct err *e);  /* IPv4 or IPv6 */
int text_check_mac(const char *s, const char *what, struct err *e); /* aa:bb:cc:dd:ee:ff, unicast */
int text_check_ifname(const char *s, const char *what,
                      struct err *e); /* 1-15 of [A-Za-z0-9_.-], no "." ".." */
int text_check_filename(
    const char *s, const char *what,
    struct err *e); /* one component, [A-Za-z0-9_.@+-], no leading dot or dash, <= 255 */

/* "12.3 MiB" style for people. */
void text_bytes(double bytes, char *out, size_t size);
/* "90 ms". */
void text_ms(int64_t ms, char *out, size_t size);
/* A figure with the ends between which it is expected, each in the words of `words`, negative = not told:
 * "12 s (9 s to 17 s)", "12 s (9 s or more)", "12 s", "unknown". */
enum { TEXT_EXPECTED_SIZE = 160 };
void text_expected(int64_t value, int64_t low, int64_t high,
                   void (*words)(int64_t value, char *out, size_t size),
                   char out[TEXT_EXPECTED_SIZE]);
/* New random UUID (version 4), lower case. */
void text_new_uuid(char out[37]);
/* `bytes` random bytes as lower-case hex: 2*bytes+1 characters. */
void text_random_hex(size_t bytes, char *out);
