/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/check_answer.h"

#include <stdint.h>
#include <stdio.h>

#include "lib/text.h"

int check_answer_tristate(struct json_object *value)
{
    if (!value || json_object_is_type(value, json_type_null))
        return -1;
    return json_object_get_boolean(value) ? 1 : 0;
}

/* Classes derived from nova.exception.Invalid: the conductor goes on with the next host (4.1). */
static const char *const next_host_classes[] = {
    "MigrationPreCheckError",      "InvalidCPUInfo",
    "DestinationDiskExists",       "InvalidHypervisorType",
    "DestinationHypervisorTooOld", "PortBindingFailed",
};

void check_answer_error(struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(next_host_classes); i++)
        if (text_equal(err_wire_class(e), next_host_classes[i]))
            return;
    (void)err_set_class(e, "MigrationPreCheckError", ERR_MODULE_NOVA);
}

bool check_answer_is_volume_backed(const struct virt_guest *guest)
{
    return guest->disk_count > 0 && guest->disks[0].is_volume;
}

static bool has_local_disk(const struct virt_guest *guest)
{
    for (size_t i = 0; i < guest->disk_count; i++)
        if (!guest->disks[i].is_volume && !guest->disks[i].read_only && guest->disks[i].path)
            return true;
    return false;
}

/* rbd images are on storage that every host of the same images_type reaches. */
bool check_answer_shares_block(const struct virt_guest *guest, const char *images_type_here,
                               const char *images_type_there, bool shared_path)
{
    bool same = text_equal(images_type_here, "rbd") && text_equal(images_type_there, "rbd");

    return same || shared_path || (check_answer_is_volume_backed(guest) && !has_local_disk(guest));
}

static int check_room(const struct check_storage *s, struct err *e)
{
    int64_t available = s->available_mb * 1024 * 1024;
    char need_text[32], free_text[32];

    if (s->disk_over_commit < 0 || s->available_mb < 0 || s->need <= available)
        return 0;
    text_bytes((double)s->need, need_text, sizeof(need_text));
    text_bytes((double)available, free_text, sizeof(free_text));
    return err_set(e, ERR_NO_SPACE, "instance %s needs %s of disk, the destination has %s",
                   s->instance_uuid, need_text, free_text);
}

int check_answer_storage(const struct check_storage *s, bool *block_migration, struct err *e)
{
    bool block =
        s->block_migration < 0 ? !s->shared_path && !s->shared_block : s->block_migration == 1;

    if (block && (s->shared_path || s->shared_block)) {
        err_set(e, ERR_PRECHECK,
                "instance %s has its disks on storage that both hosts share; "
                "block migration is for local disks",
                s->instance_uuid);
        return err_set_class(e, "InvalidLocalStorage", NULL);
    }
    if (block && check_room(s, e) < 0)
        return -1;
    if (!block && !s->shared_path && !s->shared_block) {
        err_set(e, ERR_PRECHECK,
                "instance %s has local disks on %s; moving it without block migration needs "
                "shared storage",
                s->instance_uuid, s->host);
        return err_set_class(e, "InvalidSharedStorage", NULL);
    }
    *block_migration = block;
    return 0;
}
