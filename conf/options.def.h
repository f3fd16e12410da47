/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every option of computed and computectl, once. Parsing, defaults, bounds, --help, the sample file,
 * computed.conf(5), the JSON Schema and the completion words are made from these rows; an option that
 * is not here does not exist.
 *
 *     GROUP(group, "One sentence.")
 *     OPT(group, name, TYPE, "default as written in a file" or NULL, .field = ...)
 *
 * TYPE      BOOL INT FLOAT STRING ENUM LIST IP HOST PATH URL (conf/row.h says what each accepts)
 * .min .max bounds of INT and FLOAT (both 0: any); CONF_NO_MAX for "no maximum"
 * .unit     what the number counts
 * .words    allowed words of ENUM, divided by "|"; the value is also the index for conf_int()
 * .flags    CONF_RELOAD  takes effect by SIGHUP or `computectl conf reload`
 *           CONF_SECRET  never printed; the file must not be readable for everybody
 *           CONF_DEPRECATED  accepted with a warning
 *           CONF_IDLE    read for Nova's sake, without effect in this version
 * .alias    other spellings that files use, "group.name", divided by blanks
 * .nova_default  the default when a nova.conf is read as it is, where ours is another on purpose
 * .automatic  the default is found at start-up; the text says how
 * .help     one sentence with a full stop; .more adds what an operator should know
 * .nova     "same" (name, meaning and default as in Nova), "differs: ...", or "none" (ours)
 * .since    our release
 *
 * Names, groups and units are Nova's (nova.conf of Zed to 2026.2, oslo.messaging 14.0.3 to 18.3.0)
 * wherever Nova has the option.
 */

/* clang-format off */
GROUP(DEFAULT, "The host and its services, as Nova names them.")

OPT(DEFAULT, host, HOST, NULL, .automatic = "the machine's host name",
    .help = "Name of this host, as the services and compute_nodes records of Nova know it.",
    .more = "It names the queue compute.<host>; it must be unique and must not change while instances exist.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, my_ip, IP, NULL, .automatic = "the address of the route to the outside, else 127.0.0.1",
    .help = "Management address of this host.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, transport_url, URL, NULL, .words = "rabbit|kombu+", .flags = CONF_SECRET,
    .help = "RabbitMQ brokers: rabbit://user:password@host:port[,user:password@host:port...]/vhost.",
    .more = "User, password and virtual host are percent-encoded; options of [oslo_messaging_rabbit] may follow as ?name=value. "
            "Several brokers are tried in order.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, control_exchange, STRING, "nova",
    .help = "Topic exchange of the control plane.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, rpc_response_timeout, INT, "60", .min = 1, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long a call waits for its reply.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, long_rpc_timeout, INT, "1800", .min = 1, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long a call waits that is kept alive by heartbeats of the other side.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, rpc_ping_enabled, BOOL, "false",
    .help = "Answer the method oslo_rpc_server_ping.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, state_path, PATH, "/var/lib/nova",
    .help = "Top directory of Nova's state on this host.",
    .nova = "differs: Nova's own default is its source tree, distributions set /var/lib/nova", .since = "0.1")
OPT(DEFAULT, instances_path, PATH, "$state_path/instances",
    .help = "Directory that holds one directory for each instance.",
    .more = "Two hosts that share it over a network file system are detected by a test file.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, instance_name_template, STRING, "instance-%08x",
    .help = "Template of libvirt domain names; one integer conversion, or %(uuid)s.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, max_concurrent_live_migrations, INT, "1", .min = 0, .max = 1000, .flags = CONF_RELOAD,
    .help = "How many outgoing live migrations run at the same time; 0 means no limit.",
    .more = "Further ones wait in the status queued.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, max_concurrent_builds, INT, "10", .min = 0, .max = 1000, .flags = CONF_RELOAD,
    .help = "How many instances are built at the same time; 0 means no limit.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, max_concurrent_snapshots, INT, "5", .min = 0, .max = 1000, .flags = CONF_RELOAD,
    .help = "How many snapshots are made at the same time; 0 means no limit.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, live_migration_retry_count, INT, "30", .min = 0, .max = 3600, .flags = CONF_RELOAD,
    .help = "How many times, a second apart, wiring of a port on the destination is tried again.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, vif_plugging_timeout, INT, "300", .min = 0, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long to wait for the event that a port is wired; 0 means not to wait.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, vif_plugging_is_fatal, BOOL, "true", .flags = CONF_RELOAD,
    .help = "Give a migration up when the event of a wired port does not come in time.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, reserved_host_memory_mb, INT, "512", .min = 0, .max = CONF_NO_MAX, .unit = "MiB", .flags = CONF_RELOAD,
    .help = "Memory kept for the host itself.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, reserved_host_disk_mb, INT, "0", .min = 0, .max = CONF_NO_MAX, .unit = "MiB", .flags = CONF_RELOAD,
    .help = "Disk space kept for the host itself.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, update_resources_interval, INT, "0", .min = -1, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How often the host's figures are counted and written; 0 means 60 s, -1 only when something changed.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, sync_power_state_interval, INT, "600", .min = -1, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How often power states are compared with the hypervisor's; 0 means 60 s, -1 never.",
    .more = "libvirt's events are acted on at once, whatever this says.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, resume_guests_state_on_host_boot, BOOL, "false",
    .help = "Start instances again that ran before the host was started anew.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, running_deleted_instance_action, ENUM, "reap", .words = "noop|log|shutdown|reap", .flags = CONF_RELOAD,
    .help = "What becomes of a guest that is found here at the start although its instance was deleted meanwhile.",
    .more = "reap removes it with its files, shutdown powers it off, log and noop leave it.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, shutdown_timeout, INT, "60", .min = 0, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long an instance that is stopped may take to shut itself down, before it is powered off.",
    .more = "The image property os_shutdown_timeout says it for one image.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, reserved_host_cpus, INT, "0", .min = 0, .max = 65536,
    .help = "CPUs kept for the host itself.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, cpu_allocation_ratio, FLOAT, NULL, .min = 0, .max = 1000000,
    .help = "How many CPUs of instances one CPU of this host carries; unset leaves Placement's number alone.",
    .more = "Unset or 0, a new provider begins with initial_cpu_allocation_ratio.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, ram_allocation_ratio, FLOAT, NULL, .min = 0, .max = 1000000,
    .help = "The same for memory.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, disk_allocation_ratio, FLOAT, NULL, .min = 0, .max = 1000000,
    .help = "The same for disk space.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, initial_cpu_allocation_ratio, FLOAT, "4.0", .min = 0, .max = 1000000,
    .help = "The cpu_allocation_ratio of a new provider.",
    .nova = "differs: 16.0 in Nova before 2023.1", .since = "0.2")
