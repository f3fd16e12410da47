/* SPDX-License-Identifier: Apache-2.0 */
/* A file that a guest may have written whole: the reader of qcow2 headers. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virt/image.h"
#include "virt/image_qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    _cleanup_(str_freep) char *name = NULL;
    _cleanup_(str_freep) char *format = NULL;
    struct image_header header;
    struct err e = ERR_INIT;

    if (fd < 0)
        fd = memfd_create("image", MFD_CLOEXEC);
    expect(fd >= 0 && ftruncate(fd, 0) == 0);
    expect(pwrite(fd, data, size, 0) == (ssize_t)size);
    bool has_magic = image_has_qcow2_magic(fd);
    if (image_read_header(fd, "image", &header, &e) == 0)
        expect(has_magic && header.virtual_size >= 0);
    else
        expect(e.code != ERR_NONE && e.text[0]);
    err_clear(&e);
    if (image_qcow2_backing(fd, "image", &name, &format, &e) == 0)
        expect(has_magic && (name || !format));
    else
        expect(e.code != ERR_NONE && e.text[0]);
    expect(image_growth(fd, "qcow2") >= 0);
    expect(image_growth(fd, "raw") >= 0);
    return 0;
}
