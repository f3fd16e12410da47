/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/host_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"
#include "virt/xml.h"

void virt_host_facts_clear(struct virt_host_facts *facts)
{
    free(facts->hostname);
    free(facts->capabilities_xml);
    free(facts->domain_capabilities_xml);
    free(facts->domain_capabilities_error);
    free(facts->cpu_error);
    free(facts->name_here_uuid);
    *facts = (struct virt_host_facts){0};
}

struct check {
    const struct virt_guest *guest;
    const struct virt_host_facts *facts;
    const char *host;
    xmlDoc *capabilities;
    xmlDoc *domain_capabilities; /* NULL when there are none */
    char **warning;
};

typedef int (*rule_fn)(const struct check *check, struct err *e);

static const char *name_or(const char *text, const char *other)
{
    return text && *text ? text : other;
}

static int rule_devices(const struct check *check, struct err *e)
{
    const struct {
        bool has;
        const char *what;
    } rows[] = {
        {check->guest->has_pci_device, "a PCI device of its host"},
        {check->guest->has_mdev, "a mediated device"},
        {check->guest->has_vtpm, "an emulated TPM"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].has)
            return err_set(e, ERR_PRECHECK, "guest %s has %s, which cannot be migrated",
                           check->guest->uuid, rows[i].what);
    return 0;
}

static int rule_duplicates(const struct check *check, struct err *e)
{
    const struct virt_guest *guest = check->guest;
    if (check->facts->uuid_here != VIRT_STATE_NONE)
        return err_set(e, ERR_PRECHECK, "host %s has a domain of uuid %s already, which is %s",
                       check->host, guest->uuid, virt_state_name(check->facts->uuid_here));
    if (check->facts->name_here_uuid)
        return err_set(e, ERR_PRECHECK,
                       "host %s has a domain named \"%s\" already, of uuid %s and not %s",
                       check->host, guest->name, check->facts->name_here_uuid, guest->uuid);
    return 0;
}

static void version_text(int64_t version, char out[32])
{
    snprintf(out, 32, "%" PRId64 ".%" PRId64 ".%" PRId64, version / 1000000, version / 1000 % 1000,
             version % 1000);
}

static int rule_version(const struct check *check, struct err *e)
{
    int64_t source = check->guest->hypervisor_version, here = check->facts->hypervisor_version;
    char source_text[32], here_text[32];
    if (!source || !here || check->facts->skip_version || source == here)
        return 0;
    version_text(source, source_text);
    version_text(here, here_text);
    if (here < source)
        return err_set(e, ERR_PRECHECK,
                       "host %s has hypervisor version %s, older than the source's %s", check->host,
                       here_text, source_text);
    *check->warning = text_format(
        "host %s has hypervisor version %s, newer than the source's %s: guest %s keeps the "
        "features of the older one until it is powered off and on",
        check->host, here_text, source_text, check->guest->uuid);
    return 0;
}

/* <guest><arch name><domain type> of the capabilities. */
static xmlNode *find_arch(const struct check *check)
{
    xmlNode *root = xmlDocGetRootElement(check->capabilities);
    for (xmlNode *guest = xml_child(root, "guest"); guest; guest = xml_next(guest, "guest")) {
        xmlNode *arch = xml_child(guest, "arch");
        if (arch && xml_attr_is(arch, "name", check->guest->arch))
            return arch;
    }
    return NULL;
}

static int rule_arch(const struct check *check, struct err *e)
{
    _cleanup_(str_freep) char *host_arch =
        xml_find_content(xmlDocGetRootElement(check->capabilities), "host/cpu/arch");
    if (!check->guest->arch)
        return 0; /* a source that is no agent of ours does not tell */
    xmlNode *arch = find_arch(check);
    if (!arch)
        return err_set(e, ERR_PRECHECK,
                       "guest %s is of architecture %s, and host %s of %s has no emulator for it",
                       check->guest->uuid, name_or(check->guest->arch, "unknown"), check->host,
                       name_or(host_arch, "unknown architecture"));
    for (xmlNode *d = xml_child(arch, "domain"); d; d = xml_next(d, "domain"))
        if (xml_attr_is(d, "type", name_or(check->guest->domain_type, "qemu")))
            return 0;
    return err_set(e, ERR_PRECHECK, "guest %s is of type %s, which host %s does not offer for %s",
                   check->guest->uuid, check->guest->domain_type, check->host, check->guest->arch);
}

