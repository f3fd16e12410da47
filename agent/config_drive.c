/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config_drive.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>

#include "agent/base64.h"
#include "lib/json.h"
#include "lib/text.h"

enum { VENDOR_DATA_MAX = 4 << 20, SEED_SIZE = 512 };

/* What entered with which version (nova/api/metadata/base.py). "latest" has all. */
static const char *const ec2_versions[] = {"1.0",        "2007-01-19", "2007-03-01", "2007-08-29",
                                           "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
                                           "2009-04-04", "latest"};
static const char *const openstack_versions[] = {
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30",
    "2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest"};
#define GRIZZLY    "2013-04-04"
#define HAVANA     "2013-10-17"
#define LIBERTY    "2015-10-15"
#define NEWTON_ONE "2016-06-30"
#define NEWTON_TWO "2016-10-06"
#define VICTORIA   "2020-10-14"

struct drive {
    const struct conf *conf;
    const struct instance *instance;
    struct json_object *network_info; /* borrowed */
    const char *admin_password;
    char *hostname, *user_data;
    size_t user_data_length;
    struct json_object *content_list, *vendor_data, *network_data;
    struct json_object *out;
};

static void drive_clear(struct drive *d)
{
    free(d->hostname);
    free(d->user_data);
    json_object_put(d->content_list);
    json_object_put(d->vendor_data);
    json_object_put(d->network_data);
    json_object_put(d->out);
}

/* Versions are dates, except the first and "latest", which sort as they should. */
static bool since(const char *version, const char *required)
{
    return strcmp(version, required) >= 0;
}

static struct json_object *field(const struct drive *d, const char *name)
{
    return object_json(d->instance->object, name);
}

static struct json_object *nested(struct json_object *primitive)
{
    return json_get(primitive, "nova_object.data");
}

static void add_bytes(struct drive *d, char *name, const char *data, size_t length)
{
    json_add(d->out, name, json_object_new_string_len(data, (int)length));
    free(name);
}

static void add_json(struct drive *d, char *name, struct json_object *value)
{
    _cleanup_(str_freep) char *text = json_text(value);

    add_bytes(d, name, text, strlen(text));
}

/* --- what is read before ---------------------------------------------------------------------- */

static void read_hostname(struct drive *d)
{
    const char *domain = conf_string(d->conf, CONF_api_dhcp_domain);
    const char *name = object_string(d->instance->object, "hostname", "");

    d->hostname = domain && *domain ? text_format("%s.%s", name, domain) : text_dup(name);
}

static int read_user_data(struct drive *d, struct err *e)
{
    const char *text = object_string(d->instance->object, "user_data", NULL);

    if (!text)
        return 0;
    d->user_data = base64_decode(text, &d->user_data_length);
    if (!d->user_data)
        return err_set(e, ERR_INVALID, "the user data of instance %s is not base64",
                       instance_uuid(d->instance));
    return 0;
}

static bool has_vendor_data(const struct conf *conf)
{
    size_t count = 0;
    const char *const *providers = conf_list(conf, CONF_api_vendordata_providers, &count);

    for (size_t i = 0; i < count; i++)
        if (strcmp(providers[i], "StaticJSON") == 0)
            return true;
    return false;
}

static int load_vendor_data(struct drive *d, const char *path, struct err *e)
{
    _cleanup_(str_freep) char *text = mem_new(VENDOR_DATA_MAX);
    _cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t length = fd < 0 ? -1 : read(fd, text, VENDOR_DATA_MAX);

    if (length < 0)
        return err_set_errno(e, ERR_CONFIG, errno, "api.vendordata_jsonfile_path %s cannot be read",
                             path);
    if (length == VENDOR_DATA_MAX)
        return err_set(e, ERR_CONFIG, "api.vendordata_jsonfile_path %s has %d bytes or more", path,
                       VENDOR_DATA_MAX);
    if (json_parse(text, (size_t)length, &d->vendor_data, e) < 0)
        return err_prefix(e, "api.vendordata_jsonfile_path %s: ", path);
    return 0;
}

static int read_vendor_data(struct drive *d, struct err *e)
{
    const char *path = conf_string(d->conf, CONF_api_vendordata_jsonfile_path);

    if (!has_vendor_data(d->conf))
        return 0;
    if (path && *path)
        return load_vendor_data(d, path, e);
    d->vendor_data = json_object_new_object();
    return 0;
}