OPT(DEFAULT, initial_ram_allocation_ratio, FLOAT, "1.0", .min = 0, .max = 1000000,
    .help = "The ram_allocation_ratio of a new provider.",
    .nova = "differs: 1.5 in Nova before 2023.1", .since = "0.2")
OPT(DEFAULT, initial_disk_allocation_ratio, FLOAT, "1.0", .min = 0, .max = 1000000,
    .help = "The disk_allocation_ratio of a new provider.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, graceful_shutdown_timeout, INT, "60", .min = 0, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long a stopping agent waits for requests under way; a running migration goes on without it.",
    .more = "0 means to wait as long as it takes.",
    .nova = "differs: Nova's default is 60 up to 2026.1 and 180 later", .since = "0.1")
OPT(DEFAULT, report_interval, INT, "10", .min = 1, .max = 3600, .unit = "s",
    .help = "How often the service record of this host is refreshed.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, preallocate_images, ENUM, "none", .words = "none|space",
    .help = "Whether disks that are made on this host get their space at once.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, force_raw_images, BOOL, "true",
    .help = "Convert images to raw in the image cache.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, use_cow_images, BOOL, "true",
    .help = "With images_type default: disks are overlays on the cached image, not copies of it.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, default_ephemeral_format, STRING, NULL,
    .help = "File system of ephemeral disks: ext2, ext3, ext4, xfs or vfat.",
    .more = "Unset means ext4 for an instance whose os_type is linux, and vfat for others; NTFS is not made.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, config_drive_format, ENUM, "iso9660", .words = "iso9660|vfat",
    .help = "File system of config drives.",
    .more = "vfat needs the program mcopy (package mtools).",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, force_config_drive, BOOL, "false",
    .help = "Every new instance gets a config drive.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, mkisofs_cmd, STRING, "genisoimage",
    .help = "Program that makes config drives of format iso9660.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, pointer_model, ENUM, "usbtablet", .words = "usbtablet|ps2mouse",
    .help = "Pointer of new guests that have a screen.",
    .nova = "same", .since = "0.2")
OPT(DEFAULT, debug, BOOL, "false", .flags = CONF_RELOAD,
    .help = "Log at debug level.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, log_file, STRING, NULL, .alias = "DEFAULT.logfile",
    .help = "File to log to, absolute or below log_dir; unset means standard error.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, log_dir, PATH, NULL, .alias = "DEFAULT.logdir",
    .help = "Directory of a log_file that is not absolute.",
    .nova = "same", .since = "0.1")
OPT(DEFAULT, log_format, ENUM, "text", .words = "text|json",
    .help = "Form of log lines.",
    .nova = "none", .since = "0.1")
OPT(DEFAULT, use_journal, BOOL, "false",
    .help = "Log to standard error for journald although a log_file is given.",
    .nova = "same", .since = "0.1")

GROUP(oslo_messaging_rabbit, "The message bus; flags of queues must be those of the whole cloud.")

OPT(oslo_messaging_rabbit, ssl, BOOL, "false", .alias = "oslo_messaging_rabbit.rabbit_use_ssl",
    .help = "Connect with TLS.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, ssl_version, ENUM, "", .words = "|TLSv1_2|TLSv1_3|SSLv23", .alias = "oslo_messaging_rabbit.kombu_ssl_version",
    .help = "Lowest TLS version; empty and SSLv23 (which negotiates) mean TLS 1.2.",
    .nova = "differs: versions below TLS 1.2 are refused", .since = "0.1")
OPT(oslo_messaging_rabbit, ssl_ca_file, STRING, "", .alias = "oslo_messaging_rabbit.kombu_ssl_ca_certs",
    .help = "Certificate authorities (PEM) that may sign the broker's certificate; empty means the system's.",
    .nova = "differs: empty switches the check off in Nova, here the system's authorities are used", .since = "0.1")
OPT(oslo_messaging_rabbit, ssl_cert_file, STRING, "", .alias = "oslo_messaging_rabbit.kombu_ssl_certfile",
    .help = "Certificate (PEM) of this client.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, ssl_key_file, STRING, "", .alias = "oslo_messaging_rabbit.kombu_ssl_keyfile",
    .help = "Private key (PEM) of this client.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, ssl_verify_peer, BOOL, "true",
    .help = "Check the broker's certificate.",
    .more = "Only for clouds whose broker has a certificate that nobody signed; anybody on the path can then read and write all messages.",
    .nova = "none", .since = "0.1")
OPT(oslo_messaging_rabbit, ssl_enforce_hostname_verification, BOOL, "true",
    .help = "The broker's certificate must name the host that is connected to.",
    .nova = "differs: false in Nova up to 2025.1, always true later", .since = "0.1")
OPT(oslo_messaging_rabbit, amqp_durable_queues, BOOL, "false",
    .help = "Topic exchanges and queues survive a restart of the broker.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, amqp_auto_delete, BOOL, "false", .alias = "DEFAULT.amqp_auto_delete",
    .help = "Topic exchanges and queues are deleted with their last user.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_ha_queues, BOOL, "false", .alias = "DEFAULT.rabbit_ha_queues",
    .help = "Declare queues with x-ha-policy: all.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_quorum_queue, BOOL, "false",
    .help = "Topic queues are quorum queues.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_quorum_delivery_limit, INT, "0", .min = 0, .max = 1000000, .alias = "oslo_messaging_rabbit.rabbit_delivery_limit",
    .help = "How many times a quorum queue gives a message out; 0 means the broker's own limit.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_quorum_max_memory_length, INT, "0", .min = 0, .max = CONF_NO_MAX,
    .alias = "oslo_messaging_rabbit.rabbit_quroum_max_memory_length", .unit = "messages",
    .help = "How many messages a quorum queue keeps in memory; 0 means the broker's own limit.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_quorum_max_memory_bytes, INT, "0", .min = 0, .max = CONF_NO_MAX,
    .alias = "oslo_messaging_rabbit.rabbit_quroum_max_memory_bytes", .unit = "bytes",
    .help = "How many bytes a quorum queue keeps in memory; 0 means the broker's own limit.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_transient_quorum_queue, BOOL, "false",
    .help = "Reply and fanout queues are quorum queues too.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_stream_fanout, BOOL, "false",
    .help = "The fanout queue is a stream; needs rabbit_transient_quorum_queue and a prefetch count.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_transient_queues_ttl, INT, "1800", .min = 0, .max = 31536000, .unit = "s",
    .help = "Reply and fanout queues are deleted when unused for so long; 0 means never.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, use_queue_manager, BOOL, "false",
    .help = "Reply and fanout queues get names that are the same after a restart.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, hostname, STRING, NULL, .automatic = "the machine's host name",
    .help = "Host part of the queue manager's names.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, processname, STRING, "nova-compute",
    .help = "Process part of the queue manager's names.",
    .nova = "differs: Nova uses the name of its own program", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_qos_prefetch_count, INT, "0", .min = 0, .max = 65535, .unit = "messages",
    .help = "How many messages the broker sends ahead; 0 means no limit.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_login_method, ENUM, "AMQPLAIN", .words = "PLAIN|AMQPLAIN|EXTERNAL|RABBIT-CR-DEMO", .alias = "DEFAULT.rabbit_login_method",
    .help = "How to log in to the broker.",
    .more = "AMQPLAIN and PLAIN send user and password, each for the other where a broker offers only one; "
            "EXTERNAL uses the client's certificate; "
            "RABBIT-CR-DEMO is refused.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, heartbeat_timeout_threshold, INT, "60", .min = 0, .max = 3600, .unit = "s",
    .help = "A broker that is silent for so long is taken for dead; 0 switches heartbeats off.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, heartbeat_rate, INT, "2", .min = 1, .max = 100,
    .help = "How many times in heartbeat_timeout_threshold the connection is checked.",
    .nova = "differs: 3 in Nova from 2023.1 on", .since = "0.1")
