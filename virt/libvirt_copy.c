/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of a running guest's disk: libvirt mirrors the disk into a new file; once the mirror has caught up the
 * job is ended, which leaves a file as the disk was at that moment (what a power cut would leave). The job
 * is ended on every way out. TRANSIENT_JOB: a definition need not be given up for it; a host's reset
 * forgets the job, the file is then a leftover of whoever asked.
 */
#include "virt/libvirt_internal.h"

#include <libxml/tree.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "virt/xml.h"

enum { POLL_MS = 200 };

static char *copy_xml(const char *path, const char *format)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = xmlNewDoc((const xmlChar *)"1.0");
    if (!doc)
        return NULL;
    xmlNode *disk = xmlNewDocNode(doc, NULL, (const xmlChar *)"disk", NULL);
    xmlDocSetRootElement(doc, disk);
    xml_set_attr(disk, "type", "file");
    xml_set_attr(xml_add_child(disk, "source"), "file", path);
    xml_set_attr(xml_add_child(disk, "driver"), "type", format);
    return xml_text_of(doc, disk);
}

static bool mirror_is_ready(const char *xml, const char *target)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (xml_parse(xml, "domain XML", "domain", &doc, NULL) < 0)
        return false;
    const xmlNode *devices = xml_child(xmlDocGetRootElement(doc), "devices");
    for (const xmlNode *d = xml_child(devices, "disk"); d; d = xml_next(d, "disk"))
        if (xml_attr_is(xml_child(d, "target"), "dev", target))
            return xml_attr_is(xml_child(d, "mirror"), "ready", "yes");
    return false;
}

/* 1 = caught up, 0 = not yet. `cur == end` alone is not enough: it holds for a moment at the start too. */
static int look(const struct libvirt_call *call, const char *uuid, const char *target,
                struct err *e)
{
    virDomainBlockJobInfo info = {0};
    _cleanup_(str_freep) char *xml = NULL;
    int rc = virDomainGetBlockJobInfo(call->domain, target, &info, 0);
    if (rc < 0)
        return libvirt_call_error(call, e, "the copy of disk %s of domain %s cannot be followed",
                                  target, uuid);
    if (rc == 0)
        return err_set(e, ERR_VIRT, "the copy of disk %s of domain %s ended before it was complete",
                       target, uuid);
    if (info.cur < info.end)
        return 0;
    if (libvirt_get_xml(call, uuid, 0, &xml, e) < 0)
        return -1;
    return mirror_is_ready(xml, target);
}

static bool stopping(struct libvirt *lv)
{
    pthread_mutex_lock(&lv->lock);
    bool is = lv->stopping;
    pthread_mutex_unlock(&lv->lock);
    return is;
}

static int follow(const struct libvirt_call *call, const char *uuid, const char *target,
                  struct err *e)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    for (;;) {
        int ready = look(call, uuid, target, e);
        if (ready != 0)
            return ready < 0 ? -1 : 0;
        if (stopping(call->lv))
            return err_set(e, ERR_CANCELLED, "the copy of disk %s of domain %s ends with the agent",
                           target, uuid);
        (void)nanosleep(&pause, NULL);
    }
}

int libvirt_copy_disk(struct virt *virt, const char *uuid, const char *target, const char *path,
                      const char *format, struct err *e)
{
    LIBVIRT_CALL(call);
    _cleanup_(str_freep) char *xml = copy_xml(path, format);
    if (!xml)
        return err_set(e, ERR_NOMEM, "no memory for the copy of a disk");
    if (libvirt_call_begin(&call, virt, uuid, false, e) < 0)
        return -1;
    if (virDomainBlockCopy(call.domain, target, xml, NULL, 0, VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB) <
        0)
        return libvirt_call_error(&call, e, "disk %s of domain %s cannot be copied", target, uuid);
    int rc = follow(&call, uuid, target, e);
    if (virDomainBlockJobAbort(call.domain, target, 0) < 0 && rc == 0)
        return libvirt_call_error(&call, e, "the copy of disk %s of domain %s cannot be ended",
                                  target, uuid);
    return rc;
}
