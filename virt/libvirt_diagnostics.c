/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Nova's diagnostics ask for, from one call of virDomainListGetStats(). Fields as in Nova's objects
 * (Diagnostics 1.0 with CpuDiagnostics, NicDiagnostics, DiskDiagnostics, MemoryDiagnostics); what libvirt
 * does not tell is null there, as in Nova. Beside them is what the older, flat form has: "name" of disks and
 * interfaces, "memory_statistics".
 */
#include "virt/libvirt_internal.h"

#include <stdio.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"

enum {
    STATISTICS = VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_INTERFACE |
                 VIR_DOMAIN_STATS_BLOCK | VIR_DOMAIN_STATS_BALLOON
};
enum { KIB_PER_MIB = 1024, NAME_SIZE = 64 };

static const virTypedParameter *find(const virTypedParameter *params, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(params[i].field, name) == 0)
            return &params[i];
    return NULL;
}

static bool number(const virTypedParameter *params, int count, const char *name, int64_t *out)
{
    const virTypedParameter *p = find(params, count, name);

    return p && libvirt_parameter_number(p, out);
}

struct field {
    const char *key, *statistic;
};

static struct json_object *group(const virTypedParameter *params, int count, const char *prefix,
                                 int index, const struct field *fields, size_t field_count)
{
    struct json_object *o = json_object_new_object();
    for (size_t i = 0; i < field_count; i++) {
        char name[NAME_SIZE];
        int64_t value;
        (void)snprintf(name, sizeof(name), "%s.%d.%s", prefix, index, fields[i].statistic);
        if (fields[i].statistic[0] && number(params, count, name, &value))
            json_add_int(o, fields[i].key, value);
        else
            json_add(o, fields[i].key, NULL);
    }
    return o;
}

static int count_of(const virTypedParameter *params, int count, const char *name)
{
    int64_t value = 0;
    return number(params, count, name, &value) && value > 0 && value < 4096 ? (int)value : 0;
}

static struct json_object *cpus(const virTypedParameter *params, int count)
{
    static const struct field fields[] = {{"time", "time"}, {"utilisation", ""}};
    struct json_object *list = json_object_new_array();
    int total = count_of(params, count, "vcpu.current");
    for (int i = 0; i < total; i++) {
        struct json_object *cpu = group(params, count, "vcpu", i, fields, ARRAY_LEN(fields));
        json_add_int(cpu, "id", i);
        json_object_array_add(list, cpu);
    }
    return list;
}

static void add_name(struct json_object *o, const virTypedParameter *params, int count,
                     const char *prefix, int index)
{
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof(name), "%s.%d.name", prefix, index);
    const virTypedParameter *p = find(params, count, name);
    json_add_string(o, "name", p && p->type == VIR_TYPED_PARAM_STRING ? p->value.s : NULL);
}

static struct json_object *disks(const virTypedParameter *params, int count)
{
    static const struct field fields[] = {
        {"read_bytes", "rd.bytes"},    {"read_requests", "rd.reqs"}, {"write_bytes", "wr.bytes"},
        {"write_requests", "wr.reqs"}, {"errors_count", "errors"},
    };
    struct json_object *list = json_object_new_array();
    int total = count_of(params, count, "block.count");
    for (int i = 0; i < total; i++) {
        struct json_object *disk = group(params, count, "block", i, fields, ARRAY_LEN(fields));
        add_name(disk, params, count, "block", i);
        /* virDomainBlockStats(), which nova-compute reads, says -1 of a disk whose errors are not counted */
        if (!json_get(disk, "errors_count"))
            json_add_int(disk, "errors_count", -1);
        json_object_array_add(list, disk);
    }
    return list;
}

static const char *mac_of(const struct virt_guest *guest, const char *tap)
{
    for (size_t i = 0; i < guest->interface_count; i++)
        if (text_equal(guest->interfaces[i].target, tap))
            return guest->interfaces[i].mac;
    return NULL;
}

static struct json_object *nics(const virTypedParameter *params, int count,
                                const struct virt_guest *guest)
{
    static const struct field fields[] = {
        {"rx_octets", "rx.bytes"}, {"rx_errors", "rx.errs"}, {"rx_drop", "rx.drop"},
        {"rx_packets", "rx.pkts"}, {"rx_rate", ""},          {"tx_octets", "tx.bytes"},
        {"tx_errors", "tx.errs"},  {"tx_drop", "tx.drop"},   {"tx_packets", "tx.pkts"},
        {"tx_rate", ""},
    };
    struct json_object *list = json_object_new_array();
    int total = count_of(params, count, "net.count");
    for (int i = 0; i < total; i++) {
        struct json_object *nic = group(params, count, "net", i, fields, ARRAY_LEN(fields));
        add_name(nic, params, count, "net", i);
        json_add_string(nic, "mac_address", mac_of(guest, json_get_string(nic, "name", NULL)));
        json_object_array_add(list, nic);
    }
    return list;
}