OPT(oslo_messaging_rabbit, kombu_reconnect_delay, FLOAT, "1.0", .min = 0, .max = 4.5, .unit = "s", .alias = "DEFAULT.kombu_reconnect_delay",
    .help = "Pause after a broker cancelled a consumer, before it is declared again.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, kombu_reconnect_splay, FLOAT, "0.0", .min = 0, .max = 60, .unit = "s",
    .help = "Random time added to kombu_reconnect_delay.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, kombu_compression, STRING, "",
    .help = "Must be empty: compressed messages are not understood.",
    .more = "`computectl takeover check` tells of a nova.conf that sets it, whose cloud may compress its messages.",
    .nova = "differs: gzip and bz2 in Nova", .since = "0.2")
OPT(oslo_messaging_rabbit, kombu_failover_strategy, ENUM, "round-robin", .words = "round-robin|shuffle",
    .help = "Which broker comes next when one fails.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, kombu_missing_consumer_retry_timeout, INT, "60", .min = 0, .max = 3600, .unit = "s",
    .alias = "oslo_messaging_rabbit.kombu_reconnect_timeout",
    .help = "How long a reply is tried again whose queue is missing.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_retry_interval, INT, "1", .min = 1, .max = 3600, .unit = "s",
    .help = "Pause before the first attempt to connect again.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_retry_backoff, INT, "2", .min = 0, .max = 3600, .unit = "s", .alias = "DEFAULT.rabbit_retry_backoff",
    .help = "How much longer each further pause is.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, rabbit_interval_max, INT, "30", .min = 1, .max = 3600, .unit = "s",
    .help = "Longest pause between attempts to connect.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, direct_mandatory_flag, BOOL, "true",
    .help = "Ask the broker to return replies whose queue is gone.",
    .nova = "same", .since = "0.1")
OPT(oslo_messaging_rabbit, enable_cancel_on_failover, BOOL, "false",
    .help = "Ask the broker to cancel consumers when a queue moves to another broker.",
    .nova = "same", .since = "0.1")

GROUP(libvirt, "The hypervisor and live migration through it.")

OPT(libvirt, virt_type, ENUM, "kvm", .words = "kvm|lxc|qemu|parallels",
    .help = "Kind of guests; lxc and parallels cannot be live-migrated.",
    .nova = "same", .since = "0.1")
OPT(libvirt, connection_uri, STRING, "",
    .help = "URI of this host's libvirtd; empty means the one that fits virt_type.",
    .nova = "same", .since = "0.1")
OPT(libvirt, images_type, ENUM, "default", .words = "raw|flat|qcow2|lvm|rbd|ploop|default",
    .help = "How disks of instances are stored.",
    .nova = "same", .since = "0.1")
OPT(libvirt, snapshot_compression, BOOL, "false", .flags = CONF_RELOAD,
    .help = "Compress snapshots of format qcow2.",
    .nova = "same", .since = "0.1")
OPT(libvirt, snapshot_image_format, ENUM, "", .words = "|raw|qcow2|vmdk|vdi", .flags = CONF_RELOAD,
    .help = "Format of snapshots; empty means that of the instance's disk.",
    .nova = "same", .since = "0.1")
OPT(libvirt, cpu_mode, ENUM, NULL, .words = "host-model|host-passthrough|custom|none", .automatic = "host-model, on aarch64 host-passthrough",
    .help = "CPU that new guests see.",
    .more = "host-passthrough restricts live migration to hosts with the same CPU; none leaves the model to the hypervisor.",
    .nova = "same", .since = "0.2")
OPT(libvirt, cpu_models, LIST, "", .alias = "libvirt.cpu_model",
    .help = "CPU models for cpu_mode custom, the least capable first.",
    .more = "The first is taken.",
    .nova = "differs: Nova looks for the first that has the flavor's required traits", .since = "0.2")
OPT(libvirt, cpu_model_extra_flags, LIST, "",
    .help = "CPU flags to add (+flag or flag) or to remove (-flag) in new guests.",
    .nova = "same", .since = "0.2")
OPT(libvirt, disk_cachemodes, LIST, "",
    .help = "Cache modes by kind of disk: file=MODE, block=MODE, network=MODE.",
    .more = "Without one it is none, or writeback where the file system of instances_path has no direct I/O.",
    .nova = "same", .since = "0.2")
OPT(libvirt, hw_machine_type, LIST, "",
    .help = "Machine types by architecture: x86_64=q35.",
    .more = "An image's hw_machine_type comes first; the default is pc on x86_64 and virt on aarch64.",
    .nova = "same", .since = "0.2")
OPT(libvirt, hw_disk_discard, ENUM, NULL, .words = "ignore|unmap",
    .help = "Whether a guest's discard frees space on the host.",
    .nova = "same", .since = "0.2")
OPT(libvirt, num_pcie_ports, INT, "0", .min = 0, .max = 28,
    .help = "PCIe root ports of new guests with a q35 or virt machine, for devices that are attached later; 0 means as libvirt does.",
    .nova = "same", .since = "0.2")
OPT(libvirt, rng_dev_path, STRING, "/dev/urandom",
    .help = "Host device that feeds the guests' random number generator.",
    .nova = "same", .since = "0.2")
OPT(libvirt, mem_stats_period_seconds, INT, "10", .min = -1, .max = 86400, .unit = "s",
    .help = "How often a guest reports its use of memory; 0 or less means never.",
    .nova = "same", .since = "0.2")
OPT(libvirt, use_virtio_for_bridges, BOOL, "true",
    .help = "Give ports the model virtio where the image does not say another.",
    .nova = "same", .since = "0.2")
OPT(libvirt, max_queues, INT, NULL, .min = 1, .max = 256, .automatic = "256",
    .help = "Most queues of a port with multiqueue.",
    .nova = "same", .since = "0.2")
