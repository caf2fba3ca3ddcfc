/* SPDX-License-Identifier: MIT
 *
 * Asks any plugin, with the tables of hosts older, newer and broken, what the contract says of its
 * entry, descriptor, create, destroy and unloading.
 *   plugin_contract PLUGIN.so CASE [OPTIONS]      OPTIONS: a valid string for this plugin
 * Exit status: 0 held, 1 broken. */
#define _DEFAULT_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) {                                              \
      printf("%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                       \
    }                                                                \
  } while (0)

/* The end of `log`: what every host has. And the end of the descriptor's `destroy`. */
static const size_t least_host = offsetof(struct vmm_host, log) + sizeof(void (*)(void));
static const size_t least_plugin = offsetof(struct vmm_plugin, destroy) + sizeof(void (*)(void));

/* What the host saw. host_ctx of every table. */
struct seen {
  int registered;
  int32_t register_result;
  int calls; /* of any callback */
};

static int32_t register_hooks(void* host_ctx, const struct vmm_hooks* hooks, void* ctx) {
  struct seen* seen = host_ctx;
  (void)ctx;
  seen->calls++;
  if (!hooks || hooks->struct_size < offsetof(struct vmm_hooks, vcpu_reset) + sizeof(void*))
    return -EINVAL;
  CHECK(hooks->reserved == 0);
  if (seen->register_result == 0) seen->registered++;
  return seen->register_result;
}
static int32_t vm_ioctl(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
  (void)vm;
  (void)arg;
  ((struct seen*)host_ctx)->calls++;
  return request == (uint32_t)KVM_CHECK_EXTENSION ? 0 : -ENOTTY;
}
static int32_t vcpu_ioctl(void* host_ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
  (void)vcpu;
  (void)request;
  (void)arg;
  ((struct seen*)host_ctx)->calls++;
  return -ENOTTY;
}
static void log_line(void* host_ctx, uint32_t level, const char* message, uint64_t length) {
  ((struct seen*)host_ctx)->calls++;
  CHECK(level > 0);
  CHECK(strlen(message) == length && !memchr(message, '\n', (size_t)length));
}

static struct vmm_host make_host(struct seen* seen) {
  const struct vmm_host host = {sizeof host,
                                VMM_PLUGIN_ABI_MAJOR,
                                VMM_PLUGIN_ABI_MINOR,
                                0,
                                seen,
                                "plugin_contract 1.0",
                                register_hooks,
                                vm_ioctl,
                                vcpu_ioctl,
                                log_line,
                                NULL,
                                NULL,
                                NULL};
  return host;
}

/* The first `size` bytes of a table, right before a page that nobody may touch. */
static struct vmm_host* at_guard(const struct vmm_host* host, size_t size) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char* pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED);
  CHECK(mprotect(pages + page, page, PROT_NONE) == 0);
  return memcpy(pages + page - size, host, size);
}

static int sentinel;

static void accepts(const struct vmm_plugin* plugin, const struct vmm_host* host,
                    const char* options) {
  struct seen* seen = host->host_ctx;
  char text[256] = "";
  struct vmm_error error = {sizeof error, sizeof text, text};
  void* ctx = &sentinel;
  const int32_t result = plugin->create(host, options, &ctx, &error);
  if (result != 0) printf("create: %d %s\n", result, text);
  CHECK(result == 0);
  CHECK(text[0] == 0); /* a text belongs to an error */
  CHECK(seen->registered == 1);
  plugin->destroy(ctx);
}

static void refuses(const struct vmm_plugin* plugin, const struct vmm_host* host,
                    const char* options, int32_t code) {
  char text[256] = "";
  struct vmm_error error = {sizeof error, sizeof text, text};
  void* ctx = &sentinel;
  const int32_t result = plugin->create(host, options, &ctx, &error);
  printf("create: %d %s\n", result, text);
  CHECK(result == code);
  CHECK(ctx == &sentinel);
  CHECK(text[0] != 0 && memchr(text, 0, sizeof text));
}

/* Is the plugin's file still mapped? dlclose's result does not tell. */
static int is_mapped(const char* path) {
  char line[4096];
  char* real = realpath(path, NULL);
  FILE* maps = fopen("/proc/self/maps", "r");
  int found = 0;
  CHECK(real && maps);
  while (fgets(line, sizeof line, maps)) found |= strstr(line, real) != NULL;
  fclose(maps);
  free(real);
  return found;
}

static const struct vmm_plugin* load(const char* path, void** library) {
  vmm_plugin_entry entry;
  *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!*library) printf("%s\n", dlerror());
  CHECK(*library);
  *(void**)&entry = dlsym(*library, VMM_PLUGIN_ENTRY_NAME);
  CHECK(entry);
  CHECK(entry() == entry());
  return entry();
}

