/* SPDX-License-Identifier: MIT
 *
 * The least library from whose debug information the whole contract can be read: its entry returns
 * the typed descriptor, and everything else is reached from there. For check_abidiff.sh. */
#include <vmm/plugin.h>

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {.struct_size = sizeof plugin};
  return &plugin;
}
