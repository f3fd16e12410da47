/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything computectl understands, once: parsing, --help, computectl(1), the bash completion and the
 * tests are made from these rows.
 *
 *     OPTION(ID, "name", "ARGUMENT" or NULL, "One sentence.")            --name
 *     SETTING("word", "key of the protocol", TYPE, min, max, "One sentence.")   word=value
 *         TYPE is INT(), BOOL() or WORDS("one|another")
 *     COMMAND(handler, "words", "arguments", least, most, options, complete, "One sentence.", "more")
 *
 * least/most count arguments (-1: any number); options is a sum of WITH(ID), the common ones (COMMON)
 * go with every command; complete says what the completion offers for arguments.
 */
/* clang-format off */
#ifdef OPTION
OPTION(HELP, "help", NULL, "Show help and exit.")
OPTION(VERSION, "version", NULL, "Show the version and exit.")
OPTION(JSON, "json", NULL, "Print the answer as JSON, one value a line.")
OPTION(HOST, "host", "HOST", "Ask the agent of another host; the local agent relays over the message bus.")
OPTION(SOCKET, "socket", "PATH", "Control socket of the local agent.")
OPTION(TIMEOUT, "timeout", "SECONDS", "How long to wait for the agent's answer; 10 by default, 70 with --host.")
OPTION(TO, "to", "HOST", "Destination; the agent chooses or refuses when it is not given.")
OPTION(BLOCK, "block", NULL, "Copy local disks; without --block and --shared the agent finds out.")
OPTION(SHARED, "shared", NULL, "Disks are on storage that both hosts share; copy none.")
OPTION(OVERCOMMIT, "disk-over-commit", NULL, "Count the space that disks use, not their full size.")
OPTION(WATCH, "watch", NULL, "Show the progress until the migration has ended.")
OPTION(WAIT, "wait", NULL, "Wait without a word until the migration has ended.")
OPTION(MIGRATION, "migration", "ID", "The migration with this number or UUID.")
OPTION(STATUS, "status", "STATUS", "Only migrations in this status.")
OPTION(LIMIT, "limit", "COUNT", "At most so many, newest first.")
OPTION(INTERVAL, "interval", "SECONDS", "Time between two looks; 0.5 on a terminal, 5 else.")
OPTION(METHODS, "methods", NULL, "Also tell the RPC methods that the agent serves.")
OPTION(ORDER, "order", "ORDER", "Which guest goes first: largest (the default), smallest or name.")
OPTION(PARALLEL, "parallel", "COUNT", "So many guests at a time; else as max_concurrent_live_migrations lets run.")
OPTION(DISABLE, "disable", NULL, "Disable the compute service first, so that the scheduler puts nothing new on the host.")
OPTION(CONFIG_FILE, "config-file", "FILE", "Configuration file; may be repeated.")
OPTION(CONFIG_DIR, "config-dir", "DIRECTORY", "Directory of configuration files; may be repeated.")
OPTION(TIMELINE, "timeline", NULL, "Also show when each step of the newest migration happened, on both hosts.")
OPTION(OUTPUT, "output", "FILE", "Write to this new file, readable for its owner only.")
#endif

#ifdef SETTING
SETTING("downtime", "downtime_ms", INT(), 20, 2000000, "Longest pause, in milliseconds.")
SETTING("timeout", "completion_timeout_s", INT(), 0, 31536000, "Time for the whole migration from its start, in seconds; 0 means no limit.")
SETTING("action", "timeout_action", WORDS("abort|force_complete"), 0, 0, "What to do at the timeout: abort or force_complete.")
SETTING("auto_converge", "auto_converge", BOOL(), 0, 0, "Whether the instance may be slowed down.")
SETTING("post_copy", "post_copy", BOOL(), 0, 0, "Whether post-copy is permitted.")
SETTING("bandwidth", "bandwidth_mib", INT(), 0, 8796093022207, "Limit in MiB/s; 0 means none.")
SETTING("policy", "policy", WORDS("adaptive|stepped"), 0, 0, "How it is brought to its end: adaptive or stepped.")
#endif

#ifdef COMMAND
COMMAND(migrate, "migrate", "INSTANCE [SETTING=VALUE...]", 1, -1,
        WITH(TO) | WITH(BLOCK) | WITH(SHARED) | WITH(OVERCOMMIT) | WITH(WATCH) | WITH(WAIT) | WITH(INTERVAL), INSTANCES,
        "Move a running instance to another host.",
        "With --watch or --wait the exit status tells how the migration ended.")
COMMAND(plan, "plan", "INSTANCE [SETTING=VALUE...]", 1, -1, WITH(TO) | WITH(BLOCK) | WITH(SHARED) | WITH(OVERCOMMIT), INSTANCES,
        "Tell what would become of a migration to the host of --to: checks, amounts, time, pause, policy; changes nothing.",
        "Exit status: 0 if it would go, 65 if it would be refused, 69 if nothing speaks against it but not all could be asked, as of a host that "
        "nova-compute runs. The guest's dirty rate is measured for a second. Takes 60 seconds at most, or what --timeout says.")
COMMAND(watch, "watch", "[INSTANCE|ID]", 0, 1, WITH(MIGRATION) | WITH(INTERVAL), INSTANCES,
        "Show the progress of a migration until it has ended.",
        "Without an argument the one migration that runs is followed. On a terminal two bars and the figures are drawn in place; "
        "else, a line is written at each interval. The exit status tells how the migration ended.")
