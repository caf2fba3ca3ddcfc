// SPDX-License-Identifier: MIT
#include "host_kit/version.hpp"

#include <vmm/plugin.h>

namespace host_kit {

std::string version_line(std::string_view program) {
  return std::string(program) + " " SVM_PMU_VERSION " (plugin ABI " +
         std::to_string(VMM_PLUGIN_ABI_MAJOR) + "." + std::to_string(VMM_PLUGIN_ABI_MINOR) + ")";
}

}  // namespace host_kit
