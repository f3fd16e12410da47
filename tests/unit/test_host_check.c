/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a guest fits a host, over capabilities as libvirt 9.0 with QEMU 7.2 gave them. */
#include "tests/unit/unit.h"

#include "lib/text.h"
#include "virt/host_check.h"

#define UUID "8d6e0e9a-6f0a-4b8a-9c55-0f3a1b2c3d4e"

static struct virt_guest guest;
static struct virt_host_facts facts;

static char *data(const char *name)
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/virt/%s", name);
    _cleanup_(str_freep) char *path = unit_source_path(relative);
    return unit_read_file(path, NULL);
}

static void setup(void)
{
    guest = (struct virt_guest){
        .uuid = (char *)UUID,
        .name = (char *)"instance-00000001",
        .arch = (char *)"x86_64",
        .machine = (char *)"pc-i440fx-7.2",
        .emulator = (char *)"/usr/bin/qemu-system-x86_64",
        .domain_type = (char *)"qemu",
        .cpu_xml = (char *)"<cpu mode='custom' match='exact' check='full'>"
                           "<model fallback='forbid'>Skylake-Server</model></cpu>",
        .memory_kib = 262144,
        .vcpus = 1,
        .hypervisor_version = 7002022,
    };
    facts = (struct virt_host_facts){
        .hostname = text_dup("hostb"),
        .hypervisor_version = 7002022,
        .capabilities_xml = data("capabilities.xml"),
        .domain_capabilities_xml = data("domain-capabilities.xml"),
        .cpu_match = VIRT_CPU_FITS,
        .memory_available = INT64_C(1) << 30,
        .memory_reserved = INT64_C(512) << 20,
    };
}

static void teardown(void)
{
    virt_host_facts_clear(&facts);
}

UNIT_FIXTURE(setup, teardown)

static void accepted(void)
{
    char *warning = NULL;
    UNIT_OK(virt_host_check(&guest, &facts, &warning, &unit_err));
    UNIT_TRUE(warning == NULL);
    free(warning);
}

static void refused(enum err_code code, const char *one, const char *other)
{
    char *warning = NULL;
    UNIT_FAILS(virt_host_check(&guest, &facts, &warning, &unit_err), code);
    UNIT_HAS(unit_err.text, one);
    UNIT_HAS(unit_err.text, other);
    UNIT_TRUE(warning == NULL);
}

UNIT_TEST(fits, "a guest that fits is accepted without a warning")
{
    accepted();
}

UNIT_TEST(alias_machine, "a machine type is known by its alias too")
{
    guest.machine = (char *)"q35";
    accepted();
}

UNIT_TEST(older, "an older hypervisor is refused, naming both versions")
{
    guest.hypervisor_version = 8000002;
    refused(ERR_PRECHECK, "7.2.22", "8.0.2");
    facts.skip_version = true;
    accepted();
}

UNIT_TEST(newer, "a newer hypervisor is accepted with one warning that names both versions")
{
    char *warning = NULL;
    guest.hypervisor_version = 6002000;
    UNIT_OK(virt_host_check(&guest, &facts, &warning, &unit_err));
    UNIT_HAS(warning, "7.2.22");
    UNIT_HAS(warning, "6.2.0");
    free(warning);
}

UNIT_TEST(unknown_machine,
          "an unknown machine type is refused, naming the newest of that kind here")
{
    guest.machine = (char *)"pc-i440fx-9.1";
    refused(ERR_PRECHECK, "pc-i440fx-9.1", "pc-i440fx-7.2");
    guest.machine = (char *)"virt-9.1";
    refused(ERR_PRECHECK, "virt-9.1", "none");
}

UNIT_TEST(other_arch, "another architecture is refused, naming both")
{
    guest.arch = (char *)"aarch64";
    refused(ERR_PRECHECK, "aarch64", "x86_64");
}

UNIT_TEST(other_type, "a type of guest that the host does not offer is refused")
{
    guest.domain_type = (char *)"xen";
    refused(ERR_PRECHECK, "xen", "hostb");
}

UNIT_TEST(no_emulator, "what the hypervisor says against the guest's emulator is passed on")
{
    free(facts.domain_capabilities_xml);
    facts.domain_capabilities_xml = NULL;
    facts.domain_capabilities_error = text_dup("no emulator found at /opt/qemu");
    guest.emulator = (char *)"/opt/qemu";
    refused(ERR_PRECHECK, "/opt/qemu", "no emulator found");
}

