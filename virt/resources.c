/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/resources.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <utmpx.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/build_internal.h"
#include "virt/paths.h"
#include "virt/storage.h"
#include "virt/xml.h"

#define GIB (INT64_C(1) << 30)
enum { CPU_MAX = 8192 };

/* --- capabilities ----------------------------------------------------------------------------- */

char *resources_host_cpu(const char *capabilities_xml)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (xml_parse(capabilities_xml, "host's capabilities", "capabilities", &doc, NULL) < 0)
        return NULL;
    xmlNode *cpu = xml_find(xmlDocGetRootElement(doc), "host/cpu");
    return xml_child(cpu, "model") ? xml_text_of(doc, cpu) : NULL;
}

char *resources_model_cpu(const char *arch, const char *model)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (xml_parse("<cpu><arch/><model/></cpu>", "CPU", "cpu", &doc, NULL) < 0)
        return NULL;
    xmlNode *cpu = xmlDocGetRootElement(doc);
    xml_set_content(xml_child(cpu, "arch"), arch);
    xml_set_content(xml_child(cpu, "model"), model);
    return xml_text_of(doc, cpu);
}

/* Threads of a core are listed as "0,4" or "0-1". */
bool resources_hyperthreading(const char *capabilities_xml)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (xml_parse(capabilities_xml, "host's capabilities", "capabilities", &doc, NULL) < 0)
        return false;
    const xmlNode *cells = xml_find(xmlDocGetRootElement(doc), "host/topology/cells");
    for (const xmlNode *cell = xml_child(cells, "cell"); cell; cell = xml_next(cell, "cell")) {
        const xmlNode *cpus = xml_child(cell, "cpus");
        for (const xmlNode *cpu = xml_child(cpus, "cpu"); cpu; cpu = xml_next(cpu, "cpu")) {
            _cleanup_(str_freep) char *siblings = xml_attr(cpu, "siblings");
            if (siblings && strpbrk(siblings, ",-"))
                return true;
        }
    }
    return false;
}

static void add_text(struct json_object *o, const char *key, const xmlNode *parent,
                     const char *path)
{
    _cleanup_(str_freep) char *text = xml_find_content(parent, path);
    json_add_string(o, key, text);
}

static void add_number(struct json_object *o, const char *key, const xmlNode *node,
                       const char *attribute)
{
    _cleanup_(str_freep) char *text = xml_attr(node, attribute);
    int64_t value = 0;
    if (text && text_to_int64(text, 0, CPU_MAX, &value, NULL) == 0)
        json_add_int(o, key, value);
}

static struct json_object *topology_of(const xmlNode *host)
{
    struct json_object *o = json_object_new_object();
    const xmlNode *topology = xml_find(host, "cpu/topology");
    const xmlNode *cells = xml_find(host, "topology/cells");
    int64_t count = 0;
    for (const xmlNode *cell = xml_child(cells, "cell"); cell; cell = xml_next(cell, "cell"))
        count++;
    json_add_int(o, "cells", count ? count : 1);
    add_number(o, "sockets", topology, "sockets");
    add_number(o, "cores", topology, "cores");
    add_number(o, "threads", topology, "threads");
    return o;
}

/* A feature that is there; `policy` says so in a guest's CPU. */
static bool is_feature(const xmlNode *feature)
{
    return !xml_attr_is(feature, "policy", "disable") && !xml_attr_is(feature, "policy", "forbid");
}

static struct json_object *features_of(const xmlNode *cpu)
{
    struct json_object *list = json_object_new_array();
    for (const xmlNode *f = xml_child(cpu, "feature"); f; f = xml_next(f, "feature")) {
        _cleanup_(str_freep) char *name = xml_attr(f, "name");
        if (name && is_feature(f))
            json_object_array_add(list, json_object_new_string(name));
    }
    return list;
}

static struct json_object *cpu_info(const xmlNode *host, const xmlNode *expanded)
{
    struct json_object *o = json_object_new_object();
    add_text(o, "arch", host, "cpu/arch");
    add_text(o, "model", host, "cpu/model");
    add_text(o, "vendor", host, "cpu/vendor");
    json_add(o, "topology", topology_of(host));
    json_add(o, "features", features_of(expanded ? expanded : xml_child(host, "cpu")));
    return o;
}

/* Nova's names of architectures (fields.Architecture.canonicalize). */
static const char *nova_arch(const char *arch)
{
    static const char *const same[][2] = {
        {"i386", "i686"}, {"i486", "i686"}, {"i586", "i686"}, {"amd64", "x86_64"}};
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        if (text_equal(arch, same[i][0]))
            return same[i][1];
    return arch;
}

/* What an ArchitectureField of Zed takes; another word would make the whole record unreadable there. */
#define NOVA_ARCHS                                                                                 \
    "alpha|armv6|armv7l|armv7b|aarch64|cris|i686|ia64|lm32|m68k|microblaze|microblazeel|mips|"     \
    "mipsel|mips64|mips64el|openrisc|parisc|parisc64|ppc|ppcle|ppc64|ppc64le|ppcemb|s390|s390x|"   \
    "sh4|sh4eb|sparc|sparc64|unicore32|x86_64|xtensa|xtensaeb"

