/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our record in Nova's table of services (contract 3.1, 3.2). A host is up while its report_count was
 * raised within service_down_time; an attempt that is lost is followed by the next one, so heartbeats are
 * not repeated. A record that an operator deleted is not made again before the next start.
 */
#include "cloud/nova_node.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(service);

#define BINARY      "nova-compute"
#define AUTO_REASON "AUTO: " /* nova.virt.libvirt.driver.DISABLE_PREFIX */

/* One change of `disabled`, in its turn. */
struct fault {
    STAILQ_ENTRY(fault) link;
    struct nova_service *service;
    char *reason;
    cloud_done_fn done;
    void *aux;
};

struct nova_service {
    struct nova *nova;
    struct object *record;
    int64_t compute_minimum, conductor_minimum;
    bool owner;
    struct loop_timer *timer;
    bool beating;           /* an attempt is under way */
    int64_t report_count;   /* last sent */
    int64_t last_report_us; /* monotonic; 0 = none was answered */
    bool failing;           /* said so in the log */
    /* a read that is under way */
    cloud_done_fn done;
    void *aux;
    STAILQ_HEAD(faults, fault) faults;
};

int64_t nova_service_version(int64_t ours, int64_t conductor_minimum, int64_t compute_minimum)
{
    int64_t version = conductor_minimum > 0 && conductor_minimum < ours ? conductor_minimum : ours;

    if (conductor_minimum <= 0 && compute_minimum > 0)
        version = compute_minimum;
    return version > compute_minimum ? version : compute_minimum;
}

static int64_t wanted_version(const struct nova_service *service)
{
    int64_t given = conf_int(service->nova->cloud->conf, CONF_agent_service_version);

    return given > 0 ? given
                     : nova_service_version(service->owner ? NOVA_SERVICE_VERSION
                                                           : NOVA_SERVICE_VERSION_NO_OWNER,
                                            service->conductor_minimum, service->compute_minimum);
}

/* ---- life ---- */

static void beat(void *aux);

struct nova_service *nova_service_new(struct nova *nova)
{
    struct nova_service *service = NEW(struct nova_service);

    service->nova = nova;
    service->timer = loop_timer_new(nova->cloud->loop, "heartbeat", beat, service);
    STAILQ_INIT(&service->faults);
    return service;
}

void nova_service_free(struct nova_service *service)
{
    if (!service)
        return;
    loop_timer_free(service->timer);
    object_free(service->record);
    free(service);
}

const struct object *nova_service_record(const struct nova_service *service)
{
    return service->record;
}

bool nova_service_is_disabled(const struct nova_service *service)
{
    return service->record && object_bool(service->record, "disabled", false);
}

void nova_service_set_owner(struct nova_service *service)
{
    if (service->owner)
        return;
    service->owner = true;
    if (service->record && object_int(service->record, "version", 0) != wanted_version(service) &&
        loop_timer_armed(service->timer))
        loop_timer_arm(service->timer, 0);
}

/* ---- reading ---- */

static void take_record(struct nova_service *service, struct json_object *primitive)
{
    _cleanup_(object_freep) struct object *read = NULL;

    if (object_from_json(primitive, "Service", 1, &read, NULL) < 0)
        read = NULL;
    object_free(service->record);
    service->record = read ? object_copy(read) : NULL; /* the tree is the answer's */
    int64_t count = read ? object_int(read, "report_count", 0) : 0;
    if (count > service->report_count)
        service->report_count = count;
}

static void ask_record(struct nova_service *service, cloud_result_fn done, void *aux)
{
    struct json_object *args = json_object_new_array();

    json_object_array_add(args, json_object_new_string(service->nova->cloud->host));
    json_object_array_add(args, json_object_new_string(BINARY));
    conductor_class_action(service->nova->conductor, NULL, "Service", "get_by_host_and_binary",
                           args, NULL, done, aux);
}

static void read_end(struct nova_service *service, const struct err *failure)
{
    cloud_done_fn done = service->done;

    service->done = NULL;
    done(service->aux, failure);
}

static void conductors_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct nova_service *service = aux;
    struct object *list = NULL;

    if (failure || object_from_json(result, "ServiceList", 1, &list, NULL) < 0) {
        read_end(service, failure);
        return;
    }
    service->conductor_minimum = 0;
    for (size_t i = 0; i < object_list_length(list); i++) {
        struct object *item = object_list_item(list, i);
        int64_t version = item ? object_int(item, "version", 0) : 0;
        if (version > 0 &&
            (service->conductor_minimum == 0 || version < service->conductor_minimum))
            service->conductor_minimum = version;
        object_free(item);
    }
    object_free(list);
    read_end(service, NULL);
}