static int add_content(struct drive *d, struct json_object *file, size_t index, struct err *e)
{
    bool pair = json_array_length(file) == 2;
    const char *path = pair ? json_object_get_string(json_object_array_get_idx(file, 0)) : NULL;
    const char *text = pair ? json_object_get_string(json_object_array_get_idx(file, 1)) : NULL;
    _cleanup_(str_freep) char *content_path = text_format("/content/%04zu", index);
    struct json_object *entry = NULL;
    size_t length = 0;
    _cleanup_(str_freep) char *data = text ? base64_decode(text, &length) : NULL;

    if (!path || !data)
        return err_set(e, ERR_INVALID, "injected file %zu is no path with base64 content", index);
    entry = json_object_new_object();
    json_add_string(entry, "path", path);
    json_add_string(entry, "content_path", content_path);
    json_object_array_add(d->content_list, entry);
    add_bytes(d, text_format("openstack%s", content_path), data, length);
    return 0;
}

static int read_content(struct drive *d, struct json_object *injected, struct err *e)
{
    d->content_list = json_object_new_array();
    for (size_t i = 0; i < json_array_length(injected); i++)
        if (add_content(d, json_object_array_get_idx(injected, i), i, e) < 0)
            return -1;
    return 0;
}

/* --- EC2 -------------------------------------------------------------------------------------- */

static bool is_skipped(const struct conf *conf, const char *version)
{
    char **skipped = text_split(conf_string(conf, CONF_api_config_drive_skip_versions), ' ');
    bool found = false;

    for (size_t i = 0; skipped[i] && !found; i++)
        found = strcmp(skipped[i], version) == 0;
    text_vector_free(skipped);
    return found;
}

struct addresses {
    const char *fixed, *floating; /* the first ones */
};

static void read_address(struct addresses *a, struct json_object *ip)
{
    struct json_object *floating = json_get(ip, "floating_ips");

    if (!a->fixed && json_get_int(ip, "version", 4) == 4)
        a->fixed = json_get_string(ip, "address", NULL);
    if (!a->floating && json_array_length(floating) > 0)
        a->floating = json_get_string(json_object_array_get_idx(floating, 0), "address", NULL);
}

static void read_subnets(struct addresses *a, struct json_object *subnets)
{
    for (size_t i = 0; i < json_array_length(subnets); i++) {
        struct json_object *ips = json_get(json_object_array_get_idx(subnets, i), "ips");

        for (size_t j = 0; j < json_array_length(ips); j++)
            read_address(a, json_object_array_get_idx(ips, j));
    }
}

static struct addresses find_addresses(struct json_object *network_info)
{
    struct addresses a = {NULL, NULL};

    for (size_t i = 0; i < json_array_length(network_info); i++)
        read_subnets(&a, json_get(json_get(json_object_array_get_idx(network_info, i), "network"),
                                  "subnets"));
    return a;
}

static struct json_object *security_group_names(const struct drive *d)
{
    struct json_object *names = json_object_new_array();
    struct json_object *groups = json_get(nested(field(d, "security_groups")), "objects");

    for (size_t i = 0; i < json_array_length(groups); i++) {
        const char *name =
            json_get_string(nested(json_object_array_get_idx(groups, i)), "name", NULL);

        if (name)
            json_object_array_add(names, json_object_new_string(name));
    }
    return names;
}

static void add_public_key(const struct drive *d, struct json_object *o)
{
    const char *name = object_string(d->instance->object, "key_name", NULL);
    _cleanup_(str_freep) char *label = name ? text_format("0=%s", name) : NULL;
    struct json_object *keys = NULL, *key = NULL;

    if (!name || !*name)
        return;
    keys = json_object_new_object();
    key = json_object_new_object();
    json_add_string(key, "_name", label);
    json_add_string(key, "openssh-key", object_string(d->instance->object, "key_data", NULL));
    json_add(keys, "0", key);
    json_add(o, "public-keys", keys);
}

/* nova.block_device.instance_block_mapping, without volumes */
static struct json_object *block_devices(const struct drive *d)
{
    const struct object *instance = d->instance->object;
    const char *root = object_string(instance, "root_device_name", NULL);
    const char *ephemeral =
        object_string(instance, "default_ephemeral_device", root ? NULL : "sda2");
    const char *swap = object_string(instance, "default_swap_device", root ? NULL : "sda3");
    struct json_object *o = json_object_new_object();

