// SPDX-License-Identifier: MIT
//
// What every fuzz target defines, and both mains call: libFuzzer's, and replay.cpp's.
#pragma once

#include <cstddef>
#include <cstdint>

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);
