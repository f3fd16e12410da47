/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RPC methods of a compute node, those that the agent serves and those that it does not, and what it
 * sends: the only list. Included with different METHOD() definitions.
 *
 * METHOD(name, namespace, major, minor of the newest form, call/cast, topic class, handler, arguments)
 *   call/cast: how it is sent; a request is answered by what it is (stop_instance, confirm_resize come as both)
 *   topic class: MAIN = "compute", ALT = "compute-alt" where the peer has it (RPC 6.5)
 *   handler: SERVED(function of the room agent), or UNSERVED: a cast sets a fault and clears the task state,
 *   a call is answered with NotImplementedError (agent/unserved.c)
 *   arguments: ARG(name, type, need) with type OBJECT(<class>), OBJECTS(<class>) (an array of them), STRING,
 *   INT, BOOL, DICT, LIST, ANY, JSON_TEXT (a string that holds JSON); need REQUIRED, NULLABLE (must be there,
 *   may be null), OPTIONAL (may be absent or null) or BEFORE_6 (optional in 5.x, unknown to 6.x).
 *
 * Names, arguments and versions: nova/compute/rpcapi.py and manager.py of Zed to 2026.2 (nova-contract 4.2,
 * 6.4, 6.5).
 */
/* clang-format off */

/* ---- live migration ---- */
METHOD(check_can_live_migrate_destination, COMPUTE, 6, 0, CALL, MAIN, SERVED(check_destination),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(block_migration, BOOL, NULLABLE)
       ARG(disk_over_commit, BOOL, NULLABLE) ARG(migration, OBJECT(Migration), OPTIONAL)
       ARG(limits, OBJECT(SchedulerLimits), OPTIONAL))
METHOD(check_can_live_migrate_source, COMPUTE, 6, 0, CALL, MAIN, SERVED(check_source),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(dest_check_data, OBJECT(LibvirtLiveMigrateData), REQUIRED))
METHOD(pre_live_migration, COMPUTE, 6, 0, CALL, ALT, SERVED(destination_accept),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(disk, JSON_TEXT, NULLABLE)
       ARG(migrate_data, OBJECT(LibvirtLiveMigrateData), REQUIRED) ARG(block_migration, BOOL, BEFORE_6))
METHOD(live_migration, COMPUTE, 6, 0, CAST, ALT, SERVED(source_accept),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(dest, STRING, REQUIRED) ARG(block_migration, BOOL, NULLABLE)
       ARG(migration, OBJECT(Migration), REQUIRED) ARG(migrate_data, OBJECT(LibvirtLiveMigrateData), REQUIRED))
METHOD(post_live_migration_at_destination, COMPUTE, 6, 0, CALL, ALT, SERVED(destination_post),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(block_migration, BOOL, NULLABLE))
METHOD(rollback_live_migration_at_destination, COMPUTE, 6, 0, CAST, ALT, SERVED(destination_rollback),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(destroy_disks, BOOL, REQUIRED)
       ARG(migrate_data, OBJECT(LibvirtLiveMigrateData), REQUIRED))
METHOD(drop_move_claim_at_destination, COMPUTE, 6, 0, CALL, ALT, SERVED(endpoint_drop_move_claim_at_destination),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(live_migration_force_complete, COMPUTE, 6, 0, CAST, MAIN, SERVED(endpoint_live_migration_force_complete),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(live_migration_abort, COMPUTE, 6, 0, CAST, MAIN, SERVED(endpoint_live_migration_abort),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration_id, INT, REQUIRED))

/* ---- the life of an instance ---- */
METHOD(build_and_run_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_build),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(image, DICT, NULLABLE)
       ARG(request_spec, OBJECT(RequestSpec), NULLABLE) ARG(filter_properties, DICT, NULLABLE)
       ARG(accel_uuids, LIST, OPTIONAL) ARG(admin_password, STRING, OPTIONAL) ARG(injected_files, LIST, OPTIONAL)
       ARG(requested_networks, OBJECT(NetworkRequestList), OPTIONAL) ARG(security_groups, LIST, OPTIONAL)
       ARG(block_device_mapping, OBJECT(BlockDeviceMappingList), OPTIONAL) ARG(node, STRING, OPTIONAL)
       ARG(limits, ANY, OPTIONAL) ARG(host_list, LIST, OPTIONAL))
METHOD(terminate_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_terminate),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(bdms, OBJECT(BlockDeviceMappingList), NULLABLE))
METHOD(rebuild_instance, COMPUTE, 6, 2, CAST, MAIN, SERVED(instance_rebuild),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(orig_image_ref, STRING, NULLABLE) ARG(image_ref, STRING, NULLABLE)
       ARG(injected_files, LIST, NULLABLE) ARG(new_pass, STRING, NULLABLE) ARG(orig_sys_metadata, DICT, NULLABLE)
       ARG(bdms, OBJECT(BlockDeviceMappingList), NULLABLE) ARG(recreate, BOOL, NULLABLE)
       ARG(on_shared_storage, BOOL, NULLABLE) ARG(preserve_ephemeral, BOOL, OPTIONAL)
       ARG(migration, OBJECT(Migration), OPTIONAL) ARG(scheduled_node, STRING, OPTIONAL) ARG(limits, ANY, OPTIONAL)
       ARG(request_spec, OBJECT(RequestSpec), OPTIONAL) ARG(accel_uuids, LIST, OPTIONAL)
       ARG(reimage_boot_volume, BOOL, OPTIONAL) ARG(target_state, STRING, OPTIONAL))
