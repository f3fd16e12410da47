/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's resources by libvirt: its questions are asked here, virt/resources.c and virt/traits.c make sense
 * of the answers. Which CPU counts for the traits is Nova's rule: the host's own for host-model and
 * host-passthrough, all of cpu_models for custom, QEMU's plain one for none.
 */
#include "virt/libvirt_internal.h"

#include <string.h>

#include "lib/text.h"
#include "lib/vector.h"
#include "virt/resources.h"

DEFINE_VECTOR(documents, char *)

enum { MIB = 1024 * 1024, KIB_PER_MIB = 1024 };

static void documents_clear(struct documents *documents)
{
    for (size_t i = 0; i < documents->length; i++)
        free(documents->items[i]);
    free(documents->items);
}

/* All features of a CPU by name. NULL where libvirt cannot tell (other architectures). */
static char *expand(const struct libvirt_call *call, const char *cpu)
{
    if (!cpu)
        return NULL;
    const char *cpus[] = {cpu};
    return virConnectBaselineCPU(call->connection, cpus, 1,
                                 VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES);
}

static const char *plain_model(const char *arch)
{
    if (text_equal(arch, "i686"))
        return "qemu32";
    if (text_equal(arch, "ppc64le"))
        return "POWER8";
    return text_equal(arch, "aarch64") ? "max" : "qemu64";
}

static void add_model(const struct libvirt_call *call, const char *arch, const char *model,
                      struct documents *out)
{
    _cleanup_(str_freep) char *cpu = resources_model_cpu(arch, model);
    char *expanded = expand(call, cpu);
    if (expanded)
        *documents_add(out) = expanded;
}

static void guest_cpus(const struct libvirt_call *call, const struct conf *conf, const char *arch,
                       const char *host_cpu, struct documents *out)
{
    const char *mode = conf_string(conf, CONF_libvirt_cpu_mode);
    size_t count = 0;
    const char *const *models = conf_list(conf, CONF_libvirt_cpu_models, &count);
    if (text_equal(mode, "none")) {
        add_model(call, arch, plain_model(arch), out);
    } else if (text_equal(mode, "custom")) {
        for (size_t i = 0; i < count; i++)
            add_model(call, arch, models[i], out);
    } else if (host_cpu) {
        *documents_add(out) = text_dup(host_cpu);
    }
}

/* Capabilities vary with the machine; these two are what new guests get. */
static void domain_capabilities(const struct libvirt_call *call, const struct conf *conf,
                                const char *arch, struct documents *out)
{
    static const char *const x86[] = {"pc", "q35"};
    static const char *const other[] = {NULL};
    bool is_x86 = text_equal(arch, "x86_64") || text_equal(arch, "i686");
    const char *const *machines = is_x86 ? x86 : other;
    for (size_t i = 0; i < (is_x86 ? ARRAY_LEN(x86) : ARRAY_LEN(other)); i++) {
        char *xml = virConnectGetDomainCapabilities(call->connection, NULL, arch, machines[i],
                                                    conf_string(conf, CONF_libvirt_virt_type), 0);
        if (xml)
            *documents_add(out) = xml;
    }
}

static void read_traits(const struct libvirt_call *call, const struct conf *conf,
                        const char *capabilities, const char *host_cpu, struct virt_resources *out)
{
    _cleanup_(documents_clear) struct documents cpus = {0}, domains = {0};
    struct json_object *arch_value = NULL;
    const char *arch = json_object_object_get_ex(out->cpu_info, "arch", &arch_value) && arch_value
                           ? json_object_get_string(arch_value)
                           : "x86_64";
    guest_cpus(call, conf, arch, host_cpu, &cpus);
    domain_capabilities(call, conf, arch, &domains);
    const struct resources_traits input = {
        .conf = conf,
        .arch = arch,
        .hyperthreading = resources_hyperthreading(capabilities),
        .guest_cpus = (const char *const *)cpus.items,
        .guest_cpu_count = cpus.length,
        .domain_capabilities = (const char *const *)domains.items,
        .domain_capabilities_count = domains.length,
        .hypervisor_version = out->hypervisor_version,
        .libvirt_version = out->libvirt_version,
    };
    out->traits = resources_traits(&input);
}

static struct conf *identity(struct libvirt *lv, struct virt_resources *out)
{
    pthread_mutex_lock(&lv->lock);
    struct conf *conf = conf_ref(lv->conf);
    out->hostname = text_dup(lv->hostname);
    out->type = text_dup(lv->type);
    out->hypervisor_version = lv->hypervisor_version;
    out->libvirt_version = lv->libvirt_version;
    pthread_mutex_unlock(&lv->lock);
    return conf;
}

/* Online CPUs, or as many of them as guests may use. */
static int count_cpus(const struct conf *conf, const virNodeInfo *node, int *out, struct err *e)
{
    const char *set = conf_string(conf, CONF_compute_cpu_shared_set);
    if (set && *set)
        return resources_cpu_set(set, out, e);
    *out = (int)node->cpus;
    return 0;
}

/* The total is libvirt's, as with Nova: where the kernel says otherwise the inventory must not jump. What is in use is
 * the kernel's total less what it has available: libvirt may count less (memory that was plugged in later). */
static int read_counts(const struct libvirt_call *call, const struct conf *conf,
                       struct virt_resources *out, struct err *e)
{
    int64_t total, available;
    virNodeInfo node;
    if (virNodeGetInfo(call->connection, &node) < 0)
        return libvirt_call_error(call, e, "this host's CPUs and memory are not known");
    if (libvirt_host_memory(&total, &available, e) < 0 ||
        count_cpus(conf, &node, &out->cpus, e) < 0)
        return -1;
    int guests = virConnectListAllDomains(call->connection, NULL, 0);
    if (guests < 0)
        return libvirt_call_error(call, e, "the domains of this host cannot be counted");
    out->guests = (size_t)guests;
    out->memory_mb = (int64_t)node.memory / KIB_PER_MIB;
    int64_t used_mb = (total - available) / MIB;
    out->memory_used_mb = used_mb < out->memory_mb ? used_mb : out->memory_mb;
    return 0;
}

int libvirt_resources(struct virt *virt, struct virt_resources *out, struct err *e)
{
    LIBVIRT_CALL(call);
    _cleanup_(str_freep) char *capabilities = NULL;
    if (libvirt_call_begin(&call, virt, NULL, false, e) < 0 ||
        libvirt_host_capabilities(&call, &capabilities, e) < 0)
        return -1;
    _cleanup_(conf_unrefp) struct conf *conf = identity(libvirt_of(virt), out);
    if (read_counts(&call, conf, out, e) < 0 || resources_storage(conf, out, e) < 0)
        return -1;
    _cleanup_(str_freep) char *cpu = resources_host_cpu(capabilities);
    _cleanup_(str_freep) char *expanded = expand(&call, cpu);
    if (resources_capabilities(capabilities, expanded, out, e) < 0)
        return -1;
    read_traits(&call, conf, capabilities, expanded ? expanded : cpu, out);
    out->uptime = resources_uptime();
    return 0;
}
