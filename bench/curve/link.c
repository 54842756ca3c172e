/* A link between two network namespaces through TUN devices: a rate, a delay each way, loss at random, a buffer.
 * link NSA NSB MBIT DELAY_MS LOSS_PERCENT QUEUE_BYTES SEED; addresses 10.9.0.1 (a) and 10.9.0.2 (b) are set by the caller. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 16384
struct packet { int64_t at; int size; unsigned char data[1600]; };
struct way { struct packet *ring; unsigned head, tail; int64_t free_at; int out; unsigned long sent, lost, full; };

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int tun(const char *ns, const char *name) {
  char path[128];
  snprintf(path, sizeof path, "/run/netns/%s", ns);
  int space = open(path, O_RDONLY);
  if (space < 0 || setns(space, CLONE_NEWNET) < 0) { perror(path); exit(1); }
  close(space);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) { perror("tun"); exit(1); }
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  double mbit = atof(argv[3]), loss = atof(argv[5]) / 100;
  int64_t delay = (int64_t)(atof(argv[4]) * 1000);
  int64_t queue_us = (int64_t)(atof(argv[6]) * 8 / mbit);
  srand48(atol(argv[7]));
  int fds[2] = { tun(argv[1], "link0"), tun(argv[2], "link0") };
  struct way ways[2];
  memset(ways, 0, sizeof ways);
  for (int i = 0; i < 2; i++) { ways[i].ring = calloc(SLOTS, sizeof(struct packet)); ways[i].out = fds[1 - i]; }
  for (;;) {
    int64_t now = now_us(), next = now + 1000000;
    for (int i = 0; i < 2; i++) {
      struct way *way = &ways[i];
      for (;;) {
        struct packet *slot = &way->ring[way->head % SLOTS];
        int size = read(fds[i], slot->data, sizeof slot->data);
        if (size <= 0) break;
        int64_t start = way->free_at > now ? way->free_at : now;
        way->sent++;
        if (start - now > queue_us || way->head - way->tail >= SLOTS - 1) { way->full++; continue; }
        way->free_at = start + (int64_t)(size * 8 / mbit);
        if (drand48() < loss) { way->lost++; continue; }
        slot->size = size;
        slot->at = way->free_at + delay;
        way->head++;
      }
      while (way->tail != way->head && way->ring[way->tail % SLOTS].at <= now) {
        struct packet *slot = &way->ring[way->tail % SLOTS];
        if (write(way->out, slot->data, slot->size) < 0 && errno == EAGAIN) break;
        way->tail++;
      }
      if (way->tail != way->head && way->ring[way->tail % SLOTS].at < next) next = way->ring[way->tail % SLOTS].at;
    }
    struct pollfd polls[2] = { { fds[0], POLLIN, 0 }, { fds[1], POLLIN, 0 } };
    int64_t wait = next - now_us();
    struct timespec timeout = { wait > 0 ? wait / 1000000 : 0, wait > 0 ? (wait % 1000000) * 1000 : 0 };
    ppoll(polls, 2, &timeout, NULL);
  }
}
