/* SPDX-License-Identifier: Apache-2.0 */
/* libvirt's errors as ours. */
#include "virt/libvirt_internal.h"

#include <stdarg.h>
#include <stdio.h>

/* Numbers that are not listed are ERR_VIRT. */
static const struct {
    int number;
    enum err_code code;
} error_rows[] = {
    {VIR_ERR_NO_DOMAIN, ERR_NO_INSTANCE},
    {VIR_ERR_OPERATION_INVALID, ERR_INSTANCE_STATE},
    {VIR_ERR_OPERATION_ABORTED, ERR_CANCELLED},
    {VIR_ERR_OPERATION_TIMEOUT, ERR_TIMEOUT},
    {VIR_ERR_AGENT_UNRESPONSIVE, ERR_TIMEOUT},
    {VIR_ERR_NO_CONNECT, ERR_HYPERVISOR},
    {VIR_ERR_INVALID_CONN, ERR_HYPERVISOR},
    {VIR_ERR_RPC, ERR_HYPERVISOR},
    {VIR_ERR_NO_MEMORY, ERR_NOMEM},
    {VIR_ERR_OPERATION_DENIED, ERR_DENIED},
    {VIR_ERR_ACCESS_DENIED, ERR_DENIED},
    {VIR_ERR_AUTH_FAILED, ERR_DENIED},
    {VIR_ERR_AUTH_CANCELLED, ERR_DENIED},
    {VIR_ERR_NO_SUPPORT, ERR_NOT_IMPLEMENTED},
    {VIR_ERR_OPERATION_UNSUPPORTED, ERR_NOT_IMPLEMENTED},
    {VIR_ERR_INVALID_ARG, ERR_INVALID},
    {VIR_ERR_XML_ERROR, ERR_INVALID},
    {VIR_ERR_XML_DETAIL, ERR_INVALID},
    {VIR_ERR_MIGRATE_UNSAFE, ERR_PRECHECK},
    {VIR_ERR_CPU_INCOMPATIBLE, ERR_PRECHECK},
    {VIR_ERR_MIGRATE_FINISH_OK, ERR_MIGRATION},
};

enum err_code libvirt_error_code(int libvirt_number)
{
    for (size_t i = 0; i < ARRAY_LEN(error_rows); i++)
        if (error_rows[i].number == libvirt_number)
            return error_rows[i].code;
    return ERR_VIRT;
}

int libvirt_error_at(struct err *e, const char *file, int line, const char *format, ...)
{
    const virError *last = virGetLastError();
    int number = last ? last->code : VIR_ERR_INTERNAL_ERROR;
    const char *words = last && last->message ? last->message : "libvirt gives no reason";
    char text[ERR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return err_set_at(e, libvirt_error_code(number), -number, file, line, "%s: %s", text, words);
}

static void silent(void *aux _unused_, virErrorPtr error _unused_)
{
}

void libvirt_error_silence(void)
{
    virSetErrorFunc(NULL, silent);
}