/* By the names that virDomainMemoryStats() has for them in Python. */
static struct json_object *memory_statistics(const virTypedParameter *params, int count)
{
    static const struct field fields[] = {
        {"actual", "current"},
        {"swap_in", "swap_in"},
        {"swap_out", "swap_out"},
        {"major_fault", "major_fault"},
        {"minor_fault", "minor_fault"},
        {"unused", "unused"},
        {"available", "available"},
        {"usable", "usable"},
        {"last_update", "last-update"},
        {"disk_caches", "disk_caches"},
        {"hugetlb_pgalloc", "hugetlb_pgalloc"},
        {"hugetlb_pgfail", "hugetlb_pgfail"},
        {"rss", "rss"},
    };
    struct json_object *o = json_object_new_object();
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        char name[NAME_SIZE];
        int64_t value;
        (void)snprintf(name, sizeof(name), "balloon.%s", fields[i].statistic);
        if (number(params, count, name, &value))
            json_add_int(o, fields[i].key, value);
    }
    return o;
}

static void add_list(struct json_object *o, const char *key, const char *count_key,
                     struct json_object *list)
{
    json_add_int(o, count_key, (int64_t)json_object_array_length(list));
    json_add(o, key, list);
}

/* Nova's names of power states. */
static const char *state_name(int libvirt_state)
{
    static const char *const names[] = {
        [VIRT_STATE_NONE] = "pending",    [VIRT_STATE_RUNNING] = "running",
        [VIRT_STATE_PAUSED] = "paused",   [VIRT_STATE_SHUTOFF] = "shutdown",
        [VIRT_STATE_CRASHED] = "crashed", [VIRT_STATE_SUSPENDED] = "suspended",
    };
    return names[libvirt_state_of(libvirt_state)];
}

struct json_object *libvirt_diagnostics_map(const virTypedParameter *params, int count,
                                            const struct virt_guest *guest)
{
    struct json_object *o = json_object_new_object();
    struct json_object *memory = json_object_new_object();
    int64_t state = VIR_DOMAIN_NOSTATE, maximum = 0, used = 0;
    (void)number(params, count, "state.state", &state);
    (void)number(params, count, "balloon.maximum", &maximum);
    (void)number(params, count, "balloon.current", &used);
    json_add_string(o, "state", state_name((int)state));
    json_add_string(o, "driver", "libvirt");
    json_add_string(o, "hypervisor", guest->domain_type);
    json_add_string(o, "hypervisor_os", "linux");
    json_add_int(memory, "maximum", maximum / KIB_PER_MIB);
    json_add_int(memory, "used", used / KIB_PER_MIB);
    json_add(o, "memory_details", memory);
    json_add(o, "memory_statistics", memory_statistics(params, count));
    add_list(o, "cpu_details", "num_cpus", cpus(params, count));
    add_list(o, "disk_details", "num_disks", disks(params, count));
    add_list(o, "nic_details", "num_nics", nics(params, count, guest));
    return o;
}

int libvirt_diagnostics(struct virt *virt, const char *uuid, struct json_object **out,
                        struct err *e)
{
    LIBVIRT_CALL(call);
    _cleanup_(str_freep) char *xml = NULL;
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    virDomainStatsRecordPtr *records = NULL;
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0 ||
        libvirt_get_xml(&call, uuid, 0, &xml, e) < 0 || virt_guest_from_xml(xml, &guest, e) < 0)
        return -1;
    virDomainPtr domains[] = {call.domain, NULL};
    int found = virDomainListGetStats(domains, STATISTICS, &records, 0);
    if (found < 0)
        return libvirt_call_error(&call, e, "no statistics of domain %s", uuid);
    if (found > 0)
        *out = libvirt_diagnostics_map(records[0]->params, records[0]->nparams, guest);
    virDomainStatsRecordListFree(records);
    return found > 0 ? 0 : err_set(e, ERR_NO_INSTANCE, "there is no domain %s on this host", uuid);
}
