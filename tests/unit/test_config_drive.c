/* SPDX-License-Identifier: Apache-2.0 */
/* What instances are told about themselves: config drive files, network data, Nova's metadata element. */
#include "tests/unit/unit.h"

#include "agent/base64.h"
#include "agent/config_drive.h"
#include "agent/instance_metadata.h"
#include "lib/json.h"
#include "tests/unit/capture.h"
#include "virt/nova_metadata.h"

static struct json_object *message, *files;
static struct instance *instance;
static struct conf *conf;

static void setup(void)
{
    message = capture_load("boot-delete/008-compute.os-hosta-build_and_run_instance.json");
    conf = conf_for_test("DEFAULT.debug", "false", NULL);
    if (instance_from_json(json_get(json_get(message, "args"), "instance"), &instance, NULL) < 0)
        instance = NULL;
}

static void teardown(void)
{
    json_object_put(files);
    files = NULL;
    instance_free(instance);
    instance = NULL;
    json_object_put(message);
    conf_unref(conf);
}

UNIT_FIXTURE(setup, teardown)

static void set(const char *field, const char *json)
{
    struct json_object *value = NULL;

    UNIT_OK(json_parse(json, strlen(json), &value, &unit_err));
    object_set_json(instance->object, field, value);
}

static struct json_object *parse(const char *json)
{
    struct json_object *value = NULL;

    UNIT_OK(json_parse(json, strlen(json), &value, &unit_err));
    return value;
}

static int make(struct json_object *network_info, const char *password,
                struct json_object *injected)
{
    json_object_put(files);
    files = NULL;
    return config_drive_files(conf, instance, network_info, password, injected, &files, &unit_err);
}

/* A file of the drive, parsed; the caller puts it. */
static struct json_object *file(const char *name)
{
    struct json_object *text = json_get(files, name), *value = NULL;

    if (UNIT_TRUE(text != NULL))
        UNIT_OK(json_parse(json_object_get_string(text), (size_t)json_object_get_string_len(text),
                           &value, &unit_err));
    return value;
}

/* --- base64 ------------------------------------------------------------------------------------ */

static void check_base64(const char *text, const char *expected)
{
    size_t length = 99;
    _cleanup_(str_freep) char *out = base64_decode(text, &length);

    UNIT_STR(out, expected);
    if (out)
        UNIT_EQ(length, strlen(expected));
}

UNIT_TEST(decode, "base64 is read as RFC 4648 has it, white space passed over, the rest refused")
{
    check_base64("", "");
    check_base64("Zg==", "f");
    check_base64("Zm8=", "fo");
    check_base64("Zm9v", "foo");
    check_base64("Zm9v\nYmFy\n", "foobar");
    check_base64("/+8=", "\xff\xef");
    check_base64("Zg=", NULL);
    check_base64("Zg", NULL);
    check_base64("Z", NULL);
    check_base64("Zg==Zg==", NULL);
    check_base64("Zm9v!", NULL);
    check_base64("====", NULL);
}

UNIT_TEST(encode, "what is encoded is decoded again, byte by byte")
{
    char data[64];

    for (size_t i = 0; i < sizeof(data); i++) {
        size_t length = 0;
        _cleanup_(str_freep) char *text = NULL;
        _cleanup_(str_freep) char *back = NULL;

        data[i] = (char)(i * 37);
        text = base64_encode(data, i);
        back = base64_decode(text, &length);
        UNIT_EQ(length, i);
        UNIT_TRUE(back && memcmp(back, data, i) == 0);
    }
}

/* --- meta_data.json ---------------------------------------------------------------------------- */