static bool has_machine(const xmlNode *parent, const char *machine)
{
    for (xmlNode *node = xml_child(parent, "machine"); node; node = xml_next(node, "machine")) {
        _cleanup_(str_freep) char *name = xml_content(node);
        if (text_equal(name, machine) || xml_attr_is(node, "canonical", machine))
            return true;
    }
    return false;
}

/* The newest of the same family, so that the message shows what the host does have. */
static char *similar_machine(const xmlNode *parent, const char *machine)
{
    const char *dash = strrchr(machine, '-');
    size_t length = dash ? (size_t)(dash - machine) + 1 : strlen(machine);
    char *best = NULL;
    for (xmlNode *node = xml_child(parent, "machine"); node; node = xml_next(node, "machine")) {
        char *name = xml_content(node);
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a prefix is compared */
        if (name && strncmp(name, machine, length) == 0 && (!best || strverscmp(name, best) > 0)) {
            free(best);
            best = name;
        } else {
            free(name);
        }
    }
    return best;
}

static int rule_machine(const struct check *check, struct err *e)
{
    const char *machine = check->guest->machine;
    xmlNode *arch = find_arch(check);
    if (!machine || has_machine(arch, machine))
        return 0;
    /* A type of guest may have a list of its own. */
    for (xmlNode *d = xml_child(arch, "domain"); d; d = xml_next(d, "domain"))
        if (xml_attr_is(d, "type", name_or(check->guest->domain_type, "qemu")) &&
            has_machine(d, machine))
            return 0;
    _cleanup_(str_freep) char *similar = similar_machine(arch, machine);
    return err_set(e, ERR_PRECHECK,
                   "guest %s has machine type %s, which host %s does not know; its newest of that "
                   "kind is %s",
                   check->guest->uuid, machine, check->host, name_or(similar, "none"));
}

static int rule_domain_capabilities(const struct check *check, struct err *e)
{
    if (!check->facts->domain_capabilities_error)
        return 0;
    return err_set(
        e, ERR_PRECHECK, "host %s cannot run guests of emulator %s, machine type %s, type %s: %s",
        check->host, name_or(check->guest->emulator, "(default)"),
        name_or(check->guest->machine, "(default)"), name_or(check->guest->domain_type, "qemu"),
        check->facts->domain_capabilities_error);
}

static int rule_vcpus(const struct check *check, struct err *e)
{
    xmlNode *root =
        check->domain_capabilities ? xmlDocGetRootElement(check->domain_capabilities) : NULL;
    _cleanup_(str_freep) char *text = xml_find_attr(root, "vcpu", "max");
    int64_t max;
    if (!text || text_to_int64(text, 1, INT32_MAX, &max, NULL) < 0 || check->guest->vcpus <= max)
        return 0;
    return err_set(e, ERR_PRECHECK,
                   "guest %s has %d virtual CPUs, and host %s allows %" PRId64
                   " for machine type %s",
                   check->guest->uuid, check->guest->vcpus, check->host, max,
                   name_or(check->guest->machine, "(default)"));
}

static int rule_firmware(const struct check *check, struct err *e)
{
    const char *path = check->guest->firmware;
    if (!path || check->facts->firmware_readable)
        return 0;
    xmlNode *root =
        check->domain_capabilities ? xmlDocGetRootElement(check->domain_capabilities) : NULL;
    xmlNode *loader = xml_find(root, "os/loader");
    _cleanup_(str_freep) char *known = NULL;
    for (xmlNode *node = xml_child(loader, "value"); node; node = xml_next(node, "value")) {
        _cleanup_(str_freep) char *value = xml_content(node);
        if (text_equal(value, path))
            return 0;
        if (!known)
            known = STEAL(value);
    }
    return err_set(e, ERR_PRECHECK,
                   "guest %s has firmware %s, which host %s does not have; it has %s",
                   check->guest->uuid, path, check->host, name_or(known, "none"));
}

/* "Skylake-Client-IBRS", "Skylake-Client-IBRS (Intel)"; the caller frees. */
static char *guest_cpu_name(const char *cpu_xml)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (!cpu_xml || xml_parse(cpu_xml, "CPU of the guest", "cpu", &doc, NULL) < 0)
        return text_dup("unknown");
    xmlNode *root = xmlDocGetRootElement(doc);
    _cleanup_(str_freep) char *model = xml_find_content(root, "model");
    _cleanup_(str_freep) char *mode = xml_attr(root, "mode");
    return text_dup(name_or(model, name_or(mode, "unknown")));
}

