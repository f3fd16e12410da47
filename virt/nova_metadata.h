/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">: what nova-compute writes into
 * the <metadata> of its domains (LibvirtConfigGuestMetaNovaInstance of Zed), for tools that read it there:
 * Ceilometer's libvirt inspector, exporters, people.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct nova_metadata_ip {
    const char *type, *address; /* "fixed" */
    int version;
};
struct nova_metadata_port {
    const char *uuid;
    const struct nova_metadata_ip *ips;
    size_t ip_count;
};
/* Strings are borrowed; NULL leaves the element out. What XML cannot hold is replaced by "?". */
struct nova_metadata {
    const char *package, *name;
    int64_t created_us; /* real time */
    const char *flavor;
    int64_t memory_mb, disk_gb, swap_mb, ephemeral_gb, vcpus;
    const char *user_id, *user_name, *project_id, *project_name;
    const char *image_id;
    const struct nova_metadata_port *ports;
    size_t port_count;
};

/* The element as text; the caller frees. Pure, any thread. */
char *nova_metadata_xml(const struct nova_metadata *metadata);
