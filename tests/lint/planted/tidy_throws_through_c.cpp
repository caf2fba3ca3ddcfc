// must be found: bugprone-exception-escape
#include <stdexcept>

void vcpu_reset() noexcept { throw std::runtime_error("across the C boundary"); }
