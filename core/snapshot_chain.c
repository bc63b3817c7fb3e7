/* SPDX-License-Identifier: Apache-2.0 */
/* A diff's bases: found by name, held against the digest that the diff has of them. */
#include "snapshot.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "text.h"

uint32_t snapshot_find_section(const struct snapshot_file *file, const char *name)
{
	uint32_t index = 0;

	while (index < file->head.sections && strcmp(file->entries[index].name, name) != 0)
		index++;
	return index;
}

/* A name in the same folder, and nothing that leads out of it. */
static bool is_file_name(const char *name, size_t len)
{
	return len > 0 && len <= SNAPSHOT_BASE_NAME && !memchr(name, '/', len) &&
	       !memchr(name, '\0', len) && !(len == 1 && name[0] == '.') &&
	       !(len == 2 && name[0] == '.' && name[1] == '.');
}

/* The base's name, as section "base" of FILE has it; the caller frees it. */
static int read_base_name(struct snapshot_file *file, char **ret_name)
{
	uint32_t index = snapshot_find_section(file, "base");
	size_t len = file->entries[index].bytes;
	void *data;
	int err = snapshot_file_section(file, index, &data);

	if (err)
		return err;
	if (!is_file_name(data, len)) {
		free(data);
		return snapshot_file_error(file, -IMPOST_EFORMAT,
					   "section base: it is no name of a file");
	}
	*ret_name = strndup(data, len);
	free(data);
	return *ret_name ? 0 : snapshot_file_error(file, -ENOMEM, "no memory for the base's name");
}

static char *base_path(const struct snapshot_file *file, const char *base_dir, const char *name)
{
	const char *slash = strrchr(file->path, '/');

	if (base_dir)
		return text_format("%s/%s", base_dir, name);
	if (!slash)
		return strdup(name);
	return text_format("%.*s/%s", (int)(slash - file->path), file->path, name);
}

static int check_base(struct snapshot_chain *chain, struct snapshot_file *base)
{
	struct snapshot_file *file = chain->file[chain->count - 1];
	struct stat status;

	if (fstat(base->fd, &status))
		return snapshot_file_error(base, -errno, "%m");
	for (uint32_t i = 0; i < chain->count; i++)
		if (snapshot_file_same(chain->file[i], &status))
			return snapshot_file_error(file, -ELOOP,
						   "its base %.200s is a diff to it: the chain "
						   "comes back to itself",
						   base->path);
	if (memcmp(file->head.base_digest, base->head.checksum, SNAPSHOT_DIGEST) != 0)
		return snapshot_file_error(file, -ESTALE,
					   "%.200s is not the base that it was made from: its "
					   "digest is another",
					   base->path);
	return 0;
}

static int open_base(struct snapshot_chain *chain, const struct snapshot_open *how,
		     const char *name)
{
	struct snapshot_file *file = chain->file[chain->count - 1], *base;
	char *path = base_path(file, how->base_dir, name);
	int err;

	if (!path)
		return snapshot_file_error(file, -ENOMEM, "no memory for the base's path");
	err = snapshot_file_open(file->ctx, path, how->key, false, &base);
	if (err == -ENOENT)
		err = snapshot_file_error(file, err, "its base %.200s is not there", path);
	free(path);
	if (err)
		return err;
	err = check_base(chain, base);
	if (err) {
		snapshot_file_close(base);
		return err;
	}
	chain->file[chain->count++] = base;
	return 0;
}

/* Goes on from the last file of CHAIN, if that is a diff. */
static int follow(struct snapshot_chain *chain, const struct snapshot_open *how)
{
	struct snapshot_file *file = chain->file[chain->count - 1];
	char *name;
	int err = read_base_name(file, &name);

	if (err)
		return err;
	if (!how->alone && chain->count == SNAPSHOT_CHAIN)
		err = snapshot_file_error(file, -ELOOP,
					  "its chain of bases has more than %u files: flatten one",
					  SNAPSHOT_CHAIN);
	else if (!how->alone)
		err = open_base(chain, how, name);
	if (err || chain->base)
		free(name);
	else
		chain->base = name;
	return err;
}

static bool is_diff(const struct snapshot_file *file)
{
	return file->head.flags & HEADER_DIFF;
}

int snapshot_chain_open(struct impost_context *ctx, const char *path,
			const struct snapshot_open *how, struct snapshot_chain *ret_chain)
{
	struct snapshot_chain chain = {0};
	int err = snapshot_file_open(ctx, path, how->key, how->look, &chain.file[0]);
	bool more;

	if (err)
		return err;
	chain.count = 1;
	more = !how->look && is_diff(chain.file[0]);
	while (more && !err) {
		err = follow(&chain, how);
		more = !how->alone && is_diff(chain.file[chain.count - 1]);
	}
	if (err) {
		snapshot_chain_close(&chain);
		return err;
	}
	*ret_chain = chain;
	return 0;
}

void snapshot_chain_close(struct snapshot_chain *chain)
{
	for (uint32_t i = 0; i < chain->count; i++)
		snapshot_file_close(chain->file[i]);
	free(chain->base);
	memset(chain, 0, sizeof(*chain));
}
