/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The domain XML of a new guest. The order of elements is that of Nova's LibvirtConfigGuest (Zed), so that the
 * two can be laid side by side; libvirt itself does not care. Values were checked by virt/build_check.c
 * before anything is built.
 */
#include <config.h>

#include "virt/build.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"
#include "virt/build_internal.h"
#include "virt/xml.h"

/* --- small parts ------------------------------------------------------------------------------ */

xmlNode *build_add(xmlNode *parent, const char *name, ...)
{
    xmlNode *node = xml_add_child(parent, name);
    va_list args;
    va_start(args, name);
    for (const char *key = va_arg(args, const char *); key; key = va_arg(args, const char *)) {
        const char *value = va_arg(args, const char *);
        if (value)
            xml_set_attr(node, key, value);
    }
    va_end(args);
    return node;
}

xmlNode *build_add_text(xmlNode *parent, const char *name, const char *text)
{
    if (!text)
        return NULL;
    xmlNode *node = xml_add_child(parent, name);
    xml_set_content(node, text);
    return node;
}

void build_set_number(xmlNode *node, const char *name, int64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    xml_set_attr(node, name, text);
}

void build_add_number(xmlNode *parent, const char *name, int64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    build_add_text(parent, name, text);
}

static bool is_x86(const struct virt_build *build)
{
    return build_is_word("x86_64|i686", build->arch);
}

/* --- parts of <domain>, in order -------------------------------------------------------------- */

/* A title is for people: what cannot stand in one line of XML is no reason to refuse the guest. */
static void add_title(xmlNode *root, const char *title)
{
    enum { TITLE_MAX = 1024 };
    size_t length = title ? strnlen(title, TITLE_MAX) : 0;
    struct text_buffer clean = TEXT_BUFFER_INIT;
    for (size_t i = 0; i < length;) {
        size_t bytes = text_printable(title + i, length - i);
        text_buffer_add_n(&clean, bytes ? title + i : "?", bytes ? bytes : 1);
        i += bytes ? bytes : 1;
    }
    if (clean.length)
        build_add_text(root, "title", clean.data);
    text_buffer_free(&clean);
}

static void add_basics(xmlNode *root, const struct virt_build *build)
{
    build_add_text(root, "uuid", build->uuid);
    build_add_text(root, "name", build->name);
    add_title(root, build->title);
    build_add_number(root, "memory", build->memory_mb * 1024); /* KiB, libvirt's default unit */
    if (build->memory_locked)
        build_add(build_add(root, "memoryBacking", NULL), "locked", NULL);
    build_add_number(root, "vcpu", build->vcpus);
    if (build->cpuset)
        xml_set_attr(xml_child(root, "vcpu"), "cpuset", build->cpuset);
}

static int add_metadata(xmlNode *root, const struct virt_build *build, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (!build->metadata_xml)
        return 0;
    if (xml_parse(build->metadata_xml, "metadata of the new guest", NULL, &doc, e) < 0)
        return -1;
    const xmlNode *element = xmlDocGetRootElement(doc);
    if (!element->ns)
        return err_set(e, ERR_INVALID,
                       "the metadata of the new guest has no namespace, which libvirt demands");
    xmlNode *copy = xmlDocCopyNode(xmlDocGetRootElement(doc), root->doc, 1);
    if (!copy || !xmlAddChild(build_add(root, "metadata", NULL), copy))
        return err_set(e, ERR_NOMEM, "no memory for the metadata of the new guest");
    return 0;
}

/* Guests find out by these that they run in an OpenStack cloud (cloud-init's datasource). */
static void add_sysinfo(xmlNode *root, const struct virt_build *build)
{
    const char *const entries[][2] = {
        {"manufacturer", "OpenStack Foundation"},
        {"product", "OpenStack Nova"},
        {"version", PACKAGE_VERSION},
        {"serial", build->system_serial ? build->system_serial : build->uuid},
        {"uuid", build->uuid},
        {"family", "Virtual Machine"},
    };
    if (!is_x86(build))
        return;
    xmlNode *system = build_add(build_add(root, "sysinfo", "type", "smbios", NULL), "system", NULL);
    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        if (*entries[i][1])
            xml_set_attr(build_add_text(system, "entry", entries[i][1]), "name", entries[i][0]);
}

