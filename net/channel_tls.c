/* SPDX-License-Identifier: Apache-2.0 */
/* What channels speak; see channel_tls.h. */
#include "net/channel_tls.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

static const char info[] = "computed channel";
static const uint8_t cipher_id[] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256 */

int channel_tls_derive(const uint8_t key[DIRECT_KEY_SIZE], uint8_t psk[CHANNEL_PSK_SIZE],
                       struct err *e)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key,
                                          DIRECT_KEY_SIZE),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info,
                                          sizeof(info) - 1),
        OSSL_PARAM_construct_end()};
    bool good = context && EVP_KDF_derive(context, psk, CHANNEL_PSK_SIZE, parameters) == 1;

    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    ERR_clear_error();
    return good ? 0 : err_set(e, ERR_INTERNAL, "OpenSSL cannot derive a key by HKDF-SHA256");
}

static bool restrict_context(SSL_CTX *context)
{
    (void)SSL_CTX_set_options(context,
                              SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(context,
                           SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1 &&
           SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 &&
           SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_max_early_data(context, 0) == 1;
}

int channel_tls_context(bool accepting, SSL_CTX **out, struct err *e)
{
    SSL_CTX *context = SSL_CTX_new(accepting ? TLS_server_method() : TLS_client_method());

    if (!context || !restrict_context(context)) {
        SSL_CTX_free(context);
        ERR_clear_error();
        return err_set(e, ERR_INTERNAL, "OpenSSL cannot be set up for TLS 1.3");
    }
    /* Nothing is trusted that could verify a certificate: one that is sent instead of the key is refused.
     * Who accepts asks for none. */
    if (!accepting)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    *out = context;
    return 0;
}

SSL_SESSION *channel_tls_session(SSL *ssl, const uint8_t psk[CHANNEL_PSK_SIZE])
{
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, cipher_id);
    SSL_SESSION *session = SSL_SESSION_new();

    if (session && cipher && SSL_SESSION_set1_master_key(session, psk, CHANNEL_PSK_SIZE) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

int channel_tls_error(SSL *ssl, int result, struct err *e)
{
    int number = errno;
    int kind = SSL_get_error(ssl, result);
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    if (kind == SSL_ERROR_ZERO_RETURN)
        return err_set(e, ERR_REMOTE, "the peer ended the stream");
    if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return err_set(e, ERR_REMOTE, "the peer broke the stream off");
    if (kind == SSL_ERROR_SYSCALL && number != 0)
        return err_set_errno(e, ERR_SYSTEM, number, "the stream failed");
    return err_set(e, ERR_DENIED, "TLS failed: %s", reason ? reason : "no reason is known");
}
