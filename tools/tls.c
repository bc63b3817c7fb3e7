// SPDX-License-Identifier: Apache-2.0
/*
 * TLS by GnuTLS, nonblocking, so that every wait is ours and has a limit. GnuTLS lets one thread
 * send while another receives (its manual, "Thread safety"), but not while keys are changed; and
 * that happens within both, in TLS 1.3, when either side's keys are due or the other asks for it.
 * So they take turns: no call waits for the other side, and a lock is held for one of them alone.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "clock.h"
#include "ready.h"

#define SECRET_MOST 65536u
/* A record's plaintext (RFC 8446, 5.1). */
#define RECORD_MOST 16384u
/* Bytes of a name in a file of keys, and of a key in hexadecimal. */
#define NAME_MOST     128u

#define PRIORITY_X509 "NORMAL:-VERS-ALL:+VERS-TLS1.3"
#define PRIORITY_PSK  "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK"

struct tls_credentials {
	gnutls_certificate_credentials_t x509; /* NULL: PSK */
	gnutls_psk_client_credentials_t psk_client;
	gnutls_psk_server_credentials_t psk_server;
	char *keys; /* the file's text, with a NUL behind */
};

struct tls {
	pthread_mutex_t lock; /* of all calls with the session, from the handshake on */
	gnutls_session_t session;
	int fd;
	size_t pending;	  /* bytes of a write that was begun */
	atomic_int error; /* GnuTLS's, that ended it; 0: none */
	bool psk;	  /* with keys that both have */
};

/* --- files --- */

static int check_private(struct impost_context *ctx, const char *path, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return impost_error_set(ctx, -errno, "%.256s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return impost_error_set(ctx, -EINVAL, "%.256s: a key must be a regular file", path);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return impost_error_set(ctx, -EPERM,
					"%.256s: a key that others may read or write is none: "
					"chmod 600",
					path);
	if (st.st_size > SECRET_MOST)
		return impost_error_set(ctx, -EINVAL, "%.256s: a key file has %u bytes at most",
					path, SECRET_MOST);
	return 0;
}

static int read_all(struct impost_context *ctx, const char *path, int fd, char *text)
{
	size_t done = 0;
	ssize_t len;

	do {
		len = read(fd, text + done, SECRET_MOST - done);
		done += len > 0 ? (size_t)len : 0;
	} while (len > 0 || (len < 0 && errno == EINTR));
	text[done] = '\0';
	if (len < 0)
		return impost_error_set(ctx, -errno, "%.256s: cannot be read: %s", path,
					strerror(errno));
	return 0;
}

static void free_secret(char *text)
{
	if (text)
		explicit_bzero(text, SECRET_MOST + 1);
	free(text);
}

/* The text of a file that nobody but its owner has, to be freed with free_secret(); NULL, with *ERR
 * and its text on CTX. */
static char *read_private(struct impost_context *ctx, const char *path, int *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text;

	if (fd < 0) {
		*err = impost_error_set(ctx, -errno, "cannot open the key %.256s: %s", path,
					strerror(errno));
		return NULL;
	}
	text = malloc(SECRET_MOST + 1);
	*err = text ? check_private(ctx, path, fd)
		    : impost_error_set(ctx, -ENOMEM, "no memory for a key");
	if (*err == 0)
		*err = read_all(ctx, path, fd, text);
	close(fd);
	if (*err == 0)
		return text;
	free_secret(text);
	return NULL;
}

/* --- certificates --- */

static int check_gnutls(struct impost_context *ctx, int result, const char *path)
{
	if (result >= 0)
		return 0;
	return impost_error_set(ctx, result == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL,
				"%.256s: %s", path, gnutls_strerror(result));
}