METHOD(snapshot_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_snapshot),
       ARG(image_id, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(backup_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_backup),
       ARG(image_id, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED) ARG(backup_type, STRING, NULLABLE)
       ARG(rotation, INT, NULLABLE))
METHOD(start_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_start),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(stop_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_stop),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(clean_shutdown, BOOL, NULLABLE))
METHOD(reboot_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_reboot),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(block_device_info, DICT, NULLABLE) ARG(reboot_type, STRING, REQUIRED))
METHOD(pause_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_pause),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(unpause_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_unpause),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(suspend_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_suspend),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(resume_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_resume),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(soft_delete_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_soft_delete),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(restore_instance, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_restore),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(rescue_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(rescue_password, STRING, NULLABLE)
       ARG(rescue_image_ref, STRING, NULLABLE) ARG(clean_shutdown, BOOL, NULLABLE))
METHOD(unrescue_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(set_admin_password, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(new_pass, STRING, NULLABLE))
METHOD(trigger_crash_dump, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(quiesce_instance, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(unquiesce_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(mapping, ANY, OPTIONAL))

/* ---- consoles, what is told of a guest and of the host ---- */
METHOD(get_console_output, COMPUTE, 6, 0, CALL, MAIN, SERVED(instance_console_output),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(tail_length, ANY, NULLABLE))
METHOD(get_vnc_console, COMPUTE, 6, 0, CALL, MAIN, SERVED(instance_vnc_console),
       ARG(console_type, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(get_spice_console, COMPUTE, 6, 0, CALL, MAIN, SERVED(instance_spice_console),
       ARG(console_type, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(get_serial_console, COMPUTE, 6, 0, CALL, MAIN, SERVED(instance_serial_console),
       ARG(console_type, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(get_rdp_console, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(console_type, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(get_mks_console, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(console_type, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(validate_console_port, COMPUTE, 6, 0, CALL, ALT, SERVED(instance_validate_console_port),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(port, ANY, REQUIRED) ARG(console_type, STRING, REQUIRED))
METHOD(get_instance_diagnostics, COMPUTE, 6, 0, CALL, MAIN, SERVED(instance_diagnostics),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(get_diagnostics, COMPUTE, 6, 0, CALL, MAIN, SERVED(instance_diagnostics_old),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(set_host_enabled, COMPUTE, 6, 0, CALL, MAIN, SERVED(host_set_enabled),
       ARG(enabled, BOOL, REQUIRED))
METHOD(get_host_uptime, COMPUTE, 6, 0, CALL, MAIN, SERVED(host_uptime), )
METHOD(host_power_action, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(action, STRING, REQUIRED))
METHOD(host_maintenance_mode, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(host, STRING, NULLABLE) ARG(mode, ANY, NULLABLE))

/* ---- ports ---- */
METHOD(attach_interface, COMPUTE, 6, 0, CALL, MAIN, SERVED(instance_attach_interface),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(network_id, STRING, NULLABLE) ARG(port_id, STRING, NULLABLE)
       ARG(requested_ip, STRING, NULLABLE) ARG(tag, STRING, OPTIONAL))
METHOD(detach_interface, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_detach_interface),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(port_id, STRING, REQUIRED))
METHOD(inject_network_info, COMPUTE, 6, 0, CAST, MAIN, SERVED(instance_inject_network_info),
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(add_fixed_ip_to_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(network_id, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(remove_fixed_ip_from_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(address, STRING, REQUIRED) ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(external_instance_event, COMPUTE, 6, 0, CAST, ALT, SERVED(endpoint_external_instance_event),
       ARG(instances, OBJECTS(Instance), REQUIRED) ARG(events, OBJECTS(InstanceExternalEvent), REQUIRED))

/* ---- volumes, images, shares ---- */
METHOD(reserve_block_device_name, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(device, STRING, NULLABLE) ARG(volume_id, STRING, REQUIRED)
       ARG(disk_bus, STRING, NULLABLE) ARG(device_type, STRING, NULLABLE) ARG(tag, STRING, OPTIONAL)
       ARG(multiattach, BOOL, OPTIONAL))
METHOD(attach_volume, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(bdm, OBJECT(BlockDeviceMapping), REQUIRED))
METHOD(detach_volume, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(volume_id, STRING, REQUIRED) ARG(attachment_id, STRING, OPTIONAL))
METHOD(swap_volume, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(old_volume_id, STRING, REQUIRED)
       ARG(new_volume_id, STRING, REQUIRED) ARG(new_attachment_id, STRING, OPTIONAL))
METHOD(volume_snapshot_create, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(volume_id, STRING, REQUIRED) ARG(create_info, ANY, NULLABLE))
METHOD(volume_snapshot_delete, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(volume_id, STRING, REQUIRED) ARG(snapshot_id, STRING, REQUIRED)
       ARG(delete_info, ANY, NULLABLE))
METHOD(remove_volume_connection, COMPUTE, 6, 3, CALL, ALT, SERVED(endpoint_remove_volume_connection),
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(volume_id, STRING, REQUIRED)
       ARG(delete_attachment, BOOL, OPTIONAL))
METHOD(check_instance_shared_storage, COMPUTE, 6, 0, CALL, ALT, SERVED(check_shared_storage),
       ARG(data, DICT, REQUIRED) ARG(instance, OBJECT(Instance), BEFORE_6))
METHOD(cache_images, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(image_ids, LIST, REQUIRED))
METHOD(allow_share, COMPUTE, 6, 4, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(share_mapping, OBJECT(ShareMapping), REQUIRED))
METHOD(deny_share, COMPUTE, 6, 4, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(share_mapping, OBJECT(ShareMapping), REQUIRED))

/* ---- resize, cold migration, shelving ---- */
METHOD(prep_resize, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(image, DICT, NULLABLE) ARG(instance, OBJECT(Instance), REQUIRED) ARG(flavor, OBJECT(Flavor), OPTIONAL)
       ARG(instance_type, OBJECT(Flavor), BEFORE_6) ARG(request_spec, ANY, NULLABLE)
       ARG(filter_properties, DICT, NULLABLE) ARG(node, STRING, NULLABLE) ARG(clean_shutdown, BOOL, NULLABLE)
       ARG(migration, OBJECT(Migration), NULLABLE) ARG(host_list, LIST, NULLABLE))
METHOD(resize_instance, COMPUTE, 6, 0, CAST, ALT, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(image, DICT, NULLABLE) ARG(migration, OBJECT(Migration), REQUIRED)
       ARG(flavor, OBJECT(Flavor), OPTIONAL) ARG(instance_type, OBJECT(Flavor), BEFORE_6)
       ARG(clean_shutdown, BOOL, NULLABLE) ARG(request_spec, ANY, OPTIONAL))
METHOD(finish_resize, COMPUTE, 6, 0, CAST, ALT, UNSERVED,
       ARG(disk_info, ANY, NULLABLE) ARG(image, DICT, NULLABLE) ARG(instance, OBJECT(Instance), REQUIRED)
       ARG(migration, OBJECT(Migration), REQUIRED) ARG(request_spec, ANY, OPTIONAL))
METHOD(confirm_resize, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED))
METHOD(revert_resize, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED)
       ARG(request_spec, ANY, OPTIONAL))
METHOD(finish_revert_resize, COMPUTE, 6, 0, CAST, ALT, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED)
       ARG(request_spec, ANY, OPTIONAL))
METHOD(prep_snapshot_based_resize_at_dest, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(flavor, OBJECT(Flavor), REQUIRED) ARG(nodename, STRING, REQUIRED)
       ARG(migration, OBJECT(Migration), REQUIRED) ARG(limits, ANY, NULLABLE) ARG(request_spec, ANY, BEFORE_6))
METHOD(prep_snapshot_based_resize_at_source, COMPUTE, 6, 0, CALL, ALT, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED)
       ARG(snapshot_id, STRING, OPTIONAL))
METHOD(finish_snapshot_based_resize_at_dest, COMPUTE, 6, 0, CALL, ALT, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED)
       ARG(snapshot_id, STRING, NULLABLE) ARG(request_spec, ANY, BEFORE_6))
METHOD(confirm_snapshot_based_resize_at_source, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED))
METHOD(revert_snapshot_based_resize_at_dest, COMPUTE, 6, 0, CALL, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED))
METHOD(finish_revert_snapshot_based_resize_at_source, COMPUTE, 6, 0, CALL, ALT, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration, OBJECT(Migration), REQUIRED))
METHOD(shelve_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(image_id, STRING, NULLABLE) ARG(clean_shutdown, BOOL, NULLABLE)
       ARG(accel_uuids, LIST, OPTIONAL))
METHOD(shelve_offload_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(clean_shutdown, BOOL, NULLABLE) ARG(accel_uuids, LIST, OPTIONAL))
METHOD(unshelve_instance, COMPUTE, 6, 0, CAST, MAIN, UNSERVED,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(image, DICT, NULLABLE) ARG(filter_properties, DICT, OPTIONAL)
       ARG(node, STRING, OPTIONAL) ARG(request_spec, ANY, OPTIONAL) ARG(accel_uuids, LIST, OPTIONAL))

/* ---- namespace baseapi ---- */
METHOD(ping, BASEAPI, 1, 1, CALL, MAIN, SERVED(endpoint_ping),
       ARG(arg, ANY, NULLABLE))
METHOD(get_backdoor_port, BASEAPI, 1, 1, CALL, MAIN, SERVED(endpoint_get_backdoor_port), )
/* Between agents only, namespace "computed": a computectl command relayed to another host. */
METHOD(control, COMPUTED, 1, 0, CALL, MAIN, SERVED(endpoint_control),
       ARG(command, STRING, REQUIRED) ARG(args, DICT, REQUIRED))
/* clang-format on */
