/* sampling SECONDS         works for so long
   sampling SECONDS reset   the same while four pinned sampling events run, then resets the machine
 */
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  int reset = argc > 2, events = 0;
  for (int i = 0; reset && i < 4; ++i) {
    /* so long a period that the overflow comes after the reset */
    struct perf_event_attr event = {.size = sizeof event,
                                    .type = PERF_TYPE_HARDWARE,
                                    .config = PERF_COUNT_HW_CPU_CYCLES,
                                    .sample_period = 10000000000,
                                    .sample_type = PERF_SAMPLE_IP,
                                    .pinned = 1};
    if (syscall(SYS_perf_event_open, &event, -1, 0, -1, 0) >= 0) ++events;
  }
  if (reset) printf("SAMPLING events: %d\n", events);
  fflush(stdout);
  time_t end = time(NULL) + strtol(argv[1], NULL, 10);
  while (time(NULL) < end)
    ;
  if (reset) {
    FILE* trigger = fopen("/proc/sysrq-trigger", "w");
    if (trigger) {
      fputs("b", trigger);
      fclose(trigger);
    }
    sleep(5);
  }
  return 0;
}
