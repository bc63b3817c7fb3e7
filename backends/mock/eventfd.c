/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event descriptors: irqfds, which a thread of the VM waits for, and ioeventfds. Both are
 * duplicated, so that the host may close its own.
 */
#include "internal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const uint64_t one = 1;

/* A duplicate of the host's eventfd, or a negative error. */
static int duplicate(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? -errno : copy;
}

/* --- irqfd --- */

/* Takes the signal of one irqfd, if there is one, and raises its line. irqfd_lock is held. */
static void take_signal(struct mock_vm *vm, const struct mock_irqfd *f)
{
	struct impost_mock_irq irq = {.kind = IMPOST_MOCK_IRQ_IRQFD, .gsi = f->gsi, .level = 1};
	struct pollfd p = {.fd = f->fd, .events = POLLIN};
	uint64_t count;
	int32_t err;

	if (poll(&p, 1, 0) != 1 || read(f->fd, &count, sizeof(count)) != sizeof(count))
		return;
	err = mock_irq_raise(vm, &irq);
	if (err)
		impost_host_log(vm->host, IMPOST_LOG_WARN, "irqfd of line %u: not raised: %s",
				f->gsi, strerror(-err));
}

void mock_irqfd_poll(struct mock_vm *vm)
{
	const struct mock_irqfd *f;

	pthread_mutex_lock(&vm->irqfd_lock);
	for (f = vm->irqfds; f; f = f->next)
		take_signal(vm, f);
	pthread_mutex_unlock(&vm->irqfd_lock);
}

static void *irqfd_thread(void *handle)
{
	struct mock_vm *vm = handle;
	struct pollfd stop = {.fd = vm->irqfd_stop, .events = POLLIN};
	struct epoll_event event;

	for (;;) {
		if (epoll_wait(vm->irqfd_epoll, &event, 1, -1) < 0 && errno != EINTR)
			return NULL;
		if (poll(&stop, 1, 0) == 1)
			return NULL;
		mock_irqfd_poll(vm);
	}
}

static int watch(struct mock_vm *vm, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(vm->irqfd_epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* The host's signals are no business of this thread. */
static int start_thread(struct mock_vm *vm)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&vm->irqfd_thread, NULL, irqfd_thread, vm);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	vm->irqfd_thread_up = !err;
	return -err;
}

/* Makes what irqfds need, once. What is made stays until the VM ends, also on failure. */
static int prepare(struct mock_vm *vm)
{
	int err;

	if (vm->irqfd_thread_up)
		return 0;
	if (vm->irqfd_epoll < 0)
		vm->irqfd_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (vm->irqfd_epoll < 0)
		return -errno;
	if (vm->irqfd_stop < 0) {
		vm->irqfd_stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vm->irqfd_stop < 0)
			return -errno;
		err = watch(vm, vm->irqfd_stop);
		if (err)
			return err;
	}
	return start_thread(vm);
}

static int irqfd_add(struct mock_vm *vm, const struct impost_irqfd *args)
{
	struct mock_irqfd *f;
	int err = prepare(vm);

	if (err)
		return err;
	for (f = vm->irqfds; f; f = f->next)
		if (f->given == args->fd)
			return -EBUSY;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->gsi = args->gsi;
	f->given = args->fd;
	f->fd = duplicate(args->fd);
	err = f->fd < 0 ? f->fd : watch(vm, f->fd);
	if (err) {
		if (f->fd >= 0)
			close(f->fd);
		free(f);
		return err;
	}
	f->next = vm->irqfds;
	vm->irqfds = f;
	return 0;
}

/* What was signalled before is raised still. */
static int irqfd_remove(struct mock_vm *vm, const struct impost_irqfd *args)
{
	struct mock_irqfd **link;

	for (link = &vm->irqfds; *link; link = &(*link)->next) {
		struct mock_irqfd *f = *link;

		if (f->given != args->fd || f->gsi != args->gsi)
			continue;
		take_signal(vm, f);
		*link = f->next;
		/* Other duplicates keep the file alive, so that close would not end the watch. */
		epoll_ctl(vm->irqfd_epoll, EPOLL_CTL_DEL, f->fd, NULL);
		close(f->fd);
		free(f);
		return 0;
	}
	return -ENOENT;
}

int32_t mock_irqfd(void *handle, const struct impost_irqfd *args)
{
	struct mock_vm *vm = handle;
	int err;

	if (args->resample_fd >= 0)
		return mock_error(vm, -ENOTSUP, "irqfd of line %u: the mock has no EOI to resample",
				  args->gsi);
	if (vm->irqchip == IMPOST_IRQCHIP_NONE)
		return mock_error(vm, -ENOTSUP, "irqfd: the VM has no interrupt controller");
	if (args->gsi >= MOCK_MAX_GSIS)
		return mock_error(vm, -EINVAL, "irqfd: there is no line %u", args->gsi);
	pthread_mutex_lock(&vm->irqfd_lock);
	err = args->remove ? irqfd_remove(vm, args) : irqfd_add(vm, args);
	pthread_mutex_unlock(&vm->irqfd_lock);
	if (err)
		return mock_error(vm, err, "irqfd %d of line %u: %s", args->fd, args->gsi,
				  strerror(-err));
	return 0;
}

