/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <strings.h>
#include <sys/socket.h>

#include "lib/json.h"
#include "lib/text.h"
#include "lib/vector.h"
#include "tests/unit/unit.h"

enum { CONNECTIONS_MAX = 256, REQUEST_MAX = 1024 * 1024, TURN_MS = 20 };

struct connection {
    struct fake_http *server;
    pthread_t thread;
    int fd;
    unsigned number;
    SSL *ssl;
    struct text_buffer in;
};

DEFINE_VECTOR(answers, struct fake_answer)
DEFINE_VECTOR(requests, struct fake_request *)

struct fake_http {
    int fd;
    pthread_t thread;
    char *url;
    SSL_CTX *tls;
    pthread_mutex_t lock; /* for all below */
    bool stop;
    struct answers answers;
    struct requests requests;
    struct connection connections[CONNECTIONS_MAX];
    unsigned connection_count;
    struct text_buffer unexpected;
};

static bool path_matches(const char *pattern, const char *path)
{
    size_t length;

    if (!pattern)
        return true;
    length = strlen(pattern);
    if (length && pattern[length - 1] == '*')
        return strncmp(pattern, path, length - 1) == 0;
    return strcmp(pattern, path) == 0;
}

static bool matches(const char *method, const char *pattern, const char *got_method,
                    const char *got_path)
{
    return (!method || strcmp(method, got_method) == 0) && path_matches(pattern, got_path);
}

static bool stopped(struct fake_http *server)
{
    pthread_mutex_lock(&server->lock);
    bool stop = server->stop;
    pthread_mutex_unlock(&server->lock);
    return stop;
}

/* ---- bytes ---- */

/* > 0, or <= 0 at the end of the connection or of the server. */
static ssize_t receive(struct connection *c, char *data, size_t size)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};

    while (!stopped(c->server)) {
        if (c->ssl && SSL_pending(c->ssl))
            return SSL_read(c->ssl, data, (int)size);
        if (poll(&p, 1, TURN_MS) > 0)
            return c->ssl ? SSL_read(c->ssl, data, (int)size) : recv(c->fd, data, size, 0);
    }
    return -1;
}

static void send_all(struct connection *c, const char *data, size_t size)
{
    while (size) {
        ssize_t n =
            c->ssl ? SSL_write(c->ssl, data, (int)size) : send(c->fd, data, size, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data += n;
        size -= (size_t)n;
    }
}

static char *header_of(const char *headers, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = headers; line && *line;) {
        const char *end = strstr(line, "\r\n");
        size_t width = end ? (size_t)(end - line) : strlen(line);
        if (width > length && strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;
            while (*value == ' ')
                value++;
            return text_dup_n(value, width - (size_t)(value - line));
        }
        line = end ? end + 2 : NULL;
    }
    return NULL;
}

static bool fill(struct connection *c)
{
    char data[16384];
    ssize_t n = c->in.length < REQUEST_MAX ? receive(c, data, sizeof(data)) : -1;

    if (n > 0)
        text_buffer_add_n(&c->in, data, (size_t)n);
    return n > 0;
}

/* A chunked body that is there as a whole; NULL: not yet. */
static char *unchunk(const char *data, size_t *used)
{
    struct text_buffer body = TEXT_BUFFER_INIT;
    const char *p = data;

    for (;;) {
        const char *end = strstr(p, "\r\n");
        unsigned long size = strtoul(p, NULL, 16);
        if (!end || strlen(end) < size + 4)
            break;
        text_buffer_add_n(&body, end + 2, size);
        p = end + 2 + size + 2;
        if (size == 0) {
            *used = (size_t)(p - data);
            return text_buffer_take(&body);
        }
    }
    text_buffer_free(&body);
    return NULL;
}

static struct fake_request *read_request(struct connection *c)
{
    const char *end;
    char *body = NULL;
    size_t used = 0;

    while (!(c->in.length && (end = strstr(c->in.data, "\r\n\r\n"))))
        if (!fill(c))
            return NULL;
    size_t head = (size_t)(end - c->in.data) + 2;
    _cleanup_(str_freep) char *headers = text_dup_n(c->in.data, head);
    _cleanup_(str_freep) char *length_text = header_of(headers, "Content-Length");
    _cleanup_(str_freep) char *encoding = header_of(headers, "Transfer-Encoding");
    size_t length = length_text ? strtoul(length_text, NULL, 10) : 0;

    while (encoding ? !(body = unchunk(c->in.data + head + 2, &used))
                    : c->in.length < head + 2 + length)
        if (!fill(c))
            return NULL;
    if (!body) {
        body = text_dup_n(c->in.data + head + 2, length);
        used = length;
    }
    struct fake_request *request = NEW(struct fake_request);
    request->method = text_dup_n(headers, strcspn(headers, " "));
    const char *path = headers + strlen(request->method) + 1;
    request->path = text_dup_n(path, strcspn(path, " "));
    request->headers = text_dup(strstr(headers, "\r\n") + 2);
    request->body = body;
    (void)json_parse(body, strlen(body), &request->json, NULL);
    request->connection = c->number;
    _cleanup_(str_freep) char *rest = text_buffer_take(&c->in);
    text_buffer_add(&c->in, rest + head + 2 + used);
    return request;
}

