/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a test program: its own directory, the source tree's, whole files as text. */
#include "tests/unit/unit.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[4096];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static void remove_directory(void)
{
    if (directory[0])
        nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *unit_directory(void)
{
    const char *base = getenv("TMPDIR");

    if (directory[0])
        return directory;
    snprintf(directory, sizeof(directory), "%s/unit.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory)) {
        perror(directory);
        exit(2);
    }
    atexit(remove_directory);
    return directory;
}

char *unit_source_path(const char *relative)
{
    const char *top = getenv("top_srcdir");
    char *path = NULL;

    if (asprintf(&path, "%s/%s", top ? top : ".", relative) < 0)
        abort();
    return path;
}

char *unit_read_file(const char *path, size_t *length)
{
    FILE *f = fopen(path, "re");
    char *content = NULL;
    size_t n = 0, capacity = 0;

    if (!f)
        return NULL;
    do {
        capacity = capacity ? capacity * 2 : 4096;
        content = realloc(content, capacity);
        if (!content)
            abort();
        n += fread(content + n, 1, capacity - 1 - n, f);
    } while (n == capacity - 1);
    fclose(f);
    content[n] = '\0';
    if (length)
        *length = n;
    return content;
}

void unit_write_file(const char *path, const char *content)
{
    FILE *f = fopen(path, "we");

    if (!f || fputs(content, f) == EOF || fclose(f) != 0) {
        perror(path);
        exit(2);
    }
}