OPT(libvirt, rx_queue_size, ENUM, NULL, .words = "256|512|1024",
    .help = "Size of the receive queue of virtio ports with vhost; unset means the hypervisor's.",
    .nova = "same", .since = "0.2")
OPT(libvirt, sysinfo_serial, ENUM, "unique", .words = "none|os|hardware|auto|unique",
    .help = "Serial number that a guest reads in its SMBIOS: its own uuid, or one of the host.",
    .nova = "same", .since = "0.2")
OPT(libvirt, live_migration_uri, STRING, NULL, .flags = CONF_DEPRECATED,
    .help = "Destination's libvirt URI with %s for its host; live_migration_scheme is better.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_scheme, ENUM, NULL, .words = "tcp|tls|ssh",
    .help = "Transport between the libvirtds; unset means tcp.",
    .more = "tls needs certificates on both hosts; tcp only on a network that nobody else reaches.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_inbound_addr, STRING, NULL,
    .help = "Address or name under which other hosts reach this one for migrations; %s stands for the host.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_tunnelled, BOOL, "false", .flags = CONF_DEPRECATED,
    .help = "Send memory through the libvirtds' connection; cannot copy disks.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_with_native_tls, BOOL, "false",
    .help = "Encrypt memory and disks in QEMU itself.",
    .more = "Needs QEMU's certificates on both hosts; a migration fails rather than go on without encryption.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_bandwidth, INT, "0", .min = 0, .max = 8796093022207, .unit = "MiB/s", .flags = CONF_RELOAD,
    .help = "Limit for one migration, memory and disks each; 0 means none.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_host_bandwidth, INT, "0", .min = 0, .max = 8796093022207, .unit = "MiB/s", .flags = CONF_RELOAD,
    .help = "Limit for all migrations together that leave this host; 0 means none.",
    .more = "It is shared fairly and anew whenever one begins, ends or is set: nobody gets more than its own limit, and what one leaves goes to the others. "
            "A disk copy keeps the rate that it began with, as libvirt cannot change it; the others give way, down to half of their share. "
            "Post-copy and a guest that is paused by force-complete are not held back.",
    .nova = "none", .since = "0.3")
OPT(libvirt, live_migration_order, ENUM, "fifo", .words = "fifo|largest", .flags = CONF_RELOAD,
    .help = "Which migration goes next when a place is free (max_concurrent_live_migrations): the one that waits longest, or the one with the most memory.",
    .nova = "none", .since = "0.3")
OPT(libvirt, live_migration_switchover_in_turn, BOOL, "true", .flags = CONF_RELOAD,
    .help = "Whether, of several migrations to one host, one at a time switches over while the others give it the link.",
    .more = "The one that is nearest to its end has the bandwidth for its last pass and its pause; the others go on at 1 MiB/s meanwhile, for 2 s and a pause of each at most. "
            "A migration in the second half of its completion timeout, one that is completed by force and one in post-copy give way to nobody.",
    .nova = "none", .since = "0.3")
OPT(libvirt, live_migration_post_copy_bandwidth, INT, "0", .min = 0, .max = 8796093022207, .unit = "MiB/s", .flags = CONF_RELOAD,
    .help = "Limit while post-copy runs; 0 means none.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_disk_bandwidth_divided, BOOL, "true", .flags = CONF_RELOAD,
    .help = "The limit counts for all disks of an instance together; libvirt alone would give it to each.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_downtime, INT, "500", .min = 20, .max = 2000000, .unit = "ms", .flags = CONF_RELOAD,
    .help = "Longest pause that a migration may cause.",
    .more = "The agent starts below it and raises the limit in live_migration_downtime_steps.",
    .nova = "differs: Nova's minimum is 100", .since = "0.1")
OPT(libvirt, live_migration_policy, ENUM, "adaptive", .words = "stepped|adaptive", .nova_default = "stepped", .flags = CONF_RELOAD,
    .help = "How a migration is brought to its end: adaptive or stepped.",
    .more = "stepped raises the downtime limit with the time, as Nova does. adaptive measures the dirty rate first, chooses auto-converge's start from it, and raises the limit by what each pass over memory shows.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_refuse_hopeless, BOOL, "false", .flags = CONF_RELOAD,
    .help = "Refuse a migration that nothing permitted could bring to its end, with the measured figures.",
    .more = "Otherwise it is a warning in the log. Only the adaptive policy measures before the start.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_downtime_steps, INT, "10", .min = 3, .max = 1000, .flags = CONF_RELOAD,
    .help = "Number of steps in which the limit reaches live_migration_downtime.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_downtime_delay, INT, "75", .min = 3, .max = 86400, .unit = "s/GiB", .flags = CONF_RELOAD,
    .help = "Time between two steps, for each GiB of memory and copied disk.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_completion_timeout, INT, "180", .nova_default = "800", .min = 0, .max = 31536000, .unit = "s/GiB", .flags = CONF_RELOAD,
    .help = "How long a migration may take, for each GiB of memory and copied disk; 0 means no limit.",
    .more = "Then live_migration_timeout_action is done. live_migration_timeout_scale can make it the time of the whole migration.",
    .nova = "differs: 800 in Nova, where a migration that does not converge runs for hours", .since = "0.1")
OPT(libvirt, live_migration_timeout_scale, ENUM, "per_gib", .words = "per_gib|total", .flags = CONF_RELOAD,
    .help = "Whether live_migration_completion_timeout counts for each GiB or for the whole migration.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_timeout_action, ENUM, "abort", .words = "abort|force_complete", .flags = CONF_RELOAD,
    .help = "What to do at the completion timeout.",
    .more = "abort leaves the instance at the source; force_complete switches to post-copy if it is permitted, else pauses the instance until it has moved.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_permit_post_copy, BOOL, "false", .flags = CONF_RELOAD,
    .help = "Permit post-copy: the instance moves first, its memory follows.",
    .more = "While it runs, a crash of either host loses the instance's memory. When it loses its connection the instance waits until that is recovered, "
            "see live_migration_post_copy_recovery_interval.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_permit_auto_converge, BOOL, "true", .nova_default = "false", .flags = CONF_RELOAD,
    .help = "Permit QEMU to slow the instance down when it dirties memory faster than it can be sent.",
    .nova = "differs: false in Nova; without it a busy instance only ends at the timeout", .since = "0.1")