/* ---- answers ---- */

static void answer_copy(struct fake_answer *to, const struct fake_answer *from)
{
    *to = *from;
    to->method = text_dup(from->method);
    to->path = text_dup(from->path);
    to->body = text_dup(from->body);
    to->headers = text_dup(from->headers);
}

static void answer_clear(struct fake_answer *answer)
{
    free((char *)answer->method);
    free((char *)answer->path);
    free((char *)answer->body);
    free((char *)answer->headers);
}

/* Remembers the request; a copy of what the script says to it. */
static void choose(struct fake_http *server, struct fake_request *request, struct fake_answer *out)
{
    struct fake_answer none = {.status = 404, .body = "{\"message\": \"not in the script\"}"};
    struct fake_answer *found = &none;

    pthread_mutex_lock(&server->lock);
    *requests_add(&server->requests) = request;
    for (size_t i = 0; i < server->answers.length && found == &none; i++) {
        struct fake_answer *a = &server->answers.items[i];
        if (a->times != 0 && matches(a->method, a->path, request->method, request->path))
            found = a;
    }
    if (found == &none)
        text_buffer_printf(&server->unexpected, "%s %s; ", request->method, request->path);
    else if (found->times > 0)
        found->times--;
    answer_copy(out, found);
    pthread_mutex_unlock(&server->lock);
}

static void pause_ms(struct fake_http *server, int ms)
{
    for (; ms > 0 && !stopped(server); ms -= TURN_MS)
        (void)poll(NULL, 0, ms < TURN_MS ? ms : TURN_MS);
}

/* False: the connection ends. */
static bool give(struct connection *c, const struct fake_answer *answer, bool head)
{
    struct text_buffer text = TEXT_BUFFER_INIT;
    const char *body = answer->body ? answer->body : "";
    size_t length = strlen(body) + answer->pad;
    _cleanup_(str_freep) char *type = header_of(answer->headers, "Content-Type");
    char byte;

    pause_ms(c->server, answer->delay_ms);
    while (answer->silent && receive(c, &byte, 1) > 0)
        continue;
    if (answer->silent || answer->drop)
        return false;
    text_buffer_printf(&text, "HTTP/1.1 %d Scripted\r\n", answer->status);
    if (answer->headers)
        text_buffer_add(&text, answer->headers);
    if (!type && answer->body)
        text_buffer_add(&text, "Content-Type: application/json\r\n");
    if (answer->status != 204)
        text_buffer_printf(&text, "Content-Length: %zu\r\n", length);
    text_buffer_add(&text, "\r\n");
    if (!head)
        text_buffer_add(&text, body);
    for (size_t i = 0; i < answer->pad; i++)
        text_buffer_add_n(&text, " ", 1);
    send_all(c, text.data, text.length);
    text_buffer_free(&text);
    return true;
}

static void *serve(void *aux)
{
    struct connection *c = aux;
    struct fake_request *request;
    bool go_on = true;

    if (c->server->tls) {
        c->ssl = SSL_new(c->server->tls);
        SSL_set_fd(c->ssl, c->fd);
        go_on = SSL_accept(c->ssl) == 1;
    }
    while (go_on && (request = read_request(c))) {
        struct fake_answer answer;
        choose(c->server, request, &answer);
        go_on = give(c, &answer, strcmp(request->method, "HEAD") == 0);
        answer_clear(&answer);
    }
    if (c->ssl && go_on)
        (void)SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    (void)shutdown(c->fd, SHUT_RDWR);
    text_buffer_free(&c->in);
    return NULL;
}

static void take(struct fake_http *server, int fd)
{
    struct connection *c;

    pthread_mutex_lock(&server->lock);
    c = &server->connections[server->connection_count];
    *c = (struct connection){.server = server, .fd = fd, .number = ++server->connection_count};
    pthread_mutex_unlock(&server->lock);
    if (pthread_create(&c->thread, NULL, serve, c) != 0)
        abort();
}

static void *listen_thread(void *aux)
{
    struct fake_http *server = aux;
    struct pollfd p = {.fd = server->fd, .events = POLLIN};
    unsigned taken = 0;

    while (!stopped(server) && taken < CONNECTIONS_MAX) {
        if (poll(&p, 1, TURN_MS) <= 0)
            continue;
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        taken++;
        take(server, fd);
    }
    for (unsigned i = 0; i < taken; i++) {
        (void)pthread_join(server->connections[i].thread, NULL);
        (void)close(server->connections[i].fd);
    }
    return NULL;
}

/* ---- certificates ---- */

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

static X509 *certify(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *certificate = X509_new();

    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), issuer ? 2 : 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer ? issuer : certificate));
    if (issuer)
        add_extension(certificate, issuer, NID_subject_alt_name, "IP:127.0.0.1");
    else
        add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(certificate, issuer_key, EVP_sha256());
    return certificate;
}