UNIT_TEST(meta_data, "meta_data.json tells of a recorded instance what Nova tells")
{
    _cleanup_(json_putp) struct json_object *latest = NULL;
    _cleanup_(json_putp) struct json_object *oldest = NULL;

    set("metadata", "{\"role\": \"web\"}");
    UNIT_OK(make(NULL, "secret", NULL));
    latest = file("openstack/latest/meta_data.json");
    UNIT_STR(json_get_string(latest, "uuid", NULL), "f54599db-972c-4dc7-83a7-e708e83972ff");
    UNIT_STR(json_get_string(latest, "hostname", NULL), "cap1.novalocal");
    UNIT_STR(json_get_string(latest, "name", NULL), "cap1");
    UNIT_STR(json_get_string(latest, "availability_zone", NULL), "nova");
    UNIT_STR(json_get_string(latest, "project_id", NULL), "42fc262f986f4f95819d230793bce254");
    UNIT_STR(json_get_string(latest, "admin_pass", NULL), "secret");
    UNIT_STR(json_get_string(json_get(latest, "meta"), "role", NULL), "web");
    UNIT_EQ(strlen(json_get_string(latest, "random_seed", "")), 684);
    UNIT_TRUE(json_has(latest, "devices") && json_has(latest, "dedicated_cpus"));
    UNIT_TRUE(!json_has(latest, "public_keys") && !json_has(latest, "files"));
    oldest = file("openstack/2012-08-10/meta_data.json");
    UNIT_TRUE(!json_has(oldest, "random_seed") && !json_has(oldest, "project_id"));
    UNIT_STR(json_get_string(oldest, "hostname", NULL), "cap1.novalocal");
}

UNIT_TEST(versions, "each version has the files that it had then")
{
    UNIT_OK(make(NULL, NULL, NULL));
    UNIT_TRUE(!json_has(files, "openstack/2013-04-04/vendor_data.json"));
    UNIT_TRUE(json_has(files, "openstack/2013-10-17/vendor_data.json"));
    UNIT_TRUE(!json_has(files, "openstack/2013-10-17/network_data.json"));
    UNIT_TRUE(json_has(files, "openstack/2015-10-15/network_data.json"));
    UNIT_TRUE(!json_has(files, "openstack/2016-06-30/vendor_data2.json"));
    UNIT_TRUE(json_has(files, "openstack/2016-10-06/vendor_data2.json"));
    UNIT_TRUE(json_has(files, "openstack/2020-10-14/meta_data.json"));
    UNIT_TRUE(!json_has(files, "openstack/latest/user_data"));
    UNIT_TRUE(!json_has(files, "ec2/2008-09-01/meta-data.json"));
    UNIT_TRUE(json_has(files, "ec2/2009-04-04/meta-data.json"));
    UNIT_TRUE(json_has(files, "ec2/latest/meta-data.json"));
    UNIT_EQ(json_object_object_length(files), 2 + 10 + 8 + 7 + 5);
}

UNIT_TEST(no_domain, "an empty dhcp_domain leaves the host name bare")
{
    _cleanup_(json_putp) struct json_object *latest = NULL;

    conf_unref(conf);
    conf = conf_for_test("api.dhcp_domain", "", NULL);
    UNIT_OK(make(NULL, NULL, NULL));
    latest = file("openstack/latest/meta_data.json");
    UNIT_STR(json_get_string(latest, "hostname", NULL), "cap1");
    UNIT_TRUE(!json_has(latest, "admin_pass"));
}

UNIT_TEST(keys, "a key pair is told in the three forms that cloud-init and others read")
{
    _cleanup_(json_putp) struct json_object *latest = NULL;
    _cleanup_(json_putp) struct json_object *ec2 = NULL;
    struct json_object *key = NULL;

    object_set_string(instance->object, "key_name", "mine");
    object_set_string(instance->object, "key_data", "ssh-ed25519 AAAA me");
    set("keypairs", "{\"nova_object.name\": \"KeyPairList\", \"nova_object.data\": {\"objects\": "
                    "[{\"nova_object.data\": {\"name\": \"mine\", \"type\": \"ssh\", "
                    "\"public_key\": \"ssh-ed25519 AAAA me\"}}]}}");
    UNIT_OK(make(NULL, NULL, NULL));
    latest = file("openstack/latest/meta_data.json");
    UNIT_STR(json_get_string(json_get(latest, "public_keys"), "mine", NULL), "ssh-ed25519 AAAA me");
    key = json_object_array_get_idx(json_get(latest, "keys"), 0);
    UNIT_STR(json_get_string(key, "data", NULL), "ssh-ed25519 AAAA me");
    UNIT_STR(json_get_string(key, "type", NULL), "ssh");
    ec2 = file("ec2/latest/meta-data.json");
    key = json_get(json_get(ec2, "public-keys"), "0");
    UNIT_STR(json_get_string(key, "_name", NULL), "0=mine");
    UNIT_STR(json_get_string(key, "openssh-key", NULL), "ssh-ed25519 AAAA me");
}

