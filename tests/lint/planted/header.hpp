// must be found: planted/header.hpp:6
#pragma once

#include <cstdint>

inline uint32_t Low(uint64_t value) { return static_cast<uint32_t>(value); }
