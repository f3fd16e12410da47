/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest as JSON, and the check of its values. One table for each struct says the key, the place, the
 * type and the rule of every field; writing, reading, checking and freeing all walk these tables, so that
 * no field can be sent without being checked, or be forgotten when it is freed.
 */
#include "virt/guest.h"

#include <ctype.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/guest_internal.h"
#include "virt/xml.h"

enum kind { STRING, INT, INT64, BOOL };

struct field {
    const char *key;
    size_t offset;
    enum kind kind;
    bool needed; /* strings: may not be NULL */
    int (*check)(const char *value, const char *what, struct err *e);
    int64_t min, max; /* numbers */
};

/* --- rules of strings ------------------------------------------------------------------------- */

static int refuse(const char *value, const char *what, const char *allowed, struct err *e)
{
    _cleanup_(str_freep) char *shown = text_escape(value, 80);

    return err_set(e, ERR_INVALID, "%s \"%s\" is not %s", what, shown, allowed);
}

static bool has_control(const char *s)
{
    for (; *s; s++)
        if (iscntrl((unsigned char)*s))
            return true;
    return false;
}

static int check_word(const char *value, const char *what, struct err *e)
{
    size_t length = strlen(value);

    if (length >= 1 && length <= 128 &&
        strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-") ==
            length)
        return 0;
    return refuse(value, what, "1 to 128 letters, digits and _.+-", e);
}

static int check_name(const char *value, const char *what, struct err *e)
{
    size_t length = strlen(value);

    if (length >= 1 && length <= 255 && !has_control(value) && !strchr(value, '/') &&
        text_is_utf8(value, length))
        return 0;
    return refuse(value, what, "1 to 255 bytes without \"/\" and control characters", e);
}

static int check_title(const char *value, const char *what, struct err *e)
{
    size_t length = strlen(value);

    if (length <= GUEST_TITLE_MAX && text_is_utf8(value, length))
        return 0;
    return refuse(value, what, "at most 4096 bytes of UTF-8", e);
}

static int check_serial(const char *value, const char *what, struct err *e)
{
    if (strlen(value) <= 255 && !has_control(value))
        return 0;
    return refuse(value, what, "at most 255 bytes without control characters", e);
}

/* A path is only ever compared or shown here; virt/paths.c decides what is opened. */
static int check_path(const char *value, const char *what, struct err *e)
{
    if (value[0] == '/' && strlen(value) <= GUEST_PATH_MAX && !has_control(value))
        return 0;
    return refuse(value, what, "an absolute path without control characters", e);
}

static int check_source_name(const char *value, const char *what, struct err *e)
{
    if (value[0] && strlen(value) <= GUEST_PATH_MAX && !has_control(value))
        return 0;
    return refuse(value, what, "a path or name without control characters", e);
}

static int check_cpu(const char *value, const char *what, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;

    if (strlen(value) > GUEST_CPU_XML_MAX)
        return err_set(e, ERR_INVALID, "%s is larger than the %d bytes allowed", what,
                       GUEST_CPU_XML_MAX);
    return xml_parse(value, what, "cpu", &doc, e);
}

/* --- tables ----------------------------------------------------------------------------------- */

#define NUMBER_MAX (INT64_C(1) << 60)

#define GUEST(f) "" #f, offsetof(struct virt_guest, f)
static const struct field guest_fields[] = {
    {GUEST(uuid), STRING, true, text_check_uuid},
    {GUEST(name), STRING, true, check_name},
    {GUEST(title), STRING, false, check_title},
    {GUEST(arch), STRING, false, check_word},
    {GUEST(machine), STRING, false, check_word},
    {GUEST(emulator), STRING, false, check_path},
    {GUEST(domain_type), STRING, false, check_word},
    {GUEST(firmware), STRING, false, check_path},
    {GUEST(kernel), STRING, false, check_path},
    {GUEST(initrd), STRING, false, check_path},
    {GUEST(cpu_xml), STRING, false, check_cpu},
    {GUEST(memory_kib), INT64, .min = 0, .max = INT64_C(1) << 50},
    {GUEST(vcpus), INT, .min = 0, .max = 65536},
    {GUEST(persistent), BOOL},
    {GUEST(has_mdev), BOOL},
    {GUEST(has_pci_device), BOOL},
    {GUEST(has_vtpm), BOOL},
    {GUEST(has_vnc), BOOL},
    {GUEST(has_spice), BOOL},
    {GUEST(tcp_serial_ports), INT, .min = 0, .max = 1024},
    {GUEST(hypervisor_version), INT64, .min = 0, .max = NUMBER_MAX},
    {GUEST(libvirt_version), INT64, .min = 0, .max = NUMBER_MAX},
};
#undef GUEST

