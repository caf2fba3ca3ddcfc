// SPDX-License-Identifier: MIT
#include "host_preload/inside.hpp"

namespace host_preload {

constinit thread_local int Inside::depth = 0;

}  // namespace host_preload
