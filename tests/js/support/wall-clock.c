// Preloaded into a server, moves its wall clock ahead of the machine's. The file that CLOCK_AHEAD
// names holds the seconds as a `long` and is read at every call. All other clocks and all timers
// are unchanged.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const long *ahead = MAP_FAILED;

__attribute__((constructor)) static void look(void) {
  const char *name = getenv("CLOCK_AHEAD");
  int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) ahead = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int result = syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && clock == CLOCK_REALTIME && ahead != MAP_FAILED) time->tv_sec += *ahead;
  return result;
}