static int load_pair(struct impost_context *ctx, gnutls_certificate_credentials_t x509,
		     const char *certificate, const char *key)
{
	gnutls_datum_t chain = {0}, secret;
	int err;
	char *text = read_private(ctx, key, &err);

	if (!text)
		return err;
	err = check_gnutls(ctx, gnutls_load_file(certificate, &chain), certificate);
	secret = (gnutls_datum_t){(unsigned char *)text, (unsigned int)strlen(text)};
	if (err == 0)
		err = check_gnutls(ctx,
				   gnutls_certificate_set_x509_key_mem2(
					   x509, &chain, &secret, GNUTLS_X509_FMT_PEM, NULL, 0),
				   key);
	gnutls_free(chain.data);
	free_secret(text);
	return err;
}

static int read_x509(struct impost_context *ctx, struct tls_credentials *credentials,
		     const char *const paths[3])
{
	static const char *const names[] = {"tls_certificate", "tls_key", "tls_ca"};
	int err, count;

	if (!paths[0] && !paths[1] && !paths[2])
		return impost_error_set(ctx, -EINVAL,
					"tls: needs tls_certificate, tls_key and tls_ca in "
					"[migration], or --tls-certificate and so on, or tls_psk, "
					"keys that both sides have: there is none of them");
	for (size_t i = 0; i < 3; i++)
		if (!paths[i])
			return impost_error_set(ctx, -EINVAL,
						"tls: needs %s in [migration], or --%s: there is "
						"none",
						names[i],
						i == 0	 ? "tls-certificate"
						: i == 1 ? "tls-key"
							 : "tls-ca");
	if (gnutls_certificate_allocate_credentials(&credentials->x509) < 0)
		return impost_error_set(ctx, -ENOMEM, "no memory for certificates");
	err = load_pair(ctx, credentials->x509, paths[0], paths[1]);
	if (err < 0)
		return err;
	count = gnutls_certificate_set_x509_trust_file(credentials->x509, paths[2],
						       GNUTLS_X509_FMT_PEM);
	if (count == 0)
		return impost_error_set(ctx, -EINVAL, "%.256s: there is no certificate in it",
					paths[2]);
	return check_gnutls(ctx, count, paths[2]);
}

/* --- keys that both have --- */

/* A line "NAME:HEX" of TEXT from *AT on, which is moved behind it. */
struct psk_line {
	char name[NAME_MOST + 1];
	const char *hex;
	size_t hex_len;
};

static bool next_line(const char **at, struct psk_line *ret_line)
{
	for (;;) {
		size_t len = strcspn(*at, "\r\n"), name = strcspn(*at, ":\r\n");
		const char *line = *at;

		if (!*line)
			return false;
		*at += len + (line[len] != '\0');
		if (name == 0 || name + 1 >= len || name > NAME_MOST || *line == '#')
			continue;
		memcpy(ret_line->name, line, name);
		ret_line->name[name] = '\0';
		ret_line->hex = line + name + 1;
		ret_line->hex_len = len - name - 1;
		return true;
	}
}

/* The key of USERNAME, for who serves. What it gives is GnuTLS's to free. 1: there is none; GnuTLS
 * goes on as with a wrong one, so that nobody learns which names there are. */
static int find_key(gnutls_session_t session, const char *username, gnutls_datum_t *ret_key)
{
	const struct tls_credentials *credentials = gnutls_session_get_ptr(session);
	const char *at = credentials->keys;
	struct psk_line line;

	while (next_line(&at, &line)) {
		gnutls_datum_t hex = {(unsigned char *)(uintptr_t)line.hex,
				      (unsigned int)line.hex_len};

		if (strcmp(line.name, username) == 0)
			return gnutls_hex_decode2(&hex, ret_key) < 0 ? -1 : 0;
	}
	return 1;
}

static int read_psk(struct impost_context *ctx, struct tls_credentials *credentials,
		    const char *path)
{
	struct psk_line line;
	gnutls_datum_t hex;
	const char *at;
	int err;

	credentials->keys = read_private(ctx, path, &err);
	if (!credentials->keys)
		return err;
	at = credentials->keys;
	if (!next_line(&at, &line))
		return impost_error_set(ctx, -EINVAL,
					"%.256s: there is no line NAME:KEY in it, as psktool(1) "
					"writes them",
					path);
	hex = (gnutls_datum_t){(unsigned char *)(uintptr_t)line.hex, (unsigned int)line.hex_len};
	if (gnutls_psk_allocate_client_credentials(&credentials->psk_client) < 0 ||
	    gnutls_psk_allocate_server_credentials(&credentials->psk_server) < 0)
		return impost_error_set(ctx, -ENOMEM, "no memory for keys");
	gnutls_psk_set_server_credentials_function(credentials->psk_server, find_key);
	return check_gnutls(ctx,
			    gnutls_psk_set_client_credentials(credentials->psk_client, line.name,
							      &hex, GNUTLS_PSK_KEY_HEX),
			    path);
}

