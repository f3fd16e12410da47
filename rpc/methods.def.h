/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RPC methods that the agent serves and sends: the only list. Included with different METHOD()
 * definitions.
 *
 * METHOD(name, namespace, major, minor of the newest form, call/cast, topic class, arguments)
 *   topic class: MAIN = "compute", ALT = "compute-alt" where the peer has it (RPC 6.5)
 *   arguments: ARG(name, type, need) with type OBJECT(<class>), OBJECTS(<class>) (an array of them), STRING,
 *   INT, BOOL, DICT, LIST, ANY, JSON_TEXT (a string that holds JSON); need REQUIRED, NULLABLE (must be there,
 *   may be null), OPTIONAL (may be absent or null) or BEFORE_6 (optional in 5.x, unknown to 6.x).
 *
 * Names, arguments and versions: nova/compute/rpcapi.py of Zed to 2026.2 (nova-contract 4.2, 6.4, 6.5).
 */
/* clang-format off */
METHOD(check_can_live_migrate_destination, COMPUTE, 6, 0, CALL, MAIN,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(block_migration, BOOL, NULLABLE)
       ARG(disk_over_commit, BOOL, NULLABLE) ARG(migration, OBJECT(Migration), OPTIONAL)
       ARG(limits, OBJECT(SchedulerLimits), OPTIONAL))
METHOD(check_can_live_migrate_source, COMPUTE, 6, 0, CALL, MAIN,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(dest_check_data, OBJECT(LibvirtLiveMigrateData), REQUIRED))
METHOD(pre_live_migration, COMPUTE, 6, 0, CALL, ALT,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(disk, JSON_TEXT, NULLABLE)
       ARG(migrate_data, OBJECT(LibvirtLiveMigrateData), REQUIRED) ARG(block_migration, BOOL, BEFORE_6))
METHOD(live_migration, COMPUTE, 6, 0, CAST, ALT,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(dest, STRING, REQUIRED) ARG(block_migration, BOOL, NULLABLE)
       ARG(migration, OBJECT(Migration), REQUIRED) ARG(migrate_data, OBJECT(LibvirtLiveMigrateData), REQUIRED))
METHOD(post_live_migration_at_destination, COMPUTE, 6, 0, CALL, ALT,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(block_migration, BOOL, NULLABLE))
METHOD(rollback_live_migration_at_destination, COMPUTE, 6, 0, CAST, ALT,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(destroy_disks, BOOL, REQUIRED)
       ARG(migrate_data, OBJECT(LibvirtLiveMigrateData), REQUIRED))
METHOD(drop_move_claim_at_destination, COMPUTE, 6, 0, CALL, ALT,
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(remove_volume_connection, COMPUTE, 6, 3, CALL, ALT,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(volume_id, STRING, REQUIRED)
       ARG(delete_attachment, BOOL, OPTIONAL))
METHOD(live_migration_force_complete, COMPUTE, 6, 0, CAST, MAIN,
       ARG(instance, OBJECT(Instance), REQUIRED))
METHOD(live_migration_abort, COMPUTE, 6, 0, CAST, MAIN,
       ARG(instance, OBJECT(Instance), REQUIRED) ARG(migration_id, INT, REQUIRED))
METHOD(external_instance_event, COMPUTE, 6, 0, CAST, ALT,
       ARG(instances, OBJECTS(Instance), REQUIRED) ARG(events, OBJECTS(InstanceExternalEvent), REQUIRED))
METHOD(check_instance_shared_storage, COMPUTE, 6, 0, CALL, ALT,
       ARG(data, DICT, REQUIRED) ARG(instance, OBJECT(Instance), BEFORE_6))
METHOD(ping, BASEAPI, 1, 1, CALL, MAIN,
       ARG(arg, ANY, NULLABLE))
METHOD(get_backdoor_port, BASEAPI, 1, 1, CALL, MAIN, )
/* Between agents only, namespace "computed": a computectl command relayed to another host. */
METHOD(control, COMPUTED, 1, 0, CALL, MAIN,
       ARG(command, STRING, REQUIRED) ARG(args, DICT, REQUIRED))
/* clang-format on */
