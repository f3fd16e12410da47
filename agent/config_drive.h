/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cloud-init reads: the files of an instance's config drive, as Nova's metadata service would give
 * them (nova/api/metadata/base.py and nova/virt/netutils.py of Zed):
 *
 *     openstack/<version>/meta_data.json, user_data, vendor_data.json, network_data.json, vendor_data2.json
 *     openstack/content/0000...           injected files
 *     ec2/<version>/meta-data.json, user-data
 *
 * for the OpenStack versions 2012-08-10 to 2020-10-14 and "latest", each with what it had then, and the EC2
 * versions that [api] config_drive_skip_versions leaves. Names get [api] dhcp_domain behind them.
 *
 * No network template is rendered ([DEFAULT] injected_network_template), no dynamic vendor data is fetched.
 */
#pragma once

#include <json-c/json_object.h>

#include "cloud/views.h"
#include "conf/conf.h"
#include "lib/err.h"

/*
 * True if this instance gets a config drive: it was asked for, the image wants one (img_config_drive:
 * mandatory), or [DEFAULT] force_config_drive is set and it was never launched.
 */
bool config_drive_wanted(const struct conf *conf, const struct instance *instance);

/*
 * *files: a new JSON object {"openstack/latest/meta_data.json": content, ...}. Contents are bytes and may
 * hold NULs (user data is often compressed): read them with json_object_get_string_len().
 *
 * network_info: array of VIFs as in the info cache; NULL = that cache. admin_password: NULL or "" = none.
 * injected_files: array of [path, base64 content] as build_and_run_instance brings it; NULL = none.
 * ERR_INVALID for contents that are not base64, ERR_CONFIG for a vendor data file that cannot be read.
 * Any thread; reads [api] vendordata_jsonfile_path, otherwise pure.
 */
int config_drive_files(const struct conf *conf, const struct instance *instance,
                       struct json_object *network_info, const char *admin_password,
                       struct json_object *injected_files, struct json_object **files,
                       struct err *e);
/* network_data.json alone; NULL when there are no VIFs. New reference. */
struct json_object *config_drive_network_data(struct json_object *network_info);
