/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 with external pre-shared keys for channels (channel.h): what is spoken is settled here alone.
 * Internal to net/; the loop's thread.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "net/direct.h"

enum { CHANNEL_PSK_SIZE = 32 };

/*
 * The pre-shared key of a channel from the migration's switch-over key: HKDF-SHA256 (RFC 5869) without
 * salt, info "computed channel". The other use of that key, HMAC of datagrams, thus has another key.
 */
int channel_tls_derive(const uint8_t key[DIRECT_KEY_SIZE], uint8_t psk[CHANNEL_PSK_SIZE],
                       struct err *e);

/* A context of the accepting or the connecting side; the caller sets the callback for keys. */
int channel_tls_context(bool accepting, SSL_CTX **out, struct err *e);

/* The key as the callbacks of SSL_CTX_set_psk_*_session_callback() give it. NULL if that fails. */
SSL_SESSION *channel_tls_session(SSL *ssl, const uint8_t psk[CHANNEL_PSK_SIZE]);

/*
 * Sets *e to why the operation that returned result failed, and empties OpenSSL's queue of errors.
 * Returns -1. To be called at once, errno is looked at.
 */
int channel_tls_error(SSL *ssl, int result, struct err *e);