static char *host_cpu_name(const struct check *check)
{
    xmlNode *root =
        check->domain_capabilities ? xmlDocGetRootElement(check->domain_capabilities) : NULL;
    xmlNode *cpu = xml_child(root, "cpu");
    for (xmlNode *mode = xml_child(cpu, "mode"); mode; mode = xml_next(mode, "mode")) {
        char *model =
            xml_attr_is(mode, "name", "host-model") ? xml_find_content(mode, "model") : NULL;
        if (model)
            return model;
    }
    char *model = xml_find_content(xmlDocGetRootElement(check->capabilities), "host/cpu/model");
    return model ? model : text_dup("unknown");
}

static int rule_cpu(const struct check *check, struct err *e)
{
    if (check->facts->skip_cpu || check->facts->cpu_match != VIRT_CPU_DIFFERS)
        return 0;
    _cleanup_(str_freep) char *guest_cpu = guest_cpu_name(check->guest->cpu_xml);
    _cleanup_(str_freep) char *host_cpu = host_cpu_name(check);
    return err_set(e, ERR_PRECHECK,
                   "guest %s has CPU %s, which host %s with hypervisor CPU %s cannot give it%s%s",
                   check->guest->uuid, guest_cpu, check->host, host_cpu,
                   check->facts->cpu_error ? ": " : "",
                   check->facts->cpu_error ? check->facts->cpu_error : "");
}

static int rule_memory(const struct check *check, struct err *e)
{
    int64_t need = check->guest->memory_kib * 1024;
    int64_t have = check->facts->memory_available - check->facts->memory_reserved;
    if (need <= have)
        return 0;
    char need_text[32], available[32], reserved[32];
    text_bytes((double)need, need_text, sizeof(need_text));
    text_bytes((double)check->facts->memory_available, available, sizeof(available));
    text_bytes((double)check->facts->memory_reserved, reserved, sizeof(reserved));
    return err_set(e, ERR_NO_SPACE,
                   "guest %s needs %s of memory, and host %s has %s available of which %s are "
                   "reserved",
                   check->guest->uuid, need_text, check->host, available, reserved);
}

/* ---- what was compared, for people ---- */

static char *found_devices(const struct check *check _unused_)
{
    return text_dup("none is bound to its host");
}

static char *found_duplicates(const struct check *check)
{
    return text_format("none of uuid %s or named \"%s\" is here", check->guest->uuid,
                       name_or(check->guest->name, ""));
}

static char *found_version(const struct check *check)
{
    int64_t source = check->guest->hypervisor_version, here = check->facts->hypervisor_version;
    char source_text[32] = "unknown", here_text[32] = "unknown";

    if (source)
        version_text(source, source_text);
    if (here)
        version_text(here, here_text);
    return text_format("%s at the source, %s here%s", source_text, here_text,
                       check->facts->skip_version ? "; not compared, by configuration" : "");
}

static char *found_arch(const struct check *check)
{
    return text_format("%s, type %s", name_or(check->guest->arch, "not told"),
                       name_or(check->guest->domain_type, "not told"));
}

static char *found_machine(const struct check *check)
{
    return text_format("%s is known here", name_or(check->guest->machine, "the default one"));
}

static char *found_domain_capabilities(const struct check *check)
{
    return text_format("%s runs such guests here",
                       name_or(check->guest->emulator, "the default one"));
}

static char *found_vcpus(const struct check *check)
{
    xmlNode *root =
        check->domain_capabilities ? xmlDocGetRootElement(check->domain_capabilities) : NULL;
    _cleanup_(str_freep) char *most = xml_find_attr(root, "vcpu", "max");

    return text_format("%d, at most %s here", check->guest->vcpus, name_or(most, "unknown"));
}

static char *found_firmware(const struct check *check)
{
    return text_dup(name_or(check->guest->firmware, "the machine type's own"));
}

static char *found_cpu(const struct check *check)
{
    _cleanup_(str_freep) char *guest_cpu = guest_cpu_name(check->guest->cpu_xml);
    _cleanup_(str_freep) char *host_cpu = host_cpu_name(check);

    if (!check->guest->cpu_xml)
        return text_dup("the guest has the machine type's default CPU");
    return text_format("guest %s, host %s%s", guest_cpu, host_cpu,
                       check->facts->skip_cpu ? "; not compared, by configuration"
                       : check->facts->cpu_match == VIRT_CPU_NOT_ASKED
                           ? "; the hypervisor cannot compare them"
                           : "");
}

