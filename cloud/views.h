/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The versioned objects that live migration reads and writes, as typed views. Fields, versions and who
 * writes them: nova-contract 2.3 and 2.4. We stamp Zed's versions everywhere and add newer fields that we
 * can fill (2.2).
 */
#pragma once

#include "cloud/view.h"

/* Instance 2.x */
VIEW_DEFINE(instance, "Instance", 2)
VIEW_STRING(instance, uuid)
VIEW_INT(instance, id, 0)
VIEW_STRING(instance, display_name)
VIEW_STRING(instance, host)
VIEW_STRING(instance, node)
VIEW_STRING(instance, project_id)
VIEW_STRING(instance, user_id)
VIEW_STRING(instance, vm_state)
VIEW_STRING(instance, task_state)
VIEW_STRING(instance, image_ref)
VIEW_STRING(instance, kernel_id)
VIEW_STRING(instance, ramdisk_id)
VIEW_STRING(instance, config_drive)
VIEW_STRING(instance, availability_zone)
VIEW_INT(instance, power_state, 0)
VIEW_INT(instance, progress, 0)
VIEW_INT(instance, memory_mb, 0)
VIEW_INT(instance, vcpus, 0)
VIEW_INT(instance, root_gb, 0)
VIEW_INT(instance, ephemeral_gb, 0)
VIEW_JSON(instance, metadata)
VIEW_JSON(instance, system_metadata)
VIEW_JSON(instance, numa_topology)
VIEW_JSON(instance, vcpu_model)

/* Memory of the flavor in MiB; falls back to the instance's own field. */
int64_t instance_flavor_memory_mb(const struct instance *instance);
/* The flavor's extra specs; NULL when it has none. Borrowed. */
struct json_object *instance_extra_specs(const struct instance *instance);
/* network_info of the info cache, parsed (it is a string of JSON): array of VIFs, empty when there is
 * none. New reference; ERR_PARSE if the cache is not readable. */
int instance_network_info(const struct instance *instance, struct json_object **out, struct err *e);
/* True if its PCI requests name a flavor device (which this agent refuses to migrate). */
bool instance_has_pci_requests(const struct instance *instance);

/* Migration 1.x: named apart from the agent's machine */
VIEW_DEFINE(migration_record, "Migration", 1)
VIEW_INT(migration_record, id, 0)
VIEW_STRING(migration_record, uuid)
VIEW_STRING(migration_record, source_compute)
VIEW_STRING(migration_record, dest_compute)
VIEW_STRING(migration_record, source_node)
VIEW_STRING(migration_record, dest_node)
VIEW_STRING(migration_record, instance_uuid)
VIEW_STRING(migration_record, status)
VIEW_STRING(migration_record, migration_type)
VIEW_INT(migration_record, memory_total, 0)
VIEW_INT(migration_record, memory_processed, 0)
VIEW_INT(migration_record, memory_remaining, 0)
VIEW_INT(migration_record, disk_total, 0)
VIEW_INT(migration_record, disk_processed, 0)
VIEW_INT(migration_record, disk_remaining, 0)

/* LibvirtLiveMigrateData 1.x */
VIEW_DEFINE(migrate_data, "LibvirtLiveMigrateData", 1)
VIEW_BOOL(migrate_data, is_volume_backed)
VIEW_STRING(migrate_data, filename)
VIEW_STRING(migrate_data, image_type)
VIEW_BOOL(migrate_data, block_migration)
VIEW_BOOL(migrate_data, disk_over_commit)
VIEW_INT(migrate_data, disk_available_mb, 0)
VIEW_BOOL(migrate_data, is_shared_instance_path)
VIEW_BOOL(migrate_data, is_shared_block_storage)
VIEW_STRING(migrate_data, instance_relative_path)
VIEW_STRING(migrate_data, graphics_listen_addr_vnc)
VIEW_STRING(migrate_data, graphics_listen_addr_spice)
VIEW_STRING(migrate_data, serial_listen_addr)
VIEW_JSON(migrate_data, serial_listen_ports)
VIEW_JSON(migrate_data, bdms)
VIEW_STRING(migrate_data, target_connect_addr)
VIEW_JSON(migrate_data, supported_perf_events)
VIEW_JSON(migrate_data, old_vol_attachment_ids)
VIEW_BOOL(migrate_data, wait_for_vif_plugged)
VIEW_BOOL(migrate_data, dst_wants_file_backed_memory)
VIEW_JSON(migrate_data, vifs)
VIEW_JSON(migrate_data, migration)
VIEW_JSON(migrate_data, dst_cpu_shared_set_info)
VIEW_JSON(migrate_data, pci_dev_map_src_dst)
/* Ours, between agents only; Python peers drop them (nova-contract 2.1). */
VIEW_JSON(migrate_data,
          computed_unwired) /* pre_live_migration's question: ports without a way at the source */
