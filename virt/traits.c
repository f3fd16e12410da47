/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The traits of this host: what its CPU has, and what this agent builds. A scheduler's prefilter takes a
 * missing trait for "cannot" and a present one for "can", so a row stands here only for what works.
 * Placement may be older than a trait; the cloud's side asks it first.
 */
#include <string.h>
#include <strings.h>

#include "lib/text.h"
#include "lib/vector.h"
#include "virt/build_internal.h"
#include "virt/resources.h"
#include "virt/xml.h"

DEFINE_VECTOR(names, char *)

/* libvirt's name of a CPU feature, and the trait (os-traits; Nova's CPU_TRAITS_MAPPING). */
static const struct {
    const char *feature, *trait;
} cpu_traits[] = {
    {"3dnow", "HW_CPU_X86_3DNOW"},
    {"abm", "HW_CPU_X86_ABM"},
    {"aes", "HW_CPU_X86_AESNI"},
    {"avx", "HW_CPU_X86_AVX"},
    {"avx2", "HW_CPU_X86_AVX2"},
    {"avx512-vpopcntdq", "HW_CPU_X86_AVX512VPOPCNTDQ"},
    {"avx512bitalg", "HW_CPU_X86_AVX512BITALG"},
    {"avx512bw", "HW_CPU_X86_AVX512BW"},
    {"avx512cd", "HW_CPU_X86_AVX512CD"},
    {"avx512dq", "HW_CPU_X86_AVX512DQ"},
    {"avx512er", "HW_CPU_X86_AVX512ER"},
    {"avx512f", "HW_CPU_X86_AVX512F"},
    {"avx512ifma", "HW_CPU_X86_AVX512IFMA"},
    {"avx512pf", "HW_CPU_X86_AVX512PF"},
    {"avx512vbmi", "HW_CPU_X86_AVX512VBMI"},
    {"avx512vbmi2", "HW_CPU_X86_AVX512VBMI2"},
    {"avx512vl", "HW_CPU_X86_AVX512VL"},
    {"avx512vnni", "HW_CPU_X86_AVX512VNNI"},
    {"bmi1", "HW_CPU_X86_BMI"},
    {"bmi2", "HW_CPU_X86_BMI2"},
    {"f16c", "HW_CPU_X86_F16C"},
    {"fma", "HW_CPU_X86_FMA3"},
    {"fma4", "HW_CPU_X86_FMA4"},
    {"gfni", "HW_CPU_X86_AVX512GFNI"},
    {"mmx", "HW_CPU_X86_MMX"},
    {"mpx", "HW_CPU_X86_MPX"},
    {"pclmuldq", "HW_CPU_X86_CLMUL"},
    {"pclmulqdq", "HW_CPU_X86_CLMUL"},
    {"sha-ni", "HW_CPU_X86_SHA"},
    {"sse", "HW_CPU_X86_SSE"},
    {"sse2", "HW_CPU_X86_SSE2"},
    {"sse3", "HW_CPU_X86_SSE3"},
    {"pni", "HW_CPU_X86_SSE3"},
    {"sse4.1", "HW_CPU_X86_SSE41"},
    {"sse4.2", "HW_CPU_X86_SSE42"},
    {"sse4a", "HW_CPU_X86_SSE4A"},
    {"ssse3", "HW_CPU_X86_SSSE3"},
    {"svm", "HW_CPU_X86_SVM"},
    {"svm", "HW_CPU_X86_AMD_SVM"},
    {"tbm", "HW_CPU_X86_TBM"},
    {"vaes", "HW_CPU_X86_AVX512VAES"},
    {"vmx", "HW_CPU_X86_VMX"},
    {"vmx", "HW_CPU_X86_INTEL_VMX"},
    {"vpclmulqdq", "HW_CPU_X86_AVX512VPCLMULQDQ"},
    {"xop", "HW_CPU_X86_XOP"},
};

/* Ports: the architectures whose QEMU has the model, and the releases that brought it. */
static const struct {
    const char *model, *archs;
    int64_t hypervisor, libvirt;
} vif_models[] = {
    {"virtio", NULL, 0, 0},
    {"e1000", "x86_64|i686|ppc64|ppc64le", 0, 0},
    {"e1000e", "x86_64|i686|aarch64|ppc64|ppc64le", 0, 0},
    {"igb", "x86_64|i686|aarch64|ppc64|ppc64le", 8000000, 9003000},
    {"lan9118", "armv7l", 0, 0},
    {"ne2k_pci", "x86_64|i686", 0, 0},
    {"pcnet", "x86_64|i686", 0, 0},
    {"rtl8139", "x86_64|i686", 0, 0},
    {"spapr-vlan", "ppc64|ppc64le", 0, 0},
    {"vmxnet3", "x86_64|i686", 0, 0},
};

/* What is the same on every host that runs this agent. */
static const char *const always[] = {
    "COMPUTE_NODE",
    "COMPUTE_NET_ATTACH_INTERFACE",
};

static const char *const image_types[] = {"aki", "ami", "ari", "iso", "qcow2", "raw"};