UNIT_TEST(user_data, "user data is decoded, NULs kept; what is no base64 is refused")
{
    struct json_object *data = NULL;

    object_set_string(instance->object, "user_data", "I2EAYg==");
    UNIT_OK(make(NULL, NULL, NULL));
    data = json_get(files, "openstack/latest/user_data");
    UNIT_EQ(json_object_get_string_len(data), 4);
    UNIT_TRUE(data && memcmp(json_object_get_string(data), "#a\0b", 4) == 0);
    UNIT_TRUE(json_has(files, "ec2/latest/user-data"));
    UNIT_TRUE(json_has(files, "openstack/2012-08-10/user_data"));
    object_set_string(instance->object, "user_data", "not base64!");
    UNIT_FAILS(make(NULL, NULL, NULL), ERR_INVALID);
    UNIT_HAS(unit_err.text, "base64");
}

UNIT_TEST(injected, "injected files lie below content, and meta_data.json names their paths")
{
    _cleanup_(json_putp) struct json_object *list =
        parse("[[\"/etc/motd\", \"aGVsbG8=\"], [\"/root/x\", \"eA==\"]]");
    _cleanup_(json_putp) struct json_object *bad = parse("[[\"/etc/motd\", \"!\"]]");
    _cleanup_(json_putp) struct json_object *odd = parse("[\"/etc/motd\"]");
    _cleanup_(json_putp) struct json_object *latest = NULL;
    struct json_object *second = NULL;

    UNIT_OK(make(NULL, NULL, list));
    UNIT_STR(json_get_string(files, "openstack/content/0000", NULL), "hello");
    latest = file("openstack/latest/meta_data.json");
    second = json_object_array_get_idx(json_get(latest, "files"), 1);
    UNIT_STR(json_get_string(second, "path", NULL), "/root/x");
    UNIT_STR(json_get_string(second, "content_path", NULL), "/content/0001");
    UNIT_FAILS(make(NULL, NULL, bad), ERR_INVALID);
    UNIT_FAILS(make(NULL, NULL, odd), ERR_INVALID);
}

UNIT_TEST(vendor_data, "vendor data is the administrator's JSON file, which must be one")
{
    _cleanup_(json_putp) struct json_object *one = NULL;
    _cleanup_(json_putp) struct json_object *two = NULL;
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/vendor.json", unit_directory());
    unit_write_file(path, "{\"cloud-init\": \"x\"}");
    conf_unref(conf);
    conf = conf_for_test("api.vendordata_jsonfile_path", path, NULL);
    UNIT_OK(make(NULL, NULL, NULL));
    one = file("openstack/latest/vendor_data.json");
    two = file("openstack/latest/vendor_data2.json");
    UNIT_STR(json_get_string(one, "cloud-init", NULL), "x");
    UNIT_STR(json_get_string(json_get(two, "static"), "cloud-init", NULL), "x");
    unit_write_file(path, "no JSON");
    UNIT_FAILS(make(NULL, NULL, NULL), ERR_PARSE);
    UNIT_HAS(unit_err.text, path);
    (void)remove(path);
    UNIT_FAILS(make(NULL, NULL, NULL), ERR_CONFIG);
}