static struct json_object *instance_kinds(const xmlNode *root)
{
    struct json_object *list = json_object_new_array();
    for (const xmlNode *g = xml_child(root, "guest"); g; g = xml_next(g, "guest")) {
        _cleanup_(str_freep) char *arch = xml_find_attr(g, "arch", "name");
        _cleanup_(str_freep) char *mode = xml_find_content(g, "os_type");
        const xmlNode *parent = xml_child(g, "arch");
        for (const xmlNode *d = xml_child(parent, "domain"); d; d = xml_next(d, "domain")) {
            _cleanup_(str_freep) char *type = xml_attr(d, "type");
            if (!text_equal(mode, "hvm") || !build_is_word("kvm|qemu", type) ||
                !build_is_word(NOVA_ARCHS, nova_arch(arch)))
                continue;
            struct json_object *kind = json_object_new_array();
            json_object_array_add(kind, json_object_new_string(nova_arch(arch)));
            json_object_array_add(kind, json_object_new_string(type));
            json_object_array_add(kind, json_object_new_string(mode));
            json_object_array_add(list, kind);
        }
    }
    return list;
}

int resources_capabilities(const char *capabilities_xml, const char *expanded_cpu,
                           struct virt_resources *out, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL, *expanded = NULL;
    if (xml_parse(capabilities_xml, "host's capabilities", "capabilities", &doc, e) < 0)
        return -1;
    if (expanded_cpu && xml_parse(expanded_cpu, "host's CPU", "cpu", &expanded, e) < 0)
        return -1;
    const xmlNode *root = xmlDocGetRootElement(doc);
    out->cpu_info =
        cpu_info(xml_child(root, "host"), expanded ? xmlDocGetRootElement(expanded) : NULL);
    out->supported_instances = instance_kinds(root);
    return 0;
}

/* --- CPU set ---------------------------------------------------------------------------------- */

/* One of "7", "0-3", "^2", "^4-5". */
static int mark_range(bool *set, const char *part, const char *whole, struct err *e)
{
    bool value = part[0] != '^';
    char **ends = text_split(part + (value ? 0 : 1), '-');
    int64_t first = 0, last = 0;
    size_t count = text_vector_length(ends);
    int rc = count >= 1 && count <= 2 ? text_to_int64(ends[0], 0, CPU_MAX - 1, &first, NULL) : -1;
    if (rc == 0)
        rc = text_to_int64(ends[count - 1], first, CPU_MAX - 1, &last, NULL);
    text_vector_free(ends);
    if (rc < 0)
        return err_set(e, ERR_CONFIG,
                       "compute.cpu_shared_set \"%s\": \"%s\" is no CPU, no range as 0-3 and no "
                       "exclusion as ^2",
                       whole, part);
    for (int64_t i = first; i <= last; i++)
        set[i] = value;
    return 0;
}

int resources_cpu_set(const char *text, int *count, struct err *e)
{
    _cleanup_(mem_freep) bool *set = NEW_ARRAY(bool, CPU_MAX);
    char **parts = text_split(text, ',');
    int rc = 0, found = 0;
    for (int exclusions = 0; exclusions < 2 && rc == 0; exclusions++)
        for (size_t i = 0; parts[i] && rc == 0; i++)
            if ((parts[i][strspn(parts[i], " ")] == '^') == (exclusions == 1))
                rc = mark_range(set, parts[i] + strspn(parts[i], " "), text, e);
    text_vector_free(parts);
    if (rc < 0)
        return -1;
    for (int i = 0; i < CPU_MAX; i++)
        found += set[i];
    if (found == 0)
        return err_set(e, ERR_CONFIG, "compute.cpu_shared_set \"%s\" names no CPU", text);
    *count = found;
    return 0;
}

/* --- files ------------------------------------------------------------------------------------ */

static int64_t floor_gib(int64_t bytes)
{
    return bytes >= 0 ? bytes / GIB : -((-bytes + GIB - 1) / GIB);
}

int resources_storage(const struct conf *conf, struct virt_resources *out, struct err *e)
{
    _cleanup_(fd_closep) int root = -1;
    int64_t promised = 0;
    struct statvfs fs;
    if (paths_open_root(conf, &root, e) < 0)
        return -1;
    if (fstatvfs(root, &fs) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "the size of the file system of %s is not known",
                             conf_string(conf, CONF_DEFAULT_instances_path));
    if (virt_storage_growth(conf, &promised, e) < 0)
        return -1;
    int64_t block = (int64_t)fs.f_frsize;
    int64_t free_gib = (int64_t)fs.f_bavail * block / GIB;
    out->local_gb = (int64_t)fs.f_blocks * block / GIB;
    out->local_used_gb = (int64_t)(fs.f_blocks - fs.f_bfree) * block / GIB;
    out->disk_available_least_gb = floor_gib(free_gib * GIB - promised);
    return 0;
}

static int logged_in(void)
{
    int users = 0;
    setutxent();
    for (const struct utmpx *u = getutxent(); u; u = getutxent())
        users += u->ut_type == USER_PROCESS;
    endutxent();
    return users;
}

static void print_age(char *out, size_t size)
{
    enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };
    struct timespec up = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &up);
    long days = up.tv_sec / DAY, hours = up.tv_sec % DAY / HOUR,
         minutes = up.tv_sec % HOUR / MINUTE;
    char part[32] = "";
    if (days)
        (void)snprintf(part, sizeof(part), "%ld day%s, ", days, days == 1 ? "" : "s");
    if (hours)
        (void)snprintf(out, size, "%s%2ld:%02ld", part, hours, minutes);
    else
        (void)snprintf(out, size, "%s%ld min", part, minutes);
}

/* As the program of that name; Nova hands its line on without reading it. */
char *resources_uptime(void)
{
    char now[16] = "", age[64];
    double load[3] = {0};
    struct tm local;
    time_t seconds = time(NULL);
    int users = logged_in();
    if (localtime_r(&seconds, &local))
        (void)strftime(now, sizeof(now), "%H:%M:%S", &local);
    print_age(age, sizeof(age));
    (void)getloadavg(load, 3);
    return text_format(" %s up %s,  %d user%s,  load average: %.2f, %.2f, %.2f", now, age, users,
                       users == 1 ? "" : "s", load[0], load[1], load[2]);
}