    if (!root)
        root = "/dev/sda1";
    json_add_string(o, "ami", text_starts_with(root, "/dev/") ? root + 5 : root);
    json_add_string(o, "root", root);
    if (ephemeral)
        json_add_string(o, "ephemeral0", ephemeral);
    if (swap)
        json_add_string(o, "swap", swap);
    return o;
}

static void add_ec2_ids(const struct drive *d, struct json_object *o, const char *version)
{
    struct json_object *ids = nested(field(d, "ec2_ids"));
    const char *kernel = json_get_string(ids, "kernel_id", NULL);
    const char *ramdisk = json_get_string(ids, "ramdisk_id", NULL);

    json_add_string(o, "ami-id", json_get_string(ids, "ami_id", NULL));
    json_add_string(o, "instance-id", json_get_string(ids, "instance_id", NULL));
    if (since(version, "2007-12-15") && kernel)
        json_add_string(o, "kernel-id", kernel);
    if (since(version, "2007-12-15") && ramdisk)
        json_add_string(o, "ramdisk-id", ramdisk);
}

static void add_ec2_later(const struct drive *d, struct json_object *o, const char *version,
                          const char *floating)
{
    if (since(version, "2007-01-19")) {
        json_add_string(o, "local-hostname", d->hostname);
        json_add_string(o, "public-hostname", d->hostname);
        json_add_string(o, "public-ipv4", floating ? floating : "");
    }
    if (since(version, "2007-08-29"))
        json_add_string(o, "instance-type",
                        json_get_string(nested(field(d, "flavor")), "name", NULL));
    if (since(version, "2007-12-15"))
        json_add(o, "block-device-mapping", block_devices(d));
    if (since(version, "2008-02-01")) {
        struct json_object *placement = json_object_new_object();

        json_add_string(placement, "availability-zone", instance_availability_zone(d->instance));
        json_add(o, "placement", placement);
    }
    if (since(version, "2008-09-01"))
        json_add_string(o, "instance-action", "none");
}

static void add_ec2(struct drive *d, const char *version)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    struct addresses a = find_addresses(d->network_info);

    json_add_int(o, "ami-launch-index", object_int(d->instance->object, "launch_index", 0));
    json_add_string(o, "ami-manifest-path", "FIXME"); /* what Nova writes */
    json_add_string(o, "hostname", d->hostname);
    json_add_string(o, "local-ipv4", a.fixed);
    json_add_string(o, "reservation-id",
                    object_string(d->instance->object, "reservation_id", NULL));
    json_add(o, "security-groups", security_group_names(d));
    add_public_key(d, o);
    add_ec2_ids(d, o, version);
    add_ec2_later(d, o, version, a.floating);
    if (d->user_data)
        add_bytes(d, text_format("ec2/%s/user-data", version), d->user_data, d->user_data_length);
    add_json(d, text_format("ec2/%s/meta-data.json", version), o);
}

/* --- OpenStack -------------------------------------------------------------------------------- */

static void add_keys(const struct drive *d, struct json_object *o)
{
    struct json_object *pairs = json_get(nested(field(d, "keypairs")), "objects");
    struct json_object *pair = NULL, *by_name = NULL, *list = NULL, *key = NULL;
    const char *name = NULL;

    if (!*object_string(d->instance->object, "key_name", "") || json_array_length(pairs) == 0)
        return;
    pair = nested(json_object_array_get_idx(pairs, 0));
    name = json_get_string(pair, "name", "");
    by_name = json_object_new_object();
    json_add_string(by_name, name, json_get_string(pair, "public_key", NULL));
    json_add(o, "public_keys", by_name);
    key = json_object_new_object();
    json_add_string(key, "name", name);
    json_add_string(key, "type", json_get_string(pair, "type", "ssh"));
    json_add_string(key, "data", json_get_string(pair, "public_key", NULL));
    list = json_object_new_array();
    json_object_array_add(list, key);
    json_add(o, "keys", list);
}

static int add_seed(struct json_object *o, struct err *e)
{
    unsigned char seed[SEED_SIZE];
    _cleanup_(str_freep) char *text = NULL;

    for (size_t n = 0; n < sizeof(seed); n += 256) /* what getrandom() never cuts short */
        if (getrandom(seed + n, 256, 0) != 256)
            return err_set_errno(e, ERR_SYSTEM, errno, "no random numbers");
    text = base64_encode(seed, sizeof(seed));
    json_add_string(o, "random_seed", text);
    return 0;
}