VIEW_JSON(migrate_data, computed_guest)      /* source check: the guest's facts (virt/guest.h) */
VIEW_JSON(migrate_data, computed_switchover) /* pre_live_migration's answer: {address, port, key} */
/* pre_live_migration's answer: {path at the source: path here} */
VIEW_JSON(migrate_data, computed_paths)
VIEW_JSON(migrate_data, computed_timeline) /* the same answer: the destination's stamps */
VIEW_STRING(migrate_data,
            computed_source_uri) /* source check: libvirt URI where image bases can be had */

/* An empty LibvirtLiveMigrateData stamped with Zed's version. */
struct migrate_data *migrate_data_new(void);
/* The uuid of the nested migration, NULL when it is not set. Borrowed. */
const char *migrate_data_migration_uuid(const struct migrate_data *data);

/* VIFMigrateData 1.0 */
VIEW_DEFINE(vif_migrate_data, "VIFMigrateData", 1)
VIEW_STRING(vif_migrate_data, port_id)
VIEW_STRING(vif_migrate_data, vnic_type)
VIEW_STRING(vif_migrate_data, vif_type)
VIEW_STRING(vif_migrate_data, vif_details_json)
VIEW_STRING(vif_migrate_data, profile_json)
VIEW_STRING(vif_migrate_data, host)
VIEW_STRING(vif_migrate_data, source_vif)

/* Skeletons for the destination's answer (2.4): one for each VIF of network_info. New reference. */
struct json_object *vif_migrate_data_skeletons(struct json_object *network_info);

/* InstanceExternalEvent 1.x */
VIEW_DEFINE(external_event, "InstanceExternalEvent", 1)
VIEW_STRING(external_event, instance_uuid)
VIEW_STRING(external_event, name)
VIEW_STRING(external_event, status)
VIEW_STRING(external_event, tag)

/*
 * A VIF as the destination will have it: source_vif with type, vnic_type, profile, details replaced by
 * the binding's and delegate_create = profile.os_vif_delegation (nova-contract 2.4). A vif without
 * binding facts (no binding-extended, standalone) is the source's. Reads only; owns its strings.
 */
struct vif {
    char *port_id, *mac, *type, *vnic_type, *bridge, *devname, *physical_network, *ovs_interface_id;
    bool is_flat,
        is_tagged;    /* on the physical network: without or with VLAN tags; neither = not known */
    char **addresses; /* fixed IPs, NULL-terminated */
    int mtu;          /* 0 = none */
    bool delegate_create, ovs_hybrid_plug, ovs_create_tap;
};
void vif_free(struct vif *vif);
DEFINE_CLEANUP(struct vif *, vif_free)
/* From one VIF of network_info; names are validated by type. */
int vif_from_json(struct json_object *vif, struct vif **out, struct err *e);
struct vif_list {
    struct vif **items;
    size_t count;
};
void vif_list_clear(struct vif_list *list);
/* From the array of VIFs. */
int vif_list_of_network_info(struct json_object *network_info, struct vif_list *out, struct err *e);
/* The instance's VIFs as the source has them. */
int vif_list_of_instance(const struct instance *instance, struct vif_list *out, struct err *e);
/* The VIFs as the destination will have them; the instance's when migrate data has none. */
int vif_list_of_destination(const struct instance *instance, const struct migrate_data *data,
                            struct vif_list *out, struct err *e);
