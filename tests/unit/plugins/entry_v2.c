/* SPDX-License-Identifier: MIT
 * A plugin of a later ABI major, whose entry has another name. */
const void* vmm_plugin_v2(void);
const void* vmm_plugin_v2(void) { return 0; }
