/* SPDX-License-Identifier: MIT
 * Plugins whose descriptor is wrong in one way each, chosen by VARIANT_*. */
#include <vmm/plugin.h>

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  (void)host;
  (void)options;
  (void)error;
  *ctx = 0;
  return 0;
}

static void destroy(void* ctx) { (void)ctx; }

static const struct vmm_plugin plugin = {
#ifdef VARIANT_SMALL
    8,
#else
    sizeof(struct vmm_plugin),
#endif
#ifdef VARIANT_MAJOR
    VMM_PLUGIN_ABI_MAJOR + 1,
#else
    VMM_PLUGIN_ABI_MAJOR,
#endif
    VMM_PLUGIN_ABI_MINOR,
#ifdef VARIANT_FLAGS
    1,
#else
    0,
#endif
    "variant",
#ifdef VARIANT_NO_VERSION
    0,
#else
    "1.0.0",
#endif
    0,
    0,
#ifdef VARIANT_NO_CREATE
    0,
#else
    create,
#endif
    destroy,
    0,
};

const struct vmm_plugin* vmm_plugin_v1(void) {
  (void)create;
#ifdef VARIANT_NULL
  (void)plugin;
  return 0;
#else
  return &plugin;
#endif
}
