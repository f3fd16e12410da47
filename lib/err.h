/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error object of the whole tree: code, wire class, one sentence, system cause.
 *
 * A fixed-size value: reporting "out of memory" cannot itself fail. Functions return 0 or -1 (or a
 * pointer or NULL) and take `struct err *e` last; `e` may be NULL. The lowest place that knows calls
 * err_set() once; callers on the way up only err_prefix().
 *
 * The table below is the only list of errors: exit codes of computectl, the exception classes that
 * Nova knows (nova.exception of Zed and later, oslo_messaging), whether trying again may help, and
 * the appendix of computed-errors(7) come from it.
 */
#pragma once

#include <stdbool.h>

#include "lib/attributes.h"

#define ERR_MODULE_NOVA     "nova.exception"
#define ERR_MODULE_DISPATCH "oslo_messaging.rpc.dispatcher"
#define ERR_MODULE_OSLO     "oslo_messaging.exceptions"
#define ERR_MODULE_OBJECT   "oslo_versionedobjects.exception"
#define ERR_MODULE_BUILTIN  "builtins"

/*  code              wire class                        wire module          http retry exit  summary */
#define ERR_LIST(X)                                                                                \
    X(NOMEM, "NovaException", ERR_MODULE_NOVA, 500, 1, 71, "out of memory")                        \
    X(SYSTEM, "NovaException", ERR_MODULE_NOVA, 500, 1, 71, "the operating system refused")        \
    X(INTERNAL, "NovaException", ERR_MODULE_NOVA, 500, 0, 70, "a fault of the agent")              \
    X(CONFIG, "NovaException", ERR_MODULE_NOVA, 500, 0, 78, "the configuration is not valid")      \
    X(USAGE, "Invalid", ERR_MODULE_NOVA, 400, 0, 64, "the command is not valid")                   \
    X(PARSE, "Invalid", ERR_MODULE_NOVA, 400, 0, 65, "the input cannot be read")                   \
    X(INVALID, "Invalid", ERR_MODULE_NOVA, 400, 0, 65, "a value is not allowed")                   \
    X(DENIED, "Forbidden", ERR_MODULE_NOVA, 403, 0, 77, "not permitted")                           \
    X(CANCELLED, "NovaException", ERR_MODULE_NOVA, 500, 0, 75, "cancelled")                        \
    X(TIMEOUT, "MessagingTimeout", ERR_MODULE_OSLO, 500, 1, 75, "no answer in time")               \
    X(UNREACHABLE, "MessageDeliveryFailure", ERR_MODULE_OSLO, 500, 1, 69,                          \
      "the message bus cannot be reached")                                                         \
    X(NO_METHOD, "NoSuchMethod", ERR_MODULE_DISPATCH, 500, 0, 65, "no such RPC method")            \
    X(RPC_VERSION, "UnsupportedVersion", ERR_MODULE_DISPATCH, 500, 0, 65,                          \
      "no endpoint of that RPC version")                                                           \
    X(OBJECT_VERSION, "IncompatibleObjectVersion", ERR_MODULE_OBJECT, 500, 0, 65,                  \
      "an object of an unknown major version")                                                     \
    X(NOT_IMPLEMENTED, "NotImplementedError", ERR_MODULE_BUILTIN, 500, 0, 69,                      \
      "not implemented here")                                                                      \
    X(REMOTE, "RemoteError", "oslo_messaging.rpc.client", 500, 0, 69, "the other side failed")     \
    X(NO_INSTANCE, "InstanceNotFound", ERR_MODULE_NOVA, 404, 0, 66, "no such instance")            \
    X(NO_MIGRATION, "MigrationNotFound", ERR_MODULE_NOVA, 404, 0, 66, "no such migration")         \
    X(INSTANCE_STATE, "InstanceInvalidState", ERR_MODULE_NOVA, 409, 1, 75,                         \
      "the instance is in another state")                                                          \
    X(TASK_STATE, "UnexpectedTaskStateError", ERR_MODULE_NOVA, 500, 0, 75,                         \
      "the instance is in another task state")                                                     \
    X(DELETING, "UnexpectedDeletingTaskStateError", ERR_MODULE_NOVA, 500, 0, 75,                   \
      "the instance is being deleted")                                                             \
    X(NO_HOST, "ComputeHostNotFound", ERR_MODULE_NOVA, 404, 0, 66, "no such compute host")         \
    X(NO_SERVICE, "ServiceNotFound", ERR_MODULE_NOVA, 404, 0, 66, "no such service record")        \
    X(MIGRATION_STATE, "InvalidMigrationState", ERR_MODULE_NOVA, 409, 0, 75,                       \
      "the migration is in another state")                                                         \
    X(PRECHECK, "MigrationPreCheckError", ERR_MODULE_NOVA, 400, 0, 65, "the hosts do not fit")     \
    X(DISK_EXISTS, "DestinationDiskExists", ERR_MODULE_NOVA, 400, 0, 73,                           \
      "the disk exists on the destination")                                                        \
    X(NO_SPACE, "MigrationPreCheckError", ERR_MODULE_NOVA, 400, 1, 73, "not enough room")          \
    X(DISK, "InvalidDiskInfo", ERR_MODULE_NOVA, 400, 0, 74, "a disk cannot be used")               \
    X(HYPERVISOR, "HypervisorUnavailable", ERR_MODULE_NOVA, 500, 1, 69,                            \
      "the hypervisor cannot be reached")                                                          \
    X(VIRT, "InternalError", ERR_MODULE_NOVA, 500, 0, 74, "libvirt refused")                       \
    X(NET_PLUG, "VirtualInterfacePlugException", ERR_MODULE_NOVA, 500, 1, 69,                      \
      "a port cannot be wired")                                                                    \
    X(MIGRATION, "MigrationError", ERR_MODULE_NOVA, 500, 0, 74, "the migration failed")            \
    X(JOURNAL, "NovaException", ERR_MODULE_NOVA, 500, 1, 74, "the journal cannot be written")

