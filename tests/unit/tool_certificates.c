// SPDX-License-Identifier: Apache-2.0
/* Makes certificates with GnuTLS: small keys, valid for an hour. */
#include "tool_certificates.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <criterion/criterion.h>

struct authority {
	gnutls_x509_crt_t certificate;
	gnutls_x509_privkey_t key;
};

static void write_file(const char *path, const gnutls_datum_t *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text->data, text->size), (ssize_t)text->size);
	cr_assert_eq(close(fd), 0);
}

static gnutls_x509_privkey_t make_key(void)
{
	gnutls_x509_privkey_t key;

	cr_assert_eq(gnutls_x509_privkey_init(&key), 0);
	cr_assert_eq(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
						  GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
						  0),
		     0);
	return key;
}

static void set_names(gnutls_x509_crt_t certificate, const char *host)
{
	struct in_addr number;

	cr_assert_eq(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, host,
							  (unsigned int)strlen(host),
							  GNUTLS_FSAN_SET),
		     0);
	if (strcmp(host, "localhost") != 0)
		return;
	inet_pton(AF_INET, "127.0.0.1", &number);
	cr_assert_eq(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS,
							  &number, sizeof(number),
							  GNUTLS_FSAN_APPEND),
		     0);
}

/* For HOST, whose time is over in SECONDS; HOST NULL: an authority. SIGNER NULL: itself. */
static struct authority make(certificates_path_fn path, const char *name, const char *host,
			     long seconds, const struct authority *signer)
{
	static unsigned char serial;
	struct authority made = {.key = make_key()};
	time_t now = time(NULL);
	gnutls_datum_t text;
	char file[64];

	serial++;
	cr_assert_eq(gnutls_x509_crt_init(&made.certificate), 0);
	cr_assert_eq(gnutls_x509_crt_set_version(made.certificate, 3), 0);
	cr_assert_eq(gnutls_x509_crt_set_serial(made.certificate, &serial, 1), 0);
	cr_assert_eq(gnutls_x509_crt_set_activation_time(made.certificate, now - 7200), 0);
	cr_assert_eq(gnutls_x509_crt_set_expiration_time(made.certificate, now + seconds), 0);
	cr_assert_eq(gnutls_x509_crt_set_key(made.certificate, made.key), 0);
	cr_assert_eq(gnutls_x509_crt_set_dn_by_oid(made.certificate, GNUTLS_OID_X520_COMMON_NAME, 0,
						   name, (unsigned int)strlen(name)),
		     0);
	cr_assert_eq(gnutls_x509_crt_set_basic_constraints(made.certificate, !host, -1), 0);
	cr_assert_eq(gnutls_x509_crt_set_key_usage(made.certificate,
						   host ? GNUTLS_KEY_DIGITAL_SIGNATURE
							: GNUTLS_KEY_KEY_CERT_SIGN),
		     0);
	if (host)
		set_names(made.certificate, host);
	signer = signer ? signer : &made;
	cr_assert_eq(gnutls_x509_crt_sign2(made.certificate, signer->certificate, signer->key,
					   GNUTLS_DIG_SHA256, 0),
		     0);

	cr_assert_eq(gnutls_x509_crt_export2(made.certificate, GNUTLS_X509_FMT_PEM, &text), 0);
	snprintf(file, sizeof(file), "%s.pem", name);
	write_file(path(file), &text);
	gnutls_free(text.data);
	cr_assert_eq(gnutls_x509_privkey_export2_pkcs8(made.key, GNUTLS_X509_FMT_PEM, NULL,
						       GNUTLS_PKCS_PLAIN, &text),
		     0);
	snprintf(file, sizeof(file), "%s.key", name);
	write_file(path(file), &text);
	gnutls_free(text.data);
	return made;
}

static void drop(struct authority made)
{
	gnutls_x509_crt_deinit(made.certificate);
	gnutls_x509_privkey_deinit(made.key);
}

void certificates_make(certificates_path_fn path)
{
	struct authority ca = make(path, "ca", NULL, 3600, NULL);
	struct authority foreign = make(path, "foreign-ca", NULL, 3600, NULL);

	drop(make(path, "right", "localhost", 3600, &ca));
	drop(make(path, "named", "elsewhere.example", 3600, &ca));
	drop(make(path, "old", "localhost", -3600, &ca));
	drop(make(path, "foreign", "localhost", 3600, &foreign));
	drop(foreign);
	drop(ca);
}
