/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for libFuzzer in `make check`: gives every file of the target's corpus (seeds and the inputs
 * that once broke something) to the target, cut off at a few places too, and prints TAP. A target
 * that finds a fault aborts.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input exactly as long as it is, so that a sanitizer sees a read beyond it. */
static void give(const char *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int replay(const char *path)
{
    FILE *file = fopen(path, "re");
    struct text_buffer content = TEXT_BUFFER_INIT;
    char block[4096];
    if (!file)
        return -1;
    for (size_t n; (n = fread(block, 1, sizeof(block), file)) > 0;)
        text_buffer_add_n(&content, block, n);
    fclose(file);
    for (unsigned i = 0; i <= 16 && content.data; i++)
        give(content.data, content.length * i / 16);
    if (!content.data)
        give("", 0);
    text_buffer_free(&content);
    return 0;
}

int main(int argc, char **argv)
{
    const char *source = getenv("srcdir"), *name = strrchr(argv[0], '_');
    _cleanup_(str_freep) char *folder =
        text_format("%s/tests/fuzz/corpus/%s", source ? source : ".", name ? name + 1 : "");
    DIR *directory = opendir(argc > 1 ? argv[1] : folder);
    unsigned count = 0, failed = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (entry->d_name[0] == '.')
            continue;
        _cleanup_(str_freep) char *path =
            text_format("%s/%s", argc > 1 ? argv[1] : folder, entry->d_name);
        int r = replay(path);
        printf("%s %u - the input %s is taken without a fault\n", r ? "not ok" : "ok", ++count,
               entry->d_name);
        failed += r != 0;
    }
    if (directory)
        closedir(directory);
    if (!count)
        printf("not ok %u - the corpus %s has no files\n", ++count, folder);
    printf("1..%u\n", count);
    return failed ? 1 : 0;
}