UNIT_TEST(ec2, "EC2's meta-data.json has the ids and addresses that Nova gives")
{
    _cleanup_(json_putp) struct json_object *network =
        parse("[{\"id\": \"p\", \"network\": {\"subnets\": [{\"version\": 4, \"ips\": "
              "[{\"address\": \"203.0.113.7\", \"version\": 4, \"floating_ips\": "
              "[{\"address\": \"198.51.100.9\"}]}]}]}}]");
    _cleanup_(json_putp) struct json_object *o = NULL;

    UNIT_OK(make(network, NULL, NULL));
    o = file("ec2/latest/meta-data.json");
    UNIT_STR(json_get_string(o, "ami-id", NULL), "ami-00000001");
    UNIT_STR(json_get_string(o, "instance-id", NULL), "i-00000001");
    UNIT_STR(json_get_string(o, "kernel-id", NULL), "aki-00000002");
    UNIT_STR(json_get_string(o, "local-ipv4", NULL), "203.0.113.7");
    UNIT_STR(json_get_string(o, "public-ipv4", NULL), "198.51.100.9");
    UNIT_STR(json_get_string(o, "instance-type", NULL), "m1.tiny");
    UNIT_STR(json_get_string(o, "reservation-id", NULL), "r-5lweg7m7");
    UNIT_STR(json_get_string(json_get(o, "block-device-mapping"), "root", NULL), "/dev/sda1");
    object_set_string(instance->object, "root_device_name", "/dev/vda");
    json_object_put(o);
    UNIT_OK(make(network, NULL, NULL));
    o = file("ec2/latest/meta-data.json");
    UNIT_STR(json_get_string(json_get(o, "block-device-mapping"), "ami", NULL), "vda");
    UNIT_TRUE(!json_has(json_get(o, "block-device-mapping"), "swap"));
}

UNIT_TEST(wanted,
          "a config drive is made when asked for, wanted by the image or forced on new guests")
{
    UNIT_TRUE(!config_drive_wanted(conf, instance));
    object_set_string(instance->object, "config_drive", "True");
    UNIT_TRUE(config_drive_wanted(conf, instance));
    object_set_string(instance->object, "config_drive", "");
    set("system_metadata", "{\"image_img_config_drive\": \"mandatory\"}");
    UNIT_TRUE(config_drive_wanted(conf, instance));
    set("system_metadata", "{\"image_img_config_drive\": \"optional\"}");
    UNIT_TRUE(!config_drive_wanted(conf, instance));
    conf_unref(conf);
    conf = conf_for_test("DEFAULT.force_config_drive", "true", NULL);
    UNIT_TRUE(config_drive_wanted(conf, instance));
    object_set_string(instance->object, "launched_at", "2026-11-21T20:45:32Z");
    UNIT_TRUE(!config_drive_wanted(conf, instance));
}

/* --- network_data.json ------------------------------------------------------------------------- */

static const char two_subnets[] =
    "[{\"id\": \"port-1\", \"address\": \"fa:16:3e:00:00:01\", \"devname\": \"tapport-1\","
    "  \"type\": \"ovs\", \"network\": {\"id\": \"net-1\", \"meta\": {\"mtu\": 1450}, \"subnets\": "
    "["
    "   {\"version\": 4, \"cidr\": \"203.0.113.64/26\", \"meta\": {},"
    "    \"gateway\": {\"address\": \"203.0.113.65\"},"
    "    \"dns\": [{\"address\": \"203.0.113.2\"}, {\"address\": \"203.0.113.3\"}],"
    "    \"routes\": [{\"cidr\": \"198.51.100.77/24\", \"gateway\": {\"address\": "
    "\"203.0.113.66\"}}],"
    "    \"ips\": [{\"address\": \"203.0.113.70\", \"version\": 4}]},"
    "   {\"version\": 6, \"cidr\": \"2001:db8::/64\", \"meta\": {\"ipv6_address_mode\": \"slaac\"},"
    "    \"gateway\": {\"address\": \"2001:db8::1\"}, \"dns\": [{\"address\": \"203.0.113.2\"}],"
    "    \"routes\": [], \"ips\": [{\"address\": \"2001:db8::7\", \"version\": 6}]}]}},"
    " {\"id\": \"port-2\", \"address\": \"fa:16:3e:00:00:02\", \"type\": \"macvtap\","
    "  \"network\": {\"id\": \"net-2\", \"meta\": {\"mtu\": 1500}, \"subnets\": ["
    "   {\"version\": 4, \"cidr\": \"198.51.100.0/24\", \"meta\": {\"dhcp_server\": "
    "\"198.51.100.2\"},"
    "    \"gateway\": {\"address\": null}, \"dns\": [], \"routes\": [],"
    "    \"ips\": [{\"address\": \"198.51.100.7\", \"version\": 4}]}]}},"
    " {\"id\": \"port-3\", \"network\": {\"id\": \"net-3\", \"subnets\": []}}]";