#define DISK(f) "" #f, offsetof(struct virt_disk, f)
static const struct field disk_fields[] = {
    {DISK(target), STRING, true, check_word},
    {DISK(bus), STRING, false, check_word},
    {DISK(kind), STRING, true, check_word},
    {DISK(device), STRING, true, check_word},
    {DISK(path), STRING, false, check_path},
    {DISK(format), STRING, true, check_word},
    {DISK(serial), STRING, false, check_serial},
    {DISK(read_only), BOOL},
    {DISK(shareable), BOOL},
    {DISK(is_volume), BOOL},
    {DISK(backing_file), STRING, false, check_source_name},
    {DISK(backing_format), STRING, false, check_word},
    {DISK(deep_chain), BOOL},
    {DISK(virtual_size), INT64, .min = -1, .max = NUMBER_MAX},
    {DISK(allocated), INT64, .min = -1, .max = NUMBER_MAX},
    {DISK(backing_size), INT64, .min = -1, .max = NUMBER_MAX},
};
#undef DISK

#define INTERFACE(f) "" #f, offsetof(struct virt_interface, f)
static const struct field interface_fields[] = {
    {INTERFACE(mac), STRING, true, text_check_mac},
    {INTERFACE(type), STRING, true, check_word},
    {INTERFACE(bridge), STRING, false, text_check_ifname},
    {INTERFACE(target), STRING, false, text_check_ifname},
    {INTERFACE(model), STRING, false, check_word},
    {INTERFACE(virtualport), STRING, false, check_word},
    {INTERFACE(interface_id), STRING, false, text_check_uuid},
    {INTERFACE(mtu), INT, .min = 0, .max = 65535},
    {INTERFACE(target_unmanaged), BOOL},
};
#undef INTERFACE

static char **string_at(const void *base, const struct field *f)
{
    return (char **)((char *)(uintptr_t)base + f->offset);
}

static int64_t number_at(const void *base, const struct field *f)
{
    const char *p = (const char *)base + f->offset;

    if (f->kind == INT64)
        return *(const int64_t *)(const void *)p;
    return f->kind == INT ? *(const int *)(const void *)p : *(const bool *)p;
}

static void set_number(void *base, const struct field *f, int64_t value)
{
    char *p = (char *)base + f->offset;

    if (f->kind == INT64)
        *(int64_t *)(void *)p = value;
    else if (f->kind == INT)
        *(int *)(void *)p = (int)value;
    else
        *(bool *)p = value != 0;
}

/* --- walking the tables ----------------------------------------------------------------------- */

static struct json_object *write_fields(const void *base, const struct field *fields, size_t n)
{
    struct json_object *o = json_object_new_object();

    for (size_t i = 0; i < n; i++) {
        if (fields[i].kind == STRING && *string_at(base, &fields[i]))
            json_add_string(o, fields[i].key, *string_at(base, &fields[i]));
        else if (fields[i].kind == BOOL)
            json_add_bool(o, fields[i].key, number_at(base, &fields[i]));
        else if (fields[i].kind != STRING)
            json_add_int(o, fields[i].key, number_at(base, &fields[i]));
    }
    return o;
}

static int read_field(struct json_object *o, void *base, const struct field *f, struct err *e)
{
    const char *text = NULL;
    int64_t number = 0;
    bool truth = false;

    if (f->kind == STRING) {
        if (json_opt_string(o, f->key, NULL, &text, e) < 0)
            return -1;
        *string_at(base, f) = text_dup(text);
        return 0;
    }
    if (f->kind == BOOL) {
        if (json_opt_bool(o, f->key, false, &truth, e) < 0)
            return -1;
        number = truth;
    } else if (json_opt_int(o, f->key, f->min < 0 ? f->min : 0, &number, e) < 0) {
        return -1;
    }
    if (f->kind != BOOL && (number < f->min || number > f->max))
        return err_set(e, ERR_INVALID, "%s %jd is not between %jd and %jd", f->key,
                       (intmax_t)number, (intmax_t)f->min, (intmax_t)f->max);
    set_number(base, f, number);
    return 0;
}

static int read_fields(struct json_object *o, void *base, const struct field *fields, size_t n,
                       struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (read_field(o, base, &fields[i], e) < 0)
            return -1;
    return 0;
}

static int check_fields(const void *base, const struct field *fields, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        const char *value = fields[i].kind == STRING ? *string_at(base, &fields[i]) : NULL;

        if (fields[i].kind != STRING || (!value && !fields[i].needed))
            continue;
        if (!value)
            return err_set(e, ERR_INVALID, "%s is missing", fields[i].key);
        if (fields[i].check(value, fields[i].key, e) < 0)
            return -1;
    }
    return 0;
}

static void free_fields(void *base, const struct field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fields[i].kind == STRING)
            free(*string_at(base, &fields[i]));
}

#define TABLE(t) t, ARRAY_LEN(t)