int tls_credentials_read(struct impost_context *ctx, struct tls_credentials **ret_credentials)
{
	const char *const paths[] = {
		impost_context_get(ctx, "migration", "tls_certificate"),
		impost_context_get(ctx, "migration", "tls_key"),
		impost_context_get(ctx, "migration", "tls_ca"),
	};
	const char *psk = impost_context_get(ctx, "migration", "tls_psk");
	struct tls_credentials *credentials;
	int err;

	if (psk && (paths[0] || paths[1] || paths[2]))
		return impost_error_set(ctx, -EINVAL,
					"tls: goes by certificates or by tls_psk, not by both");
	credentials = calloc(1, sizeof(*credentials));
	if (!credentials)
		return impost_error_set(ctx, -ENOMEM, "no memory for TLS");
	err = psk ? read_psk(ctx, credentials, psk) : read_x509(ctx, credentials, paths);
	if (err == 0)
		*ret_credentials = credentials;
	else
		tls_credentials_free(credentials);
	return err;
}

void tls_credentials_free(struct tls_credentials *credentials)
{
	if (!credentials)
		return;
	if (credentials->x509)
		gnutls_certificate_free_credentials(credentials->x509);
	if (credentials->psk_client)
		gnutls_psk_free_client_credentials(credentials->psk_client);
	if (credentials->psk_server)
		gnutls_psk_free_server_credentials(credentials->psk_server);
	free_secret(credentials->keys);
	free(credentials);
}

static bool is_again(ssize_t result)
{
	return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED;
}

/* --- the handshake --- */

static int set_x509(struct tls *tls, const struct tls_credentials *credentials,
		    const struct tls_peer *peer)
{
	struct in6_addr number;
	int err = gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, credentials->x509);

	if (!peer->host) {
		gnutls_certificate_server_set_request(tls->session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(tls->session, NULL, 0);
		return err;
	}
	gnutls_session_set_verify_cert(tls->session, peer->host, 0);
	/* RFC 6066, 3: a name, and no number. */
	if (err == 0 && inet_pton(AF_INET, peer->host, &number) != 1 &&
	    inet_pton(AF_INET6, peer->host, &number) != 1)
		err = gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, peer->host,
					     strlen(peer->host));
	return err;
}

static int set_psk(struct tls *tls, const struct tls_credentials *credentials,
		   const struct tls_peer *peer)
{
	gnutls_session_set_ptr(tls->session, (void *)(uintptr_t)credentials);
	return peer->host ? gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK,
						   credentials->psk_client)
			  : gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK,
						   credentials->psk_server);
}

static int prepare(struct tls *tls, const struct tls_credentials *credentials,
		   const struct tls_peer *peer)
{
	unsigned int flags = (peer->host ? GNUTLS_CLIENT : GNUTLS_SERVER) | GNUTLS_NONBLOCK |
			     GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS;
	int err = gnutls_init(&tls->session, flags);

	if (err < 0)
		return err;
	err = gnutls_priority_set_direct(tls->session,
					 credentials->x509 ? PRIORITY_X509 : PRIORITY_PSK, NULL);
	if (err >= 0)
		err = credentials->x509 ? set_x509(tls, credentials, peer)
					: set_psk(tls, credentials, peer);
	gnutls_transport_set_int(tls->session, peer->fd);
	/* poll is ours. */
	gnutls_handshake_set_timeout(tls->session, GNUTLS_INDEFINITE_TIMEOUT);
	return err;
}