/* --- ioeventfd --- */

static bool same(const struct impost_ioeventfd *a, const struct impost_ioeventfd *b)
{
	return a->space == b->space && a->address == b->address && a->bytes == b->bytes &&
	       !a->has_match == !b->has_match && (!a->has_match || a->match == b->match);
}

/* An event for any width, or any value, takes all others at its address. */
static bool collides(const struct impost_ioeventfd *a, const struct impost_ioeventfd *b)
{
	return a->space == b->space && a->address == b->address &&
	       (!a->bytes || !b->bytes || a->bytes == b->bytes) &&
	       (!a->has_match || !b->has_match || a->match == b->match);
}

static int ioeventfd_add(struct mock_vm *vm, const struct impost_ioeventfd *args)
{
	struct mock_ioeventfd *e;
	int fd;

	for (e = vm->ioeventfds; e; e = e->next)
		if (collides(&e->args, args))
			return -EEXIST;
	fd = duplicate(args->fd);
	if (fd < 0)
		return fd;
	e = calloc(1, sizeof(*e));
	if (!e) {
		close(fd);
		return -ENOMEM;
	}
	e->args = *args;
	e->fd = fd;
	e->next = vm->ioeventfds;
	vm->ioeventfds = e;
	return 0;
}

static int ioeventfd_remove(struct mock_vm *vm, const struct impost_ioeventfd *args)
{
	struct mock_ioeventfd **link;

	for (link = &vm->ioeventfds; *link; link = &(*link)->next) {
		struct mock_ioeventfd *e = *link;

		if (e->args.fd != args->fd || !same(&e->args, args))
			continue;
		*link = e->next;
		close(e->fd);
		free(e);
		return 0;
	}
	return -ENOENT;
}

int32_t mock_ioeventfd(void *handle, const struct impost_ioeventfd *args)
{
	struct mock_vm *vm = handle;
	uint32_t n = args->bytes;
	int err;

	if ((args->space != IMPOST_SPACE_PIO && args->space != IMPOST_SPACE_MMIO) || n > 8 ||
	    (n & (n - 1)) || (args->has_match && !n))
		return mock_error(vm, -EINVAL,
				  "ioeventfd: space %u with %u bytes: a width is 1, 2, 4 or 8, or "
				  "0 without a match",
				  args->space, n);
	if (args->space == IMPOST_SPACE_PIO && (args->address > UINT16_MAX || n > 4))
		return mock_error(vm, -EINVAL, "ioeventfd: %#llx, %u bytes wide, is no port",
				  (unsigned long long)args->address, n);
	pthread_mutex_lock(&vm->lock);
	err = args->remove ? ioeventfd_remove(vm, args) : ioeventfd_add(vm, args);
	pthread_mutex_unlock(&vm->lock);
	if (err)
		return mock_error(vm, err, "ioeventfd %d at %#llx: %s", args->fd,
				  (unsigned long long)args->address, strerror(-err));
	return 0;
}

bool mock_ioeventfd_hit(struct mock_vm *vm, uint32_t space, uint64_t address, uint32_t bytes,
			const uint8_t *data)
{
	const struct mock_ioeventfd *e;
	uint64_t value = 0;
	bool hit = false;

	memcpy(&value, data, bytes > sizeof(value) ? sizeof(value) : bytes);
	pthread_mutex_lock(&vm->lock);
	for (e = vm->ioeventfds; e && !hit; e = e->next) {
		hit = e->args.space == space && e->args.address == address &&
		      (!e->args.bytes || e->args.bytes == bytes) &&
		      (!e->args.has_match || e->args.match == value);
		/* A full counter would block a descriptor that is not O_NONBLOCK: it is signalled
		 * then anyway. */
		struct pollfd room = {.fd = e->fd, .events = POLLOUT};

		if (hit && poll(&room, 1, 0) == 1 && (room.revents & POLLOUT))
			(void)!write(e->fd, &one, sizeof(one));
	}
	pthread_mutex_unlock(&vm->lock);
	return hit;
}

void mock_eventfd_free(struct mock_vm *vm)
{
	if (vm->irqfd_thread_up) {
		(void)!write(vm->irqfd_stop, &one, sizeof(one));
		pthread_join(vm->irqfd_thread, NULL);
	}
	while (vm->irqfds) {
		struct mock_irqfd *f = vm->irqfds;

		vm->irqfds = f->next;
		close(f->fd);
		free(f);
	}
	while (vm->ioeventfds) {
		struct mock_ioeventfd *e = vm->ioeventfds;

		vm->ioeventfds = e->next;
		close(e->fd);
		free(e);
	}
	if (vm->irqfd_stop >= 0)
		close(vm->irqfd_stop);
	if (vm->irqfd_epoll >= 0)
		close(vm->irqfd_epoll);
}
