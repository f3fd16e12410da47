/* SPDX-License-Identifier: Apache-2.0 */
/* Files to and from a service, by curl's easy interface on a worker's thread. */
#include "cloud/service_internal.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/text.h"

enum { STALL_S = 60, CONNECT_S = 10, BODY_SHOWN = 200 };

struct transfer {
    const struct service_ticket *ticket;
    CURL *easy;
    int fd;
    service_sink_fn sink;
    void *aux;
    struct err e;                 /* of the sink or the descriptor */
    char refusal[BODY_SHOWN + 1]; /* the beginning of a body that is no file */
    size_t refusal_length;
    char detail[CURL_ERROR_SIZE];
};

void service_ticket_free(struct service_ticket *ticket)
{
    if (!ticket)
        return;
    free(ticket->url);
    for (unsigned i = 0; i < SERVICE_TOKENS_MAX; i++)
        free(ticket->tokens[i]);
    free(ticket->service_token);
    free(ticket->request_id);
    free(ticket->ca_file);
    free(ticket->cert_file);
    free(ticket->key_file);
    free(ticket);
}

static int write_all(int fd, const char *data, size_t size, struct err *e)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(e, errno == ENOSPC || errno == EDQUOT ? ERR_NO_SPACE : ERR_SYSTEM,
                                 errno, "cannot write the file that comes");
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static long status_of(const struct transfer *transfer)
{
    long status = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static void keep_refusal(struct transfer *transfer, const char *data, size_t size)
{
    size_t room = BODY_SHOWN - transfer->refusal_length;

    if (size > room)
        size = room;
    memcpy(transfer->refusal + transfer->refusal_length, data, size);
    transfer->refusal_length += size;
}

static size_t file_comes(char *data, size_t size, size_t count, void *aux)
{
    struct transfer *transfer = aux;
    size_t length = size * count;

    if (status_of(transfer) != 200) {
        keep_refusal(transfer, data, length);
        return length;
    }
    if ((transfer->sink && transfer->sink(transfer->aux, data, length, &transfer->e) < 0) ||
        write_all(transfer->fd, data, length, &transfer->e) < 0)
        return 0;
    return length;
}

static size_t answer_comes(char *data, size_t size, size_t count, void *aux)
{
    keep_refusal(aux, data, size * count);
    return size * count;
}

static size_t file_goes(char *data, size_t size, size_t count, void *aux)
{
    struct transfer *transfer = aux;
    ssize_t n;

    do
        n = read(transfer->fd, data, size * count);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        err_set_errno(&transfer->e, ERR_SYSTEM, errno, "cannot read the file that goes");
        return CURL_READFUNC_ABORT;
    }
    return (size_t)n;
}

static struct curl_slist *headers_of(const struct service_ticket *ticket, const char *token,
                                     bool upload)
{
    struct curl_slist *headers = NULL;
    _cleanup_(str_freep) char *auth = text_format("X-Auth-Token: %s", token);

    headers = curl_slist_append(headers, auth);
    headers = curl_slist_append(headers, "Expect:");
    if (upload)
        headers = curl_slist_append(headers, "Content-Type: application/octet-stream");
    if (ticket->service_token) {
        _cleanup_(str_freep) char *text = text_format("X-Service-Token: %s", ticket->service_token);
        headers = curl_slist_append(headers, text);
    }
    if (ticket->request_id) {
        _cleanup_(str_freep) char *text =
            text_format("X-Openstack-Request-Id: %s", ticket->request_id);
        headers = curl_slist_append(headers, text);
    }
    return headers;
}

static void set_common(struct transfer *transfer)
{
    const struct service_ticket *ticket = transfer->ticket;
    CURL *easy = transfer->easy;

    curl_easy_setopt(easy, CURLOPT_URL, ticket->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->detail);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "computed");
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, ticket->insecure ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, ticket->insecure ? 0L : 2L);
    if (ticket->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, ticket->ca_file);
    if (ticket->cert_file)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, ticket->cert_file);
    if (ticket->key_file)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, ticket->key_file);
}

static void set_upload(struct transfer *transfer)
{
    off_t place = lseek(transfer->fd, 0, SEEK_CUR);
    struct stat st;

    curl_easy_setopt(transfer->easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_READFUNCTION, file_goes);
    curl_easy_setopt(transfer->easy, CURLOPT_READDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, answer_comes);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L);
    if (place >= 0 && fstat(transfer->fd, &st) == 0 && S_ISREG(st.st_mode))
        curl_easy_setopt(transfer->easy, CURLOPT_INFILESIZE_LARGE,
                         (curl_off_t)(st.st_size - place));
}

static int explain(const struct transfer *transfer, CURLcode code, struct err *e)
{
    const struct service_ticket *ticket = transfer->ticket;

    if (err_is_set(&transfer->e)) {
        if (e)
            *e = transfer->e;
        return -1;
    }
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_set(e, ERR_TIMEOUT, "%s: %s stopped: %s", ticket->service, ticket->url,
                       transfer->detail);
    if (code != CURLE_OK)
        return err_set(e, ERR_UNREACHABLE, "%s: %s: %s", ticket->service, ticket->url,
                       *transfer->detail ? transfer->detail : curl_easy_strerror(code));
    return err_set(e, ERR_REMOTE, "%s answered %ld to %s: %s", ticket->service, status_of(transfer),
                   ticket->url, transfer->refusal);
}

/* 0, or -1 with *status of the answer (0 = none). */
static int move_file(struct transfer *transfer, const char *token, bool upload, long *status,
                     struct err *e)
{
    struct curl_slist *headers = headers_of(transfer->ticket, token, upload);
    bool good;
    CURLcode code;

    transfer->easy = curl_easy_init();
    set_common(transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, headers);
    if (upload) {
        set_upload(transfer);
    } else {
        curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, file_comes);
        curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer);
    }
    code = curl_easy_perform(transfer->easy);
    *status = status_of(transfer);
    good = code == CURLE_OK && (upload ? *status >= 200 && *status < 300 : *status == 200);
    if (!good)
        explain(transfer, code, e);
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(headers);
    return good ? 0 : -1;
}

static int move_with_tokens(const struct service_ticket *ticket, int fd, service_sink_fn sink,
                            void *aux, bool upload, struct err *e)
{
    off_t place = lseek(fd, 0, SEEK_CUR);
    long status = 0;

    for (unsigned i = 0; i < SERVICE_TOKENS_MAX && ticket->tokens[i]; i++) {
        struct transfer transfer = {.ticket = ticket, .fd = fd, .sink = sink, .aux = aux};
        if (i > 0 && upload && (place < 0 || lseek(fd, place, SEEK_SET) < 0))
            break;
        err_clear(e);
        if (move_file(&transfer, ticket->tokens[i], upload, &status, e) == 0)
            return 0;
        if (status != 401)
            break;
    }
    return -1;
}

int service_download(const struct service_ticket *ticket, int fd, service_sink_fn sink, void *aux,
                     struct err *e)
{
    return move_with_tokens(ticket, fd, sink, aux, false, e);
}

int service_upload(const struct service_ticket *ticket, int fd, struct err *e)
{
    return move_with_tokens(ticket, fd, NULL, NULL, true, e);
}