OPT(libvirt, live_migration_auto_converge_initial, INT, "0", .min = 0, .max = 99, .unit = "%", .flags = CONF_RELOAD,
    .help = "First throttle of auto-converge; 0 leaves it to the policy.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_auto_converge_increment, INT, "0", .min = 0, .max = 99, .unit = "%", .flags = CONF_RELOAD,
    .help = "Further steps of auto-converge; 0 leaves it to QEMU, 10 %.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_post_copy_after_iterations, INT, "0", .min = 0, .max = 1000, .flags = CONF_RELOAD,
    .help = "Switch to post-copy, where permitted, after so many passes over memory without progress; 0 leaves it to the policy.",
    .more = "The stepped policy then switches only at the timeout or when forced, the adaptive one also when nothing else would end the migration in time.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_post_copy_recovery_interval, INT, "5", .min = 1, .max = 3600, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long to wait after a try to recover a post-copy that lost its connection.",
    .more = "Each further wait is twice as long, up to a minute (or this, if it is longer), until it succeeds: at most 60 divided by this tries a minute.",
    .nova = "none", .since = "0.2")
OPT(libvirt, live_migration_parallel_connections, INT, "1", .min = 1, .max = 255,
    .help = "Number of connections that send memory.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_synchronous_writes, BOOL, "true", .flags = CONF_RELOAD,
    .help = "While disks are copied, writes of the instance reach both hosts before they are done.",
    .more = "The copy then always converges; writes get slower by the round trip.",
    .nova = "none", .since = "0.1")
OPT(libvirt, wait_soft_reboot_seconds, INT, "120", .min = 0, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long an instance may take to shut itself down for a soft reboot, before it is rebooted the hard way.",
    .nova = "same", .since = "0.2")
OPT(libvirt, live_migration_monitor_interval, INT, "5", .min = 1, .max = 3600, .unit = "s", .flags = CONF_RELOAD,
    .help = "How often the counters of a migration are written to its record.",
    .nova = "same", .since = "0.1")
OPT(libvirt, live_migration_log_period, INT, "5", .min = 0, .max = 3600, .unit = "s", .flags = CONF_RELOAD,
    .help = "How often a running migration writes a line to the log; 0 means never.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_downtime_hard_limit, INT, "0", .min = 0, .max = 2000000, .unit = "ms", .flags = CONF_RELOAD,
    .help = "No instance, image, flavor or command can set a longer pause; 0 means no limit.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_completion_timeout_hard_limit, INT, "0", .min = 0, .max = 31536000, .unit = "s", .flags = CONF_RELOAD,
    .help = "No instance, image, flavor or command can set a longer time for a whole migration; 0 means no limit.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_bandwidth_hard_limit, INT, "0", .min = 0, .max = 8796093022207, .unit = "MiB/s", .flags = CONF_RELOAD,
    .help = "No instance, image, flavor or command can set a higher bandwidth; 0 means no limit.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_keepalive_interval, INT, "6", .min = 0, .max = 3600, .unit = "s",
    .help = "How often a libvirtd that is silent is asked for a sign of life; 0 means never. It asks by itself every 5 s, "
            "and is not asked as well if this is longer.",
    .nova = "none", .since = "0.1")
OPT(libvirt, live_migration_keepalive_count, INT, "2", .min = 1, .max = 1000,
    .help = "How many such questions may stay without an answer before the connection is given up.",
    .nova = "none", .since = "0.1")

GROUP(image_cache, "The cache of images, one file each below instances_path.")

OPT(image_cache, subdirectory_name, STRING, "_base", .alias = "DEFAULT.image_cache_subdirectory_name",
    .help = "Directory of the cache, a name below instances_path.",
    .nova = "same", .since = "0.1")
OPT(image_cache, manager_interval, INT, "2400", .min = -1, .max = 31536000, .unit = "s", .flags = CONF_RELOAD,
    .alias = "DEFAULT.image_cache_manager_interval",
    .help = "How often the cache is looked through for images that nobody uses; -1 means never.",
    .nova = "same", .since = "0.2")
OPT(image_cache, remove_unused_base_images, BOOL, "true", .flags = CONF_RELOAD, .alias = "DEFAULT.remove_unused_base_images",
    .help = "Remove images that no instance of this host uses.",
    .nova = "same", .since = "0.1")
OPT(image_cache, remove_unused_original_minimum_age_seconds, INT, "86400", .min = 0, .max = CONF_NO_MAX, .unit = "s", .flags = CONF_RELOAD,
    .alias = "DEFAULT.remove_unused_original_minimum_age_seconds",
    .help = "Unused images younger than this stay.",
    .nova = "same", .since = "0.1")
OPT(image_cache, remove_unused_resized_minimum_age_seconds, INT, "3600", .min = 0, .max = CONF_NO_MAX, .unit = "s", .flags = CONF_RELOAD,
    .alias = "libvirt.remove_unused_resized_minimum_age_seconds",
    .help = "Unused resized images, as old releases of Nova made them, younger than this stay.",
    .nova = "same", .since = "0.1")

GROUP(api, "What instances are told about themselves (the metadata in config drives).")

OPT(api, dhcp_domain, STRING, "novalocal", .alias = "DEFAULT.dhcp_domain", .flags = CONF_RELOAD,
    .help = "Domain behind an instance's host name; empty means none.",
    .nova = "same", .since = "0.1")
OPT(api, vendordata_providers, LIST, "StaticJSON", .alias = "DEFAULT.vendordata_providers", .flags = CONF_RELOAD,
    .help = "Where vendor data comes from; StaticJSON alone is served.",
    .nova = "differs: DynamicJSON is left out", .since = "0.1")
OPT(api, vendordata_jsonfile_path, STRING, NULL, .alias = "DEFAULT.vendordata_jsonfile_path", .flags = CONF_RELOAD,
    .help = "File with JSON that becomes vendor_data.json of config drives.",
    .nova = "same", .since = "0.1")
OPT(api, config_drive_skip_versions, STRING,
    "1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01",
    .alias = "DEFAULT.config_drive_skip_versions", .flags = CONF_RELOAD,
    .help = "EC2 versions that config drives leave out, divided by blanks.",
    .nova = "same", .since = "0.1")

GROUP(compute, "Behaviour of the compute service.")

OPT(compute, consecutive_build_service_disable_threshold, INT, "10", .min = 0, .max = CONF_NO_MAX, .flags = CONF_RELOAD,
    .help = "How many builds may fail in a row before Nova minds; 0 switches the count off.",
    .more = "Any other value is the same: the scheduler is told how many failed since one succeeded, and prefers other hosts.",
    .nova = "same", .since = "0.2")
OPT(compute, cpu_shared_set, STRING, NULL,
    .help = "Host CPUs for guests without CPUs of their own: 0-3,8-11,^9; unset means all.",
    .more = "Their number is what the scheduler can give away.",
    .nova = "same", .since = "0.2")
OPT(compute, image_type_exclude_list, LIST, "",
    .help = "Image formats that this host does not want, of raw, qcow2, iso, ami, aki, ari.",
    .nova = "same", .since = "0.2")
OPT(compute, shutdown_retry_interval, INT, "10", .min = 1, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How often an instance that is stopped is asked again to shut itself down.",
    .nova = "same", .since = "0.2")