/* libvirt chooses loader and NVRAM by the host's firmware descriptors; secure boot is not offered. */
static void add_firmware(xmlNode *os)
{
    xml_set_attr(os, "firmware", "efi");
    xmlNode *firmware = build_add(os, "firmware", NULL);
    build_add(firmware, "feature", "enabled", "no", "name", "enrolled-keys", NULL);
    build_add(firmware, "feature", "enabled", "no", "name", "secure-boot", NULL);
}

/* Each kind of device once, in the order of the disks' own numbers (blockinfo.get_boot_order). */
static void add_boot_devices(xmlNode *os, const struct virt_build *build)
{
    static const char *const kinds[][2] = {{"disk", "hd"}, {"cdrom", "cdrom"}, {"floppy", "fd"}};
    bool named[ARRAY_LEN(kinds)] = {false};
    for (int order = 1; order <= (int)build->disk_count; order++) {
        for (size_t i = 0; i < build->disk_count; i++) {
            const char *device = build->disks[i].device ? build->disks[i].device : "disk";
            if (build->disks[i].boot_order != order)
                continue;
            for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                if (named[k] || !text_equal(device, kinds[k][0]))
                    continue;
                named[k] = true;
                build_add(os, "boot", "dev", kinds[k][1], NULL);
            }
        }
    }
}

static void add_os(xmlNode *root, const struct virt_build *build)
{
    xmlNode *os = build_add(root, "os", NULL);
    xmlNode *type = build_add_text(os, "type", "hvm");
    xml_set_attr(type, "arch", build->arch);
    if (build->machine)
        xml_set_attr(type, "machine", build->machine);
    if (text_equal(build->firmware, "uefi"))
        add_firmware(os);
    build_add_text(os, "kernel", build->kernel);
    build_add_text(os, "initrd", build->initrd);
    if (build->kernel)
        build_add_text(os, "cmdline", build->command_line);
    else
        add_boot_devices(os, build);
    if (is_x86(build))
        build_add(os, "smbios", "mode", "sysinfo", NULL);
    if (build->boot_menu)
        build_add(os, "bootmenu", "enable", "yes", NULL);
}

/*
 * Nova also asks for evmcs, with which no guest starts on AMD's processors (LP 2009280), and for all of it
 * under plain QEMU, which has none.
 */
static void add_hyperv(xmlNode *features, const struct virt_build *build)
{
    static const char *const on[] = {
        "relaxed", "vapic",       "vpindex",         "runtime",  "synic",
        "reset",   "frequencies", "reenlightenment", "tlbflush", "ipi",
    };
    xmlNode *hyperv = build_add(features, "hyperv", NULL);
    for (size_t i = 0; i < ARRAY_LEN(on); i++)
        build_add(hyperv, on[i], "state", "on", NULL);
    build_add(hyperv, "spinlocks", "state", "on", "retries", "8191", NULL);
    if (build->hide_hypervisor)
        build_add(hyperv, "vendor_id", "state", "on", "value", "1234567890ab", NULL);
}

static void add_features(xmlNode *root, const struct virt_build *build)
{
    xmlNode *features = build_add(root, "features", NULL);
    if (build->acpi)
        build_add(features, "acpi", NULL);
    if (build->acpi && is_x86(build) && !build->no_apic)
        build_add(features, "apic", NULL);
    if (text_equal(build->os_type, "windows") && text_equal(build->virt_type, "kvm"))
        add_hyperv(features, build);
    if (is_x86(build) || text_equal(build->arch, "aarch64"))
        build_add(features, "vmcoreinfo", "state", "on", NULL);
    if (build->hide_hypervisor)
        build_add(build_add(features, "kvm", NULL), "hidden", "state", "on", NULL);
    if (build->pmu)
        build_add(features, "pmu", "state", build->pmu > 0 ? "on" : "off", NULL);
}

static void add_cputune(xmlNode *root, const struct virt_build *build)
{
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"shares", build->cpu_shares},
        {"quota", build->cpu_quota},
        {"period", build->cpu_period},
    };
    xmlNode *tune = NULL;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!rows[i].value)
            continue;
        if (!tune)
            tune = build_add(root, "cputune", NULL);
        build_add_number(tune, rows[i].name, rows[i].value);
    }
}

