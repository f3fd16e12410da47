/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS to a broker. librabbitmq makes the handshake, but who is trusted is decided here: its own check of
 * host names is wrong in 0.11 (fixed in 0.14) and happens after the credentials' channel is up. The
 * context is set so that OpenSSL itself refuses the handshake unless chain, validity and name are right;
 * a callback remembers what was wrong, since the library only says "handshake failed".
 */
#include "rpc/session_internal.h"

#include <amqp_ssl_socket.h>
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "lib/text.h"

struct tls_check {
    int error; /* X509_V_* of the first certificate refused */
    int depth;
};

void session_tls_free(struct tls_check *check)
{
    free(check);
}

static int on_certificate(int good, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_check *check = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    if (!good && check->error == X509_V_OK) {
        check->error = X509_STORE_CTX_get_error(store);
        check->depth = X509_STORE_CTX_get_error_depth(store);
    }
    return good;
}

const char *session_tls_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    return reason ? reason : "no reason is known";
}

static int load_file(struct session *s, const char *option, const char *path, int loaded,
                     struct err *e)
{
    _cleanup_(str_freep) char *shown = NULL;

    if (loaded == 1)
        return 0;
    shown = text_escape(path, 120);
    s->dead = true;
    return err_set(e, ERR_CONFIG, "[oslo_messaging_rabbit] %s \"%s\" cannot be used: %s", option,
                   shown, session_tls_reason());
}

static int set_authorities(struct session *s, SSL_CTX *ctx, struct err *e)
{
    const char *file = s->options->ssl_ca_file;

    if (!s->options->ssl_verify_peer)
        return 0;
    if (!*file)
        return load_file(s, "ssl_ca_file", "(the system's)", SSL_CTX_set_default_verify_paths(ctx),
                         e);
    return load_file(s, "ssl_ca_file", file, SSL_CTX_load_verify_locations(ctx, file, NULL), e);
}

static int set_client(struct session *s, SSL_CTX *ctx, struct err *e)
{
    const char *cert = s->options->ssl_cert_file, *key = s->options->ssl_key_file;

    if (!*cert)
        return 0;
    if (!*key)
        key = cert;
    if (load_file(s, "ssl_cert_file", cert, SSL_CTX_use_certificate_chain_file(ctx, cert), e) < 0)
        return -1;
    return load_file(s, "ssl_key_file", key,
                     SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM), e);
}

static int set_name(struct session *s, SSL_CTX *ctx, struct err *e)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    unsigned char address[16];
    bool is_address = inet_pton(AF_INET, s->host->name, address) == 1 ||
                      inet_pton(AF_INET6, s->host->name, address) == 1;
    int set;

    if (!s->options->ssl_verify_peer || !s->options->ssl_enforce_hostname_verification)
        return 0;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    set = is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, s->host->name)
                     : X509_VERIFY_PARAM_set1_host(param, s->host->name, 0);
    if (set != 1)
        return session_dies(s, ERR_INTERNAL, e, "the name to check cannot be set");
    return 0;
}

static int configure(struct session *s, SSL_CTX *ctx, struct err *e)
{
    bool newest = text_equal(s->options->ssl_version, "TLSv1_3");

    SSL_CTX_set_app_data(ctx, s->tls);
    SSL_CTX_set_verify(ctx, s->options->ssl_verify_peer ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
                       on_certificate);
    if (SSL_CTX_set_min_proto_version(ctx, newest ? TLS1_3_VERSION : TLS1_2_VERSION) != 1)
        return session_dies(s, ERR_INTERNAL, e, "the TLS version cannot be set");
    if (set_authorities(s, ctx, e) < 0 || set_client(s, ctx, e) < 0)
        return -1;
    return set_name(s, ctx, e);
}

static int handshake_failed(struct session *s, int status, struct err *e)
{
    int error = s->tls->error;

    if (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH)
        return session_dies(s, ERR_UNREACHABLE, e,
                            "its certificate does not name the host \"%s\" of transport_url",
                            s->host->name);
    if (error != X509_V_OK)
        return session_dies(s, ERR_UNREACHABLE, e, "its certificate is refused: %s (depth %d)",
                            X509_verify_cert_error_string(error), s->tls->depth);
    if (status == AMQP_STATUS_SSL_CONNECTION_FAILED || status == AMQP_STATUS_SSL_ERROR)
        return session_dies(s, ERR_UNREACHABLE, e, "the TLS handshake failed: %s",
                            session_tls_reason());
    if (status == AMQP_STATUS_SOCKET_ERROR)
        return session_dies(s, ERR_UNREACHABLE, e, "refused the connection or is not reachable");
    return session_dies(s, ERR_UNREACHABLE, e, "%s", amqp_error_string2(status));
}

int session_tls_connect(struct session *s, const struct timeval *timeout, struct err *e)
{
    amqp_socket_t *socket = amqp_ssl_socket_new(s->amqp);
    int status;

    if (!socket)
        return session_dies(s, ERR_NOMEM, e, "TLS cannot be set up");
    ERR_clear_error();
    s->tls = NEW(struct tls_check);
    amqp_ssl_socket_set_verify_peer(socket, s->options->ssl_verify_peer);
    amqp_ssl_socket_set_verify_hostname(socket, 0);
    if (configure(s, amqp_ssl_socket_get_context(socket), e) < 0)
        return -1;
    status = amqp_socket_open_noblock(socket, s->host->name, s->host->port, timeout);
    return status == AMQP_STATUS_OK ? 0 : handshake_failed(s, status, e);
}