/* Two disks of one target, or two interfaces of one MAC, would make "the" disk ambiguous later. */
static int check_unique(const struct virt_guest *guest, struct err *e)
{
    for (size_t i = 0; i < guest->disk_count; i++)
        for (size_t k = 0; k < i; k++)
            if (text_equal(guest->disks[i].target, guest->disks[k].target))
                return err_set(e, ERR_INVALID, "two disks have the target %s",
                               guest->disks[i].target);
    for (size_t i = 0; i < guest->interface_count; i++)
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(guest->interfaces[i].mac, guest->interfaces[k].mac) == 0)
                return err_set(e, ERR_INVALID, "two interfaces have the MAC %s",
                               guest->interfaces[i].mac);
    return 0;
}

int virt_guest_check(const struct virt_guest *guest, struct err *e)
{
    if (check_fields(guest, TABLE(guest_fields), e) < 0)
        return err_prefix(e, "guest: ");
    for (size_t i = 0; i < guest->disk_count; i++)
        if (check_fields(&guest->disks[i], TABLE(disk_fields), e) < 0)
            return err_prefix(e, "guest %s: disk %zu: ", guest->uuid, i);
    for (size_t i = 0; i < guest->interface_count; i++)
        if (check_fields(&guest->interfaces[i], TABLE(interface_fields), e) < 0)
            return err_prefix(e, "guest %s: interface %zu: ", guest->uuid, i);
    return check_unique(guest, e);
}

struct json_object *virt_guest_to_json(const struct virt_guest *guest)
{
    struct json_object *o = write_fields(guest, TABLE(guest_fields));
    struct json_object *disks = json_object_new_array();
    struct json_object *interfaces = json_object_new_array();

    json_add_string(o, "state", virt_state_name(guest->state));
    for (size_t i = 0; i < guest->disk_count; i++)
        json_object_array_add(disks, write_fields(&guest->disks[i], TABLE(disk_fields)));
    for (size_t i = 0; i < guest->interface_count; i++)
        json_object_array_add(interfaces,
                              write_fields(&guest->interfaces[i], TABLE(interface_fields)));
    json_add(o, "disks", disks);
    json_add(o, "interfaces", interfaces);
    return o;
}

/* Reads an array of objects of one table; *items is allocated here and counts what was read. */
static int read_array(struct json_object *o, const char *key, size_t max, size_t item_size,
                      const struct field *fields, size_t n, void **items, size_t *count,
                      struct err *e)
{
    struct json_object *array = NULL;
    size_t length = 0;

    if (json_need_array(o, key, &array, e) < 0)
        return -1;
    length = json_object_array_length(array);
    if (length > max)
        return err_set(e, ERR_INVALID, "%s has %zu items, allowed are %zu", key, length, max);
    *items = mem_new(item_size * (length + 1));
    for (size_t i = 0; i < length; i++) {
        struct json_object *item = json_object_array_get_idx(array, i);

        if (!json_object_is_type(item, json_type_object))
            return err_set(e, ERR_PARSE, "%s[%zu] is not an object", key, i);
        *count = i + 1;
        if (read_fields(item, (char *)*items + i * item_size, fields, n, e) < 0)
            return err_prefix(e, "%s[%zu]: ", key, i);
    }
    return 0;
}

static int read_guest(struct json_object *o, struct virt_guest *guest, struct err *e)
{
    const char *state = NULL;
    void *items = NULL;
    int result = 0;

    if (read_fields(o, guest, TABLE(guest_fields), e) < 0 ||
        json_opt_string(o, "state", "none", &state, e) < 0)
        return -1;
    if (virt_state_parse(state, &guest->state) < 0)
        return refuse(state, "state", "a state of a guest", e);
    result = read_array(o, "disks", VIRT_DISKS_MAX, sizeof(struct virt_disk), TABLE(disk_fields),
                        &items, &guest->disk_count, e);
    guest->disks = items;
    items = NULL;
    if (result < 0)
        return -1;
    result = read_array(o, "interfaces", VIRT_INTERFACES_MAX, sizeof(struct virt_interface),
                        TABLE(interface_fields), &items, &guest->interface_count, e);
    guest->interfaces = items;
    return result;
}

int virt_guest_from_json(struct json_object *o, struct virt_guest **out, struct err *e)
{
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NEW(struct virt_guest);

    if (!json_object_is_type(o, json_type_object))
        return err_set(e, ERR_PARSE, "the description of the guest is not an object");
    if (read_guest(o, guest, e) < 0)
        return err_prefix(e, "description of the guest: ");
    if (virt_guest_check(guest, e) < 0)
        return -1;
    *out = STEAL(guest);
    return 0;
}

void virt_guest_free(struct virt_guest *guest)
{
    if (!guest)
        return;
    for (size_t i = 0; i < guest->disk_count; i++)
        free_fields(&guest->disks[i], TABLE(disk_fields));
    for (size_t i = 0; i < guest->interface_count; i++)
        free_fields(&guest->interfaces[i], TABLE(interface_fields));
    free(guest->disks);
    free(guest->interfaces);
    free_fields(guest, TABLE(guest_fields));
    free(guest);
}