static char *found_memory(const struct check *check)
{
    char need[32], available[32], reserved[32];

    text_bytes((double)check->guest->memory_kib * 1024, need, sizeof(need));
    text_bytes((double)check->facts->memory_available, available, sizeof(available));
    text_bytes((double)check->facts->memory_reserved, reserved, sizeof(reserved));
    return text_format("needs %s; %s are available, of which %s are reserved", need, available,
                       reserved);
}

/* ---- all of them ---- */

/* `needs`: the rule without which this one has nothing to look at; NULL. */
static const struct {
    rule_fn rule;
    const char *check;
    char *(*found)(const struct check *check);
    rule_fn needs;
} rules[] = {
    {rule_devices, "devices", found_devices, NULL},
    {rule_duplicates, "domains here", found_duplicates, NULL},
    {rule_version, "hypervisor version", found_version, NULL},
    {rule_arch, "architecture", found_arch, NULL},
    {rule_machine, "machine type", found_machine, rule_arch},
    {rule_domain_capabilities, "emulator", found_domain_capabilities, rule_machine},
    {rule_vcpus, "virtual CPUs", found_vcpus, rule_domain_capabilities},
    {rule_firmware, "firmware", found_firmware, rule_domain_capabilities},
    {rule_cpu, "CPU", found_cpu, rule_domain_capabilities},
    {rule_memory, "memory", found_memory, NULL},
};

static int run_rules(const struct check *check, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].rule(check, e) < 0)
            return -1;
    return 0;
}

/* `met`: of each rule, whether the guest passed it. */
static bool has_met(const bool *met, rule_fn rule)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].rule == rule)
            return met[i];
    return true;
}

static bool tell_rule(const struct check *check, size_t i, virt_tell_fn tell, void *aux)
{
    struct err failure = ERR_INIT;

    if (rules[i].rule(check, &failure) < 0) {
        tell(aux, rules[i].check, VIRT_FINDING_REFUSES, failure.text);
        return false;
    }
    if (*check->warning) {
        _cleanup_(str_freep) char *warning = STEAL(*check->warning);
        tell(aux, rules[i].check, VIRT_FINDING_WARNS, warning);
        return true;
    }
    _cleanup_(str_freep) char *found = rules[i].found(check);
    tell(aux, rules[i].check, VIRT_FINDING_FITS, found);
    return true;
}

static void tell_rules(const struct check *check, virt_tell_fn tell, void *aux)
{
    bool met[ARRAY_LEN(rules)] = {false};

    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (has_met(met, rules[i].needs))
            met[i] = tell_rule(check, i, tell, aux);
        else
            tell(aux, rules[i].check, VIRT_FINDING_UNKNOWN,
                 "cannot be looked at without what was refused before");
    }
}

static int open_facts(const struct virt_host_facts *facts, struct check *check, struct err *e)
{
    if (xml_parse(facts->capabilities_xml, "capabilities of the host", "capabilities",
                  &check->capabilities, e) < 0)
        return -1;
    if (facts->domain_capabilities_xml &&
        xml_parse(facts->domain_capabilities_xml, "domain capabilities of the host",
                  "domainCapabilities", &check->domain_capabilities, e) < 0)
        return -1;
    return 0;
}

static void check_clear(struct check *check)
{
    xml_doc_freep(&check->capabilities);
    xml_doc_freep(&check->domain_capabilities);
}

int virt_host_check(const struct virt_guest *guest, const struct virt_host_facts *facts,
                    char **warning, struct err *e)
{
    _cleanup_(str_freep) char *found = NULL;
    _cleanup_(check_clear) struct check check = {.guest = guest,
                                                 .facts = facts,
                                                 .host = name_or(facts->hostname, "here"),
                                                 .warning = &found};

    if (open_facts(facts, &check, e) < 0 || run_rules(&check, e) < 0)
        return -1;
    *warning = STEAL(found);
    return 0;
}

int virt_host_check_each(const struct virt_guest *guest, const struct virt_host_facts *facts,
                         virt_tell_fn tell, void *aux, struct err *e)
{
    _cleanup_(str_freep) char *found = NULL;
    _cleanup_(check_clear) struct check check = {.guest = guest,
                                                 .facts = facts,
                                                 .host = name_or(facts->hostname, "here"),
                                                 .warning = &found};

    if (open_facts(facts, &check, e) < 0)
        return -1;
    tell_rules(&check, tell, aux);
    return 0;
}
