/* The least that a server can be: what usherd and the others are measured against. `tools/performance` builds it.
 *
 *   floor spawn ADDRESS PORT PROGRAM [ARGUMENT...]   accept, vfork, execve: no rule, no limit, no record, no waiting
 *   floor echo ADDRESS PORT                          one epoll loop; the buffer is as large as usherd's
 *   floor datagrams ADDRESS PORT                     recvfrom, sendto
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* SCRATCH_BYTES of usherd. */
static char buffer[16384];
extern char **environ;

static int bound(int kind, const char *address, const char *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int one = 1, fd = socket(AF_INET, kind | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &at.sin_addr) != 1)
		err(1, "%s", address);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		err(1, "%s port %s", address, port);
	if ((kind & SOCK_STREAM) && listen(fd, 1024) < 0)
		err(1, "listen");
	return fd;
}

static void spawn(int listener, char **program)
{
	/* Nobody waits for them. */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			continue;
		if (vfork() == 0) {
			dup2(client, 0);
			dup2(client, 1);
			dup2(client, 2);
			execve(program[0], program, environ);
			_exit(127);
		}
		close(client);
	}
}

/* Whether the client is still there. */
static int answer(int client)
{
	ssize_t got = read(client, buffer, sizeof buffer), sent = 0;

	if (got < 0)
		return errno == EAGAIN;
	while (sent < got) {
		ssize_t n = write(client, buffer + sent, got - sent);

		if (n < 0 && errno != EAGAIN)
			return 0;
		if (n < 0)
			poll(&(struct pollfd){ .fd = client, .events = POLLOUT }, 1, -1);
		else
			sent += n;
	}
	return got > 0;
}

static void echo(int listener)
{
	struct epoll_event ready[64], event = { .events = EPOLLIN, .data.fd = listener };
	int queue = epoll_create1(EPOLL_CLOEXEC);

	signal(SIGPIPE, SIG_IGN);
	epoll_ctl(queue, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int count = epoll_wait(queue, ready, 64, -1);

		for (int i = 0; i < count; i++) {
			int fd = ready[i].data.fd;

			if (fd != listener) {
				if (!answer(fd))
					close(fd);
			} else if ((event.data.fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
				epoll_ctl(queue, EPOLL_CTL_ADD, event.data.fd, &event);
			}
		}
	}
}

static void datagrams(int fd)
{
	for (;;) {
		struct sockaddr_storage from;
		socklen_t length = sizeof from;
		ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);

		if (got >= 0)
			sendto(fd, buffer, got, 0, (struct sockaddr *)&from, length);
	}
}

int main(int argc, char **argv)
{
	if (argc >= 5 && strcmp(argv[1], "spawn") == 0)
		spawn(bound(SOCK_STREAM, argv[2], argv[3]), argv + 4);
	if (argc == 4 && strcmp(argv[1], "echo") == 0)
		echo(bound(SOCK_STREAM, argv[2], argv[3]));
	if (argc == 4 && strcmp(argv[1], "datagrams") == 0)
		datagrams(bound(SOCK_DGRAM, argv[2], argv[3]));
	errx(2, "usage: floor spawn|echo|datagrams ADDRESS PORT [PROGRAM [ARGUMENT...]]");
}
