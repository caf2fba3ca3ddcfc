// must be found: bugprone-narrowing-conversions
#include <cstdint>

int32_t count_of(uint64_t counter) { return counter; }