OPT(compute, live_migration_wait_for_vif_plug, BOOL, "true", .flags = CONF_RELOAD | CONF_IDLE,
    .help = "The source waits for the event that ports are wired on the destination before it sends memory.",
    .nova = "same", .since = "0.1")

GROUP(workarounds, "Switches for particular troubles.")

OPT(workarounds, skip_cpu_compare_on_dest, BOOL, "false", .flags = CONF_RELOAD,
    .help = "Do not compare the guest's CPU with the destination's before a migration.",
    .nova = "same", .since = "0.1")
OPT(workarounds, skip_hypervisor_version_check_on_lm, BOOL, "false", .flags = CONF_RELOAD,
    .help = "Permit migrations to an older hypervisor.",
    .nova = "same", .since = "0.1")
OPT(workarounds, libvirt_disable_apic, BOOL, "false",
    .help = "Give new guests no APIC.",
    .nova = "same", .since = "0.2")
OPT(workarounds, enable_qemu_monitor_announce_self, BOOL, "false", .flags = CONF_RELOAD | CONF_IDLE,
    .help = "Announce the instance's addresses again after the migration.",
    .more = "Read for Nova's sake; the agent announces by itself, see net.switchover.",
    .nova = "same", .since = "0.1")
OPT(workarounds, qemu_monitor_announce_self_count, INT, "3", .min = 1, .max = 100, .flags = CONF_RELOAD | CONF_IDLE,
    .help = "How many times enable_qemu_monitor_announce_self announces.",
    .nova = "same", .since = "0.1")
OPT(workarounds, qemu_monitor_announce_self_interval, INT, "1", .min = 1, .max = 60, .unit = "s", .flags = CONF_RELOAD | CONF_IDLE,
    .help = "Pause between those announcements.",
    .nova = "same", .since = "0.1")

OPT(workarounds, disable_group_policy_check_upcall, BOOL, "false", .flags = CONF_RELOAD,
    .help = "Do not look again on the host whether an instance's server group permits it there.",
    .more = "For cells whose conductor cannot reach the API database, where groups are kept.",
    .nova = "same", .since = "0.2")
OPT(workarounds, handle_virt_lifecycle_events, BOOL, "true", .flags = CONF_RELOAD,
    .help = "Act on libvirt's events (an instance that shut itself down is stopped in Nova) at once.",
    .nova = "same", .since = "0.2")

GROUP(vnc, "VNC consoles.")

OPT(vnc, enabled, BOOL, "true", .alias = "DEFAULT.vnc_enabled",
    .help = "Instances may have VNC consoles.",
    .nova = "same", .since = "0.1")
OPT(vnc, server_listen, STRING, "127.0.0.1", .alias = "vnc.vncserver_listen DEFAULT.vncserver_listen",
    .help = "Address on which QEMU listens for VNC on this host; put into the XML of arriving instances.",
    .nova = "same", .since = "0.1")
OPT(vnc, server_proxyclient_address, STRING, "127.0.0.1", .alias = "vnc.vncserver_proxyclient_address DEFAULT.vncserver_proxyclient_address",
    .help = "Address under which the console proxy reaches this host.",
    .nova = "same", .since = "0.1")
OPT(vnc, novncproxy_base_url, STRING, "http://127.0.0.1:6080/vnc_auto.html", .alias = "DEFAULT.novncproxy_base_url", .flags = CONF_RELOAD,
    .help = "Address of the noVNC proxy that users are sent to.",
    .nova = "same", .since = "0.2")

GROUP(spice, "SPICE consoles.")

OPT(spice, enabled, BOOL, "false",
    .help = "Instances may have SPICE consoles.",
    .nova = "same", .since = "0.1")
OPT(spice, agent_enabled, BOOL, "true",
    .help = "Give guests with SPICE the channel of its agent.",
    .nova = "same", .since = "0.2")
OPT(spice, server_listen, STRING, "127.0.0.1",
    .help = "Address on which QEMU listens for SPICE on this host; put into the XML of arriving instances.",
    .nova = "same", .since = "0.1")
OPT(spice, server_proxyclient_address, STRING, "127.0.0.1",
    .help = "Address under which the console proxy reaches this host.",
    .nova = "same", .since = "0.1")
OPT(spice, html5proxy_base_url, STRING, "http://127.0.0.1:6082/spice_auto.html", .alias = "DEFAULT.html5proxy_base_url", .flags = CONF_RELOAD,
    .help = "Address of the SPICE proxy that users are sent to.",
    .nova = "same", .since = "0.2")

GROUP(serial_console, "Serial consoles.")

OPT(serial_console, enabled, BOOL, "false",
    .help = "Instances have serial consoles on TCP.",
    .nova = "same", .since = "0.1")
OPT(serial_console, port_range, STRING, "10000:20000",
    .help = "Ports for serial consoles, first:last.",
    .nova = "same", .since = "0.1")
OPT(serial_console, proxyclient_address, STRING, "127.0.0.1",
    .help = "Address on which serial consoles of this host listen; put into the XML of arriving instances.",
    .nova = "same", .since = "0.1")
OPT(serial_console, base_url, STRING, "ws://127.0.0.1:6083/", .flags = CONF_RELOAD,
    .help = "Address of the serial console proxy that users are sent to.",
    .nova = "same", .since = "0.2")

/*
 * How a service of the cloud is reached and who asks: keystoneauth's options, the same in each of these
 * groups. AUTH_ROWS says who we are, REACH_ROWS where the service is.
 */
#define AUTH_ROWS(group)                                                                                          \
OPT(group, auth_type, STRING, NULL, .alias = #group ".auth_plugin",                                               \
    .help = "How to log in to Keystone: password, v3password or v3applicationcredential.",                        \
    .nova = "differs: other plugins of keystoneauth are refused", .since = "0.2")                                 \
