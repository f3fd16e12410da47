/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The versioned objects that we ask nova-conductor for, at Zed's versions: newer conductors give them at
 * these, and take them with newer fields inside (contract 2.2).
 */
#include "cloud/conductor.h"

#include <assert.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/object.h"

/* `holds`: classes of its fields, divided by blanks. */
static const struct object_class {
    const char *name, *version, *holds;
} classes[] = {
    {"BlockDeviceMapping", "1.21", "Instance"},
    {"BlockDeviceMappingList", "1.18", "BlockDeviceMapping"},
    {"ComputeNode", "1.19", "HVSpec PciDevicePoolList"},
    {"ComputeNodeList", "1.17", "ComputeNode"},
    {"ConsoleAuthToken", "1.1", ""},
    {"DeviceBus", "1.0", ""},
    {"DeviceMetadata", "1.0", "DeviceBus"},
    {"EC2Ids", "1.0", ""},
    {"Flavor", "1.2", ""},
    {"HVSpec", "1.2", ""},
    {"Instance", "2.7",
     "ServiceList InstanceInfoCache SecurityGroupList InstanceFault PciDeviceList "
     "InstanceNUMATopology InstancePCIRequests InstanceDeviceMetadata TagList Flavor VirtCPUModel "
     "EC2Ids MigrationContext ResourceList KeyPairList TrustedCerts"},
    {"InstanceAction", "1.2", ""},
    {"InstanceActionEvent", "1.4", ""},
    {"InstanceDeviceMetadata", "1.0", "DeviceMetadata"},
    {"InstanceFault", "1.2", ""},
    {"InstanceGroup", "1.11", ""},
    {"InstanceInfoCache", "1.5", ""},
    {"InstanceList", "2.6", "Instance"},
    {"InstanceMapping", "1.2", "CellMapping"},
    {"CellMapping", "1.1", ""},
    {"InstanceNUMACell", "1.6", "VirtCPUTopology"},
    {"InstanceNUMATopology", "1.3", "InstanceNUMACell"},
    {"InstancePCIRequest", "1.4", ""},
    {"InstancePCIRequests", "1.1", "InstancePCIRequest"},
    {"KeyPair", "1.4", ""},
    {"KeyPairList", "1.3", "KeyPair"},
    {"Migration", "1.7", ""},
    {"MigrationContext", "1.2",
     "InstanceNUMATopology PciDeviceList InstancePCIRequests ResourceList"},
    {"MigrationList", "1.5", "Migration"},
    {"PciDevice", "1.7", ""},
    {"PciDeviceList", "1.3", "PciDevice"},
    {"PciDevicePool", "1.1", ""},
    {"PciDevicePoolList", "1.1", "PciDevicePool"},
    {"Resource", "1.0", "ResourceMetadata"},
    {"ResourceList", "1.0", "Resource"},
    {"ResourceMetadata", "1.0", ""},
    {"SecurityGroup", "1.2", ""},
    {"SecurityGroupList", "1.1", "SecurityGroup"},
    {"Service", "1.22", "ComputeNode"},
    {"ServiceList", "1.19", "Service"},
    {"Tag", "1.1", ""},
    {"TagList", "1.1", "Tag"},
    {"TrustedCerts", "1.0", ""},
    {"VirtCPUFeature", "1.0", ""},
    {"VirtCPUModel", "1.0", "VirtCPUTopology VirtCPUFeature"},
    {"VirtCPUTopology", "1.0", ""},
    {"VirtualInterface", "1.3", ""},
    {"VirtualInterfaceList", "1.0", "VirtualInterface"},
};

static const struct object_class *find_class(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (text_equal(classes[i].name, name))
            return &classes[i];
    return NULL;
}

const char *conductor_class_version(const char *class_name)
{
    const struct object_class *row = find_class(class_name);

    return row ? row->version : NULL;
}

static void add_to_manifest(struct json_object *manifest, const char *name)
{
    const struct object_class *row = find_class(name);

    assert(row);
    if (json_has(manifest, name))
        return;
    json_add_string(manifest, name, row->version);
    char **held = text_split(row->holds, ' ');
    for (size_t i = 0; held[i]; i++)
        if (*held[i])
            add_to_manifest(manifest, held[i]);
    text_vector_free(held);
}

struct json_object *conductor_manifest(const char *class_name)
{
    struct json_object *manifest = json_object_new_object();

    add_to_manifest(manifest, class_name);
    return manifest;
}

struct object *conductor_object_new(const char *class_name)
{
    const char *version = conductor_class_version(class_name);

    assert(version);
    return object_new(class_name, version);
}

struct json_object *conductor_stamp(struct json_object *primitive)
{
    const char *version =
        conductor_class_version(json_get_string(primitive, "nova_object.name", NULL));

    if (!version || text_equal(json_get_string(primitive, "nova_object.version", NULL), version))
        return primitive;
    struct json_object *stamped = json_copy(primitive);
    json_object_put(primitive);
    json_add_string(stamped, "nova_object.version", version);
    return stamped;
}

bool conductor_failed_with(const struct err *failure, const char *wire_class)
{
    return failure && text_equal(err_wire_class(failure), wire_class);
}