static struct json_object *one(const char *text)
{
    struct json_object *array = json_object_new_array();

    json_object_array_add(array, json_object_new_string(text));
    return array;
}

static void minimum_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct nova_service *service = aux;

    if (failure) {
        read_end(service, failure);
        return;
    }
    service->compute_minimum = json_object_get_int64(result);
    conductor_class_action(service->nova->conductor, NULL, "ServiceList", "get_by_binary",
                           one("nova-conductor"), NULL, conductors_read, service);
}

static void record_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct nova_service *service = aux;

    if (failure) {
        read_end(service, failure);
        return;
    }
    take_record(service, result);
    conductor_class_action(service->nova->conductor, NULL, "Service", "get_minimum_version",
                           one(BINARY), NULL, minimum_read, service);
}

void nova_service_read(struct nova_service *service, cloud_done_fn done, void *aux)
{
    service->done = done;
    service->aux = aux;
    ask_record(service, record_read, service);
}

static void refreshed(void *aux, struct json_object *result, const struct err *failure)
{
    struct nova_service *service = aux;

    if (!failure && result)
        take_record(service, result);
    read_end(service, failure);
}

void nova_service_refresh(struct nova_service *service, cloud_done_fn done, void *aux)
{
    service->done = done;
    service->aux = aux;
    ask_record(service, refreshed, service);
}

/* ---- the record ---- */

static void created(void *aux, struct json_object *result, const struct err *failure)
{
    struct nova_service *service = aux;

    if (!failure) {
        (void)object_apply_updates(service->record, json_get(result, "updates"), NULL);
        object_clear_changes(service->record);
        log_info("service record %lld of %s was made, version %lld",
                 (long long)object_int(service->record, "id", 0), service->nova->cloud->host,
                 (long long)object_int(service->record, "version", 0));
        read_end(service, NULL);
        return;
    }
    struct err e = *failure;
    if (conductor_failed_with(failure, "ServiceTooOld"))
        e.code = ERR_CONFIG;
    object_free(STEAL(service->record)); /* read again by the next attempt */
    read_end(service, &e);
}

void nova_service_ensure(struct nova_service *service, cloud_done_fn done, void *aux)
{
    service->done = done;
    service->aux = aux;
    if (service->record) {
        read_end(service, NULL);
        return;
    }
    service->record = conductor_object_new("Service");
    object_set_string(service->record, "host", service->nova->cloud->host);
    object_set_string(service->record, "binary", BINARY);
    object_set_string(service->record, "topic", "compute");
    object_set_int(service->record, "report_count", 0);
    object_set_int(service->record, "version", wanted_version(service));
    conductor_object_action(service->nova->conductor, NULL, object_to_json(service->record),
                            "create", NULL, NULL, created, service);
}

/* ---- heartbeat ---- */

struct beat {
    struct nova_service *service;
    int64_t report_count, version;
};

static void tell_failing(struct nova_service *service, const struct err *failure)
{
    if (service->failing)
        return;
    service->failing = true;
    if (failure->code == ERR_NO_SERVICE)
        log_err(LOG_LEVEL_WARNING, failure,
                "the service record of %s was deleted; it is made again by the next start",
                service->nova->cloud->host);
    else
        log_err(LOG_LEVEL_WARNING, failure, "heartbeat of %s", service->nova->cloud->host);
}

static void beaten(void *aux, struct json_object *result, const struct err *failure)
{
    struct beat sent = *(struct beat *)aux;
    struct nova_service *service = sent.service;

    free(aux);
    service->beating = false;
    if (failure) {
        if (failure->code != ERR_CANCELLED)
            tell_failing(service, failure);
        return;
    }
    if (service->failing)
        log_info("heartbeat of %s is back", service->nova->cloud->host);
    service->failing = false;
    service->last_report_us = clock_monotonic_us();
    if (!service->record)
        return;
    (void)object_apply_updates(service->record, json_get(result, "updates"), NULL);
    object_set_int(service->record, "report_count", sent.report_count);
    object_set_int(service->record, "version", sent.version);
    object_clear_changes(service->record);
}