static void add(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->length; i++)
        if (strcmp(names->items[i], name) == 0)
            return;
    *names_add(names) = text_dup(name);
}

/* "sata" as COMPUTE_STORAGE_BUS_SATA. */
static void add_upper(struct names *names, const char *prefix, const char *word)
{
    _cleanup_(str_freep) char *name = text_format("%s%s", prefix, word);
    for (char *c = name + strlen(prefix); *c; c++) {
        if (*c == '-')
            *c = '_';
        else if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    }
    add(names, name);
}

static void add_cpu(struct names *names, const char *cpu_xml)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (!cpu_xml || xml_parse(cpu_xml, "CPU", "cpu", &doc, NULL) < 0)
        return;
    const xmlNode *cpu = xmlDocGetRootElement(doc);
    for (const xmlNode *f = xml_child(cpu, "feature"); f; f = xml_next(f, "feature")) {
        _cleanup_(str_freep) char *feature = xml_attr(f, "name");
        if (xml_attr_is(f, "policy", "disable") || xml_attr_is(f, "policy", "forbid"))
            continue;
        for (size_t i = 0; feature && i < ARRAY_LEN(cpu_traits); i++)
            if (strcmp(cpu_traits[i].feature, feature) == 0)
                add(names, cpu_traits[i].trait);
    }
}

/* Values of <enum name=...> of a device that are words of ours too. */
static void add_enum(struct names *names, const xmlNode *device, const char *enumeration,
                     const char *words, const char *prefix)
{
    if (!xml_attr_is(device, "supported", "yes"))
        return;
    for (const xmlNode *n = xml_child(device, "enum"); n; n = xml_next(n, "enum")) {
        if (!xml_attr_is(n, "name", enumeration))
            continue;
        for (const xmlNode *v = xml_child(n, "value"); v; v = xml_next(v, "value")) {
            _cleanup_(str_freep) char *value = xml_content(v);
            if (build_is_word(words, value))
                add_upper(names, prefix, value);
        }
    }
}

/* Of fdc there is none: this agent makes no floppies. */
static void add_devices(struct names *names, const char *domain_capabilities_xml)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (!domain_capabilities_xml || xml_parse(domain_capabilities_xml, "domain capabilities",
                                              "domainCapabilities", &doc, NULL) < 0)
        return;
    const xmlNode *root = xmlDocGetRootElement(doc);
    add_enum(names, xml_find(root, "devices/disk"), "bus", "virtio|scsi|ide|sata|usb",
             "COMPUTE_STORAGE_BUS_");
    add_enum(names, xml_find(root, "devices/video"), "modelType", BUILD_VIDEO_MODELS,
             "COMPUTE_GRAPHICS_MODEL_");
}

static void add_vif_models(struct names *names, const struct resources_traits *input)
{
    for (size_t i = 0; i < ARRAY_LEN(vif_models); i++)
        if ((!vif_models[i].archs || build_is_word(vif_models[i].archs, input->arch)) &&
            input->hypervisor_version >= vif_models[i].hypervisor &&
            input->libvirt_version >= vif_models[i].libvirt)
            add_upper(names, "COMPUTE_NET_VIF_MODEL_", vif_models[i].model);
}

static void add_image_types(struct names *names, const struct conf *conf)
{
    size_t count = 0;
    const char *const *excluded = conf_list(conf, CONF_compute_image_type_exclude_list, &count);
    for (size_t i = 0; i < ARRAY_LEN(image_types); i++) {
        bool wanted = true;
        for (size_t k = 0; k < count; k++)
            wanted = wanted && !text_equal(excluded[k], image_types[i]);
        if (wanted)
            add_upper(names, "COMPUTE_IMAGE_TYPE_", image_types[i]);
    }
}

/* [libvirt]cpu_model_extra_flags count too: guests get them whatever the model has. */
static void add_extra_flags(struct names *names, const struct conf *conf)
{
    size_t count = 0;
    const char *const *flags = conf_list(conf, CONF_libvirt_cpu_model_extra_flags, &count);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < ARRAY_LEN(cpu_traits); k++)
            if (flags[i][0] != '-' &&
                strcasecmp(flags[i] + strspn(flags[i], "+"), cpu_traits[k].feature) == 0)
                add(names, cpu_traits[k].trait);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **resources_traits(const struct resources_traits *input)
{
    struct names names = {0};
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        add(&names, always[i]);
    for (size_t i = 0; i < input->guest_cpu_count; i++)
        add_cpu(&names, input->guest_cpus[i]);
    for (size_t i = 0; i < input->domain_capabilities_count; i++)
        add_devices(&names, input->domain_capabilities[i]);
    if (input->guest_cpu_count)
        add_extra_flags(&names, input->conf);
    if (input->hyperthreading)
        add(&names, "HW_CPU_HYPERTHREADING");
    add_vif_models(&names, input);
    add_image_types(&names, input->conf);
    qsort(names.items, names.length, sizeof(char *), compare);
    *names_add(&names) = NULL;
    return names.items;
}