enum err_code {
    ERR_NONE = 0,
#define X(code, class, module, http, retry, exit, summary) ERR_##code,
    ERR_LIST(X)
#undef X
        ERR_CODE_COUNT
};

enum { ERR_TEXT_SIZE = 512, ERR_CLASS_SIZE = 64, ERR_MODULE_SIZE = 64 };

struct err {
    enum err_code code;
    int sys;          /* errno or libvirt code, 0 if none */
    const char *file; /* where it was set; static storage */
    int line;
    char wire_class[ERR_CLASS_SIZE]; /* "" = the table's; set when a peer's failure is passed on */
    char wire_module[ERR_MODULE_SIZE]; /* likewise */
    char text[ERR_TEXT_SIZE];          /* one sentence; no secret, no control character */
};

#define ERR_INIT ((struct err){0})

/*
 * Sets *e (ignored when e is NULL) and returns -1, so that `return err_set(...)` reads well. Control
 * characters and invalid UTF-8 of the formatted text become \xNN, an overlong text ends in "...".
 * Any thread.
 */
#define err_set(e, code, ...) err_set_at(e, code, 0, __FILE__, __LINE__, __VA_ARGS__)
/* The same with an errno: ": <strerror>" is appended to the text. */
#define err_set_errno(e, code, errnum, ...)                                                        \
    err_set_at(e, code, errnum, __FILE__, __LINE__, __VA_ARGS__)
/* For libvirt and other numbering: the number is stored, nothing is appended. */
#define err_set_sys(e, code, number, ...)                                                          \
    err_set_at(e, code, -(number), __FILE__, __LINE__, __VA_ARGS__)

int err_set_at(struct err *e, enum err_code code, int sys, const char *file, int line,
               const char *format, ...) _printf_(6, 7);

/*
 * Puts the prefix before the text that is there, with ": " between them unless the prefix ends in a
 * space. NULL or an empty error is left alone. Returns -1.
 */
int err_prefix(struct err *e, const char *format, ...) _printf_(2, 3);

/* Another class than the code's goes over the wire, of another module if one is given (NULL = as it is). NULL as
 * error is left alone. Returns -1. */
int err_set_class(struct err *e, const char *wire_class, const char *wire_module);

/* clang's analyzer sees one file at a time; without this it follows paths on which these return 0. */
#if defined(__clang_analyzer__) && !defined(ERR_IMPLEMENTATION)
#define err_set_at(...)    ((void)err_set_at(__VA_ARGS__), -1)
#define err_prefix(...)    ((void)err_prefix(__VA_ARGS__), -1)
#define err_set_class(...) ((void)err_set_class(__VA_ARGS__), -1)
#endif

/* True if an error is set. */
static inline bool err_is_set(const struct err *e)
{
    return e && e->code != ERR_NONE;
}

static inline void err_clear(struct err *e)
{
    if (e)
        *e = ERR_INIT;
}

/* The class and module that go over the wire: the passed-on ones or the table's. Never NULL. */
const char *err_wire_class(const struct err *e);
const char *err_wire_module(const struct err *e);

/* Columns of the table, by code; never NULL or out of range for a code of the enum. */
const char *err_name(enum err_code code);    /* "NO_INSTANCE" */
const char *err_summary(enum err_code code); /* "no such instance" */
int err_http_code(enum err_code code);       /* Nova's "code" of the exception */
int err_exit_code(enum err_code code);       /* what computectl exits with, sysexits.h */
bool err_may_retry(enum err_code code);

/* The code whose name or wire class it is; ERR_REMOTE if none. */
enum err_code err_code_by_wire_class(const char *wire_class);
enum err_code err_code_by_name(const char *name);