static int add_later(const struct drive *d, struct json_object *o, const char *version,
                     struct err *e)
{
    if (since(version, GRIZZLY) && add_seed(o, e) < 0)
        return -1;
    if (since(version, LIBERTY))
        json_add_string(o, "project_id", instance_project_id(d->instance));
    if (since(version, NEWTON_ONE)) /* devices with tags, which this agent does not record */
        json_add(o, "devices", json_object_new_array());
    if (since(version, VICTORIA)) /* pinning, which this agent does not do */
        json_add(o, "dedicated_cpus", json_object_new_array());
    return 0;
}

static int add_meta_data(struct drive *d, const char *version, struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    struct json_object *meta = instance_metadata(d->instance);

    json_add_string(o, "uuid", instance_uuid(d->instance));
    if (json_object_is_type(meta, json_type_object) && json_object_object_length(meta) > 0)
        json_add(o, "meta", json_copy(meta));
    if (json_object_array_length(d->content_list) > 0)
        json_add(o, "files", json_object_get(d->content_list));
    if (d->admin_password && *d->admin_password)
        json_add_string(o, "admin_pass", d->admin_password);
    add_keys(d, o);
    json_add_string(o, "hostname", d->hostname);
    json_add_string(o, "name", instance_display_name(d->instance));
    json_add_int(o, "launch_index", object_int(d->instance->object, "launch_index", 0));
    json_add_string(o, "availability_zone", instance_availability_zone(d->instance));
    if (add_later(d, o, version, e) < 0)
        return -1;
    add_json(d, text_format("openstack/%s/meta_data.json", version), o);
    return 0;
}

static void add_vendor_data2(struct drive *d, const char *version)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();

    if (d->vendor_data)
        json_add(o, "static", json_object_get(d->vendor_data));
    add_json(d, text_format("openstack/%s/vendor_data2.json", version), o);
}

static int add_openstack(struct drive *d, const char *version, struct err *e)
{
    if (add_meta_data(d, version, e) < 0)
        return -1;
    if (d->user_data)
        add_bytes(d, text_format("openstack/%s/user_data", version), d->user_data,
                  d->user_data_length);
    if (since(version, HAVANA) && d->vendor_data)
        add_json(d, text_format("openstack/%s/vendor_data.json", version), d->vendor_data);
    if (since(version, LIBERTY))
        add_json(d, text_format("openstack/%s/network_data.json", version), d->network_data);
    if (since(version, NEWTON_TWO))
        add_vendor_data2(d, version);
    return 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

static int fill(struct drive *d, struct json_object *injected_files, struct err *e)
{
    if (read_user_data(d, e) < 0 || read_vendor_data(d, e) < 0 ||
        read_content(d, injected_files, e) < 0)
        return -1;
    read_hostname(d);
    d->network_data = config_drive_network_data(d->network_info);
    if (!d->network_data)
        d->network_data = json_object_new_object();
    for (size_t i = 0; i < ARRAY_LEN(ec2_versions); i++)
        if (!is_skipped(d->conf, ec2_versions[i]))
            add_ec2(d, ec2_versions[i]);
    for (size_t i = 0; i < ARRAY_LEN(openstack_versions); i++)
        if (add_openstack(d, openstack_versions[i], e) < 0)
            return -1;
    return 0;
}

int config_drive_files(const struct conf *conf, const struct instance *instance,
                       struct json_object *network_info, const char *admin_password,
                       struct json_object *injected_files, struct json_object **files,
                       struct err *e)
{
    _cleanup_(json_putp) struct json_object *cached = NULL;
    _cleanup_(drive_clear) struct drive d = {
        .conf = conf,
        .instance = instance,
        .network_info = network_info,
        .admin_password = admin_password,
        .out = json_object_new_object(),
    };

    if (!network_info) {
        if (instance_network_info(instance, &cached, e) < 0)
            return -1;
        d.network_info = cached;
    }
    if (fill(&d, injected_files, e) < 0)
        return err_prefix(e, "config drive: ");
    *files = STEAL(d.out);
    return 0;
}

bool config_drive_wanted(const struct conf *conf, const struct instance *instance)
{
    const char *asked = instance_config_drive(instance);
    const char *by_image =
        json_get_string(instance_system_metadata(instance), "image_img_config_drive", NULL);

    if ((asked && *asked) || text_equal(by_image, "mandatory"))
        return true;
    return conf_bool(conf, CONF_DEFAULT_force_config_drive) &&
           !object_string(instance->object, "launched_at", NULL);
}
