/* SPDX-License-Identifier: Apache-2.0 */
/* What a host has and can, from libvirt's words for it. */
#include "tests/unit/unit.h"

#include "lib/json.h"
#include "lib/text.h"
#include "virt/resources.h"

#define CAPABILITIES                                                                               \
    "<capabilities><host><cpu><arch>x86_64</arch><model>Nehalem</model><vendor>Intel</vendor>"     \
    "<topology sockets='1' dies='1' cores='2' threads='2'/><feature name='vmx'/></cpu>"            \
    "<topology><cells num='2'><cell id='0'><cpus num='1'><cpu id='0' "                             \
    "siblings='0%s'/></cpus></cell>"                                                               \
    "<cell id='1'><cpus num='1'><cpu id='1' "                                                      \
    "siblings='1'/></cpus></cell></cells></topology></host>"                                       \
    "<guest><os_type>hvm</os_type><arch name='i386'><domain type='qemu'/></arch></guest>"          \
    "<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/>"   \
    "</arch></guest>"                                                                              \
    "<guest><os_type>hvm</os_type><arch name='riscv64'><domain type='qemu'/></arch></guest>"       \
    "<guest><os_type>exe</os_type><arch name='x86_64'><domain type='lxc'/></arch></guest>"         \
    "</capabilities>"
#define CPU(features) "<cpu><model>Nehalem</model>" features "</cpu>"
#define DOMAIN_CAPABILITIES                                                                        \
    "<domainCapabilities><devices><disk supported='yes'><enum "                                    \
    "name='diskDevice'><value>lun</value>"                                                         \
    "</enum><enum "                                                                                \
    "name='bus'><value>ide</value><value>fdc</value><value>virtio</value></enum></disk>"           \
    "<video supported='yes'><enum name='modelType'><value>vga</value><value>ramfb</value></enum>"  \
    "</video></devices></domainCapabilities>"

static char *capabilities(const char *sibling)
{
    return text_format(CAPABILITIES, sibling);
}

UNIT_TEST(cpu_info, "the CPU is told as Nova tells it, with all its features by name")
{
    _cleanup_(str_freep) char *xml = capabilities("");
    struct virt_resources r = {0};
    UNIT_OK(resources_capabilities(
        xml, CPU("<feature name='sse'/><feature name='vmx' policy='disable'/>"), &r, &unit_err));
    _cleanup_(str_freep) char *text = json_text(r.cpu_info);
    UNIT_STR(text, "{\"arch\":\"x86_64\",\"model\":\"Nehalem\",\"vendor\":\"Intel\",\"topology\":"
                   "{\"cells\":2,\"sockets\":1,\"cores\":2,\"threads\":2},\"features\":[\"sse\"]}");
    _cleanup_(str_freep) char *kinds = json_text(r.supported_instances);
    UNIT_STR(kinds, "[[\"i686\",\"qemu\",\"hvm\"],[\"x86_64\",\"qemu\",\"hvm\"],"
                    "[\"x86_64\",\"kvm\",\"hvm\"]]");
    json_object_put(r.cpu_info);
    json_object_put(r.supported_instances);
    UNIT_OK(resources_capabilities(xml, NULL, &r, &unit_err));
    _cleanup_(str_freep) char *plain = json_text(r.cpu_info);
    UNIT_HAS(plain, "\"features\":[\"vmx\"]");
    json_object_put(r.cpu_info);
    json_object_put(r.supported_instances);
    UNIT_FAILS(resources_capabilities("<x/>", NULL, &r, &unit_err), ERR_PARSE);
}

UNIT_TEST(cpu_texts, "the host's CPU and a model's are XML that libvirt expands")
{
    _cleanup_(str_freep) char *xml = capabilities("");
    _cleanup_(str_freep) char *host = resources_host_cpu(xml);
    _cleanup_(str_freep) char *model = resources_model_cpu("x86_64", "a<b");
    UNIT_HAS(host, "<model>Nehalem</model>");
    UNIT_STR(model, "<cpu><arch>x86_64</arch><model>a&lt;b</model></cpu>");
    UNIT_TRUE(!resources_host_cpu("<capabilities><host><cpu/></host></capabilities>"));
}

static bool has(char *const *traits, const char *name)
{
    for (; *traits; traits++)
        if (strcmp(*traits, name) == 0)
            return true;
    return false;
}

