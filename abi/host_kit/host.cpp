// SPDX-License-Identifier: MIT
#include "host_kit/host.hpp"

namespace host_kit {

std::string_view log_level_name(uint32_t level) noexcept {
  if (level < VMM_LOG_WARNING) return "error";
  if (level < VMM_LOG_INFO) return "warning";
  if (level < VMM_LOG_DEBUG) return "info";
  return "debug";
}

}  // namespace host_kit
