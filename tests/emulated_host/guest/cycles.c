/* Counts the CPU's cycles through perf_event_open while it works; says whether the counter moved.
 */
#include <linux/perf_event.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
  struct perf_event_attr cycles = {.size = sizeof cycles,
                                   .type = PERF_TYPE_HARDWARE,
                                   .config = PERF_COUNT_HW_CPU_CYCLES,
                                   .disabled = 1};
  int fd = (int)syscall(SYS_perf_event_open, &cycles, 0, -1, -1, 0);
  if (fd < 0) {
    printf("CYCLES cannot be counted here\n");
    return 0;
  }
  ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
  for (volatile long i = 0; i < 20000000; i = i + 1)
    ;
  ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
  long long count = -1;
  if (read(fd, &count, sizeof count) != sizeof count || count <= 0)
    printf("CYCLES stay at %lld\n", count);
  else
    printf("CYCLES counted: %lld\n", count);
  return 0;
}