static void send_beat(struct nova_service *service, int64_t timeout_us)
{
    struct object *record = object_copy(service->record);
    struct beat *sent = NEW(struct beat);

    sent->service = service;
    sent->report_count = ++service->report_count;
    sent->version = wanted_version(service);
    object_clear_changes(record);
    object_set_int(record, "report_count", sent->report_count);
    if (object_int(record, "version", 0) != sent->version)
        object_set_int(record, "version", sent->version);
    service->beating = true;
    conductor_object_try(service->nova->conductor, object_to_json(record), "save", timeout_us,
                         beaten, sent);
    object_free(record);
}

static void beat(void *aux)
{
    struct nova_service *service = aux;
    int64_t interval_us =
        conf_int(service->nova->cloud->conf, CONF_DEFAULT_report_interval) * USEC_PER_SEC;

    if (service->record && !service->beating)
        send_beat(service, interval_us);
    loop_timer_arm(service->timer, interval_us);
}

void nova_service_beat(struct nova_service *service)
{
    if (!loop_timer_armed(service->timer))
        beat(service);
}

/* ---- disabled by us ---- */

static void next_fault(struct nova_service *service);

static void fault_end(struct fault *fault, const struct err *failure)
{
    struct nova_service *service = fault->service;
    struct fault end = *fault;

    STAILQ_REMOVE_HEAD(&service->faults, link);
    free(fault);
    free(end.reason);
    if (!failure || failure->code != ERR_CANCELLED)
        next_fault(service);
    end.done(end.aux, failure);
}

static void fault_saved(void *aux, struct json_object *result, const struct err *failure)
{
    struct fault *fault = aux;
    struct object *record = fault->service->record;

    if (!failure && record) {
        (void)object_apply_updates(record, json_get(result, "updates"), NULL);
        object_clear_changes(record);
    }
    fault_end(fault, failure);
}

/* As nova.virt.libvirt.driver._set_host_enabled(): what an operator disabled stays so. */
static bool may_change(const struct object *record, bool disable)
{
    bool disabled = object_bool(record, "disabled", false);

    return disabled != disable &&
           (!disabled ||
            text_starts_with(object_string(record, "disabled_reason", ""), AUTO_REASON));
}

static void fault_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct fault *fault = aux;
    struct nova_service *service = fault->service;

    if (failure || !result) {
        fault_end(fault, failure);
        return;
    }
    take_record(service, result);
    if (!service->record || !may_change(service->record, fault->reason != NULL)) {
        fault_end(fault, NULL);
        return;
    }
    _cleanup_(str_freep) char *reason =
        fault->reason ? text_format(AUTO_REASON "%s", fault->reason) : NULL;
    object_set_bool(service->record, "disabled", fault->reason != NULL);
    object_set_string(service->record, "disabled_reason", reason);
    log_info("service record of %s: %s", service->nova->cloud->host, reason ? reason : "enabled");
    conductor_object_action(service->nova->conductor, NULL, object_to_json(service->record), "save",
                            NULL, NULL, fault_saved, fault);
    object_clear_changes(service->record);
}

static void next_fault(struct nova_service *service)
{
    struct fault *fault = STAILQ_FIRST(&service->faults);

    if (fault)
        ask_record(service, fault_read, fault);
}

void nova_service_set_fault(struct nova_service *service, const char *reason, cloud_done_fn done,
                            void *aux)
{
    struct fault *fault = NEW(struct fault);
    bool first = STAILQ_EMPTY(&service->faults);

    fault->service = service;
    fault->reason = text_dup(reason);
    fault->done = done;
    fault->aux = aux;
    STAILQ_INSERT_TAIL(&service->faults, fault, link);
    if (first)
        next_fault(service);
}

/* ---- status ---- */

void nova_service_status(const struct nova_service *service, struct json_object *status)
{
    const struct object *record = service->record;
    int64_t age_us = clock_monotonic_us() - service->last_report_us;

    if (!record)
        return;
    json_add_int(status, "service_id", object_int(record, "id", 0));
    json_add_int(status, "version", object_int(record, "version", 0));
    json_add_bool(status, "disabled", object_bool(record, "disabled", false));
    json_add_string(status, "disabled_reason", object_string(record, "disabled_reason", NULL));
    json_add_bool(status, "up", service->last_report_us > 0 && !service->failing);
    if (service->last_report_us > 0)
        json_add_double(status, "last_report_s", (double)age_us / USEC_PER_SEC);
    json_add_int(status, "conductor_version", service->conductor_minimum);
    json_add_int(status, "fleet_version", service->compute_minimum);
}