static SSL_CTX *make_tls(const char *directory)
{
    EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
    X509 *ca = certify(ca_key, "computed test CA", NULL, ca_key);
    X509 *certificate = certify(key, "127.0.0.1", ca, ca_key);
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    _cleanup_(str_freep) char *path = text_format("%s/ca.pem", directory);
    FILE *file = fopen(path, "we");

    if (UNIT_TRUE(file != NULL)) {
        UNIT_TRUE(PEM_write_X509(file, ca) == 1);
        (void)fclose(file);
    }
    UNIT_TRUE(SSL_CTX_use_certificate(tls, certificate) == 1);
    UNIT_TRUE(SSL_CTX_use_PrivateKey(tls, key) == 1);
    X509_free(ca);
    X509_free(certificate);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
    return tls;
}

/* ---- the test's side ---- */

struct fake_http *fake_http_new(const char *tls_directory)
{
    struct fake_http *server = NEW(struct fake_http);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    if (tls_directory)
        server->tls = make_tls(tls_directory);
    pthread_mutex_init(&server->lock, NULL);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server->fd, (struct sockaddr *)&address, length) < 0 || listen(server->fd, 64) < 0 ||
        getsockname(server->fd, (struct sockaddr *)&address, &length) < 0)
        abort();
    server->url =
        text_format("%s://127.0.0.1:%u", tls_directory ? "https" : "http", ntohs(address.sin_port));
    if (pthread_create(&server->thread, NULL, listen_thread, server) != 0)
        abort();
    return server;
}

static void request_free(struct fake_request *request)
{
    free(request->method);
    free(request->path);
    free(request->headers);
    free(request->body);
    json_object_put(request->json);
    free(request);
}

void fake_http_free(struct fake_http *server)
{
    if (!server)
        return;
    pthread_mutex_lock(&server->lock);
    server->stop = true;
    pthread_mutex_unlock(&server->lock);
    (void)pthread_join(server->thread, NULL);
    (void)close(server->fd);
    unit_check(server->unexpected.length == 0, __LINE__, __FILE__, "not in the script: %s",
               server->unexpected.length ? server->unexpected.data : "");
    for (size_t i = 0; i < server->answers.length; i++)
        answer_clear(&server->answers.items[i]);
    for (size_t i = 0; i < server->requests.length; i++)
        request_free(server->requests.items[i]);
    free(server->answers.items);
    free(server->requests.items);
    text_buffer_free(&server->unexpected);
    SSL_CTX_free(server->tls);
    pthread_mutex_destroy(&server->lock);
    free(server->url);
    free(server);
}

const char *fake_http_url(const struct fake_http *server)
{
    return server->url;
}

void fake_http_add(struct fake_http *server, const struct fake_answer *answer)
{
    pthread_mutex_lock(&server->lock);
    struct fake_answer *copy = answers_add(&server->answers);
    answer_copy(copy, answer);
    if (copy->times == 0)
        copy->times = 1;
    pthread_mutex_unlock(&server->lock);
}

void fake_http_forget(struct fake_http *server, const char *path)
{
    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < server->answers.length; i++)
        if (!path || text_equal(server->answers.items[i].path, path))
            server->answers.items[i].times = 0;
    pthread_mutex_unlock(&server->lock);
}

void fake_http_keystone(struct fake_http *server)
{
    static const char *const types[] = {"placement", "network", "image"};
    struct text_buffer body = TEXT_BUFFER_INIT;

    text_buffer_add(&body, "{\"token\": {\"issued_at\": \"2026-01-01T00:00:00.000000Z\", "
                           "\"expires_at\": \"2026-01-01T01:00:00.000000Z\", \"catalog\": [");
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        text_buffer_printf(&body,
                           "%s{\"type\": \"%s\", \"name\": \"%s\", \"endpoints\": [{\"interface\": "
                           "\"internal\", \"region\": \"RegionOne\", \"url\": \"%s\"}]}",
                           i ? ", " : "", types[i], types[i], server->url);
    text_buffer_add(&body, "]}}");
    fake_http_add(server,
                  &(struct fake_answer){"POST", "/v3/auth/tokens", 201, .body = body.data,
                                        .headers = "X-Subject-Token: token-1\r\n", .times = -1});
    text_buffer_free(&body);
}

const struct fake_request *fake_http_request(struct fake_http *server, const char *method,
                                             const char *path, size_t n)
{
    const struct fake_request *found = NULL;

    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < server->requests.length && !found; i++) {
        const struct fake_request *request = server->requests.items[i];
        if (matches(method, path, request->method, request->path) && n-- == 0)
            found = request;
    }
    pthread_mutex_unlock(&server->lock);
    return found;
}

size_t fake_http_count(struct fake_http *server, const char *method, const char *path)
{
    size_t n = 0;

    while (fake_http_request(server, method, path, n))
        n++;
    return n;
}

unsigned fake_http_connections(struct fake_http *server)
{
    pthread_mutex_lock(&server->lock);
    unsigned n = server->connection_count;
    pthread_mutex_unlock(&server->lock);
    return n;
}

char *fake_http_header(const struct fake_request *request, const char *name)
{
    return header_of(request->headers, name);
}