static char **traits_of(const char *option, const char *value, int64_t hypervisor)
{
    struct conf *conf =
        conf_for_test(option ? option : "libvirt.virt_type", option ? value : "qemu", NULL);
    const char *const cpus[] = {CPU("<feature name='aes'/><feature name='svm'/>"
                                    "<feature name='avx' policy='disable'/><feature name='odd'/>")};
    const char *const domains[] = {DOMAIN_CAPABILITIES, NULL};
    const struct resources_traits input = {
        .conf = conf,
        .arch = "x86_64",
        .hyperthreading = true,
        .guest_cpus = cpus,
        .guest_cpu_count = 1,
        .domain_capabilities = domains,
        .domain_capabilities_count = 2,
        .hypervisor_version = hypervisor,
        .libvirt_version = hypervisor ? 9003000 : 0,
    };
    char **traits = resources_traits(&input);
    conf_unref(conf);
    return traits;
}

UNIT_TEST(traits, "traits are those of the guests' CPU, of libvirt's devices, and of what is built")
{
    char **t = traits_of(NULL, NULL, 0);
    UNIT_TRUE(has(t, "HW_CPU_X86_AESNI") && has(t, "HW_CPU_X86_SVM"));
    UNIT_TRUE(has(t, "HW_CPU_X86_AMD_SVM") && !has(t, "HW_CPU_X86_AVX"));
    UNIT_TRUE(has(t, "HW_CPU_HYPERTHREADING") && has(t, "COMPUTE_NODE"));
    UNIT_TRUE(has(t, "COMPUTE_STORAGE_BUS_IDE") && has(t, "COMPUTE_STORAGE_BUS_VIRTIO"));
    UNIT_TRUE(!has(t, "COMPUTE_STORAGE_BUS_FDC") && !has(t, "COMPUTE_STORAGE_BUS_SATA"));
    UNIT_TRUE(has(t, "COMPUTE_GRAPHICS_MODEL_VGA") && !has(t, "COMPUTE_GRAPHICS_MODEL_RAMFB"));
    UNIT_TRUE(has(t, "COMPUTE_NET_VIF_MODEL_NE2K_PCI") && !has(t, "COMPUTE_NET_VIF_MODEL_IGB"));
    UNIT_TRUE(!has(t, "COMPUTE_NET_VIF_MODEL_SPAPR_VLAN"));
    UNIT_TRUE(has(t, "COMPUTE_IMAGE_TYPE_QCOW2") && has(t, "COMPUTE_IMAGE_TYPE_ISO"));
    UNIT_TRUE(!has(t, "COMPUTE_DEVICE_TAGGING") && !has(t, "COMPUTE_RESCUE_BFV"));
    for (size_t i = 1; t[i]; i++)
        UNIT_TRUE(strcmp(t[i - 1], t[i]) < 0);
    text_vector_free(t);
    t = traits_of("compute.image_type_exclude_list", "qcow2", 8000000);
    UNIT_TRUE(!has(t, "COMPUTE_IMAGE_TYPE_QCOW2") && has(t, "COMPUTE_NET_VIF_MODEL_IGB"));
    text_vector_free(t);
    t = traits_of("libvirt.cpu_model_extra_flags", "+AVX2,-fma", 0);
    UNIT_TRUE(has(t, "HW_CPU_X86_AVX2") && !has(t, "HW_CPU_X86_FMA3"));
    text_vector_free(t);
}

UNIT_TEST(hyperthreading, "a core has threads when a CPU has siblings")
{
    _cleanup_(str_freep) char *without = capabilities(""), *with = capabilities(",2");
    UNIT_TRUE(!resources_hyperthreading(without));
    UNIT_TRUE(resources_hyperthreading(with));
}

UNIT_TEST(cpu_sets, "a set of CPUs counts each once, less those excluded")
{
    int count = 0;
    UNIT_OK(resources_cpu_set("0-3,^2, 8,1", &count, &unit_err));
    UNIT_EQ(count, 4);
    UNIT_OK(resources_cpu_set("^1,0-1", &count, &unit_err));
    UNIT_EQ(count, 1);
    UNIT_FAILS(resources_cpu_set("3-1", &count, &unit_err), ERR_CONFIG);
    UNIT_FAILS(resources_cpu_set("a", &count, &unit_err), ERR_CONFIG);
    UNIT_FAILS(resources_cpu_set("1-2-3", &count, &unit_err), ERR_CONFIG);
    UNIT_FAILS(resources_cpu_set("0,^0", &count, &unit_err), ERR_CONFIG);
    UNIT_FAILS(resources_cpu_set("0,", &count, &unit_err), ERR_CONFIG);
}

UNIT_TEST(files, "disk and uptime are read from this machine")
{
    struct conf *conf = conf_for_test("DEFAULT.instances_path", unit_directory(), NULL);
    struct virt_resources r = {0};
    _cleanup_(str_freep) char *uptime = resources_uptime();
    UNIT_OK(resources_storage(conf, &r, &unit_err));
    UNIT_TRUE(r.local_gb >= r.local_used_gb && r.disk_available_least_gb <= r.local_gb);
    UNIT_HAS(uptime, " up ");
    UNIT_HAS(uptime, "load average: ");
    conf_unref(conf);
}