static const char two_subnets_data[] =
    "{\"links\": [{\"id\": \"tapport-1\", \"vif_id\": \"port-1\", \"type\": \"ovs\", \"mtu\": 1450,"
    "  \"ethernet_mac_address\": \"fa:16:3e:00:00:01\"},"
    " {\"id\": \"interface1\", \"vif_id\": \"port-2\", \"type\": \"phy\", \"mtu\": null,"
    "  \"ethernet_mac_address\": \"fa:16:3e:00:00:02\"}],"
    " \"networks\": [{\"id\": \"network0\", \"type\": \"ipv4\", \"link\": \"tapport-1\","
    "  \"network_id\": \"net-1\", \"ip_address\": \"203.0.113.70\", \"netmask\": "
    "\"255.255.255.192\","
    "  \"routes\": [{\"network\": \"0.0.0.0\", \"netmask\": \"0.0.0.0\", \"gateway\": "
    "\"203.0.113.65\"},"
    "   {\"network\": \"198.51.100.0\", \"netmask\": \"255.255.255.0\", \"gateway\": "
    "\"203.0.113.66\"}],"
    "  \"services\": [{\"type\": \"dns\", \"address\": \"203.0.113.2\"},"
    "   {\"type\": \"dns\", \"address\": \"203.0.113.3\"}]},"
    " {\"id\": \"network1\", \"type\": \"ipv6_slaac\", \"link\": \"tapport-1\","
    "  \"network_id\": \"net-1\", \"ip_address\": \"2001:db8::7\", \"netmask\": "
    "\"ffff:ffff:ffff:ffff::\","
    "  \"routes\": [{\"network\": \"::\", \"netmask\": \"::\", \"gateway\": \"2001:db8::1\"}],"
    "  \"services\": [{\"type\": \"dns\", \"address\": \"203.0.113.2\"}]},"
    " {\"id\": \"network2\", \"type\": \"ipv4_dhcp\", \"link\": \"interface1\","
    "  \"network_id\": \"net-2\"}],"
    " \"services\": [{\"type\": \"dns\", \"address\": \"203.0.113.2\"},"
    "  {\"type\": \"dns\", \"address\": \"203.0.113.3\"}]}";

UNIT_TEST(network_data, "network_data.json has links, networks and services as Nova makes them")
{
    _cleanup_(json_putp) struct json_object *vifs = parse(two_subnets);
    _cleanup_(json_putp) struct json_object *expected = parse(two_subnets_data);
    _cleanup_(json_putp) struct json_object *data = config_drive_network_data(vifs);
    _cleanup_(str_freep) char *text = json_text(data);

    if (!UNIT_TRUE(json_same(data, expected)))
        printf("# %s\n", text);
}

UNIT_TEST(no_network, "without ports network_data.json is empty")
{
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    UNIT_TRUE(config_drive_network_data(none) == NULL);
    UNIT_OK(make(none, NULL, NULL));
    UNIT_STR(json_get_string(files, "openstack/latest/network_data.json", NULL), "{}");
}