/* What is wrong with the other side's certificate, in GnuTLS's words. */
static int refuse_certificate(struct impost_context *ctx, const struct tls *tls,
			      const struct tls_peer *peer)
{
	unsigned int status = gnutls_session_get_verify_cert_status(tls->session);
	gnutls_datum_t words = {0};
	int err;

	gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &words, 0);
	err = impost_error_set(ctx, -EACCES, "TLS: the certificate of %.128s: %s",
			       peer->host ? peer->host : "who connected",
			       words.data ? (const char *)words.data : "it is not valid");
	gnutls_free(words.data);
	return err;
}

/* GnuTLS's ERROR in words; an alert has a name of its own. */
static void describe(const struct tls *tls, int error, char *text, size_t size)
{
	bool alert = error == GNUTLS_E_FATAL_ALERT_RECEIVED;

	if (alert)
		snprintf(text, size, "the other side refuses: %s",
			 gnutls_alert_get_name(gnutls_alert_get(tls->session)));
	else
		snprintf(text, size, "%s", gnutls_strerror(error));
}

static int refuse_handshake(struct impost_context *ctx, const struct tls *tls,
			    const struct tls_peer *peer, int error)
{
	char text[256];

	/* So the other side hears of it, too: an alert is one small record. */
	gnutls_alert_send_appropriate(tls->session, error);
	if (error == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
		return refuse_certificate(ctx, tls, peer);
	describe(tls, error, text, sizeof(text));
	return impost_error_set(ctx,
				error == GNUTLS_E_FATAL_ALERT_RECEIVED ||
						error == GNUTLS_E_NO_CERTIFICATE_FOUND ||
						error == GNUTLS_E_CERTIFICATE_REQUIRED ||
						error == GNUTLS_E_DECRYPTION_FAILED
					? -EACCES
					: -EPROTO,
				"TLS: the handshake with %.128s: %s%s",
				peer->host ? peer->host : "who connected", text,
				tls->psk ? ": the first key of the source's tls_psk must be in the "
					   "destination's, of the same name"
					 : "");
}

/* RESULT is what there is to wait for; of an alert that only warns, nothing. As ready_wait(). */
static int wait_for_peer(const struct tls *tls, const struct tls_peer *peer, int result,
			 uint64_t until)
{
	short events = gnutls_record_get_direction(tls->session) ? POLLOUT : POLLIN;

	return is_again(result) ? ready_wait(peer->fd, peer->stop, events, until) : 1;
}

static int shake_hands(struct impost_context *ctx, struct tls *tls, const struct tls_peer *peer)
{
	uint64_t until = ready_deadline(peer->timeout_ms);

	for (;;) {
		int result = gnutls_handshake(tls->session), ready = 0;

		if (result >= 0)
			return 0;
		if (!is_again(result) && result != GNUTLS_E_WARNING_ALERT_RECEIVED)
			return refuse_handshake(ctx, tls, peer, result);
		if (clock_now_ns() < until)
			ready = wait_for_peer(tls, peer, result, until);
		if (ready == -ECANCELED)
			return impost_error_set(ctx, -ECANCELED, "the migration was cancelled");
		if (ready < 0)
			return impost_error_set(ctx, ready, "TLS: poll: %s", strerror(-ready));
		if (!ready)
			return impost_error_set(ctx, -ETIMEDOUT,
						"TLS: the handshake with %.128s took longer than "
						"%u ms",
						peer->host ? peer->host : "who connected",
						peer->timeout_ms);
	}
}

int tls_open(struct impost_context *ctx, const struct tls_credentials *credentials,
	     const struct tls_peer *peer, struct tls **ret_tls)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	int err;

	if (!tls)
		return impost_error_set(ctx, -ENOMEM, "no memory for TLS");
	tls->fd = peer->fd;
	tls->psk = !credentials->x509;
	pthread_mutex_init(&tls->lock, NULL);
	err = prepare(tls, credentials, peer);
	err = err < 0 ? impost_error_set(ctx, -EIO, "TLS: %s", gnutls_strerror(err))
		      : shake_hands(ctx, tls, peer);
	if (err == 0) {
		*ret_tls = tls;
		return 0;
	}
	if (tls->session)
		gnutls_deinit(tls->session);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
	return err;
}