COMMAND(drain_status, "drain status", "", 0, 0, WITH(WATCH) | WITH(WAIT) | WITH(INTERVAL), NONE,
        "Show the drain of the host: each guest, the progress of the whole, the expected end.", "")
COMMAND(drain_stop, "drain stop", "", 0, 0, 0, NONE, "Let the guests end that move, and move no more.",
        "computectl drain goes on with the others later.")
COMMAND(drain_undo, "drain undo", "", 0, 0, WITH(WATCH) | WITH(WAIT) | WITH(INTERVAL), NONE,
        "Bring back the guests that the last drain moved and that still are where it put them.",
        "The compute service is enabled again if the drain had disabled it.")
COMMAND(drain, "drain", "", 0, 0,
        WITH(TO) | WITH(ORDER) | WITH(PARALLEL) | WITH(DISABLE) | WITH(WATCH) | WITH(WAIT) | WITH(INTERVAL), NONE,
        "Move all guests of the host away, live.",
        "Under OpenStack Nova's scheduler chooses where to, or looks at the host of --to; in standalone --to is needed. The agent does it, not "
        "computectl: it goes on when this command ends, and after a restart of the agent. A guest that cannot move is told with its reason and the "
        "others go on. The same command again joins a drain that runs and continues one that was stopped. With --watch or --wait the exit status "
        "tells whether all guests have gone.")
COMMAND(list, "list", "", 0, 0, 0, NONE, "List the instances of the host.", "")
COMMAND(show, "show", "INSTANCE", 1, 1, WITH(TIMELINE), INSTANCES, "Show an instance, its disks and ports and its newest migration.", "")
COMMAND(migrations, "migrations", "[INSTANCE]", 0, 1, WITH(STATUS) | WITH(LIMIT), INSTANCES, "List migrations, newest first.", "")
COMMAND(report, "report", "[INSTANCE|ID]", 0, 1, WITH(MIGRATION) | WITH(OUTPUT), INSTANCES,
        "Write the report of a migration: one page of HTML that stands alone, with plots, timeline and decisions.",
        "Without an argument the one migration that runs is meant; of an instance it is the newest. Without --output the page goes to the "
        "standard output. A migration that still runs is reported as far as it is.")
COMMAND(abort, "abort", "[INSTANCE|ID]", 0, 1, WITH(MIGRATION), INSTANCES,
        "Abort a migration; the instance runs on at the source.",
        "Without an argument the one migration that runs is meant. In the pause of the switch-over nothing is broken off: the instance has moved a "
        "moment later, or runs on at the source.")
COMMAND(force_complete, "force-complete", "[INSTANCE|ID]", 0, 1, WITH(MIGRATION), INSTANCES,
        "Complete a migration now: post-copy if it is permitted, else the instance is paused until it has moved.",
        "Without an argument the one migration that runs is meant.")
COMMAND(set, "set", "[INSTANCE|ID] SETTING=VALUE...", 1, -1, WITH(MIGRATION), SETTINGS,
        "Change the settings of a migration while it runs.",
        "Without an instance the one migration that runs is meant. The operator's hard limits hold.")
COMMAND(conf_get, "conf get", "OPTION", 1, 1, 0, OPTIONS, "Show one option of the agent, as group.name.", "")
COMMAND(conf_list, "conf list", "[GROUP]", 0, 1, 0, NONE, "List the options of the agent, with where each value comes from.", "")
COMMAND(conf_check, "conf check", "[FILE...]", 0, -1, WITH(CONFIG_FILE) | WITH(CONFIG_DIR), FILES,
        "Read configuration files as the agent would and tell all problems; works without an agent.", "")
COMMAND(conf_diff, "conf diff", "[FILE...]", 0, -1, WITH(CONFIG_FILE) | WITH(CONFIG_DIR), FILES,
        "Tell what the files would change in the agent that runs.",
        "Secrets cannot be compared and are left out.")
COMMAND(conf_reload, "conf reload", "", 0, 0, 0, NONE,
        "Make the agent read its files again; all reloadable changes take effect or none.", "")
COMMAND(conf_import, "conf import", "FILE...", 1, -1, WITH(OUTPUT), FILES,
        "Turn a nova.conf into YAML with only what differs from the defaults; works without an agent.",
        "Secrets are written only with --output.")
COMMAND(operations, "operations", "", 0, 0, 0, NONE, "List what is being done to instances of the host at present.", "")
COMMAND(takeover_check, "takeover check", "", 0, 0, WITH(CONFIG_FILE) | WITH(CONFIG_DIR), NONE,
        "Tell beforehand what would not work if computed took this host over from nova-compute; works without an agent.",
        "Nothing is changed and no request is taken, so nova-compute may run meanwhile. The files are those that computed would read.")
COMMAND(status, "status", "", 0, 0, WITH(METHODS), NONE, "Show the state of the agent, the message bus, the hypervisor and the node.", "")
COMMAND(stats, "stats", "", 0, 0, 0, NONE, "Show counters, the slowest callbacks and the memory in use.",
        "memory_kib is the agent's share of the machine's memory (PSS). allocated_kib is what the agent and its libraries keep of it: "
        "with the same load it comes to rest when the history's page cache (256 KiB) is full; the ids of an hour's requests take 0.5 MiB at most.")
COMMAND(log_level, "log-level", "[MODULE] [LEVEL]", 0, 2, 0, LEVELS,
        "Show or change the level of the log, of all modules or one: debug, info, warning, error.", "")
#endif
/* clang-format on */