UNIT_TEST(odd_network, "network information that is not what it should be makes nothing fall over")
{
    static const char *const odd[] = {
        "[1, null, \"x\", []]",
        "[{\"network\": null}]",
        "[{\"network\": {\"subnets\": {\"a\": 1}}}]",
        "[{\"network\": {\"subnets\": [{\"version\": 4, \"ips\": [null], \"cidr\": \"x/99\","
        " \"routes\": [{\"cidr\": \"1.2.3.4\"}, 7], \"dns\": [3]}]}}]",
    };

    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        _cleanup_(json_putp) struct json_object *vifs = parse(odd[i]);
        _cleanup_(str_freep) char *xml = NULL;

        UNIT_OK(make(vifs, NULL, NULL));
        xml = instance_metadata_xml(instance, vifs);
        UNIT_HAS(xml, "</nova:instance>");
    }
}

/* --- Nova's element in the domain --------------------------------------------------------------- */

UNIT_TEST(element, "the metadata element is what nova-compute writes")
{
    const struct nova_metadata_ip ips[] = {{"fixed", "203.0.113.7", 4}};
    const struct nova_metadata_port ports[] = {{"port-1", ips, 1}, {"port-2", NULL, 0}};
    const struct nova_metadata m = {
        .package = "26.2.2",
        .name = "web & <db>",
        .created_us = INT64_C(1763626530) * 1000000,
        .flavor = "m1.small",
        .memory_mb = 2048,
        .disk_gb = 20,
        .vcpus = 2,
        .user_id = "u",
        .user_name = "demo",
        .project_id = "p",
        .project_name = "demo project",
        .image_id = "33333333-3333-3333-3333-333333333333",
        .ports = ports,
        .port_count = 2,
    };
    _cleanup_(str_freep) char *xml = nova_metadata_xml(&m);

    UNIT_STR(xml,
             "<nova:instance xmlns:nova=\"http://openstack.org/xmlns/libvirt/nova/1.1\">"
             "<nova:package version=\"26.2.2\"/><nova:name>web &amp; &lt;db&gt;</nova:name>"
             "<nova:creationTime>2025-11-20 08:15:30</nova:creationTime>"
             "<nova:flavor name=\"m1.small\"><nova:memory>2048</nova:memory><nova:disk>20"
             "</nova:disk><nova:swap>0</nova:swap><nova:ephemeral>0</nova:ephemeral>"
             "<nova:vcpus>2</nova:vcpus></nova:flavor><nova:owner><nova:user uuid=\"u\">demo"
             "</nova:user><nova:project uuid=\"p\">demo project</nova:project></nova:owner>"
             "<nova:root type=\"image\" uuid=\"33333333-3333-3333-3333-333333333333\"/>"
             "<nova:ports><nova:port uuid=\"port-1\"><nova:ip type=\"fixed\" "
             "address=\"203.0.113.7\" ipVersion=\"4\"/></nova:port><nova:port uuid=\"port-2\"/>"
             "</nova:ports></nova:instance>");
}

UNIT_TEST(hostile_element, "what XML cannot hold never reaches the domain")
{
    const struct nova_metadata m = {.package = "]]>\"'",
                                    .name = "a\x01\xff"
                                            "b</nova:name>\xef\xbf\xbe",
                                    .image_id = "\"/>"};
    _cleanup_(str_freep) char *xml = nova_metadata_xml(&m);

    UNIT_HAS(xml, "<nova:name>a??b&lt;/nova:name&gt;?</nova:name>");
    UNIT_HAS(xml, "uuid=\"&quot;/&gt;\"");
    UNIT_HAS(xml, "version=\"]]&gt;&quot;'\"");
}

UNIT_TEST(from_instance, "the element tells of a recorded instance whose it is and what it has")
{
    _cleanup_(str_freep) char *xml = instance_metadata_xml(instance, NULL);

    UNIT_HAS(xml, "<nova:name>cap1</nova:name>");
    UNIT_HAS(xml, "<nova:flavor name=\"m1.tiny\"><nova:memory>256</nova:memory>");
    UNIT_HAS(xml, "<nova:user uuid=\"96315a9261c74b4d85d3d45b6f8e5ef2\">admin</nova:user>");
    UNIT_HAS(xml, "<nova:root type=\"image\" uuid=\"b7c668fe-90f7-4470-b48c-2337a02ca73b\"/>");
    UNIT_HAS(xml, "<nova:ports/>");
}