OPT(group, auth_url, URL, NULL, .words = "http|https",                                                            \
    .help = "Keystone, with or without /v3 at the end.",                                                          \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, username, STRING, NULL, .alias = #group ".user_name " #group ".user-name",                             \
    .help = "Name of the account.",                                                                               \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, user_id, STRING, NULL,                                                                                 \
    .help = "Id of the account, instead of its name and domain.",                                                 \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, password, STRING, NULL, .flags = CONF_SECRET,                                                          \
    .help = "Password of the account.",                                                                           \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, user_domain_name, STRING, NULL,                                                                        \
    .help = "Name of the account's domain.",                                                                      \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, user_domain_id, STRING, NULL,                                                                          \
    .help = "Id of the account's domain, instead of its name.",                                                   \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, project_name, STRING, NULL, .alias = #group ".tenant_name " #group ".tenant-name",                     \
    .help = "Name of the project that the account works in.",                                                     \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, project_id, STRING, NULL, .alias = #group ".tenant_id " #group ".tenant-id",                           \
    .help = "Id of that project, instead of its name and domain.",                                                \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, project_domain_name, STRING, NULL,                                                                     \
    .help = "Name of the project's domain.",                                                                      \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, project_domain_id, STRING, NULL,                                                                       \
    .help = "Id of the project's domain, instead of its name.",                                                   \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, default_domain_name, STRING, NULL,                                                                     \
    .help = "Name of the domain of account and project, where theirs is not given.",                              \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, default_domain_id, STRING, NULL,                                                                       \
    .help = "Id of the domain of account and project, where theirs is not given.",                                \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, system_scope, STRING, NULL,                                                                            \
    .help = "Scope of the token instead of a project: all.",                                                      \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, application_credential_id, STRING, NULL,                                                               \
    .help = "Id of the application credential (auth_type v3applicationcredential).",                              \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, application_credential_name, STRING, NULL,                                                             \
    .help = "Name of the application credential, instead of its id; needs the account's name or id.",             \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, application_credential_secret, STRING, NULL, .flags = CONF_SECRET,                                     \
    .help = "Secret of the application credential.",                                                              \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, cafile, STRING, NULL,                                                                                  \
    .help = "Certificate authorities (PEM) that may sign the certificates of Keystone and the service.",          \
    .more = "Unset means the system's.",                                                                          \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, certfile, STRING, NULL,                                                                                \
    .help = "Certificate (PEM) of this client.",                                                                  \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, keyfile, STRING, NULL,                                                                                 \
    .help = "Private key (PEM) of this client.",                                                                  \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, insecure, BOOL, "false",                                                                               \
    .help = "Do not check certificates; anybody on the path can then read and change everything.",                \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, timeout, INT, "60", .min = 1, .max = 3600, .unit = "s",                                                \
    .help = "How long a request may take, with all its repetitions.",                                             \
    .nova = "differs: no limit in Nova, and there it counts each attempt alone", .since = "0.2")

#define REACH_ROWS(group, type)                                                                                   \
OPT(group, service_type, STRING, type,                                                                            \
    .help = "Type of the service in Keystone's catalogue.",                                                       \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, service_name, STRING, NULL,                                                                            \
    .help = "Name of the service in the catalogue, where there are several of the type.",                         \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, valid_interfaces, LIST, "internal,public",                                                             \
    .help = "Which of the service's endpoints to take, best first.",                                              \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, region_name, STRING, NULL,                                                                             \
    .help = "Region whose endpoint to take; unset means the first.",                                              \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, endpoint_override, URL, NULL, .words = "http|https",                                                   \
    .help = "URL of the service, instead of the catalogue's.",                                                    \
    .nova = "same", .since = "0.2")                                                                               \
OPT(group, connect_retries, INT, "-1", .min = -1, .max = 1000,                                                    \
    .help = "How many times a request is repeated that did not reach the service; -1 means as the time allows.",  \
    .nova = "differs: unset means no repetition in Nova", .since = "0.2")                                         \
OPT(group, status_code_retries, INT, "-1", .min = -1, .max = 1000,                                                \
    .help = "How many times a request is repeated that was answered 5xx or 429; -1 means as the time allows.",    \
    .nova = "differs: unset means no repetition in Nova", .since = "0.2")

GROUP(placement, "The Placement service: who we are and where it is.")

AUTH_ROWS(placement)
REACH_ROWS(placement, "placement")

GROUP(glance, "The image service; where [glance] has no auth_type, the account of [service_user] or [neutron] asks.")

AUTH_ROWS(glance)
REACH_ROWS(glance, "image")
OPT(glance, api_servers, LIST, "",
    .help = "URLs of the service, tried in turn, instead of the catalogue's.",
    .nova = "same", .since = "0.2")
OPT(glance, num_retries, INT, "3", .min = 0, .max = 100,
    .help = "How many times the transfer of an image that broke is begun anew.",
    .nova = "same", .since = "0.2")
OPT(glance, verify_glance_signatures, BOOL, "false",
    .help = "Refuse images: their signatures cannot be checked by this agent.",
    .more = "Digests (os_hash_value, checksum) are always checked.",
    .nova = "differs: nova-compute checks the signature with the help of Barbican", .since = "0.2")

GROUP(service_user, "The account that vouches for requests in the name of a user.")

AUTH_ROWS(service_user)
OPT(service_user, send_service_user_token, BOOL, "false",
    .help = "Send a token of this account (X-Service-Token) with a user's, which then may have ended meanwhile.",
    .nova = "same", .since = "0.2")

GROUP(neutron, "The network service.")

OPT(neutron, ovs_bridge, STRING, "br-int",
    .help = "Open vSwitch integration bridge, where a port does not name its own.",
    .nova = "same", .since = "0.1")

AUTH_ROWS(neutron)
REACH_ROWS(neutron, "network")

GROUP(nova, "Nova's own API, for computectl drain; where [nova] has no auth_type, the account of [service_user] or [neutron] asks.")

AUTH_ROWS(nova)
REACH_ROWS(nova, "compute")

GROUP(consoleauth, "Tokens of consoles.")

OPT(consoleauth, token_ttl, INT, "600", .min = 1, .max = CONF_NO_MAX, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long a token for a console is valid.",
    .nova = "same", .since = "0.2")

GROUP(net, "Wiring of ports on this host.")

OPT(net, switchover, ENUM, "hold", .words = "off|announce|forward|hold", .flags = CONF_RELOAD,
    .help = "What is done so that no frame is lost while an instance moves from one host to the other.",
    .more = "announce: the destination announces the instance's addresses at the moment the source pauses it, so that switches learn the new "
            "place meanwhile. forward: besides, frames that still reach the source go to the destination, encrypted, on the migration network. "
            "hold: besides, the source keeps what came just before it heard of the pause, and the destination holds newer frames until older ones "
            "have come: none is lost and all are in order. The lesser of both hosts' values is done; with a nova-compute the ordinary way is taken.",
    .nova = "none", .since = "0.1")
OPT(net, announce_count, INT, "3", .min = 1, .max = 50, .flags = CONF_RELOAD,
    .help = "How many times each address is announced.",
    .nova = "none", .since = "0.1")
OPT(net, announce_interval, INT, "10", .min = 1, .max = 10000, .unit = "ms", .flags = CONF_RELOAD,
    .help = "Pause between announcements.",
    .nova = "none", .since = "0.1")
OPT(net, hold_limit, INT, "32", .min = 1, .max = 4095, .unit = "MiB", .flags = CONF_RELOAD,
    .help = "How much of what the network sends to one port waits in the kernel while older frames come from the source.",
    .more = "What comes beyond that is dropped. Counted as the frames are long; small ones take up to fifteen times as much memory.",
    .nova = "none", .since = "0.3")