void tls_close(struct tls *tls)
{
	if (!tls)
		return;
	gnutls_bye(tls->session, GNUTLS_SHUT_WR);
	gnutls_deinit(tls->session);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}

/* --- reading and writing --- */

/* As an errno, of which the library makes words; GnuTLS's are in tls_failure(). The other side's
 * word says more than that nothing can be sent to it. */
static int64_t fail(struct tls *tls, ssize_t error)
{
	int before = 0;

	if (!atomic_compare_exchange_strong(&tls->error, &before, (int)error) &&
	    error == GNUTLS_E_FATAL_ALERT_RECEIVED)
		atomic_store(&tls->error, (int)error);
	switch (error) {
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_PULL_ERROR:
		return -ECONNRESET;
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		return -EACCES;
	default:
		return -EPROTO;
	}
}

bool tls_failure(const struct tls *tls, char *text, size_t size)
{
	int error = atomic_load(&tls->error);

	if (!error || error == GNUTLS_E_PUSH_ERROR || error == GNUTLS_E_PULL_ERROR)
		return false;
	describe(tls, error, text, size);
	return true;
}

static ssize_t receive_record(struct tls *tls, void *buf, uint64_t bytes)
{
	ssize_t got;

	pthread_mutex_lock(&tls->lock);
	got = gnutls_record_recv(tls->session, buf, bytes < SSIZE_MAX ? bytes : SSIZE_MAX);
	pthread_mutex_unlock(&tls->lock);
	return got;
}

int64_t tls_read(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	struct tls *tls = opaque;
	uint64_t until = ready_deadline(timeout_ms);

	for (;;) {
		ssize_t got = receive_record(tls, buf, bytes);
		int ready;

		/* Who hangs up without a goodbye has ended it too: the protocol knows when that is
		 * too early. */
		if (got >= 0 || got == GNUTLS_E_PREMATURE_TERMINATION)
			return got >= 0 ? got : 0;
		if (got == GNUTLS_E_WARNING_ALERT_RECEIVED && clock_now_ns() < until)
			continue;
		if (got == GNUTLS_E_WARNING_ALERT_RECEIVED)
			return -EAGAIN;
		if (!is_again(got))
			return fail(tls, got);
		ready = ready_wait(tls->fd, -1, POLLIN, until);
		if (ready <= 0)
			return ready ? ready : -EAGAIN;
	}
}

/* A record of BYTES at the most: bytes, or GnuTLS's error. One that was begun is finished first. */
static ssize_t send_record(struct tls *tls, const uint8_t *buf, uint64_t bytes)
{
	size_t part = bytes < RECORD_MOST ? (size_t)bytes : RECORD_MOST;
	ssize_t sent;

	if (!tls->pending) {
		sent = gnutls_record_send(tls->session, buf, part);
		tls->pending = is_again(sent) ? part : 0;
		return sent;
	}
	part = tls->pending;
	sent = gnutls_record_send(tls->session, NULL, 0);
	if (is_again(sent))
		return sent;
	tls->pending = 0;
	if (sent < 0)
		return sent;
	return part <= bytes ? (ssize_t)part : GNUTLS_E_INVALID_REQUEST;
}

int64_t tls_write(void *opaque, const void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	struct tls *tls = opaque;
	uint64_t until = ready_deadline(timeout_ms), done = 0;

	while (done < bytes) {
		ssize_t sent;
		int ready;

		pthread_mutex_lock(&tls->lock);
		sent = send_record(tls, (const uint8_t *)buf + done, bytes - done);
		pthread_mutex_unlock(&tls->lock);

		if (sent >= 0) {
			done += (uint64_t)sent;
			continue;
		}
		if (!is_again(sent))
			return fail(tls, sent);
		/* What is not pending is told; what is must come again. */
		if (done)
			break;
		ready = ready_wait(tls->fd, -1, POLLOUT, until);
		if (ready <= 0)
			return ready ? ready : -EAGAIN;
	}
	return (int64_t)done;
}
