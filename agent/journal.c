/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(journal);

enum { NAME_SIZE = 80, RECORD_MAX = 8 * 1024 * 1024 };

struct journal {
    int dir_fd;
    char *path;
};

/* ---- opening ---- */

int journal_open(struct journal **out, const char *directory, struct err *e)
{
    _cleanup_(str_freep) char *parked = text_format("%s/parked", directory);

    if ((mkdir(directory, 0700) < 0 && errno != EEXIST) ||
        (mkdir(parked, 0700) < 0 && errno != EEXIST))
        return err_set_errno(e, ERR_JOURNAL, errno, "directory %s of the journal", directory);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set_errno(e, ERR_JOURNAL, errno, "directory %s of the journal", directory);
    struct journal *journal = NEW(struct journal);
    journal->dir_fd = fd;
    journal->path = text_dup(directory);
    *out = journal;
    return 0;
}

void journal_free(struct journal *journal)
{
    if (!journal)
        return;
    close(journal->dir_fd);
    free(journal->path);
    free(journal);
}

/* ---- writing ---- */

static int record_name(char out[NAME_SIZE], const char *uuid, const char *role, struct err *e)
{
    if (text_check_uuid(uuid, "uuid of a record", e) < 0)
        return -1;
    snprintf(out, NAME_SIZE, "%s.%s.json", uuid, role);
    return 0;
}

static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static int write_file(const struct journal *journal, const char *name, const char *text,
                      struct err *e)
{
    _cleanup_(fd_closep) int fd =
        openat(journal->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 || write_all(fd, text, strlen(text)) < 0)
        return err_set_errno(e, ERR_JOURNAL, errno, "journal record %s/%s", journal->path, name);
    if (fault_point("journal.fsync", e) < 0)
        return -1;
    if (fsync(fd) < 0)
        return err_set_errno(e, ERR_JOURNAL, errno, "journal record %s/%s", journal->path, name);
    return 0;
}

static int sync_directory(const struct journal *journal, struct err *e)
{
    if (fsync(journal->dir_fd) < 0)
        return err_set_errno(e, ERR_JOURNAL, errno, "directory %s of the journal", journal->path);
    return 0;
}

int journal_write(struct journal *journal, const char *uuid, const char *role,
                  struct json_object *record, struct err *e)
{
    char name[NAME_SIZE], fresh[NAME_SIZE + 8];
    _cleanup_(str_freep) char *text = json_text(record);

    if (record_name(name, uuid, role, e) < 0 || fault_point("journal.write", e) < 0)
        return -1;
    snprintf(fresh, sizeof(fresh), "%s.new", name);
    if (write_file(journal, fresh, text, e) < 0) {
        (void)unlinkat(journal->dir_fd, fresh, 0);
        return -1;
    }
    if (renameat(journal->dir_fd, fresh, journal->dir_fd, name) < 0) {
        (void)err_set_errno(e, ERR_JOURNAL, errno, "journal record %s/%s", journal->path, name);
        (void)unlinkat(journal->dir_fd, fresh, 0);
        return -1;
    }
    if (sync_directory(journal, e) < 0)
        return -1;
    return fault_point("journal.written", e);
}

int journal_remove(struct journal *journal, const char *uuid, const char *role, struct err *e)
{
    char name[NAME_SIZE];

    if (record_name(name, uuid, role, e) < 0 || fault_point("journal.remove", e) < 0)
        return -1;
    if (unlinkat(journal->dir_fd, name, 0) < 0 && errno != ENOENT)
        return err_set_errno(e, ERR_JOURNAL, errno, "journal record %s/%s", journal->path, name);
    return sync_directory(journal, e);
}

/* ---- loading ---- */

/* "<uuid>.<role>.json" taken apart; false for any other name. */
static bool split_name(const char *name, char uuid[37], char role[16])
{
    size_t length = strlen(name);

    if (length < 37 + 6 || length > 36 + 1 + 15 + 5 || name[36] != '.' ||
        !text_ends_with(name, ".json"))
        return false;
    snprintf(uuid, 37, "%.36s", name);
    snprintf(role, 16, "%.*s", (int)(length - 37 - 5), name + 37);
    return text_check_uuid(uuid, "uuid", NULL) == 0 &&
           (text_equal(role, "source") || text_equal(role, "destination") ||
            text_equal(role, "build") || text_equal(role, "drain"));
}

static int read_record(const struct journal *journal, const char *name, struct json_object **out,
                       struct err *e)
{
    struct stat st;
    _cleanup_(fd_closep) int fd = openat(journal->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(e, ERR_JOURNAL, errno, "journal record %s/%s", journal->path, name);
    if (!S_ISREG(st.st_mode) || st.st_size > RECORD_MAX)
        return err_set(e, ERR_JOURNAL, "journal record %s/%s is no file of at most %d bytes",
                       journal->path, name, RECORD_MAX);
    size_t size = (size_t)st.st_size, got = 0;
    _cleanup_(str_freep) char *text = mem_new(size + 1);
    while (got < size) {
        ssize_t n = read(fd, text + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, ERR_JOURNAL, "journal record %s/%s is cut short", journal->path,
                           name);
        got += (size_t)n;
    }
    _cleanup_(json_putp) struct json_object *record = NULL;
    if (json_parse(text, size, &record, e) < 0)
        return err_prefix(e, "journal record %s/%s: ", journal->path, name);
    if (!json_object_is_type(record, json_type_object))
        return err_set(e, ERR_JOURNAL, "journal record %s/%s is no object", journal->path, name);
    *out = STEAL(record);
    return 0;
}

/* What cannot be read is never guessed at: it waits for an operator. */
static void park(const struct journal *journal, const char *name, const struct err *why)
{
    char parked[NAME_SIZE + 16];

    snprintf(parked, sizeof(parked), "parked/%.*s", NAME_SIZE, name);
    log_err(LOG_LEVEL_ERROR, why, "the record is parked in %s/parked", journal->path);
    if (renameat(journal->dir_fd, name, journal->dir_fd, parked) < 0)
        log_error("journal record %s/%s cannot be parked: %s", journal->path, name,
                  strerror(errno));
}

int journal_load(struct journal *journal,
                 void (*fn)(void *aux, const char *uuid, const char *role,
                            struct json_object *record),
                 void *aux, size_t *loaded, size_t *parked, struct err *e)
{
    size_t good = 0, bad = 0;
    DIR *dir = opendir(journal->path);

    if (!dir)
        return err_set_errno(e, ERR_JOURNAL, errno, "directory %s of the journal", journal->path);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char uuid[37], role[16];
        struct err why = ERR_INIT;
        _cleanup_(json_putp) struct json_object *record = NULL;
        if (text_ends_with(entry->d_name, ".json.new"))
            (void)unlinkat(journal->dir_fd, entry->d_name, 0); /* never became valid */
        if (!split_name(entry->d_name, uuid, role))
            continue;
        if (read_record(journal, entry->d_name, &record, &why) < 0) {
            park(journal, entry->d_name, &why);
            bad++;
            continue;
        }
        fn(aux, uuid, role, record);
        good++;
    }
    closedir(dir);
    if (loaded)
        *loaded = good;
    if (parked)
        *parked = bad;
    return 0;
}
