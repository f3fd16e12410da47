/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host has and can, as Nova's ComputeNode and Placement want it, from libvirt's words for it. Pure
 * but for resources_storage() and resources_uptime(), which look at files; any thread.
 */
#pragma once

#include "conf/conf.h"
#include "lib/err.h"
#include "virt/virt.h"

/*
 * Fills cpu_info and supported_instances of *out from the host's capabilities. expanded_cpu: <cpu> with all
 * features named (virConnectBaselineCPU), NULL = only those of the capabilities.
 */
int resources_capabilities(const char *capabilities_xml, const char *expanded_cpu,
                           struct virt_resources *out, struct err *e);
/* <cpu> of the host's capabilities, as XML; the caller frees; NULL when libvirt does not know it. */
char *resources_host_cpu(const char *capabilities_xml);
/* A <cpu> of a named model, for virConnectBaselineCPU. The caller frees. */
char *resources_model_cpu(const char *arch, const char *model);

struct resources_traits {
    const struct conf *conf;
    const char *arch;
    bool hyperthreading;
    const char *const *guest_cpus; /* <cpu>s with their features named, of which guests get one */
    size_t guest_cpu_count;
    const char *const *domain_capabilities; /* XML of each machine type; NULLs are skipped */
    size_t domain_capabilities_count;
    int64_t hypervisor_version, libvirt_version;
};
/* Sorted, each once; the caller frees with text_vector_free(). */
char **resources_traits(const struct resources_traits *input);
/* True if a core of the host has more than one thread. */
bool resources_hyperthreading(const char *capabilities_xml);

/* "0-3,8,^2": how many CPUs. ERR_CONFIG. */
int resources_cpu_set(const char *text, int *count, struct err *e);
/* local_gb, local_used_gb, disk_available_least_gb. */
int resources_storage(const struct conf *conf, struct virt_resources *out, struct err *e);
char *resources_uptime(void);