int main(int argc, char** argv) {
  if (argc < 3) return puts("usage: plugin_contract PLUGIN.so CASE [OPTIONS]"), 2;
  const char *path = argv[1], *name = argv[2], *options = argc > 3 ? argv[3] : NULL;
  void* library;
  struct seen seen = {0, 0, 0};
  struct vmm_host host = make_host(&seen);
  const struct vmm_plugin* plugin = load(path, &library);
  CHECK(plugin && plugin->struct_size >= least_plugin && plugin->abi_major == VMM_PLUGIN_ABI_MAJOR);

  if (strcmp(name, "descriptor") == 0) {
    CHECK(plugin->flags == 0 && plugin->name && plugin->version);
    CHECK(plugin->name[0] &&
          strspn(plugin->name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(plugin->name));
    CHECK(plugin->create && plugin->destroy);
    CHECK(!plugin->description || !strchr(plugin->description, '\n'));
    CHECK(!plugin->options_help || !plugin->options_help[0] ||
          plugin->options_help[strlen(plugin->options_help) - 1] == '\n');
    CHECK(plugin->struct_size < offsetof(struct vmm_plugin, get_extension) + sizeof(void*) ||
          !plugin->get_extension || !plugin->get_extension("nobody.has_this/1"));
  } else if (strcmp(name, "host_whole") == 0) {
    accepts(plugin, at_guard(&host, sizeof host), options);
  } else if (strcmp(name, "host_larger") == 0) {
    char larger[sizeof host + 64];
    host.struct_size = sizeof larger;
    host.abi_minor = 99;
    memset(larger, 0xa5, sizeof larger);
    memcpy(larger, &host, sizeof host);
    accepts(plugin, at_guard((struct vmm_host*)(void*)larger, sizeof larger), options);
  } else if (strcmp(name, "host_smaller") == 0) {
    host.struct_size = (uint32_t)least_host;
    accepts(plugin, at_guard(&host, least_host), options);
  } else if (strcmp(name, "host_too_small") == 0) {
    for (uint32_t size = sizeof(uint32_t); size < least_host; size += (uint32_t)sizeof(uint32_t)) {
      const size_t there = (size + sizeof(void*) - 1) / sizeof(void*) * sizeof(void*);
      host.struct_size = size;
      refuses(plugin, at_guard(&host, there), options, -EINVAL);
    }
    CHECK(seen.calls == 0);
  } else if (strcmp(name, "host_of_another_major") == 0) {
    host.abi_major = VMM_PLUGIN_ABI_MAJOR + 1;
    refuses(plugin, &host, options, -EINVAL);
    host.abi_major = 0;
    refuses(plugin, &host, options, -EINVAL);
    CHECK(seen.calls == 0);
  } else if (strcmp(name, "host_lacks_a_callback") == 0) {
    struct vmm_host hosts[4] = {host, host, host, host};
    hosts[0].register_hooks = NULL;
    hosts[1].vm_ioctl = NULL;
    hosts[2].vcpu_ioctl = NULL;
    hosts[3].log = NULL;
    for (int i = 0; i < 4; i++) refuses(plugin, &hosts[i], options, -EINVAL);
    CHECK(seen.registered == 0);
  } else if (strcmp(name, "host_refuses_hooks") == 0) {
    seen.register_result = -ENOSPC;
    refuses(plugin, &host, options, -ENOSPC);
  } else if (strcmp(name, "unknown_option") == 0) {
    refuses(plugin, &host, "no-such-option-anywhere=1", -EINVAL);
    CHECK(seen.registered == 0);
    accepts(plugin, &host, options); /* a failed create leaves nothing in the way */
  } else if (strcmp(name, "error_text_stays_in_its_buffer") == 0) {
    for (uint32_t capacity = 1; capacity < 200; capacity++) {
      char text[256];
      struct vmm_error error = {sizeof error, capacity, text};
      void* ctx = &sentinel;
      memset(text, '#', sizeof text);
      text[0] = 0;
      CHECK(plugin->create(&host, "no-such-option-anywhere=1", &ctx, &error) == -EINVAL);
      CHECK(memchr(text, 0, capacity));
      for (size_t i = capacity; i < sizeof text; i++) CHECK(text[i] == '#');
    }
  } else if (strcmp(name, "no_error_buffer") == 0) {
    void* ctx = &sentinel;
    CHECK(plugin->create(&host, "no-such-option-anywhere=1", &ctx, NULL) == -EINVAL);
    CHECK(ctx == &sentinel);
  } else if (strcmp(name, "options_null_or_empty") == 0) {
    /* Both mean none, so both are taken or both are refused. */
    struct seen other_seen = {0, 0, 0};
    const struct vmm_host other = make_host(&other_seen);
    void *first = NULL, *second = NULL;
    const int32_t result = plugin->create(&host, NULL, &first, NULL);
    CHECK(plugin->create(&other, "", &second, NULL) == result);
    if (result == 0) plugin->destroy(first);
    if (result == 0) plugin->destroy(second);
  } else if (strcmp(name, "two_instances") == 0) {
    struct seen other_seen = {0, 0, 0};
    const struct vmm_host other = make_host(&other_seen);
    void *first = NULL, *second = NULL;
    CHECK(plugin->create(&host, options, &first, NULL) == 0);
    CHECK(plugin->create(&other, options, &second, NULL) == 0);
    CHECK(first != second && seen.registered == 1 && other_seen.registered == 1);
    plugin->destroy(first);
    const int calls = seen.calls;
    plugin->destroy(second);
    CHECK(seen.calls == calls); /* destroyed: silent */
  } else if (strcmp(name, "unload") == 0) {
    for (int i = 0; i < 100; i++) {
      seen.registered = 0;
      accepts(plugin, &host, options);
      dlclose(library);
      CHECK(!is_mapped(path));
      plugin = load(path, &library);
    }
  } else {
    return printf("no case %s\n", name), 2;
  }
  dlclose(library);
  return 0;
}