UNIT_TEST(cpu, "a CPU that differs is refused, naming both models")
{
    facts.cpu_match = VIRT_CPU_DIFFERS;
    char *warning = NULL;
    UNIT_FAILS(virt_host_check(&guest, &facts, &warning, &unit_err), ERR_PRECHECK);
    UNIT_HAS(unit_err.text, "Skylake-Server");
    UNIT_HAS(unit_err.text, "EPYC");
    facts.cpu_error = text_dup("unsupported configuration: unknown CPU feature: x");
    refused(ERR_PRECHECK, "Skylake-Server", "unknown CPU feature");
    facts.skip_cpu = true;
    accepted();
}

UNIT_TEST(vcpus, "more virtual CPUs than the machine type may have are refused")
{
    guest.vcpus = 300;
    refused(ERR_PRECHECK, "300", "255");
}

UNIT_TEST(firmware, "firmware that is neither known nor readable here is refused")
{
    guest.firmware = (char *)"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
    refused(ERR_PRECHECK, "OVMF_CODE_4M.secboot.fd", "it has");
    facts.firmware_readable = true;
    accepted();
}

UNIT_TEST(memory, "memory that is not free is refused, naming need, rest and reserve")
{
    guest.memory_kib = 513 * 1024;
    refused(ERR_NO_SPACE, "513", "512");
    guest.memory_kib = 512 * 1024;
    accepted();
}

UNIT_TEST(duplicates, "a domain of the same uuid or name is a reason to refuse")
{
    facts.uuid_here = VIRT_STATE_SHUTOFF;
    refused(ERR_PRECHECK, UUID, virt_state_name(VIRT_STATE_SHUTOFF));
    facts.uuid_here = VIRT_STATE_NONE;
    facts.name_here_uuid = text_dup("11111111-2222-4333-8444-555555555555");
    refused(ERR_PRECHECK, "instance-00000001", "11111111-2222-4333-8444-555555555555");
}

UNIT_TEST(devices, "a guest with devices of its host is refused, naming the kind")
{
    guest.has_pci_device = true;
    refused(ERR_PRECHECK, UUID, "PCI device");
    guest.has_pci_device = false;
    guest.has_vtpm = true;
    refused(ERR_PRECHECK, UUID, "TPM");
}

UNIT_TEST(bad_xml, "capabilities that are no XML are an error, not a crash")
{
    free(facts.capabilities_xml);
    facts.capabilities_xml = text_dup("<capabilities><host>");
    char *warning = NULL;
    UNIT_FAILS(virt_host_check(&guest, &facts, &warning, &unit_err), ERR_PARSE);
}

/* ---- all of them told ---- */

struct told {
    unsigned fits, warns, refuses, unknown;
    char *text; /* "check: text" lines */
};

static void take(void *aux, const char *check, enum virt_finding finding, const char *text)
{
    struct told *told = aux;
    _cleanup_(str_freep) char *before = told->text;

    told->fits += finding == VIRT_FINDING_FITS;
    told->warns += finding == VIRT_FINDING_WARNS;
    told->refuses += finding == VIRT_FINDING_REFUSES;
    told->unknown += finding == VIRT_FINDING_UNKNOWN;
    told->text = text_format("%s%s: %s\n", before ? before : "", check, text);
}

UNIT_TEST(each, "every rule is told with both values")
{
    struct told told = {0};

    UNIT_OK(virt_host_check_each(&guest, &facts, take, &told, &unit_err));
    UNIT_EQ(told.fits, 10);
    UNIT_EQ(told.warns + told.refuses + told.unknown, 0);
    UNIT_HAS(told.text, "CPU: guest Skylake-Server, host ");
    UNIT_HAS(told.text, "hypervisor version: 7.2.22 at the source, 7.2.22 here");
    UNIT_HAS(told.text, "memory: needs 256.0 MiB; 1.0 GiB are available, of which 512.0 MiB are");
    free(told.text);
}

UNIT_TEST(each_refusal,
          "refusals that do not depend on one another are all told, others are unknown")
{
    struct told told = {0};

    guest.machine = (char *)"pc-i440fx-99.0";
    facts.memory_available = 0;
    facts.hypervisor_version = 7002023;
    UNIT_OK(virt_host_check_each(&guest, &facts, take, &told, &unit_err));
    UNIT_EQ(told.refuses, 2);
    UNIT_EQ(told.warns, 1);
    UNIT_EQ(told.unknown, 4);
    UNIT_HAS(told.text, "machine type: guest " UUID " has machine type pc-i440fx-99.0");
    UNIT_HAS(told.text, "newer than the source's");
    free(told.text);
}