/* Windows keeps local time in its clock, and wants Hyper-V's time source. */
static void add_clock(xmlNode *root, const struct virt_build *build)
{
    bool windows = text_equal(build->os_type, "windows");
    xmlNode *clock = build_add(root, "clock", "offset", windows ? "localtime" : "utc", NULL);
    if (!text_equal(build->virt_type, "kvm"))
        return;
    build_add(clock, "timer", "name", "pit", "tickpolicy", "delay", NULL);
    build_add(clock, "timer", "name", "rtc", "tickpolicy", "catchup", NULL);
    if (is_x86(build))
        build_add(clock, "timer", "name", "hpet", "present", build->hpet ? "yes" : "no", NULL);
    if (windows)
        build_add(clock, "timer", "name", "hypervclock", "present", "yes", NULL);
}

static void add_cpu_features(xmlNode *cpu, const char *const *flags)
{
    for (size_t i = 0; flags && flags[i]; i++) {
        const char *policy = flags[i][0] == '-' ? "disable" : "require";
        const char *name = flags[i] + strspn(flags[i], "+-");
        build_add(cpu, "feature", "name", name, "policy", policy, NULL);
    }
}

/* A mode "none" is an element that has the topology alone: the hypervisor's default model. */
static void add_cpu(xmlNode *root, const struct virt_build *build)
{
    bool named = build->cpu_mode && !text_equal(build->cpu_mode, "none");
    xmlNode *cpu =
        build_add(root, "cpu", "mode", named ? build->cpu_mode : NULL, "match", "exact", NULL);
    if (build->cpu_models && build->cpu_models[0] && text_equal(build->cpu_mode, "custom"))
        build_add_text(cpu, "model", build->cpu_models[0]);
    xmlNode *topology = build_add(cpu, "topology", NULL);
    build_set_number(topology, "sockets", build->sockets ? build->sockets : build->vcpus);
    build_set_number(topology, "cores", build->cores ? build->cores : 1);
    build_set_number(topology, "threads", build->threads ? build->threads : 1);
    if (named)
        add_cpu_features(cpu, build->cpu_flags);
}

/* --- the two entry points --------------------------------------------------------------------- */

static char *indented(xmlDoc *doc)
{
    xmlBufferPtr buffer = xmlBufferCreate();
    char *text = NULL;
    if (buffer && xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 1) >= 0)
        text = text_dup_n((const char *)xmlBufferContent(buffer), (size_t)xmlBufferLength(buffer));
    if (buffer)
        xmlBufferFree(buffer);
    return text;
}

static xmlDoc *new_document(const char *root)
{
    xmlDoc *doc = xmlNewDoc((const xmlChar *)"1.0");
    xmlNode *node = doc ? xmlNewDocNode(doc, NULL, (const xmlChar *)root, NULL) : NULL;
    if (!node) {
        if (doc)
            xmlFreeDoc(doc);
        return NULL;
    }
    xmlDocSetRootElement(doc, node);
    return doc;
}

static int finish(xmlDoc *doc, char **xml, struct err *e)
{
    char *text = indented(doc);
    if (!text)
        return err_set(e, ERR_NOMEM, "no memory for the XML of a guest");
    *xml = text;
    return 0;
}

int virt_build_xml(const struct virt_build *build, char **xml, struct err *e)
{
    if (build_check(build, e) < 0)
        return -1;
    _cleanup_(xml_doc_freep) xmlDoc *doc = new_document("domain");
    if (!doc)
        return err_set(e, ERR_NOMEM, "no memory for the XML of a guest");
    xmlNode *root = xmlDocGetRootElement(doc);
    xml_set_attr(root, "type", build->virt_type);
    add_basics(root, build);
    if (add_metadata(root, build, e) < 0)
        return -1;
    add_sysinfo(root, build);
    add_os(root, build);
    add_features(root, build);
    add_cputune(root, build);
    add_clock(root, build);
    add_cpu(root, build);
    build_devices(build_add(root, "devices", NULL), build);
    return finish(doc, xml, e);
}

int virt_build_interface_xml(const struct virt_build_interface *interface, char **xml,
                             struct err *e)
{
    if (build_check_interface(interface, e) < 0)
        return -1;
    _cleanup_(xml_doc_freep) xmlDoc *doc = new_document("devices");
    if (!doc)
        return err_set(e, ERR_NOMEM, "no memory for the XML of an interface");
    build_interface(xmlDocGetRootElement(doc), interface);
    xmlNode *element = xml_child(xmlDocGetRootElement(doc), "interface");
    xmlUnlinkNode(element);
    xmlFreeNode(xmlDocSetRootElement(doc, element));
    return finish(doc, xml, e);
}