OPT(net, physical_interface_mappings, LIST, NULL, .automatic = "as in linuxbridge_agent_file when Nova directs this host, else none",
    .help = "Interfaces of physical networks, as network:interface pairs; used when a bridge is missing and must be made.",
    .more = "Where nobody names a port's physical network (standalone), the bridge's own name stands for it.",
    .nova = "none", .since = "0.1")
OPT(net, linuxbridge_agent_file, PATH, "/etc/neutron/plugins/ml2/linuxbridge_agent.ini",
    .help = "The file of Neutron's Linux bridge agent on this host, where physical_interface_mappings is looked for if it is not given here.",
    .more = "Its [linux_bridge] physical_interface_mappings is read when the agent starts. The agent's user must be allowed to read it.",
    .nova = "none", .since = "0.3")
OPT(net, bridge_without_uplink, ENUM, "auto", .words = "auto|yes|no", .flags = CONF_RELOAD,
    .help = "Whether a missing bridge whose interface is not known is made without one, for Neutron's agent to finish.",
    .more = "auto means yes when Nova directs this host, as with nova-compute, and no in standalone.",
    .nova = "none", .since = "0.1")
OPT(net, wiring_timeout, INT, "15000", .min = 0, .max = 600000, .unit = "ms", .flags = CONF_RELOAD,
    .help = "How long a guest that comes here waits, before it is copied, for Neutron's Open vSwitch agent to wire its ports; 0 does not wait.",
    .more = "That agent looks every two seconds, and takes longer where it has much to do. The guest runs on at the source meanwhile; one that came "
            "before is cut off until then. Only where Nova directs this host, not with OVN, which follows the tap, and not for a port that has no way "
            "at the source either.",
    .nova = "none", .since = "0.2")
OPT(net, late_wiring, ENUM, "wait", .words = "wait|carry", .flags = CONF_RELOAD,
    .help = "What becomes of a guest that comes here before its ports are wired, by those whose network it is.",
    .more = "wait: it is waited for (wiring_timeout), then the guest comes all the same and is cut off until they are. carry: besides, its port at "
            "the source is kept, and frames go both ways between the hosts, encrypted, until they are. Only where both hosts say carry and do "
            "forward or hold; behind the source's security rules, and for ports that outlive the guest there (not libvirt's own in Open vSwitch).",
    .nova = "none", .since = "0.3")
OPT(net, carry_timeout, INT, "60", .min = 1, .max = 600, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long, with late_wiring = carry, a guest's frames are carried at most before it is cut off until its ports are wired.",
    .more = "The migration is not over before, and what the guest had on the source stays there.",
    .nova = "none", .since = "0.3")
OPT(net, mtu, INT, "0", .min = 0, .max = 65535, .unit = "bytes",
    .help = "MTU of interfaces whose network does not give one; 0 leaves the kernel's.",
    .nova = "none", .since = "0.1")
OPT(net, ovs_database, STRING, "unix:/run/openvswitch/db.sock", .alias = "os_vif_ovs.ovsdb_connection vif_plug_ovs.ovsdb_connection",
    .help = "Where Open vSwitch's database listens.",
    .nova = "differs: os-vif's default is tcp:127.0.0.1:6640", .since = "0.1")

GROUP(agent, "The agent itself.")

OPT(agent, control_plane, ENUM, "standalone", .words = "standalone|nova",
    .help = "Who directs this host: standalone (computectl) or nova (conductor, API).",
    .more = "With nova the host is registered with the conductor of transport_url as nova-compute would do it.",
    .nova = "none", .since = "0.1")
OPT(agent, control_socket, PATH, "/run/computed/control.sock",
    .help = "Unix socket on which computectl talks to the agent.",
    .nova = "none", .since = "0.1")
OPT(agent, control_group, STRING, "computed",
    .help = "Group whose members may use the control socket, besides root; empty means root alone.",
    .nova = "none", .since = "0.1")
OPT(agent, state_directory, PATH, "/var/lib/computed",
    .help = "Directory of the journal and the history of migrations.",
    .nova = "none", .since = "0.1")
OPT(agent, migration_address, STRING, NULL, .automatic = "libvirt.live_migration_inbound_addr, else my_ip",
    .help = "Address on which agents of other hosts reach this one during a migration.",
    .nova = "none", .since = "0.1")
OPT(agent, migration_port, INT, "0", .min = 0, .max = 65535,
    .help = "UDP port for the signals of other agents; 0 means any free one.",
    .nova = "none", .since = "0.1")
OPT(agent, worker_threads, INT, "8", .min = 2, .max = 64,
    .help = "How many blocking calls (libvirt, disks, programs) may run at the same time.",
    .nova = "none", .since = "0.1")
OPT(agent, conductor_patience, INT, "300", .min = 1, .max = 86400, .unit = "s", .flags = CONF_RELOAD,
    .help = "How long an answer of nova-conductor is tried for before what needed it fails.",
    .more = "Requests that find no conductor, and saves whose answer is lost, are repeated until then.",
    .nova = "none", .since = "0.2")
OPT(agent, service_version, INT, "0", .min = 0, .max = 999,
    .help = "Version of the service record of this host; 0 means what the oldest nova-conductor knows, at most our own.",
    .more = "A number above what the controllers know stops their API, one below the oldest that they accept stops their start.",
    .nova = "none", .since = "0.2")
OPT(agent, adopt_node, BOOL, "false",
    .help = "Take the records of this host as they are although the file compute_id is lost or names do not agree.",
    .more = "For one start, by an operator who knows why: a lost compute_id is written again from the database, a compute node "
            "of another host name is moved here, a new host may have guests already.",
    .nova = "none", .since = "0.2")
OPT(agent, history_days, INT, "90", .min = 1, .max = 3650, .unit = "days", .flags = CONF_RELOAD,
    .help = "How long ended migrations stay in `computectl migrations` and can be reported on.",
    .nova = "none", .since = "0.1")
OPT(agent, history_max, INT, "10000", .min = 10, .max = 1000000, .flags = CONF_RELOAD,
    .help = "How many migrations stay there; the oldest go first.",
    .more = "A migration takes 2 KB in the history, and up to 0.2 MB with its samples when it runs for ten minutes or longer.",
    .nova = "none", .since = "0.3")

GROUP(standalone, "Work without OpenStack (agent.control_plane: standalone).")

OPT(standalone, project_id, STRING, "standalone",
    .help = "Project in the context of requests that computectl causes.",
    .nova = "none", .since = "0.1")
OPT(standalone, allow_remote_commands, BOOL, "true", .flags = CONF_RELOAD,
    .help = "Answer computectl commands that another host's agent relays over the message bus.",
    .nova = "none", .since = "0.1")
#undef AUTH_ROWS
#undef REACH_ROWS
/* clang-format on */
