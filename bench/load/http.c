// An HTTP/1.1 endpoint for the tunnels that end TLS: answers every request with the same few bytes.
#include "common.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define REQUEST_BYTES 8192

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nhello, world\n";

struct client {
  int fd;
  size_t length;
  char request[REQUEST_BYTES];
};

// Answers each whole request; requests have no body here. False when the connection is over.
static bool serve(struct client *client) {
  ssize_t got = recv(client->fd, client->request + client->length, REQUEST_BYTES - client->length, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) return false;
  client->length += (size_t)got;
  for (;;) {
    char *end = memmem(client->request, client->length, "\r\n\r\n", 4);
    if (end == NULL) return client->length < REQUEST_BYTES;
    if (send(client->fd, answer, sizeof answer - 1, MSG_NOSIGNAL) != (ssize_t)sizeof answer - 1) return false;
    size_t used = (size_t)(end - client->request) + 4;
    client->length -= used;
    memmove(client->request, client->request + used, client->length);
  }
}

// Usage: load http HOST:PORT. Prints its port as {"event":"ready","port":N}; ends with stdin.
int run_http(int argc, char **argv) {
  int listener = open_listener(argc > 0 ? argv[0] : "127.0.0.1:0");
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct client accepting = {.fd = listener}, ending = {.fd = 0};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &accepting};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  event.data.ptr = &ending;
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct client *client = events[i].data.ptr;
      if (client == &ending) {
        if (stdin_ended()) return 0;
      } else if (client == &accepting) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct client *accepted = malloc(sizeof *accepted);
        if (!accepted) fail("allocate");
        accepted->fd = fd;
        accepted->length = 0;
        event = (struct epoll_event){.events = EPOLLIN, .data.ptr = accepted};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
      } else if (!serve(client)) {
        close(client->fd);
        free(client);
      }
    }
  }
}
